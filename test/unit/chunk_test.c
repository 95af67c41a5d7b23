/*
 * chunk_test.c
 *		src/base/chunk.c without a server: random texts, some of them cut inside a
 *		character, by every method and many sizes, against what all pieces must be;
 *		the sanitizers see whether it reads beyond a text.  Prints TAP.
 *
 * unit-frontend: chunk
 */
#include "postgres_fe.h"

#include "base/chunk.h"
#include "mb/pg_wchar.h"

#include "random_bits.h"
#include "tap.h"

#define TEXTS 5000
#define MAX_CHARACTERS 60

static uint32
random_below(uint32 n)
{
	return (uint32) (random_bits() % n);
}

/* In memory of its own length, so that a byte behind it is somebody else's. */
static char *
random_text(bool corrupt)
{
	static const char *const characters[] = {
		"a", "b", "c", " ", " ", "\n", "\n\n", ".", "?", "\t", "\xC3\xA9", "\xE6\x97\xA5", "\xF0\x9F\x8E\xB5"
	};
	static const char *const starts[] = {"\xC3", "\xE6", "\xE6\x97", "\xF0", "\xF0\x9F\x8E"};
	char		buffer[MAX_CHARACTERS * 4 + 4] = "";
	int			n = random_below(MAX_CHARACTERS);

	for (int i = 0; i < n; i++)
		strcat(buffer, characters[random_below(lengthof(characters))]);
	if (corrupt)
		strcat(buffer, starts[random_below(lengthof(starts))]);
	return strdup(buffer);
}

static int
count_characters(const char *text)
{
	int			n = 0;

	for (; *text != '\0'; text++)
		n += (*text & 0xC0) != 0x80;
	return n;
}

static int
count_words(const char *text)
{
	int			n = 0;

	for (bool inside = false; *text != '\0'; text++)
	{
		n += !inside && strchr(" \n\t", *text) == NULL;
		inside = strchr(" \n\t", *text) == NULL;
	}
	return n;
}

/* The text without its white space. */
static char *
bare(const char *text)
{
	char	   *copy = malloc(strlen(text) + 1);
	char	   *to = copy;

	for (; *text != '\0'; text++)
		if (strchr(" \n\t", *text) == NULL)
			*to++ = *text;
	*to = '\0';
	return copy;
}

/* Is each piece small enough, not blank and a part of the text?  Without overlap they are all of it. */
static bool
pieces_are_good(const char *text, const ChunkOptions *options, char **pieces, int n)
{
	char	   *whole = bare(text);
	char	   *sum = calloc(1, strlen(whole) * (n + 1) + 1);
	bool		good = true;

	for (int i = 0; i < n; i++)
	{
		char	   *part = bare(pieces[i]);

		good &= part[0] != '\0' && strstr(whole, part) != NULL;
		if (options->method == CHUNK_WORDS)
			good &= count_words(pieces[i]) <= options->size;
		else if (options->method != CHUNK_NONE)
			good &= count_characters(pieces[i]) <= options->size;
		strcat(sum, part);
		free(part);
	}
	good &= (n > 0) == (whole[0] != '\0');
	if (options->overlap == 0)
		good &= strcmp(sum, whole) == 0;
	free(sum);
	free(whole);
	return good;
}

/* With a limit the same pieces are made, but one more than that at most. */
static bool
limit_is_kept(const char *text, ChunkOptions options, char **pieces, int n)
{
	char	  **some;
	int			nsome;
	bool		good;

	options.most = 1 + random_below(5);
	some = chunk_text(text, &options, &nsome);
	good = nsome == (n <= options.most ? n : options.most + 1);
	for (int i = 0; i < nsome; i++)
	{
		good = good && strcmp(some[i], pieces[i]) == 0;
		pfree(some[i]);
	}
	if (some != NULL)
		pfree(some);
	return good;
}

static void
try_texts(ChunkMethod method, bool corrupt, const char *what)
{
	int			wrong = 0;

	for (int i = 0; i < TEXTS; i++)
	{
		ChunkOptions options = {.method = method, .size = 1 + random_below(20)};
		char	   *text = random_text(corrupt);
		char	  **pieces;
		int			n;

		options.overlap = random_below(2) ? 0 : random_below(options.size);
		pieces = chunk_text(text, &options, &n);
		if (!pieces_are_good(text, &options, pieces, n) || !limit_is_kept(text, options, pieces, n))
		{
			if (wrong++ == 0)
				printf("# size %d, overlap %d: \"%s\"\n", options.size, options.overlap, text);
		}
		for (int k = 0; k < n; k++)
			pfree(pieces[k]);
		if (pieces != NULL)
			pfree(pieces);
		free(text);
	}
	ok(wrong == 0, what);
}

int
main(void)
{
	try_texts(CHUNK_NONE, false, "whole texts");
	try_texts(CHUNK_WORDS, false, "words");
	try_texts(CHUNK_CHARACTERS, false, "characters");
	try_texts(CHUNK_RECURSIVE, false, "recursive");
	try_texts(CHUNK_NONE, true, "whole texts that end inside a character");
	try_texts(CHUNK_WORDS, true, "words, the last one cut inside a character");
	try_texts(CHUNK_CHARACTERS, true, "characters, the last one cut");
	try_texts(CHUNK_RECURSIVE, true, "recursive, the last character cut");
	return tap_done();
}

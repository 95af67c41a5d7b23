/*
 * chunk.c
 *		Splitting a document's text into pieces to embed.
 *
 * White space is that of ASCII, whose bytes are part of no other character in any
 * encoding of a server: lengths of characters matter only where they are counted.
 */
#include "base/chunk.h"

#include "mb/pg_wchar.h"

#include "base/compat.h"

#ifndef FRONTEND
#define ENCODING GetDatabaseEncoding()
#else
#define ENCODING PG_UTF8
#endif

/* The pieces found so far. */
typedef struct Pieces
{
	char	  **text;
	int			count;
	int			room;
	int			most;			/* or 0 */
} Pieces;

/* Is there one more than is of use?  Then there is no need for the others. */
static bool
too_many(const Pieces *pieces)
{
	return pieces->most > 0 && pieces->count > pieces->most;
}

static void
add_piece(Pieces *pieces, char *text)
{
	if (pieces->count == pieces->room)
	{
		pieces->room = Max(8, pieces->room * 2);
		pieces->text = pieces->text ? repalloc(pieces->text, sizeof(char *) * pieces->room)
			: palloc(sizeof(char *) * pieces->room);
	}
	pieces->text[pieces->count++] = text;
}

static bool
is_space(const char *p)
{
	return !IS_HIGHBIT_SET(*p) && isspace((unsigned char) *p);
}

/* A piece without the white space around it; a blank one is none. */
static void
add_trimmed(Pieces *pieces, const char *start, const char *end)
{
	while (start < end && is_space(start))
		start++;
	while (end > start && is_space(end - 1))
		end--;
	if (start < end)
		add_piece(pieces, pnstrdup(start, end - start));
}

/* Behind the character at p, which ends before 'stop' whatever it claims: the text may be corrupt. */
static const char *
next_character(const char *p, const char *stop)
{
	int			length = IS_HIGHBIT_SET(*p) ? pg_encoding_mblen(ENCODING, p) : 1;

	return p + Min(length, stop - p);
}

/* 'stop' is where the text ends. */
static const char *
skip_characters(const char *p, int n, const char *stop)
{
	while (n-- > 0 && p < stop)
		p = next_character(p, stop);
	return p;
}

static int
count_characters(const char *p, const char *stop)
{
	int			n = 0;

	for (; p < stop; p = next_character(p, stop))
		n++;
	return n;
}

static void
split_words(Pieces *pieces, const char *text, const ChunkOptions *options)
{
	const char **word = NULL;
	int		   *length = NULL;
	int			n = 0;
	int			room = 0;

	for (const char *p = text; *p != '\0';)
	{
		const char *start;

		CHECK_FOR_INTERRUPTS();
		while (*p != '\0' && is_space(p))
			p++;
		start = p;
		while (*p != '\0' && !is_space(p))
			p++;
		if (p == start)
			break;
		if (n == room)
		{
			room = Max(64, room * 2);
			word = word ? repalloc(word, sizeof(char *) * room) : palloc(sizeof(char *) * room);
			length = length ? repalloc(length, sizeof(int) * room) : palloc(sizeof(int) * room);
		}
		word[n] = start;
		length[n++] = p - start;
	}

	for (int from = 0; from < n && !too_many(pieces); from += options->size - options->overlap)
	{
		int			to = Min(n, from + options->size);
		size_t		len = 0;
		char	   *piece;
		char	   *end;

		CHECK_FOR_INTERRUPTS();
		for (int i = from; i < to; i++)
			len += length[i] + 1;
		end = piece = palloc(len);
		for (int i = from; i < to; i++)
		{
			memcpy(end, word[i], length[i]);
			end += length[i];
			*end++ = (i + 1 < to) ? ' ' : '\0';
		}
		add_piece(pieces, piece);
		if (to == n)
			break;
	}
	if (word != NULL)
	{
		pfree(word);
		pfree(length);
	}
}

static void
split_characters(Pieces *pieces, const char *text, const ChunkOptions *options)
{
	const char *stop = text + strlen(text);

	while (text < stop && !too_many(pieces))
	{
		const char *end = skip_characters(text, options->size, stop);

		CHECK_FOR_INTERRUPTS();
		add_trimmed(pieces, text, end);
		if (end == stop)
			break;
		text = skip_characters(text, options->size - options->overlap, stop);
	}
}

/*
 * Where to end a piece that may reach from start to end: after the last
 * paragraph, line, sentence or word that ends in its second half.
 */
static const char *
best_break(const char *start, const char *end)
{
	const char *paragraph = NULL;
	const char *line = NULL;
	const char *sentence = NULL;
	const char *word = NULL;
	const char *middle = start + (end - start) / 2;

	for (const char *p = Max(middle, start + 1); p < end; p++)
	{
		if (!is_space(p))
			continue;
		word = p;
		if (*p == '\n')
			line = p;
		if (*p == '\n' && p[-1] == '\n')
			paragraph = p;
		if (strchr(".!?", p[-1]) != NULL)
			sentence = p;
	}
	if (paragraph != NULL)
		return paragraph;
	if (line != NULL)
		return line;
	if (sentence != NULL)
		return sentence;
	return word != NULL ? word : end;
}

static void
split_recursive(Pieces *pieces, const char *text, const ChunkOptions *options)
{
	const char *stop = text + strlen(text);

	while (text < stop && !too_many(pieces))
	{
		const char *end = skip_characters(text, options->size, stop);
		const char *next;

		CHECK_FOR_INTERRUPTS();
		if (end < stop)
			end = best_break(text, end);
		add_trimmed(pieces, text, end);
		if (end == stop)
			break;
		next = end;
		if (options->overlap > 0)
		{
			/* back by the overlap, then forward to the beginning of a word; always ahead of where we were */
			int			length = count_characters(text, end);

			next = skip_characters(text, Max(1, length - options->overlap), end);
			while (next < end && !is_space(next))
				next++;
		}
		text = next;
	}
}

char	  **
chunk_text(const char *text, const ChunkOptions *options, int *count)
{
	Pieces		pieces = {.most = options->most};

	switch (options->method)
	{
		case CHUNK_NONE:
			for (const char *p = text; *p != '\0'; p++)
				if (!is_space(p))
				{
					add_piece(&pieces, pstrdup(text));
					break;
				}
			break;
		case CHUNK_WORDS:
			split_words(&pieces, text, options);
			break;
		case CHUNK_CHARACTERS:
			split_characters(&pieces, text, options);
			break;
		case CHUNK_RECURSIVE:
			split_recursive(&pieces, text, options);
			break;
	}
	*count = pieces.count;
	return pieces.text;
}

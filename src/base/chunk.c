/*
 * chunk.c
 *		Splitting a document's text into pieces to embed.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/chunk.h"

#define WORDS_DEFAULT		512
#define CHARACTERS_DEFAULT	2000
#define SIZE_MAX_ALLOWED	1000000

/* The pieces found so far. */
typedef struct Pieces
{
	char	  **text;
	int			count;
	int			room;
} Pieces;

static const struct
{
	const char *name;
	ChunkMethod method;
	int			size;
}			methods[] = {
	{"none", CHUNK_NONE, 1},
	{"words", CHUNK_WORDS, WORDS_DEFAULT},
	{"characters", CHUNK_CHARACTERS, CHARACTERS_DEFAULT},
	{"recursive", CHUNK_RECURSIVE, CHARACTERS_DEFAULT},
};

ChunkOptions
chunk_options(const char *method, int size, int overlap)
{
	ChunkOptions options = {.method = CHUNK_NONE};
	int			i;

	for (i = 0; i < lengthof(methods); i++)
		if (strcmp(methods[i].name, method) == 0)
			break;
	if (i == lengthof(methods))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown chunking method \"%s\"", method),
				errhint("Methods are words, characters, recursive and none."));
	options.method = methods[i].method;
	options.size = size > 0 ? size : methods[i].size;
	options.overlap = overlap;
	if (options.size > SIZE_MAX_ALLOWED)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("chunk size must be between 1 and %d", SIZE_MAX_ALLOWED));
	if (overlap < 0 || overlap >= options.size)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("chunk overlap must be at least 0 and less than the size %d", options.size));
	return options;
}

static int
json_int(JsonbValue *value, const char *key)
{
	if (value->type != jbvNumeric)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" of chunking must be a number", key));
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value->val.numeric)));
}

ChunkOptions
chunk_options_from_json(Jsonb *json)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *method = "words";
	int			size = 0;
	int			overlap = 0;

	if (json == NULL)
		return (ChunkOptions) {.method = CHUNK_NONE};
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("chunking must be a JSON object"),
				errhint("For example {\"method\": \"words\", \"size\": 512, \"overlap\": 0}."));
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *key;

		if (token != WJB_KEY)
			continue;
		key = pnstrdup(value.val.string.val, value.val.string.len);
		(void) JsonbIteratorNext(&it, &value, true);
		if (strcmp(key, "method") == 0 && value.type == jbvString)
			method = pnstrdup(value.val.string.val, value.val.string.len);
		else if (strcmp(key, "size") == 0)
			size = Max(1, json_int(&value, key));
		else if (strcmp(key, "overlap") == 0)
			overlap = json_int(&value, key);
		else
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid member \"%s\" of chunking", key),
					errhint("Members are method (a string), size and overlap (numbers)."));
	}
	return chunk_options(method, size, overlap);
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
	return isspace((unsigned char) *p) != 0;
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

static const char *
skip_characters(const char *p, int n)
{
	while (n-- > 0 && *p != '\0')
		p += pg_mblen(p);
	return p;
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

		while (*p != '\0' && is_space(p))
			p++;
		start = p;
		while (*p != '\0' && !is_space(p))
			p += pg_mblen(p);
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

	for (int from = 0; from < n; from += options->size - options->overlap)
	{
		int			to = Min(n, from + options->size);
		StringInfoData piece;

		CHECK_FOR_INTERRUPTS();
		initStringInfo(&piece);
		for (int i = from; i < to; i++)
		{
			if (i > from)
				appendStringInfoChar(&piece, ' ');
			appendBinaryStringInfo(&piece, word[i], length[i]);
		}
		add_piece(pieces, piece.data);
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
	while (*text != '\0')
	{
		const char *end = skip_characters(text, options->size);

		CHECK_FOR_INTERRUPTS();
		add_trimmed(pieces, text, end);
		if (*end == '\0')
			break;
		text = skip_characters(text, options->size - options->overlap);
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

	for (const char *p = start; p < end; p += pg_mblen(p))
	{
		if (p < middle || p == start || !is_space(p))
			continue;
		word = p;
		if (*p == '\n')
			line = p;
		if (*p == '\n' && p > start && p[-1] == '\n')
			paragraph = p;
		if (p > start && strchr(".!?", p[-1]) != NULL)
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
	while (*text != '\0')
	{
		const char *end = skip_characters(text, options->size);
		const char *next;

		CHECK_FOR_INTERRUPTS();
		if (*end != '\0')
			end = best_break(text, end);
		add_trimmed(pieces, text, end);
		if (*end == '\0')
			break;
		next = end;
		if (options->overlap > 0)
		{
			/* back by the overlap, then forward to the beginning of a word; always ahead of where we were */
			int			length = pg_mbstrlen_with_len(text, end - text);

			next = skip_characters(text, Max(1, length - options->overlap));
			while (next < end && !is_space(next))
				next += pg_mblen(next);
		}
		text = next;
	}
}

char	  **
chunk_text(const char *text, const ChunkOptions *options, int *count)
{
	Pieces		pieces = {0};

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

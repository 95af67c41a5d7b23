/*
 * chunk_options.c
 *		How a vectorizer's texts are cut: read from JSON and judged.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/chunk_options.h"

#define WORDS_DEFAULT		512
#define CHARACTERS_DEFAULT	2000
#define SIZE_MAX_ALLOWED	1000000

/* Of one text, in its chunks: more copies of a long one would fill the worker's memory. */
#define COPIES_MAX			10

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

void
chunk_options_check(Jsonb *json)
{
	ChunkOptions options = chunk_options_from_json(json);

	if (options.method != CHUNK_NONE &&
		options.size - options.overlap < (options.size + COPIES_MAX - 1) / COPIES_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("chunk overlap %d is too much for size %d", options.overlap, options.size),
				errdetail("Each word or character would be in more than %d chunks.", COPIES_MAX));
}

/*
 * embedding_answer.c
 *		What the dialects share: parameters, inputs, vectors and their order.
 */
#include "http/embedding_dialect.h"

#include <math.h>

#include "common/base64.h"
#include "port/pg_bswap.h"

static const EmbeddingDialect *const dialects[] = {
	&embedding_dialect_openai,
	&embedding_dialect_ollama,
	&embedding_dialect_tei,
	&embedding_dialect_cohere,
};

const EmbeddingDialect *
embedding_dialect(const char *provider)
{
	for (size_t i = 0; i < lengthof(dialects); i++)
		if (strcmp(dialects[i]->name, provider) == 0)
			return dialects[i];
	return NULL;
}

/* ---- requests ---- */

void
embedding_write_parameters(StringInfo out, const EmbeddingRequest *request, const char *const *own)
{
	http_json_write_members(out, request->parameters, lengthof(request->parameters), own);
}

void
embedding_write_inputs(StringInfo out, const EmbeddingRequest *request)
{
	JsonMember	member;
	const char *prefix = "";
	size_t		prefix_len = 0;

	/* The prefix stands in the parameters as JSON and can go into each string as it is. */
	if (http_json_find(request->parameters, lengthof(request->parameters), "prefix", &member) &&
		member.type == JSON_TOKEN_STRING)
	{
		prefix = member.value + 1;
		prefix_len = member.value_len - 2;
	}

	appendStringInfoChar(out, '[');
	for (int i = 0; i < request->ninputs; i++)
	{
		int			quote;

		if (i > 0)
			appendStringInfoChar(out, ',');
		quote = out->len;
		http_json_write_string(out, request->inputs[i]);
		if (prefix_len > 0)
		{
			size_t		text_len = out->len - quote - 1;

			enlargeStringInfo(out, (int) prefix_len);
			memmove(out->data + quote + 1 + prefix_len, out->data + quote + 1, text_len + 1);
			memcpy(out->data + quote + 1, prefix, prefix_len);
			out->len += (int) prefix_len;
		}
	}
	appendStringInfoChar(out, ']');
}

/* ---- answers ---- */

bool
embedding_problem(JsonReader *reader, EmbeddingAnswer *answer, const char *problem)
{
	if (answer->problem == NULL && !reader->failed)
		answer->problem = pstrdup(problem);
	return http_json_fail(reader, problem);
}

/* Make room for n more values; what is allocated stays within twice what has been read. */
static void
reserve_values(EmbeddingAnswer *answer, size_t n)
{
	size_t		needed = answer->nvalues + n;

	if (needed <= answer->allocated)
		return;
	if (answer->values == NULL)
	{
		answer->allocated = Max(needed, 1024);
		answer->values = palloc(answer->allocated * sizeof(float));
		return;
	}
	answer->allocated = Max(needed, answer->allocated * 2);
	answer->values = repalloc(answer->values, answer->allocated * sizeof(float));
}

static bool
read_float_array(JsonReader *reader, EmbeddingAnswer *answer)
{
	size_t		limit = answer->dimensions > 0 ? answer->dimensions : EMBEDDING_MAX_DIMENSIONS;
	size_t		first = answer->nvalues;
	float		value;

	if (!http_json_array(reader))
		return false;
	while (http_json_element(reader))
	{
		if (!http_json_float(reader, &value))
			return false;
		if (answer->nvalues - first == limit)
			return embedding_problem(reader, answer,
									 psprintf("a vector has more than %d dimensions", (int) limit));
		reserve_values(answer, 1);
		answer->values[answer->nvalues++] = value;
	}
	return !reader->failed;
}

static bool
read_base64(JsonReader *reader, EmbeddingAnswer *answer)
{
	JsonText	text;
	char	   *copy = NULL;
	float	   *values;
	int			decoded;
	int			room;

	if (!http_json_string(reader, &text))
		return false;
	if (text.len > (size_t) pg_b64_enc_len(EMBEDDING_MAX_DIMENSIONS * sizeof(float)))
		return embedding_problem(reader, answer, psprintf("a vector has more than %d dimensions",
														  EMBEDDING_MAX_DIMENSIONS));
	/* "\/" is a way to write a slash. */
	if (memchr(text.start, '\\', text.len) != NULL)
	{
		copy = http_json_text_copy(&text);
		text.start = copy;
		text.len = strlen(copy);
	}
	room = pg_b64_dec_len((int) text.len);
	reserve_values(answer, room / sizeof(float) + 1);
	values = answer->values + answer->nvalues;
	decoded = pg_b64_decode(text.start, (int) text.len, (void *) values,
							(int) ((answer->allocated - answer->nvalues) * sizeof(float)));
	if (copy != NULL)
		pfree(copy);
	if (decoded < 0 || decoded % sizeof(float) != 0)
		return embedding_problem(reader, answer, "a vector is not base64 of floats");

	decoded /= sizeof(float);
	for (int i = 0; i < decoded; i++)
	{
#ifdef WORDS_BIGENDIAN
		uint32		bits;

		memcpy(&bits, &values[i], sizeof(bits));
		bits = pg_bswap32(bits);
		memcpy(&values[i], &bits, sizeof(bits));
#endif
		if (!isfinite(values[i]))
			return embedding_problem(reader, answer, "a vector has a value that is not finite");
	}
	answer->nvalues += decoded;
	return true;
}

bool
embedding_read_vector(JsonReader *reader, EmbeddingAnswer *answer)
{
	size_t		first = answer->nvalues;
	size_t		dimensions;

	if (reader->failed)
		return false;
	if (answer->nvectors == answer->ninputs)
		return embedding_problem(reader, answer, psprintf("more than %d vectors for %d inputs",
														  answer->ninputs, answer->ninputs));
	if (first != (size_t) answer->nvectors * answer->dimensions)
		return embedding_problem(reader, answer, "two vectors in the place of one");

	if (http_json_peek(reader) == JSON_TOKEN_STRING)
	{
		if (!read_base64(reader, answer))
			return false;
	}
	else if (!read_float_array(reader, answer))
		return false;

	dimensions = answer->nvalues - first;
	if (dimensions == 0)
		return embedding_problem(reader, answer, "a vector is empty");
	if (answer->dimensions == 0)
		answer->dimensions = (int) dimensions;
	if (dimensions != (size_t) answer->dimensions)
		return embedding_problem(reader, answer, psprintf("a vector has %zu dimensions, not %d",
														  dimensions, answer->dimensions));
	return true;
}

bool
embedding_place_vector(JsonReader *reader, EmbeddingAnswer *answer, int64 position)
{
	if (reader->failed)
		return false;
	if (answer->nvalues == (size_t) answer->nvectors * answer->dimensions)
		return embedding_problem(reader, answer, "no vector in the place of one");
	if (position < 0 || position >= answer->ninputs)
		return embedding_problem(reader, answer, psprintf("a vector for input %lld of %d",
														  (long long) position, answer->ninputs));
	if (answer->seen[position])
		return embedding_problem(reader, answer, psprintf("two vectors for input %d", (int) position));
	answer->seen[position] = true;
	answer->positions[answer->nvectors++] = (int) position;
	return true;
}

bool
embedding_read_vectors(JsonReader *reader, EmbeddingAnswer *answer)
{
	if (!http_json_array(reader))
		return false;
	while (http_json_element(reader))
		if (!embedding_read_vector(reader, answer) ||
			!embedding_place_vector(reader, answer, answer->nvectors))
			return false;
	return !reader->failed;
}

/* Put the vectors in the order of the inputs, unless they are. */
static void
order_vectors(EmbeddingAnswer *answer)
{
	size_t		size = answer->dimensions * sizeof(float);
	bool		ordered = true;
	float	   *values;

	for (int i = 0; i < answer->nvectors && ordered; i++)
		ordered = (answer->positions[i] == i);
	if (ordered)
		return;
	values = palloc(answer->nvectors * size);
	for (int i = 0; i < answer->nvectors; i++)
		memcpy(values + (size_t) answer->positions[i] * answer->dimensions,
			   answer->values + (size_t) i * answer->dimensions, size);
	pfree(answer->values);
	answer->values = values;
}

bool
embedding_parse(const EmbeddingDialect *dialect, const char *body, size_t len, EmbeddingAnswer *answer)
{
	JsonReader	reader;

	answer->values = NULL;
	answer->nvalues = answer->allocated = 0;
	answer->nvectors = 0;
	answer->total_tokens = -1;
	answer->problem = NULL;
	answer->positions = palloc(Max(answer->ninputs, 1) * sizeof(int));
	answer->seen = palloc0(Max(answer->ninputs, 1) * sizeof(bool));

	http_json_open(&reader, body, len);
	dialect->parse(&reader, answer);
	if (http_json_finish(&reader))
	{
		if (answer->nvectors != answer->ninputs)
			answer->problem = psprintf("%d vectors for %d inputs", answer->nvectors, answer->ninputs);
		else
			order_vectors(answer);
	}
	else if (answer->problem == NULL)
		answer->problem = pstrdup(reader.problem);
	http_json_close(&reader);

	if (answer->problem != NULL && answer->values != NULL)
	{
		pfree(answer->values);
		answer->values = NULL;
	}
	pfree(answer->positions);
	pfree(answer->seen);
	return answer->problem == NULL;
}

/*
 * dialect_cohere.c
 *		POST /v2/embed of Cohere: {"embeddings": {"float": [[...], ...]}}, in the order of the inputs.
 *
 * Cohere's models tell questions from documents; the request always says which
 * it holds, unless the parameters say something else.
 */
#include "http/embedding_dialect.h"

static void
cohere_write(StringInfo out, const EmbeddingRequest *request)
{
	static const char *const own[] = {"model", "texts", "embedding_types", EMBEDDING_OWN, NULL};
	JsonMember	member;

	appendStringInfoString(out, "{\"model\":");
	http_json_write_string(out, request->model);
	appendStringInfoString(out, ",\"embedding_types\":[\"float\"],\"texts\":");
	embedding_write_inputs(out, request);
	if (!http_json_find(request->parameters, lengthof(request->parameters), "input_type", &member))
		appendStringInfo(out, ",\"input_type\":\"%s\"", request->query ? "search_query" : "search_document");
	embedding_write_parameters(out, request, own);
}

/* The second version of the API names the number format, the first had the bare array. */
static void
cohere_read_embeddings(JsonReader *reader, EmbeddingAnswer *answer)
{
	JsonText	name;

	if (http_json_peek(reader) == JSON_TOKEN_ARRAY_START)
	{
		embedding_read_vectors(reader, answer);
		return;
	}
	if (!http_json_object(reader))
		return;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "float"))
			embedding_read_vectors(reader, answer);
		else
			http_json_skip(reader);
	}
}

/* "meta": {"billed_units": {"input_tokens": n}} */
static void
cohere_read_meta(JsonReader *reader, EmbeddingAnswer *answer)
{
	JsonText	name;

	if (http_json_peek(reader) != JSON_TOKEN_OBJECT_START)
	{
		http_json_skip(reader);
		return;
	}
	http_json_object(reader);
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "billed_units"))
			http_json_count_member(reader, "input_tokens", &answer->total_tokens);
		else
			http_json_skip(reader);
	}
}

static void
cohere_parse(JsonReader *reader, EmbeddingAnswer *answer)
{
	JsonText	name;

	if (!http_json_object(reader))
		return;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "embeddings"))
			cohere_read_embeddings(reader, answer);
		else if (http_json_text_is(&name, "meta"))
			cohere_read_meta(reader, answer);
		else
			http_json_skip(reader);
	}
}

const EmbeddingDialect embedding_dialect_cohere = {
	.name = "cohere",
	.default_path = "/v2/embed",
	.write = cohere_write,
	.parse = cohere_parse,
};

/*
 * dialect_openai.c
 *		POST /v1/embeddings of OpenAI, and of the many that imitate it.
 *
 * The vectors come as {"data": [{"index": 0, "embedding": ...}, ...]}, in any
 * order: the index decides.  Base64 is asked for because it is shorter and exact;
 * numbers are understood as well, for some servers know nothing else.
 */
#include "http/embedding_dialect.h"

static void
openai_write(StringInfo out, const EmbeddingRequest *request)
{
	static const char *const own[] = {"model", "input", EMBEDDING_OWN, NULL};

	appendStringInfoString(out, "{\"model\":");
	http_json_write_string(out, request->model);
	appendStringInfoString(out, ",\"input\":");
	embedding_write_inputs(out, request);
	embedding_write_parameters(out, request, own);
}

/* One element of "data"; its members come in any order. */
static bool
openai_read_item(JsonReader *reader, EmbeddingAnswer *answer)
{
	JsonText	name;
	int64		index = 0;
	int			nindexes = 0;

	if (!http_json_object(reader))
		return false;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "index"))
		{
			http_json_integer(reader, &index);
			nindexes++;
		}
		else if (http_json_text_is(&name, "embedding"))
			embedding_read_vector(reader, answer);
		else
			http_json_skip(reader);
	}
	if (nindexes > 1)
		return embedding_problem(reader, answer, "two indexes for one vector");

	/* A server that gives no index at all answers in order; one that gives some is broken. */
	if (answer->nvectors == 0)
		answer->indexed = (nindexes == 1);
	else if (answer->indexed != (nindexes == 1))
		return embedding_problem(reader, answer, "some vectors have an index and some have none");
	return embedding_place_vector(reader, answer, answer->indexed ? index : answer->nvectors);
}

static void
openai_parse(JsonReader *reader, EmbeddingAnswer *answer)
{
	JsonText	name;

	if (!http_json_object(reader))
		return;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "data"))
		{
			if (!http_json_array(reader))
				return;
			while (http_json_element(reader))
				if (!openai_read_item(reader, answer))
					return;
		}
		else if (http_json_text_is(&name, "usage"))
			http_json_count_member(reader, "total_tokens", &answer->total_tokens);
		else
			http_json_skip(reader);
	}
}

const EmbeddingDialect embedding_dialect_openai = {
	.name = "openai",
	.default_path = "/v1/embeddings",
	.write = openai_write,
	.tail = ",\"encoding_format\":\"base64\"",
	.tail_parameter = "encoding_format",
	.parse = openai_parse,
};

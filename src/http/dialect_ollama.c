/*
 * dialect_ollama.c
 *		POST /api/embed of Ollama: {"embeddings": [[...], ...]}, in the order of the inputs.
 */
#include "http/embedding_dialect.h"

static void
ollama_write(StringInfo out, const EmbeddingRequest *request)
{
	static const char *const own[] = {"model", "input", EMBEDDING_OWN, NULL};

	appendStringInfoString(out, "{\"model\":");
	http_json_write_string(out, request->model);
	appendStringInfoString(out, ",\"input\":");
	embedding_write_inputs(out, request);
	embedding_write_parameters(out, request, own);
}

static void
ollama_parse(JsonReader *reader, EmbeddingAnswer *answer)
{
	JsonText	name;

	if (!http_json_object(reader))
		return;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "embeddings"))
			embedding_read_vectors(reader, answer);
		else if (http_json_text_is(&name, "prompt_eval_count"))
			http_json_count(reader, &answer->total_tokens);
		else
			http_json_skip(reader);
	}
}

const EmbeddingDialect embedding_dialect_ollama = {
	.name = "ollama",
	.default_path = "/api/embed",
	.write = ollama_write,
	.parse = ollama_parse,
};

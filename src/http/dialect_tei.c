/*
 * dialect_tei.c
 *		POST /embed of text-embeddings-inference: a bare array of vectors, in the order of the inputs.
 *
 * A server serves one model, so the request names none.
 */
#include "http/embedding_dialect.h"

static void
tei_write(StringInfo out, const EmbeddingRequest *request)
{
	static const char *const own[] = {"inputs", EMBEDDING_OWN, NULL};

	appendStringInfoString(out, "{\"inputs\":");
	embedding_write_inputs(out, request);
	embedding_write_parameters(out, request, own);
}

static void
tei_parse(JsonReader *reader, EmbeddingAnswer *answer)
{
	embedding_read_vectors(reader, answer);
}

const EmbeddingDialect embedding_dialect_tei = {
	.name = "tei",
	.default_path = "/embed",
	.write = tei_write,
	.parse = tei_parse,
};

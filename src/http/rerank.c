/*
 * rerank.c
 *		A query and n documents for a reranking service in, n scores out.
 *
 * Two request forms: that of Cohere, which Jina, vLLM, Infinity and LiteLLM
 * share, and that of text-embeddings-inference.  One reader understands the answers of all.
 */
#include "postgres.h"

#include "http/http_json.h"
#include "http/rerank.h"

typedef struct RerankDialect
{
	const char *name;
	const char *default_path;
	const char *documents;		/* the name of the array of documents */
	bool		has_model;
	bool		has_top_n;
} RerankDialect;

static const RerankDialect dialects[] = {
	{"cohere", "/v2/rerank", "documents", true, true},
	{"jina", "/v1/rerank", "documents", true, true},
	{"openai", "/v1/rerank", "documents", true, true},	/* gateways of that family */
	{"tei", "/rerank", "texts", false, false},
};

static const RerankDialect *
rerank_dialect(const char *provider)
{
	for (size_t i = 0; i < lengthof(dialects); i++)
		if (strcmp(dialects[i].name, provider) == 0)
			return &dialects[i];
	return NULL;
}

bool
rerank_provider_exists(const char *provider)
{
	return rerank_dialect(provider) != NULL;
}

static void
write_request(StringInfo out, const RerankModel *model, const RerankDialect *dialect, const char *query,
			  const char *const *documents, int ndocuments, int wanted)
{
	const char *const own[] = {"model", "query", "top_n", dialect->documents, "headers", NULL};

	appendStringInfoString(out, "{\"query\":");
	http_json_write_string(out, query);
	appendStringInfo(out, ",\"%s\":[", dialect->documents);
	for (int i = 0; i < ndocuments; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		http_json_write_string(out, documents[i]);
	}
	appendStringInfoChar(out, ']');
	if (dialect->has_model)
	{
		appendStringInfoString(out, ",\"model\":");
		http_json_write_string(out, model->model);
	}
	if (dialect->has_top_n && wanted < ndocuments)
		appendStringInfo(out, ",\"top_n\":%d", wanted);
	http_json_write_members(out, &model->parameters, 1, own);
	appendStringInfoChar(out, '}');
}

static void
read_scores(HttpCall *call, int ndocuments, int wanted, RerankResult *result)
{
	const HttpAnswer *http = http_call_answer(call);
	char	   *problem;

	result->scores = rerank_parse(http->body, http->body_len, ndocuments, &result->nscores, &problem);
	if (problem == NULL && result->nscores < wanted)
		problem = psprintf("%d scores, not %d", result->nscores, wanted);
	if (problem != NULL)
	{
		result->nscores = 0;
		http_call_garbage(call, problem);
	}
	result->nscores = Min(result->nscores, wanted);
}

RerankResult
rerank_ask(HttpClient *client, const RerankModel *model, const char *query,
		   const char *const *documents, int ndocuments, int top_n, uint32 wait_event)
{
	const RerankDialect *dialect = rerank_dialect(model->provider);
	HttpTarget	target = model->target;
	HttpBody	body = {0};
	RerankResult result = {0};
	int			wanted = top_n > 0 ? Min(top_n, ndocuments) : ndocuments;
	HttpCall   *call;
	StringInfoData out;

	if (dialect == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown provider \"%s\"", model->provider),
				errhint("Providers of reranking are cohere, jina, openai and tei."));
	if (ndocuments <= 0)
		elog(ERROR, "no documents to rerank");

	http_target_complete(&target, &model->parameters, 1, dialect->default_path);
	initStringInfo(&out);
	write_request(&out, model, dialect, query, documents, ndocuments, wanted);
	body.text = out.data;
	body.len = out.len;
	call = http_call_submit(client, &target, &body, NULL);
	http_call_wait(call, wait_event);
	if (http_call_answer(call)->outcome == HTTP_OK)
		read_scores(call, ndocuments, wanted, &result);
	result.http = http_call_end(call);
	pfree(out.data);
	return result;
}

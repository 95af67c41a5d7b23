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

#include "utils/memutils.h"

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

struct RerankCall
{
	MemoryContext context;
	HttpCall   *http;
	void	   *owner;
	int			ndocuments;
	int			wanted;			/* scores to hand out */
	bool		finished;
	RerankResult result;
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

/* The parameters that are not ours, each with a comma before it. */
static void
write_parameters(StringInfo out, const char *parameters, const RerankDialect *dialect)
{
	const char *const own[] = {"model", "query", "top_n", dialect->documents, "headers", NULL};
	JsonMember *members;
	int			nmembers;

	if (!http_json_members(parameters, &members, &nmembers))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("parameters must be a JSON object"));
	http_json_write_members(out, &parameters, 1, own);
}

RerankCall *
rerank_submit(HttpClient *client, const RerankModel *model, const char *query,
			  const char *const *documents, int ndocuments, int top_n, void *owner)
{
	const RerankDialect *dialect = rerank_dialect(model->provider);
	HttpTarget	target = model->target;
	HttpBody	body = {0};
	MemoryContext context,
				old;
	RerankCall *call;
	StringInfoData out;

	if (dialect == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown provider \"%s\"", model->provider),
				errhint("Providers of reranking are cohere, jina, openai and tei."));
	if (ndocuments <= 0)
		elog(ERROR, "no documents to rerank");

	context = AllocSetContextCreate(CurrentMemoryContext, "vecsync rerank", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	call = palloc0(sizeof(RerankCall));
	call->context = context;
	call->owner = owner;
	call->ndocuments = ndocuments;
	call->wanted = top_n > 0 ? Min(top_n, ndocuments) : ndocuments;

	initStringInfo(&out);
	appendStringInfoString(&out, "{\"query\":");
	http_json_write_string(&out, query);
	appendStringInfo(&out, ",\"%s\":[", dialect->documents);
	for (int i = 0; i < ndocuments; i++)
	{
		if (i > 0)
			appendStringInfoChar(&out, ',');
		http_json_write_string(&out, documents[i]);
	}
	appendStringInfoChar(&out, ']');
	if (dialect->has_model)
	{
		appendStringInfoString(&out, ",\"model\":");
		http_json_write_string(&out, model->model);
	}
	if (dialect->has_top_n && call->wanted < ndocuments)
		appendStringInfo(&out, ",\"top_n\":%d", call->wanted);
	write_parameters(&out, model->parameters, dialect);
	appendStringInfoChar(&out, '}');
	body.text = out.data;
	body.len = out.len;

	http_target_complete(&target, &model->parameters, 1, dialect->default_path);
	call->http = http_call_submit(client, &target, HTTP_CALL_RERANK, &body, call);
	MemoryContextSwitchTo(old);
	return call;
}

RerankCall *
rerank_next_done(HttpClient *client)
{
	HttpCall   *http = http_call_next_done(client, HTTP_CALL_RERANK);

	return http == NULL ? NULL : http_call_owner(http);
}

void
rerank_wait(RerankCall *call, uint32 wait_event)
{
	http_call_wait(call->http, wait_event);
}

void *
rerank_owner(RerankCall *call)
{
	return call->owner;
}

static void
read_result(RerankCall *call)
{
	const HttpAnswer *http = http_call_answer(call->http);
	RerankResult *result = &call->result;
	char	   *problem;

	result->scores = rerank_parse(http->body, http->body_len, call->ndocuments, &result->nscores, &problem);
	if (problem == NULL && result->nscores < call->wanted)
		problem = psprintf("%d scores, not %d", result->nscores, call->wanted);
	if (problem != NULL)
	{
		result->nscores = 0;
		http_call_garbage(call->http, problem);
	}
	result->nscores = Min(result->nscores, call->wanted);
	http_call_drop_body(call->http);
}

const RerankResult *
rerank_result(RerankCall *call)
{
	const HttpAnswer *http = http_call_answer(call->http);
	RerankResult *result = &call->result;

	if (!call->finished && http->outcome != HTTP_PENDING)
	{
		MemoryContext old = MemoryContextSwitchTo(call->context);

		if (http->outcome == HTTP_OK)
			read_result(call);
		result->outcome = http->outcome;
		result->http_status = http->status;
		result->error = http->error;
		result->retry_after_ms = http->retry_after_ms;
		result->elapsed_us = http->elapsed_us;
		call->finished = true;
		MemoryContextSwitchTo(old);
	}
	return result;
}

void
rerank_free(RerankCall *call)
{
	MemoryContextDelete(call->context);
}

/*
 * http_debug.c
 *		SQL-callable doors into this room, for its own tests.
 *
 * Compiled with DEBUG_POINTS only; a test declares them itself:
 *
 *	CREATE FUNCTION http_embed(model json, inputs text[], query bool)
 *		RETURNS json LANGUAGE c STRICT AS 'vecsync', 'http_debug_embed';
 */
#include "postgres.h"

#ifdef DEBUG_POINTS

#include "http/chat.h"
#include "http/embedding.h"
#include "http/http_json.h"
#include "http/http_url.h"
#include "http/rerank.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(http_debug_embed);
PG_FUNCTION_INFO_V1(http_debug_embed_many);
PG_FUNCTION_INFO_V1(http_debug_rerank);
PG_FUNCTION_INFO_V1(http_debug_chat);
PG_FUNCTION_INFO_V1(http_debug_url);
PG_FUNCTION_INFO_V1(http_debug_memory);

static HttpClient *client = NULL;

static HttpClient *
get_client(void)
{
	if (client == NULL)
		client = http_client_create(TopMemoryContext, 8);
	return client;
}

/* A member of the model object as text, or NULL. */
static char *
option(const char *model, const char *name)
{
	JsonMember *members;
	int			nmembers;

	if (!http_json_members(model, &members, &nmembers))
		elog(ERROR, "not a JSON object");
	for (int i = 0; i < nmembers; i++)
	{
		JsonText	text = {members[i].value + 1, members[i].value_len - 2};

		if (!http_json_text_is(&members[i].name, name))
			continue;
		return members[i].type == JSON_TOKEN_STRING ? http_json_text_copy(&text) :
			pnstrdup(members[i].value, members[i].value_len);
	}
	return NULL;
}

static int
int_option(const char *model, const char *name)
{
	char	   *value = option(model, name);

	return value ? atoi(value) : 0;
}

static HttpTarget
read_target(const char *model)
{
	return (HttpTarget)
	{
		.url = option(model, "url"),
		.secret = option(model, "secret"),
		.headers = option(model, "headers"),
		.ca_file = option(model, "ca_file"),
		.proxy = option(model, "proxy"),
		.private_addresses = option(model, "public_only") == NULL,
		.timeout_ms = int_option(model, "timeout_ms"),
		.connect_timeout_ms = int_option(model, "connect_timeout_ms"),
		.max_response_bytes = int_option(model, "max_response_bytes"),
	};
}

static EmbeddingModel
read_model(const char *model)
{
	char	   *provider = option(model, "provider");
	char	   *name = option(model, "model");

	return (EmbeddingModel)
	{
		.target = read_target(model),
		.provider = provider ? provider : "openai",
		.model = name ? name : "m",
		.parameters = option(model, "parameters"),
		.document_parameters = option(model, "document_parameters"),
		.query_parameters = option(model, "query_parameters"),
		.dimensions = int_option(model, "dimensions"),
	};
}

static const char *
outcome_name(HttpOutcome outcome)
{
	static const char *const names[] = {
		"pending", "ok", "retry", "throttled", "rejected", "refused", "garbage"
	};

	return names[outcome];
}

static const char **
read_texts(ArrayType *array, int *n)
{
	Datum	   *datums;
	bool	   *nulls;
	const char **texts;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &datums, &nulls, n);
	texts = palloc((*n + 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
		texts[i] = nulls[i] ? "" : TextDatumGetCString(datums[i]);
	return texts;
}

static void
write_common(StringInfo out, const HttpAnswer *http)
{
	appendStringInfo(out, "{\"outcome\":\"%s\",\"status\":%d,\"retry_after_ms\":%lld",
					 outcome_name(http->outcome), http->status, (long long) http->retry_after_ms);
	if (http->error != NULL)
	{
		appendStringInfoString(out, ",\"error\":");
		http_json_write_string(out, http->error);
	}
}

static void
write_embedding(StringInfo out, const EmbeddingResult *result)
{
	write_common(out, &result->http);
	appendStringInfo(out, ",\"dimensions\":%d,\"tokens\":%lld,\"requests\":%d,\"vectors\":[",
					 result->dimensions, (long long) result->total_tokens, result->http.requests);
	for (int i = 0; result->vectors != NULL && i < result->ninputs; i++)
	{
		appendStringInfoString(out, i > 0 ? ",[" : "[");
		for (int k = 0; k < result->dimensions; k++)
			appendStringInfo(out, "%s%.9g", k > 0 ? "," : "", result->vectors[i * result->dimensions + k]);
		appendStringInfoChar(out, ']');
	}
	appendStringInfoString(out, "]}");
}

/* (model json, inputs text[], query bool) -> json: one call, as a backend makes it. */
Datum
http_debug_embed(PG_FUNCTION_ARGS)
{
	EmbeddingModel model = read_model(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	StringInfoData out;
	EmbeddingCall *call;
	const char **inputs;
	int			n;

	inputs = read_texts(PG_GETARG_ARRAYTYPE_P(1), &n);
	call = embedding_submit(get_client(), &model, inputs, n, PG_GETARG_BOOL(2), NULL);
	embedding_wait(call, PG_WAIT_EXTENSION);
	initStringInfo(&out);
	write_embedding(&out, embedding_result(call));
	embedding_free(call);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/*
 * (model json, inputs text[], ncalls int, drop_after_ms int) -> json: many calls at once, as
 * the worker makes them; those not done after drop_after_ms (-1: wait for all) are
 * freed in flight.  Counts outcomes.
 */
Datum
http_debug_embed_many(PG_FUNCTION_ARGS)
{
	EmbeddingModel model = read_model(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int			ncalls = PG_GETARG_INT32(2);
	int			drop_after_ms = PG_GETARG_INT32(3);
	TimestampTz until = GetCurrentTimestamp() + drop_after_ms * INT64CONST(1000);
	EmbeddingCall **calls = palloc(ncalls * sizeof(EmbeddingCall *));
	int			counts[HTTP_GARBAGE + 1] = {0};
	StringInfoData out;
	const char **inputs;
	int			n;

	inputs = read_texts(PG_GETARG_ARRAYTYPE_P(1), &n);
	for (int i = 0; i < ncalls; i++)
		calls[i] = embedding_submit(get_client(), &model, inputs, n, false, &calls[i]);
	while (http_client_inflight(get_client()) > 0)
	{
		EmbeddingCall *call;

		(void) http_client_wait(get_client(), drop_after_ms < 0 ? -1 : 10, PG_WAIT_EXTENSION);
		while ((call = embedding_next_done(get_client())) != NULL)
		{
			counts[embedding_result(call)->http.outcome]++;
			*(EmbeddingCall **) embedding_owner(call) = NULL;
			embedding_free(call);
		}
		if (drop_after_ms >= 0 && GetCurrentTimestamp() > until)
			break;
	}
	for (int i = 0; i < ncalls; i++)
	{
		if (calls[i] == NULL)
			continue;
		counts[embedding_result(calls[i])->http.outcome]++;
		embedding_free(calls[i]);
	}
	initStringInfo(&out);
	for (int i = 0; i <= HTTP_GARBAGE; i++)
		if (counts[i] > 0)
			appendStringInfo(&out, "%s\"%s\":%d", out.len ? "," : "{", outcome_name(i), counts[i]);
	appendStringInfo(&out, ",\"inflight\":%d}", http_client_inflight(get_client()));
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* (model json, query text, documents text[], top_n int) -> json */
Datum
http_debug_rerank(PG_FUNCTION_ARGS)
{
	EmbeddingModel model = read_model(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	RerankModel rerank = {model.target, model.provider, model.model, model.parameters};
	RerankResult result;
	StringInfoData out;
	const char **documents;
	int			n;

	documents = read_texts(PG_GETARG_ARRAYTYPE_P(2), &n);
	result = rerank_ask(get_client(), &rerank, text_to_cstring(PG_GETARG_TEXT_PP(1)), documents, n,
						PG_GETARG_INT32(3), PG_WAIT_EXTENSION);
	initStringInfo(&out);
	write_common(&out, &result.http);
	appendStringInfoString(&out, ",\"scores\":[");
	for (int i = 0; i < result.nscores; i++)
		appendStringInfo(&out, "%s[%d,%.9g]", i > 0 ? "," : "",
						 result.scores[i].index, result.scores[i].score);
	appendStringInfoString(&out, "]}");
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* (model json, prompt text, schema text, field text) -> json, with the integers of that field */
Datum
http_debug_chat(PG_FUNCTION_ARGS)
{
	EmbeddingModel model = read_model(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	ChatModel	chat = {model.target, model.model, model.parameters};
	ChatPrompt	prompt = {
		.system = "Answer in JSON.",
		.user = text_to_cstring(PG_GETARG_TEXT_PP(1)),
		.schema_name = "answer",
		.schema = text_to_cstring(PG_GETARG_TEXT_PP(2)),
	};
	ChatResult	result;
	StringInfoData out;
	int		   *values;
	int			nvalues;

	result = chat_ask(get_client(), &chat, &prompt, PG_WAIT_EXTENSION);
	initStringInfo(&out);
	write_common(&out, &result.http);
	if (result.content != NULL)
	{
		appendStringInfo(&out, ",\"content\":%s", result.content);
		if (chat_integers(result.content, text_to_cstring(PG_GETARG_TEXT_PP(3)), &values, &nvalues))
		{
			appendStringInfoString(&out, ",\"values\":[");
			for (int i = 0; i < nvalues; i++)
				appendStringInfo(&out, "%s%d", i > 0 ? "," : "", values[i]);
			appendStringInfoChar(&out, ']');
		}
	}
	appendStringInfoChar(&out, '}');
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* (url text, allowed text, privileged bool) -> text: the normalised URL, or the problem */
Datum
http_debug_url(PG_FUNCTION_ARGS)
{
	HttpUrlVerdict verdict = http_url_check(text_to_cstring(PG_GETARG_TEXT_PP(0)),
											text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_BOOL(2));

	if (!verdict.ok)
		PG_RETURN_TEXT_P(cstring_to_text(psprintf("refused: %s", verdict.problem)));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s%s", verdict.url,
											  verdict.private_addresses ? "" : " (public only)")));
}

/* () -> bigint: bytes in all memory contexts of the session */
Datum
http_debug_memory(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(MemoryContextMemAllocated(TopMemoryContext, true));
}

#endif							/* DEBUG_POINTS */

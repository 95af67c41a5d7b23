/*
 * embedding.c
 *		n texts for a model in, n vectors or one kind of failure out.
 */
#include "postgres.h"

#include "http/embedding.h"
#include "http/embedding_dialect.h"

#include "utils/memutils.h"

struct EmbeddingCall
{
	MemoryContext context;		/* holds all of it, the HTTP call in a child */
	const EmbeddingDialect *dialect;
	HttpCall   *http;
	void	   *owner;
	int			ninputs;
	int			dimensions;		/* demanded, or 0 */
	bool		finished;		/* result is filled */
	EmbeddingResult result;
};

bool
embedding_provider_exists(const char *provider)
{
	return embedding_dialect(provider) != NULL;
}

void
embedding_check_parameters(const char *parameters, const char *what)
{
	JsonMember *members;
	int			nmembers;

	if (!http_json_members(parameters, &members, &nmembers))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be a JSON object", what));
	for (int i = 0; i < nmembers; i++)
	{
		if (http_json_text_is(&members[i].name, "prefix") && members[i].type != JSON_TOKEN_STRING)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("\"prefix\" in %s must be a string", what));
		if (http_json_text_is(&members[i].name, "headers"))
			http_check_headers(pnstrdup(members[i].value, members[i].value_len));
	}
	pfree(members);
}

static void
write_body(HttpBody *body, const EmbeddingDialect *dialect, const EmbeddingRequest *request)
{
	StringInfoData out;
	JsonMember	member;

	initStringInfo(&out);
	dialect->write(&out, request);
	memset(body, 0, sizeof(*body));
	if (dialect->tail != NULL &&
		!http_json_find(request->parameters, lengthof(request->parameters), dialect->tail_parameter, &member))
	{
		body->tail = out.len;
		body->tail_name = dialect->tail_parameter;
		body->model = pstrdup(request->model);
		appendStringInfoString(&out, dialect->tail);
	}
	appendStringInfoChar(&out, '}');
	body->text = out.data;
	body->len = out.len;
}

EmbeddingCall *
embedding_submit(HttpClient *client, const EmbeddingModel *model,
				 const char *const *inputs, int ninputs, bool query, void *owner)
{
	const EmbeddingDialect *dialect = embedding_dialect(model->provider);
	EmbeddingRequest request = {
		.model = model->model,
		.parameters = {model->parameters, query ? model->query_parameters : model->document_parameters},
		.inputs = inputs,
		.ninputs = ninputs,
		.query = query,
	};
	HttpTarget	target = model->target;
	MemoryContext context,
				old;
	EmbeddingCall *call;
	HttpBody	body;

	if (dialect == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown provider \"%s\"", model->provider),
				errhint("Providers are openai, ollama, tei and cohere."));
	if (ninputs <= 0)
		elog(ERROR, "no texts to embed");

	context = AllocSetContextCreate(CurrentMemoryContext, "vecsync embedding", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	embedding_check_parameters(request.parameters[0], "parameters");
	embedding_check_parameters(request.parameters[1], query ? "query_parameters" : "document_parameters");
	call = palloc0(sizeof(EmbeddingCall));
	call->context = context;
	call->dialect = dialect;
	call->owner = owner;
	call->ninputs = ninputs;
	call->dimensions = model->dimensions;
	write_body(&body, dialect, &request);
	http_target_complete(&target, request.parameters, lengthof(request.parameters), dialect->default_path);
	call->http = http_call_submit(client, &target, &body, call);
	MemoryContextSwitchTo(old);
	return call;
}

EmbeddingCall *
embedding_next_done(HttpClient *client)
{
	HttpCall   *http = http_call_next_done(client);

	return http == NULL ? NULL : http_call_owner(http);
}

void
embedding_wait(EmbeddingCall *call, uint32 wait_event)
{
	http_call_wait(call->http, wait_event);
}

void *
embedding_owner(EmbeddingCall *call)
{
	return call->owner;
}

/* Turn the answer into vectors, or into the reason why it holds none. */
static void
read_vectors(EmbeddingCall *call)
{
	const HttpAnswer *http = http_call_answer(call->http);
	EmbeddingResult *result = &call->result;
	EmbeddingAnswer answer = {.ninputs = call->ninputs, .dimensions = call->dimensions};

	if (embedding_parse(call->dialect, http->body, http->body_len, &answer))
	{
		result->vectors = answer.values;
		result->dimensions = answer.dimensions;
		result->total_tokens = answer.total_tokens;
	}
	else
		http_call_garbage(call->http, answer.problem);
	http_call_drop_body(call->http);
}

const EmbeddingResult *
embedding_result(EmbeddingCall *call)
{
	const HttpAnswer *http = http_call_answer(call->http);
	EmbeddingResult *result = &call->result;

	if (!call->finished && http->outcome != HTTP_PENDING)
	{
		MemoryContext old = MemoryContextSwitchTo(call->context);

		result->ninputs = call->ninputs;
		result->total_tokens = -1;
		if (http->outcome == HTTP_OK)
			read_vectors(call);
		result->http = *http;
		call->finished = true;
		MemoryContextSwitchTo(old);
	}
	return result;
}

void
embedding_free(EmbeddingCall *call)
{
	MemoryContextDelete(call->context);
}

/*
 * chat.c
 *		One question to an OpenAI-compatible chat service, answered as JSON of a
 *		given schema.
 *
 * The schema goes as the request's optional tail: a service that does not
 * know structured output gets the question without it and must be told
 * the form by the prompt.
 */
#include "postgres.h"

#include "http/chat.h"
#include "http/http_json.h"

#include "utils/memutils.h"

#define DEFAULT_PATH "/v1/chat/completions"
#define TAIL_NAME "response_format"

struct ChatCall
{
	MemoryContext context;
	HttpCall   *http;
	void	   *owner;
	bool		finished;
	ChatResult	result;
};

static void
write_message(StringInfo out, const char *role, const char *content)
{
	appendStringInfo(out, "{\"role\":\"%s\",\"content\":", role);
	http_json_write_string(out, content);
	appendStringInfoChar(out, '}');
}

/* The parameters that are not ours, each with a comma before it. */
static void
write_parameters(StringInfo out, const char *parameters)
{
	static const char *const own[] = {"model", "messages", "stream", "headers", NULL};
	JsonMember *members;
	int			nmembers;

	if (!http_json_members(parameters, &members, &nmembers))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("parameters must be a JSON object"));
	http_json_write_members(out, &parameters, 1, own);
}

static void
write_schema(StringInfo out, const ChatPrompt *prompt)
{
	JsonMember *members;
	int			nmembers;

	if (prompt->schema == NULL)
	{
		appendStringInfoString(out, ",\"" TAIL_NAME "\":{\"type\":\"json_object\"}");
		return;
	}
	if (!http_json_members(prompt->schema, &members, &nmembers))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a JSON schema must be a JSON object"));
	appendStringInfoString(out, ",\"" TAIL_NAME "\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":");
	http_json_write_string(out, prompt->schema_name);
	appendStringInfo(out, ",\"strict\":true,\"schema\":%s}}", prompt->schema);
}

ChatCall *
chat_submit(HttpClient *client, const ChatModel *model, const ChatPrompt *prompt, void *owner)
{
	HttpTarget	target = model->target;
	HttpBody	body = {0};
	JsonMember	member;
	MemoryContext context,
				old;
	ChatCall   *call;
	StringInfoData out;

	context = AllocSetContextCreate(CurrentMemoryContext, "vecsync chat", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	call = palloc0(sizeof(ChatCall));
	call->context = context;
	call->owner = owner;

	initStringInfo(&out);
	appendStringInfoString(&out, "{\"model\":");
	http_json_write_string(&out, model->model);
	appendStringInfoString(&out, ",\"messages\":[");
	if (prompt->system != NULL)
	{
		write_message(&out, "system", prompt->system);
		appendStringInfoChar(&out, ',');
	}
	write_message(&out, "user", prompt->user);
	appendStringInfoChar(&out, ']');
	write_parameters(&out, model->parameters);
	if (!http_json_find(&model->parameters, 1, "temperature", &member))
		appendStringInfoString(&out, ",\"temperature\":0");
	if (!http_json_find(&model->parameters, 1, TAIL_NAME, &member))
	{
		body.tail = out.len;
		body.tail_name = TAIL_NAME;
		body.model = pstrdup(model->model);
		write_schema(&out, prompt);
	}
	appendStringInfoChar(&out, '}');
	body.text = out.data;
	body.len = out.len;

	http_target_complete(&target, &model->parameters, 1, DEFAULT_PATH);
	call->http = http_call_submit(client, &target, HTTP_CALL_CHAT, &body, call);
	MemoryContextSwitchTo(old);
	return call;
}

ChatCall *
chat_next_done(HttpClient *client)
{
	HttpCall   *http = http_call_next_done(client, HTTP_CALL_CHAT);

	return http == NULL ? NULL : http_call_owner(http);
}

void
chat_wait(ChatCall *call, uint32 wait_event)
{
	http_call_wait(call->http, wait_event);
}

void *
chat_owner(ChatCall *call)
{
	return call->owner;
}

const ChatResult *
chat_result(ChatCall *call)
{
	const HttpAnswer *http = http_call_answer(call->http);
	ChatResult *result = &call->result;
	char	   *problem;

	if (!call->finished && http->outcome != HTTP_PENDING)
	{
		MemoryContext old = MemoryContextSwitchTo(call->context);

		result->total_tokens = -1;
		if (http->outcome == HTTP_OK)
		{
			result->content = chat_parse(http->body, http->body_len, &result->total_tokens, &problem);
			if (result->content == NULL)
				http_call_garbage(call->http, problem);
			http_call_drop_body(call->http);
		}
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
chat_free(ChatCall *call)
{
	MemoryContextDelete(call->context);
}

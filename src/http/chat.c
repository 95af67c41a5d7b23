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

#define DEFAULT_PATH "/v1/chat/completions"
#define TAIL_NAME "response_format"

static void
write_message(StringInfo out, const char *role, const char *content)
{
	appendStringInfo(out, "{\"role\":\"%s\",\"content\":", role);
	http_json_write_string(out, content);
	appendStringInfoChar(out, '}');
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

static void
write_request(HttpBody *body, const ChatModel *model, const ChatPrompt *prompt)
{
	static const char *const own[] = {"model", "messages", "stream", "headers", NULL};
	JsonMember	member;
	StringInfoData out;

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
	http_json_write_members(&out, &model->parameters, 1, own);
	if (!http_json_find(&model->parameters, 1, "temperature", &member))
		appendStringInfoString(&out, ",\"temperature\":0");
	if (!http_json_find(&model->parameters, 1, TAIL_NAME, &member))
	{
		body->tail = out.len;
		body->tail_name = TAIL_NAME;
		body->model = model->model;
		write_schema(&out, prompt);
	}
	appendStringInfoChar(&out, '}');
	body->text = out.data;
	body->len = out.len;
}

ChatResult
chat_ask(HttpClient *client, const ChatModel *model, const ChatPrompt *prompt, uint32 wait_event)
{
	HttpTarget	target = model->target;
	HttpBody	body = {0};
	ChatResult	result = {.total_tokens = -1};
	const HttpAnswer *http;
	HttpCall   *call;
	char	   *problem;

	http_target_complete(&target, &model->parameters, 1, DEFAULT_PATH);
	write_request(&body, model, prompt);
	call = http_call_submit(client, &target, &body, NULL);
	http_call_wait(call, wait_event);
	http = http_call_answer(call);
	if (http->outcome == HTTP_OK)
	{
		result.content = chat_parse(http->body, http->body_len, &result.total_tokens, &problem);
		if (result.content == NULL)
			http_call_garbage(call, problem);
	}
	result.http = http_call_end(call);
	pfree(body.text);
	return result;
}

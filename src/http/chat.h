/*
 * chat.h
 *		One question to an OpenAI-compatible chat service, answered as JSON of a
 *		given schema.
 *
 * What the answer means is the caller's; here it is only made sure that it
 * is one complete JSON object.
 */
#ifndef CHAT_H
#define CHAT_H

#include "http/chat_answer.h"
#include "http/http_call.h"

typedef struct ChatModel
{
	HttpTarget	target;
	const char *model;
	const char *parameters;		/* JSON object or NULL; over our defaults (temperature 0) */
} ChatModel;

typedef struct ChatPrompt
{
	const char *system;			/* instructions, or NULL */
	const char *user;			/* the data */
	const char *schema_name;	/* letters, digits, _ and - */
	const char *schema;			/* JSON schema the answer must follow, as JSON text; NULL: any object */
} ChatPrompt;

typedef struct ChatResult
{
	HttpOutcome outcome;
	char	   *content;		/* the answer: valid JSON, an object, UTF-8; NULL unless HTTP_OK */
	int			http_status;
	char	   *error;
	int64		retry_after_ms;
	int64		total_tokens;
	int64		elapsed_us;
} ChatResult;

typedef struct ChatCall ChatCall;

/* Same ownership as embedding_submit. */
extern ChatCall *chat_submit(HttpClient *client, const ChatModel *model, const ChatPrompt *prompt,
							 void *owner);
extern ChatCall *chat_next_done(HttpClient *client);
extern void chat_wait(ChatCall *call, uint32 wait_event);
extern void *chat_owner(ChatCall *call);
extern const ChatResult *chat_result(ChatCall *call);
extern void chat_free(ChatCall *call);

#endif							/* CHAT_H */

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
	HttpAnswer	http;			/* without its body */
	char	   *content;		/* the answer: valid JSON, an object, UTF-8; NULL unless HTTP_OK */
	int64		total_tokens;	/* -1: not said */
} ChatResult;

/*
 * Ask, and wait for the answer; may raise an error (cancel, a broken model).
 * The result is in the current context.
 */
extern ChatResult chat_ask(HttpClient *client, const ChatModel *model, const ChatPrompt *prompt,
						   uint32 wait_event);

#endif							/* CHAT_H */

/*
 * http_message.c
 *		From what a service wrote about an error to a line one may show.
 */
#include "http/http_message.h"

#include "base/compat.h"

#define REDACTED "***"
#define REDACT_MIN_RUN 8

/* No service may make us wait longer than a day. */
#define MAX_RETRY_AFTER_MS (INT64CONST(86400) * 1000)

static bool
name_is_telling(const JsonText *name)
{
	static const char *const names[] = {"error", "message", "detail", "msg"};

	for (size_t i = 0; i < lengthof(names); i++)
		if (http_json_text_is(name, names[i]))
			return true;
	return false;
}

/* The first string among the members of an object or the elements of an array that look like a message. */
static bool
find_message(JsonReader *reader, JsonText *found, int depth)
{
	JsonText	name;
	JsonText	text;
	bool		any = false;

	switch (http_json_peek(reader))
	{
		case JSON_TOKEN_STRING:
			return http_json_string(reader, found);
		case JSON_TOKEN_ARRAY_START:
			if (depth == 0)
				break;
			http_json_array(reader);
			while (http_json_element(reader))
				if (find_message(reader, &text, depth - 1) && !any)
				{
					*found = text;
					any = true;
				}
			return any;
		case JSON_TOKEN_OBJECT_START:
			if (depth == 0)
				break;
			http_json_object(reader);
			while (http_json_member(reader, &name))
			{
				if (!name_is_telling(&name))
					http_json_skip(reader);
				else if (find_message(reader, &text, depth - 1) && !any)
				{
					*found = text;
					any = true;
				}
			}
			return any;
		default:
			break;
	}
	http_json_skip(reader);
	return false;
}

/* Control characters become spaces, runs of spaces one space. */
static void
make_one_line(char *text)
{
	char	   *to = text;

	for (char *from = text; *from != '\0'; from++)
	{
		bool		space = ((unsigned char) *from <= ' ' || *from == 0x7F);

		if (!space)
			*to++ = *from;
		else if (to > text && to[-1] != ' ')
			*to++ = ' ';
	}
	while (to > text && to[-1] == ' ')
		to--;
	*to = '\0';
}

char *
http_json_message(const char *body, size_t len)
{
	JsonReader	reader;
	JsonText	text;
	char	   *message = NULL;

	http_json_open(&reader, body, len);
	if (http_json_peek(&reader) == JSON_TOKEN_OBJECT_START && find_message(&reader, &text, 4))
	{
		message = http_json_text_copy(&text);
		make_one_line(message);
	}
	http_json_close(&reader);
	return message;
}

char *
http_service_message(const char *body, size_t len)
{
	char	   *message = http_json_message(body, len);

	if (message == NULL)
	{
		StringInfoData plain;

		/* Zero bytes would end the text. */
		initStringInfo(&plain);
		http_json_append_utf8(&plain, body, strnlen(body, Min(len, 4096)));
		message = plain.data;
		make_one_line(message);
	}
	return message;
}

char *
http_redact(const char *text, const char *secret)
{
	StringInfoData out;
	size_t		secret_len = secret ? strlen(secret) : 0;
	size_t		min_run = Min(secret_len, REDACT_MIN_RUN);

	if (secret_len == 0)
		return pstrdup(text);

	initStringInfo(&out);
	while (*text != '\0')
	{
		size_t		longest = 0;

		CHECK_FOR_INTERRUPTS();
		for (size_t i = 0; i + min_run <= secret_len; i++)
		{
			size_t		run = 0;

			while (text[run] != '\0' && text[run] == secret[i + run])
				run++;
			longest = Max(longest, run);
		}
		if (longest >= min_run)
		{
			appendStringInfoString(&out, REDACTED);
			text += longest;
		}
		else
			appendStringInfoChar(&out, *text++);
	}
	return out.data;
}

void
http_clip(char *text, size_t bytes)
{
	if (strlen(text) <= bytes)
		return;
	bytes -= 3;
	while (bytes > 0 && ((unsigned char) text[bytes] & 0xC0) == 0x80)
		bytes--;
	strcpy(text + bytes, "...");
}

int64
http_parse_delay(const char *text, double unit_ms)
{
	char	   *end;
	double		ms;

	if (!isdigit((unsigned char) *text))
		return -1;
	ms = strtod(text, &end) * unit_ms;
	if (*end != '\0')
		return -1;
	return ms >= MAX_RETRY_AFTER_MS ? MAX_RETRY_AFTER_MS : (int64) ms;
}

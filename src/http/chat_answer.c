/*
 * chat_answer.c
 *		Reading chat completions.
 *
 *	{"choices": [{"message": {"content": "..."}, "finish_reason": "stop"}], "usage": {...}}
 */
#include "http/chat_answer.h"

/* What the first choice holds. */
typedef struct Choice
{
	char	   *content;
	bool		refused;
	bool		cut_off;
} Choice;

static void
read_message(JsonReader *reader, Choice *choice)
{
	JsonText	name;
	JsonText	text;

	if (!http_json_object(reader))
		return;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "content") && http_json_peek(reader) == JSON_TOKEN_STRING)
		{
			if (choice->content != NULL)
				http_json_fail(reader, "two contents in one message");
			else if (http_json_string(reader, &text))
				choice->content = http_json_text_copy(&text);
		}
		else
		{
			if (http_json_text_is(&name, "refusal") && http_json_peek(reader) == JSON_TOKEN_STRING)
				choice->refused = true;
			http_json_skip(reader);
		}
	}
}

static void
read_choice(JsonReader *reader, Choice *choice)
{
	JsonText	name;
	JsonText	text;

	if (!http_json_object(reader))
		return;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "message"))
			read_message(reader, choice);
		else if (http_json_text_is(&name, "finish_reason") && http_json_peek(reader) == JSON_TOKEN_STRING)
		{
			http_json_string(reader, &text);
			choice->cut_off = http_json_text_is(&text, "length");
		}
		else
			http_json_skip(reader);
	}
}

/* Take off blanks and one Markdown fence, in place. */
static char *
strip_fence(char *text)
{
	size_t		len;

	text += strspn(text, " \t\r\n");
	len = strlen(text);
	while (len > 0 && isspace((unsigned char) text[len - 1]))
		len--;
	if (len >= 6 && strncmp(text, "```", 3) == 0 && strncmp(text + len - 3, "```", 3) == 0)
	{
		size_t		first = strcspn(text, "\n");

		if (first < len - 3)
		{
			len -= 3 + first;
			text += first;
		}
	}
	text[len] = '\0';
	return text;
}

static bool
is_object(const char *text)
{
	JsonReader	reader;
	bool		ok;

	http_json_open(&reader, text, strlen(text));
	ok = http_json_peek(&reader) == JSON_TOKEN_OBJECT_START &&
		http_json_skip(&reader) && http_json_finish(&reader);
	http_json_close(&reader);
	return ok;
}

char *
chat_parse(const char *body, size_t len, int64 *total_tokens, char **problem)
{
	Choice		choice = {0};
	JsonReader	reader;
	JsonText	name;
	char	   *content = NULL;
	int			nchoices = 0;

	*total_tokens = -1;
	*problem = NULL;
	http_json_open(&reader, body, len);
	if (http_json_object(&reader))
	{
		while (http_json_member(&reader, &name))
		{
			if (http_json_text_is(&name, "choices"))
			{
				if (!http_json_array(&reader))
					break;
				while (http_json_element(&reader))
				{
					if (nchoices++ == 0)
						read_choice(&reader, &choice);
					else
						http_json_skip(&reader);
				}
			}
			else if (http_json_text_is(&name, "usage"))
				http_json_count_member(&reader, "total_tokens", total_tokens);
			else
				http_json_skip(&reader);
		}
	}
	if (!http_json_finish(&reader))
		*problem = pstrdup(reader.problem);
	else if (choice.refused)
		*problem = pstrdup("the model refused to answer");
	else if (choice.content == NULL)
		*problem = pstrdup("no message in the answer");
	else if (choice.cut_off)
		*problem = pstrdup("the message was cut off");
	http_json_close(&reader);

	if (*problem == NULL)
	{
		char	   *bare = strip_fence(choice.content);

		if (is_object(bare))
			content = pstrdup(bare);
		else
			*problem = pstrdup("the message is not a JSON object");
	}
	if (choice.content != NULL)
		pfree(choice.content);
	return content;
}

bool
chat_integers(const char *content, const char *field, int **values, int *nvalues)
{
	JsonReader	reader;
	JsonText	name;
	int64		value;
	int			allocated = 16;
	int			fields = 0;
	bool		ok;

	*values = palloc(allocated * sizeof(int));
	*nvalues = 0;
	http_json_open(&reader, content, strlen(content));
	if (http_json_object(&reader))
	{
		while (http_json_member(&reader, &name))
		{
			if (!http_json_text_is(&name, field))
			{
				http_json_skip(&reader);
				continue;
			}
			if (fields++ > 0 || !http_json_array(&reader))
			{
				http_json_fail(&reader, "not one array");
				break;
			}
			while (http_json_element(&reader) && http_json_integer(&reader, &value))
			{
				/* What no document can have as its number is of no interest. */
				if (value < PG_INT32_MIN || value > PG_INT32_MAX)
					continue;
				if (*nvalues == allocated)
				{
					allocated *= 2;
					*values = repalloc(*values, allocated * sizeof(int));
				}
				(*values)[(*nvalues)++] = (int) value;
			}
		}
	}
	ok = http_json_finish(&reader) && fields == 1;
	http_json_close(&reader);
	return ok;
}

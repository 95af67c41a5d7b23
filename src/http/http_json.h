/*
 * http_json.h
 *		Reading and writing JSON for services.
 *
 * A pull reader over the server's own lexer: the caller asks for what it
 * expects, and anything else fails.  It never recurses; what the caller does not
 * want is skipped to a bounded depth.  Failure is sticky: after the first one
 * every function returns false, so a parser checks once, at its end.
 *
 * Needs nothing of a backend but palloc and StringInfo, so that it can be
 * tested and fuzzed in a program of its own (compiled with FRONTEND).
 * All text is UTF-8.
 */
#ifndef HTTP_JSON_H
#define HTTP_JSON_H

#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include "common/jsonapi.h"
#include "lib/stringinfo.h"

/* Nesting that a skipped value may have; services answer with 3 or 4 levels. */
#define HTTP_JSON_MAX_DEPTH 64

typedef struct JsonReader
{
	JsonLexContext *lex;		/* its current token has not been consumed */
	bool		fresh;			/* an object or array was just opened: no comma yet */
	bool		failed;
	uint32		turns;
	char		problem[128];	/* why, for a message; names no content of the answer */
} JsonReader;

/* A string still in the body, between its quotes. */
typedef struct JsonText
{
	const char *start;
	size_t		len;
} JsonText;

/* A member of an object: its value as it stands in the text. */
typedef struct JsonMember
{
	JsonText	name;
	JsonTokenType type;			/* of the value's first token */
	const char *value;
	size_t		value_len;
} JsonMember;

/* body[len] must be readable (a zero byte). */
extern void http_json_open(JsonReader *reader, const char *body, size_t len);
extern void http_json_close(JsonReader *reader);

/* Nothing may follow; returns whether everything went well since http_json_open. */
extern bool http_json_finish(JsonReader *reader);
extern bool http_json_fail(JsonReader *reader, const char *problem);

/* The type of the value that comes next; JSON_TOKEN_INVALID after a failure. */
extern JsonTokenType http_json_peek(JsonReader *reader);

/* Loop: if (http_json_object(r)) while (http_json_member(r, &name)) { consume one value } */
extern bool http_json_object(JsonReader *reader);
extern bool http_json_member(JsonReader *reader, JsonText *name);
extern bool http_json_array(JsonReader *reader);
extern bool http_json_element(JsonReader *reader);

/* Values.  http_json_float refuses what a finite float cannot hold; http_json_integer what int64 cannot. */
extern bool http_json_float(JsonReader *reader, float *value);
extern bool http_json_integer(JsonReader *reader, int64 *value);
extern bool http_json_string(JsonReader *reader, JsonText *value);
extern bool http_json_skip(JsonReader *reader);

/* A statistic: consumes any value, and sets *value if it is a sensible count. */
extern bool http_json_count(JsonReader *reader, int64 *value);

/* One that is a member of an object; whatever else there is instead is consumed, too. */
extern void http_json_count_member(JsonReader *reader, const char *member, int64 *value);

extern bool http_json_text_is(const JsonText *text, const char *name);

/* The de-escaped string, palloc'd: valid UTF-8 without zero bytes, whatever came. */
extern char *http_json_text_copy(const JsonText *text);

/*
 * Members of a JSON object, palloc'd; they point into the text.  False when
 * it is anything else.  NULL counts as an empty object.
 */
extern bool http_json_members(const char *object, JsonMember **members, int *nmembers);

/*
 * Several objects as one: of members with the same name the last object's
 * counts.  What is no object counts as an empty one.
 */
extern bool http_json_find(const char *const *objects, int nobjects, const char *name, JsonMember *member);

/* Append these members, each with a comma before it, but none of a name in 'skip' (ended by NULL). */
extern void http_json_write_members(StringInfo out, const char *const *objects, int nobjects,
									const char *const *skip);

/* Append a JSON string; invalid UTF-8 becomes U+FFFD. */
extern void http_json_write_string(StringInfo out, const char *text);
extern void http_json_write_string_len(StringInfo out, const char *text, size_t len);

/* Append text as it is, but for invalid UTF-8, which becomes U+FFFD. */
extern void http_json_append_utf8(StringInfo out, const char *text, size_t len);

/* The nearest float, as strtof gives it; false unless [text, end) is one finite number. */
extern bool http_json_parse_float(const char *text, const char *end, float *value);

#endif							/* HTTP_JSON_H */

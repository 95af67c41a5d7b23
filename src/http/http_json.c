/*
 * http_json.c
 *		Reading and writing JSON for services.
 */
#include "http/http_json.h"

#include <float.h>
#include <math.h>

#include "mb/pg_wchar.h"

#include "base/compat.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* The places of a longer number are not all counted: strtof reads it. */
#define COUNTED_BYTES 1000

bool
http_json_fail(JsonReader *reader, const char *problem)
{
	if (!reader->failed)
	{
		reader->failed = true;
		snprintf(reader->problem, sizeof(reader->problem), "%s", problem);
	}
	return false;
}

/* Lex the next token. */
static bool
http_json_advance(JsonReader *reader)
{
	JsonLexContext *lex = reader->lex;

	if ((++reader->turns & 0xFFFF) == 0)
		CHECK_FOR_INTERRUPTS();
	if (reader->failed)
		return false;
	if (json_lex(lex) != JSON_SUCCESS)
	{
		reader->failed = true;
		snprintf(reader->problem, sizeof(reader->problem), "not valid JSON near byte %zu",
				 (size_t) (lex->token_start - lex->input) + 1);
		return false;
	}
	return true;
}

/* The current token, which is not what was expected. */
static bool
http_json_unexpected(JsonReader *reader, const char *expected)
{
	JsonLexContext *lex = reader->lex;

	if (!reader->failed)
	{
		reader->failed = true;
		if (lex->token_type == JSON_TOKEN_END)
			snprintf(reader->problem, sizeof(reader->problem), "ends where %s was expected", expected);
		else
			snprintf(reader->problem, sizeof(reader->problem), "%s expected at byte %zu", expected,
					 (size_t) (lex->token_start - lex->input) + 1);
	}
	return false;
}

static bool
http_json_expect(JsonReader *reader, JsonTokenType type, const char *expected)
{
	if (reader->failed)
		return false;
	if (reader->lex->token_type != type)
		return http_json_unexpected(reader, expected);
	return http_json_advance(reader);
}

void
http_json_open(JsonReader *reader, const char *body, size_t len)
{
	memset(reader, 0, sizeof(*reader));
	reader->lex = compat_json_lexer(unconstify(char *, body), len);
	http_json_advance(reader);
}

void
http_json_close(JsonReader *reader)
{
	compat_json_lexer_free(reader->lex);
	reader->lex = NULL;
}

bool
http_json_finish(JsonReader *reader)
{
	if (!reader->failed && reader->lex->token_type != JSON_TOKEN_END)
		http_json_unexpected(reader, "the end");
	return !reader->failed;
}

JsonTokenType
http_json_peek(JsonReader *reader)
{
	return reader->failed ? JSON_TOKEN_INVALID : reader->lex->token_type;
}

bool
http_json_object(JsonReader *reader)
{
	reader->fresh = true;
	return http_json_expect(reader, JSON_TOKEN_OBJECT_START, "an object");
}

bool
http_json_array(JsonReader *reader)
{
	reader->fresh = true;
	return http_json_expect(reader, JSON_TOKEN_ARRAY_START, "an array");
}

/* Go to the next element or to the end of the container; false at the end. */
static bool
http_json_next(JsonReader *reader, JsonTokenType end)
{
	bool		fresh = reader->fresh;

	reader->fresh = false;
	if (reader->failed)
		return false;
	if (reader->lex->token_type == end)
	{
		http_json_advance(reader);
		return false;
	}
	if (fresh)
		return true;
	return http_json_expect(reader, JSON_TOKEN_COMMA, "a comma");
}

bool
http_json_element(JsonReader *reader)
{
	return http_json_next(reader, JSON_TOKEN_ARRAY_END);
}

bool
http_json_member(JsonReader *reader, JsonText *name)
{
	return http_json_next(reader, JSON_TOKEN_OBJECT_END) &&
		http_json_string(reader, name) &&
		http_json_expect(reader, JSON_TOKEN_COLON, "a colon");
}

bool
http_json_string(JsonReader *reader, JsonText *value)
{
	JsonLexContext *lex = reader->lex;

	if (http_json_peek(reader) != JSON_TOKEN_STRING)
		return http_json_unexpected(reader, "a string");
	value->start = lex->token_start + 1;
	value->len = lex->token_terminator - lex->token_start - 2;
	return http_json_advance(reader);
}

bool
http_json_float(JsonReader *reader, float *value)
{
	JsonLexContext *lex = reader->lex;

	if (http_json_peek(reader) != JSON_TOKEN_NUMBER)
		return http_json_unexpected(reader, "a number");
	if (!http_json_parse_float(lex->token_start, lex->token_terminator, value))
		return http_json_unexpected(reader, "a number within the range of a float");
	return http_json_advance(reader);
}

bool
http_json_integer(JsonReader *reader, int64 *value)
{
	JsonLexContext *lex = reader->lex;
	char	   *end;

	if (http_json_peek(reader) != JSON_TOKEN_NUMBER)
		return http_json_unexpected(reader, "an integer");
	errno = 0;
	*value = strtoll(lex->token_start, &end, 10);
	if (end != lex->token_terminator || errno != 0)
		return http_json_unexpected(reader, "an integer");
	return http_json_advance(reader);
}

/* The key and colon before a member's value. */
static bool
http_json_skip_key(JsonReader *reader)
{
	return http_json_expect(reader, JSON_TOKEN_STRING, "a string") &&
		http_json_expect(reader, JSON_TOKEN_COLON, "a colon");
}

/*
 * Consume one value of any kind.  'objects' remembers one bit per open level:
 * whether it is an object.
 */
bool
http_json_skip(JsonReader *reader)
{
	uint64		objects = 0;
	int			depth = 0;

	do
	{
		JsonTokenType type = http_json_peek(reader);

		/* A value is due. */
		switch (type)
		{
			case JSON_TOKEN_OBJECT_START:
			case JSON_TOKEN_ARRAY_START:
				if (depth == HTTP_JSON_MAX_DEPTH)
					return http_json_fail(reader, "nested too deeply");
				objects = (objects << 1) | (type == JSON_TOKEN_OBJECT_START);
				depth++;
				if (!http_json_advance(reader))
					return false;
				if (http_json_peek(reader) != ((objects & 1) ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END))
				{
					if ((objects & 1) && !http_json_skip_key(reader))
						return false;
					continue;
				}
				break;
			case JSON_TOKEN_STRING:
			case JSON_TOKEN_NUMBER:
			case JSON_TOKEN_TRUE:
			case JSON_TOKEN_FALSE:
			case JSON_TOKEN_NULL:
				if (!http_json_advance(reader))
					return false;
				break;
			default:
				return http_json_unexpected(reader, "a value");
		}

		/* After a value, or at the end of an empty container: close what ends here. */
		while (depth > 0 &&
			   http_json_peek(reader) == ((objects & 1) ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END))
		{
			objects >>= 1;
			depth--;
			if (!http_json_advance(reader))
				return false;
		}
		if (depth > 0)
		{
			if (!http_json_expect(reader, JSON_TOKEN_COMMA, "a comma"))
				return false;
			if ((objects & 1) && !http_json_skip_key(reader))
				return false;
		}
	} while (depth > 0);
	return true;
}

bool
http_json_count(JsonReader *reader, int64 *value)
{
	if (http_json_peek(reader) == JSON_TOKEN_NUMBER)
	{
		double		number = strtod(reader->lex->token_start, NULL);

		if (number >= 0 && number < 1e15)
			*value = (int64) number;
	}
	return http_json_skip(reader);
}

void
http_json_count_member(JsonReader *reader, const char *member, int64 *value)
{
	JsonText	name;

	if (http_json_peek(reader) != JSON_TOKEN_OBJECT_START)
	{
		http_json_skip(reader);
		return;
	}
	http_json_object(reader);
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, member))
			http_json_count(reader, value);
		else
			http_json_skip(reader);
	}
}

bool
http_json_members(const char *object, JsonMember **members, int *nmembers)
{
	JsonReader	reader;
	JsonText	name;
	int			allocated = 8;
	bool		ok;

	*members = palloc(allocated * sizeof(JsonMember));
	*nmembers = 0;
	if (object == NULL)
		return true;

	http_json_open(&reader, object, strlen(object));
	if (http_json_object(&reader))
	{
		while (http_json_member(&reader, &name))
		{
			JsonMember *member;

			if (*nmembers == allocated)
			{
				allocated *= 2;
				*members = repalloc(*members, allocated * sizeof(JsonMember));
			}
			member = &(*members)[(*nmembers)++];
			member->name = name;
			member->type = http_json_peek(&reader);
			member->value = reader.lex->token_start;
			if (!http_json_skip(&reader))
				break;
			member->value_len = reader.lex->prev_token_terminator - member->value;
		}
	}
	ok = http_json_finish(&reader);
	http_json_close(&reader);
	return ok;
}

bool
http_json_find(const char *const *objects, int nobjects, const char *name, JsonMember *member)
{
	bool		found = false;

	for (int i = nobjects - 1; i >= 0 && !found; i--)
	{
		JsonMember *members;
		int			nmembers;

		(void) http_json_members(objects[i], &members, &nmembers);
		for (int k = nmembers - 1; k >= 0 && !found; k--)
		{
			if (http_json_text_is(&members[k].name, name))
			{
				*member = members[k];
				found = true;
			}
		}
		pfree(members);
	}
	return found;
}

void
http_json_write_members(StringInfo out, const char *const *objects, int nobjects, const char *const *skip)
{
	for (int i = 0; i < nobjects; i++)
	{
		JsonMember *members;
		int			nmembers;

		(void) http_json_members(objects[i], &members, &nmembers);
		for (int k = 0; k < nmembers; k++)
		{
			char	   *name = http_json_text_copy(&members[k].name);
			JsonMember	other;
			bool		skipped = http_json_find(objects + i + 1, nobjects - i - 1, name, &other);

			for (int s = 0; skip[s] != NULL; s++)
				skipped |= strcmp(name, skip[s]) == 0;
			if (!skipped)
			{
				appendStringInfoString(out, ",\"");
				appendBinaryStringInfo(out, members[k].name.start, members[k].name.len);
				appendStringInfoString(out, "\":");
				appendBinaryStringInfo(out, members[k].value, members[k].value_len);
			}
			pfree(name);
		}
		pfree(members);
	}
}

void
http_json_append_utf8(StringInfo out, const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *) text;
	const unsigned char *end = s + len;
	const unsigned char *valid = s; /* start of the run not yet appended */

	while (s < end)
	{
		int			n = IS_HIGHBIT_SET(*s) ? pg_utf_mblen(s) : 1;

		if (n == 1 ? !IS_HIGHBIT_SET(*s) : (n <= end - s && pg_utf8_islegal(s, n)))
		{
			s += n;
			continue;
		}
		appendBinaryStringInfo(out, (const char *) valid, s - valid);
		appendBinaryStringInfo(out, REPLACEMENT, 3);
		valid = ++s;
	}
	appendBinaryStringInfo(out, (const char *) valid, s - valid);
}

/* Four hex digits, which the lexer has checked. */
static pg_wchar
hex4(const char *s)
{
	pg_wchar	value = 0;

	for (int i = 0; i < 4; i++)
		value = value * 16 + (s[i] <= '9' ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
	return value;
}

/*
 * De-escape \uXXXX at s (behind the 'u'); returns the bytes read.  A zero
 * or half a surrogate pair becomes U+FFFD.
 */
static size_t
append_unicode_escape(StringInfo out, const char *s, const char *end)
{
	pg_wchar	c = hex4(s);
	size_t		used = 4;
	unsigned char utf8[5] = {0};

	if (is_utf16_surrogate_first(c) && end - s >= 10 && s[4] == '\\' && s[5] == 'u' &&
		is_utf16_surrogate_second(hex4(s + 6)))
	{
		c = surrogate_pair_to_codepoint(c, hex4(s + 6));
		used = 10;
	}
	if (c == 0 || (c >= 0xD800 && c <= 0xDFFF))
		c = 0xFFFD;
	unicode_to_utf8(c, utf8);
	appendBinaryStringInfo(out, (char *) utf8, pg_utf_mblen(utf8));
	return used;
}

char *
http_json_text_copy(const JsonText *text)
{
	StringInfoData out;
	const char *s = text->start;
	const char *end = s + text->len;

	initStringInfo(&out);
	while (s < end)
	{
		const char *plain = s;

		while (s < end && *s != '\\')
			s++;
		http_json_append_utf8(&out, plain, s - plain);
		if (s == end)
			break;
		s++;
		switch (*s)
		{
			case 'b':
				appendStringInfoChar(&out, '\b');
				break;
			case 'f':
				appendStringInfoChar(&out, '\f');
				break;
			case 'n':
				appendStringInfoChar(&out, '\n');
				break;
			case 'r':
				appendStringInfoChar(&out, '\r');
				break;
			case 't':
				appendStringInfoChar(&out, '\t');
				break;
			case 'u':
				s += append_unicode_escape(&out, s + 1, end);
				break;
			default:
				appendStringInfoChar(&out, *s);
				break;
		}
		s++;
	}
	return out.data;
}

bool
http_json_text_is(const JsonText *text, const char *name)
{
	char	   *copy;
	bool		same;

	if (memchr(text->start, '\\', text->len) == NULL)
		return text->len == strlen(name) && memcmp(text->start, name, text->len) == 0;
	copy = http_json_text_copy(text);
	same = strcmp(copy, name) == 0;
	pfree(copy);
	return same;
}

void
http_json_write_string(StringInfo out, const char *text)
{
	http_json_write_string_len(out, text, strlen(text));
}

void
http_json_write_string_len(StringInfo out, const char *text, size_t len)
{
	const char *end = text + len;

	appendStringInfoChar(out, '"');
	while (text < end)
	{
		const char *plain = text;
		unsigned char c;

		while (text < end && (unsigned char) *text >= ' ' && *text != '"' && *text != '\\')
			text++;
		http_json_append_utf8(out, plain, text - plain);
		if (text == end)
			break;
		c = *text++;
		switch (c)
		{
			case '"':
			case '\\':
				appendStringInfoChar(out, '\\');
				appendStringInfoChar(out, c);
				break;
			case '\n':
				appendStringInfoString(out, "\\n");
				break;
			case '\r':
				appendStringInfoString(out, "\\r");
				break;
			case '\t':
				appendStringInfoString(out, "\\t");
				break;
			default:
				appendStringInfo(out, "\\u%04x", c);
				break;
		}
	}
	appendStringInfoChar(out, '"');
}

/*
 * Read the digits of a JSON number into 19 significant ones and a power of ten.
 * False for anything but one number.
 */
static bool
scan_number(const char *s, const char *end, uint64 *mantissa, int *exponent)
{
	uint64		m = 0;
	int			digits = 0;
	int			exp10 = 0;
	int			written = 0;
	bool		negative = false;
	const char *first = s;

	for (; s < end && isdigit((unsigned char) *s); s++)
	{
		if (digits < 19)
		{
			m = m * 10 + (*s - '0');
			digits += (m != 0);
		}
		else if (exp10 < 10000)
			exp10++;
	}
	if (s == first)
		return false;
	if (s < end && *s == '.')
	{
		for (s++; s < end && isdigit((unsigned char) *s); s++)
		{
			if (digits < 19 && exp10 > -10000)
			{
				m = m * 10 + (*s - '0');
				digits += (m != 0);
				exp10--;
			}
		}
	}
	if (s < end && (*s | 0x20) == 'e')
	{
		s++;
		if (s < end && (*s == '-' || *s == '+'))
			negative = (*s++ == '-');
		if (s == end)
			return false;
		for (; s < end && isdigit((unsigned char) *s); s++)
			if (written < 10000)
				written = written * 10 + (*s - '0');
	}
	*mantissa = m;
	*exponent = exp10 + (negative ? -written : written);
	return s == end;
}

/*
 * Exactly rounded.  The quick way computes in double from 19 digits and one exact
 * power of ten: at most a few units in the last place off.  Only when that
 * leaves open on which side of the midpoint between two floats the number lies, or
 * outside the normal range, strtof decides.
 */
bool
http_json_parse_float(const char *text, const char *end, float *value)
{
	static const double powers[] = {
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
	};
	bool		negative = (text < end && *text == '-');
	bool		counted = (end - text <= COUNTED_BYTES);
	uint64		mantissa;
	int			exponent;
	char	   *stop;

	if (!scan_number(text + negative, end, &mantissa, &exponent))
		return false;
	if (mantissa == 0 && counted)
	{
		*value = negative ? -0.0f : 0.0f;
		return true;
	}
	if (exponent >= -22 && exponent <= 22 && counted)
	{
		double		d = (double) mantissa;
		uint64		bits;
		int32		below;		/* the bits a float has no room for */

		d = exponent < 0 ? d / powers[-exponent] : d * powers[exponent];
		memcpy(&bits, &d, sizeof(bits));
		below = (int32) (bits & 0x1FFFFFFF) - 0x10000000;
		if ((below > 8 || below < -8) && d >= FLT_MIN && d < FLT_MAX)
		{
			*value = (float) (negative ? -d : d);
			return true;
		}
	}
	/* The byte behind a number is never part of one: the text around it is JSON. */
	errno = 0;
	*value = strtof(text, &stop);
	return stop == end && isfinite(*value);
}

/*
 * http_answer_test.c
 *		The parsers of src/http, without a server: numbers against strtof, JSON
 *		good and evil, answers of each dialect, messages, redaction.  Prints TAP.
 *
 * unit-frontend: http_json http_message embedding_answer rerank_answer chat_answer dialect_openai
 * unit-frontend: dialect_ollama dialect_tei dialect_cohere
 */
#include "postgres_fe.h"

#include <math.h>

#include "http/chat_answer.h"
#include "http/embedding_dialect.h"
#include "http/http_message.h"
#include "http/rerank_answer.h"

#include "tap.h"

static void
is(const char *got, const char *wanted, const char *what)
{
	ok(strcmp(got, wanted) == 0, what);
	if (strcmp(got, wanted) != 0)
		printf("# got    %s\n# wanted %s\n", got, wanted);
}

/* ---- numbers ---- */

/* xorshift: the same numbers in every run */
static uint64
random_bits(void)
{
	static uint64 state = 0x9E3779B97F4A7C15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* With n zeros in the middle; valid until the next call. */
static const char *
long_number(const char *start, int n, const char *end)
{
	static char text[21000];

	snprintf(text, sizeof(text), "%s%0*d%s", start, n, 0, end);
	return text;
}

static bool
same_as_strtof(const char *text)
{
	float		mine;
	float		theirs = strtof(text, NULL);
	bool		good = http_json_parse_float(text, text + strlen(text), &mine);

	if (!isfinite(theirs))
		return !good;
	if (good && memcmp(&mine, &theirs, sizeof(float)) == 0)
		return true;
	printf("# %s: %.9g, strtof %.9g\n", text, good ? mine : NAN, theirs);
	return false;
}

static void
test_numbers(void)
{
	static const char *const formats[] = {"%.9g", "%.17g", "%.6f", "%.25f", "%.3e", "%.20e", "%.1f", "%g"};
	static const char *const edges[] = {
		"0", "-0", "0.0", "-0.0e5", "1", "0.1", "1e22", "1e23", "1e38", "3.4028234663852886e38",
		"3.4028235677973366e38", "3.4028235677973362e38", "3.4028236e38", "1e39", "-1e39", "1e400",
			"1e-400",
		"1e-45", "7e-46", "7.1e-46", "1.17549435e-38", "1.1754943e-38", "1.1754942e-38", "16777217",
		"16777217.0000000001", "16777219", "33554434.5", "0.500000059604644775390625",
		"0.5000000596046447753906250000000000000000001", "0.50000005960464477539062499999999999999999",
		"1.00000005960464477539062500", "1.000000059604644775390625000000000000000000000000001",
		"123456789012345678901234567890", "0.00000000000000000000000000000000000000000000123",
		"1e99999999999999999999", "1e-99999999999999999999", "0e99999999999999999999",
		"100000000000000000000000000000000000000000000000000e-40",
		"0.000000000000000000000000000000000000000000000000001e40"
	};
	static const char *const wrong[] = {
		"", "-", ".", "1.2.3", "1e", "1e+", "0x10", "inf", "nan", "Infinity", "1 ", " 1", "--1", "+1",
			"1f", "1,5"
	};
	char		text[400];
	float		value;
	bool		good = true;

	for (size_t i = 0; i < lengthof(edges); i++)
		good &= same_as_strtof(edges[i]);
	ok(good, "numbers at the edges");

	good = true;
	for (int i = 0; i < 300000; i++)
	{
		uint64		bits = random_bits();
		uint32		low = (uint32) bits;
		float		f;
		double		d;

		memcpy(&f, &low, sizeof(f));
		if (!isfinite(f))
			continue;
		snprintf(text, sizeof(text), formats[i % lengthof(formats)], f);
		good &= same_as_strtof(text);
		/* A number between two floats, and one next to the midpoint. */
		d = ((double) f + (double) nextafterf(f, INFINITY)) / 2;
		snprintf(text, sizeof(text), "%.17g", isfinite(d) ? d : 0.5);
		good &= same_as_strtof(text);
		d = isfinite(d) ? nextafter(d, (bits >> 40) & 1 ? 1e300 : -1e300) : 0.5;
		snprintf(text, sizeof(text), "%.40g", d);
		good &= same_as_strtof(text);
		/* The usual range of embeddings. */
		snprintf(text, sizeof(text), "%.18f", ((double) (bits >> 11) / (1LL << 53) - 0.5) / 3);
		good &= same_as_strtof(text);
	}
	ok(good, "over a million random numbers are exactly strtof's");

	/* more places than are counted: infinite, 1, 0.1 and 0 */
	ok(same_as_strtof(long_number("0.", 9999, "1e100000")) &&
	   same_as_strtof(long_number("0.", 10000, "1e10001")) &&
	   same_as_strtof(long_number("1", 20000, "e-20001")) && same_as_strtof(long_number("-0.", 20000, "")),
	   "numbers of thousands of zeros");

	good = true;
	for (size_t i = 0; i < lengthof(wrong); i++)
		good &= !http_json_parse_float(wrong[i], wrong[i] + strlen(wrong[i]), &value) || value != value;
	ok(good, "what is no number is refused");
}

/* ---- JSON ---- */

static bool
skips(const char *text)
{
	JsonReader	reader;
	bool		good;

	http_json_open(&reader, text, strlen(text));
	http_json_skip(&reader);
	good = http_json_finish(&reader);
	http_json_close(&reader);
	return good;
}

static void
test_json(void)
{
	static const char *const good[] = {
		"1", "\"\"", "null", "true", "[]", "{}", " [ ] ", "[1]", "[[],{}]",
			"{\"a\":{\"b\":[1,{\"c\":null}]}}",
		"[1,2,[3,[4]],5]", "{\"a\":1,\"b\":[],\"c\":{}}", "\"\\u00e4\\n\"", "[{},[],{}]", "-0.5e-3"
	};
	static const char *const bad[] = {
		"", " ", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
			"{1:2}", "[1}",
		"{\"a\":1]", "[1 2]", "{\"a\" 1}", "1 2", "nul", "\"", "\"\\x\"", "\"\\u12\"", "01", "1.", ".5",
			"+1", "'a'",
		"[[1]", "{\"a\":{}", "NaN", "[1]]", "{}{}", "\"\n\"", "\xff"
	};
	StringInfoData deep;

	for (size_t i = 0; i < lengthof(good); i++)
		ok(skips(good[i]), good[i]);
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!skips(bad[i]), psprintf("not JSON: %s", i == lengthof(bad) - 2 ? "a raw newline" : bad[i]));

	for (int depth = HTTP_JSON_MAX_DEPTH; depth <= HTTP_JSON_MAX_DEPTH + 1; depth++)
	{
		for (int kind = 0; kind < 2; kind++)
		{
			initStringInfo(&deep);
			for (int i = 0; i < depth; i++)
				appendStringInfoString(&deep, kind ? "{\"a\":" : "[");
			appendStringInfoString(&deep, "1");
			for (int i = 0; i < depth; i++)
				appendStringInfoChar(&deep, kind ? '}' : ']');
			ok(skips(deep.data) == (depth <= HTTP_JSON_MAX_DEPTH), psprintf("%d levels", depth));
		}
	}
}

static char *
unescaped(const char *text)
{
	JsonText json = {text, strlen(text)};

	return http_json_text_copy(&json);
}

static char *
written(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	http_json_write_string(&out, text);
	return out.data;
}

static void
test_strings(void)
{
	is(unescaped("a\\\"\\\\\\/\\b\\f\\n\\r\\tz"), "a\"\\/\b\f\n\r\tz", "simple escapes");
	is(unescaped("\\u00e4\\u20AC"), "\xc3\xa4\xe2\x82\xac", "unicode escapes");
	is(unescaped("\\ud83c\\udfb5!"), "\xf0\x9f\x8e\xb5!", "a surrogate pair");
	is(unescaped("\\ud83c!\\udfb5\\ud83c\\ud83c"), "\xef\xbf\xbd!\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
	   "halves of one");
	is(unescaped("a\\u0000b"), "a\xef\xbf\xbd" "b", "a zero");
	is(unescaped("\xff" "a\xc3\xe2\x82"), "\xef\xbf\xbd" "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
	   "invalid UTF-8");
	is(written("a\"\\\n\x01\x7f/\xc3\xa4"), "\"a\\\"\\\\\\n\\u0001\x7f/\xc3\xa4\"", "writing");
	is(written("\xc0\x80\xed\xa0\x80z\xf5"),
	   "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\"",
	   "writing invalid UTF-8");
}

/* ---- answers ---- */

/* The vectors as text, or "! " and the problem. */
static char *
parsed(const char *provider, const char *body, int ninputs, int dimensions)
{
	EmbeddingAnswer answer = {.ninputs = ninputs, .dimensions = dimensions};
	StringInfoData out;

	if (!embedding_parse(embedding_dialect(provider), body, strlen(body), &answer))
		return psprintf("! %s", answer.problem);
	initStringInfo(&out);
	for (int i = 0; i < ninputs * answer.dimensions; i++)
		appendStringInfo(&out, "%s%g", i == 0 ? "" : i % answer.dimensions ? "," : " ", answer.values[i]);
	if (answer.total_tokens >= 0)
		appendStringInfo(&out, " (%lld)", (long long) answer.total_tokens);
	return out.data;
}

typedef struct AnswerCase
{
	const char *provider;
	const char *body;
	int			ninputs;
	int			dimensions;
	const char *wanted;
} AnswerCase;

/* AACAPwAAAMA= is 1, -2; AAAAAAAAgH8= is 0, infinity; AADAfw== is NaN. */
static const AnswerCase answers[] = {
	{"openai", "{\"data\":[{\"index\":0,\"embedding\":[1,-2]}]}", 1, 0, "1,-2"},
	{"openai", "{\"data\":[{\"index\":1,\"embedding\":[1]},{\"index\":0,\"embedding\":[2]}]}", 2, 0, "2 1"},
	{"openai", "{\"data\":[{\"embedding\":[1],\"index\":1},{\"embedding\":[2],\"index\":0}]}", 2, 1, "2 1"},
	{"openai", "{\"data\":[{\"embedding\":[1]},{\"embedding\":[2]}],\"usage\":{\"total_tokens\":7}}", 2,
		1, "1 2 (7)"},
	{"openai", "{\"usage\":{\"total_tokens\":\"x\"},\"data\":[{\"embedding\":[1]}]}", 1, 1, "1"},
	{"openai", "{\"usage\":null,\"d\\u0061ta\":[{\"embedding\":[1]}]}", 1, 1, "1"},
	{"openai", "{\"data\":[{\"embedding\":\"AACAPwAAAMA=\"}]}", 1, 0, "1,-2"},
	{"openai", "{\"data\":[{\"embedding\":\"AACAPwAAAMA\"}]}", 1, 0, "! a vector is not base64 of floats"},
	{"openai", "{\"data\":[{\"embedding\":\"AACAPwAA\"}]}", 1, 0, "! a vector is not base64 of floats"},
	{"openai", "{\"data\":[{\"embedding\":\"AAAAAAAAgH8=\"}]}", 1, 0,
		"! a vector has a value that is not finite"},
	{"openai", "{\"data\":[{\"embedding\":\"AADAfw==\"}]}", 1, 0,
		"! a vector has a value that is not finite"},
	{"openai", "{\"data\":[{\"embedding\":\"\"}]}", 1, 0, "! a vector is empty"},
	{"openai", "{\"data\":[{\"embedding\":\"\\/\\u002f\\u002F+QAA\\/\\/\\/\"}]}", 1, 0,
		"! a vector is not base64 of floats"},
	{"openai", "{\"data\":[{\"embedding\":\"\\/\\/\\/+PgAA\\u0067D8=\"}]}", 1, 0, "0.498047,1"},
	{"openai", "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"embedding\":[2]}]}", 2, 0,
		"! some vectors have an index and some have none"},
	{"openai", "{\"data\":[{\"index\":0,\"index\":1,\"embedding\":[1]}]}", 1, 0,
		"! two indexes for one vector"},
	{"openai", "{\"data\":[{\"index\":0,\"embedding\":[1],\"embedding\":[2]}]}", 2, 0,
		"! two vectors in the place of one"},
	{"openai", "{\"data\":[{\"index\":0}]}", 1, 0, "! no vector in the place of one"},
	{"openai", "{\"data\":[{\"index\":1,\"embedding\":[1]}]}", 1, 0, "! a vector for input 1 of 1"},
	{"openai", "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}", 2, 0,
		"! two vectors for input 0"},
	{"openai", "{\"data\":[{\"embedding\":[1]}],\"data\":[{\"embedding\":[2]}]}", 1, 0,
		"! more than 1 vectors for 1 inputs"},
	{"openai", "{\"data\":[]}", 1, 0, "! 0 vectors for 1 inputs"},
	{"openai", "{}", 1, 0, "! 0 vectors for 1 inputs"},
	{"openai", "[]", 1, 0, "! an object expected at byte 1"},
	{"openai", "", 1, 0, "! ends where an object was expected"},
	{"openai", "{\"data\":[{\"embedding\":[1,null]}]}", 1, 0, "! a number expected at byte 26"},
	{"openai", "{\"data\":[{\"embedding\":[1e39]}]}", 1, 0,
		"! a number within the range of a float expected at byte 24"},
	{"openai", "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":[1]}]}", 2, 0,
		"! a vector has 1 dimensions, not 2"},
	{"openai", "{\"data\":[{\"embedding\":[1,2]}]}", 1, 1, "! a vector has more than 1 dimensions"},
	{"openai", "{\"data\":[{\"embedding\":[1]}]} x", 1, 1, "! not valid JSON near byte 30"},
	{"ollama", "{\"embeddings\":[[1],[2]],\"prompt_eval_count\":3}", 2, 0, "1 2 (3)"},
	{"ollama", "{\"embedding\":[1]}", 1, 0, "! 0 vectors for 1 inputs"},
	{"tei", "[[1e-3],[2]]", 2, 0, "0.001 2"},
	{"tei", "[[1],[2],[3]]", 2, 0, "! more than 2 vectors for 2 inputs"},
	{"tei", "[[1],[]]", 2, 0, "! a vector is empty"},
	{"tei", "[[1],[2]", 2, 0, "! ends where a comma was expected"},
	{"cohere",
		"{\"embeddings\":{\"float\":[[1]],\"int8\":[[7]]},"
		"\"meta\":{\"billed_units\":{\"input_tokens\":2}}}", 1, 0,
		"1 (2)"},
	{"cohere", "{\"embeddings\":[[1]],\"meta\":[]}", 1, 0, "1"},
	{"cohere", "{\"embeddings\":{\"int8\":[[1]]}}", 1, 0, "! 0 vectors for 1 inputs"},
};

static void
test_answers(void)
{
	StringInfoData wide;

	for (size_t i = 0; i < lengthof(answers); i++)
	{
		const AnswerCase *c = &answers[i];

		is(parsed(c->provider, c->body, c->ninputs, c->dimensions), c->wanted, c->body);
	}

	for (int n = EMBEDDING_MAX_DIMENSIONS; n <= EMBEDDING_MAX_DIMENSIONS + 1; n++)
	{
		initStringInfo(&wide);
		appendStringInfoString(&wide, "[[0");
		for (int i = 1; i < n; i++)
			appendStringInfoString(&wide, ",0");
		appendStringInfoString(&wide, "]]");
		ok((parsed("tei", wide.data, 1, 0)[0] == '!') == (n > EMBEDDING_MAX_DIMENSIONS),
		   psprintf("%d dimensions", n));
	}
}

static void
test_requests(void)
{
	static const char *const inputs[] = {"a\"b", "c"};
	EmbeddingRequest request = {
		.model = "m", .inputs = inputs, .ninputs = 2, .query = true,
		.parameters = {
			"{\"a\": 1, \"b\": [2], \"prefix\": \"x\", \"input\": 0, \"headers\": {}}",
			"{\"b\": {\"c\": null}, \"prefix\": \"q\\n: \"}"
		},
	};
	static const char *const wanted[] = {
		"{\"model\":\"m\",\"input\":[\"q\\n: a\\\"b\",\"q\\n: c\"],\"a\":1,\"b\":{\"c\": null}",
		"{\"model\":\"m\",\"input\":[\"q\\n: a\\\"b\",\"q\\n: c\"],\"a\":1,\"b\":{\"c\": null}",
		"{\"inputs\":[\"q\\n: a\\\"b\",\"q\\n: c\"],\"a\":1,\"input\":0,\"b\":{\"c\": null}",
		"{\"model\":\"m\",\"embedding_types\":[\"float\"],\"texts\":[\"q\\n: a\\\"b\",\"q\\n: c\"],"
		"\"input_type\":\"search_query\",\"a\":1,\"input\":0,\"b\":{\"c\": null}",
	};
	static const char *const providers[] = {"openai", "ollama", "tei", "cohere"};

	for (size_t i = 0; i < lengthof(providers); i++)
	{
		StringInfoData out;

		initStringInfo(&out);
		embedding_dialect(providers[i])->write(&out, &request);
		is(out.data, wanted[i], psprintf("%s request", providers[i]));
	}
	ok(embedding_dialect("nothing") == NULL, "an unknown provider");
}

static char *
reranked(const char *body, int ndocuments)
{
	StringInfoData out;
	RerankScore *scores;
	char	   *problem;
	int			n;

	scores = rerank_parse(body, strlen(body), ndocuments, &n, &problem);
	if (scores == NULL)
		return psprintf("! %s", problem);
	initStringInfo(&out);
	for (int i = 0; i < n; i++)
		appendStringInfo(&out, "%s%d:%g", i ? " " : "", scores[i].index, scores[i].score);
	return out.data;
}

static char *
chatted(const char *body)
{
	int64		tokens;
	char	   *problem;
	char	   *content = chat_parse(body, strlen(body), &tokens, &problem);

	return content ? content : psprintf("! %s", problem);
}

static void
test_rerank_and_chat(void)
{
	int		   *values;
	int			n;

	is(reranked("[{\"index\":0,\"score\":0.5},{\"index\":1,\"score\":2}]", 2), "1:2 0:0.5", "rerank, bare");
	is(reranked("{\"results\":[{\"relevance_score\":1,\"index\":1,\"document\":{\"text\":\"\"}},"
				"{\"index\":0,\"relevance_score\":1}],\"meta\":{}}", 2), "0:1 1:1",
	   "rerank, ties by index");
	is(reranked("{\"results\":[{\"index\":2,\"score\":1}]}", 2), "! a score for an unknown document",
	   "rerank, unknown");
	is(reranked("[{\"index\":-1,\"score\":1}]", 2), "! a score for no document", "rerank, negative");
	is(reranked("[{\"index\":0,\"score\":1},{\"index\":0,\"score\":1}]", 2),
	   "! two scores for one document", "rerank, twice");
	is(reranked("[{\"index\":0}]", 2), "! a document without a score", "rerank, no score");
	is(reranked("[{\"index\":0,\"score\":null}]", 2), "! a number expected at byte 21", "rerank, null");
	is(reranked("{\"results\":[],\"data\":[]}", 2), "! two lists of scores", "rerank, two lists");
	is(reranked("{}", 2), "! no list of scores", "rerank, none");

	is(chatted("{\"choices\":[{\"message\":"
			   "{\"content\":\" {\\\"drop\\\":[1]} \"},\"finish_reason\":\"stop\"}]}"),
	   "{\"drop\":[1]}", "chat");
	is(chatted("{\"choices\":[{\"message\":{\"content\":\"{}\"},\"finish_reason\":\"length\"}]}"),
	   "! the message was cut off", "cut off");
	is(chatted("{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"no\"}}]}"),
	   "! the model refused to answer", "refusal");
	is(chatted("{\"choices\":[]}"), "! no message in the answer", "no choice");
	is(chatted("{\"choices\":[{\"message\":{\"content\":\"```\"}}]}"),
	   "! the message is not a JSON object", "half a fence");
	is(chatted("{\"choices\":[{\"message\":{\"content\":\"```{}```\"}}]}"),
	   "! the message is not a JSON object", "a fence in one line");
	is(chatted("{\"choices\":[{\"message\":{\"content\":\"```\\n{}\\n```\"}}]}"), "\n{}\n", "a fence");

	ok(chat_integers("{\"a\":{},\"drop\":[1,-2,3]}", "drop", &values, &n) && n == 3 && values[1] == -2,
	   "integers");
	ok(!chat_integers("{\"drop\":[1.5]}", "drop", &values, &n), "no integers");
	ok(!chat_integers("{\"drop\":[1],\"drop\":[2]}", "drop", &values, &n), "integers twice");
	ok(!chat_integers("{}", "drop", &values, &n), "no such field");
}

/* ---- messages ---- */

static void
test_messages(void)
{
	static const struct
	{
		const char *body;
		const char *wanted;
	}			cases[] = {
		{"{\"error\":{\"type\":\"x\",\"message\":\"too\\n  long\"}}", "too long"},
		{"{\"error\":\"bad\"}", "bad"},
		{"{\"message\":\"bad\"}", "bad"},
		{"{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"field required\"}]}", "field required"},
		{"{\"detail\":\"bad\",\"error\":\"worse\"}", "bad"},
		{"{\"code\":7}", "{\"code\":7}"},
		{"<html>\n <b>502</b>\t</html>", "<html> <b>502</b> </html>"},
		{"{\"error\":\"cut", "{\"error\":\"cut"},
		{"\x01\xff\x7f" "a", "\xef\xbf\xbd a"},
		{"", ""},
	};
	char		text[] = "a\xc3\xa4\xc3\xa4\xc3\xa4z";

	for (size_t i = 0; i < lengthof(cases); i++)
		is(http_service_message(cases[i].body, strlen(cases[i].body)), cases[i].wanted,
		   psprintf("message %zu", i));

	is(http_redact("key sk-12345678 and sk-1234567, k-123456", "sk-12345678"), "key *** and ***, ***",
	   "redaction");
	is(http_redact("sk-1234", "sk-12345678"), "sk-1234", "too little to be a secret");
	is(http_redact("the pin is 123!", "123"), "the pin is ***!", "a short secret");
	is(http_redact("nothing", NULL), "nothing", "no secret");
	http_clip(text, 7);
	is(text, "a\xc3\xa4...", "clipped between characters");
	http_clip(text, 7);
	is(text, "a\xc3\xa4...", "short enough");

	ok(http_parse_delay("2", 1000) == 2000 && http_parse_delay("0.5", 1000) == 500 &&
	   http_parse_delay("1500", 1) == 1500,
	   "delays");
	ok(http_parse_delay("-1", 1000) == -1 && http_parse_delay("", 1) == -1 && http_parse_delay("2 s",
																							   1) == -1 &&
	   http_parse_delay("nan", 1) == -1 && http_parse_delay("1e300", 1000) == 86400000, "no delays");
}

int
main(void)
{
	test_numbers();
	test_json();
	test_strings();
	test_answers();
	test_requests();
	test_rerank_and_chat();
	test_messages();
	return tap_done();
}

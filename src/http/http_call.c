/*
 * http_call.c
 *		One POST of a JSON body: bounded answer, finite time, nothing followed.
 */
#include "postgres.h"

#include "http/http_internal.h"
#include "http/http_json.h"
#include "http/http_message.h"
#include "http/http_url.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#define DEFAULT_TIMEOUT_MS			30000
#define MAX_TIMEOUT_MS				3600000
#define DEFAULT_CONNECT_TIMEOUT_MS	5000
#define DEFAULT_MAX_RESPONSE_BYTES	(64 * 1024 * 1024)

/* The most an answer may have, whatever the setting: a palloc'd string must hold it. */
#define MAX_MAX_RESPONSE_BYTES		(MaxAllocSize / 2)

/* Of the service's own words, how much is shown. */
#define SERVICE_WORDS_BYTES			200

/* What a header's name may be made of. */
#define TOKEN_CHARACTERS \
	"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* A longer body of an answer that looked like a success is not searched for words. */
#define MAX_WORDY_BODY				(16 * 1024)

/* ---- what it came to ---- */

static HttpOutcome
classify_status(int status)
{
	if (status >= 200 && status <= 299)
		return HTTP_OK;
	switch (status)
	{
		case 400:
		case 413:
		case 422:
			return HTTP_REJECTED;
		case 429:
		case 503:
		case 529:
			return HTTP_THROTTLED;
		case 408:
		case 424:				/* text-embeddings-inference: the model failed */
		case 425:
			return HTTP_RETRY;
		default:
			return status >= 500 ? HTTP_RETRY : status >= 300 ? HTTP_REFUSED : HTTP_GARBAGE;
	}
}

static HttpOutcome
classify_failure(CURLcode code)
{
	switch (code)
	{
		case CURLE_URL_MALFORMAT:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
			return HTTP_REFUSED;
		case CURLE_UNSUPPORTED_PROTOCOL:	/* the URL has been checked: an answer that is not HTTP/1 or 2 */
		case CURLE_WEIRD_SERVER_REPLY:
			return HTTP_GARBAGE;
		default:
			return HTTP_RETRY;
	}
}

/*
 * libcurl has a limit of its own on one header line.  What it reports is a lack of memory; from 8.6 on, that
 * something is too large.
 */
static bool
header_too_long(const HttpCall *call, CURLcode code)
{
	bool		too_large = code == CURLE_OUT_OF_MEMORY;

#if LIBCURL_VERSION_NUM >= 0x080600
	too_large |= code == CURLE_TOO_LARGE;
#endif
	return too_large && call->header_bytes > 0 && call->data == NULL;
}

/* The reason for ending it ourselves, or NULL. */
static const char *
abort_text(HttpCall *call, HttpOutcome *outcome)
{
	switch (call->abort_reason)
	{
		case HTTP_ABORT_TOO_LARGE:
			*outcome = HTTP_GARBAGE;
			return "the answer is larger than the limit";
		case HTTP_ABORT_HEADERS:
			*outcome = HTTP_GARBAGE;
			return "the answer's headers are too long";
		case HTTP_ABORT_TOO_SLOW:
			*outcome = HTTP_RETRY;
			return "the answer comes too slowly";
		case HTTP_ABORT_MEMORY:
			*outcome = HTTP_RETRY;
			return "out of memory";
		case HTTP_ABORT_ADDRESS:
			*outcome = HTTP_REFUSED;
			return "the name leads to an address of this machine or of a private network";
		default:
			return NULL;
	}
}

/*
 * Bring a line to the server's encoding without a catalog: what is not ASCII may
 * be lost.  It is UTF-8, but for a character that libcurl or a buffer has cut.
 */
static char *
showable(HttpCall *call, const char *line)
{
	StringInfoData utf8;
	char	   *text;

	initStringInfo(&utf8);
	http_json_append_utf8(&utf8, line, strlen(line));
	text = http_redact(utf8.data, call->target.secret);
	http_clip(text, HTTP_ERROR_BYTES);
	if (GetDatabaseEncoding() != PG_UTF8)
		for (char *s = text; *s != '\0'; s++)
			if (IS_HIGHBIT_SET(*s))
				*s = '?';
	return text;
}

/* A line about an answer that is an error by its status. */
static char *
status_text(HttpCall *call, int status)
{
	char	   *words;

	if (status >= 300 && status <= 399)
		return psprintf("HTTP %d from %s: redirects are not followed", status, call->host);
	if (status < 200)
		return psprintf("no HTTP answer from %s", call->host);
	words = http_redact(http_service_message(call->answer.body, call->answer.body_len), call->target.secret);
	http_clip(words, SERVICE_WORDS_BYTES);
	return words[0] == '\0' ? psprintf("HTTP %d from %s", status, call->host) :
		psprintf("HTTP %d from %s: %s", status, call->host, words);
}

void
http_call_finish(HttpCall *call, CURLcode code)
{
	HttpAnswer *answer = &call->answer;
	MemoryContext old;
	HttpOutcome outcome;
	curl_off_t	elapsed_us = 0;
	long		status = 0;
	const char *reason;
	char	   *error = NULL;

	/* First give libcurl's memory back, then allocate. */
	if (call->easy != NULL)
	{
		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(call->easy, CURLINFO_TOTAL_TIME_T, &elapsed_us);
		curl_easy_cleanup(call->easy);
		call->easy = NULL;
	}
	answer->status = (int) status;
	answer->elapsed_us = elapsed_us;
	answer->retry_after_ms = call->retry_after_ms;
	answer->outcome = HTTP_RETRY;
	if (call->data != NULL)
	{
		call->data[call->data_len] = '\0';
		answer->body = call->data;
		answer->body_len = call->data_len;
	}

	if (call->abort_reason == HTTP_ABORT_NONE && header_too_long(call, code))
		call->abort_reason = HTTP_ABORT_HEADERS;

	old = MemoryContextSwitchTo(call->context);
	if (code == CURLE_OK || call->abort_reason == HTTP_ABORT_ENOUGH)
	{
		outcome = classify_status(answer->status);
		if (outcome != HTTP_OK)
			error = status_text(call, answer->status);
	}
	else if ((reason = abort_text(call, &outcome)) != NULL)
		error = psprintf("request to %s: %s", call->host, reason);
	else
	{
		outcome = classify_failure(code);
		answer->status = 0;
		error = psprintf("request to %s failed: %s", call->host,
						 call->curl_error[0] ? call->curl_error : curl_easy_strerror(code));
	}
	answer->error = error ? showable(call, error) : NULL;
	answer->outcome = outcome;
	MemoryContextSwitchTo(old);
}

/* ---- life ---- */

/* Runs when the call's context goes, also after the client is gone. */
static void
call_callback(void *arg)
{
	HttpCall   *call = arg;

	if (call->client != NULL)
		http_client_forget(call->client, call);
	curl_slist_free_all(call->headers);
	call->headers = NULL;
}

/* The client went first. */
void
http_call_detach(HttpCall *call)
{
	if (call->done)
		return;
	call->done = true;
	call->answer.outcome = HTTP_RETRY;
	call->answer.error = "the client was closed";
}

static void
add_header(HttpCall *call, const char *line)
{
	struct curl_slist *headers = curl_slist_append(call->headers, line);

	if (headers == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	call->headers = headers;
}

static bool
has_control_characters(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char) *text < ' ' || *text == 0x7F)
			return true;
	return false;
}

/* Headers whose meaning is the protocol's own. */
static bool
header_is_reserved(const char *name)
{
	static const char *const reserved[] = {
		"connection", "content-length", "content-type", "expect", "host", "te", "trailer",
		"transfer-encoding", "upgrade"
	};

	for (size_t i = 0; i < lengthof(reserved); i++)
		if (pg_strcasecmp(name, reserved[i]) == 0)
			return true;
	return name[0] == '\0' || strspn(name, TOKEN_CHARACTERS) != strlen(name);
}

/* The value with the secret in its place; tells whether there was a place. */
static char *
fill_secret(const char *value, const char *secret, bool *filled)
{
	const char *place = strstr(value, "{secret}");

	if (place == NULL || secret == NULL)
		return pstrdup(value);
	*filled = true;
	return psprintf("%.*s%s%s", (int) (place - value), value, secret, place + strlen("{secret}"));
}

/* The members of an object of headers; an error for one that cannot be a header. */
static int
read_headers(const char *object, JsonMember **members)
{
	int			nmembers;

	if (!http_json_members(object, members, &nmembers))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("HTTP headers must be a JSON object"));
	for (int i = 0; i < nmembers; i++)
	{
		JsonMember *member = &(*members)[i];
		JsonText	text = {member->value + 1, member->value_len - 2};
		char	   *name = http_json_text_copy(&member->name);

		if (member->type != JSON_TOKEN_STRING || header_is_reserved(name) ||
			has_control_characters(http_json_text_copy(&text)))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid HTTP header \"%s\"", name));
	}
	return nmembers;
}

void
http_check_headers(const char *object)
{
	JsonMember *members;

	(void) read_headers(object, &members);
}

static void
add_headers(HttpCall *call, const char *object)
{
	const char *secret = call->target.secret;
	bool		authorized = false;
	JsonMember *members;
	int			nmembers;

	if (secret != NULL && has_control_characters(secret))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the secret contains control characters"));
	nmembers = read_headers(object, &members);

	add_header(call, "Content-Type: application/json");
	add_header(call, "Accept: application/json");
	add_header(call, "Expect:");	/* no "100-continue": it costs a round trip */
	for (int i = 0; i < nmembers; i++)
	{
		JsonText	text = {members[i].value + 1, members[i].value_len - 2};
		char	   *name = http_json_text_copy(&members[i].name);
		char	   *value = http_json_text_copy(&text);

		if (pg_strcasecmp(name, "authorization") == 0)
			authorized = true;
		value = fill_secret(value, secret, &authorized);
		/* libcurl's way to send a header without a value ends in a semicolon. */
		add_header(call, value[0] ? psprintf("%s: %s", name, value) : psprintf("%s;", name));
	}
	if (secret != NULL && !authorized)
		add_header(call, psprintf("Authorization: Bearer %s", secret));
}

/* Forget what came, if anything did. */
static void
reset_answer(HttpCall *call)
{
	call->data = NULL;
	call->data_len = call->data_allocated = 0;
	call->data_limit = call->target.max_response_bytes;
	call->header_bytes = 0;
	call->retry_after_ms = -1;
	call->first_byte_us = 0;
	call->abort_reason = HTTP_ABORT_NONE;
	call->curl_error[0] = '\0';
	memset(&call->answer, 0, sizeof(call->answer));
	call->answer.outcome = HTTP_PENDING;
	call->answer.requests = ++call->requests;
	call->answer.body = "";
	call->answer.retry_after_ms = -1;
}

static char *
copy_string(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* The target with strings of our own and limits that are all finite. */
static void
copy_target(HttpCall *call, const HttpTarget *from)
{
	HttpTarget *to = &call->target;

	*to = *from;
	to->url = pstrdup(from->url);
	to->secret = copy_string(from->secret);
	to->ca_file = copy_string(from->ca_file);
	to->proxy = copy_string(from->proxy);
	to->headers = NULL;
	to->timeout_ms = from->timeout_ms > 0 ? Min(from->timeout_ms, MAX_TIMEOUT_MS) : DEFAULT_TIMEOUT_MS;
	if (from->connect_timeout_ms <= 0)
		to->connect_timeout_ms = DEFAULT_CONNECT_TIMEOUT_MS;
	if (from->max_response_bytes <= 0)
		to->max_response_bytes = DEFAULT_MAX_RESPONSE_BYTES;
	to->max_response_bytes = Min(to->max_response_bytes, (int64) MAX_MAX_RESPONSE_BYTES);

	call->host = http_url_host(to->url);
	/* Behind a proxy the only address seen is the proxy's, which is the administrator's choice. */
	call->public_only = !to->private_addresses && to->proxy == NULL;
}

/* ---- the optional tail ---- */

/*
 * What is known of a service's liking of a tail, by a hash of URL, model and tail.
 * A collision forgets, which costs one more request.
 */
typedef enum TailState
{
	TAIL_UNKNOWN,
	TAIL_ACCEPTED,
	TAIL_REFUSED,
} TailState;

static struct
{
	uint64		key;
	TailState	state;
}			tail_memories[64];

static uint64
tail_key(const HttpCall *call)
{
	const char *const parts[] = {call->target.url, call->body.model, call->body.tail_name};
	uint64		key = 0;

	for (size_t i = 0; i < lengthof(parts); i++)
		if (parts[i] != NULL)
			key = hash_bytes_extended((const unsigned char *) parts[i], (int) strlen(parts[i]), key);
	return key;
}

static TailState *
tail_memory(const HttpCall *call)
{
	size_t		slot = call->tail_key % lengthof(tail_memories);

	if (tail_memories[slot].key != call->tail_key)
	{
		tail_memories[slot].key = call->tail_key;
		tail_memories[slot].state = TAIL_UNKNOWN;
	}
	return &tail_memories[slot].state;
}

static void
drop_tail(HttpCall *call)
{
	call->body.text[call->body.tail] = '}';
	call->body.len = call->body.tail + 1;
	call->body.tail = 0;
	call->tail_dropped = true;
}

/*
 * Learn from a finished call; if the tail may be why it was rejected, send it once more without.
 * A service that has accepted the tail before is believed to mean the content.
 */
static bool
send_without_tail(HttpCall *call)
{
	if (call->tail_dropped)
	{
		if (call->answer.outcome == HTTP_OK)
			*tail_memory(call) = TAIL_REFUSED;
		return false;
	}
	if (call->body.tail == 0 || call->client == NULL)
		return false;
	if (call->answer.outcome == HTTP_OK)
		*tail_memory(call) = TAIL_ACCEPTED;
	if (call->answer.outcome != HTTP_REJECTED ||
		(*tail_memory(call) == TAIL_ACCEPTED && strstr(call->answer.body, call->body.tail_name) == NULL))
		return false;

	http_client_requeue(call->client, call);
	http_call_drop_body(call);
	drop_tail(call);
	reset_answer(call);
	return true;
}

void
http_target_complete(HttpTarget *target, const char *const *parameters, int nparameters,
					 const char *default_path)
{
	JsonMember	member;
	JsonMember *members;
	int			nmembers;

	for (int i = 0; i < nparameters; i++)
		if (!http_json_members(parameters[i], &members, &nmembers))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("parameters must be a JSON object"));
	if (target->url != NULL)
		target->url = http_url_complete(target->url, default_path);
	if (target->headers == NULL && http_json_find(parameters, nparameters, "headers", &member))
		target->headers = pnstrdup(member.value, member.value_len);
}

HttpCall *
http_call_submit(HttpClient *client, const HttpTarget *target, const HttpBody *body, void *owner)
{
	MemoryContext context,
				old;
	HttpCall   *call;

	if (target->url == NULL || strlen(target->url) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("no URL to call"));

	context = AllocSetContextCreate(CurrentMemoryContext, "vecsync http call", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	call = palloc0(sizeof(HttpCall));
	call->context = context;
	call->on_reset.func = call_callback;
	call->on_reset.arg = call;
	MemoryContextRegisterResetCallback(context, &call->on_reset);

	call->owner = owner;
	copy_target(call, target);
	add_headers(call, target->headers);
	call->body = *body;
	call->tail_key = tail_key(call);
	if (call->body.tail > 0 && *tail_memory(call) == TAIL_REFUSED)
		drop_tail(call);
	reset_answer(call);
	http_client_enqueue(client, call);
	MemoryContextSwitchTo(old);
	return call;
}

HttpCall *
http_call_next_done(HttpClient *client)
{
	HttpCall   *call;

	while ((call = http_client_fetch(client)) != NULL && send_without_tail(call))
		;
	return call;
}

void
http_call_wait(HttpCall *call, uint32 wait_event)
{
	while (call->client != NULL)
	{
		http_client_wait_for(call->client, call, wait_event);
		http_client_mark_fetched(call->client, call);
		if (!send_without_tail(call))
			break;
	}
}

void *
http_call_owner(HttpCall *call)
{
	return call->owner;
}

const HttpAnswer *
http_call_answer(HttpCall *call)
{
	return &call->answer;
}

void
http_call_drop_body(HttpCall *call)
{
	if (call->data != NULL)
		pfree(call->data);
	call->data = NULL;
	call->answer.body = "";
	call->answer.body_len = 0;
}

void
http_call_garbage(HttpCall *call, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(call->context);
	char	   *words = NULL;

	call->answer.outcome = HTTP_GARBAGE;
	if (call->answer.body_len <= MAX_WORDY_BODY)
		words = http_json_message(call->answer.body, call->answer.body_len);
	if (words != NULL)
	{
		words = http_redact(words, call->target.secret);
		http_clip(words, SERVICE_WORDS_BYTES);
	}
	call->answer.error = showable(call, psprintf("unusable answer from %s: %s%s%s", call->host, reason,
												 words ? ": " : "", words ? words : ""));
	MemoryContextSwitchTo(old);
}

HttpAnswer
http_call_end(HttpCall *call)
{
	HttpAnswer	answer = call->answer;

	answer.body = "";
	answer.body_len = 0;
	answer.error = copy_string(answer.error);
	MemoryContextDelete(call->context);
	return answer;
}

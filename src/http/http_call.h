/*
 * http_call.h
 *		One POST of a JSON body: bounded answer, finite time, nothing followed.
 *
 * The part below embeddings, reranking and chat.  A call belongs to the memory
 * context that was current when it was submitted: resetting that context
 * aborts and frees it, so an ERROR between submit and free leaks nothing.
 */
#ifndef HTTP_CALL_H
#define HTTP_CALL_H

#include "http/http_client.h"

/*
 * Where to send and within which limits.  Strings are UTF-8 and copied at
 * submit.  Zero limits mean the defaults of http_call.c; none is infinite.
 */
typedef struct HttpTarget
{
	const char *url;			/* http or https, without credentials */
	const char *secret;			/* resolved value or NULL; sent as a bearer token, never shown */
	const char *headers;		/* JSON object of further headers, or NULL; '{secret}' in a value stands for
								 * the secret, which then is not sent as a bearer token too */
	const char *ca_file;		/* PEM file instead of the system's certificates, or NULL */
	const char *proxy;			/* URL of a proxy; NULL: none, whatever the environment says */
	bool		private_addresses;	/* may reach loopback, link-local and private networks */
	int			timeout_ms;		/* whole call, counted from sending */
	int			connect_timeout_ms;
	int64		max_response_bytes;
} HttpTarget;

/* What came back.  What it points to is owned by the call and goes with its context. */
typedef struct HttpAnswer
{
	HttpOutcome outcome;
	int			status;			/* HTTP status, 0 when there was none */
	char	   *body;			/* never NULL; body_len bytes and a zero byte */
	size_t		body_len;
	int64		retry_after_ms; /* -1: the service did not say */
	int64		elapsed_us;		/* of the last request */
	int			requests;		/* sent for this call: 2 when a tail was given up */
	char	   *error;			/* NULL if outcome is HTTP_OK; at most HTTP_ERROR_BYTES, in the server's
								 * encoding, without the secret */
} HttpAnswer;

#define HTTP_ERROR_BYTES 480

typedef struct HttpCall HttpCall;

/* An error unless it is a JSON object whose members can be sent as HTTP headers. */
extern void http_check_headers(const char *object);

/*
 * Make a target ready: its URL completed by the dialect's path, its headers, if it
 * has none, taken from the "headers" of these parameter objects.  Palloc'd.  An
 * error when a parameter object is none.
 */
extern void http_target_complete(HttpTarget *target, const char *const *parameters, int nparameters,
								 const char *default_path);

/*
 * What to send.  The text is not copied: it belongs to the context the call is
 * submitted in, or one that lives longer.  A request may end in an optional tail,
 * members of its object that not every service knows: they begin at 'tail' and
 * reach to the closing brace, which is the last byte.  When a service rejects the
 * request and has never accepted the tail before, the same is sent without it,
 * and if that works the tail is left out from then on.
 */
typedef struct HttpBody
{
	char	   *text;
	size_t		len;
	size_t		tail;			/* 0: none */
	const char *tail_name;		/* what the service would call it in an error */
	const char *model;			/* with the URL and the name, the key of what is remembered; may be NULL */
} HttpBody;

/*
 * Queue a POST of a JSON object.  Raises an error only for a broken target (no
 * URL, headers that are not a JSON object of strings); what the network does is
 * in the answer.
 */
extern HttpCall *http_call_submit(HttpClient *client, const HttpTarget *target, const HttpBody *body,
								  void *owner);

/* The next finished call, each handed out once, or NULL. */
extern HttpCall *http_call_next_done(HttpClient *client);

/* Wait for this call, whatever else the client has under way; may raise an error (cancel). */
extern void http_call_wait(HttpCall *call, uint32 wait_event);

extern void *http_call_owner(HttpCall *call);
extern const HttpAnswer *http_call_answer(HttpCall *call);	/* outcome HTTP_PENDING until done */

/* The answer's body has been read: give its memory back. */
extern void http_call_drop_body(HttpCall *call);

/* Replace the outcome by HTTP_GARBAGE; for parsers that could not use the body. */
extern void http_call_garbage(HttpCall *call, const char *reason);

/* Free a finished call but for its answer without the body, whose error stays in the current context. */
extern HttpAnswer http_call_end(HttpCall *call);

#endif							/* HTTP_CALL_H */

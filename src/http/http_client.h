/*
 * http_client.h
 *		One libcurl multi handle per process: connections, waiting, and the
 *		queue of calls in front of it.
 *
 * Nothing here needs a transaction, a snapshot or a catalog.  The worker has
 * many calls in flight and waits for its latch and all sockets at once; a
 * backend has one call and waits for that.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include "postgres.h"

typedef struct HttpClient HttpClient;

/*
 * How a call ended, in the words of whoever has to go on.  Embeddings, reranking
 * and chat share it.
 */
typedef enum HttpOutcome
{
	HTTP_PENDING,				/* queued or in flight */
	HTTP_OK,
	HTTP_RETRY,					/* connect, timeout, reset, 408, 5xx: the service, later */
	HTTP_THROTTLED,				/* 429, 503, 529: the service, after retry_after_ms if it said so */
	HTTP_REJECTED,				/* 400, 413, 422: the content of this call: bisect */
	HTTP_REFUSED,				/* 401, 403, 404, other 4xx, redirect, certificate, address: configuration */
	HTTP_GARBAGE,				/* an answer came and cannot be used: the service, needs a human */
} HttpOutcome;

/*
 * Make a client.  It lives in a child of 'parent' and goes with it: a callback
 * of that context closes every connection and detaches every call, so an ERROR
 * that resets the context leaks nothing.  At most max_inflight calls are under
 * way at once; further ones wait in the client, and their time limits start
 * when they are sent.
 */
extern HttpClient *http_client_create(MemoryContext parent, int max_inflight);
extern void http_client_set_max_inflight(HttpClient *client, int max_inflight);

/*
 * Drive the transfers until a call is done, the process latch is set, or
 * timeout_ms have passed (-1: no limit; 0: what can be done without waiting).
 * Returns true when the latch was set; it has been reset then, as after
 * WaitLatch + ResetLatch; with timeout_ms 0 the latch is left as it is.  Checks
 * for interrupts in each turn, so it may raise an error; exits on postmaster
 * death.  Returns at once when a call is done already and has not been fetched.
 */
extern bool http_client_wait(HttpClient *client, long timeout_ms, uint32 wait_event);

/* Calls submitted and not yet done, those that wait for a place included. */
extern int	http_client_inflight(HttpClient *client);

#endif							/* HTTP_CLIENT_H */

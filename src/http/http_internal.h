/*
 * http_internal.h
 *		What http_client.c, http_transfer.c and http_call.c know of each other.
 *
 * A call is in exactly one of the client's lists until its client goes or it is freed:
 *
 *	waiting  ->  active  ->  done  ->  fetched
 *				(has an easy handle in the multi handle)
 *
 * libcurl's callbacks run between http_curl_enter and http_curl_leave with signals
 * blocked; they must not raise errors, so they allocate with MCXT_ALLOC_NO_OOM
 * only and report failure through abort_reason.
 */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include "http/http_call.h"
#include "http/http_curl.h"

#include "lib/ilist.h"
#include "storage/latch.h"

/* Why a callback of ours ended the transfer. */
typedef enum HttpAbort
{
	HTTP_ABORT_NONE,
	HTTP_ABORT_TOO_LARGE,
	HTTP_ABORT_HEADERS,
	HTTP_ABORT_TOO_SLOW,
	HTTP_ABORT_MEMORY,
	HTTP_ABORT_ADDRESS,
	HTTP_ABORT_ENOUGH,			/* of an error's body; not a failure */
} HttpAbort;

struct HttpCall
{
	dlist_node	node;
	HttpClient *client;			/* NULL once the client is gone */
	MemoryContext context;
	MemoryContextCallback on_reset;
	void	   *owner;
	HttpTarget	target;			/* strings copied; headers consumed */
	char	   *host;			/* for messages */
	struct curl_slist *headers;
	CURL	   *easy;			/* while active */
	HttpBody	body;			/* text is the caller's */
	uint64		tail_key;
	bool		tail_dropped;
	bool		public_only;	/* addresses are judged */
	bool		done;
	int			requests;

	/* the answer as it comes */
	char	   *data;
	size_t		data_len;
	size_t		data_allocated;
	size_t		data_limit;
	size_t		header_bytes;
	int64		retry_after_ms;
	int64		first_byte_us;
	HttpAbort	abort_reason;
	char		curl_error[CURL_ERROR_SIZE];

	HttpAnswer	answer;
};

/* http_client.c */
extern void http_client_enqueue(HttpClient *client, HttpCall *call);
extern void http_client_requeue(HttpClient *client, HttpCall *call);
extern void http_client_forget(HttpClient *client, HttpCall *call);
extern HttpCall *http_client_fetch(HttpClient *client);
extern void http_client_mark_fetched(HttpClient *client, HttpCall *call);
extern void http_client_wait_for(HttpClient *client, HttpCall *call, uint32 wait_event);
extern int64 http_now_us(void);

/* http_transfer.c */
extern CURL *http_call_start(HttpCall *call);	/* makes call->easy; NULL when libcurl cannot */

/* http_call.c */
extern void http_call_finish(HttpCall *call, CURLcode code);	/* consumes call->easy */
extern void http_call_detach(HttpCall *call);

#endif							/* HTTP_INTERNAL_H */

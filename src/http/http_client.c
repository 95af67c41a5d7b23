/*
 * http_client.c
 *		One libcurl multi handle per process: connections, waiting, and the
 *		queue of calls in front of it.
 *
 * libcurl tells which sockets it wants watched and when it wants to be called
 * (multi socket interface); a WaitEventSet watches them together with the
 * process latch and the postmaster.  The set is built again only when the set
 * of sockets changed; a socket that merely changes direction is modified in place.
 */
#include "postgres.h"

#include "http/http_internal.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "base/compat.h"

/* A socket libcurl wants watched. */
typedef struct WatchedSocket
{
	pgsocket	fd;
	uint32		events;			/* WL_SOCKET_READABLE, WL_SOCKET_WRITEABLE */
	int			position;		/* in the wait set */
	bool		modified;		/* events differ from the wait set's */
} WatchedSocket;

struct HttpClient
{
	MemoryContext context;
	MemoryContextCallback on_reset;
	CURLM	   *multi;
	int			max_inflight;

	dlist_head	waiting;
	dlist_head	active;
	dlist_head	done;			/* not fetched */
	dlist_head	fetched;
	int			nwaiting;
	int			nactive;

	WatchedSocket *sockets;
	int			nsockets;
	int			allocated;

	WaitEventSet *wait_set;
	bool		wait_set_stale;
	int64		timer_us;		/* when libcurl wants to be called; -1: never */
};

/* Events taken from one wait; more come with the next. */
#define EVENTS_PER_WAIT 64

void
http_global_init(void)
{
	static bool done = false;

	if (done)
		return;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("could not initialize libcurl"));
	done = true;
}

int64
http_now_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * libcurl resolves names in threads of its own.  A thread inherits the signal
 * mask of its creator, and the server's signal handlers must run in the main
 * thread only: so every signal that may be blocked is, while libcurl is at work.
 */
static void
http_curl_enter(sigset_t *saved)
{
	sigset_t	blocked = BlockSig;

	sigaddset(&blocked, SIGQUIT);
	sigprocmask(SIG_SETMASK, &blocked, saved);
}

static void
http_curl_leave(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/* ---- what libcurl tells ---- */

static int
socket_changed(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_data)
{
	HttpClient *client = arg;
	uint32		events = 0;
	int			i;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;

	for (i = 0; i < client->nsockets && client->sockets[i].fd != fd; i++)
		;
	if (what == CURL_POLL_REMOVE)
	{
		/* The number may come back as another socket, so the set must not keep it. */
		client->wait_set_stale = true;
		if (i < client->nsockets)
			client->sockets[i] = client->sockets[--client->nsockets];
		return 0;
	}
	if (i < client->nsockets)
	{
		client->sockets[i].events = events;
		client->sockets[i].modified = true;
		return 0;
	}
	if (client->nsockets == client->allocated)
	{
		int			allocated = client->allocated * 2;
		WatchedSocket *sockets;

		sockets = MemoryContextAllocExtended(client->context, allocated * sizeof(WatchedSocket),
											 MCXT_ALLOC_NO_OOM);
		if (sockets == NULL)
			return -1;
		memcpy(sockets, client->sockets, client->nsockets * sizeof(WatchedSocket));
		pfree(client->sockets);
		client->sockets = sockets;
		client->allocated = allocated;
	}
	client->sockets[client->nsockets++] = (WatchedSocket) {.fd = fd, .events = events};
	client->wait_set_stale = true;
	return 0;
}

static int
timer_changed(CURLM *multi, long timeout_ms, void *arg)
{
	HttpClient *client = arg;

	client->timer_us = timeout_ms < 0 ? -1 : http_now_us() + (int64) timeout_ms * 1000;
	return 0;
}

/* ---- life ---- */

static void
client_callback(void *arg)
{
	HttpClient *client = arg;
	dlist_head *lists[] = {&client->waiting, &client->active, &client->done, &client->fetched};

	for (size_t i = 0; i < lengthof(lists); i++)
	{
		while (!dlist_is_empty(lists[i]))
		{
			HttpCall   *call = dlist_head_element(HttpCall, node, lists[i]);

			http_client_forget(client, call);
			http_call_detach(call);
		}
	}
	if (client->multi != NULL)
		curl_multi_cleanup(client->multi);
	client->multi = NULL;
	if (client->wait_set != NULL)
		FreeWaitEventSet(client->wait_set);
	client->wait_set = NULL;
}

HttpClient *
http_client_create(MemoryContext parent, int max_inflight)
{
	MemoryContext context;
	HttpClient *client;
	CURLM	   *multi;

	http_global_init();
	context = AllocSetContextCreate(parent, "vecsync http client", ALLOCSET_SMALL_SIZES);
	client = MemoryContextAllocZero(context, sizeof(HttpClient));
	client->context = context;
	client->timer_us = -1;
	client->wait_set_stale = true;
	client->allocated = 16;
	client->sockets = MemoryContextAlloc(context, client->allocated * sizeof(WatchedSocket));
	dlist_init(&client->waiting);
	dlist_init(&client->active);
	dlist_init(&client->done);
	dlist_init(&client->fetched);
	client->on_reset.func = client_callback;
	client->on_reset.arg = client;
	MemoryContextRegisterResetCallback(context, &client->on_reset);

	client->multi = multi = curl_multi_init();
	if (multi == NULL)
	{
		MemoryContextDelete(context);
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("could not initialize libcurl"));
	}
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_changed);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	http_client_set_max_inflight(client, max_inflight);
	return client;
}

void
http_client_set_max_inflight(HttpClient *client, int max_inflight)
{
	client->max_inflight = Max(max_inflight, 1);

	/* Idle connections are kept for as many as may be wanted at once. */
	curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long) client->max_inflight);
}

int
http_client_inflight(HttpClient *client)
{
	return client->nwaiting + client->nactive;
}

/* ---- the lists of calls ---- */

void
http_client_enqueue(HttpClient *client, HttpCall *call)
{
	call->client = client;
	call->done = false;
	dlist_push_tail(&client->waiting, &call->node);
	client->nwaiting++;
}

/* Send a finished call again, after those that wait already. */
void
http_client_requeue(HttpClient *client, HttpCall *call)
{
	Assert(call->done && call->client == client);
	dlist_delete(&call->node);
	http_client_enqueue(client, call);
}

/* Take a call out of whatever list it is in, and its transfer out of libcurl. */
void
http_client_forget(HttpClient *client, HttpCall *call)
{
	dlist_delete(&call->node);
	if (call->easy != NULL)
	{
		curl_multi_remove_handle(client->multi, call->easy);
		curl_easy_cleanup(call->easy);
		call->easy = NULL;
		client->nactive--;
	}
	else if (!call->done)
		client->nwaiting--;
	call->client = NULL;
}

static void
move_to_done(HttpClient *client, HttpCall *call)
{
	dlist_delete(&call->node);
	dlist_push_tail(&client->done, &call->node);
	call->done = true;
}

HttpCall *
http_client_fetch(HttpClient *client)
{
	HttpCall   *call;

	if (dlist_is_empty(&client->done))
		return NULL;
	call = dlist_head_element(HttpCall, node, &client->done);
	http_client_mark_fetched(client, call);
	return call;
}

void
http_client_mark_fetched(HttpClient *client, HttpCall *call)
{
	Assert(call->done && call->client == client);
	dlist_delete(&call->node);
	dlist_push_tail(&client->fetched, &call->node);
}

/* Hand waiting calls to libcurl as far as there are places. */
static void
start_calls(HttpClient *client)
{
	while (client->nactive < client->max_inflight && !dlist_is_empty(&client->waiting))
	{
		HttpCall   *call = dlist_head_element(HttpCall, node, &client->waiting);
		CURL	   *easy = http_call_start(call);
		sigset_t	saved;
		CURLMcode	code = CURLM_OUT_OF_MEMORY;

		if (easy != NULL)
		{
			http_curl_enter(&saved);
			code = curl_multi_add_handle(client->multi, easy);
			http_curl_leave(&saved);
		}
		client->nwaiting--;
		if (code == CURLM_OK)
		{
			dlist_delete(&call->node);
			dlist_push_tail(&client->active, &call->node);
			client->nactive++;
		}
		else
		{
			move_to_done(client, call);
			http_call_finish(call, CURLE_OUT_OF_MEMORY);
		}
	}
}

/* Take what libcurl has finished. */
static void
collect_done(HttpClient *client)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(client->multi, &left)) != NULL)
	{
		HttpCall   *call;
		CURLcode	code;

		if (message->msg != CURLMSG_DONE)
			continue;
		code = message->data.result;	/* the message goes with the handle */
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &call);
		curl_multi_remove_handle(client->multi, call->easy);
		client->nactive--;
		move_to_done(client, call);
		http_call_finish(call, code);
	}
}

/* ---- waiting ---- */

/* A multi handle that lost track of a socket is of no further use. */
static void
socket_action(HttpClient *client, curl_socket_t fd, int events)
{
	sigset_t	saved;
	CURLMcode	code;
	int			running;

	http_curl_enter(&saved);
	code = curl_multi_socket_action(client->multi, fd, events, &running);
	http_curl_leave(&saved);
	if (code == CURLM_ABORTED_BY_CALLBACK || code == CURLM_OUT_OF_MEMORY || code == CURLM_INTERNAL_ERROR)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("libcurl failed: %s", curl_multi_strerror(code)));
}

/*
 * Make the wait set agree with the sockets.  The set is noted in the client as
 * soon as it exists and marked stale until it is complete, so an error in between leaks nothing.
 */
static void
update_wait_set(HttpClient *client)
{
	if (client->wait_set == NULL || client->wait_set_stale)
	{
		client->wait_set_stale = true;
		if (client->wait_set != NULL)
		{
			WaitEventSet *old = client->wait_set;

			client->wait_set = NULL;
			FreeWaitEventSet(old);
		}
		client->wait_set = compat_create_wait_event_set(client->nsockets + 2);
		AddWaitEventToSet(client->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		if (IsUnderPostmaster)
			AddWaitEventToSet(client->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		for (int i = 0; i < client->nsockets; i++)
		{
			WatchedSocket *s = &client->sockets[i];

			s->position = AddWaitEventToSet(client->wait_set, s->events, s->fd, NULL, NULL);
			s->modified = false;
		}
		client->wait_set_stale = false;
		return;
	}
	for (int i = 0; i < client->nsockets; i++)
	{
		WatchedSocket *s = &client->sockets[i];

		if (s->modified)
			ModifyWaitEvent(client->wait_set, s->position, s->events, NULL);
		s->modified = false;
	}
}

/* Milliseconds until 'then', rounded up: waking a little early would only mean to wait again. */
static long
ms_until(int64 then, int64 now)
{
	return then <= now ? 0 : (long) ((then - now + 999) / 1000);
}

/* One turn: wait at most until 'until' (-1: no limit), pass on what happened.  True: the latch was set. */
static bool
wait_once(HttpClient *client, int64 until, uint32 wait_event)
{
	WaitEvent	events[EVENTS_PER_WAIT];
	int64		now = http_now_us();
	long		timeout = until < 0 ? -1 : ms_until(until, now);
	bool		latch_set = false;
	int			nevents;

	if (client->timer_us >= 0)
	{
		long		timer = ms_until(client->timer_us, now);

		timeout = timeout < 0 ? timer : Min(timeout, timer);
	}
	update_wait_set(client);
	nevents = WaitEventSetWait(client->wait_set, timeout, events, EVENTS_PER_WAIT, wait_event);
	for (int i = 0; i < nevents; i++)
	{
		int			ready = 0;

		if (events[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			latch_set = true;
			continue;
		}
		if (events[i].events & WL_SOCKET_READABLE)
			ready |= CURL_CSELECT_IN;
		if (events[i].events & WL_SOCKET_WRITEABLE)
			ready |= CURL_CSELECT_OUT;
		if (ready != 0)
			socket_action(client, events[i].fd, ready);
	}
	if (client->timer_us >= 0 && client->timer_us <= http_now_us())
	{
		client->timer_us = -1;
		socket_action(client, CURL_SOCKET_TIMEOUT, 0);
	}
	return latch_set;
}

bool
http_client_wait(HttpClient *client, long timeout_ms, uint32 wait_event)
{
	int64		until = timeout_ms < 0 ? -1 : http_now_us() + (int64) timeout_ms * 1000;

	for (;;)
	{
		bool		latch_set;

		CHECK_FOR_INTERRUPTS();
		start_calls(client);
		if (!dlist_is_empty(&client->done))
			return false;
		latch_set = wait_once(client, until, wait_event);
		collect_done(client);
		if (latch_set)
		{
			if (timeout_ms == 0)
				SetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			return true;
		}
		if (until >= 0 && http_now_us() >= until)
			return false;
	}
}

void
http_client_wait_for(HttpClient *client, HttpCall *call, uint32 wait_event)
{
	bool		latch_set = false;

	while (!call->done)
	{
		CHECK_FOR_INTERRUPTS();
		start_calls(client);
		if (call->done)
			break;
		latch_set |= wait_once(client, -1, wait_event);
		collect_done(client);
	}
	/* Whatever the latch was set for is not our business: the caller's next wait shall see it. */
	if (latch_set)
		SetLatch(MyLatch);
}

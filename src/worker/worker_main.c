/*
 * worker_main.c
 *		The worker of one database: its loop.
 *
 * A turn of the loop: read what is new in the queue, make batches for models
 * that may be asked, send them, take answers, write vectors; then wait for the
 * latch (a commit changed something), the sockets and the next time something
 * falls due.  Waiting happens outside any transaction: no snapshot, no lock.
 *
 * Batches of changes come before those of a backfill in each step, and then a
 * batch of whatever kind has its turn, so that neither keeps the other away.
 *
 * An error that is not caught ends the process; the launcher starts another,
 * which begins from the table.  What was under way is done again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "worker/worker_state.h"

/* While entries of transactions in progress are known, look this often whether those have ended. */
#define OPEN_POLL_MS 1000

/*
 * After the queue was read, what commits next waits this long at least: under a stream of small commits one
 * reading, and one batch, serves several of them, and they need not wake us.
 */
#define READ_EVERY_MS 2

/* A block of the queue that stays damaged is in the log this often. */
#define DAMAGE_TOLD_EVERY_MS (60 * 60 * 1000)

/* A clock that goes back by more than this was set. */
#define CLOCK_STEP_US (5 * USECS_PER_SEC)

/* Batches read ahead for one vectorizer, beyond those that are sent; and as many of changes, in any case. */
#define READY_BATCHES 2

/* What a step of the loop looks for. */
typedef enum Kind
{
	KIND_LIVE,					/* batches with changes */
	KIND_ANY,
} Kind;

Worker	   *MyWorker = NULL;
MemoryContext WorkerContext = NULL;

static void
worker_detach(int code, Datum arg)
{
	if (MyWorker->slot->latch == MyLatch)
		MyWorker->slot->latch = NULL;
	ConditionVariableBroadcast(&worker_shared->progressed);
}

/*
 * The database has no vecsync, or not any more: leave until somebody asks again.  When there is another one,
 * the launcher starts a process for it; also when it came after we had looked, from whom found us still here.
 * rows_changed was cleared before we looked, and is set before a commit looks for us (worker_on_commit).
 */
static void
leave(void)
{
	WorkerDatabase *slot = MyWorker->slot;

	DEBUG_CRASH_POINT("worker_leaves");
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->latch = NULL;
	if (!MyWorker->replaced)
		slot->state = WORKER_ABSENT;
	pg_memory_barrier();
	if (pg_atomic_read_u32(&slot->rows_changed) != 0)
		slot->state = WORKER_RUNNING;
	for (int i = 0; i < WORKER_MAX_VECTORIZERS; i++)
		if (worker_shared->progress[i].database == MyDatabaseId)
			worker_shared->progress[i].database = InvalidOid;
	LWLockRelease(worker_shared->lock);
	proc_exit(0);
}

/* ---- one turn ---------------------------------------------------------------------- */

/* False: not now. */
static bool
begin_or_leave(const char *activity)
{
	if (worker_begin(activity))
		return true;
	if (MyWorker->gone)
		leave();
	return false;
}

static void
read_window(void *arg)
{
	MyWorker->more_to_read = queue_window_read(MyWorker->window, worker_poll_interval);
}

/* Any vectorizer may have entries there, so all of them say so; the log does once in a while. */
static void
tell_of_damage(const ErrorData *error)
{
	static TimestampTz told_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	dlist_foreach(iter, &MyWorker->vectorizers)
		worker_note_error(dlist_container(WorkerVectorizer, node, iter.cur),
						  psprintf("vecsync.queue: %s", error->message));
	if (told_at != 0 && now < TimestampTzPlusMilliseconds(told_at, DAMAGE_TOLD_EVERY_MS))
		return;
	told_at = now;
	ereport(LOG,
			errcode(error->sqlerrcode),
			errmsg("vecsync.queue: %s", error->message),
			errdetail("Changes that are noted there wait until it can be read; the others are followed."),
			error->hint ? errhint("%s", error->hint) : 0);
}

static void
read_queue(void)
{
	ErrorData  *error;

	if (!begin_or_leave("reading the queue"))
		return;
	worker_config_load();
	error = worker_try(read_window, NULL);
	if (error != NULL)
	{
		if (!queue_window_pass_over(MyWorker->window, error))
			ThrowErrorData(error);
		tell_of_damage(error);
		FreeErrorData(error);
		MyWorker->more_to_read = true;
	}
	worker_commit();
	MyWorker->queue_read_at = GetCurrentTimestamp();
}

static int
ready_batches(WorkerVectorizer *v, Kind kind)
{
	dlist_iter	iter;
	int			n = 0;

	dlist_foreach(iter, &v->batches)
	{
		WorkerBatch *batch = dlist_container(WorkerBatch, node, iter.cur);

		n += batch->state == BATCH_READY && (kind == KIND_ANY || batch->live);
	}
	return n;
}

static bool
may_work(WorkerVectorizer *v, TimestampTz now, TimestampTz *when)
{
	if (v->not_before > now)
	{
		*when = Min(*when, v->not_before);
		return false;
	}
	if (v->stale)
		MyWorker->sources_stale = true;
	return !v->def->paused && v->model != NULL && !v->denied && v->read_sql != NULL;
}

/* Is a batch to be read now, as it can be sent soon? */
static bool
wants_batch(WorkerVectorizer *v, Kind kind, TimestampTz now, TimestampTz *when)
{
	QueueItem  *next;
	int			ready;

	if (!may_work(v, now, when))
		return false;
	ready = ready_batches(v, kind);
	if (v->model->inflight >= v->model->def->max_inflight && ready > 0)
		return false;
	if (v->model->not_before > now)
	{
		*when = Min(*when, v->model->not_before);
		return false;
	}
	if (ready >= READY_BATCHES)
		return false;
	next = queue_window_peek(v->source, now);
	if (next == NULL)
		*when = Min(*when, queue_window_next_ready(v->source));
	if (kind == KIND_LIVE)
		return next != NULL && next->live;
	return next != NULL || queue_window_scan(v->source) != NULL;
}

/* Read a batch where one is wanted.  Returns whether anything was done. */
static bool
make_batch(Kind kind, TimestampTz *when)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	dlist_foreach(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);
		bool		vanished = kind == KIND_ANY && v->source->nvanished > 0 && v->not_before <= now &&
			v->read_sql != NULL;

		if (!vanished && !wants_batch(v, kind, now, when))
			continue;
		if (!begin_or_leave(vanished ? "looking for rows that went" : "reading rows"))
			return false;
		if (worker_config_load())
		{
			/* v may be gone */
			worker_commit();
			return true;
		}
		if (v->read_sql != NULL && vanished)
			worker_forget_vanished(v);
		else if (v->read_sql != NULL)
		{
			if (kind == KIND_ANY)
				worker_feed_scan(v);
			(void) worker_make_batch(v);
		}
		worker_commit();
		if (!vanished)
		{
			ConditionVariableBroadcast(&worker_shared->progressed);
			worker_note_progress(v);
		}
		/* the list may have changed under us */
		return true;
	}
	return false;
}

/* The one to send next. */
static WorkerBatch *
ready_batch(WorkerVectorizer *v)
{
	WorkerBatch *result = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &v->batches)
	{
		WorkerBatch *batch = dlist_container(WorkerBatch, node, iter.cur);

		if (batch->state == BATCH_READY && (result == NULL || (batch->live && !result->live)))
			result = batch;
	}
	return result;
}

/*
 * Send one batch that is ready.  Who was served goes to the end of the line, for requests and for reading
 * rows: with few requests at a time the backfill of one table would have all of them.
 */
static bool
send_batch(TimestampTz *when)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	dlist_foreach(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);
		WorkerBatch *batch = may_work(v, now, when) ? ready_batch(v) : NULL;

		if (batch == NULL || !worker_model_ready(batch, now, when))
			continue;
		worker_send_batch(batch);
		dlist_delete(&v->node);
		dlist_push_tail(&MyWorker->vectorizers, &v->node);
		return true;
	}
	return false;
}

static void
send_batches(TimestampTz *when)
{
	while (send_batch(when))
		;
}

static bool
take_answers(void)
{
	EmbeddingCall *call;
	bool		any = false;

	while ((call = embedding_next_done(MyWorker->client)) != NULL)
	{
		DEBUG_POINT("worker_answered");
		worker_answer(embedding_owner(call));
		any = true;
	}
	return any;
}

/* Write one batch that is due.  Returns whether there was one. */
static bool
write_batch(Kind kind, TimestampTz *when)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	i,
				j;

	dlist_foreach(i, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, i.cur);

		dlist_foreach(j, &v->batches)
		{
			WorkerBatch *batch = dlist_container(WorkerBatch, node, j.cur);

			if (batch->state != BATCH_WRITE || (kind == KIND_LIVE && !batch->live))
				continue;
			if (batch->write_at <= now)
			{
				worker_write_batch(batch);
				return true;
			}
			*when = Min(*when, batch->write_at);
		}
	}
	return false;
}

/* How long is what commits now left unread? */
static long
unread_ms(void)
{
	TimestampTz last = MyWorker->queue_read_at;
	TimestampTz now = GetCurrentTimestamp();

	if (now < last)
		return 0;				/* the clock was set back */
	return TimestampDifferenceMilliseconds(now, TimestampTzPlusMilliseconds(last, READ_EVERY_MS));
}

static bool
rows_to_read(void)
{
	return pg_atomic_read_u32(&MyWorker->slot->rows_changed) != 0 && unread_ms() == 0;
}

static bool
reading_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last = MyWorker->queue_read_at;

	return rows_to_read() || MyWorker->more_to_read || last == 0 || queue_window_hungry(MyWorker->window) ||
		MyWorker->config_generation != worker_config_generation() || MyWorker->sources_stale ||
		TimestampDifferenceExceeds(last, now, worker_poll_interval * 1000) ||
		(queue_window_open(MyWorker->window) && TimestampDifferenceExceeds(last, now, OPEN_POLL_MS));
}

/* Is there something that only the outer loop does?  The inner one may have work for hours. */
static bool
wanted_outside(void)
{
	return ConfigReloadPending || reading_due();
}

/* Send what can be sent, and see what has come. */
static void
exchange(TimestampTz *when)
{
	send_batches(when);
	if (http_client_inflight(MyWorker->client) > 0)
		(void) http_client_wait(MyWorker->client, 0, PG_WAIT_EXTENSION);
}

/* Everything that can be done without waiting.  Returns when to look again. */
static TimestampTz
work(void)
{
	TimestampTz when;
	bool		worked;
	dlist_iter	iter;

	do
	{
		when = DT_NOEND;
		CHECK_FOR_INTERRUPTS();
		worked = take_answers();
		if (worker_held_up(&when))
		{
			exchange(&when);
			return when;
		}
		worked |= write_batch(KIND_LIVE, &when);
		worked |= make_batch(KIND_LIVE, &when);
		exchange(&when);
		worked |= write_batch(KIND_ANY, &when);
		worked |= make_batch(KIND_ANY, &when);
		worked |= worker_generations(&when);
		worked |= worker_sweep(&when);
		exchange(&when);
	} while (worked && !wanted_outside());
	if (worked)
		when = 0;

	dlist_foreach(iter, &MyWorker->vectorizers)
		worker_note_progress(dlist_container(WorkerVectorizer, node, iter.cur));
	return when;
}

/* ---- start ----------------------------------------------------------------------------- */

/*
 * What the SQL of tables' owners runs with.  We have connected as the superuser, and
 * what he has set for himself, as "current" may be, is not for them.
 */
static char *
default_search_path(const char *current)
{
	static const char *const sql =
		"WITH s AS (SELECT setdatabase, setrole, substr(c, 13) AS path"
		"  FROM pg_db_role_setting, unnest(setconfig) c WHERE c LIKE 'search_path=%')"
		" SELECT coalesce((SELECT path FROM s WHERE setrole = 0 AND setdatabase = $1),"
		"  (SELECT path FROM s WHERE setrole = 0 AND setdatabase = 0),"
		"  CASE WHEN EXISTS (SELECT FROM s WHERE setrole = $2 AND setdatabase IN (0, $1))"
		"   THEN coalesce((SELECT setting FROM pg_file_settings WHERE name = 'search_path' AND applied),"
		"    (SELECT boot_val FROM pg_settings WHERE name = 'search_path'))"
		"   ELSE $3 END)";
	Oid			types[3] = {OIDOID, OIDOID, TEXTOID};
	Datum		values[3] = {
		ObjectIdGetDatum(MyDatabaseId), ObjectIdGetDatum(GetSessionUserId()), CStringGetTextDatum(current)
	};

	if (SPI_execute_with_args(sql, 3, types, values, NULL, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the settings of the database");
	return MemoryContextStrdup(WorkerContext,
							   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
}

static void
worker_setup(void)
{
	MemoryContext old;
	char	   *search_path = pstrdup(GetConfigOption("search_path", false, false));

	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("application_name", "vecsync worker", PGC_USERSET, PGC_S_SESSION);
	/* keys are read and kept as texts: see queue_key_string() */
	SetConfigOption("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("intervalstyle", "postgres", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("extra_float_digits", "1", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("bytea_output", "hex", PGC_USERSET, PGC_S_SESSION);
	/* a user's lock on a table or partition must not stop the other vectorizers for long */
	SetConfigOption("lock_timeout", "500", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("statement_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	/* a commit that a crash forgets brings back the queue's entries together with the old vectors */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("client_min_messages", "error", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("exit_on_error", "off", PGC_USERSET, PGC_S_SESSION);
	/* what is set for a database is meant for its users */
	SetConfigOption("role", "none", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("row_security", "on", PGC_USERSET, PGC_S_SESSION);
	if (GetConfigOption("transaction_timeout", true, false) != NULL)	/* since 17 */
		SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_SESSION);

	for (;;)
	{
		(void) pg_atomic_exchange_u32(&MyWorker->slot->rows_changed, 0);
		if (begin_or_leave("starting"))
			break;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(WORKER_LOCKED_RETRY_MS * 1000L);
	}
	MyWorker->default_search_path = default_search_path(search_path);
	/* texts are converted to UTF-8 outside transactions: that works for the client's encoding only */
	SetConfigOption("client_encoding", "UTF8", PGC_USERSET, PGC_S_SESSION);
	vector_type_init(&MyWorker->vector, catalog_vector_type(), WorkerContext);
	old = MemoryContextSwitchTo(WorkerContext);
	MyWorker->client = http_client_create(WorkerContext, worker_max_inflight);
	MyWorker->window = queue_window_create(WorkerContext);
	MemoryContextSwitchTo(old);
	worker_config_init();
	worker_commit();
}

/*
 * Wait for sockets, for "when", and for commits.  Who commits sets rows_changed, then our latch if we are
 * asleep; we sleep only after having seen that nothing has changed since.
 */
static void
wait_for_work(TimestampTz when)
{
	long		timeout = queue_window_open(MyWorker->window) ? OPEN_POLL_MS : worker_poll_interval * 1000L;
	bool		held_up = worker_held_up(&when);
	long		unread = unread_ms();

	if (when != DT_NOEND)
		timeout = Min(timeout, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when));
	if (unread > 0 && !held_up)
		timeout = Min(timeout, unread);
	MyWorker->slot->asleep = unread == 0 && !held_up;
	pg_memory_barrier();
	if (held_up || !rows_to_read())
	{
		DEBUG_POINT("worker_waits");
		(void) http_client_wait(MyWorker->client, timeout, PG_WAIT_EXTENSION);
	}
	MyWorker->slot->asleep = false;
}

/* All pauses and dates would be in the future for as long as the clock went back. */
static void
leave_if_clock_was_set(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (now < last - CLOCK_STEP_US)
	{
		ereport(LOG, errmsg("vecsync worker begins anew because the clock was set back by %lld s",
							(long long) ((last - now) / USECS_PER_SEC)));
		proc_exit(0);
	}
	last = now;
}

static void
worker_loop(void)
{
	for (;;)
	{
		TimestampTz when = DT_NOEND;

		CHECK_FOR_INTERRUPTS();
		leave_if_clock_was_set();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			http_client_set_max_inflight(MyWorker->client, worker_max_inflight);
			MyWorker->log_expired_at = 0;
			if (!worker_enabled)
				proc_exit(0);
		}
		if (reading_due() && !worker_held_up(&when))
		{
			/* what commits from here on is for the next time */
			(void) pg_atomic_exchange_u32(&MyWorker->slot->rows_changed, 0);
			read_queue();
		}
		if (worker_log_due(GetCurrentTimestamp()) && !worker_held_up(&when))
			worker_log_expire();
		when = work();
		if (worker_held_up(&when) || !wanted_outside())
			wait_for_work(when);
	}
}

/*
 * After the process has left the database, and before its number can be another's: who signals it does so
 * under the lock.
 */
static void
hide_yourself(int code, Datum arg)
{
	WorkerDatabase *slot = &worker_shared->databases[DatumGetInt32(arg)];

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	if (slot->pid == MyProcPid)
		slot->pid = 0;
	LWLockRelease(worker_shared->lock);
}

/*
 * From here on whoever wants the database to himself finds the process (send_worker_away), which so has not
 * connected to it before; and it does not come while somebody wants that.  Nor while another one is there, or
 * when the launcher that wanted it has ended: the next one starts its own.
 */
static void
show_yourself(int number)
{
	WorkerDatabase *slot = &worker_shared->databases[number];
	bool		wanted;

	/* runs when what connecting registers has run */
	on_shmem_exit(hide_yourself, Int32GetDatum(number));
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	wanted = slot->state == WORKER_STARTING && slot->pid == 0 && slot->hold_until <= GetCurrentTimestamp();
	if (wanted)
		slot->pid = MyProcPid;
	LWLockRelease(worker_shared->lock);
	if (!wanted)
		proc_exit(0);
}

void
worker_main(Datum arg)
{
	WorkerDatabase *slot = &worker_shared->databases[DatumGetInt32(arg)];

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	DEBUG_CRASH_POINT("worker_starts");
	show_yourself(DatumGetInt32(arg));
	DEBUG_CRASH_POINT("worker_connects");
	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
	DEBUG_CRASH_POINT("worker_connected");

	WorkerContext = AllocSetContextCreate(TopMemoryContext, "vecsync worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(WorkerContext);
	MyWorker = palloc0(sizeof(Worker));
	MyWorker->slot = slot;
	dlist_init(&MyWorker->models);
	dlist_init(&MyWorker->vectorizers);

	worker_setup();

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->state = WORKER_RUNNING;
	slot->started_at = GetCurrentTimestamp();
	slot->asleep = false;
	slot->latch = MyLatch;
	LWLockRelease(worker_shared->lock);
	before_shmem_exit(worker_detach, (Datum) 0);

	worker_loop();
}

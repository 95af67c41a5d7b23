/*
 * worker_status.c
 *		What sessions ask about the workers: status, wait, problems.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "queue/catalog.h"
#include "queue/queue.h"
#include "worker/worker_state.h"

PG_FUNCTION_INFO_V1(worker_problem);
PG_FUNCTION_INFO_V1(worker_status);
PG_FUNCTION_INFO_V1(worker_wait);

/* vecsync._worker_problem() -> text: why no worker will run, or NULL */
Datum
worker_problem(PG_FUNCTION_ARGS)
{
	if (worker_shared == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("vecsync is not in shared_preload_libraries"));
	PG_RETURN_NULL();
}

/* ---- status ---------------------------------------------------------------------- */

static bool
may_see(Oid source)
{
	Oid			owner = catalog_relation_owner(source);

	/* no owner: dropped since the snapshot */
	return OidIsValid(owner) && (superuser() || has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) ||
								 has_privs_of_role(GetUserId(), owner));
}

static const char *
worker_state_name(void)
{
	WorkerDatabase *slot = worker_shared ? worker_find_database(MyDatabaseId, false) : NULL;

	if (worker_shared == NULL)
		return "not preloaded";
	if (!worker_enabled)
		return "disabled";
	if (slot == NULL || slot->state == WORKER_UNUSED)
		return "no worker";
	if (slot->no_slot)
		return "no free background worker slot";
	return slot->latch != NULL ? "running" : "starting";
}

Datum
worker_histogram_share(const uint64 *buckets, double share, bool *isnull)
{
	uint64		total = 0;
	uint64		below = 0;

	for (int i = 0; i < WORKER_LAG_BUCKETS; i++)
		total += buckets[i];
	*isnull = total == 0;
	for (int i = 0; i < WORKER_LAG_BUCKETS && total > 0; i++)
	{
		below += buckets[i];
		if (below >= share * total)
			return Int64GetDatum(INT64CONST(1) << i);
	}
	return (Datum) 0;
}

static WorkerProgress
read_progress(int vectorizer)
{
	WorkerProgress result = {0};

	if (worker_shared == NULL)
		return result;
	LWLockAcquire(worker_shared->lock, LW_SHARED);
	for (int i = 0; i < WORKER_MAX_VECTORIZERS; i++)
		if (worker_shared->progress[i].database == MyDatabaseId &&
			worker_shared->progress[i].vectorizer == vectorizer)
			result = worker_shared->progress[i];
	LWLockRelease(worker_shared->lock);
	return result;
}

/*
 * Rows of the table and rows that have a vector: counted, or of a large table estimated, and then
 * 'embedded' is -1; 'rows', too, when nothing is known of a table that somebody has to himself.
 * A place of vectors that is gone, or not as it was made, has none: a snapshot may show a
 * vectorizer that has been dropped since, and its owner does with it as he likes.
 */
static void
count_rows(const CatalogVectorizer *v, int64 *rows, int64 *embedded)
{
	int64		filled;

	if (OidIsValid(v->chunk_table))
	{
		*rows = worker_count_rows(v->source, NULL, &filled);
		*embedded = filled < 0 ? -1 : worker_count_documents(v->chunk_table);
	}
	else					/* its name now: a cut-over may have renamed it after it was read */
		*rows = worker_count_rows(v->source, catalog_target_column(v->content_view, CurrentMemoryContext),
								  embedded);
}

static const char *
vectorizer_state(const CatalogVectorizer *v, const WorkerProgress *p, int64 pending, int64 failed)
{
	if (v->retired)
		return "retired";
	if (v->paused)
		return "paused";
	if (p->paused_until > GetCurrentTimestamp())
		return "waiting for the service";
	if (pending > 0 || v->pending_index)
		return "embedding";
	if (v->successor_of != 0)
		return failed > 0 ? "held up by failed rows" : "complete";
	return "in step";
}

/* What waits for a vectorizer. */
typedef struct Waiting
{
	int			vectorizer;
	int64		rows;
	int64		entries;		/* that stand for rows */
	int64		uncounted;		/* scans whose rows nobody has counted yet */
	int64		failed;
	TimestampTz since;
	bool		any;
} Waiting;

typedef struct AllWaiting
{
	MemoryContext context;		/* of the list */
	Waiting    *list;
	int			count;
	char	   *damage;			/* a block of the queue cannot be read: nobody knows; else NULL */
} AllWaiting;

/* For all vectorizers at once: the queue is read from end to end, whosever entries are asked for. */
static void
read_waiting(void *arg)
{
	AllWaiting *all = arg;
	Waiting    *list;

	if (SPI_execute("SELECT v.id, q.rows, q.entries, q.uncounted, q.since,"
					" (SELECT count(*) FROM vecsync.dead_letter d WHERE d.vectorizer = v.id)"
					" FROM vecsync.vectorizer v LEFT JOIN"
					" (SELECT vectorizer, coalesce(sum(rows) FILTER (WHERE rows > 0), 0)::int8 AS rows,"
					" count(*) FILTER (WHERE rows <> 0) AS entries,"
					" count(*) FILTER (WHERE rows < 0) AS uncounted, min(queued_at) AS since"
					" FROM vecsync.queue GROUP BY vectorizer) q ON q.vectorizer = v.id",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.queue");
	all->count = (int) SPI_processed;
	all->list = list = MemoryContextAlloc(all->context, sizeof(Waiting) * Max(all->count, 1));
	for (int i = 0; i < all->count; i++)
	{
		Datum		values[6];
		bool		nulls[6];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		list[i] = (Waiting) {.vectorizer = DatumGetInt32(values[0]), .failed = DatumGetInt64(values[5]),
		.any = !nulls[1]};
		if (nulls[1])
			continue;
		list[i].rows = DatumGetInt64(values[1]);
		list[i].entries = DatumGetInt64(values[2]);
		list[i].uncounted = DatumGetInt64(values[3]);
		list[i].since = DatumGetTimestampTz(values[4]);
	}
}

static Waiting
find_waiting(const AllWaiting *all, int vectorizer)
{
	for (int i = 0; i < all->count; i++)
		if (all->list[i].vectorizer == vectorizer)
			return all->list[i];
	return (Waiting) {.vectorizer = vectorizer};
}

/* The status of all vectorizers is wanted above all when something is wrong. */
static void
try_to_read_waiting(AllWaiting *all)
{
	ErrorData  *error = worker_try(read_waiting, all);

	if (error == NULL)
		return;
	if (!queue_damaged(error))
		ThrowErrorData(error);
	all->damage = psprintf("vecsync.queue: %s", error->message);
	FreeErrorData(error);
}

static void
status_row(const CatalogVectorizer *v, const AllWaiting *all, ReturnSetInfo *rsinfo)
{
	Waiting		waiting = find_waiting(all, v->id);
	WorkerProgress p = read_progress(v->id);
	int64		rows = 0;
	int64		embedded = 0;
	int64		pending = waiting.rows;
	Datum		values[18];
	bool		nulls[18] = {false};

	count_rows(v, &rows, &embedded);
	/* the rows of a scan not counted yet are all there are, with those that have an entry besides */
	if (waiting.uncounted > 0)
		pending = Max(pending, rows);
	/* a scan may have more rows than were estimated, so nothing is done before its entry is gone */
	pending = Max(pending - p.partial_rows, waiting.entries > 0 ? 1 : 0);
	nulls[4] = rows < 0;
	nulls[5] = embedded < 0 && (rows < 0 || all->damage != NULL);
	nulls[6] = nulls[8] = all->damage != NULL;
	if (embedded < 0)
		embedded = Max(0, rows - pending);

	values[0] = CStringGetTextDatum(v->name);
	values[1] = ObjectIdGetDatum(v->source);
	values[2] = CStringGetTextDatum(v->model);
	values[3] = CStringGetTextDatum(all->damage != NULL ? "the queue is damaged" :
									vectorizer_state(v, &p, pending, waiting.failed));
	values[4] = Int64GetDatum(rows);
	values[5] = Int64GetDatum(embedded);
	values[6] = Int64GetDatum(pending);
	values[7] = Int32GetDatum(p.in_flight);
	values[8] = Int64GetDatum(waiting.failed);
	values[9] = TimestampTzGetDatum(waiting.since);
	nulls[9] = !waiting.any;
	values[10] = worker_histogram_share(p.lag, 0.5, &nulls[10]);
	values[11] = worker_histogram_share(p.lag, 0.99, &nulls[11]);
	nulls[12] = p.last_error_at == 0 && all->damage == NULL;
	values[12] = CStringGetTextDatum(all->damage != NULL ? all->damage : p.last_error);
	nulls[13] = p.last_error_at == 0;
	values[13] = TimestampTzGetDatum(p.last_error_at);
	nulls[14] = p.paused_until <= GetCurrentTimestamp();
	values[14] = TimestampTzGetDatum(p.paused_until);
	values[15] = Int64GetDatum(p.skipped);
	values[16] = CStringGetTextDatum(worker_state_name());
	values[17] = Int32GetDatum(v->generation);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* vecsync._status(): a row for each vectorizer whose table the caller owns; all of them for pg_monitor. */
Datum
worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CatalogVectorizer *list;
	int			count;
	CatalogScope scope;
	MemoryContext context = CurrentMemoryContext;
	bool	   *visible;
	AllWaiting	waiting = {.context = CurrentMemoryContext};

	InitMaterializedSRF(fcinfo, 0);
	catalog_enter(&scope);
	list = catalog_read_vectorizers(NULL, &count, context);
	catalog_leave(&scope);
	visible = palloc(Max(count, 1));
	for (int i = 0; i < count; i++)
		visible[i] = may_see(list[i].source);
	catalog_enter(&scope);
	try_to_read_waiting(&waiting);
	for (int i = 0; i < count; i++)
		if (visible[i] && get_rel_name(list[i].source) != NULL)
			status_row(&list[i], &waiting, rsinfo);
	catalog_leave(&scope);
	return (Datum) 0;
}

/* ---- wait --------------------------------------------------------------------------- */

static void
own_changes(void)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot wait for changes of the current transaction"),
			errhint("COMMIT first: the worker sees only what is committed."));
}

/* How far a wait has come. */
typedef struct WaitState
{
	int			vectorizer;
	int64		last;			/* entries up to this number are waited for; 0: not looked yet */
	BlockNumber block;			/* there is none before this block, unless it was moved there */
} WaitState;

/*
 * Is an entry that is waited for in the queue, from state->block on?  By a
 * snapshot of its own, so that it sees what is deleted while this transaction's
 * snapshot stands.  The first look goes to the end of the table and finds the
 * last number.
 */
static bool
pending_from(WaitState *state)
{
	Relation	rel = queue_open(AccessShareLock);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ErrorContextCallback context = {.previous = error_context_stack, .callback = queue_read_error};
	bool		first = state->last == 0;
	bool		own = false;
	bool		found = false;
	ScanKeyData key;
	TableScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, QUEUE_ATT_VECTORIZER, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(state->vectorizer));
	error_context_stack = &context;
	scan = table_beginscan_strat(rel, snapshot, 1, &key, true, false);
	if (state->block < nblocks)
		heap_setscanlimits(scan, state->block, nblocks - state->block);
	while (state->block < nblocks && (first || !found) &&
		   (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		int64		seq = DatumGetInt64(heap_getattr(tuple, QUEUE_ATT_SEQ, RelationGetDescr(rel), &isnull));

		CHECK_FOR_INTERRUPTS();
		if (!first && seq > state->last)
			continue;
		if (!found)
			state->block = ItemPointerGetBlockNumber(&tuple->t_self);
		found = true;
		own |= TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		if (first)
			state->last = Max(state->last, seq);
	}
	table_endscan(scan);
	error_context_stack = context.previous;
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	if (own)
		own_changes();
	return found;
}

/*
 * Is an entry that is waited for in the queue?  Each look begins where the one before has found one, and only
 * when there is none to the end, at the start: so all looks of a wait together read the table a few times.
 * Entries of our own transaction cannot be waited for.
 */
static bool
pending(WaitState *state)
{
	if (pending_from(state))
		return true;
	if (state->block == 0 || state->last == 0)
		return false;
	state->block = 0;
	return pending_from(state);
}

/* The number that goes with the name now, whatever this transaction's snapshot shows; 0: none any more. */
static int
present_number(const char *name)
{
	CatalogScope scope;
	CatalogVectorizer *v;
	int			count;
	int			number;

	PushActiveSnapshot(GetLatestSnapshot());
	catalog_enter(&scope);
	v = catalog_read_vectorizers(name, &count, CurrentMemoryContext);
	number = count > 0 ? v->id : 0; /* v goes with the scope */
	catalog_leave(&scope);
	PopActiveSnapshot();
	return number;
}

/*
 * vecsync.wait(name text, timeout interval) -> boolean
 *
 * A cut-over makes away with what waits for the old generation.  The rows wait
 * for the new one, too, and then so do we.
 */
Datum
worker_wait(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CatalogVectorizer *v = catalog_get_vectorizer(name, CurrentMemoryContext);
	WaitState	state = {.vectorizer = v->id};
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz end = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(start), PG_GETARG_DATUM(1)));
	bool		left;

	if (worker_shared == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("vecsync is not in shared_preload_libraries"),
				errhint("Without a worker there is nothing to wait for."));
	if (queue_noted(v->id))
		own_changes();

	ConditionVariablePrepareToSleep(&worker_shared->progressed);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		left = pending(&state);
		if (!left)
		{
			int			present = present_number(name);

			if (present == state.vectorizer || present == 0)
				break;
			state = (WaitState) {.vectorizer = present};
			continue;
		}
		if (now >= end)
			break;
		(void) ConditionVariableTimedSleep(&worker_shared->progressed,
										   Min(100, TimestampDifferenceMilliseconds(now, end) + 1),
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_BOOL(!left);
}

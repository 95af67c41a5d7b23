/*
 * worker_status.c
 *		What sessions ask about the workers: status, wait, problems.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "optimizer/plancat.h"
#include "pgstat.h"
#include "storage/lmgr.h"
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
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(worker_problem);
PG_FUNCTION_INFO_V1(worker_wanted);
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

/* vecsync._worker_wanted(): have this database's worker started when the transaction commits. */
Datum
worker_wanted(PG_FUNCTION_ARGS)
{
	queue_note_change(QUEUE_CHANGED_CONFIG);
	PG_RETURN_VOID();
}

/* ---- status ---------------------------------------------------------------------- */

static bool
may_see(Oid source)
{
	return superuser() || has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) ||
		compat_relation_owned(source, GetUserId());
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

int64
worker_estimated_rows(Oid source, bool *all)
{
	double		total = 0;
	ListCell   *lc;

	*all = true;
	foreach(lc, find_all_inheritors(source, NoLock, NULL))
	{
		Relation	rel;
		BlockNumber pages;
		double		rows;
		double		visible;

		if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock))
		{
			*all = false;
			continue;
		}
		rel = try_relation_open(lfirst_oid(lc), NoLock);
		if (rel == NULL)
			continue;
		if (RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind))
		{
			estimate_rel_size(rel, NULL, &pages, &rows, &visible);
			total += rows;
		}
		relation_close(rel, AccessShareLock);
	}
	return (int64) total;
}

/*
 * SQL that counts the rows and those that have a vector; NULL when the place of the vectors is gone: a
 * snapshot may show a vectorizer that has been dropped since.  The tables are locked.
 */
static char *
count_query(const CatalogVectorizer *v)
{
	char	   *column;

	if (get_rel_name(v->source) == NULL)
		return NULL;
	if (OidIsValid(v->chunk_table))
		return get_rel_name(v->chunk_table) == NULL ? NULL :
			psprintf("SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM %s WHERE chunk_seq = 0)",
					 catalog_relation_name(v->source), catalog_relation_name(v->chunk_table));
	/* its name now: a cut-over may have renamed it after it was read */
	column = catalog_target_column(v->content_view, CurrentMemoryContext);
	return column == NULL ? NULL : psprintf("SELECT count(*), count(%s) FROM %s", quote_identifier(column),
											catalog_relation_name(v->source));
}

/*
 * Rows of the table and rows that have a vector: counted, or of a large table estimated, and then
 * 'embedded' is -1.
 */
static void
count_rows(const CatalogVectorizer *v, int64 *rows, int64 *embedded)
{
	CatalogScope scope;
	bool		isnull;
	bool		all;
	char	   *sql;

	*rows = worker_estimated_rows(v->source, &all);
	*embedded = -1;
	/* nor does the status wait for somebody who has a table to himself */
	if (*rows > WORKER_COUNT_UP_TO || !all || !ConditionalLockRelationOid(v->source, AccessShareLock) ||
		(OidIsValid(v->chunk_table) && !ConditionalLockRelationOid(v->chunk_table, AccessShareLock)))
		return;
	sql = count_query(v);
	if (sql == NULL)
	{
		*embedded = 0;
		return;
	}
	/* its rules and functions are the owner's */
	catalog_enter_owner(&scope, catalog_relation_owner(v->source));
	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not count the rows of vectorizer \"%s\"", v->name);
	*rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	*embedded = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	catalog_leave(&scope);
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

static void
status_row(const CatalogVectorizer *v, ReturnSetInfo *rsinfo)
{
	WorkerProgress p = read_progress(v->id);
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(v->id);
	int64		rows = 0;
	int64		embedded = 0;
	int64		pending;
	int64		entries;
	int64		uncounted;
	Datum		values[18];
	bool		nulls[18] = {false};

	if (SPI_execute_with_args(
			"SELECT coalesce(sum(rows) FILTER (WHERE rows > 0), 0)::int8, count(*) FILTER (WHERE rows <> 0),"
			" count(*) FILTER (WHERE rows < 0), min(queued_at),"
			" (SELECT count(*) FROM vecsync.dead_letter WHERE vectorizer = $1)"
			" FROM vecsync.queue WHERE vectorizer = $1",
			1, &type, &id, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.queue");
	pending = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &nulls[6]));
	entries = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &nulls[6]));
	uncounted = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &nulls[6]));
	values[9] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &nulls[9]);
	values[8] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &nulls[8]);
	count_rows(v, &rows, &embedded);
	/* the rows of a scan not counted yet are all there are, with those that have an entry besides */
	if (uncounted > 0)
		pending = Max(pending, rows);
	/* a scan may have more rows than were estimated, so nothing is done before its entry is gone */
	pending = Max(pending - p.partial_rows, entries > 0 ? 1 : 0);
	if (embedded < 0)
		embedded = Max(0, rows - pending);

	values[0] = CStringGetTextDatum(v->name);
	values[1] = ObjectIdGetDatum(v->source);
	values[2] = CStringGetTextDatum(v->model);
	values[3] = CStringGetTextDatum(vectorizer_state(v, &p, pending, DatumGetInt64(values[8])));
	values[4] = Int64GetDatum(rows);
	values[5] = Int64GetDatum(embedded);
	values[6] = Int64GetDatum(pending);
	values[7] = Int32GetDatum(p.in_flight);
	values[10] = worker_histogram_share(p.lag, 0.5, &nulls[10]);
	values[11] = worker_histogram_share(p.lag, 0.99, &nulls[11]);
	nulls[12] = p.last_error_at == 0;
	values[12] = CStringGetTextDatum(p.last_error);
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

	InitMaterializedSRF(fcinfo, 0);
	catalog_enter(&scope);
	list = catalog_read_vectorizers(NULL, &count, context);
	catalog_leave(&scope);
	visible = palloc(Max(count, 1));
	for (int i = 0; i < count; i++)
		visible[i] = may_see(list[i].source);
	catalog_enter(&scope);
	for (int i = 0; i < count; i++)
		if (visible[i] && get_rel_name(list[i].source) != NULL)
			status_row(&list[i], rsinfo);
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

/*
 * Is an entry of the vectorizer up to that number still in the queue?  By a
 * snapshot of its own, so that it sees what is deleted while this transaction's
 * snapshot stands.  Entries of our own transaction cannot be waited for.
 */
static bool
pending_up_to(int vectorizer, int64 *last)
{
	Oid			schema = get_namespace_oid("vecsync", false);
	Relation	rel = table_open(get_relname_relid("queue", schema), AccessShareLock);
	Relation	index = index_open(queue_index(schema), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		own = false;
	bool		found = false;
	int64		highest = 0;

	ScanKeyInit(&key, QUEUE_ATT_VECTORIZER, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(vectorizer));
	scan = systable_beginscan_ordered(rel, index, snapshot, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		int64		seq = DatumGetInt64(heap_getattr(tuple, QUEUE_ATT_SEQ, RelationGetDescr(rel), &isnull));

		CHECK_FOR_INTERRUPTS();
		if (*last > 0 && seq > *last)
			break;
		own |= TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		found = true;
		highest = seq;
		if (*last > 0)
			break;
	}
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	if (own)
		own_changes();
	if (*last == 0)
		*last = found ? highest : -1;
	return found;
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
	int			vectorizer = v->id;
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz end = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(start), PG_GETARG_DATUM(1)));
	int64		last = 0;
	bool		pending;

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

		pending = pending_up_to(vectorizer, &last);
		if (!pending)
		{
			int			present = present_number(name);

			if (present == vectorizer || present == 0)
				break;
			vectorizer = present;
			last = 0;
			continue;
		}
		if (now >= end)
			break;
		(void) ConditionVariableTimedSleep(&worker_shared->progressed,
										   Min(100, TimestampDifferenceMilliseconds(now, end) + 1),
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_BOOL(!pending);
}

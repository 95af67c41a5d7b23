/*
 * worker_views.c
 *		What the workers say of themselves: vecsync.workers, vecsync.stats.
 *
 * For pg_monitor: both tell of all databases or of all vectorizers.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "http/http_client.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(worker_list);
PG_FUNCTION_INFO_V1(worker_stats);

static const char *
state_name(const WorkerDatabase *slot)
{
	if (slot->no_slot)
		return "no free background worker slot";
	switch (slot->state)
	{
		case WORKER_WANTED:
			return slot->hold_until > GetCurrentTimestamp() ? "making way" :
				slot->restarts > 0 ? "to be restarted" : "to be started";
		case WORKER_STARTING:
			return "starting";
		case WORKER_RUNNING:
			return slot->latch != NULL ? "running" : "stopped";
		default:
			return "unused";
	}
}

/* vecsync._workers(): a row for each database that has, or is to have, a worker. */
Datum
worker_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	WorkerDatabase *slots;

	InitMaterializedSRF(fcinfo, 0);
	if (worker_shared == NULL)
		return (Datum) 0;
	slots = palloc(sizeof(worker_shared->databases));
	LWLockAcquire(worker_shared->lock, LW_SHARED);
	memcpy(slots, worker_shared->databases, sizeof(worker_shared->databases));
	LWLockRelease(worker_shared->lock);

	for (int i = 0; i < WORKER_MAX_DATABASES; i++)
	{
		WorkerDatabase *slot = &slots[i];
		char	   *name;
		bool		runs = slot->latch != NULL;
		Datum		values[6];
		bool		nulls[6] = {false};

		if (slot->state == WORKER_UNUSED || slot->state == WORKER_ABSENT ||
			(name = get_database_name(slot->database)) == NULL)
			continue;
		values[0] = CStringGetTextDatum(name);
		values[1] = CStringGetTextDatum(worker_enabled ? state_name(slot) : "disabled");
		nulls[2] = nulls[3] = !runs;
		values[2] = Int32GetDatum(slot->pid);
		values[3] = TimestampTzGetDatum(slot->started_at);
		nulls[4] = slot->state != WORKER_WANTED || slot->next_start == 0;
		values[4] = TimestampTzGetDatum(slot->next_start);
		values[5] = Int32GetDatum(slot->restarts);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Every vectorizer of this database in one. */
static void
sum_progress(WorkerProgress *sum)
{
	memset(sum, 0, sizeof(*sum));
	if (worker_shared == NULL)
		return;
	LWLockAcquire(worker_shared->lock, LW_SHARED);
	for (int i = 0; i < WORKER_MAX_VECTORIZERS; i++)
	{
		const WorkerProgress *p = &worker_shared->progress[i];

		if (p->database != MyDatabaseId)
			continue;
		sum->requests += p->requests;
		sum->tokens += p->tokens;
		sum->embedded += p->embedded;
		sum->skipped += p->skipped;
		for (int j = 0; j < WORKER_OUTCOMES; j++)
			sum->answers[j] += p->answers[j];
		for (int j = 0; j < WORKER_LAG_BUCKETS; j++)
			sum->latency[j] += p->latency[j];
	}
	LWLockRelease(worker_shared->lock);
}

/*
 * vecsync._stats() -> one row: the query cache's counters are the server's,
 * those of the worker are this database's since the server started.
 */
Datum
worker_stats(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[15];
	bool		nulls[15] = {false};
	WorkerProgress sum;
	int			entries;
	uint64		hits,
				misses;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	sum_progress(&sum);
	worker_query_cache_counts(&entries, &hits, &misses);
	values[0] = Int64GetDatum(sum.requests);
	for (int i = HTTP_OK; i <= HTTP_GARBAGE; i++)
		values[i] = Int64GetDatum(sum.answers[i]);
	values[7] = worker_histogram_share(sum.latency, 0.5, &nulls[7]);
	values[8] = worker_histogram_share(sum.latency, 0.99, &nulls[8]);
	values[9] = Int64GetDatum(sum.tokens);
	values[10] = Int64GetDatum(sum.embedded);
	values[11] = Int64GetDatum(sum.skipped);
	values[12] = Int32GetDatum(entries);
	values[13] = Int64GetDatum(hits);
	values[14] = Int64GetDatum(misses);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * worker_sweep.c
 *		Digests of rows that went without a word: by TRUNCATE, or with a partition.
 *
 * A digest does not tell its row, so the rows tell which digests stay: all keys
 * of the table go into a Bloom filter, a chunk at a time, then each digest that
 * the filter does not know is deleted.  In small transactions between the other
 * work, one vectorizer at a time, in bounded memory whatever the table's size.
 *
 * A digest too many takes space and nothing else, one too few has a text sent
 * once more if its row is looked at again.  So nothing has to be exact: what the
 * filter mistakes for a row's stays until the next sweep, and a sweep that an
 * error or the end of the process interrupts is not made up for.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/bloomfilter.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "queue/digest.h"
#include "worker/worker_state.h"

#define FILTER_ROWS		(4 * 1024 * 1024)	/* for which the filter is nearly exact ... */
#define FILTER_KB		8192	/* ... in this much memory */
#define DIGESTS_AT_ONCE	2000
#define LOCKED_RETRY_MS	1000

typedef struct Sweep
{
	WorkerVectorizer *v;
	MemoryContext context;
	bloom_filter *rows;
	ArrayType  *after;			/* the last key that was read */
	bool		all_read;
	Datum		last;			/* uuid: digests up to this key are done; 0: none */
	bool		over;
	TimestampTz due;
} Sweep;

static Sweep *sweep = NULL;

/* The vectorizer goes, or its sweep is over. */
void
worker_sweep_end(WorkerVectorizer *v)
{
	if (sweep == NULL || sweep->v != v)
		return;
	MemoryContextDelete(sweep->context);
	sweep = NULL;
}

/* A digest is written for a row that the sweep may have passed already. */
void
worker_sweep_keep(WorkerVectorizer *v, Datum key)
{
	if (sweep != NULL && sweep->v == v)
		bloom_add_element(sweep->rows, (unsigned char *) DatumGetUUIDP(key), UUID_LEN);
}

static bool
begin_sweep(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);
		MemoryContext context;
		MemoryContext old;

		if (!v->sweep_wanted)
			continue;
		v->sweep_wanted = false;
		context = AllocSetContextCreate(WorkerContext, "vecsync sweep", ALLOCSET_DEFAULT_SIZES);
		old = MemoryContextSwitchTo(context);
		sweep = palloc0(sizeof(Sweep));
		sweep->v = v;
		sweep->context = context;
		sweep->rows = bloom_create(FILTER_ROWS, FILTER_KB, 0);
		sweep->after = construct_empty_array(TEXTOID);
		MemoryContextSwitchTo(old);
		return true;
	}
	return false;
}

static void
read_rows(void)
{
	int			nkeys;
	ArrayType **keys = worker_scan_keys(sweep->v, sweep->after, &nkeys);

	for (int i = 0; i < nkeys; i++)
	{
		Datum	   *texts;
		int			n;
		pg_uuid_t	digest;

		deconstruct_array(keys[i], TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
		digest_key(texts, n, &digest);
		bloom_add_element(sweep->rows, digest.data, UUID_LEN);
		pfree(texts);
	}
	if (nkeys > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(sweep->context);

		pfree(sweep->after);
		sweep->after = DatumGetArrayTypePCopy(PointerGetDatum(keys[nkeys - 1]));
		MemoryContextSwitchTo(old);
	}
	sweep->all_read = nkeys < WORKER_SCAN_ROWS;
}

static void
delete_digests(void)
{
	Oid			types[2] = {INT4OID, UUIDOID};
	Datum		values[2] = {Int32GetDatum(sweep->v->def->id), sweep->last};
	char		nulls[3] = {' ', sweep->last == (Datum) 0 ? 'n' : ' '};
	Datum	   *gone = palloc(sizeof(Datum) * DIGESTS_AT_ONCE);
	int			ngone = 0;
	uint64		n;

	if (SPI_execute_with_args("SELECT key FROM vecsync.digest WHERE vectorizer = $1"
							  " AND ($2 IS NULL OR key > $2)"
							  " ORDER BY key LIMIT " CppAsString2(DIGESTS_AT_ONCE),
							  2, types, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.digest");
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		key = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		if (bloom_lacks_element(sweep->rows, (unsigned char *) DatumGetUUIDP(key), UUID_LEN))
			gone[ngone++] = key;
		if (i == n - 1)
		{
			MemoryContext old = MemoryContextSwitchTo(sweep->context);

			sweep->last = datumCopy(key, false, UUID_LEN);
			MemoryContextSwitchTo(old);
		}
	}
	if (ngone > 0)
	{
		types[1] = UUIDARRAYOID;
		values[1] = PointerGetDatum(construct_array(gone, ngone, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
		if (SPI_execute_with_args(DIGEST_DELETE_SQL, 2, types, values, NULL, false, 0) < 0)
			elog(ERROR, "could not write vecsync.digest");
	}
	sweep->over = n < DIGESTS_AT_ONCE;
}

static void
next_step(void *arg)
{
	if (!sweep->all_read)
		read_rows();
	else
		delete_digests();
}

/* The next piece of a sweep, if one is due.  Returns whether anything was done; lowers 'when'. */
bool
worker_sweep(TimestampTz *when)
{
	WorkerVectorizer *v;
	ErrorData  *error = NULL;

	if (sweep == NULL && !begin_sweep())
		return false;
	if (sweep->due > GetCurrentTimestamp())
	{
		*when = Min(*when, sweep->due);
		return false;
	}
	v = sweep->v;
	if (!worker_begin("looking for digests of rows that went"))
	{
		if (MyWorker->gone)
			worker_sweep_end(v);
		return false;
	}
	(void) worker_config_load();
	if (sweep != NULL)			/* else the vectorizer is gone */
	{
		if (v->read_sql == NULL)
			sweep->over = true; /* it cannot be followed now */
		else if (ConditionalLockRelationOid(v->def->source, AccessShareLock) && !v->stale)
			error = worker_try(next_step, NULL);
		else
			sweep->due = worker_from_now(LOCKED_RETRY_MS);
		if (error != NULL || sweep->over)
			worker_sweep_end(v);	/* also where there is no vecsync.digest yet */
	}
	worker_commit();
	return true;
}

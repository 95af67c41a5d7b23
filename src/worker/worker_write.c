/*
 * worker_write.c
 *		Vectors into the table's column, or into the vectorizer's table of chunks.
 *
 * worker_batch.c tells which rows may be written.  Lock order: the table
 * (tried, never waited for), its rows (skipped when locked), then the table
 * of chunks, which nobody but the worker writes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "worker/worker_state.h"

/* A backfill's batch that takes longer than this is interrupted when changes are there. */
#define WRITE_SLICE_US	10000

typedef enum RowFate
{
	ROW_LOCKED,					/* by somebody else */
	ROW_LATER,					/* not yet looked at: changes go first */
	ROW_CHANGED,
	ROW_GONE,
	ROW_WRITTEN,
} RowFate;

typedef struct WriteArgs
{
	WorkerBatch *batch;
	RowFate    *fate;
	int			written;		/* or found to be changed: rows that the slice got through */
	TimestampTz slice_end;
} WriteArgs;

/* ---- one row ---------------------------------------------------------------------- */

static void
run_plan(WorkerVectorizer *v, SPIPlanPtr plan, Datum *values, const char *nulls)
{
	if (SPI_execute_plan(plan, values, nulls, false, 0) < 0)
		elog(ERROR, "could not write the vectors of vectorizer \"%s\"", v->def->name);
}

/* The same for what must change a row.  A trigger that returns NULL, or a rule, may keep it as it is. */
static void
run_write_plan(WorkerVectorizer *v, Datum *values, const char *nulls)
{
	run_plan(v, v->write_plan, values, nulls);
	if (SPI_processed == 0)
		ereport(ERROR, errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				errmsg("a trigger or rule of the table keeps its vector from being written"));
}

static Datum
input_vector(WorkerBatch *batch, int input)
{
	return vector_value_make(&MyWorker->vector, batch->vectors + (Size) input * batch->dimensions,
							 batch->dimensions);
}

/* The column: one vector, or NULL for a row without text. */
static void
write_column(WorkerBatch *batch, BatchRow *row)
{
	WorkerVectorizer *v = batch->vectorizer;
	Datum		values[INDEX_MAX_KEYS + 1];
	char		nulls[INDEX_MAX_KEYS + 2] = {0};
	Datum	   *elems;
	int			n;

	memset(nulls, ' ', INDEX_MAX_KEYS + 1);
	nulls[0] = row->ninputs > 0 ? ' ' : 'n';
	values[0] = row->ninputs > 0 ? input_vector(batch, row->first) : (Datum) 0;
	deconstruct_array(row->item->key, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	memcpy(values + 1, elems, sizeof(Datum) * n);
	run_write_plan(v, values, nulls);
	if (row->ninputs > 0)
		pfree(DatumGetPointer(values[0]));
}

/* The table of chunks: all of the row's chunks, in place of those it had. */
static void
write_chunks(WorkerBatch *batch, BatchRow *row)
{
	WorkerVectorizer *v = batch->vectorizer;
	Datum		values[INDEX_MAX_KEYS + 3];
	Datum	   *elems;
	int			n;

	deconstruct_array(row->item->key, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	run_plan(v, v->delete_plan, elems, NULL);
	memcpy(values + 1, elems, sizeof(Datum) * n);
	for (int i = 0; i < row->ninputs; i++)
	{
		values[0] = input_vector(batch, row->first + i);
		values[n + 1] = Int32GetDatum(i);
		values[n + 2] = CStringGetTextDatum(batch->inputs[row->first + i]);
		run_write_plan(v, values, NULL);
		pfree(DatumGetPointer(values[0]));
		pfree(DatumGetPointer(values[n + 2]));
	}
}

static void
delete_chunks(WorkerVectorizer *v, BatchRow *row)
{
	Datum	   *elems;
	int			n;

	if (v->delete_sql == NULL)
		return;
	deconstruct_array(row->item->key, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	run_plan(v, v->delete_plan, elems, NULL);
}

/* ---- a batch ---------------------------------------------------------------------------- */

static void
prepare_plans(WorkerVectorizer *v)
{
	Oid			types[INDEX_MAX_KEYS + 3];

	types[0] = MyWorker->vector.type;
	for (int i = 0; i < v->nkeys; i++)
		types[i + 1] = TEXTOID;
	types[v->nkeys + 1] = INT4OID;
	types[v->nkeys + 2] = TEXTOID;
	if (v->write_plan == NULL)
		v->write_plan = worker_prepare(v->write_sql, v->nkeys + (v->delete_sql ? 3 : 1), types);
	if (v->delete_plan == NULL && v->delete_sql != NULL)
		v->delete_plan = worker_prepare(v->delete_sql, v->nkeys, types + 1);
}

/* Of what texts the vectors are now. */
static void
write_digests(WriteArgs *w)
{
	WorkerBatch *batch = w->batch;
	BatchRow  **written = palloc(sizeof(BatchRow *) * batch->nrows);
	BatchRow  **emptied = palloc(sizeof(BatchRow *) * batch->nrows);
	int			nwritten = 0;
	int			nemptied = 0;

	for (int i = 0; i < batch->nrows; i++)
	{
		BatchRow   *row = &batch->rows[i];

		if (w->fate[i] == ROW_WRITTEN && row->ninputs > 0)
			written[nwritten++] = row;
		else if (w->fate[i] == ROW_WRITTEN || w->fate[i] == ROW_GONE)
			emptied[nemptied++] = row;
	}
	worker_digest_write(batch->vectorizer, written, nwritten, emptied, nemptied);
}

/* Are there changes to read, on their way back from the service, or to be written? */
static bool
changes_wait(void)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	i,
				j;

	if (pg_atomic_read_u32(&MyWorker->slot->rows_changed) != 0)
		return true;
	dlist_foreach(i, &MyWorker->vectorizers)
		dlist_foreach(j, &dlist_container(WorkerVectorizer, node, i.cur)->batches)
		{
			WorkerBatch *batch = dlist_container(WorkerBatch, node, j.cur);

			if (batch->live && (batch->state == BATCH_SENT ||
								(batch->state == BATCH_WRITE && batch->write_at <= now)))
				return true;
		}
	return false;
}

/*
 * Who has attached or made a partition is seen to have committed before we are told that the table has it,
 * and its rows, queued by him, are not found until then.  He lets go of his lock on what it is a partition of
 * after that.  Tried, never waited for: false when there may be such a partition.  What is locked gets no
 * further partitions, so only then is it asked for those that it has.
 */
static bool
partitions_known(Oid table)
{
	ListCell   *lc;

	check_stack_depth();
	if (!ConditionalLockRelationOid(table, ShareUpdateExclusiveLock))
		return false;
	foreach(lc, find_inheritance_children(table, NoLock))
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_PARTITIONED_TABLE && !partitions_known(lfirst_oid(lc)))
			return false;
	return true;
}

/* Those of rows [from, to) that could not be locked: by somebody else, or gone? */
static void
write_gone_rows(WriteArgs *w, int from, int to)
{
	WorkerBatch *batch = w->batch;
	WorkerVectorizer *v = batch->vectorizer;
	RenderArgs	args = {
		.v = v, .rows = batch->rows + from, .nrows = to - from,
		.texts = palloc0(sizeof(char *) * (to - from)), .found = palloc0(to - from),
		.context = CurrentMemoryContext
	};
	CatalogScope scope;

	if (get_rel_relkind(v->def->source) == RELKIND_PARTITIONED_TABLE && !partitions_known(v->def->source))
		return;
	worker_render(&args);
	worker_enter_owner(v, &scope);
	for (int i = from; i < to; i++)
		if (w->fate[i] == ROW_LOCKED && !args.found[i - from])
		{
			w->fate[i] = ROW_GONE;
			delete_chunks(v, &batch->rows[i]);
		}
	worker_leave_owner(&scope);
}

/* Has the slice taken its time, and is there somebody to give way to? */
static bool
slice_is_over(const WriteArgs *w)
{
	return !w->batch->live && GetCurrentTimestamp() > w->slice_end && changes_wait();
}

/*
 * Lock rows [from, to), and write those that are still as they were sent.  One at least: who comes again and
 * again gets through.
 */
static void
write_piece(WriteArgs *w, int from, int to)
{
	WorkerBatch *batch = w->batch;
	WorkerVectorizer *v = batch->vectorizer;
	RenderArgs	args = {
		.v = v, .rows = batch->rows + from, .nrows = to - from, .lock = true,
		.texts = palloc0(sizeof(char *) * (to - from)), .found = palloc0(to - from),
		.context = CurrentMemoryContext
	};
	bool		missing = false;
	CatalogScope scope;

	worker_render(&args);
	worker_enter_owner(v, &scope);
	prepare_plans(v);
	for (int i = from; i < to; i++)
	{
		BatchRow   *row = &batch->rows[i];

		if (w->written > 0 && slice_is_over(w))
			break;
		if (!args.found[i - from])
		{
			w->fate[i] = ROW_LOCKED;
			missing = true;
			continue;
		}
		w->written++;
		w->fate[i] = ROW_WRITTEN;
		if (!worker_text_same(args.texts[i - from], row->text))
			w->fate[i] = ROW_CHANGED;
		else if (v->delete_sql != NULL)
			write_chunks(batch, row);
		else
			write_column(batch, row);
	}
	worker_leave_owner(&scope);
	if (missing)
		write_gone_rows(w, from, to);
}

/*
 * Decide the fate of each row, and write those that are still as they were
 * sent.  In a subtransaction, as the table's owner where its SQL runs.
 *
 * Rows that a slice does not come to are rendered and locked in vain.  So a
 * backfill's are taken in pieces of about as many as the last slice has written.
 */
static void
write_rows(WriteArgs *w)
{
	WorkerBatch *batch = w->batch;
	WorkerVectorizer *v = batch->vectorizer;
	int			piece = batch->live || v->write_piece == 0 ? batch->nrows : v->write_piece;

	for (int i = 0; i < batch->nrows; i++)
		w->fate[i] = ROW_LATER;
	w->slice_end = GetCurrentTimestamp() + WRITE_SLICE_US;
	for (int from = 0; from < batch->nrows && !(w->written > 0 && slice_is_over(w)); from += piece)
		write_piece(w, from, Min(from + piece, batch->nrows));
	if (!batch->live && GetCurrentTimestamp() > w->slice_end)
		v->write_piece = Max(1, w->written);
	else if (!batch->live && v->write_piece > 0)
		v->write_piece = v->write_piece < batch->nrows ? v->write_piece * 2 : 0;
}

static void
write_rows_and_digests(void *arg)
{
	write_rows(arg);
	write_digests(arg);
}

static void
count_written(WorkerBatch *batch, RowFate *fate)
{
	WorkerProgress *p = batch->vectorizer->progress;
	TimestampTz now = GetCurrentTimestamp();

	if (p == NULL)
		return;
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < batch->nrows; i++)
		if (fate[i] == ROW_WRITTEN)
		{
			worker_note_lag(batch->vectorizer, batch->rows[i].item, now);
			if (batch->rows[i].ninputs > 0)
				p->embedded++;
			else
				p->skipped++;
		}
	LWLockRelease(worker_shared->lock);
}

/* May rows of it be dead letters?  Asked once for a batch that is settled: mostly there are none. */
void
worker_look_for_failures(WorkerVectorizer *v)
{
	static SPIPlanPtr plan = NULL;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(v->def->id);

	if (plan == NULL)
		plan = worker_prepare("SELECT FROM vecsync.dead_letter WHERE vectorizer = $1 LIMIT 1", 1, &type);
	if (SPI_execute_plan(plan, &id, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.dead_letter");
	v->dead_letters = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
}

/* A row is settled: it is no dead letter any more.  After worker_look_for_failures, in its transaction. */
void
worker_forget_failure(WorkerVectorizer *v, QueueItem *item)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTARRAYOID};
	Datum		values[2] = {Int32GetDatum(v->def->id), PointerGetDatum(item->key)};

	if (!v->dead_letters)
		return;
	if (plan == NULL)
		plan = worker_prepare("DELETE FROM vecsync.dead_letter WHERE vectorizer = $1 AND key = $2", 2, types);
	if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete from vecsync.dead_letter");
}

/* Does the row's text differ again and again although nothing changes the row?  Then it would for ever. */
static bool
restless(QueueItem *item)
{
	item->changes = item->nrefs == item->seen_refs ? item->changes + 1 : 0;
	item->seen_refs = item->nrefs;
	return item->changes >= 5;
}

/* The subtransaction is through: rows are done, or go back; those that were not written yet stay. */
static void
settle_rows(WorkerBatch *batch, RowFate *fate)
{
	WorkerVectorizer *v = batch->vectorizer;
	WorkerLog  *log = worker_log_begin(batch->nrows);
	int			kept = 0;

	count_written(batch, fate);
	worker_look_for_failures(v);
	for (int i = 0; i < batch->nrows; i++)
	{
		QueueItem  *item = batch->rows[i].item;

		if (fate[i] == ROW_LOCKED || fate[i] == ROW_LATER)
		{
			if (fate[i] == ROW_LATER)
				batch->write_at = batch->write_tries = 0;
			batch->rows[kept++] = batch->rows[i];
			continue;
		}
		v->inflight--;
		if (fate[i] == ROW_CHANGED && restless(item))
		{
			item->attempts++;
			worker_dead_letter(v, item, "write", "the text is another one each time that it is rendered");
		}
		else if (fate[i] == ROW_CHANGED)
			queue_window_return(item, 0);
		else
		{
			bool		upsert = fate[i] == ROW_WRITTEN && batch->rows[i].ninputs > 0;

			worker_log_row(log, item, upsert ? WORKER_LOG_UPSERT : WORKER_LOG_DELETE,
						   upsert ? batch->rows[i].text : NULL);
			worker_forget_failure(v, item);
			queue_window_done(item);
		}
	}
	worker_log_end(log, v, NULL);
	batch->nrows = kept;
}

/* The batch could not be written: find the row that is to blame by writing them one by one. */
static void
write_failed(WorkerBatch *batch, ErrorData *error)
{
	WorkerVectorizer *v = batch->vectorizer;
	bool		doubted = worker_doubt_names(v, error, batch->rows, batch->nrows);
	bool		short_of_memory = error->sqlerrcode == ERRCODE_OUT_OF_MEMORY;

	if (doubted || (worker_passing_error(error) && !short_of_memory))
	{
		if (!doubted)
			worker_note_error(v, error->message);
		FreeErrorData(error);
		return;					/* again at write_at */
	}
	if (batch->nrows == 1)
	{
		batch->rows[0].item->attempts++;
		worker_note_error(v, error->message);
		if (short_of_memory && batch->rows[0].item->attempts < worker_max_attempts)
		{
			FreeErrorData(error);
			return;				/* again at write_at */
		}
		worker_dead_letter(v, batch->rows[0].item, "write", error->message);
	}
	else
		for (int i = 0; i < batch->nrows; i++)
			(void) worker_split_batch(batch, i, i + 1);
	v->inflight -= batch->nrows;
	batch->nrows = 0;
	FreeErrorData(error);
}

/* Reloading the configuration may have dropped it. */
static bool
batch_exists(WorkerBatch *batch)
{
	dlist_iter	i,
				j;

	dlist_foreach(i, &MyWorker->vectorizers)
		dlist_foreach(j, &dlist_container(WorkerVectorizer, node, i.cur)->batches)
			if (dlist_container(WorkerBatch, node, j.cur) == batch)
				return true;
	return false;
}

/*
 * The table is locked now.  Were its columns renamed, or did generations change
 * places, just before?  Then the SQL that is there names the wrong column.  False:
 * not now, or never, if the batch is gone.
 */
static bool
ready_under_lock(WorkerBatch *batch, bool *gone)
{
	WorkerVectorizer *v = batch->vectorizer;

	if (!v->stale && MyWorker->config_generation == worker_config_generation())
		return true;
	*gone = worker_config_load() && !batch_exists(batch);
	return !*gone && !v->stale && v->read_sql != NULL;
}

void
worker_write_batch(WorkerBatch *batch)
{
	WorkerVectorizer *v = batch->vectorizer;
	WriteArgs	args = {.batch = batch};
	ErrorData  *error = NULL;
	bool		gone = false;

	if (!worker_begin("writing vectors"))
	{
		if (MyWorker->gone)
			worker_drop_batch(batch);
		return;
	}
	/* may drop the vectorizer and with it the batch */
	if (worker_config_load() && !batch_exists(batch))
	{
		worker_commit();
		return;
	}
	batch->write_at = worker_from_now(Min(WORKER_LOCKED_RETRY_MS << Min(batch->write_tries, 10),
										  WORKER_LOCKED_RETRY_MAX_MS));
	batch->write_tries++;
	if (v->read_sql != NULL && ConditionalLockRelationOid(v->def->source, RowExclusiveLock) &&
		ready_under_lock(batch, &gone))
	{
		args.fate = palloc0(sizeof(RowFate) * batch->nrows);
		error = worker_try(write_rows_and_digests, &args);
		if (error == NULL)
			settle_rows(batch, args.fate);
		else
			write_failed(batch, error);
		queue_window_finish(MyWorker->window);
		DEBUG_POINT("worker_written");
	}
	worker_commit();
	if (gone)
		return;
	ConditionVariableBroadcast(&worker_shared->progressed);
	if (batch->nrows == 0)
		worker_free_batch(batch);
}

/* ---- rows that went all at once ---------------------------------------------------------------- */

static void
delete_orphans(void *arg)
{
	WorkerVectorizer *v = arg;
	CatalogScope scope;

	worker_enter_owner(v, &scope);
	if (SPI_execute(v->orphans_sql, false, 0) < 0)
		elog(ERROR, "could not delete the chunks of vectorizer \"%s\"", v->def->name);
	worker_leave_owner(&scope);
}

/*
 * The table was truncated, or a partition went: chunks without a row go, too.
 * Dead letters are looked at again; those whose row went are none any more.
 * Inside a transaction.
 */
void
worker_forget_vanished(WorkerVectorizer *v)
{
	ErrorData  *error = NULL;

	if (!worker_lock_source(v))
		return;
	if (v->orphans_sql != NULL)
		error = worker_try(delete_orphans, v);
	if (error != NULL)
	{
		worker_own_failure(v, error);
		return;
	}
	v->sweep_wanted = true;
	(void) queue_retry_failed(v->def->id);
	queue_window_vanished_done(v->source);
	queue_window_finish(MyWorker->window);
	MyWorker->more_to_read = true;
}

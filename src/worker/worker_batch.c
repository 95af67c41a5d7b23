/*
 * worker_batch.c
 *		A batch of rows: read, sent, answered, written.
 *
 * Read (first transaction): the rows' keys give their current texts.  Sent:
 * the request is under way and this process is in no transaction.  Written
 * (second transaction): each row is locked without waiting, rendered again,
 * and gets its vector only if its text is still the one that was sent.  A row
 * whose text has changed goes back to the queue; one that somebody has
 * locked is tried again a little later with the same vector; one that is gone
 * is done.  So an answer that comes late can never replace a newer one, and
 * nobody waits for us.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/debug_point.h"
#include "queue/queue.h"
#include "worker/worker_state.h"

#define LOCKED_RETRY_MS		50		/* a row or table that somebody has locked, doubling ... */
#define LOCKED_RETRY_MAX_MS	5000

static bool
blank(const char *text)
{
	if (text != NULL)
		for (; *text; text++)
			if (!isspace((unsigned char) *text))
				return false;
	return true;
}

/* a and b: what two renderings of a row gave */
static bool
same_text(const char *a, const char *b)
{
	if (blank(a) || blank(b))
		return blank(a) && blank(b);
	return strcmp(a, b) == 0;
}

static int64
backoff_ms(int failures)
{
	double		ms = worker_backoff_min * exp2(Min(failures - 1, 30));

	ms = Min(ms, worker_backoff_max);
	return (int64) (ms * (0.75 + 0.5 * pg_prng_double(&pg_global_prng_state)));
}

static TimestampTz
from_now(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* ---- keys and texts ------------------------------------------------------------- */

/* The rows' keys as one text[] for each key column. */
static Datum *
key_params(WorkerVectorizer *v, BatchRow *rows, int nrows)
{
	Datum	   *params = palloc(sizeof(Datum) * v->nkeys);
	Datum	   *columns = palloc(sizeof(Datum) * v->nkeys * nrows);

	for (int i = 0; i < nrows; i++)
	{
		Datum	   *elems;
		int			n;

		deconstruct_array(rows[i].item->key, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
		if (n != v->nkeys)
			ereport(ERROR,
					errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("queued key of vectorizer \"%s\" has %d columns, but the primary key has %d",
						   v->def->name, n, v->nkeys),
					errhint("The primary key was changed while rows were queued; run vecsync.resync()."));
		for (int k = 0; k < n; k++)
			columns[k * nrows + i] = elems[k];
	}
	for (int k = 0; k < v->nkeys; k++)
		params[k] = PointerGetDatum(
			construct_array(columns + k * nrows, nrows, TEXTOID, -1, false, TYPALIGN_INT));
	return params;
}

static SPIPlanPtr
prepare(const char *sql, int nkeys, Oid keytype, Oid first)
{
	Oid			types[INDEX_MAX_KEYS + 1];
	int			n = 0;
	SPIPlanPtr	plan;

	if (OidIsValid(first))
		types[n++] = first;
	for (int i = 0; i < nkeys; i++)
		types[n++] = keytype;
	plan = SPI_prepare(sql, n, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	return plan;
}

/*
 * Render rows of the table: texts[i] and found[i] for each of the rows given.
 * With 'lock', only rows that could be locked without waiting are found.
 * As the table's owner.
 */
typedef struct RenderArgs
{
	WorkerVectorizer *v;
	BatchRow   *rows;
	int			nrows;
	bool		lock;
	char	  **texts;
	bool	   *found;
	MemoryContext context;		/* of the texts */
} RenderArgs;

static void
render(void *arg)
{
	RenderArgs *r = arg;
	WorkerVectorizer *v = r->v;
	SPIPlanPtr *plan = r->lock ? &v->lock_plan : &v->read_plan;
	Datum	   *params = key_params(v, r->rows, r->nrows);
	CatalogScope scope;

	worker_enter_owner(v, &scope);
	if (*plan == NULL)
		*plan = prepare(r->lock ? v->lock_sql : v->read_sql, v->nkeys, TEXTARRAYOID, InvalidOid);
	if (SPI_execute_plan(*plan, params, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the rows of vectorizer \"%s\"", v->def->name);
	memset(r->found, 0, sizeof(bool) * r->nrows);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		HeapTuple	tuple = SPI_tuptable->vals[i];
		int			row = DatumGetInt32(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull)) - 1;
		Datum		content = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull);

		if (row < 0 || row >= r->nrows)
			continue;
		r->found[row] = true;
		r->texts[row] = NULL;
		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(r->context);

			r->texts[row] = TextDatumGetCString(content);
			MemoryContextSwitchTo(old);
		}
	}
	SPI_freetuptable(SPI_tuptable);
	worker_leave_owner(&scope);
}

/* Our own SQL failed on this table: say so, and leave it alone for a while. */
static void
own_failure(WorkerVectorizer *v, ErrorData *error)
{
	v->failures++;
	v->not_before = from_now(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? LOCKED_RETRY_MS
																			 : backoff_ms(v->failures));
	v->stale = MyWorker->sources_stale = true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
	{
		worker_note_error(v, error->message);
		ereport(LOG, errmsg("vectorizer \"%s\": %s", v->def->name, error->message));
	}
	FreeErrorData(error);
}

/* A row is settled: it is no dead letter any more.  Inside a transaction. */
static void
forget_failure(WorkerVectorizer *v, QueueItem *item)
{
	Oid			types[2] = {INT4OID, TEXTARRAYOID};
	Datum		values[2] = {Int32GetDatum(v->def->id), PointerGetDatum(item->key)};

	if (v->dead_letters)
		SPI_execute_with_args("DELETE FROM vecsync.dead_letter WHERE vectorizer = $1 AND key = $2",
							  2, types, values, NULL, false, 0);
}

/* ---- read ---------------------------------------------------------------------------- */

static WorkerBatch *
new_batch(WorkerVectorizer *v, int maxrows)
{
	MemoryContext context = AllocSetContextCreate(WorkerContext, "vecsync batch", ALLOCSET_DEFAULT_SIZES);
	WorkerBatch *batch = MemoryContextAllocZero(context, sizeof(WorkerBatch));

	batch->context = context;
	batch->vectorizer = v;
	batch->rows = MemoryContextAllocZero(context, sizeof(BatchRow) * maxrows);
	dlist_push_tail(&v->batches, &batch->node);
	return batch;
}

static void
free_batch(WorkerBatch *batch)
{
	WorkerVectorizer *v = batch->vectorizer;

	if (batch->call != NULL)
	{
		if (batch->state == BATCH_SENT && v->model != NULL)
			v->model->inflight--;
		embedding_free(batch->call);
	}
	v->inflight -= batch->nrows;
	dlist_delete(&batch->node);
	MemoryContextDelete(batch->context);
}

/* Give all rows back and forget the batch; a request under way is aborted. */
void
worker_drop_batch(WorkerBatch *batch)
{
	for (int i = 0; i < batch->nrows; i++)
		queue_window_return(batch->rows[i].item, 0);
	free_batch(batch);
}

/* Move rows [from, to) of a batch into one of their own. */
static WorkerBatch *
split_batch(WorkerBatch *batch, int from, int to)
{
	WorkerBatch *part = new_batch(batch->vectorizer, to - from);
	MemoryContext old = MemoryContextSwitchTo(part->context);

	for (int i = from; i < to; i++)
	{
		part->rows[part->nrows++] = (BatchRow)
		{
			.item = batch->rows[i].item,
			.text = batch->rows[i].text ? pstrdup(batch->rows[i].text) : NULL
		};
	}
	part->vectorizer->inflight += part->nrows;
	MemoryContextSwitchTo(old);
	return part;
}

/*
 * Rows that failed before travel in smaller and smaller company, so that one
 * that the service cannot stand is alone before its attempts are used up.
 */
static int
batch_limit(WorkerVectorizer *v, QueueItem *first)
{
	if (v->model->failures > 0)
		return Min(v->model->def->max_batch, 8);
	return Max(1, v->model->def->max_batch >> Min(first->attempts, 12));
}

/*
 * Take rows from the queue and read their texts.  Inside a transaction.
 * Returns false when there was nothing to do.
 */
bool
worker_make_batch(WorkerVectorizer *v)
{
	TimestampTz now = GetCurrentTimestamp();
	QueueItem  *first = queue_window_peek(v->source, now);
	WorkerBatch *batch;
	WorkerBatch *blanks = NULL;
	RenderArgs	args;
	ErrorData  *error;
	int			limit;
	int			kept = 0;
	int64		bytes = 0;

	if (first == NULL)
		return false;
	if (!ConditionalLockRelationOid(v->def->source, AccessShareLock))
	{
		v->not_before = from_now(LOCKED_RETRY_MS);
		return false;
	}

	limit = batch_limit(v, first);
	batch = new_batch(v, limit);
	while (batch->nrows < limit)
	{
		QueueItem  *item = queue_window_peek(v->source, now);

		if (item == NULL || (item->attempts > 0 && item->attempts != first->attempts))
			break;
		batch->rows[batch->nrows++].item = queue_window_take(v->source, now);
	}
	v->inflight += batch->nrows;

	args = (RenderArgs)
	{
		.v = v, .rows = batch->rows, .nrows = batch->nrows,
		.texts = palloc0(sizeof(char *) * batch->nrows), .found = palloc0(batch->nrows),
		.context = batch->context
	};
	error = worker_try(render, &args);
	if (error != NULL)
	{
		worker_drop_batch(batch);
		own_failure(v, error);
		return false;
	}
	v->failures = 0;

	/* Rows that are gone are done; blank ones need no request; too many bytes wait for the next batch. */
	for (int i = 0; i < batch->nrows; i++)
	{
		BatchRow   *row = &batch->rows[i];
		bool		none = blank(args.texts[i]);

		row->text = args.texts[i];
		if (!args.found[i])
		{
			forget_failure(v, row->item);
			queue_window_done(row->item);
			v->inflight--;
		}
		else if (none)
		{
			if (blanks == NULL)
				blanks = new_batch(v, batch->nrows);
			blanks->rows[blanks->nrows++] = (BatchRow) {.item = row->item};
		}
		else if (kept > 0 && bytes + (int64) strlen(row->text) > v->model->def->max_batch_bytes)
		{
			queue_window_return(row->item, 0);
			v->inflight--;
		}
		else
		{
			bytes += strlen(row->text);
			batch->rows[kept++] = *row;
		}
	}
	batch->nrows = kept;
	queue_window_finish(MyWorker->window);
	if (blanks != NULL)
		blanks->state = BATCH_WRITE;
	if (kept == 0)
		free_batch(batch);
	return true;
}

/* ---- send ------------------------------------------------------------------------------ */

/* May a request of this model go out now?  If not, 'when' is lowered to the time to look again. */
bool
worker_model_ready(WorkerModel *model, TimestampTz now, TimestampTz *when)
{
	int			limit = model->failures > 0 ? 1 : model->def->max_inflight;

	if (model->inflight >= limit)
		return false;			/* an answer will wake us */
	if (model->not_before > now)
	{
		*when = Min(*when, model->not_before);
		return false;
	}
	if (model->def->rate_limit > 0)
	{
		double		per_us = model->def->rate_limit / 60e6;

		if (model->allowance_at == 0)
			model->allowance = model->def->rate_limit;
		else
			model->allowance = Min(model->def->rate_limit,
								   model->allowance + (now - model->allowance_at) * per_us);
		model->allowance_at = now;
		if (model->allowance < 1)
		{
			*when = Min(*when, now + (int64) ((1 - model->allowance) / per_us) + 1);
			return false;
		}
	}
	return true;
}

void
worker_send_batch(WorkerBatch *batch)
{
	WorkerVectorizer *v = batch->vectorizer;
	CatalogModel *def = v->model->def;
	const char **inputs;
	EmbeddingModel model = {
		.target = {
			.url = def->url, .secret = def->secret, .ca_file = worker_ca_file[0] ? worker_ca_file : NULL,
			.private_addresses = true, .timeout_ms = def->timeout_ms,
			.connect_timeout_ms = worker_connect_timeout, .max_response_bytes = worker_max_response_bytes
		},
		.provider = def->provider, .model = def->model, .parameters = def->parameters,
		.document_parameters = def->document_parameters, .query_parameters = def->query_parameters,
		.dimensions = def->dimensions
	};
	MemoryContext old = MemoryContextSwitchTo(batch->context);

	inputs = palloc(sizeof(char *) * batch->nrows);
	for (int i = 0; i < batch->nrows; i++)
	{
		const char *text = batch->rows[i].text;

		inputs[i] = pg_server_to_any(text, strlen(text), PG_UTF8);
	}
	batch->call = embedding_submit(MyWorker->client, &model, inputs, batch->nrows, false, batch);
	MemoryContextSwitchTo(old);
	batch->state = BATCH_SENT;
	v->model->inflight++;
	v->model->allowance -= 1;
}

/* ---- answer ---------------------------------------------------------------------------------- */

static void
dead_letter(WorkerVectorizer *v, QueueItem *item, const char *operation, const char *message)
{
	Oid			types[5] = {INT4OID, TEXTARRAYOID, TEXTOID, INT4OID, TEXTOID};
	Datum		values[5] = {
		Int32GetDatum(v->def->id), PointerGetDatum(item->key), CStringGetTextDatum(operation),
		Int32GetDatum(item->attempts), CStringGetTextDatum(message)
	};

	SPI_execute_with_args(
		"INSERT INTO vecsync.dead_letter (vectorizer, key, operation, attempts, error)"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT (vectorizer, key) DO UPDATE"
		" SET operation = excluded.operation, attempts = excluded.attempts,"
		" error = excluded.error, failed_at = excluded.failed_at",
		5, types, values, NULL, false, 0);
	queue_window_done(item);
	v->dead_letters = true;
}

/* Give up on all rows of the batch, in a transaction of its own. */
static void
bury_batch(WorkerBatch *batch, const char *operation, const char *message)
{
	WorkerVectorizer *v = batch->vectorizer;

	if (worker_begin("noting rows that failed"))
	{
		for (int i = 0; i < batch->nrows; i++)
			dead_letter(v, batch->rows[i].item, operation, message);
		queue_window_finish(MyWorker->window);
		worker_commit();
		free_batch(batch);
	}
	else
		worker_drop_batch(batch);
}

/* The service failed.  Rows are charged an attempt only while it is known to work otherwise. */
static void
service_failed(WorkerBatch *batch, bool charge)
{
	WorkerModel *model = batch->vectorizer->model;
	bool		healthy = model->failures == 0;
	int			worn_out = 0;

	model->failures++;
	model->not_before = from_now(backoff_ms(model->failures));
	for (int i = 0; i < batch->nrows; i++)
		if (charge && healthy && ++batch->rows[i].item->attempts >= worker_max_attempts)
			worn_out++;
	if (worn_out == batch->nrows)
		bury_batch(batch, "embed", batch->result->error);
	else
		worker_drop_batch(batch);
}

/* Take the answer of a finished call.  Outside a transaction. */
void
worker_answer(WorkerBatch *batch)
{
	WorkerVectorizer *v = batch->vectorizer;
	WorkerModel *model = v->model;
	HttpOutcome outcome;

	batch->result = embedding_result(batch->call);
	outcome = batch->result->outcome;
	model->inflight--;
	batch->state = BATCH_READY;
	if (v->progress != NULL)
	{
		v->progress->requests += batch->result->requests;
		v->progress->tokens += Max(0, batch->result->total_tokens);
	}
	if (outcome != HTTP_OK)
	{
		char	   *message = psprintf("model \"%s\": %s", model->def->name,
									   model->def->secret_error && batch->result->http_status == 401 ?
									   model->def->secret_error : batch->result->error);

		worker_note_error(v, message);
		ereport(outcome == HTTP_THROTTLED ? DEBUG1 : LOG,
				errmsg("vectorizer \"%s\": %s", v->def->name, message));
		pfree(message);
	}

	switch (outcome)
	{
		case HTTP_OK:
			model->failures = 0;
			batch->vector_of = MemoryContextAlloc(batch->context, sizeof(int) * batch->nrows);
			for (int i = 0; i < batch->nrows; i++)
				batch->vector_of[i] = i;
			batch->state = BATCH_WRITE;
			break;
		case HTTP_REJECTED:
			/* the service is well, a row is not: find it */
			model->failures = 0;
			if (batch->nrows == 1)
			{
				batch->rows[0].item->attempts++;
				bury_batch(batch, "embed", batch->result->error);
			}
			else
			{
				int			half = batch->nrows / 2;

				(void) split_batch(batch, 0, half);
				(void) split_batch(batch, half, batch->nrows);
				free_batch(batch);
			}
			break;
		case HTTP_THROTTLED:
			model->not_before = from_now(batch->result->retry_after_ms >= 0 ? batch->result->retry_after_ms :
										 backoff_ms(model->failures + 1));
			worker_drop_batch(batch);
			break;
		case HTTP_REFUSED:
			service_failed(batch, false);
			break;
		default:
			service_failed(batch, true);
			break;
	}
}

/* ---- write ----------------------------------------------------------------------------------------- */

typedef enum RowFate
{
	ROW_LOCKED,					/* by somebody else */
	ROW_CHANGED,
	ROW_GONE,
	ROW_WRITTEN,
} RowFate;

typedef struct WriteArgs
{
	WorkerBatch *batch;
	RowFate    *fate;
} WriteArgs;

static void
write_row(WorkerBatch *batch, int i)
{
	WorkerVectorizer *v = batch->vectorizer;
	Datum		values[INDEX_MAX_KEYS + 1];
	char		nulls[INDEX_MAX_KEYS + 1];
	Datum	   *elems;
	int			n;

	memset(nulls, ' ', sizeof(nulls));
	if (batch->result == NULL)
		nulls[0] = 'n';
	else
		values[0] = vector_value_make(&MyWorker->vector,
									  batch->result->vectors +
										  (Size) batch->vector_of[i] * batch->result->dimensions,
									  batch->result->dimensions);
	deconstruct_array(batch->rows[i].item->key, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	memcpy(values + 1, elems, sizeof(Datum) * n);
	if (SPI_execute_plan(v->write_plan, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write the vectors of vectorizer \"%s\"", v->def->name);
	if (batch->result != NULL)
		pfree(DatumGetPointer(values[0]));
}

static void
write_rows(void *arg)
{
	WriteArgs  *w = arg;
	WorkerBatch *batch = w->batch;
	WorkerVectorizer *v = batch->vectorizer;
	char	  **texts = palloc0(sizeof(char *) * batch->nrows);
	bool	   *found = palloc0(batch->nrows);
	bool		missing = false;
	RenderArgs	args = {
		.v = v, .rows = batch->rows, .nrows = batch->nrows, .lock = true,
		.texts = texts, .found = found, .context = CurrentMemoryContext
	};
	CatalogScope scope;

	render(&args);
	worker_enter_owner(v, &scope);
	if (v->write_plan == NULL)
		v->write_plan = prepare(v->write_sql, v->nkeys, TEXTOID, MyWorker->vector.type);
	for (int i = 0; i < batch->nrows; i++)
	{
		if (!found[i])
		{
			w->fate[i] = ROW_LOCKED;
			missing = true;
		}
		else if (!same_text(texts[i], batch->rows[i].text))
			w->fate[i] = ROW_CHANGED;
		else
		{
			write_row(batch, i);
			w->fate[i] = ROW_WRITTEN;
		}
	}
	worker_leave_owner(&scope);

	/* Not locked: is it locked by somebody, or gone? */
	if (missing)
	{
		args.lock = false;
		render(&args);
		for (int i = 0; i < batch->nrows; i++)
			if (w->fate[i] == ROW_LOCKED && !found[i])
				w->fate[i] = ROW_GONE;
	}
}

/* Some of the batch is done: keep the rows that somebody has locked, with their vectors. */
static void
settle_rows(WorkerBatch *batch, RowFate *fate)
{
	WorkerVectorizer *v = batch->vectorizer;
	TimestampTz now = GetCurrentTimestamp();
	int			kept = 0;
	int			written = 0;

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < batch->nrows; i++)
		if (fate[i] == ROW_WRITTEN)
		{
			written++;
			if (v->progress != NULL)
				worker_note_lag(v, batch->rows[i].item->queued_at, now);
		}
	if (v->progress != NULL && batch->result != NULL)
		v->progress->embedded += written;
	else if (v->progress != NULL)
		v->progress->skipped += written;
	LWLockRelease(worker_shared->lock);

	for (int i = 0; i < batch->nrows; i++)
	{
		QueueItem  *item = batch->rows[i].item;

		if (fate[i] == ROW_LOCKED)
		{
			if (batch->vector_of != NULL)
				batch->vector_of[kept] = batch->vector_of[i];
			batch->rows[kept++] = batch->rows[i];
			continue;
		}
		v->inflight--;
		if (fate[i] == ROW_CHANGED)
			queue_window_return(item, 0);
		else
		{
			forget_failure(v, item);
			queue_window_done(item);
		}
	}
	batch->nrows = kept;
}

/* The batch could not be written: find the row that is to blame by writing them one by one. */
static void
write_failed(WorkerBatch *batch, ErrorData *error)
{
	WorkerVectorizer *v = batch->vectorizer;

	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE)
	{
		batch->write_at = from_now(LOCKED_RETRY_MS);
		FreeErrorData(error);
		return;
	}
	if (batch->nrows == 1)
	{
		batch->rows[0].item->attempts++;
		worker_note_error(v, error->message);
		dead_letter(v, batch->rows[0].item, "write", error->message);
		v->inflight--;
		batch->nrows = 0;
	}
	else
	{
		for (int i = 0; i < batch->nrows; i++)
		{
			WorkerBatch *part = split_batch(batch, i, i + 1);

			part->state = BATCH_WRITE;
			if (batch->result != NULL)
			{
				/* the part needs its vector after this batch is gone */
				EmbeddingResult *copy = MemoryContextAlloc(part->context, sizeof(EmbeddingResult));
				Size		size = sizeof(float) * batch->result->dimensions;

				*copy = *batch->result;
				copy->vectors = MemoryContextAlloc(part->context, size);
				memcpy(copy->vectors,
					   batch->result->vectors + (Size) batch->vector_of[i] * copy->dimensions, size);
				part->result = copy;
				part->vector_of = MemoryContextAllocZero(part->context, sizeof(int));
			}
		}
		v->inflight -= batch->nrows;
		batch->nrows = 0;
	}
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

void
worker_write_batch(WorkerBatch *batch)
{
	WorkerVectorizer *v = batch->vectorizer;
	WriteArgs	args = {.batch = batch};
	ErrorData  *error = NULL;

	if (!worker_begin("writing vectors"))
	{
		worker_drop_batch(batch);
		return;
	}
	worker_config_load();		/* may drop the vectorizer and with it the batch */
	if (!batch_exists(batch))
	{
		worker_commit();
		return;
	}
	batch->write_at = from_now(Min(LOCKED_RETRY_MS << Min(batch->write_tries++, 10), LOCKED_RETRY_MAX_MS));
	if (v->read_sql != NULL && ConditionalLockRelationOid(v->def->source, RowExclusiveLock))
	{
		args.fate = palloc0(sizeof(RowFate) * batch->nrows);
		error = worker_try(write_rows, &args);
		if (error == NULL)
			settle_rows(batch, args.fate);
		else
			write_failed(batch, error);
		queue_window_finish(MyWorker->window);
		DEBUG_POINT("worker_written");
	}
	worker_commit();
	ConditionVariableBroadcast(&worker_shared->progressed);
	if (batch->nrows == 0)
		free_batch(batch);
}

/* ---- backfill ------------------------------------------------------------------------------------------ */

typedef struct ScanArgs
{
	WorkerVectorizer *v;
	QueueScan  *scan;
} ScanArgs;

static void
scan_rows(void *arg)
{
	ScanArgs   *s = arg;
	WorkerVectorizer *v = s->v;
	CatalogScope scope;
	Oid			types[INDEX_MAX_KEYS];
	Datum	   *after;
	int			n;
	int			code;
	ArrayType **keys;
	int			nkeys;

	if (!s->scan->counted)
	{
		bool		isnull;
		int64		count;

		worker_enter_owner(v, &scope);
		if (SPI_execute(psprintf("SELECT count(*) FROM %s", catalog_relation_name(v->def->source)), true,
						0) != SPI_OK_SELECT)
			elog(ERROR, "could not count the rows of vectorizer \"%s\"", v->def->name);
		count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		worker_leave_owner(&scope);
		queue_window_scan_count(v->source, count);
	}

	deconstruct_array(s->scan->after, TEXTOID, -1, false, TYPALIGN_INT, &after, NULL, &n);
	for (int i = 0; i < n; i++)
		types[i] = TEXTOID;
	worker_enter_owner(v, &scope);
	if (n == 0)
		code = SPI_execute(v->scan_first_sql, true, 0);
	else
		code = SPI_execute_with_args(v->scan_next_sql, n, types, after, NULL, true, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not scan the rows of vectorizer \"%s\"", v->def->name);
	nkeys = (int) SPI_processed;
	keys = palloc(sizeof(ArrayType *) * Max(nkeys, 1));
	for (int i = 0; i < nkeys; i++)
	{
		bool		isnull;

		keys[i] = DatumGetArrayTypePCopy(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	worker_leave_owner(&scope);
	queue_window_scan_chunk(v->source, keys, nkeys, nkeys < 512);
}

/* Read the next chunk of keys of a backfill, when it wants one.  Inside a transaction. */
void
worker_feed_scan(WorkerVectorizer *v)
{
	QueueScan  *scan = queue_window_scan(v->source);
	ScanArgs	args = {.v = v, .scan = scan};
	ErrorData  *error;

	if (scan == NULL || v->read_sql == NULL || !ConditionalLockRelationOid(v->def->source, AccessShareLock))
		return;
	error = worker_try(scan_rows, &args);
	if (error != NULL)
		own_failure(v, error);
	else
		queue_window_finish(MyWorker->window);
}

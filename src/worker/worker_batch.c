/*
 * worker_batch.c
 *		A batch of rows: their keys, their texts, the pieces to embed.
 *
 * Read (first transaction): the rows' keys give their current texts.  Sent:
 * the requests are under way and this process is in no transaction.  Written
 * (second transaction): each row is locked without waiting, rendered again,
 * and gets its vectors only if its text is still the one that was sent.  A row
 * whose text has changed goes back to the queue; one that somebody has
 * locked is tried again a little later with the same vectors; one that is gone
 * is done.  So an answer that comes late can never replace a newer one, and
 * nobody waits for us.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/chunk.h"
#include "queue/queue.h"
#include "worker/worker_state.h"

/* Texts are read until there are so many bytes of them; the others are left for the next time. */
#define READ_BYTES	(64 * 1024 * 1024)

/* ... and so many rows at once, at most, that what comes with the last ones is not much more. */
#define READ_ROWS	16

/* A text that has a memory context of its own. */
#define LONG_TEXT	(1024 * 1024)

/* By the same characters as vecsync.verify(), whatever the locale. */
bool
worker_text_blank(const char *text)
{
	return text == NULL || text[strspn(text, " \t\n\v\f\r")] == '\0';
}

/* a and b: what two renderings of a row gave */
bool
worker_text_same(const char *a, const char *b)
{
	if (worker_text_blank(a) || worker_text_blank(b))
		return worker_text_blank(a) && worker_text_blank(b);
	return strcmp(a, b) == 0;
}

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

/* A plan that is kept. */
SPIPlanPtr
worker_prepare(const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(sql, nargs, types);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	return plan;
}

/* Rows that have been fetched; returns the bytes of their texts. */
static int64
take_rendered(RenderArgs *r)
{
	int64		bytes = 0;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		HeapTuple	tuple = SPI_tuptable->vals[i];
		int			row = DatumGetInt32(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull)) - 1;
		Datum		content;

		if (row < 0 || row >= r->nrows)
			continue;
		r->found[row] = true;
		r->texts[row] = NULL;
		if (r->left != NULL)
			r->left[row] = false;
		if (r->embedded != NULL)
			r->embedded[row] =
				DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 3, &isnull));
		content = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull);
		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(r->context);

			r->texts[row] = TextDatumGetCString(content);
			bytes += strlen(r->texts[row]);
			MemoryContextSwitchTo(old);
		}
	}
	return bytes;
}

/*
 * Render rows of the table, as its owner: see RenderArgs.
 */
void
worker_render(void *arg)
{
	RenderArgs *r = arg;
	WorkerVectorizer *v = r->v;
	SPIPlanPtr *plan = r->lock ? &v->lock_plan : &v->read_plan;
	Datum	   *params = key_params(v, r->rows, r->nrows);
	int64		bytes = 0;
	int			fetch = r->left != NULL ? 1 : r->nrows;
	bool		more = true;
	Portal		portal;
	CatalogScope scope;

	worker_enter_owner(v, &scope);
	if (*plan == NULL)
	{
		Oid			types[INDEX_MAX_KEYS];

		for (int i = 0; i < v->nkeys; i++)
			types[i] = TEXTARRAYOID;
		*plan = worker_prepare(r->lock ? v->lock_sql : v->read_sql, v->nkeys, types);
	}
	memset(r->found, 0, sizeof(bool) * r->nrows);
	if (r->left != NULL)
		memset(r->left, true, sizeof(bool) * r->nrows);
	portal = SPI_cursor_open(NULL, *plan, params, NULL, false);
	while (more && (r->left == NULL || bytes < READ_BYTES))
	{
		SPI_cursor_fetch(portal, true, fetch);
		more = SPI_processed == fetch;
		bytes += take_rendered(r);
		SPI_freetuptable(SPI_tuptable);
		fetch = Min(2 * fetch, Max(READ_ROWS, r->left == NULL ? r->nrows : 0));
	}
	/* those that were not found are not there */
	if (!more && r->left != NULL)
		memset(r->left, false, sizeof(bool) * r->nrows);
	SPI_cursor_close(portal);
	worker_leave_owner(&scope);
}

/* Our own SQL failed on this table: say so, and leave it alone for a while. */
void
worker_own_failure(WorkerVectorizer *v, ErrorData *error)
{
	v->failures++;
	v->not_before =
		worker_from_now(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? WORKER_LOCKED_RETRY_MS
																		: worker_backoff_ms(v->failures));
	v->stale = MyWorker->sources_stale = true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
	{
		worker_note_error(v, error->message);
		ereport(LOG, errmsg("vectorizer \"%s\": %s", v->def->name, error->message));
	}
	FreeErrorData(error);
}

/* Not a row's fault, and likely to pass: locks, conflicts, resources, the system, an operator. */
bool
worker_passing_error(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* transaction rollback */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* insufficient resources */
		case MAKE_SQLSTATE('5', '5', '0', '0',
						   '0'): /* object not in prerequisite state, lock not available */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* operator intervention */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system error */
			return true;
		default:
			return false;
	}
}

/*
 * Has our SQL named something that is not there?  A schema, type or operator that was renamed before we
 * looked is known of; one of this very moment need not be.  So the rows are tried once more, with SQL that is
 * built anew.  False: they were, and the name is one that the table's owner has used.
 */
bool
worker_doubt_names(WorkerVectorizer *v, const ErrorData *error, BatchRow *rows, int nrows)
{
	if (error->sqlerrcode != ERRCODE_UNDEFINED_OBJECT && error->sqlerrcode != ERRCODE_UNDEFINED_FUNCTION &&
		error->sqlerrcode != ERRCODE_UNDEFINED_TABLE && error->sqlerrcode != ERRCODE_INVALID_SCHEMA_NAME)
		return false;
	for (int i = 0; i < nrows; i++)
		if (rows[i].item->doubted)
			return false;
	for (int i = 0; i < nrows; i++)
		rows[i].item->doubted = true;
	v->stale = MyWorker->sources_stale = true;
	return true;
}

/* ---- batches ------------------------------------------------------------------------ */

static WorkerBatch *
new_batch(WorkerVectorizer *v, int maxrows)
{
	MemoryContext context = AllocSetContextCreate(WorkerContext, "vecsync batch", ALLOCSET_DEFAULT_SIZES);
	WorkerBatch *batch = MemoryContextAllocZero(context, sizeof(WorkerBatch));

	batch->context = context;
	batch->vectorizer = v;
	batch->rows = MemoryContextAllocZero(context, sizeof(BatchRow) * maxrows);
	dlist_init(&batch->calls);
	dlist_push_tail(&v->batches, &batch->node);
	return batch;
}

void
worker_free_batch(WorkerBatch *batch)
{
	worker_abort_calls(batch);
	batch->vectorizer->inflight -= batch->nrows;
	dlist_delete(&batch->node);
	MemoryContextDelete(batch->context);
}

/* Give all rows back and forget the batch; requests under way are aborted. */
void
worker_drop_batch(WorkerBatch *batch)
{
	for (int i = 0; i < batch->nrows; i++)
		queue_window_return(batch->rows[i].item, 0);
	worker_free_batch(batch);
}

/* The vectors of one row are in memory together. */
static int
most_pieces(const WorkerVectorizer *v)
{
	return MaxAllocSize / (sizeof(float) * Max(1, v->model ? v->model->def->dimensions : 1));
}

/*
 * Add a row with its text; the text is cut into the pieces to embed, and
 * copied, in a context that goes with the batch.  A blank text has none.  If
 * that fails, nothing is added.
 */
static void
add_row(WorkerBatch *batch, MemoryContext context, QueueItem *item, const char *content)
{
	BatchRow   *row = &batch->rows[batch->nrows];
	MemoryContext old = MemoryContextSwitchTo(context);
	ChunkOptions chunking = batch->vectorizer->chunking;
	char	  **pieces;

	row->item = item;
	row->text = content ? pstrdup(content) : NULL;
	row->first = batch->ninputs;
	row->ninputs = 0;
	if (!worker_text_blank(content))
	{
		chunking.most = most_pieces(batch->vectorizer);
		pieces = chunk_text(row->text, &chunking, &row->ninputs);
		if (row->ninputs > chunking.most)
			ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					errmsg("the text has more than %d chunks", chunking.most));
		if (batch->ninputs + row->ninputs > batch->room)
		{
			int			room = Max(batch->room * 2, batch->ninputs + row->ninputs);
			Size		size = sizeof(char *) * room;

			batch->inputs = batch->inputs ? repalloc_huge(batch->inputs, size)
				: MemoryContextAllocHuge(batch->context, size);
			batch->room = room;
		}
		memcpy(batch->inputs + batch->ninputs, pieces, sizeof(char *) * row->ninputs);
		batch->ninputs += row->ninputs;
	}
	MemoryContextSwitchTo(old);
	batch->nrows++;
	batch->live |= item->live;
	batch->vectorizer->inflight++;
}

/*
 * The same for a row as it was read.  A text that is too much for the splitting or for the memory there is
 * must not end the worker, which would come to the row again: that one has failed.  Nothing of a transaction
 * is touched here, so that the error needs none of its own.
 */
static void
add_read_row(WorkerBatch *batch, QueueItem *item, const char *content)
{
	MemoryContext caller = CurrentMemoryContext;
	/* what is there of a long one goes at once if it fails */
	MemoryContext context = strlen(content) <= LONG_TEXT ? batch->context
		: AllocSetContextCreate(batch->context, "vecsync document", ALLOCSET_DEFAULT_SIZES);
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		add_row(batch, context, item, content);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (error == NULL)
		return;
	if (context != batch->context)
		MemoryContextDelete(context);
	worker_row_failed(batch->vectorizer, item, error);
	FreeErrorData(error);
}

/*
 * Move rows [from, to) of a batch into one of their own, which begins anew,
 * or goes on with the vectors that are already here.
 */
WorkerBatch *
worker_split_batch(WorkerBatch *batch, int from, int to)
{
	WorkerBatch *part = new_batch(batch->vectorizer, to - from);

	for (int i = from; i < to; i++)
		add_row(part, part->context, batch->rows[i].item, batch->rows[i].text);
	if (batch->state == BATCH_WRITE)
	{
		part->state = BATCH_WRITE;
		part->dimensions = batch->dimensions;
		if (part->ninputs > 0)
		{
			Size		size = sizeof(float) * part->ninputs * batch->dimensions;

			part->vectors = MemoryContextAllocHuge(part->context, size);
			memcpy(part->vectors, batch->vectors + (Size) batch->rows[from].first * batch->dimensions, size);
		}
	}
	return part;
}

/*
 * Rows that failed before travel in smaller and smaller company, so that one
 * that the service cannot stand is alone before its attempts are used up.
 */
static int
read_limit(WorkerVectorizer *v, QueueItem *first)
{
	int			limit = v->model->def->max_batch >> Min(first->attempts, 12);

	if (v->read_limit > 0)
		limit = Min(limit, v->read_limit);
	return Max(1, limit);
}

/*
 * May rows of a backfill travel with changes?  They make the request longer that somebody waits for; but
 * where requests are few, a backfill would come to a halt behind a stream of changes.
 */
static bool
requests_are_few(const WorkerModel *model)
{
	return model->def->rate_limit > 0 || model->def->token_limit > 0 || model->failures > 0 ||
		model->inflight >= model->def->max_inflight;
}

/* The row has the vector of its text: nothing is to be done but to forget that it was to be looked at. */
static void
row_unchanged(WorkerVectorizer *v, QueueItem *item)
{
	worker_forget_failure(v, item);
	queue_window_done(item);
}

/* Rows of the queue, rendered: into the batch or the blanks, done if unchanged, or back for lack of room. */
static void
fill_batch(WorkerBatch *batch, WorkerBatch **blanks, RenderArgs *args, int limit)
{
	WorkerVectorizer *v = batch->vectorizer;
	bool	   *unchanged = palloc(sizeof(bool) * args->nrows);
	int64		bytes = 0;

	worker_digest_compare(args, unchanged);
	worker_look_for_failures(v);
	for (int i = 0; i < args->nrows; i++)
	{
		QueueItem  *item = args->rows[i].item;
		const char *content = args->texts[i];

		if (args->left[i])
			queue_window_return(item, 0);
		else if (!args->found[i] || worker_text_blank(content))
		{
			/* no request is needed, but what it had before has to go */
			if (*blanks == NULL)
				*blanks = new_batch(v, args->nrows);
			add_row(*blanks, (*blanks)->context, item, NULL);
		}
		else if (unchanged[i])
			row_unchanged(v, item);
		else if (batch->nrows > 0 && (batch->ninputs >= limit ||
									  bytes + (int64) strlen(content) > v->model->def->max_batch_bytes))
			queue_window_return(item, 0);
		else
		{
			bytes += strlen(content);
			add_read_row(batch, item, content);
		}
	}
}

/*
 * Rows could not be read: try fewer, until the one to blame is alone and a
 * dead letter.  What is nobody's fault, as a lock, is tried again as it is.
 */
static void
read_failed(WorkerVectorizer *v, RenderArgs *args, ErrorData *error)
{
	bool		doubted = worker_doubt_names(v, error, args->rows, args->nrows);

	/* memory may be short because of a row: that is to be found, too */
	if (doubted || (worker_passing_error(error) && error->sqlerrcode != ERRCODE_OUT_OF_MEMORY))
	{
		for (int i = 0; i < args->nrows; i++)
			queue_window_return(args->rows[i].item, 0);
		if (!doubted)
			worker_own_failure(v, error);
		else
		{
			v->not_before = worker_from_now(WORKER_LOCKED_RETRY_MS);
			FreeErrorData(error);
		}
		return;
	}
	v->read_limit = Max(1, args->nrows / 2);
	if (args->nrows > 1)
	{
		for (int i = 0; i < args->nrows; i++)
			queue_window_return(args->rows[i].item, 0);
		FreeErrorData(error);
		return;
	}
	worker_row_failed(v, args->rows[0].item, error);
	queue_window_finish(MyWorker->window);
	v->stale = MyWorker->sources_stale = true;
	FreeErrorData(error);
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
	RenderArgs	args = {.v = v, .context = CurrentMemoryContext};
	ErrorData  *error;
	int			limit;
	bool		mixed = requests_are_few(v->model);

	if (first == NULL)
		return false;
	if (!worker_lock_source(v))
		return false;

	limit = read_limit(v, first);
	args.rows = palloc0(sizeof(BatchRow) * limit);
	while (args.nrows < limit)
	{
		QueueItem  *item = queue_window_peek(v->source, now);

		if (item == NULL || (item->attempts > 0 && item->attempts != first->attempts) ||
			(item->live != first->live && !mixed))
			break;
		args.rows[args.nrows++].item = queue_window_take(v->source, now);
	}
	args.texts = palloc0(sizeof(char *) * args.nrows);
	args.found = palloc0(args.nrows);
	args.embedded = palloc0(args.nrows);
	args.left = palloc0(args.nrows);
	error = worker_try(worker_render, &args);
	if (error != NULL)
	{
		read_failed(v, &args, error);
		return true;
	}
	v->failures = 0;
	if (v->read_limit > 0)
		v->read_limit = v->read_limit < v->model->def->max_batch ? v->read_limit * 2 : 0;

	batch = new_batch(v, args.nrows);
	/* one row tries whether the service is back; those that need no request do not wait for it */
	fill_batch(batch, &blanks, &args, v->model->failures > 0 ? 1 : limit);
	queue_window_finish(MyWorker->window);
	if (blanks != NULL)
		blanks->state = BATCH_WRITE;
	if (batch->nrows == 0)
		worker_free_batch(batch);
	return true;
}


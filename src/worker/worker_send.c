/*
 * worker_send.c
 *		Requests of a batch, their answers, and what failures mean.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "worker/worker_state.h"

int64
worker_backoff_ms(int failures)
{
	double		ms = worker_backoff_min * exp2(Min(failures - 1, 30));

	ms = Min(ms, worker_backoff_max);
	return (int64) (ms * (0.75 + 0.5 * pg_prng_double(&pg_global_prng_state)));
}

TimestampTz
worker_from_now(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Less than a token of most texts takes, until the service has reported how many there were. */
#define BYTES_PER_TOKEN 2.0

/* ---- sending ------------------------------------------------------------------------ */

/*
 * How many of the next inputs go into one request: as many as the model
 * allows by count, bytes and tokens a minute, and at least one.
 */
static int
next_inputs(WorkerBatch *batch, int64 *bytes)
{
	WorkerModel *model = batch->vectorizer->model;
	int64		limit = model->def->max_batch_bytes;
	int			n = 0;

	if (model->def->token_limit > 0)
		limit = Min(limit, (int64) (model->def->token_limit * model->bytes_per_token));
	*bytes = 0;
	while (batch->sent + n < batch->ninputs && n < model->def->max_batch)
	{
		int64		more = strlen(batch->inputs[batch->sent + n]);

		if (n > 0 && *bytes + more > limit)
			break;
		*bytes += more;
		n++;
	}
	return n;
}

/* Is there less than 'wanted' of something that grows by 'limit' a minute?  Then 'when' is lowered. */
static bool
must_wait(double allowance, double wanted, int limit, TimestampTz now, TimestampTz *when)
{
	if (limit == 0 || allowance >= wanted)
		return false;
	*when = Min(*when, now + (int64) ((wanted - allowance) * 60e6 / limit) + 1);
	return true;
}

/* What the limits allow grows with time, up to a minute's worth. */
static void
refill(WorkerModel *model, TimestampTz now)
{
	CatalogModel *def = model->def;
	double		minutes = model->allowance_at == 0 ? 1 : (now - model->allowance_at) / 60e6;

	/* nothing is owed from a time without a limit */
	model->allowance = def->rate_limit == 0 ? 0 :
		Min(def->rate_limit, model->allowance + minutes * def->rate_limit);
	model->token_allowance = def->token_limit == 0 ? 0 :
		Min(def->token_limit, model->token_allowance + minutes * def->token_limit);
	model->allowance_at = now;
	if (model->bytes_per_token == 0)
		model->bytes_per_token = BYTES_PER_TOKEN;
}

/* May the next request of the batch go out now?  If not, 'when' is lowered to the time to look again. */
bool
worker_model_ready(WorkerBatch *next, TimestampTz now, TimestampTz *when)
{
	WorkerModel *model = next->vectorizer->model;
	CatalogModel *def = model->def;
	int			limit = model->failures > 0 ? 1 : def->max_inflight;
	int64		bytes;

	if (model->inflight >= limit)
		return false;			/* an answer will wake us */
	if (model->not_before > now)
	{
		*when = Min(*when, model->not_before);
		return false;
	}
	refill(model, now);
	(void) next_inputs(next, &bytes);
	/*
	 * A text of more than a minute's tokens goes out when nothing else did for
	 * a minute.  The margin is for what the estimate is off.
	 */
	return !must_wait(model->allowance, 1, def->rate_limit, now, when) &&
		!must_wait(model->token_allowance, Min(1.1 * bytes / model->bytes_per_token, def->token_limit),
				   def->token_limit, now, when);
}

/* The service has told how many tokens there were: the estimate is made good, and the next one better. */
static void
correct_tokens(WorkerModel *model, const BatchCall *call, int64 tokens)
{
	if (tokens <= 0)
		return;
	/* a count that is nonsense costs a minute */
	model->token_allowance += Max(call->tokens - tokens, -model->def->token_limit);
	model->bytes_per_token = Max(0.1, 0.5 * model->bytes_per_token + 0.5 * call->bytes / tokens);
}

/*
 * A service that failed once is tried with a row.  If that fails, too, nobody
 * can tell whether the row is the reason, so a text of our own is sent before
 * the next one: a row is charged with what happens right after its answer.
 */
static bool
wants_probe(WorkerBatch *batch)
{
	return batch->vectorizer->model->failures > 1;
}

/* More than any service takes, and little enough for a request whatever its characters need to be escaped. */
#define MAX_TEXT_BYTES (64 * 1024 * 1024)

/* A text that no cache between us and the model has seen. */
static char *
probe_text(void)
{
	return psprintf("vecsync %u", pg_prng_uint32(&pg_global_prng_state));
}

static void
submit(WorkerBatch *batch)
{
	WorkerVectorizer *v = batch->vectorizer;
	CatalogModel *def = v->model->def;
	EmbeddingModel model = {
		.target = {
			.url = def->url, .secret = def->secret, .ca_file = worker_ca_file[0] ? worker_ca_file : NULL,
			.proxy = worker_proxy[0] ? worker_proxy : NULL,
			.private_addresses = def->private_addresses, .timeout_ms = def->timeout_ms,
			.connect_timeout_ms = worker_connect_timeout, .max_response_bytes = worker_max_response_bytes
		},
		.provider = def->provider, .model = def->model, .parameters = def->parameters,
		.document_parameters = def->document_parameters, .query_parameters = def->query_parameters,
		.dimensions = def->dimensions
	};
	bool		probe = wants_probe(batch);
	int64		bytes;
	int			n = probe ? 1 : next_inputs(batch, &bytes);
	const char **inputs;
	BatchCall  *call;
	MemoryContext old;

	if (!probe && bytes > MAX_TEXT_BYTES)
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the text is too long for a request: %lld bytes", (long long) bytes));
	old = MemoryContextSwitchTo(batch->context);
	inputs = palloc(sizeof(char *) * n);
	if (probe)
	{
		inputs[0] = probe_text();
		bytes = strlen(inputs[0]);
	}
	for (int i = 0; i < n && !probe; i++)
	{
		const char *input = batch->inputs[batch->sent + i];

		inputs[i] = pg_server_to_any(input, strlen(input), PG_UTF8);
	}
	call = palloc0(sizeof(BatchCall));
	call->batch = batch;
	call->probe = probe;
	call->first = batch->sent;
	call->bytes = bytes;
	call->tokens = bytes / v->model->bytes_per_token;
	call->call = embedding_submit(MyWorker->client, &model, inputs, n, false, call);
	dlist_push_tail(&batch->calls, &call->node);
	MemoryContextSwitchTo(old);

	if (!probe)
		batch->sent += n;
	if (probe || batch->sent == batch->ninputs)
		batch->state = BATCH_SENT;
	v->model->inflight++;
	v->model->allowance -= 1;
	v->model->token_allowance -= call->tokens;
}

static void
end_call(BatchCall *call)
{
	call->batch->vectorizer->model->inflight--;
	dlist_delete(&call->node);
	embedding_free(call->call);
	pfree(call);
}

void
worker_abort_calls(WorkerBatch *batch)
{
	while (!dlist_is_empty(&batch->calls))
		end_call(dlist_head_element(BatchCall, node, &batch->calls));
}

/* ---- failures ------------------------------------------------------------------------ */

void
worker_dead_letter(WorkerVectorizer *v, QueueItem *item, const char *operation, const char *message)
{
	Oid			types[5] = {INT4OID, TEXTARRAYOID, TEXTOID, INT4OID, TEXTOID};
	Datum		values[5] = {
		Int32GetDatum(v->def->id), PointerGetDatum(item->key), CStringGetTextDatum(operation),
		Int32GetDatum(item->attempts), CStringGetTextDatum(message)
	};
	WorkerLog  *log;

	SPI_execute_with_args(
		"INSERT INTO vecsync.dead_letter (vectorizer, key, operation, attempts, error)"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT (vectorizer, key) DO UPDATE"
		" SET operation = excluded.operation, attempts = excluded.attempts,"
		" error = excluded.error, failed_at = excluded.failed_at",
		5, types, values, NULL, false, 0);
	log = worker_log_begin(1);
	worker_log_row(log, item, WORKER_LOG_FAILED, NULL);
	worker_log_end(log, v, message);
	queue_window_done(item);
	v->dead_letters = true;
}

/*
 * A row could not be read, for no reason that passes with time: it is a dead letter.  Where memory is short,
 * or somebody has canceled it, it is tried again first, later each time.  Inside a transaction.
 */
void
worker_row_failed(WorkerVectorizer *v, QueueItem *item, const ErrorData *error)
{
	item->attempts++;
	worker_note_error(v, error->message);
	if (worker_passing_error(error) && item->attempts < worker_max_attempts)
		queue_window_return(item, worker_from_now(worker_backoff_ms(item->attempts)));
	else
		worker_dead_letter(v, item, "read", error->message);
}

/* Give up on all rows of the batch, in a transaction of its own. */
static void
bury_batch(WorkerBatch *batch, const char *operation, const char *message)
{
	WorkerVectorizer *v = batch->vectorizer;

	if (worker_begin("noting rows that failed"))
	{
		for (int i = 0; i < batch->nrows; i++)
			worker_dead_letter(v, batch->rows[i].item, operation, message);
		queue_window_finish(MyWorker->window);
		worker_commit();
		worker_free_batch(batch);
	}
	else
		worker_drop_batch(batch);
}

/* The rows of a batch go back to the queue, until then; charged with an attempt, perhaps their last. */
static void
return_rows(WorkerBatch *batch, bool charged, TimestampTz ready_at, const char *message)
{
	for (int i = 0; i < batch->nrows; i++)
		if (charged)
			batch->rows[i].item->attempts++;
	/* in company a row may have come to its last attempt: it takes a failure of its own to bury it */
	if (charged && batch->nrows == 1 && batch->rows[0].item->attempts >= worker_max_attempts)
	{
		bury_batch(batch, "embed", message);
		return;
	}
	for (int i = 0; i < batch->nrows; i++)
		queue_window_return(batch->rows[i].item, ready_at);
	batch->vectorizer->inflight -= batch->nrows;
	batch->nrows = 0;
	worker_free_batch(batch);
}

/* The service failed.  Rows are charged an attempt only while it is known to work otherwise. */
static void
service_failed(WorkerBatch *batch, bool charge, const char *message)
{
	WorkerModel *model = batch->vectorizer->model;
	bool		charged = charge && model->failures == 0;

	model->failures++;
	model->not_before = worker_from_now(worker_backoff_ms(model->failures + model->probes_passed));
	/* let other rows try first: these may be the reason */
	return_rows(batch, charged, TimestampTzPlusMilliseconds(model->not_before, worker_backoff_min), message);
}

/* No memory for requests or vectors of a batch: others go on, and its rows come again, in smaller company. */
static void
memory_failed(WorkerBatch *batch, const char *message)
{
	int			attempts = batch->nrows > 0 ? batch->rows[0].item->attempts : 0;

	return_rows(batch, true, worker_from_now(worker_backoff_ms(attempts + 1)), message);
}

/* A row cannot be embedded: find it. */
static void
bisect_batch(WorkerBatch *batch, const char *message)
{
	int			half = batch->nrows / 2;

	if (batch->nrows == 1)
	{
		batch->rows[0].item->attempts++;
		bury_batch(batch, "embed", message);
		return;
	}
	batch->state = BATCH_READY;
	(void) worker_split_batch(batch, 0, half);
	(void) worker_split_batch(batch, half, batch->nrows);
	worker_free_batch(batch);
}

/*
 * Send the next request of a batch.  A text that is not valid in the
 * database's encoding or too long, or a model that no request can be made of, is an
 * error here, outside any transaction; it must not end the worker.
 */
void
worker_send_batch(WorkerBatch *batch)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		submit(batch);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	if (error == NULL)
		return;

	worker_note_error(batch->vectorizer, error->message);
	worker_abort_calls(batch);
	if (error->sqlerrcode == ERRCODE_CHARACTER_NOT_IN_REPERTOIRE ||
		error->sqlerrcode == ERRCODE_UNTRANSLATABLE_CHARACTER ||
		error->sqlerrcode == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		bisect_batch(batch, error->message);
	else if (error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
		memory_failed(batch, error->message);
	else
		service_failed(batch, false, error->message);
	FreeErrorData(error);
}

static void
note_failure(WorkerBatch *batch, const EmbeddingResult *result)
{
	WorkerVectorizer *v = batch->vectorizer;
	CatalogModel *def = v->model->def;
	char	   *message = psprintf("model \"%s\": %s", def->name,
								   def->secret_error && result->http.status == 401 ? def->secret_error
								   : result->http.error);

	worker_note_error(v, message);
	ereport(result->http.outcome == HTTP_THROTTLED ? DEBUG1 : LOG,
			errmsg("vectorizer \"%s\": %s", v->def->name, message));
	pfree(message);
}

/* ---- answers ---------------------------------------------------------------------------- */

/* Keep the vectors of one request; when all are here, the batch can be written. */
static void
keep_vectors(BatchCall *call, const EmbeddingResult *result)
{
	WorkerBatch *batch = call->batch;

	batch->vectorizer->model->failures = 0;
	batch->vectorizer->model->probes_passed = 0;
	if (batch->vectors == NULL)
	{
		batch->dimensions = result->dimensions;
		batch->vectors = MemoryContextAllocExtended(batch->context,
													sizeof(float) * batch->ninputs * result->dimensions,
													MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	}
	if (batch->vectors == NULL)
	{
		static const char *const message = "out of memory for the vectors of a batch";

		worker_note_error(batch->vectorizer, message);
		worker_abort_calls(batch);
		memory_failed(batch, message);
		return;
	}
	memcpy(batch->vectors + (Size) call->first * batch->dimensions, result->vectors,
		   sizeof(float) * result->ninputs * result->dimensions);
	batch->answered += result->ninputs;
	end_call(call);
	if (batch->answered == batch->ninputs)
		batch->state = BATCH_WRITE;
}

/*
 * The service is well, so the batch goes out as it is; but until a row is
 * embedded, each failure waits longer than the last: a service may answer
 * such a text and nothing else, and rows must not become dead letters quickly.
 */
static void
probe_passed(BatchCall *call)
{
	WorkerModel *model = call->batch->vectorizer->model;

	model->failures = 0;
	model->probes_passed++;
	call->batch->state = BATCH_READY;
	end_call(call);
}

/* Take the answer of a finished request.  Outside a transaction. */
void
worker_answer(BatchCall *call)
{
	WorkerBatch *batch = call->batch;
	WorkerVectorizer *v = batch->vectorizer;
	WorkerModel *model = v->model;
	const EmbeddingResult *result = embedding_result(call->call);
	HttpOutcome outcome = result->http.outcome;
	char	   *message;

	worker_note_answer(v, result);
	correct_tokens(model, call, result->total_tokens);
	if (call->probe && (outcome == HTTP_OK || outcome == HTTP_REJECTED))
	{
		probe_passed(call);
		return;
	}
	if (outcome == HTTP_OK && (batch->vectors == NULL || batch->dimensions == result->dimensions))
	{
		keep_vectors(call, result);
		return;
	}
	if (outcome == HTTP_OK)
		outcome = HTTP_GARBAGE; /* dimensions that change from request to request */
	else
		note_failure(batch, result);

	message = MemoryContextStrdup(WorkerContext, result->http.error ? result->http.error : "dimensions vary");
	if (outcome == HTTP_THROTTLED)
		model->not_before = worker_from_now(result->http.retry_after_ms >= 0 ? result->http.retry_after_ms
											: worker_backoff_ms(model->failures + 1));
	/* whatever else of the batch is under way is of no use any more */
	worker_abort_calls(batch);
	switch (outcome)
	{
		case HTTP_REJECTED:		/* so the service is well */
			model->failures = model->probes_passed = 0;
			bisect_batch(batch, message);
			break;
		case HTTP_THROTTLED:
			worker_drop_batch(batch);
			break;
		case HTTP_REFUSED:
			service_failed(batch, false, message);
			break;
		default:
			service_failed(batch, true, message);
			break;
	}
	pfree(message);
}

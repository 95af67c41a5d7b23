/*
 * worker_progress.c
 *		What the worker tells the world about each vectorizer.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "worker/worker_state.h"

WorkerProgress *
worker_progress_slot(int vectorizer)
{
	WorkerProgress *result = NULL;

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WORKER_MAX_VECTORIZERS; i++)
	{
		WorkerProgress *slot = &worker_shared->progress[i];

		if (slot->database == MyDatabaseId && slot->vectorizer == vectorizer)
		{
			result = slot;
			break;
		}
		if (slot->database == InvalidOid && result == NULL)
			result = slot;
	}
	if (result != NULL && result->database == InvalidOid)
	{
		memset(result, 0, sizeof(WorkerProgress));
		result->database = MyDatabaseId;
		result->vectorizer = vectorizer;
	}
	LWLockRelease(worker_shared->lock);
	return result;
}

void
worker_progress_drop(WorkerProgress *progress)
{
	if (progress == NULL)
		return;
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	progress->database = InvalidOid;
	LWLockRelease(worker_shared->lock);
}

/* The last thing that went wrong; it stays until the next one. */
void
worker_note_error(WorkerVectorizer *v, const char *error)
{
	WorkerProgress *p = v->progress;
	int			length = pg_mbcliplen(error, strlen(error), WORKER_ERROR_LENGTH - 1);

	if (p == NULL)
		return;
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	memcpy(p->last_error, error, length);
	p->last_error[length] = '\0';
	p->last_error_at = GetCurrentTimestamp();
	LWLockRelease(worker_shared->lock);
}

static int
lag_bucket(int64 ms)
{
	int			bucket = 0;

	while (bucket < WORKER_LAG_BUCKETS - 1 && (INT64CONST(1) << bucket) <= ms)
		bucket++;
	return bucket;
}

void
worker_note_answer(WorkerVectorizer *v, const EmbeddingResult *result)
{
	WorkerProgress *p = v->progress;

	StaticAssertStmt(HTTP_GARBAGE < WORKER_OUTCOMES, "every outcome needs a counter");
	if (p == NULL)
		return;
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	p->requests += result->http.requests;
	p->tokens += Max(0, result->total_tokens);
	p->answers[result->http.outcome]++;
	p->latency[lag_bucket(result->http.elapsed_us / 1000)]++;
	LWLockRelease(worker_shared->lock);
}

/* vecsync.status tells the lag of about so many changes, the last ones. */
#define LAGS_KEPT	2000

/*
 * From a change's entry in the queue to the commit of its vector; nobody waits for the rows of a backfill one
 * by one.  Under the lock of the caller.
 */
void
worker_note_lag(WorkerVectorizer *v, const QueueItem *item, TimestampTz now)
{
	uint64	   *lag = v->progress->lag;

	if (!item->live)
		return;
	lag[lag_bucket(Max(0, (now - item->queued_at) / 1000))]++;
	if (++v->lags < LAGS_KEPT)
		return;
	/* what was counts for less and less */
	v->lags = 0;
	for (int i = 0; i < WORKER_LAG_BUCKETS; i++)
		v->lags += lag[i] /= 2;
}

void
worker_note_progress(WorkerVectorizer *v)
{
	WorkerProgress *p = v->progress;

	if (p == NULL)
		return;
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	p->in_flight = v->inflight;
	p->partial_rows = v->source->partial_rows;
	p->paused_until = v->model ? Max(v->model->not_before, v->not_before) : 0;
	LWLockRelease(worker_shared->lock);
}

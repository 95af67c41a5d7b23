/*
 * worker_state.h
 *		What one worker process keeps: models, vectorizers, batches.
 *
 * Everything hangs below WorkerContext.  Models and vectorizers keep their
 * address while they exist; a reload of the configuration changes them in
 * place.  A batch belongs to one vectorizer and goes with it.
 */
#ifndef WORKER_WORKER_STATE_H
#define WORKER_WORKER_STATE_H

#include "base/vector_value.h"
#include "executor/spi.h"
#include "http/embedding.h"
#include "queue/catalog.h"
#include "queue/queue_window.h"
#include "worker/worker.h"

/* A service.  Its circuit is open while failures > 0: one request at a time tries it, at not_before. */
typedef struct WorkerModel
{
	dlist_node	node;
	MemoryContext context;		/* of def */
	CatalogModel *def;
	bool		seen;			/* for reload */
	int			inflight;
	int			failures;		/* calls in a row that failed */
	TimestampTz not_before;		/* throttled or backing off */
	double		allowance;		/* requests that the rate limit allows now */
	TimestampTz allowance_at;
} WorkerModel;

typedef struct WorkerVectorizer
{
	dlist_node	node;
	MemoryContext context;		/* of def and the SQL */
	CatalogVectorizer *def;
	bool		seen;
	bool		stale;			/* its SQL has to be built again */
	WorkerModel *model;			/* NULL while its model is missing */
	QueueSource *source;
	Oid			owner;			/* of the table: its SQL runs as this role */
	int			nkeys;
	char	   *read_sql;
	char	   *lock_sql;
	char	   *write_sql;
	char	   *scan_first_sql;
	char	   *scan_next_sql;
	SPIPlanPtr	read_plan;
	SPIPlanPtr	lock_plan;
	SPIPlanPtr	write_plan;
	dlist_head	batches;
	int			inflight;		/* rows in batches */
	bool		dead_letters;	/* there may be some */
	int			failures;		/* of our own SQL, in a row */
	TimestampTz not_before;
	WorkerProgress *progress;	/* NULL when shared memory has no room */
} WorkerVectorizer;

/* A row in a batch. */
typedef struct BatchRow
{
	QueueItem  *item;
	char	   *text;			/* what was rendered; NULL or blank: the vector is to be NULL */
} BatchRow;

typedef enum BatchState
{
	BATCH_READY,				/* texts read, to be sent */
	BATCH_SENT,
	BATCH_WRITE,				/* vectors here, to be written at write_at */
} BatchState;

typedef struct WorkerBatch
{
	dlist_node	node;			/* in the vectorizer's list */
	MemoryContext context;		/* the batch, its texts, the call */
	WorkerVectorizer *vectorizer;
	BatchState	state;
	BatchRow   *rows;
	int			nrows;
	EmbeddingCall *call;
	const EmbeddingResult *result;
	int		   *vector_of;		/* row -> index in the result */
	TimestampTz write_at;
	int			write_tries;
} WorkerBatch;

typedef struct Worker
{
	WorkerDatabase *slot;
	HttpClient *client;
	QueueWindow *window;
	dlist_head	models;
	dlist_head	vectorizers;
	uint64		config_generation;
	bool		sources_stale;	/* a relation changed: look which */
	bool		more_to_read;
	VectorType	vector;
	char	   *default_search_path;
} Worker;

extern Worker *MyWorker;
extern MemoryContext WorkerContext;

/* ---- worker_config.c ---- */
extern void worker_config_init(void);
extern void worker_config_load(void);	/* inside a transaction */

/* ---- worker_sql.c ---- */

/*
 * Begin and end a transaction of the worker; inside, SPI is connected and the
 * search_path is ours.  worker_begin returns false, with nothing begun, when the
 * extension is gone.
 */
extern bool worker_begin(const char *activity);
extern void worker_commit(void);

/* Run statements as the table's owner, with the database's own search_path.  An error's rollback ends it. */
extern void worker_enter_owner(WorkerVectorizer *v, CatalogScope *scope);
extern void worker_leave_owner(CatalogScope *scope);

/*
 * Run a function in a subtransaction.  NULL, or the error that rolled it back
 * (palloc'd); cancel and shutdown are not caught.
 */
extern ErrorData *worker_try(void (*function) (void *), void *arg);

/* ---- worker_batch.c: read a batch, send it, take its answer, write it ---- */
extern bool worker_make_batch(WorkerVectorizer *v);
extern void worker_send_batch(WorkerBatch *batch);
extern void worker_answer(WorkerBatch *batch);
extern void worker_write_batch(WorkerBatch *batch);
extern void worker_drop_batch(WorkerBatch *batch);
extern void worker_feed_scan(WorkerVectorizer *v);
extern bool worker_model_ready(WorkerModel *model, TimestampTz now, TimestampTz *when);

/* ---- worker_progress.c ---- */
extern WorkerProgress *worker_progress_slot(int vectorizer);
extern void worker_progress_drop(WorkerProgress *progress);
extern void worker_note_error(WorkerVectorizer *v, const char *error);
extern void worker_note_lag(WorkerVectorizer *v, TimestampTz queued_at, TimestampTz now);
extern void worker_note_progress(WorkerVectorizer *v);

#endif							/* WORKER_WORKER_STATE_H */

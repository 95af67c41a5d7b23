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

#include "base/chunk.h"
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
	int			probes_passed;	/* since a row was answered */
	TimestampTz not_before;		/* throttled or backing off */
	double		allowance;		/* requests that the rate limit allows now */
	TimestampTz allowance_at;
	double		token_allowance;	/* tokens, the same way; may be negative */
	double		bytes_per_token;	/* as the service counted so far */
} WorkerModel;

typedef struct WorkerVectorizer
{
	dlist_node	node;
	MemoryContext context;		/* of def and the SQL */
	CatalogVectorizer *def;
	Oid			relid;			/* def->source */
	Oid			content_view;	/* of def, too; InvalidOid when there is none */
	Oid			chunk_table;
	bool		seen;
	bool		stale;			/* its SQL has to be built again */
	WorkerModel *model;			/* NULL while its model is missing */
	bool		denied;			/* the table's owner may not use it */
	QueueSource *source;
	Oid			owner;			/* of the table: its SQL runs as this role */
	int			nkeys;
	char	   *read_sql;
	char	   *lock_sql;
	ChunkOptions chunking;
	char	   *write_sql;
	char	   *delete_sql;		/* of a row's chunks; NULL when vectors live in a column */
	char	   *orphans_sql;
	char	   *scan_first_sql;
	char	   *scan_next_sql;
	SPIPlanPtr	read_plan;
	SPIPlanPtr	lock_plan;
	SPIPlanPtr	write_plan;
	SPIPlanPtr	delete_plan;
	dlist_head	batches;
	int			inflight;		/* rows in batches */
	bool		dead_letters;	/* there are some, as last looked for */
	bool		sweep_wanted;	/* rows went, and their digests may be left */
	int			failures;		/* of our own SQL, in a row */
	int			read_limit;		/* rows to read at once after reading failed; 0 = no limit */
	int			write_piece;	/* rows of a backfill to lock at once; 0 = all of the batch */
	TimestampTz not_before;
	TimestampTz cutover_at;		/* of a next generation: when to try for the serving one's place */
	int			cutover_tries;	/* that failed, in a row */
	int			cutover_holds;	/* times that the serving one had to wait for it, in a row */
	int			lags;			/* rows counted in its progress, about */
	WorkerProgress *progress;	/* NULL when shared memory has no room */
} WorkerVectorizer;

/* A row in a batch. */
typedef struct BatchRow
{
	QueueItem  *item;
	char	   *text;			/* what was rendered; blank or NULL: nothing to embed */
	int			first;			/* its pieces among the batch's inputs */
	int			ninputs;
} BatchRow;

typedef enum BatchState
{
	BATCH_READY,				/* texts read; some inputs are not sent yet */
	BATCH_SENT,
	BATCH_WRITE,				/* all vectors here, to be written at write_at */
} BatchState;

/* Rows that are written together.  Their inputs may take more than one request. */
typedef struct WorkerBatch
{
	dlist_node	node;			/* in the vectorizer's list */
	MemoryContext context;		/* the batch, its texts, the calls */
	WorkerVectorizer *vectorizer;
	BatchState	state;
	bool		live;			/* with changes; else backfill alone */
	BatchRow   *rows;
	int			nrows;
	char	  **inputs;
	int			ninputs;
	int			room;
	int			sent;			/* inputs */
	int			answered;
	dlist_head	calls;			/* BatchCall */
	float	   *vectors;		/* one for each input */
	int			dimensions;
	TimestampTz write_at;
	int			write_tries;
} WorkerBatch;

/* One request of a batch: the owner of its EmbeddingCall. */
typedef struct BatchCall
{
	dlist_node	node;
	WorkerBatch *batch;
	int			first;			/* input */
	int64		bytes;			/* of its texts */
	double		tokens;			/* taken from the model's allowance */
	bool		probe;			/* asks whether the service is well, with a text of our own */
	EmbeddingCall *call;
} BatchCall;

/*
 * Rows to render: texts[i], found[i] and embedded[i] for rows[i].  With 'lock', only rows
 * that could be locked without waiting are found.  With 'left', rows that come after a lot of
 * text are not read, and marked there: rows are taken by number, and texts may have any size.
 */
typedef struct RenderArgs
{
	WorkerVectorizer *v;
	BatchRow   *rows;
	int			nrows;
	bool		lock;
	char	  **texts;
	bool	   *found;
	bool	   *embedded;		/* it has a vector; may be NULL */
	bool	   *left;			/* may be NULL */
	MemoryContext context;		/* of the texts */
} RenderArgs;

#define WORKER_LOCKED_RETRY_MS		50	/* a row or table that somebody has locked, doubling ... */
#define WORKER_LOCKED_RETRY_MAX_MS	5000

typedef struct Worker
{
	WorkerDatabase *slot;
	Oid			extension;		/* that all of this is about */
	bool		replaced;		/* there is another one now */
	bool		gone;			/* it is not there any more, or replaced */
	TimestampTz held_up_until;	/* somebody has a table of ours to himself: when to look again; or 0 */
	int			held_up_times;	/* in a row */
	HttpClient *client;
	QueueWindow *window;
	dlist_head	models;
	dlist_head	vectorizers;
	uint64		config_generation;
	bool		sources_stale;	/* a relation changed: look which */
	bool		entries_left;	/* of vectorizers that are gone, perhaps */
	int			newest_vectorizer;	/* the highest number that was ever read */
	bool		more_to_read;
	TimestampTz queue_read_at;
	VectorType	vector;
	SPIPlanPtr	log_plan;
	TimestampTz log_expired_at;
	char	   *default_search_path;
} Worker;

extern Worker *MyWorker;
extern MemoryContext WorkerContext;

/* ---- worker_config.c ---- */
extern void worker_config_init(void);

/*
 * Follow changes of the configuration.  Inside a transaction.  Returns true
 * when it was read anew: pointers to
 * vectorizers and batches may be stale then.
 */
extern bool worker_config_load(void);

/*
 * Lock the table for reading it; never waits.  False, with v->not_before set, when
 * somebody else has it, or when the lock has brought the news that it was renamed or
 * given away since the SQL was built.
 */
extern bool worker_lock_source(WorkerVectorizer *v);

/* ---- worker_sql.c ---- */

/*
 * Begin and end a transaction of the worker; inside, SPI is connected and the
 * search_path is ours.  worker_begin returns false, with nothing begun, when the
 * extension is gone, or dropped and made again: its numbers begin anew, so nothing
 * that the process knows is worth anything.  And when somebody has a table of
 * ours to himself: then worker_held_up says so until the time to try again.
 */
extern bool worker_begin(const char *activity);
extern bool worker_held_up(TimestampTz *when);
extern void worker_commit(void);

/* Run statements as the table's owner, with the database's own search_path.  An error's rollback ends it. */
extern void worker_enter_owner(WorkerVectorizer *v, CatalogScope *scope);
extern void worker_leave_owner(CatalogScope *scope);

/*
 * Run a function in a subtransaction.  NULL, or the error that rolled it back (palloc'd).  That includes
 * those of a canceled query, which an owner's code can raise as well; a shutdown is no error.
 */
extern ErrorData *worker_try(void (*function) (void *), void *arg);

/* ---- worker_batch.c ---- */
extern bool worker_text_blank(const char *text);
extern bool worker_text_same(const char *a, const char *b);
extern SPIPlanPtr worker_prepare(const char *sql, int nargs, Oid *types);
extern void worker_render(void *arg);	/* RenderArgs */
extern void worker_own_failure(WorkerVectorizer *v, ErrorData *error);
extern bool worker_passing_error(const ErrorData *error);
extern bool worker_doubt_names(WorkerVectorizer *v, const ErrorData *error, BatchRow *rows, int nrows);
extern bool worker_make_batch(WorkerVectorizer *v);
extern WorkerBatch *worker_split_batch(WorkerBatch *batch, int from, int to);
extern void worker_drop_batch(WorkerBatch *batch);
extern void worker_free_batch(WorkerBatch *batch);

/* ---- worker_send.c ---- */
extern int64 worker_backoff_ms(int failures);
extern TimestampTz worker_from_now(int64 ms);
extern bool worker_model_ready(WorkerBatch *next, TimestampTz now, TimestampTz *when);
extern void worker_send_batch(WorkerBatch *batch);
extern void worker_answer(BatchCall *call);
extern void worker_abort_calls(WorkerBatch *batch);
extern void worker_dead_letter(WorkerVectorizer *v, QueueItem *item, const char *operation,
							   const char *message);
extern void worker_row_failed(WorkerVectorizer *v, QueueItem *item, const ErrorData *error);

/* ---- worker_write.c ---- */
extern void worker_write_batch(WorkerBatch *batch);
extern void worker_forget_vanished(WorkerVectorizer *v);

extern void worker_look_for_failures(WorkerVectorizer *v);
extern void worker_forget_failure(WorkerVectorizer *v, QueueItem *item);

/* ---- worker_digest.c ---- */
extern void worker_digest_compare(RenderArgs *r, bool *unchanged);
extern void worker_digest_write(WorkerVectorizer *v, BatchRow **written, int nwritten,
								BatchRow **emptied, int nemptied);

/* ---- worker_log.c: what was done to which row ---- */

#define WORKER_LOG_UPSERT	'u'
#define WORKER_LOG_DELETE	'd'	/* the row is gone, or has no text any more */
#define WORKER_LOG_FAILED	'f'

typedef struct WorkerLog WorkerLog;

extern WorkerLog *worker_log_begin(int maxrows);
extern void worker_log_row(WorkerLog *log, const QueueItem *item, char operation, const char *text);
extern void worker_log_end(WorkerLog *log, const WorkerVectorizer *v, const char *error);
extern bool worker_log_due(TimestampTz now);
extern void worker_log_expire(void);

/* ---- worker_generation.c ---- */
extern void worker_generations_reset(void);
extern void worker_note_retired(const CatalogVectorizer *def);
extern bool worker_generations(TimestampTz *when);

/* ---- worker_scan.c ---- */
#define WORKER_SCAN_ROWS 512

extern void worker_feed_scan(WorkerVectorizer *v);

/* The table's next keys behind one (or from the start): WORKER_SCAN_ROWS of them, unless it ends there. */
extern ArrayType **worker_scan_keys(WorkerVectorizer *v, ArrayType *after, int *nkeys);

/* ---- worker_sweep.c ---- */
extern bool worker_sweep(TimestampTz *when);
extern void worker_sweep_keep(WorkerVectorizer *v, Datum key);
extern void worker_sweep_end(WorkerVectorizer *v);

/* ---- worker_progress.c ---- */
extern WorkerProgress *worker_progress_slot(int vectorizer);
extern void worker_progress_drop(WorkerProgress *progress);
extern void worker_note_error(WorkerVectorizer *v, const char *error);
extern void worker_note_lag(WorkerVectorizer *v, const QueueItem *item, TimestampTz now);
extern void worker_note_answer(WorkerVectorizer *v, const EmbeddingResult *result);
extern void worker_note_progress(WorkerVectorizer *v);

#endif							/* WORKER_WORKER_STATE_H */

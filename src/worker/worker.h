/*
 * worker.h
 *		The launcher, one worker for each database, and what they share.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

/* ---- shared memory (worker_shmem.c) ------------------------------------------ */

#define WORKER_MAX_DATABASES	128
#define WORKER_MAX_VECTORIZERS	512
#define WORKER_ERROR_LENGTH		256
#define WORKER_LAG_BUCKETS		24	/* bucket i: below 2^i ms */
#define WORKER_OUTCOMES			7	/* values of HttpOutcome */

typedef enum WorkerState
{
	WORKER_UNUSED,				/* the slot is free */
	WORKER_WANTED,				/* to be started at next_start */
	WORKER_STARTING,			/* registered with the postmaster */
	WORKER_RUNNING,
	WORKER_ABSENT,				/* looked, and the database has no vecsync */
} WorkerState;

/*
 * One database.  The latch points into shared memory (a PGPROC's); it may be
 * that of a process that is gone, and setting it then is harmless.
 */
typedef struct WorkerDatabase
{
	Oid			database;
	WorkerState state;
	pid_t		pid;			/* of the worker, until it has left the database; 0: none */
	Latch	   *latch;			/* the worker's, NULL when none runs */
	TimestampTz next_start;
	TimestampTz hold_until;		/* somebody wants the database to himself */
	TimestampTz started_at;
	int			restarts;		/* in a row, for the back-off */
	bool		no_slot;		/* the postmaster had no free background worker slot */
	pg_atomic_uint32 rows_changed;	/* set by commits, cleared by the worker */
	bool		asleep;			/* the worker has to be woken when rows change */
} WorkerDatabase;

/* What a worker says of one vectorizer.  Written by the worker alone, under the lock. */
typedef struct WorkerProgress
{
	Oid			database;		/* InvalidOid: free */
	int			vectorizer;
	int			in_flight;
	int64		partial_rows;	/* rows done of queue entries that are still there */
	int64		embedded;
	int64		skipped;
	int64		requests;
	int64		tokens;
	int64		answers[WORKER_OUTCOMES];	/* by HttpOutcome */
	TimestampTz paused_until;	/* the model's circuit or rate limit; 0 = none */
	TimestampTz last_error_at;
	char		last_error[WORKER_ERROR_LENGTH];
	uint64		lag[WORKER_LAG_BUCKETS];
	uint64		latency[WORKER_LAG_BUCKETS];	/* of requests */
} WorkerProgress;

typedef struct WorkerShared
{
	LWLock	   *lock;			/* slots' identity and state, progress */
	Latch	   *launcher;
	pg_atomic_uint64 config_generation; /* models, secrets or vectorizers changed somewhere */
	ConditionVariable progressed;	/* a worker committed results */
	WorkerDatabase databases[WORKER_MAX_DATABASES];
	WorkerProgress progress[WORKER_MAX_VECTORIZERS];
} WorkerShared;

/* NULL when the library was not in shared_preload_libraries. */
extern WorkerShared *worker_shared;

extern void worker_shmem_init(void);
extern uint64 worker_config_generation(void);

/* The slot of a database; with 'create', one is taken.  NULL: none, or no room.  Takes the lock. */
extern WorkerDatabase *worker_find_database(Oid database, bool create);

/* The commit hook of the queue room. */
extern void worker_on_commit(int changed);

/* ---- worker_query_cache.c: vectors of query texts, shared by all sessions ---- */

extern void worker_query_cache_request(void);
extern void worker_query_cache_startup(void);

/* palloc'd; NULL when it is not there.  Counts a hit or a miss. */
extern float *worker_query_cache_get(const char *model, const char *text, bool query, int *dimensions);
extern void worker_query_cache_count_hit(void);
extern void worker_query_cache_counts(int *entries, uint64 *hits, uint64 *misses);

/* 'generation' is that of the configuration the vector was asked with. */
extern void worker_query_cache_put(const char *model, const char *text, bool query, uint64 generation,
								   const float *values, int dimensions);

/* ---- worker_activity.c: who searches what, how much ---- */

/* One search, from begin to end; one that fails has no end. */
typedef struct WorkerSearch
{
	int			vectorizer;
	TimestampTz began_at;
	int64		rows;
	bool		values;			/* vectors were returned */
} WorkerSearch;

extern void worker_activity_request(void);
extern void worker_activity_startup(void);
extern void worker_search_begin(WorkerSearch *search, int vectorizer);
extern void worker_search_end(WorkerSearch *search, int64 rows, bool values);

/* ---- processes ------------------------------------------------------------------- */

extern PGDLLEXPORT void launcher_main(Datum arg);
extern PGDLLEXPORT void worker_main(Datum arg);
extern void launcher_register(void);

/* ---- worker_config.c ---- */

struct CatalogModel;
extern void worker_guard_secret(struct CatalogModel *model, MemoryContext context);

/* ---- worker_count.c ---- */

/* Rows of a table that has more than so many, or more than so many blocks, are not counted but estimated. */
#define WORKER_COUNT_UP_TO 100000

/*
 * Rows of a table with its partitions, and those that have a value in the column
 * (NULL: in none), by the active snapshot.  None of the owner's code runs, and
 * nothing is waited for.  The rows of a large table, or of one that somebody has
 * (a part of) to himself, are estimated, and *filled is -1; so is the result when
 * nothing is known of them.
 */
extern int64 worker_count_rows(Oid source, const char *column, int64 *filled);

/* The rows that have chunks in a table of them, in the same way; -1: it is large, or somebody's. */
extern int64 worker_count_documents(Oid chunk_table);

/* ---- worker_status.c ---- */

/* The time (upper end of its bucket, ms) below which a share of what was counted lies. */
extern Datum worker_histogram_share(const uint64 *buckets, double share, bool *isnull);

/* ---- worker_database.c ---- */
extern void worker_database_init(void);

/* ---- settings (vecsync_init.c) ------------------------------------------------------ */

extern bool worker_enabled;
extern int	worker_max_inflight;
extern int	worker_poll_interval;	/* s */
extern int	worker_max_attempts;
extern int	worker_backoff_min; /* ms */
extern int	worker_backoff_max;
extern int	worker_connect_timeout; /* ms */
extern int	worker_max_response_bytes;
extern char *worker_ca_file;
extern char *worker_allowed_urls;
extern char *worker_proxy;
extern int	worker_log_retention;	/* s; 0: nothing is logged */
extern int	worker_query_timeout;	/* ms */
extern int	worker_query_cache_entries;

#endif							/* WORKER_WORKER_H */

/*
 * queue.h
 *		Change capture and the durable queue; see README.md in this folder.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/ilist.h"
#include "storage/lockdefs.h"
#include "utils/array.h"
#include "utils/relcache.h"

/* The columns of vecsync.queue. */
#define QUEUE_ATT_SEQ			1
#define QUEUE_ATT_VECTORIZER	2
#define QUEUE_ATT_OP			3
#define QUEUE_ATT_ROWS			4
#define QUEUE_ATT_KEYS			5
#define QUEUE_ATT_QUEUED_AT		6

/* vecsync.queue.op */
#define QUEUE_OP_KEYS		'k'
#define QUEUE_OP_FORCED		'f'		/* the same, but the vectors of these rows are not trusted */
#define QUEUE_OP_SCAN		's'
#define QUEUE_OP_SCAN_FORCED 'a'	/* the same of all rows */
#define QUEUE_OP_TRUNCATE	't'		/* rows went without entries: by TRUNCATE, with a partition */

/* An entry written by capture holds at most this many rows. */
#define QUEUE_ENTRY_ROWS	1024

/* ---- capture.c ---- */

/* What a commit, or PREPARE TRANSACTION, leaves behind for the worker of this database. */
#define QUEUE_CHANGED_ROWS		1	/* the queue has new entries */
#define QUEUE_CHANGED_CONFIG	2	/* models, secrets or vectorizers changed */

/*
 * Called after COMMIT, when the changes are visible, with an OR of the above; after PREPARE TRANSACTION, too,
 * when they are not yet.  Set once by the room that knows the workers.  Must not fail.
 */
typedef void (*queue_commit_hook_type) (int changed);
extern queue_commit_hook_type queue_commit_hook;

extern void queue_capture_init(void);
extern void queue_note_change(int changed);

/* Grows with each change of the configuration by this session, at once. */
extern uint64 queue_config_changes;
extern bool queue_config_changing(void);

/* Has the current transaction noted changes for a vectorizer that are not in the queue yet? */
extern bool queue_noted(int vectorizer);

/* A key column's value as text, whatever the session's settings are. */
extern char *queue_key_string(FmgrInfo *output, Datum value);

/* ---- queue_append.c ---- */

extern void queue_append_init(void);

/* The table. */
extern Relation queue_open(LOCKMODE lockmode);

/* Append one entry under the current transaction.  Returns its number. */
extern int64 queue_append(int vectorizer, char op, int rows, ArrayType *keys);

/* ---- queue_shared.c ---- */

/* Shared memory; called by the room that asks for the library's. */
extern void queue_shared_request(void);
extern void queue_shared_startup(void);

/* Nobody is connected to this database, nor will be. */
extern void queue_database_gone(Oid database);

/* ---- queue_number.c ---- */

/* The next number of this database's sequence.  The transaction has an xid: its commit flushes the WAL. */
extern int64 queue_number_next(Oid sequence);

/* ---- vectorizer.c ---- */

/* Queue the dead letters of a vectorizer again; returns how many.  Inside a catalog scope. */
extern int64 queue_retry_failed(int vectorizer);

/* ---- queue_read.c ---- */

/* Error context callback of who reads all of the queue: says what to do about a damaged block. */
extern void queue_read_error(void *arg);

/* Is that the error of a block which cannot be read, or not any more? */
extern bool queue_damaged(const ErrorData *error);

#endif							/* QUEUE_QUEUE_H */

/*
 * queue_window.h
 *		The worker's view of the queue: what is read and not yet done.
 *
 * One worker serves a database, so who works on what is a matter of its own
 * memory; the table only has to survive it.  See README.md for why that is
 * enough.  All memory hangs below the context given to queue_window_create.
 */
#ifndef QUEUE_QUEUE_WINDOW_H
#define QUEUE_QUEUE_WINDOW_H

#include "queue/queue.h"

typedef struct QueueWindow QueueWindow;
typedef struct QueueSource QueueSource;
typedef struct QueueEntry QueueEntry;

/* An entry an item stands for; most items have one. */
typedef struct QueueRef
{
	struct QueueRef *next;
	QueueEntry *entry;
} QueueRef;

/* One row to look at.  In one of its source's lists, or in the hands of the worker ("taken"). */
typedef struct QueueItem
{
	dlist_node	node;
	QueueSource *source;
	ArrayType  *key;			/* text[], the key columns */
	QueueRef   *refs;			/* entries done when this item is */
	QueueRef   *later;			/* entries that came while it was taken */
	TimestampTz ready_at;		/* if delayed */
	TimestampTz queued_at;		/* of the oldest entry: for the lag */
	TimestampTz later_at;		/* the same of the later ones that are changes; 0: there is none */
	int			attempts;
	int			changes;		/* times its text differed when it was to be written, without a new entry */
	int			nrefs;			/* entries that it ever stood for */
	int			seen_refs;		/* nrefs at the last such time */
	int64		old_digest;		/* of the text of the vector that it had when it was read */
	bool		has_old_digest;
	bool		doubted;		/* failed by a name that was not found, and was tried once more */
	bool		taken;
	bool		live;			/* a change, not backfill */
	bool		forced;			/* the vector that it has is not trusted */
	bool		later_forced;	/* the same of the later entries */
} QueueItem;

/* The rows of one vectorizer. */
struct QueueSource
{
	int			vectorizer;
	int			nitems;
	int64		partial_rows;	/* rows done of entries that are not */
	int			nvanished;		/* entries of op 't' that are read and not done */
	void	   *owner;			/* the worker's */
};

extern QueueWindow *queue_window_create(MemoryContext parent);

/* Vectorizers come and go with the configuration. */
extern QueueSource *queue_window_add_source(QueueWindow *window, int vectorizer, void *owner);
extern void queue_window_drop_source(QueueWindow *window, QueueSource *source);

/*
 * Read what is new; once in poll_s seconds, everything.  Inside a transaction.
 * Returns true when more is waiting to be read than was read.
 * queue_window_open tells whether there are entries of transactions in
 * progress: some end without a word to the worker, so read again soon.
 */
extern bool queue_window_read(QueueWindow *window, int poll_s);
extern bool queue_window_open(QueueWindow *window);

/*
 * queue_window_read failed, and what it did is rolled back.  When that was for a damaged block, the next
 * calls pass it over and come back to it once in poll_s seconds; what it holds waits for that.  False: it
 * was not.
 */
extern bool queue_window_pass_over(QueueWindow *window, const ErrorData *error);

/*
 * Has a source with more to read got room, or was an entry not where it was?  Then read again now: nobody
 * else wakes the worker for it.
 */
extern bool queue_window_hungry(QueueWindow *window);

/* What the entries of op 't' ask for is done: they go with queue_window_finish. */
extern void queue_window_vanished_done(QueueSource *source);

/* Take the next row that may be worked on; NULL when there is none. */
extern QueueItem *queue_window_take(QueueSource *source, TimestampTz now);

/* The row of the next take, without taking it. */
extern QueueItem *queue_window_peek(QueueSource *source, TimestampTz now);

/* When the first delayed row becomes ready; DT_NOEND when none is delayed. */
extern TimestampTz queue_window_next_ready(QueueSource *source);

/* Give a taken row back: to the end of its list, or to be taken no sooner than ready_at. */
extern void queue_window_return(QueueItem *item, TimestampTz ready_at);

/*
 * A taken row is done.  It is gone, unless it changed again in the meantime.
 * The entries it completes are remembered and deleted by queue_window_finish,
 * which has to run in the transaction that made the row done.  So: done for
 * each row, finish, commit.  If that transaction fails, the worker starts
 * afresh from the table.
 */
extern void queue_window_done(QueueItem *item);
extern void queue_window_finish(QueueWindow *window);

/* ---- backfill: an entry of op 's' or 'a' is read in chunks by its source's owner ---- */

typedef struct QueueScan
{
	bool		counted;		/* the entry says how many rows it stands for */
	ArrayType  *after;			/* the last key read; empty at the start */
} QueueScan;

/* Is a backfill under way? */
extern bool queue_window_scanning(QueueSource *source);

/* Is there a backfill that wants its next chunk? */
extern QueueScan *queue_window_scan(QueueSource *source);

/*
 * The chunk's keys in order; 'last' when the table ends with it.  Fills the
 * source's backfill list.
 */
extern void queue_window_scan_chunk(QueueSource *source, ArrayType **keys, int nkeys, bool last);

/* Note how many rows a scan has before it.  Inside a transaction with SPI. */
extern void queue_window_scan_count(QueueSource *source, int64 rows);

#endif							/* QUEUE_QUEUE_WINDOW_H */

/*
 * queue_window_private.h
 *		What the two halves of the worker's view of the queue share: queue_window.c keeps the rows,
 *		queue_read.c takes them from the table.
 */
#ifndef QUEUE_QUEUE_WINDOW_PRIVATE_H
#define QUEUE_QUEUE_WINDOW_PRIVATE_H

#include "postgres.h"

#include "common/hashfn.h"
#include "nodes/bitmapset.h"
#include "storage/itemptr.h"

#include "base/compat.h"
#include "queue/queue_shared.h"
#include "queue/queue_window.h"

#ifndef DEBUG_POINTS
#define WINDOW_ITEMS		16384	/* rows of one source in memory */
#else
#define WINDOW_ITEMS		4096	/* so that tests fill it soon */
#endif
#define WINDOW_ITEM_BYTES	(8 * 1024 * 1024)	/* or this much of keys */
#define REF_BYTES			(sizeof(QueueRef) + sizeof(QueueEntry))	/* an item's part in an entry, at most */

/* One row of vecsync.queue, or one chunk of a scan. */
struct QueueEntry
{
	int64		seq;			/* 0 for a chunk of a scan */
	ItemPointerData tid;		/* where it was read; who deletes it looks whether it is still there */
	int			remaining;		/* rows not yet done */
	int			rows;
	bool		forced;			/* of op QUEUE_OP_FORCED or QUEUE_OP_SCAN_FORCED */
	struct Backfill *scan;		/* chunk of this scan, else NULL */
	struct QueueEntry *next;	/* next chunk of the scan */
	ArrayType  *end;			/* chunk: its last key */
};

typedef struct EntrySlot
{
	int64		seq;
	QueueEntry *entry;
	char		status;
} EntrySlot;

#define SH_PREFIX entryhash
#define SH_ELEMENT_TYPE EntrySlot
#define SH_KEY_TYPE int64
#define SH_KEY seq
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key) ^ (uint32) ((uint64) (key) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct SourceSlot
{
	int			vectorizer;
	struct QueueWindowSource *source;
	char		status;
} SourceSlot;

#define SH_PREFIX sourcehash
#define SH_ELEMENT_TYPE SourceSlot
#define SH_KEY_TYPE int
#define SH_KEY vectorizer
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/*
 * A block with entries of a transaction in progress.  There are as many as such transactions have filled with
 * entries, of up to 1,024 rows each.
 */
typedef struct OpenKey
{
	TransactionId xid;			/* or a subtransaction's */
	BlockNumber block;
} OpenKey;

typedef struct OpenSlot
{
	OpenKey		key;
	char		status;
} OpenSlot;

#define SH_PREFIX openhash
#define SH_ELEMENT_TYPE OpenSlot
#define SH_KEY_TYPE OpenKey
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_combine(murmurhash32((key).xid), murmurhash32((key).block))
#define SH_EQUAL(tb, a, b) ((a).xid == (b).xid && (a).block == (b).block)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct ItemSlot
{
	ArrayType  *key;
	QueueItem  *item;
	uint32		hash;
	char		status;
} ItemSlot;

#define SH_PREFIX itemhash
#define SH_ELEMENT_TYPE ItemSlot
#define SH_KEY_TYPE ArrayType *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), VARSIZE(key))
#define SH_EQUAL(tb, a, b) (VARSIZE(a) == VARSIZE(b) && memcmp((a), (b), VARSIZE(a)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* A backfill under way.  Chunks are done in any order; the cursor in the table moves in theirs. */
typedef struct Backfill
{
	QueueScan	public;			/* must be first */
	struct QueueWindowSource *source;
	QueueEntry *entry;
	struct Backfill *next;		/* further scans of the source wait */
	QueueEntry *chunks;
	QueueEntry *chunks_tail;
	bool		exhausted;
	int64		done_rows;		/* since the cursor was last written */
	bool		cursor_moved;
	ArrayType  *cursor;
} Backfill;

typedef struct QueueWindowSource
{
	QueueSource public;			/* must be first */
	dlist_node	node;
	QueueWindow *window;
	MemoryContext context;
	itemhash_hash *items;
	Size		bytes;
	dlist_head	live;
	dlist_head	backfill;
	dlist_head	delayed;
	Backfill   *scans;
	List	   *vanished;		/* entries of op QUEUE_OP_TRUNCATE */
	BlockNumber from;			/* a pass is under way: what is before this block is taken */
	BlockNumber again;			/* but what was left from this block on, for the next pass */
	bool		behind;			/* entries were left */
	bool		left;			/* one of the block that is being read */
} QueueWindowSource;

struct QueueWindow
{
	MemoryContext context;
	dlist_head	sources;
	sourcehash_hash *numbers;	/* the sources by their vectorizers */
	entryhash_hash *entries;
	openhash_hash *open;
	uint64		changed[QUEUE_BLOCK_WORDS];	/* blocks to be read, as in shared memory */
	bool		changes_left;	/* some of them are, for lack of time */
	CompatRelFile file;			/* that the places are of */
	bool		misplaced;		/* entries may be where they were not read */
	BlockNumber reading;		/* or InvalidBlockNumber */
	Bitmapset  *damaged;		/* blocks that could not be read: passed over ... */
	TimestampTz damaged_at;		/* ... until some time after this */
	TimestampTz read_all_at;	/* when sources last began to read everything */
	List	   *finished;		/* entries to delete */
	List	   *moved;			/* scans whose cursor to write */
};

/* ---- queue_window.c ---- */
extern void queue_window_add_item(QueueWindowSource *source, ArrayType *key, QueueEntry *entry,
								  TimestampTz queued_at, bool live);
extern bool queue_window_source_full(QueueWindowSource *source);
extern ArrayType *queue_window_copy_array(ArrayType *array);

#endif							/* QUEUE_QUEUE_WINDOW_PRIVATE_H */

/*
 * queue_window.c
 *		The worker's view of the queue: what is read and not yet done.
 *
 * Reading.  Entries are read once, in the order of their numbers, from the
 * last number seen (last_seq) on.  Numbers are drawn before commit, so a
 * transaction that commits late leaves a gap behind us; gaps are remembered
 * and looked up by number until they appear, or until every transaction
 * that could have drawn them is over.  A transaction draws numbers only
 * while it has an xid, so a gap seen when the next xid was h is settled once
 * a snapshot's xmin has reached h.  So no dead entry is ever read twice,
 * however long a snapshot is held in the database.
 *
 * Memory.  A source (vectorizer) holds at most WINDOW_ITEMS rows.  When it is
 * full, it falls behind: its new entries are passed over and read later, by
 * (vectorizer, seq), when there is room.  At start every source is behind
 * from number 0.
 *
 * Deletion.  An entry leaves the table in the transaction that writes the
 * result of its last row.  A crash before that commit leaves it there, and
 * its rows are done once more, with the same result.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "queue/queue_window.h"

#define WINDOW_ITEMS		16384	/* rows of one source in memory */
#define WINDOW_ITEM_BYTES	(8 * 1024 * 1024)	/* or this much of keys */
#define READ_ENTRIES		256		/* entries read at a time */
#define MAX_GAPS			10000
#define REF_BYTES			(sizeof(QueueRef) + sizeof(QueueEntry))	/* an item's part in an entry, at most */

/* One row of vecsync.queue, or one chunk of a scan. */
struct QueueEntry
{
	int64		seq;			/* hash key; 0 for a chunk of a scan */
	int			remaining;		/* rows not yet done */
	int			rows;
	char		status;			/* simplehash */
	struct Backfill *scan;			/* chunk of this scan, else NULL */
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
	struct Backfill *next;			/* further scans of the source wait */
	QueueEntry *chunks;
	QueueEntry *chunks_tail;
	bool		exhausted;
	int64		done_rows;		/* since the cursor was last written */
	bool		cursor_moved;
	ArrayType  *cursor;
} Backfill;

typedef struct Source
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
	Backfill	   *scans;
	bool		behind;
	int64		behind_after;	/* numbers up to this are read */
} Source;

typedef struct Gap
{
	int64		seq;
	TransactionId horizon;
} Gap;

struct QueueWindow
{
	MemoryContext context;
	dlist_head	sources;
	entryhash_hash *entries;
	int64		last_seq;
	Gap		   *gaps;
	int			ngaps;
	bool		started;
	bool		recheck;		/* transactions open at start may still add numbers below last_seq */
	TransactionId start_horizon;
	List	   *finished;		/* entries to delete: int64 pointers */
	List	   *moved;			/* scans whose cursor to write */
	List	   *truncated;
};

static ArrayType *
copy_array(ArrayType *array)
{
	return memcpy(palloc(VARSIZE(array)), array, VARSIZE(array));
}

QueueWindow *
queue_window_create(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "vecsync queue window", ALLOCSET_DEFAULT_SIZES);
	QueueWindow *window = MemoryContextAllocZero(context, sizeof(QueueWindow));

	window->context = context;
	dlist_init(&window->sources);
	window->entries = entryhash_create(context, 256, NULL);
	window->gaps = MemoryContextAlloc(context, sizeof(Gap) * MAX_GAPS);
	return window;
}

QueueSource *
queue_window_add_source(QueueWindow *window, int vectorizer, void *owner)
{
	MemoryContext context = AllocSetContextCreate(window->context, "vecsync queue source",
												  ALLOCSET_DEFAULT_SIZES);
	Source	   *source = MemoryContextAllocZero(context, sizeof(Source));

	source->public.vectorizer = vectorizer;
	source->public.owner = owner;
	source->window = window;
	source->context = context;
	source->items = itemhash_create(context, 256, NULL);
	dlist_init(&source->live);
	dlist_init(&source->backfill);
	dlist_init(&source->delayed);
	source->behind = true;
	dlist_push_tail(&window->sources, &source->node);
	return &source->public;
}

/* Its items must not be in anybody's hands. */
void
queue_window_drop_source(QueueWindow *window, QueueSource *public)
{
	Source	   *source = (Source *) public;
	entryhash_iterator it;
	EntrySlot  *slot;

	/* The entries' memory is the source's: forget them first. */
	entryhash_start_iterate(window->entries, &it);
	while ((slot = entryhash_iterate(window->entries, &it)) != NULL)
		if (GetMemoryChunkContext(slot->entry) == source->context)
			entryhash_delete_item(window->entries, slot);
	dlist_delete(&source->node);
	MemoryContextDelete(source->context);
}

static Source *
find_source(QueueWindow *window, int vectorizer)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		Source	   *source = dlist_container(Source, node, iter.cur);

		if (source->public.vectorizer == vectorizer)
			return source;
	}
	return NULL;
}

/* ---- items ---------------------------------------------------------------------- */

static void
add_item(Source *source, ArrayType *key, QueueEntry *entry, TimestampTz queued_at, bool live)
{
	MemoryContext old = MemoryContextSwitchTo(source->context);
	QueueRef   *ref = palloc(sizeof(QueueRef));
	ItemSlot   *slot;
	QueueItem  *item;
	bool		found;

	ref->entry = entry;
	slot = itemhash_insert(source->items, key, &found);
	source->bytes += REF_BYTES;
	if (found)
	{
		item = slot->item;
		item->nrefs++;
		if (item->taken)
		{
			ref->next = item->later;
			item->later = ref;
		}
		else
		{
			ref->next = item->refs;
			item->refs = ref;
			if (live && !item->live && item->ready_at == 0)
			{
				/* a change of a row whose backfill waits: now it is urgent */
				dlist_delete(&item->node);
				dlist_push_tail(&source->live, &item->node);
				item->live = true;
				item->queued_at = queued_at;
			}
		}
	}
	else
	{
		item = palloc0(sizeof(QueueItem));
		item->source = &source->public;
		item->key = copy_array(key);
		slot->key = item->key;
		slot->item = item;
		ref->next = NULL;
		item->refs = ref;
		item->queued_at = queued_at;
		item->nrefs = 1;
		item->live = live;
		dlist_push_tail(live ? &source->live : &source->backfill, &item->node);
		source->public.nitems++;
		source->bytes += VARSIZE(item->key) + sizeof(QueueItem);
	}
	MemoryContextSwitchTo(old);
}

static bool
source_full(Source *source)
{
	return source->public.nitems >= WINDOW_ITEMS || source->bytes >= WINDOW_ITEM_BYTES;
}

/* Move delayed items whose time has come to the front of their lists. */
static void
wake_delayed(Source *source, TimestampTz now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &source->delayed)
	{
		QueueItem  *item = dlist_container(QueueItem, node, iter.cur);

		if (item->ready_at > now)
			continue;
		item->ready_at = 0;
		dlist_delete(&item->node);
		dlist_push_head(item->live ? &source->live : &source->backfill, &item->node);
	}
}

QueueItem *
queue_window_peek(QueueSource *public, TimestampTz now)
{
	Source	   *source = (Source *) public;

	wake_delayed(source, now);
	if (!dlist_is_empty(&source->live))
		return dlist_head_element(QueueItem, node, &source->live);
	if (!dlist_is_empty(&source->backfill))
		return dlist_head_element(QueueItem, node, &source->backfill);
	return NULL;
}

QueueItem *
queue_window_take(QueueSource *public, TimestampTz now)
{
	QueueItem  *item = queue_window_peek(public, now);

	if (item != NULL)
	{
		dlist_delete(&item->node);
		item->taken = true;
	}
	return item;
}

TimestampTz
queue_window_next_ready(QueueSource *public)
{
	Source	   *source = (Source *) public;
	TimestampTz first = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach(iter, &source->delayed)
		first = Min(first, dlist_container(QueueItem, node, iter.cur)->ready_at);
	return first;
}

void
queue_window_return(QueueItem *item, TimestampTz ready_at)
{
	Source	   *source = (Source *) item->source;

	Assert(item->taken);
	item->taken = false;
	item->ready_at = ready_at;
	while (item->later != NULL)
	{
		QueueRef   *ref = item->later;

		item->later = ref->next;
		ref->next = item->refs;
		item->refs = ref;
	}
	dlist_push_tail(ready_at > 0 ? &source->delayed : item->live ? &source->live : &source->backfill,
					&item->node);
}

/* Chunks at the head that are done move the cursor. */
static void
advance_scan(Source *source, Backfill *scan)
{
	QueueWindow *window = source->window;

	while (scan->chunks != NULL && scan->chunks->remaining == 0)
	{
		QueueEntry *chunk = scan->chunks;

		scan->done_rows += chunk->rows;
		source->public.partial_rows -= chunk->rows;
		if (scan->cursor != NULL)
			pfree(scan->cursor);
		scan->cursor = chunk->end;
		if (!scan->cursor_moved)
		{
			MemoryContext old = MemoryContextSwitchTo(window->context);

			scan->cursor_moved = true;
			window->moved = lappend(window->moved, scan);
			MemoryContextSwitchTo(old);
		}
		scan->chunks = chunk->next;
		if (scan->chunks == NULL)
			scan->chunks_tail = NULL;
		pfree(chunk);
	}
}

static void
entry_row_done(Source *source, QueueEntry *entry)
{
	QueueWindow *window = source->window;

	Assert(entry->remaining > 0);
	entry->remaining--;
	source->public.partial_rows++;
	if (entry->scan != NULL)
	{
		if (entry->remaining == 0)
			advance_scan(source, entry->scan);
		return;
	}
	if (entry->remaining == 0)
	{
		MemoryContext old = MemoryContextSwitchTo(window->context);
		int64	   *seq = palloc(sizeof(int64));

		*seq = entry->seq;
		window->finished = lappend(window->finished, seq);
		MemoryContextSwitchTo(old);
		source->public.partial_rows -= entry->rows;
		entryhash_delete(window->entries, entry->seq);
		pfree(entry);
	}
}

void
queue_window_done(QueueItem *item)
{
	Source	   *source = (Source *) item->source;

	Assert(item->taken);
	while (item->refs != NULL)
	{
		QueueRef   *ref = item->refs;

		item->refs = ref->next;
		source->bytes -= REF_BYTES;
		entry_row_done(source, ref->entry);
		pfree(ref);
	}
	if (item->later != NULL)
	{
		item->refs = item->later;
		item->later = NULL;
		item->attempts = 0;
		item->live = true;
		item->taken = false;
		item->queued_at = GetCurrentTimestamp();
		dlist_push_tail(&source->live, &item->node);
		return;
	}
	source->public.nitems--;
	source->bytes -= VARSIZE(item->key) + sizeof(QueueItem);
	itemhash_delete(source->items, item->key);
	pfree(item->key);
	pfree(item);
}

static void
finish_scan(Backfill *scan)
{
	Oid			types[3] = {INT8OID, TEXTARRAYOID, INT4OID};
	Datum		values[3];

	values[0] = Int64GetDatum(scan->public.seq);
	if (scan->exhausted && scan->chunks == NULL)
	{
		SPI_execute_with_args("DELETE FROM vecsync.queue WHERE seq = $1", 1, types, values, NULL, false, 0);
		return;
	}
	values[1] = PointerGetDatum(scan->cursor);
	values[2] = Int32GetDatum((int32) Min(scan->done_rows, PG_INT32_MAX));
	SPI_execute_with_args("UPDATE vecsync.queue SET keys = $2, rows = greatest(rows - $3, 0) WHERE seq = $1",
						  3, types, values, NULL, false, 0);
	scan->done_rows = 0;
}

/* Forget a scan that is over; the source's next one takes its place. */
static void
drop_scan(QueueWindow *window, Backfill *scan)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		Source	   *source = dlist_container(Source, node, iter.cur);
		Backfill	  **link = &source->scans;

		while (*link != NULL && *link != scan)
			link = &(*link)->next;
		if (*link == NULL)
			continue;
		*link = scan->next;
		pfree(entryhash_lookup(window->entries, scan->public.seq)->entry);
		entryhash_delete(window->entries, scan->public.seq);
		pfree(scan);
		return;
	}
}

void
queue_window_finish(QueueWindow *window)
{
	if (window->finished != NIL)
	{
		int			n = list_length(window->finished);
		Datum	   *seqs = palloc(sizeof(Datum) * n);
		Oid			type = INT8ARRAYOID;
		Datum		value;
		ListCell   *lc;
		int			i = 0;

		foreach(lc, window->finished)
			seqs[i++] = Int64GetDatum(*(int64 *) lfirst(lc));
		value = PointerGetDatum(
			construct_array(seqs, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		SPI_execute_with_args("DELETE FROM vecsync.queue WHERE seq = ANY ($1)", 1, &type, &value, NULL,
							  false, 0);
		list_free_deep(window->finished);
		window->finished = NIL;
	}
	while (window->moved != NIL)
	{
		Backfill	   *scan = linitial(window->moved);

		window->moved = list_delete_first(window->moved);
		scan->cursor_moved = false;
		finish_scan(scan);
		if (scan->exhausted && scan->chunks == NULL)
			drop_scan(window, scan);
	}
}

/* ---- backfill ------------------------------------------------------------------------ */

/* A source's backfill is kept about this many rows ahead of the work. */
#define SCAN_AHEAD 2048

QueueScan *
queue_window_scan(QueueSource *public)
{
	Source	   *source = (Source *) public;
	Backfill	   *scan = source->scans;

	if (scan == NULL || scan->exhausted || public->nitems >= SCAN_AHEAD)
		return NULL;
	return &scan->public;
}

void
queue_window_scan_chunk(QueueSource *public, ArrayType **keys, int nkeys, bool last)
{
	Source	   *source = (Source *) public;
	Backfill	   *scan = source->scans;
	QueueEntry *chunk;
	MemoryContext old = MemoryContextSwitchTo(source->context);

	/* An empty last chunk is there to move the cursor past the end. */
	chunk = palloc0(sizeof(QueueEntry));
	chunk->scan = scan;
	chunk->rows = chunk->remaining = nkeys;
	chunk->end = copy_array(nkeys > 0 ? keys[nkeys - 1] : scan->public.after);
	if (nkeys > 0)
	{
		pfree(scan->public.after);
		scan->public.after = copy_array(keys[nkeys - 1]);
	}
	if (scan->chunks_tail != NULL)
		scan->chunks_tail->next = chunk;
	else
		scan->chunks = chunk;
	scan->chunks_tail = chunk;
	scan->exhausted = last;
	MemoryContextSwitchTo(old);

	for (int i = 0; i < nkeys; i++)
		add_item(source, keys[i], chunk, GetCurrentTimestamp(), false);
	advance_scan(source, scan);
}

void
queue_window_scan_count(QueueSource *public, int64 rows)
{
	Source	   *source = (Source *) public;
	Oid			types[2] = {INT8OID, INT4OID};
	Datum		values[2] = {Int64GetDatum(source->scans->public.seq),
	Int32GetDatum((int32) Min(rows, PG_INT32_MAX))};

	SPI_execute_with_args("UPDATE vecsync.queue SET rows = $2 WHERE seq = $1", 2, types, values, NULL,
						  false, 0);
	source->scans->public.counted = true;
}

/* ---- reading the table ------------------------------------------------------------------- */

static void
split_keys(Source *source, QueueEntry *entry, ArrayType *keys, TimestampTz queued_at)
{
	Datum	   *elems;
	int			nelems;
	int			nkeys;

	deconstruct_array(keys, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &nelems);
	nkeys = nelems / entry->rows;
	for (int i = 0; i < entry->rows; i++)
	{
		ArrayType  *key = construct_array(elems + i * nkeys, nkeys, TEXTOID, -1, false, TYPALIGN_INT);

		add_item(source, key, entry, queued_at, true);
		pfree(key);
	}
	pfree(elems);
}

/*
 * Is this new entry left for later?  A source that the entries before it have filled falls behind here: one
 * read may bring many times what fits into memory.  A TRUNCATE is never left.
 */
static bool
left_for_later(QueueWindow *window, HeapTuple tuple, int64 seq)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	Source	   *source = find_source(window, DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull)));

	if (source == NULL || DatumGetChar(SPI_getbinval(tuple, desc, 3, &isnull)) == QUEUE_OP_TRUNCATE)
		return false;
	if (!source->behind && source_full(source))
	{
		source->behind = true;
		source->behind_after = seq - 1;
	}
	return source->behind;
}

/* Take one row of the table in.  Known entries and those of unknown vectorizers are passed over. */
static void
take_entry(QueueWindow *window, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	int64		seq = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	int			vectorizer = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	char		op = DatumGetChar(SPI_getbinval(tuple, desc, 3, &isnull));
	int			rows = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
	TimestampTz queued_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 6, &isnull));
	Datum		keys = SPI_getbinval(tuple, desc, 5, &isnull);
	Source	   *source = find_source(window, vectorizer);
	EntrySlot  *slot;
	bool		found;
	MemoryContext old;

	if (source == NULL || entryhash_lookup(window->entries, seq) != NULL)
		return;
	if (op == QUEUE_OP_TRUNCATE)
	{
		int64	   *finished;

		old = MemoryContextSwitchTo(window->context);
		window->truncated = lappend_int(window->truncated, vectorizer);
		finished = palloc(sizeof(int64));
		*finished = seq;
		window->finished = lappend(window->finished, finished);
		MemoryContextSwitchTo(old);
		return;
	}
	if (isnull)
		return;

	old = MemoryContextSwitchTo(source->context);
	slot = entryhash_insert(window->entries, seq, &found);
	slot->entry = palloc0(sizeof(QueueEntry));
	slot->entry->seq = seq;
	slot->entry->rows = slot->entry->remaining = rows;
	if (op == QUEUE_OP_SCAN)
	{
		Backfill	   *scan = palloc0(sizeof(Backfill));
		Backfill	  **link = &source->scans;

		scan->public.seq = seq;
		scan->public.counted = rows >= 0;
		scan->public.after = copy_array((ArrayType *) PG_DETOAST_DATUM(keys));
		while (*link != NULL)
			link = &(*link)->next;
		*link = scan;
	}
	MemoryContextSwitchTo(old);
	if (op == QUEUE_OP_KEYS)
		split_keys(source, slot->entry, DatumGetArrayTypeP(keys), queued_at);
}

static uint64
query(const char *sql, int nargs, Oid *types, Datum *values)
{
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.queue");
	return SPI_processed;
}

#define ENTRY_COLUMNS "seq, vectorizer, op, rows, keys, queued_at"

/* Look up the gaps; settle those that cannot fill any more. */
static void
read_gaps(QueueWindow *window, TransactionId xmin)
{
	Datum	   *seqs;
	Oid			type = INT8ARRAYOID;
	Datum		value;
	uint64		n;
	int			kept = 0;

	if (window->ngaps == 0)
		return;
	seqs = palloc(sizeof(Datum) * window->ngaps);
	for (int i = 0; i < window->ngaps; i++)
		seqs[i] = Int64GetDatum(window->gaps[i].seq);
	value = PointerGetDatum(construct_array(seqs, window->ngaps, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
											TYPALIGN_DOUBLE));
	n = query("SELECT " ENTRY_COLUMNS " FROM vecsync.queue WHERE seq = ANY ($1) ORDER BY seq", 1, &type,
			  &value);
	for (uint64 i = 0; i < n; i++)
		take_entry(window, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	for (int i = 0; i < window->ngaps; i++)
	{
		Gap		   *gap = &window->gaps[i];
		bool		settled = TransactionIdPrecedesOrEquals(gap->horizon, xmin);

		for (uint64 j = 0; j < n && !settled; j++)
		{
			bool		isnull;

			settled = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[j], SPI_tuptable->tupdesc, 1,
												  &isnull)) == gap->seq;
		}
		if (!settled)
			window->gaps[kept++] = *gap;
	}
	window->ngaps = kept;
}

static void
note_gaps(QueueWindow *window, int64 from, int64 to)
{
	TransactionId horizon = ReadNextTransactionId();

	/* More than we care to remember: read everything again instead. */
	if (to - from > MAX_GAPS - window->ngaps)
	{
		window->ngaps = 0;
		window->recheck = true;
		window->start_horizon = horizon;
		return;
	}
	for (int64 seq = from; seq < to; seq++)
		window->gaps[window->ngaps++] = (Gap) {.seq = seq, .horizon = horizon};
}

/* The numbers behind last_seq.  Returns whether there may be more. */
static bool
read_new(QueueWindow *window)
{
	Oid			types[2] = {INT8OID, INT4ARRAYOID};
	Datum		values[2];
	Datum	   *full = NULL;
	int			nfull = 0;
	dlist_iter	iter;
	uint64		n;

	dlist_foreach(iter, &window->sources)
		nfull++;
	full = palloc(sizeof(Datum) * Max(nfull, 1));
	nfull = 0;
	dlist_foreach(iter, &window->sources)
	{
		Source	   *source = dlist_container(Source, node, iter.cur);

		if (!source->behind && source_full(source))
		{
			source->behind = true;
			source->behind_after = window->last_seq;
		}
		if (source->behind)
			full[nfull++] = Int32GetDatum(source->public.vectorizer);
	}
	values[0] = Int64GetDatum(window->last_seq);
	values[1] = PointerGetDatum(construct_array(full, nfull, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	n = query(
		"SELECT seq, vectorizer, op, rows, CASE WHEN vectorizer = ANY ($2) THEN NULL ELSE keys END, queued_at"
		" FROM vecsync.queue WHERE seq > $1 ORDER BY seq LIMIT " CppAsString2(READ_ENTRIES),
		2, types, values);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int64 seq =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		if (seq > window->last_seq + 1)
			note_gaps(window, window->last_seq + 1, seq);
		window->last_seq = seq;
		if (!left_for_later(window, SPI_tuptable->vals[i], seq))
			take_entry(window, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	}
	return n == READ_ENTRIES;
}

/* Is it behind, and has it room again? */
static bool
source_hungry(const Source *source)
{
	return source->behind && source->public.nitems <= WINDOW_ITEMS / 2 &&
		source->bytes <= WINDOW_ITEM_BYTES / 2;
}

bool
queue_window_hungry(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
		if (source_hungry(dlist_container(Source, node, iter.cur)))
			return true;
	return false;
}

/* Let a source that fell behind catch up.  Returns whether it may read on at once. */
static bool
read_behind(QueueWindow *window, Source *source)
{
	Oid			types[3] = {INT4OID, INT8OID, INT8OID};
	Datum		values[3];
	uint64		n;

	if (!source_hungry(source))
		return false;
	values[0] = Int32GetDatum(source->public.vectorizer);
	values[1] = Int64GetDatum(source->behind_after);
	values[2] = Int64GetDatum(window->last_seq);
	n = query("SELECT " ENTRY_COLUMNS " FROM vecsync.queue WHERE vectorizer = $1 AND seq > $2 AND seq <= $3"
			  " ORDER BY vectorizer, seq LIMIT " CppAsString2(READ_ENTRIES), 3, types, values);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		take_entry(window, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		source->behind_after =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		if (source_full(source))
			return false;
	}
	source->behind = n == READ_ENTRIES;
	return source->behind;
}

/* Everything read so far may miss numbers: let every source begin again; known entries are passed over. */
static void
read_again(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		Source	   *source = dlist_container(Source, node, iter.cur);

		source->behind = true;
		source->behind_after = 0;
	}
	window->recheck = false;
}

bool
queue_window_read(QueueWindow *window)
{
	Snapshot	snapshot;
	TransactionId xmin;
	bool		more;
	dlist_iter	iter;

	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = GetActiveSnapshot();
	xmin = snapshot->xmin;
	if (!window->started)
	{
		bool		isnull;

		(void) query("SELECT coalesce(max(seq), 0) FROM vecsync.queue", 0, NULL, NULL);
		window->last_seq =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		window->start_horizon = ReadNextTransactionId();
		window->recheck = true;
		window->started = true;
	}
	else if (window->recheck && TransactionIdPrecedesOrEquals(window->start_horizon, xmin))
		read_again(window);

	read_gaps(window, xmin);
	more = read_new(window);
	dlist_foreach(iter, &window->sources)
	{
		Source	   *source = dlist_container(Source, node, iter.cur);

		if (read_behind(window, source))
			more = true;
	}
	PopActiveSnapshot();
	return more;
}

bool
queue_window_gaps(QueueWindow *window)
{
	return window->ngaps > 0 || window->recheck;
}

List *
queue_window_truncated(QueueWindow *window)
{
	List	   *result = window->truncated;

	window->truncated = NIL;
	return result;
}

/*
 * queue_window.c
 *		The worker's view of the queue: what is read and not yet done.
 *
 * Reading the table is in queue_read.c.
 *
 * Memory.  A source (vectorizer) holds at most WINDOW_ITEMS rows.  When it is
 * full, it falls behind: its new entries are left, and read when there is
 * room.
 *
 * Deletion.  An entry leaves the table in the transaction that writes the
 * result of its last row, by its place, without a plan.  A crash before that
 * commit leaves it there, and its rows are done once more, with the same
 * result.  So they are when the entry is not in that place any more, because
 * somebody has moved it: then everything is read again.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "queue/queue_window_private.h"

ArrayType *
queue_window_copy_array(ArrayType *array)
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
	window->numbers = sourcehash_create(context, 16, NULL);
	window->open = openhash_create(context, 16, NULL);
	return window;
}

QueueSource *
queue_window_add_source(QueueWindow *window, int vectorizer, void *owner)
{
	MemoryContext context = AllocSetContextCreate(window->context, "vecsync queue source",
												  ALLOCSET_DEFAULT_SIZES);
	QueueWindowSource *source = MemoryContextAllocZero(context, sizeof(QueueWindowSource));
	bool		found;

	source->public.vectorizer = vectorizer;
	source->public.owner = owner;
	source->window = window;
	source->context = context;
	source->items = itemhash_create(context, 256, NULL);
	dlist_init(&source->live);
	dlist_init(&source->backfill);
	dlist_init(&source->delayed);
	source->again = InvalidBlockNumber;	/* and from 0 everything is to be read */
	dlist_push_tail(&window->sources, &source->node);
	sourcehash_insert(window->numbers, vectorizer, &found)->source = source;
	return &source->public;
}

/* Its items must not be in anybody's hands. */
void
queue_window_drop_source(QueueWindow *window, QueueSource *public)
{
	QueueWindowSource *source = (QueueWindowSource *) public;
	entryhash_iterator it;
	EntrySlot  *slot;

	/* The entries' memory is the source's: forget them first. */
	entryhash_start_iterate(window->entries, &it);
	while ((slot = entryhash_iterate(window->entries, &it)) != NULL)
		if (GetMemoryChunkContext(slot->entry) == source->context)
			entryhash_delete_item(window->entries, slot);
	sourcehash_delete(window->numbers, public->vectorizer);
	dlist_delete(&source->node);
	MemoryContextDelete(source->context);
}

/* ---- items ---------------------------------------------------------------------- */

/* The row of a backfill has changed; the lag is that of the change. */
static void
become_change(QueueItem *item, TimestampTz queued_at)
{
	item->live = true;
	item->queued_at = queued_at;
}

void
queue_window_add_item(QueueWindowSource *source, ArrayType *key, QueueEntry *entry, TimestampTz queued_at,
					  bool live)
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
			item->later_forced |= entry->forced;
			if (live && (item->later_at == 0 || queued_at < item->later_at))
				item->later_at = queued_at;
		}
		else
		{
			ref->next = item->refs;
			item->refs = ref;
			item->forced |= entry->forced;
			if (live && !item->live)
			{
				/* a change of a row whose backfill waits: now it is urgent */
				if (item->ready_at == 0)
				{
					dlist_delete(&item->node);
					dlist_push_tail(&source->live, &item->node);
				}
				become_change(item, queued_at);
			}
		}
	}
	else
	{
		item = palloc0(sizeof(QueueItem));
		item->source = &source->public;
		item->key = queue_window_copy_array(key);
		slot->key = item->key;
		slot->item = item;
		ref->next = NULL;
		item->refs = ref;
		item->queued_at = queued_at;
		item->nrefs = 1;
		item->live = live;
		item->forced = entry->forced;
		dlist_push_tail(live ? &source->live : &source->backfill, &item->node);
		source->public.nitems++;
		source->bytes += VARSIZE(item->key) + sizeof(QueueItem);
	}
	MemoryContextSwitchTo(old);
}

bool
queue_window_source_full(QueueWindowSource *source)
{
	return source->public.nitems >= WINDOW_ITEMS || source->bytes >= WINDOW_ITEM_BYTES;
}

/* Move delayed items whose time has come to the front of their lists. */
static void
wake_delayed(QueueWindowSource *source, TimestampTz now)
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
	QueueWindowSource *source = (QueueWindowSource *) public;

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
	QueueWindowSource *source = (QueueWindowSource *) public;
	TimestampTz first = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach(iter, &source->delayed)
		first = Min(first, dlist_container(QueueItem, node, iter.cur)->ready_at);
	return first;
}

void
queue_window_return(QueueItem *item, TimestampTz ready_at)
{
	QueueWindowSource *source = (QueueWindowSource *) item->source;

	Assert(item->taken);
	item->taken = false;
	item->ready_at = ready_at;
	item->forced |= item->later_forced;
	item->later_forced = false;
	if (item->later_at != 0 && !item->live)
		become_change(item, item->later_at);
	item->later_at = 0;
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
advance_scan(QueueWindowSource *source, Backfill *scan)
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

/* The entry is deleted by the next queue_window_finish. */
static void
finish_entry(QueueWindow *window, QueueEntry *entry)
{
	MemoryContext old = MemoryContextSwitchTo(window->context);

	window->finished = lappend(window->finished, entry);
	MemoryContextSwitchTo(old);
}

static void
entry_row_done(QueueWindowSource *source, QueueEntry *entry)
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
		source->public.partial_rows -= entry->rows;
		finish_entry(window, entry);
	}
}

void
queue_window_done(QueueItem *item)
{
	QueueWindowSource *source = (QueueWindowSource *) item->source;

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
		item->forced = item->later_forced;
		item->later_forced = false;
		item->attempts = 0;
		item->doubted = false;
		item->taken = false;
		item->live = false;
		if (item->later_at != 0)
			become_change(item, item->later_at);
		item->later_at = 0;
		dlist_push_tail(item->live ? &source->live : &source->backfill, &item->node);
		return;
	}
	source->public.nitems--;
	source->bytes -= VARSIZE(item->key) + sizeof(QueueItem);
	itemhash_delete(source->items, item->key);
	pfree(item->key);
	pfree(item);
}

/* ---- the table ---------------------------------------------------------------------- */

/*
 * Delete an entry where it was read; false when it is not there.  A snapshot is active: what it sees is not
 * vacuumed between the look and the deletion.
 */
static bool
delete_entry(Relation rel, BlockNumber nblocks, const QueueEntry *entry)
{
	HeapTupleData tuple = {.t_self = entry->tid};
	Buffer		buffer;
	bool		same;
	bool		isnull;
	TM_FailureData failure;

	if (ItemPointerGetBlockNumber(&entry->tid) >= nblocks ||
		!heap_fetch(rel, SnapshotSelf, &tuple, &buffer, false))
		return false;
	same = DatumGetInt64(heap_getattr(&tuple, QUEUE_ATT_SEQ, RelationGetDescr(rel), &isnull)) == entry->seq;
	ReleaseBuffer(buffer);
	return same && heap_delete(rel, &tuple.t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &failure,
							   false) == TM_Ok;
}

/* Run an UPDATE of the row with ctid $1 and number $2 that returns its ctid. */
static bool
update_entry(QueueWindow *window, QueueEntry *entry, const char *sql, int nargs, Oid *types, Datum *values)
{
	bool		isnull;

	values[0] = PointerGetDatum(&entry->tid);
	values[1] = Int64GetDatum(entry->seq);
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0) != SPI_OK_UPDATE_RETURNING)
		elog(ERROR, "could not update vecsync.queue");
	if (SPI_processed == 0)
	{
		window->misplaced = true;
		return false;
	}
	entry->tid = *(ItemPointer) DatumGetPointer(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	return true;
}

static void
write_cursor(QueueWindow *window, Backfill *scan)
{
	Oid			types[4] = {TIDOID, INT8OID, TEXTARRAYOID, INT4OID};
	Datum		values[4];

	values[2] = PointerGetDatum(scan->cursor);
	values[3] = Int32GetDatum((int32) Min(scan->done_rows, PG_INT32_MAX));
	if (update_entry(window, scan->entry,
					 "UPDATE vecsync.queue SET keys = $3,"
					 " rows = CASE WHEN rows < 0 THEN rows ELSE greatest(rows - $4, 0) END"
					 " WHERE ctid = $1 AND seq = $2 RETURNING ctid", 4, types, values))
		scan->done_rows = 0;
}

/* Forget a scan that is over; the source's next one takes its place. */
static void
drop_scan(QueueWindowSource *source, Backfill *scan)
{
	Backfill  **link = &source->scans;

	while (*link != scan)
		link = &(*link)->next;
	*link = scan->next;
	finish_entry(source->window, scan->entry);
	pfree(scan->public.after);
	pfree(scan->cursor);
	pfree(scan);
}

void
queue_window_vanished_done(QueueSource *public)
{
	QueueWindowSource *source = (QueueWindowSource *) public;
	ListCell   *lc;

	foreach(lc, source->vanished)
		finish_entry(source->window, lfirst(lc));
	list_free(source->vanished);
	source->vanished = NIL;
	public->nvanished = 0;
}

static void
delete_finished(QueueWindow *window)
{
	Relation	rel = queue_open(RowExclusiveLock);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	ListCell   *lc;

	/* what the transaction has done to them is to be seen */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(lc, window->finished)
	{
		QueueEntry *entry = lfirst(lc);

		if (!delete_entry(rel, nblocks, entry))
			window->misplaced = true;
		entryhash_delete(window->entries, entry->seq);
		pfree(entry);
	}
	PopActiveSnapshot();
	list_free(window->finished);
	window->finished = NIL;
	table_close(rel, NoLock);
}

void
queue_window_finish(QueueWindow *window)
{
	while (window->moved != NIL)
	{
		Backfill   *scan = linitial(window->moved);

		window->moved = list_delete_first(window->moved);
		scan->cursor_moved = false;
		if (scan->exhausted && scan->chunks == NULL)
			drop_scan(scan->source, scan);
		else
			write_cursor(window, scan);
	}
	if (window->finished != NIL)
		delete_finished(window);
}

/* ---- backfill ------------------------------------------------------------------------ */

/* A source's backfill is kept about this many rows ahead of the work. */
#define SCAN_AHEAD 2048

bool
queue_window_scanning(QueueSource *public)
{
	return ((QueueWindowSource *) public)->scans != NULL;
}

QueueScan *
queue_window_scan(QueueSource *public)
{
	QueueWindowSource *source = (QueueWindowSource *) public;
	Backfill   *scan = source->scans;

	if (scan == NULL || scan->exhausted || public->nitems >= SCAN_AHEAD)
		return NULL;
	return &scan->public;
}

void
queue_window_scan_chunk(QueueSource *public, ArrayType **keys, int nkeys, bool last)
{
	QueueWindowSource *source = (QueueWindowSource *) public;
	Backfill   *scan = source->scans;
	QueueEntry *chunk;
	MemoryContext old = MemoryContextSwitchTo(source->context);

	/* An empty last chunk is there to move the cursor past the end. */
	chunk = palloc0(sizeof(QueueEntry));
	chunk->scan = scan;
	chunk->forced = scan->entry->forced;
	chunk->rows = chunk->remaining = nkeys;
	chunk->end = queue_window_copy_array(nkeys > 0 ? keys[nkeys - 1] : scan->public.after);
	if (nkeys > 0)
	{
		pfree(scan->public.after);
		scan->public.after = queue_window_copy_array(keys[nkeys - 1]);
	}
	if (scan->chunks_tail != NULL)
		scan->chunks_tail->next = chunk;
	else
		scan->chunks = chunk;
	scan->chunks_tail = chunk;
	scan->exhausted = last;
	MemoryContextSwitchTo(old);

	for (int i = 0; i < nkeys; i++)
		queue_window_add_item(source, keys[i], chunk, GetCurrentTimestamp(), false);
	advance_scan(source, scan);
}

void
queue_window_scan_count(QueueSource *public, int64 rows)
{
	QueueWindowSource *source = (QueueWindowSource *) public;
	Oid			types[3] = {TIDOID, INT8OID, INT4OID};
	Datum		values[3];

	values[2] = Int32GetDatum((int32) Min(rows, PG_INT32_MAX));
	(void) update_entry(source->window, source->scans->entry,
						"UPDATE vecsync.queue SET rows = $3 WHERE ctid = $1 AND seq = $2 RETURNING ctid", 3,
						types, values);
	source->scans->public.counted = true;
}

/*
 * queue_window.c
 *		The worker's view of the queue: what is read and not yet done.
 *
 * Reading the table is in queue_read.c.
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

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
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
	window->gaps = MemoryContextAlloc(context, sizeof(Gap) * MAX_GAPS);
	return window;
}

QueueSource *
queue_window_add_source(QueueWindow *window, int vectorizer, void *owner)
{
	MemoryContext context = AllocSetContextCreate(window->context, "vecsync queue source",
												  ALLOCSET_DEFAULT_SIZES);
	QueueWindowSource *source = MemoryContextAllocZero(context, sizeof(QueueWindowSource));

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
	QueueWindowSource *source = (QueueWindowSource *) public;
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

/* ---- items ---------------------------------------------------------------------- */

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
		}
		else
		{
			ref->next = item->refs;
			item->refs = ref;
			item->forced |= entry->forced;
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
		MemoryContext old = MemoryContextSwitchTo(source->context);
		int64	   *seq = palloc(sizeof(int64));

		*seq = entry->seq;
		source->finished = lappend(source->finished, seq);
		MemoryContextSwitchTo(old);
		source->public.partial_rows -= entry->rows;
		entryhash_delete(window->entries, entry->seq);
		pfree(entry);
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
finish_scan(QueueWindowSource *source, Backfill *scan)
{
	Oid			types[4] = {INT4OID, INT8OID, TEXTARRAYOID, INT4OID};
	Datum		values[4];

	values[0] = Int32GetDatum(source->public.vectorizer);
	values[1] = Int64GetDatum(scan->public.seq);
	if (scan->exhausted && scan->chunks == NULL)
	{
		SPI_execute_with_args("DELETE FROM vecsync.queue WHERE vectorizer = $1 AND seq = $2", 2, types,
							  values, NULL, false, 0);
		return;
	}
	values[2] = PointerGetDatum(scan->cursor);
	values[3] = Int32GetDatum((int32) Min(scan->done_rows, PG_INT32_MAX));
	SPI_execute_with_args("UPDATE vecsync.queue SET keys = $3, rows = greatest(rows - $4, 0)"
						  " WHERE vectorizer = $1 AND seq = $2", 4, types, values, NULL, false, 0);
	scan->done_rows = 0;
}

/* Forget a scan that is over; the source's next one takes its place. */
static void
drop_scan(QueueWindowSource *source, Backfill *scan)
{
	QueueWindow *window = source->window;
	Backfill  **link = &source->scans;

	while (*link != scan)
		link = &(*link)->next;
	*link = scan->next;
	pfree(entryhash_lookup(window->entries, scan->public.seq)->entry);
	entryhash_delete(window->entries, scan->public.seq);
	pfree(scan);
}

static void
delete_finished(QueueWindowSource *source)
{
	int			n = list_length(source->finished);
	Datum	   *seqs;
	Oid			types[2] = {INT4OID, INT8ARRAYOID};
	Datum		values[2];
	ListCell   *lc;
	int			i = 0;

	if (n == 0)
		return;
	seqs = palloc(sizeof(Datum) * n);
	foreach(lc, source->finished)
		seqs[i++] = Int64GetDatum(*(int64 *) lfirst(lc));
	values[0] = Int32GetDatum(source->public.vectorizer);
	values[1] = PointerGetDatum(
		construct_array(seqs, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	SPI_execute_with_args("DELETE FROM vecsync.queue WHERE vectorizer = $1 AND seq = ANY ($2)", 2, types,
						  values, NULL, false, 0);
	list_free_deep(source->finished);
	source->finished = NIL;
}

void
queue_window_finish(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
		delete_finished(dlist_container(QueueWindowSource, node, iter.cur));
	while (window->moved != NIL)
	{
		Backfill   *scan = linitial(window->moved);

		window->moved = list_delete_first(window->moved);
		scan->cursor_moved = false;
		finish_scan(scan->source, scan);
		if (scan->exhausted && scan->chunks == NULL)
			drop_scan(scan->source, scan);
	}
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
	chunk->forced = scan->forced;
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
	Oid			types[3] = {INT4OID, INT8OID, INT4OID};
	Datum		values[3] = {Int32GetDatum(public->vectorizer), Int64GetDatum(source->scans->public.seq),
	Int32GetDatum((int32) Min(rows, PG_INT32_MAX))};

	SPI_execute_with_args("UPDATE vecsync.queue SET rows = $3 WHERE vectorizer = $1 AND seq = $2", 3, types,
						  values, NULL, false, 0);
	source->scans->public.counted = true;
}

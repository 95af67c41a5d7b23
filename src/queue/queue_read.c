/*
 * queue_read.c
 *		The worker's view of the queue: reading the table.
 *
 * Reading.  Entries are read once, in the order of their numbers, from the
 * last number seen (last_seq) on: of each source by the index on (vectorizer,
 * seq), the table's only one, and the numbers of all sources together.
 * Numbers are drawn before commit, so a transaction that commits late leaves a
 * gap behind us; gaps are remembered and looked up by number until they
 * appear, or until every transaction that could have drawn them is over.  A
 * transaction draws numbers only while it has an xid, so a gap seen when the
 * next xid was h is settled once a snapshot's xmin has reached h.  So no dead
 * entry is ever read twice, however long a snapshot is held in the database.
 *
 * The numbers of vectorizers that are not ours, or not ours yet, are gaps like
 * any other.  A source that is added reads its entries from 0 on.
 *
 * The table is read without SPI: this runs after every commit that changes
 * something, and the right plan is known.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "queue/queue_window_private.h"

#define READ_ENTRIES		256		/* entries of a source read at a time */

/* Looking up more gaps than this, for all sources together, takes a while: then only this often. */
#define GAP_PROBES			10000
#define GAP_PROBES_MS		1000

/* The table, for the length of one reading. */
typedef struct QueueTable
{
	Relation	rel;
	Relation	index;			/* (vectorizer, seq) */
	Snapshot	snapshot;
} QueueTable;

/* One row of it.  The keys are in the buffer that the scan has pinned, or in the TOAST table. */
typedef struct EntryTuple
{
	int64		seq;
	char		op;
	int			rows;
	Datum		keys;
	TimestampTz queued_at;
} EntryTuple;

static void
open_table(QueueTable *table)
{
	Oid			schema = get_namespace_oid("vecsync", false);

	table->rel = table_open(get_relname_relid("queue", schema), AccessShareLock);
	table->index = index_open(queue_index(schema), AccessShareLock);
	table->snapshot = GetActiveSnapshot();
}

static void
close_table(QueueTable *table)
{
	index_close(table->index, AccessShareLock);
	table_close(table->rel, AccessShareLock);
}

/* A vectorizer's entries behind a number, in the order of numbers.  Ends with systable_endscan_ordered. */
static SysScanDesc
scan_behind(QueueTable *table, int vectorizer, int64 after)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], QUEUE_ATT_VECTORIZER, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(vectorizer));
	ScanKeyInit(&keys[1], QUEUE_ATT_SEQ, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	return systable_beginscan_ordered(table->rel, table->index, table->snapshot, lengthof(keys), keys);
}

static bool
scan_next(QueueTable *table, SysScanDesc scan, ScanDirection direction, EntryTuple *entry)
{
	TupleDesc	desc = RelationGetDescr(table->rel);
	HeapTuple	tuple;
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	tuple = systable_getnext_ordered(scan, direction);
	if (tuple == NULL)
		return false;
	entry->seq = DatumGetInt64(heap_getattr(tuple, QUEUE_ATT_SEQ, desc, &isnull));
	entry->op = DatumGetChar(heap_getattr(tuple, QUEUE_ATT_OP, desc, &isnull));
	entry->rows = DatumGetInt32(heap_getattr(tuple, QUEUE_ATT_ROWS, desc, &isnull));
	entry->keys = heap_getattr(tuple, QUEUE_ATT_KEYS, desc, &isnull);
	entry->queued_at = DatumGetTimestampTz(heap_getattr(tuple, QUEUE_ATT_QUEUED_AT, desc, &isnull));
	return true;
}

static void
split_keys(QueueWindowSource *source, QueueEntry *entry, ArrayType *keys, TimestampTz queued_at)
{
	Datum	   *elems;
	int			nelems;
	int			nkeys;

	deconstruct_array(keys, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &nelems);
	nkeys = nelems / entry->rows;
	for (int i = 0; i < entry->rows; i++)
	{
		ArrayType  *key = construct_array(elems + i * nkeys, nkeys, TEXTOID, -1, false, TYPALIGN_INT);

		queue_window_add_item(source, key, entry, queued_at, true);
		pfree(key);
	}
	pfree(elems);
}

/*
 * Is this new entry left for later?  A source that the entries before it have filled falls behind here: one
 * read may bring many times what fits into memory.  What is about all rows is never left.
 */
static bool
left_for_later(QueueWindowSource *source, const EntryTuple *tuple)
{
	if (tuple->op == QUEUE_OP_TRUNCATE)
		return false;
	if (!source->behind && queue_window_source_full(source))
	{
		source->behind = true;
		source->behind_after = tuple->seq - 1;
	}
	return source->behind;
}

/* Take one row of the table in.  Known entries are passed over. */
static void
take_entry(QueueWindowSource *source, const EntryTuple *tuple)
{
	QueueWindow *window = source->window;
	ArrayType  *keys;
	EntrySlot  *slot;
	bool		found;
	MemoryContext old;

	if (entryhash_lookup(window->entries, tuple->seq) != NULL)
		return;
	if (tuple->op == QUEUE_OP_TRUNCATE)
	{
		source->public.vanished = Max(source->public.vanished, tuple->seq);
		return;
	}

	keys = DatumGetArrayTypeP(tuple->keys);
	old = MemoryContextSwitchTo(source->context);
	slot = entryhash_insert(window->entries, tuple->seq, &found);
	slot->entry = palloc0(sizeof(QueueEntry));
	slot->entry->seq = tuple->seq;
	slot->entry->rows = slot->entry->remaining = tuple->rows;
	slot->entry->forced = tuple->op == QUEUE_OP_FORCED || tuple->op == QUEUE_OP_SCAN_FORCED;
	if (tuple->op == QUEUE_OP_SCAN || tuple->op == QUEUE_OP_SCAN_FORCED)
	{
		Backfill   *scan = palloc0(sizeof(Backfill));
		Backfill  **link = &source->scans;

		scan->source = source;
		scan->public.seq = tuple->seq;
		scan->public.counted = tuple->rows >= 0;
		scan->forced = slot->entry->forced;
		scan->public.after = queue_window_copy_array(keys);
		while (*link != NULL)
			link = &(*link)->next;
		*link = scan;
	}
	MemoryContextSwitchTo(old);
	if (tuple->op == QUEUE_OP_KEYS || tuple->op == QUEUE_OP_FORCED)
		split_keys(source, slot->entry, keys, tuple->queued_at);
	if ((Pointer) keys != DatumGetPointer(tuple->keys))
		pfree(keys);
}

/* ---- gaps ----------------------------------------------------------------------- */

static int
compare_numbers(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return (left > right) - (left < right);
}

/* Take in what has appeared of the gaps; their numbers, ascending. */
static int64 *
probe_gaps(QueueWindow *window, QueueTable *table, int *nfound)
{
	Datum	   *seqs = palloc(sizeof(Datum) * window->ngaps);
	int64	   *found = palloc(sizeof(int64) * window->ngaps);
	ScanKeyData keys[2];
	Datum		array;
	dlist_iter	iter;

	for (int i = 0; i < window->ngaps; i++)
		seqs[i] = Int64GetDatum(window->gaps[i].seq);
	array = PointerGetDatum(construct_array(seqs, window->ngaps, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
											TYPALIGN_DOUBLE));
	*nfound = 0;
	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);
		SysScanDesc scan;
		EntryTuple	tuple;

		ScanKeyInit(&keys[0], QUEUE_ATT_VECTORIZER, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(source->public.vectorizer));
		ScanKeyEntryInitialize(&keys[1], SK_SEARCHARRAY, QUEUE_ATT_SEQ, BTEqualStrategyNumber, INT8OID,
							   InvalidOid, F_INT8EQ, array);
		scan = systable_beginscan_ordered(table->rel, table->index, table->snapshot, lengthof(keys), keys);
		while (scan_next(table, scan, ForwardScanDirection, &tuple))
		{
			/* numbers are unique as long as nobody sets the sequence back */
			if (*nfound < window->ngaps)
				found[(*nfound)++] = tuple.seq;
			take_entry(source, &tuple);
		}
		systable_endscan_ordered(scan);
	}
	qsort(found, *nfound, sizeof(int64), compare_numbers);
	return found;
}

/* Look up the gaps; settle those that cannot fill any more. */
static void
read_gaps(QueueWindow *window, QueueTable *table)
{
	TransactionId xmin = table->snapshot->xmin;
	TimestampTz now = GetCurrentTimestamp();
	int64	   *found;
	int			nfound;
	int			nsources = 0;
	int			kept = 0;
	dlist_iter	iter;

	if (window->ngaps == 0)
		return;
	dlist_foreach(iter, &window->sources)
		nsources++;
	if (window->ngaps > GAP_PROBES / Max(nsources, 1) &&
		!TimestampDifferenceExceeds(window->gaps_read_at, now, GAP_PROBES_MS))
		return;
	window->gaps_read_at = now;

	found = probe_gaps(window, table, &nfound);
	for (int i = 0; i < window->ngaps; i++)
	{
		Gap		   *gap = &window->gaps[i];

		if (!TransactionIdPrecedesOrEquals(gap->horizon, xmin) &&
			bsearch(&gap->seq, found, nfound, sizeof(int64), compare_numbers) == NULL)
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

/* ---- what is new ------------------------------------------------------------------ */

/* The numbers behind last_seq up to the last one: which are there, which are not. */
static void
advance(QueueWindow *window, int64 *seqs, int n, int64 last)
{
	qsort(seqs, n, sizeof(int64), compare_numbers);
	for (int i = 0; i < n && seqs[i] <= last; i++)
	{
		if (seqs[i] > window->last_seq + 1)
			note_gaps(window, window->last_seq + 1, seqs[i]);
		window->last_seq = seqs[i];
	}
}

/*
 * The entries behind last_seq.  A source that has more than is read at a time stops all of them at the last
 * number that it came to: what others have beyond is taken already, and passed over the next time.
 * Returns whether there may be more.
 */
static bool
read_new(QueueWindow *window, QueueTable *table)
{
	int			n = 0;
	int			max = READ_ENTRIES;
	int64	   *seqs = palloc(sizeof(int64) * max);
	int64		last = PG_INT64_MAX;
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);
		SysScanDesc scan = scan_behind(table, source->public.vectorizer, window->last_seq);
		EntryTuple	tuple;
		int			read;

		if (n + READ_ENTRIES > max)
		{
			max = 2 * (n + READ_ENTRIES);
			seqs = repalloc(seqs, sizeof(int64) * max);
		}
		for (read = 0; read < READ_ENTRIES; read++)
		{
			if (!scan_next(table, scan, ForwardScanDirection, &tuple))
				break;
			seqs[n++] = tuple.seq;
			if (!left_for_later(source, &tuple))
				take_entry(source, &tuple);
		}
		if (read == READ_ENTRIES)
			last = Min(last, tuple.seq);
		systable_endscan_ordered(scan);
	}
	advance(window, seqs, n, last);
	pfree(seqs);
	return last != PG_INT64_MAX;
}

/* Is it behind, and has it room again? */
static bool
source_hungry(const QueueWindowSource *source)
{
	return source->behind && source->public.nitems <= WINDOW_ITEMS / 2 &&
		source->bytes <= WINDOW_ITEM_BYTES / 2;
}

bool
queue_window_hungry(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
		if (source_hungry(dlist_container(QueueWindowSource, node, iter.cur)))
			return true;
	return false;
}

/* Let a source that fell behind catch up.  Returns whether it may read on at once. */
static bool
read_behind(QueueWindow *window, QueueTable *table, QueueWindowSource *source)
{
	SysScanDesc scan;
	EntryTuple	tuple;
	int			read;

	if (!source_hungry(source))
		return false;
	scan = scan_behind(table, source->public.vectorizer, source->behind_after);
	for (read = 0; read < READ_ENTRIES && !queue_window_source_full(source); read++)
	{
		if (!scan_next(table, scan, ForwardScanDirection, &tuple) || tuple.seq > window->last_seq)
		{
			source->behind = false;
			break;
		}
		take_entry(source, &tuple);
		source->behind_after = tuple.seq;
	}
	systable_endscan_ordered(scan);
	return source->behind && !queue_window_source_full(source);
}

/* Everything read so far may miss numbers: let every source begin again; known entries are passed over. */
static void
read_again(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

		source->behind = true;
		source->behind_after = 0;
	}
	window->recheck = false;
}

/* Every source is behind, up to the last number that is there. */
static void
start_reading(QueueWindow *window, QueueTable *table)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);
		SysScanDesc scan = scan_behind(table, source->public.vectorizer, window->last_seq);
		EntryTuple	tuple;

		if (scan_next(table, scan, BackwardScanDirection, &tuple))
			window->last_seq = tuple.seq;
		systable_endscan_ordered(scan);
	}
	window->start_horizon = ReadNextTransactionId();
	window->recheck = true;
	window->started = true;
}

bool
queue_window_read(QueueWindow *window)
{
	QueueTable	table;
	bool		more;
	dlist_iter	iter;

	PushActiveSnapshot(GetTransactionSnapshot());
	open_table(&table);
	if (!window->started)
		start_reading(window, &table);
	else if (window->recheck && TransactionIdPrecedesOrEquals(window->start_horizon, table.snapshot->xmin))
		read_again(window);

	read_gaps(window, &table);
	more = read_new(window, &table);
	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

		if (read_behind(window, &table, source))
			more = true;
	}
	close_table(&table);
	PopActiveSnapshot();
	return more;
}

bool
queue_window_gaps(QueueWindow *window)
{
	return window->ngaps > 0 || window->recheck;
}

void
queue_window_vanished_done(QueueSource *source)
{
	Oid			types[2] = {INT4OID, INT8OID};
	Datum		values[2] = {Int32GetDatum(source->vectorizer), Int64GetDatum(source->vanished)};

	SPI_execute_with_args("DELETE FROM vecsync.queue WHERE vectorizer = $1 AND seq <= $2 AND op = "
						  "'t'::\"char\"", 2, types, values, NULL, false, 0);
	source->vanished = 0;
}

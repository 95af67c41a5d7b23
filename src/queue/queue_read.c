/*
 * queue_read.c
 *		The worker's view of the queue: reading the table.
 *
 * Reading.  Entries are read once, in the order of their numbers, from the
 * last number seen (last_seq) on.  Numbers are drawn before commit, so a
 * transaction that commits late leaves a gap behind us; gaps are remembered
 * and looked up by number until they appear, or until every transaction
 * that could have drawn them is over.  A transaction draws numbers only
 * while it has an xid, so a gap seen when the next xid was h is settled once
 * a snapshot's xmin has reached h.  So no dead entry is ever read twice,
 * however long a snapshot is held in the database.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "queue/queue_window_private.h"

#define READ_ENTRIES		256		/* entries read at a time */

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
left_for_later(QueueWindow *window, HeapTuple tuple, int64 seq)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	int			vectorizer = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	QueueWindowSource *source = queue_window_find_source(window, vectorizer);
	char		op = DatumGetChar(SPI_getbinval(tuple, desc, 3, &isnull));

	if (source == NULL || op == QUEUE_OP_TRUNCATE)
		return false;
	if (!source->behind && queue_window_source_full(source))
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
	QueueWindowSource *source = queue_window_find_source(window, vectorizer);
	EntrySlot  *slot;
	bool		found;
	MemoryContext old;

	if (source == NULL || entryhash_lookup(window->entries, seq) != NULL)
		return;
	if (op == QUEUE_OP_TRUNCATE)
	{
		source->public.vanished = Max(source->public.vanished, seq);
		return;
	}
	if (isnull)
		return;

	old = MemoryContextSwitchTo(source->context);
	slot = entryhash_insert(window->entries, seq, &found);
	slot->entry = palloc0(sizeof(QueueEntry));
	slot->entry->seq = seq;
	slot->entry->rows = slot->entry->remaining = rows;
	slot->entry->forced = op == QUEUE_OP_FORCED || op == QUEUE_OP_SCAN_FORCED;
	if (op == QUEUE_OP_SCAN || op == QUEUE_OP_SCAN_FORCED)
	{
		Backfill   *scan = palloc0(sizeof(Backfill));
		Backfill  **link = &source->scans;

		scan->public.seq = seq;
		scan->public.counted = rows >= 0;
		scan->forced = slot->entry->forced;
		scan->public.after = queue_window_copy_array((ArrayType *) PG_DETOAST_DATUM(keys));
		while (*link != NULL)
			link = &(*link)->next;
		*link = scan;
	}
	MemoryContextSwitchTo(old);
	if (op == QUEUE_OP_KEYS || op == QUEUE_OP_FORCED)
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
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

		if (!source->behind && queue_window_source_full(source))
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
read_behind(QueueWindow *window, QueueWindowSource *source)
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
		if (queue_window_source_full(source))
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
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

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
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

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

void
queue_window_vanished_done(QueueSource *source)
{
	Oid			types[2] = {INT4OID, INT8OID};
	Datum		values[2] = {Int32GetDatum(source->vectorizer), Int64GetDatum(source->vanished)};

	SPI_execute_with_args("DELETE FROM vecsync.queue WHERE vectorizer = $1 AND seq <= $2 AND op = "
						  "'t'::\"char\"", 2, types, values, NULL, false, 0);
	source->vanished = 0;
}

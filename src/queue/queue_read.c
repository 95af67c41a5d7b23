/*
 * queue_read.c
 *		The worker's view of the queue: reading the table.
 *
 * The table is a heap without an index, and is read block by block.
 *
 * What is new.  Who writes an entry sets its block's bit in shared memory;
 * the worker takes the bits and reads those blocks.  It sees entries of
 * transactions in progress, too, and remembers (transaction, block) of each:
 * when that transaction is over, it reads the block again.  So an entry is
 * found however late its transaction commits, and whichever commits first.
 * Transactions draw their xids before they write, and leave the array of
 * running ones only after their commit is in the log: what is not in progress
 * when the block is read can be told to be committed or aborted.
 *
 * What is there.  A source reads the table from a block on, up to the end:
 * from 0 when it is new (so at the worker's start), from where it was when it
 * had become full.  Entries that it must leave behind that place have it begin
 * once more.  It is in step when a pass has ended and nothing was left.  A
 * block is offered to all sources, whoever wanted it: taking an entry early,
 * or for the second time, does no harm, since known ones are passed over by
 * number.
 *
 * What came otherwise (COPY, a restored dump) sets no bits: therefore all
 * sources read everything once in a poll, and at once when the table has
 * other files than before (VACUUM FULL, TRUNCATE), or when an entry is not
 * where it was read.
 *
 * Dead rows are pruned as any scan would, and never looked at twice where
 * nothing new is written, however long a snapshot is held in the database.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "queue/queue_window_private.h"

/* Blocks read in one call, about; the others wait until the worker has looked at what else there is to do. */
#ifndef DEBUG_POINTS
#define READ_BLOCKS			256
#else
#define READ_BLOCKS			10	/* so that tests need several calls */
#endif

/* But those that fell behind read so many however much is new: of a long table that may take all the rest. */
#define READ_BLOCKS_BEHIND	((READ_BLOCKS + 3) / 4)

/* All sources read everything once in this many polls for each so many blocks. */
#define BLOCKS_PER_POLL		(1024 * 1024 * 1024 / BLCKSZ)

/* The table, for the length of one reading. */
typedef struct QueueTable
{
	Relation	rel;
	BlockNumber nblocks;
	BufferAccessStrategy strategy;	/* of a large table */
	int			budget;			/* blocks that may still be read */
} QueueTable;

/* One row of it.  The keys are in the buffer that is pinned, or in the TOAST table. */
typedef struct EntryTuple
{
	BlockNumber block;
	HeapTuple	tuple;
	TupleDesc	desc;
	int64		seq;
	char		op;
} EntryTuple;

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

/* An entry of all rows: the source scans its table, once those before it are done. */
static void
add_scan(QueueWindowSource *source, QueueEntry *entry, ArrayType *keys)
{
	Backfill   *scan = palloc0(sizeof(Backfill));
	Backfill  **link = &source->scans;

	scan->source = source;
	scan->entry = entry;
	scan->public.counted = entry->rows >= 0;
	scan->public.after = queue_window_copy_array(keys);
	while (*link != NULL)
		link = &(*link)->next;
	*link = scan;
}

/* Take an entry in that is not known. */
static void
take_entry(QueueWindowSource *source, const EntryTuple *row)
{
	QueueEntry *entry;
	Datum		value;
	ArrayType  *keys;
	TimestampTz queued_at;
	bool		found;
	bool		isnull;
	MemoryContext old;

	/* they may be out of line, and damaged: then the entry is not known yet */
	value = heap_getattr(row->tuple, QUEUE_ATT_KEYS, row->desc, &isnull);
	keys = DatumGetArrayTypeP(value);
	queued_at = DatumGetTimestampTz(heap_getattr(row->tuple, QUEUE_ATT_QUEUED_AT, row->desc, &isnull));

	old = MemoryContextSwitchTo(source->context);
	entry = palloc0(sizeof(QueueEntry));
	entry->seq = row->seq;
	entry->tid = row->tuple->t_self;
	entry->rows = DatumGetInt32(heap_getattr(row->tuple, QUEUE_ATT_ROWS, row->desc, &isnull));
	entry->remaining = entry->rows;
	entry->forced = row->op == QUEUE_OP_FORCED || row->op == QUEUE_OP_SCAN_FORCED;
	entryhash_insert(source->window->entries, row->seq, &found)->entry = entry;
	if (row->op == QUEUE_OP_TRUNCATE)
	{
		source->vanished = lappend(source->vanished, entry);
		source->public.nvanished++;
	}
	if (row->op == QUEUE_OP_SCAN || row->op == QUEUE_OP_SCAN_FORCED)
		add_scan(source, entry, keys);
	MemoryContextSwitchTo(old);
	if (row->op == QUEUE_OP_KEYS || row->op == QUEUE_OP_FORCED)
		split_keys(source, entry, keys, queued_at);
	if ((Pointer) keys != DatumGetPointer(value))
		pfree(keys);
}

/*
 * Is this entry left for later?  A full source leaves what comes, and whoever
 * has left something takes what is before it first.  What is about all rows is
 * never left.
 */
static bool
leave_entry(QueueWindowSource *source, const EntryTuple *row)
{
	if (row->op == QUEUE_OP_TRUNCATE)
		return false;
	if (!queue_window_source_full(source) && (!source->behind || source->from == row->block))
		return false;
	source->behind = source->left = true;
	if (source->from == InvalidBlockNumber)
		source->from = row->block;
	else if (row->block < source->from)
		source->again = Min(source->again, row->block);
	return true;
}

static void
offer_entry(QueueWindow *window, const EntryTuple *row)
{
	EntrySlot  *known = entryhash_lookup(window->entries, row->seq);
	SourceSlot *source;
	Datum		vectorizer;
	bool		isnull;

	if (known != NULL)
	{
		known->entry->tid = row->tuple->t_self;
		return;
	}
	vectorizer = heap_getattr(row->tuple, QUEUE_ATT_VECTORIZER, row->desc, &isnull);
	source = sourcehash_lookup(window->numbers, DatumGetInt32(vectorizer));
	if (source != NULL && !leave_entry(source->source, row))
		take_entry(source->source, row);
}

/* ---- blocks --------------------------------------------------------------------------- */

static void
note_open(QueueWindow *window, TransactionId xid, BlockNumber block)
{
	bool		found;

	(void) openhash_insert(window->open, (OpenKey) {.xid = xid, .block = block}, &found);
}

/* Is this row an entry that was read here?  Then it need not be judged again, which takes longer. */
static bool
read_before(QueueWindow *window, QueueTable *table, HeapTuple tuple)
{
	bool		isnull;
	Datum		seq = heap_getattr(tuple, QUEUE_ATT_SEQ, RelationGetDescr(table->rel), &isnull);
	EntrySlot  *known = entryhash_lookup(window->entries, DatumGetInt64(seq));

	return known != NULL && ItemPointerEquals(&known->entry->tid, &tuple->t_self);
}

/*
 * The offsets of a block's entries that are there and not known to be, and the
 * transactions in progress that have written others.  An entry that somebody
 * is deleting is there: he may think better of it.
 */
static int
look_at_block(QueueWindow *window, QueueTable *table, Buffer buffer, OffsetNumber *offsets,
			  TransactionId *xids, int *nxids)
{
	Page		page = BufferGetPage(buffer);
	int			n = 0;
	SnapshotData dirty;

	InitDirtySnapshot(dirty);
	*nxids = 0;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	for (OffsetNumber offset = FirstOffsetNumber; offset <= PageGetMaxOffsetNumber(page); offset++)
	{
		ItemId		item = PageGetItemId(page, offset);
		HeapTupleData tuple;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_tableOid = RelationGetRelid(table->rel);
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, BufferGetBlockNumber(buffer), offset);
		if (read_before(window, table, &tuple) || !HeapTupleSatisfiesVisibility(&tuple, &dirty, buffer))
			continue;
		if (!TransactionIdIsValid(dirty.xmin))
			offsets[n++] = offset;
		else if (*nxids == 0 || xids[*nxids - 1] != dirty.xmin)
			xids[(*nxids)++] = dirty.xmin;
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return n;
}

/* Offer a block's entries to their sources. */
static void
read_block(QueueWindow *window, QueueTable *table, BlockNumber block)
{
	OffsetNumber offsets[MaxHeapTuplesPerPage];
	TransactionId xids[MaxHeapTuplesPerPage];
	int			nxids;
	int			n;
	Buffer		buffer;

	CHECK_FOR_INTERRUPTS();
	table->budget--;
	if (bms_is_member(block, window->damaged))
		return;
	window->reading = block;
	buffer = ReadBufferExtended(table->rel, MAIN_FORKNUM, block, RBM_NORMAL, table->strategy);
	heap_page_prune_opt(table->rel, buffer);
	n = look_at_block(window, table, buffer, offsets, xids, &nxids);
	for (int i = 0; i < nxids; i++)
		note_open(window, xids[i], block);
	/* with the block pinned nothing moves in it */
	for (int i = 0; i < n; i++)
	{
		ItemId		item = PageGetItemId(BufferGetPage(buffer), offsets[i]);
		HeapTupleData tuple = {.t_tableOid = RelationGetRelid(table->rel)};
		EntryTuple	row = {.block = block, .tuple = &tuple, .desc = RelationGetDescr(table->rel)};
		bool		isnull;

		tuple.t_data = (HeapTupleHeader) PageGetItem(BufferGetPage(buffer), item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, offsets[i]);
		row.seq = DatumGetInt64(heap_getattr(&tuple, QUEUE_ATT_SEQ, row.desc, &isnull));
		row.op = DatumGetChar(heap_getattr(&tuple, QUEUE_ATT_OP, row.desc, &isnull));
		offer_entry(window, &row);
	}
	ReleaseBuffer(buffer);
	window->reading = InvalidBlockNumber;
}

/* ---- damaged blocks --------------------------------------------------------------------- */

static bool
damage_code(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_DATA_CORRUPTED || sqlerrcode == ERRCODE_INDEX_CORRUPTED ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_SYSTEM_ERROR;
}

bool
queue_damaged(const ErrorData *error)
{
	return damage_code(error->sqlerrcode);
}

/*
 * A block that is damaged fails whoever reads the whole queue, but for the worker, which goes on with the
 * others.  What the block knew is not forgotten: its entries are there, and nobody is told that they are
 * done; and all that was in the queue can be found again.
 */
void
queue_read_error(void *arg)
{
	errcontext("reading vecsync.queue");
	if (damage_code(geterrcode()))
		errhint("TRUNCATE vecsync.queue and call vecsync.resync() for each vectorizer, and for those with "
				"chunks vecsync.verify(name, repair => true).");
}

bool
queue_window_pass_over(QueueWindow *window, const ErrorData *error)
{
	BlockNumber block = window->reading;
	MemoryContext old;

	window->reading = InvalidBlockNumber;
	if (block == InvalidBlockNumber || block > PG_INT32_MAX || !queue_damaged(error))
		return false;
	old = MemoryContextSwitchTo(window->context);
	window->damaged = bms_add_member(window->damaged, (int) block);
	MemoryContextSwitchTo(old);
	window->damaged_at = GetCurrentTimestamp();
	return true;
}

static void
forget_damage(QueueWindow *window)
{
	bms_free(window->damaged);
	window->damaged = NULL;
}

/* ---- what is new ------------------------------------------------------------------------ */

static void
mark_block(QueueWindow *window, BlockNumber block)
{
	int			bit = block % QUEUE_BLOCK_BITS;

	window->changed[bit / 64] |= UINT64CONST(1) << (bit % 64);
}

/* Once in a while blocks that could not be read are to be read like those with new entries. */
static void
retry_damaged(QueueWindow *window, int poll_s)
{
	int			block = -1;

	if (window->damaged == NULL ||
		GetCurrentTimestamp() <= TimestampTzPlusMilliseconds(window->damaged_at, poll_s * INT64CONST(1000)))
		return;
	while ((block = bms_next_member(window->damaged, block)) >= 0)
		mark_block(window, block);
	forget_damage(window);
}

/* Transactions that have ended: the blocks with their entries are to be read again. */
static void
settle_open(QueueWindow *window)
{
	Snapshot	snapshot = GetActiveSnapshot();
	openhash_iterator it;
	OpenSlot   *slot;

	if (window->open->members == 0)
		return;
	openhash_start_iterate(window->open, &it);
	while ((slot = openhash_iterate(window->open, &it)) != NULL)
	{
		if (XidInMVCCSnapshot(slot->key.xid, snapshot))
			continue;
		mark_block(window, slot->key.block);
		openhash_delete_item(window->open, slot);
	}
}

/* Returns whether there is more. */
static bool
read_changed(QueueWindow *window, QueueTable *table)
{
	for (int i = 0; i < QUEUE_BLOCK_WORDS; i++)
		while (window->changed[i] != 0)
		{
			int			bit = pg_rightmost_one_pos64(window->changed[i]);

			if (table->budget <= 0)
				return true;
			for (BlockNumber block = i * 64 + bit; block < table->nblocks; block += QUEUE_BLOCK_BITS)
				read_block(window, table, block);
			window->changed[i] &= window->changed[i] - 1;
		}
	return false;
}

/* ---- what is there ------------------------------------------------------------------------ */

/* Has it blocks to read, and room for what is there? */
static QueueWindowSource *
hungry_source(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

		if (source->from != InvalidBlockNumber && source->public.nitems <= WINDOW_ITEMS / 2 &&
			source->bytes <= WINDOW_ITEM_BYTES / 2)
			return source;
	}
	return NULL;
}

bool
queue_window_hungry(QueueWindow *window)
{
	return window->misplaced || hungry_source(window) != NULL;
}

/* Read a block for the sources that have come to it; one that becomes full there comes to it once more. */
static void
read_for_sources(QueueWindow *window, QueueTable *table, BlockNumber block)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
		dlist_container(QueueWindowSource, node, iter.cur)->left = false;
	read_block(window, table, block);
	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

		if (source->from == block && !source->left)
			source->from++;
	}
}

/* Let a source read on, until it is full, or the table ends. */
static void
read_on(QueueWindow *window, QueueTable *table, QueueWindowSource *source)
{
	while (table->budget > 0 && source->from != InvalidBlockNumber && !queue_window_source_full(source))
	{
		if (source->from < table->nblocks)
		{
			read_for_sources(window, table, source->from);
			continue;
		}
		source->from = source->again;
		source->again = InvalidBlockNumber;
		source->behind = source->from != InvalidBlockNumber;
	}
}

/* Everything is read from the start; where a pass is under way, after it. */
static void
read_all(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

		if (source->from == InvalidBlockNumber)
			source->from = 0;
		else
			source->again = 0;
	}
	window->read_all_at = GetCurrentTimestamp();
	window->misplaced = false;
}

/* Nothing is where it was: passes are broken off. */
static void
forget_places(QueueWindow *window)
{
	dlist_iter	iter;

	dlist_foreach(iter, &window->sources)
	{
		QueueWindowSource *source = dlist_container(QueueWindowSource, node, iter.cur);

		source->from = source->again = InvalidBlockNumber;
	}
	window->misplaced = true;
	openhash_reset(window->open);
	forget_damage(window);
}

static bool
read_all_due(QueueWindow *window, QueueTable *table, int poll_s)
{
	int64		ms = poll_s * INT64CONST(1000) * (1 + table->nblocks / BLOCKS_PER_POLL);

	return GetCurrentTimestamp() > TimestampTzPlusMilliseconds(window->read_all_at, ms);
}

bool
queue_window_read(QueueWindow *window, int poll_s)
{
	QueueTable	table = {.budget = READ_BLOCKS};
	ErrorContextCallback context = {.previous = error_context_stack, .callback = queue_read_error};
	CompatRelFile file;
	QueueWindowSource *source;
	bool		more;

	window->reading = InvalidBlockNumber;
	table.rel = queue_open(AccessShareLock);
	error_context_stack = &context;
	/*
	 * Bits before the snapshot and the length: whatever comes after either has bits of its own.  None while
	 * blocks are left from the last time: those that are written to again and again would go before them.
	 */
	if (!window->changes_left)
		queue_take_blocks(window->changed);
	PushActiveSnapshot(GetTransactionSnapshot());
	table.nblocks = RelationGetNumberOfBlocks(table.rel);
	if (table.nblocks > (BlockNumber) NBuffers / 4)
		table.strategy = GetAccessStrategy(BAS_BULKREAD);

	file = compat_rel_file(table.rel);
	if (memcmp(&file, &window->file, sizeof(file)) != 0)
		forget_places(window);
	if (window->misplaced || read_all_due(window, &table, poll_s))
		read_all(window);
	window->file = file;

	if (!window->changes_left)
		settle_open(window);
	retry_damaged(window, poll_s);
	window->changes_left = more = read_changed(window, &table);
	table.budget = Max(table.budget, READ_BLOCKS_BEHIND);
	while (table.budget > 0 && (source = hungry_source(window)) != NULL)
	{
		/* who was served goes to the end of the line */
		dlist_delete(&source->node);
		dlist_push_tail(&window->sources, &source->node);
		read_on(window, &table, source);
	}
	error_context_stack = context.previous;
	if (table.strategy != NULL)
		FreeAccessStrategy(table.strategy);
	PopActiveSnapshot();
	table_close(table.rel, AccessShareLock);
	return more || queue_window_hungry(window);
}

bool
queue_window_open(QueueWindow *window)
{
	return window->open->members > 0;
}

/*
 * hnsw_row.c
 *		Rows of the table, looked up where their pages were last seen.
 *
 * A scan looks a dozen rows up, each on a page of its own, and the executor
 * every one that goes out once more.  Where the table is a heap, the page is
 * pinned by memory, as pages of the index are, and put where the heap keeps
 * the page it looked at last: it finds it there and does not look for it in
 * the buffer table.  The only file that knows this about heaps.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "hnsw/hnsw_pin.h"

/* Rows asked for at once, and how much of each: what follows comes by itself. */
#define ROWS_AT_ONCE	32
#define ROW_BYTES		512

bool
hnsw_remembers_rows(Relation heap)
{
	return heap->rd_tableam == GetHeapamTableAmRoutine() && !RelationUsesLocalBuffers(heap);
}

/* Where the buffer of a page of the table is remembered. */
static inline Buffer *
row_buffer(const HnswHints *rows, BlockNumber block)
{
	return &rows->buffers[block & (rows->size - 1)];
}

/* Let a coming fetch of this row find its page pinned. */
void
hnsw_row_pin(HnswIndex *ix, IndexFetchTableData *fetch, const ItemPointerData *tid)
{
	IndexFetchHeapData *heap = (IndexFetchHeapData *) fetch;
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
	HnswHints  *rows = ix->rows;
	Buffer		buffer;

	if (rows == NULL)
		return;
	buffer = *row_buffer(rows, block);
	if (buffer <= 0 || buffer == heap->xs_cbuf || !hnsw_holds(rows, block, buffer) ||
		!ReadRecentBuffer(rows->key.file, MAIN_FORKNUM, block, buffer))
		return;
	if (BufferIsValid(heap->xs_cbuf))
		ReleaseBuffer(heap->xs_cbuf);
	heap->xs_cbuf = buffer;
}

/* Fetch the version of a row that the snapshot sees, and remember the page. */
bool
hnsw_row_fetch(HnswIndex *ix, IndexFetchTableData *fetch, ItemPointer tid, Snapshot snapshot,
			   TupleTableSlot *slot)
{
	IndexFetchHeapData *heap = (IndexFetchHeapData *) fetch;
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
	bool		again = false;
	bool		all_dead = false;
	bool		result;

	hnsw_row_pin(ix, fetch, tid);

	/* The table may want another look at the same chain only for other snapshots. */
	result = table_index_fetch_tuple(fetch, tid, snapshot, slot, &again, &all_dead);
	if (ix->rows != NULL)
		*row_buffer(ix->rows, block) = heap->xs_cbuf;
	return result;
}

/* A remembered page of the table, to prefetch from; NULL when it is not there. */
static inline const char *
row_page(const HnswHints *rows, BlockNumber block)
{
	Buffer		buffer = *row_buffer(rows, block);

	return buffer > 0 ? BufferBlocks + (Size) (buffer - 1) * BLCKSZ : NULL;
}

static int
note_tid(const HnswIndex *ix, uint32 node, ItemPointerData *tids, int count)
{
	BlockNumber block = hnsw_sketch_block(&ix->geometry, node);
	const char *page = hnsw_peek(ix, block);

	if (page == NULL)
		return count;
	tids[count] = ((const HnswSketch *) (page + hnsw_sketch_offset(&ix->geometry, node)))->tid;
	return count + 1;
}

/*
 * Bring the rows of the nearest of what has been found near, all at the same
 * time: first their pages' descriptors and line pointers, then themselves.
 * Everything is read without a pin and may be wrong; nothing is done with it
 * but to prefetch.
 */
void
hnsw_rows_prefetch(const HnswIndex *ix, const HnswFound *found, int count, float limit)
{
	const HnswHints *rows = ix->rows;
	ItemPointerData tids[ROWS_AT_ONCE];
	int			wanted = 0;

	if (rows == NULL)
		return;
	for (int i = 0; i < count && wanted < ROWS_AT_ONCE; i++)
		if (found[i].distance <= limit && (found[i].node & HNSW_DEAD_BIT) == 0)
			wanted = note_tid(ix, found[i].node, tids, wanted);
	for (int i = 0; i < wanted; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&tids[i]);
		const char *page = row_page(rows, block);

		if (page == NULL)
			continue;
		__builtin_prefetch(GetBufferDescriptor(*row_buffer(rows, block) - 1));
		__builtin_prefetch(page);
	}
	for (int i = 0; i < wanted; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&tids[i]);
		OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(&tids[i]);
		const char *page = row_page(rows, block);
		ItemIdData	line;

		if (page == NULL || offset == InvalidOffsetNumber || offset > MaxHeapTuplesPerPage ||
			!hnsw_holds(rows, block, *row_buffer(rows, block)))
			continue;
		line = ((const PageHeaderData *) page)->pd_linp[offset - 1];
		for (Size at = line.lp_off; at < line.lp_off + Min(line.lp_len, ROW_BYTES) && at < BLCKSZ; at += 64)
			__builtin_prefetch(page + at);
	}
}

/*
 * hnsw_row.c
 *		Rows of the table, looked up where their pages were last seen.
 *
 * A scan looks a few rows up, each on a page of its own, and the executor
 * every one that goes out.  Where the table is a heap, the page is
 * pinned by memory, as pages of the index are, and put where the heap keeps
 * the page it looked at last: it finds it there and does not look for it in
 * the buffer table.  The only file here that knows this about heaps.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "distance_am/distance_am.h"
#include "hnsw/hnsw_pin.h"

/* How much of each row is asked for ahead; the rest when it is its turn. */
#define ROW_BYTES		128

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

/* Ask for the bytes of a row between two places, on a page that nobody need have pinned. */
static pg_attribute_always_inline void
prefetch_row(const char *page, OffsetNumber offset, Size from, Size to)
{
	ItemIdData	line;

	if (offset == InvalidOffsetNumber || offset > MaxHeapTuplesPerPage)
		return;
	line = ((const PageHeaderData *) page)->pd_linp[offset - 1];
	for (Size at = line.lp_off + from; at < line.lp_off + Min(line.lp_len, to) && at < BLCKSZ; at += 64)
		__builtin_prefetch(page + at);
}

/*
 * Let a coming fetch of this row find its page pinned, and the rest of the row
 * on its way; false when nobody remembers where it is.
 */
bool
hnsw_row_pin(HnswIndex *ix, IndexFetchTableData *fetch, const ItemPointerData *tid)
{
	IndexFetchHeapData *heap = (IndexFetchHeapData *) fetch;
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
	HnswHints  *rows = ix->rows;
	Buffer		buffer;

	if (rows == NULL)
		return false;
	buffer = *row_buffer(rows, block);
	if (buffer <= 0 || !hnsw_holds(rows, block, buffer))
		return false;
	if (buffer != heap->xs_cbuf)
	{
		if (!ReadRecentBuffer(rows->key.file, MAIN_FORKNUM, block, buffer))
			return false;
		if (BufferIsValid(heap->xs_cbuf))
			ReleaseBuffer(heap->xs_cbuf);
		heap->xs_cbuf = buffer;
	}
	prefetch_row(hnsw_page_in(buffer), ItemPointerGetOffsetNumberNoCheck(tid), ROW_BYTES, BLCKSZ);
	return true;
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
	if (!result)
		distance_am_test_fetched(fetch, snapshot);
	return result;
}

/* A remembered page of the table, to prefetch from; NULL when it is not there. */
static inline const char *
row_page(const HnswHints *rows, BlockNumber block)
{
	Buffer		buffer = *row_buffer(rows, block);

	return buffer > 0 ? hnsw_page_in(buffer) : NULL;
}

static int
note_tid(const HnswIndex *ix, uint32 node, ItemPointerData *tids, int count)
{
	BlockNumber block = hnsw_sketch_block(&ix->geometry, node);
	Buffer		buffer = hnsw_seen_in(ix, block);
	const char *slot;

	if (buffer == InvalidBuffer)
		return count;
	slot = hnsw_page_in(buffer) + hnsw_sketch_offset(&ix->geometry, node);
	tids[count] = ((const HnswSketch *) slot)->tid;
	return count + 1;
}

/*
 * Bring the rows of the nearest of what has been found near, all at the same
 * time: first their pages' descriptors and line pointers; a little later, in
 * hnsw_rows_prefetch, themselves.  Everything is read without a pin and may be
 * wrong; nothing is done with it but to prefetch.
 */
void
hnsw_rows_ahead(const HnswIndex *ix, const HnswFound *found, int count, float limit, HnswRowsAhead *ahead)
{
	const HnswHints *rows = ix->rows;

	ahead->count = 0;
	if (rows == NULL)
		return;
	for (int i = 0; i < count && ahead->count < HNSW_ROWS_AHEAD; i++)
		if (found[i].distance <= limit && (found[i].node & HNSW_DEAD_BIT) == 0)
			ahead->count = note_tid(ix, found[i].node, ahead->tids, ahead->count);
	for (int i = 0; i < ahead->count; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&ahead->tids[i]);
		const char *page = row_page(rows, block);

		if (page == NULL)
			continue;
		__builtin_prefetch(GetBufferDescriptor(*row_buffer(rows, block) - 1));
		__builtin_prefetch(page);
	}
}

void
hnsw_rows_prefetch(const HnswIndex *ix, const HnswRowsAhead *ahead)
{
	const HnswHints *rows = ix->rows;

	for (int i = 0; i < ahead->count; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&ahead->tids[i]);
		const char *page = row_page(rows, block);

		if (page != NULL)
			prefetch_row(page, ItemPointerGetOffsetNumberNoCheck(&ahead->tids[i]), 0, ROW_BYTES);
	}
}

/*
 * hnsw_pin.c
 *		Buffers remembered between accesses.
 *
 * A search touches hundreds of pages for a moment each.  Finding a page in
 * the buffer table costs more than all the rest of such a touch, so every
 * backend remembers, by file and block, in which buffer it last saw the page;
 * the server itself checks on pinning that it is still there.  A remembered
 * buffer also tells what to prefetch, and can be looked into without a pin:
 * see hnsw_pin.h.  These two files alone know about the server's buffer
 * descriptors.
 */
#include "postgres.h"

#include "hnsw/hnsw_pin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Remembered buffers of one relation at most, and of all together before they are forgotten. */
#define HINTS_MAX_BYTES		(64 * 1024 * 1024)

/* Pages of a table that are remembered: fewer than there are share their places. */
#define ROW_PAGES_MIN		1024
#define ROW_PAGES_MAX		(256 * 1024)

static HTAB *hints_table;
static MemoryContext hints_context;
static Size hints_bytes;
static uint64 hints_epoch;		/* counts how often all has been forgotten */

static void
create_table(void)
{
	HASHCTL		control = {0};

	if (hints_context == NULL)
		hints_context = AllocSetContextCreate(TopMemoryContext, "hnsw buffer hints", ALLOCSET_DEFAULT_SIZES);
	control.keysize = sizeof(HnswHintsKey);
	control.entrysize = sizeof(HnswHints);
	control.hcxt = hints_context;
	hints_table = hash_create("hnsw buffer hints", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	hints_bytes = 0;
}

/*
 * A relation's entry with at least so many places; when it has to grow, with
 * "size" of them.  NULL without the memory, or when everything has just been
 * forgotten, once, because it had become too much.
 */
static HnswHints *
find_hints(Relation rel, uint32 needed, uint32 size)
{
	HnswHintsKey key = {.file = compat_rel_file(rel), .local = RelationUsesLocalBuffers(rel)};
	HnswHints  *hints;
	bool		found;
	Buffer	   *buffers;

	if (hints_table == NULL)
		create_table();
	hints = hash_search(hints_table, &key, HASH_ENTER, &found);
	if (!found)
	{
		hints->size = 0;
		hints->buffers = NULL;
	}
	if (hints->size >= needed)
		return hints;
	if (hints_bytes > HINTS_MAX_BYTES)
	{
		hints_table = NULL;
		hints_epoch++;
		MemoryContextReset(hints_context);
		return NULL;
	}
	buffers = MemoryContextAllocExtended(hints_context, sizeof(Buffer) * (Size) size,
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO | MCXT_ALLOC_NO_OOM);
	if (buffers == NULL)
		return NULL;
	if (hints->buffers != NULL)
	{
		memcpy(buffers, hints->buffers, sizeof(Buffer) * hints->size);
		pfree(hints->buffers);
	}
	hints_bytes += sizeof(Buffer) * (size - hints->size);
	hints->buffers = buffers;
	hints->size = size;
	return hints;
}

/* As many places for a table as it had pages when it was last analyzed, in powers of two. */
static uint32
row_places(Relation heap)
{
	uint32		pages = heap->rd_rel->relpages > 0 ? heap->rd_rel->relpages : 0;
	uint32		size = ROW_PAGES_MIN;

	while (size < pages && size < ROW_PAGES_MAX)
		size *= 2;
	return size;
}

/*
 * Point ix->hints at the index's entry, large enough for so many nodes, and
 * ix->rows at the table's.  Entries stay where they are until everything is
 * forgotten, which happens only in here.
 */
void
hnsw_refresh_hints(HnswIndex *ix, uint32 node_count)
{
	BlockNumber blocks = node_count > 0 ? hnsw_node_block(&ix->geometry, node_count - 1) + 1 : 0;
	uint32		most = HINTS_MAX_BYTES / sizeof(Buffer);
	uint64		epoch;

	blocks = Min(blocks, most);
	if (likely(ix->hints != NULL && ix->hints_epoch == hints_epoch && ix->hints->size >= blocks))
		return;
	ix->rows = NULL;
	ix->hints = find_hints(ix->rel, blocks, Min(blocks + blocks / 8 + 64, most));
	epoch = hints_epoch;
	if (ix->heap != NULL && hnsw_remembers_rows(ix->heap))
		ix->rows = find_hints(ix->heap, row_places(ix->heap), row_places(ix->heap));
	if (epoch != hints_epoch)
		ix->hints = NULL;
	ix->hints_epoch = hints_epoch;
}

/*
 * Whether the page was where it was remembered is left in *remembered.  A pin
 * through the buffer table raises the page's usage count, one by memory does
 * not: see hnsw_holds.
 */
static inline Buffer
pin(HnswIndex *ix, BlockNumber block, bool *remembered)
{
	HnswHints  *hints = ix->hints;
	Buffer		buffer;

	*remembered = false;
	if (unlikely(hints == NULL || block >= hints->size))
		return ReadBuffer(ix->rel, block);
	buffer = hints->buffers[block];
	if (likely(buffer != InvalidBuffer) && (buffer < 0 || hnsw_holds(hints, block, buffer)) &&
		ReadRecentBuffer(hints->key.file, MAIN_FORKNUM, block, buffer))
	{
		*remembered = true;
		return buffer;
	}
	buffer = ReadBuffer(ix->rel, block);
	hints->buffers[block] = buffer;
	return buffer;
}

Buffer
hnsw_pin(HnswIndex *ix, BlockNumber block)
{
	bool		remembered;

	return pin(ix, block, &remembered);
}

/*
 * Pin and lock a page for reading.  Its kind is checked when it had to be
 * looked for: the check touches both ends of the page, which a search has no
 * other business with.  Whatever the page holds, readers stay within it.
 */
Buffer
hnsw_read_page(HnswIndex *ix, BlockNumber block, HnswPageKind kind)
{
	bool		remembered;
	Buffer		buffer = pin(ix, block, &remembered);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (unlikely(!remembered))
		hnsw_check_page(ix->rel, buffer, kind);
	return buffer;
}

/*
 * hnsw_pin.c
 *		Buffers remembered between accesses.
 *
 * A search touches hundreds of pages for a moment each.  Finding a page in
 * the buffer table costs more than all the rest of such a touch, so every
 * backend remembers, by file and block, in which buffer it last saw the page;
 * the server itself checks on pinning that it is still there.  A remembered
 * buffer also tells what to prefetch.  This is the only file that knows about
 * the server's buffer descriptors.
 */
#include "postgres.h"

#include "base/compat.h"
#include "hnsw/hnsw.h"
#include "storage/buf_internals.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Remembered buffers of one index at most, and of all together before they are forgotten. */
#define HINTS_MAX_BYTES		(64 * 1024 * 1024)

/* Every so many pins by memory one goes through the buffer table, to keep the page's usage count up. */
#define HINTS_REFRESH		32

typedef struct HnswHints
{
	CompatRelFile file;			/* hash key */
	uint32		size;
	uint32		uses;
	Buffer	   *buffers;		/* by block; InvalidBuffer where unknown */
} HnswHints;

static HTAB *hints_table;
static MemoryContext hints_context;
static Size hints_bytes;

static void
create_table(void)
{
	HASHCTL		control = {0};

	if (hints_context == NULL)
		hints_context = AllocSetContextCreate(TopMemoryContext, "hnsw buffer hints", ALLOCSET_DEFAULT_SIZES);
	control.keysize = sizeof(CompatRelFile);
	control.entrysize = sizeof(HnswHints);
	control.hcxt = hints_context;
	hints_table = hash_create("hnsw buffer hints", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	hints_bytes = 0;
}

/*
 * Point ix->hints at the index's entry, large enough for so many nodes.
 * Entries move and go only in here, so a pointer is good until the next call
 * for any index.
 */
void
hnsw_refresh_hints(HnswIndex *ix, uint32 node_count)
{
	CompatRelFile file = compat_rel_file(ix->rel);
	BlockNumber blocks = node_count > 0 ? hnsw_node_block(&ix->geometry, node_count - 1) + 1 : 0;
	HnswHints  *hints;
	bool		found;

	ix->hints = NULL;
	blocks = Min(blocks, HINTS_MAX_BYTES / sizeof(Buffer));
	if (hints_table == NULL)
		create_table();
	hints = hash_search(hints_table, &file, HASH_ENTER, &found);
	if (!found)
	{
		hints->size = 0;
		hints->uses = 0;
		hints->buffers = NULL;
	}
	if (hints->size < blocks && hints_bytes > HINTS_MAX_BYTES)
	{
		/* Forget everything, once; the caller gets its entry with the next call. */
		hints_table = NULL;
		MemoryContextReset(hints_context);
		return;
	}
	if (hints->size < blocks)
	{
		uint32		size = Min(blocks + blocks / 8 + 64, HINTS_MAX_BYTES / sizeof(Buffer));
		int			flags = MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO | MCXT_ALLOC_NO_OOM;
		Buffer	   *buffers = MemoryContextAllocExtended(hints_context, sizeof(Buffer) * (Size) size, flags);

		if (buffers == NULL)
			return;
		if (hints->buffers != NULL)
		{
			memcpy(buffers, hints->buffers, sizeof(Buffer) * hints->size);
			pfree(hints->buffers);
		}
		hints_bytes += sizeof(Buffer) * (size - hints->size);
		hints->buffers = buffers;
		hints->size = size;
	}
	ix->hints = hints;
}

/* Whether the page was where it was remembered is left in *remembered. */
static inline Buffer
pin(HnswIndex *ix, BlockNumber block, bool *remembered)
{
	HnswHints  *hints = ix->hints;
	Buffer		buffer;

	*remembered = false;
	if (unlikely(hints == NULL || block >= hints->size))
		return ReadBuffer(ix->rel, block);
	buffer = hints->buffers[block];
	if (likely(buffer != InvalidBuffer) && ++hints->uses % HINTS_REFRESH != 0 &&
		ReadRecentBuffer(hints->file, MAIN_FORKNUM, block, buffer))
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

/* Bring a remembered page's descriptor and some of its bytes near; harmless when the memory is stale. */
void
hnsw_prefetch(HnswIndex *ix, BlockNumber block, uint32 offset, Size length)
{
	HnswHints  *hints = ix->hints;
	Buffer		buffer;
	char	   *page;

	if (unlikely(hints == NULL || block >= hints->size))
		return;
	buffer = hints->buffers[block];
	if (buffer <= 0)
		return;
	__builtin_prefetch(GetBufferDescriptor(buffer - 1));
	page = BufferBlocks + (Size) (buffer - 1) * BLCKSZ + offset;
	for (Size i = 0; i < length; i += 64)
		__builtin_prefetch(page + i);
}

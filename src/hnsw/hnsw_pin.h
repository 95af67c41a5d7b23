/*
 * hnsw_pin.h
 *		Remembered buffers, looked into without a pin.
 *
 * Of the hundreds of sketches a search compares, each is worth a few dozen
 * instructions: less than a pin and a lock.  They, and node slots, are read as
 * they lie in shared memory, which stays mapped whatever becomes of the
 * buffer: node slots between two looks at the buffer's tag, sketches before a
 * single one.  The page may be written to meanwhile; it may even leave the
 * buffer and come back to it between two looks, or have come just before a
 * single one.  What is read is thus a hint, good enough for an estimate that
 * decides where to search next, and for what to prefetch.  Nothing that a
 * row could be lost by rests on it.
 */
#ifndef HNSW_PIN_H
#define HNSW_PIN_H

#include "base/compat.h"
#include "hnsw/hnsw.h"
#include "storage/buf_internals.h"

/* A temporary relation's files may have the numbers of another's. */
typedef struct HnswHintsKey
{
	CompatRelFile file;
	uint32		local;			/* in this process's own buffers */
} HnswHintsKey;

/* The buffers of one relation, as this process last saw them. */
typedef struct HnswHints
{
	HnswHintsKey key;
	uint32		size;
	Buffer	   *buffers;		/* by block; InvalidBuffer where unknown */
} HnswHints;

/*
 * Whether a shared buffer holds the block.  One that nobody has pinned for so
 * long that it is about to be evicted passes for lost: the pin that follows
 * tells the server that the page is in use.
 */
static inline bool
hnsw_holds(const HnswHints *hints, BlockNumber block, Buffer buffer)
{
	BufferDesc *descriptor = GetBufferDescriptor(buffer - 1);
	uint32		state = pg_atomic_read_u32(&descriptor->state);

	return (state & BM_VALID) != 0 && BUF_STATE_GET_USAGECOUNT(state) > 0 &&
		compat_tag_is(&descriptor->tag, &hints->key.file, MAIN_FORKNUM, block);
}

/* Where a page was last seen; InvalidBuffer when it cannot be read without a pin. */
static inline Buffer
hnsw_seen_in(const HnswIndex *ix, BlockNumber block)
{
	const HnswHints *hints = ix->hints;

#ifdef USE_VALGRIND
	/* Such a server declares the memory of unpinned buffers out of bounds. */
	return InvalidBuffer;
#endif
	if (unlikely(hints == NULL || block >= hints->size))
		return InvalidBuffer;
	return Max(hints->buffers[block], InvalidBuffer);
}

/* A shared buffer's page.  The memory is always there, whatever it holds. */
static inline const char *
hnsw_page_in(Buffer buffer)
{
	return BufferBlocks + (Size) (buffer - 1) * BLCKSZ;
}

/*
 * A page to be read without a pin, or NULL when it must be pinned.  What has
 * been read counts once hnsw_peeked says that the page was there all the time.
 */
static inline const char *
hnsw_peek(const HnswIndex *ix, BlockNumber block)
{
	Buffer		buffer = hnsw_seen_in(ix, block);

	if (unlikely(buffer == InvalidBuffer || !hnsw_holds(ix->hints, block, buffer)))
		return NULL;
	pg_read_barrier();
	return hnsw_page_in(buffer);
}

static inline bool
hnsw_peeked(const HnswIndex *ix, BlockNumber block)
{
	pg_read_barrier();
	return hnsw_holds(ix->hints, block, ix->hints->buffers[block]);
}

/*
 * Bring a slot's page's descriptor and so many bytes of the slot near, from
 * the buffer where the page was last seen; harmless when the memory is stale.
 * Always inlined: as a function of its own it has no effect that the compiler
 * knows of, and calls of it are optimised away.
 */
static pg_attribute_always_inline void
hnsw_prefetch(const HnswPlace *place, Size length)
{
	const char *slot;

	if (unlikely(place->buffer == InvalidBuffer))
		return;
	__builtin_prefetch(GetBufferDescriptor(place->buffer - 1));
	slot = hnsw_page_in(place->buffer) + place->offset;
	for (Size i = 0; i < length; i += 64)
		__builtin_prefetch(slot + i);
}

#endif							/* HNSW_PIN_H */

/*
 * hnsw_sweep.c
 *		Passes over all sketches, for what the graph search did not give.
 *
 * A scan comes here when it has been everywhere the edges lead and the
 * executor still wants rows, or when its memory is full.  Each pass hands out
 * the nearest of those not yet handed out, as many as memory allows, and
 * costs one sequential read of the sketch pages; the first hands out few.
 */
#include "postgres.h"

#include "hnsw/hnsw_sweep.h"
#include "miscadmin.h"

#define SWEEP_MIN_SIZE 256
#define SWEEP_MAX_SIZE (1 << 20)

/* Everything the search has found counts as handed out. */
HnswSweep *
hnsw_sweep_begin(HnswSearch *search, bool any_order, Size memory)
{
	HnswSweep  *sweep = palloc0(sizeof(HnswSweep));
	HnswMetaPage meta;

	hnsw_read_meta(search->ix->rel, &meta);
	sweep->search = search;
	sweep->any_order = any_order;
	sweep->node_count = meta.node_count;
	sweep->done = palloc_extended(meta.node_count / 8 + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	sweep->most = (int) Min(SWEEP_MAX_SIZE, Max(SWEEP_MIN_SIZE, memory / (8 * sizeof(HnswCandidate))));
	sweep->size = SWEEP_MIN_SIZE / 4;
	sweep->best = palloc(sizeof(HnswCandidate) * sweep->most);
	for (int i = 0; i < search->found_count; i++)
	{
		uint32		node = search->found[i].node & ~HNSW_DEAD_BIT;

		if (node < sweep->node_count)
			sweep->done[node / 8] |= 1 << (node % 8);
	}
	hnsw_search_end(search);
	return sweep;
}

void
hnsw_sweep_end(HnswSweep *sweep)
{
	pfree(sweep->done);
	pfree(sweep->best);
	pfree(sweep);
}

/* Max-heap: the farthest of the best is on top. */
static void
keep(HnswSweep *sweep, HnswCandidate candidate)
{
	HnswCandidate *heap = sweep->best;
	int			i;

	if (sweep->count < sweep->size)
	{
		for (i = sweep->count++; i > 0 && heap[(i - 1) / 2].distance < candidate.distance; i = (i - 1) / 2)
			heap[i] = heap[(i - 1) / 2];
		heap[i] = candidate;
		return;
	}
	if (candidate.distance >= heap[0].distance)
		return;
	for (i = 0;;)
	{
		int			child = 2 * i + 1;

		if (child >= sweep->count)
			break;
		if (child + 1 < sweep->count && heap[child + 1].distance > heap[child].distance)
			child++;
		if (heap[child].distance <= candidate.distance)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = candidate;
}

/* One pass; false when there was nothing left. */
bool
hnsw_sweep_next(HnswSweep *sweep)
{
	HnswSearch *search = sweep->search;
	HnswIndex  *ix = search->ix;
	const HnswGeometry *g = &ix->geometry;

	sweep->count = 0;
	sweep->size = Min(sweep->size * 4, sweep->most);
	hnsw_refresh_hints(ix, sweep->node_count);
	for (uint32 node = 0; node < sweep->node_count && !(sweep->any_order && sweep->count == sweep->size);)
	{
		BlockNumber block = hnsw_sketch_block(g, node);
		Buffer		buffer;

		CHECK_FOR_INTERRUPTS();
		buffer = hnsw_read_page(ix, block, HNSW_PAGE_SKETCH);
		for (; node < sweep->node_count && hnsw_sketch_block(g, node) == block; node++)
		{
			const HnswSketch *sketch = hnsw_sketch(g, BufferGetPage(buffer), node);
			HnswCandidate candidate = {0, node};

			if ((sketch->flags & HNSW_STATE_MASK) != HNSW_LIVE ||
				(sweep->done[node / 8] & (1 << (node % 8))) != 0)
				continue;
			if (!sweep->any_order)
				candidate.distance = quant_sketch_distance(&search->query, sketch->code, sketch->factors);
			keep(sweep, candidate);
			search->counters.estimates++;
		}
		UnlockReleaseBuffer(buffer);
	}
	for (int i = 0; i < sweep->count; i++)
		sweep->done[sweep->best[i].node / 8] |= 1 << (sweep->best[i].node % 8);
	return sweep->count > 0;
}

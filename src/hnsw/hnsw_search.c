/*
 * hnsw_search.c
 *		Best-first search over the pages.
 *
 * The frontier is ordered by the estimates of the sketches.  The nearest of
 * it is expanded: its node slot gives the finer distance and the neighbors,
 * whose sketches are estimated in turn.  The search rests when ef live nodes
 * have been found that are no farther than the nearest of the frontier, even
 * if that one's estimate is somewhat too large; it can go on from there with
 * a larger ef, as nothing it saw is thrown away.
 *
 * No lock and no pin is held between two pages.  What a page says about
 * another may be out of date when that one is read; README.md tells why this
 * costs at most an edge.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "hnsw/hnsw_pin.h"
#include "hnsw/hnsw_queue.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Sketches from which the places to start are chosen, and how many are chosen. */
#define ENTRY_SKETCHES		1024
#define ENTRY_STRIDED_PAGES 8
#define ENTRY_SEEDS			8

/*
 * Rows of one kind, all about as far away, may surround a query whose nearest
 * are of another kind: where the tenth found is farther than the first by less
 * than this share, as it is with few queries on embeddings, the search looks
 * elsewhere.  Squares, as of L2, vary twice as much as what they are squares of.
 */
#define FLAT_ROWS			10
#define FLAT_SQUARES		0.12f
#define FLAT_LENGTHS		0.06f

/* Of one page at most. */
#define MAX_SKETCHES		((HNSW_PAGE_END - HNSW_SKETCH_START) / HNSW_SKETCH_HEADER)

/*
 * In standard deviations of a sketch's error, so that the search takes a
 * longer look by itself where distances crowd together: how far beyond what
 * has been found everything on the frontier must seem before the search rests;
 * how much farther than that, or than the nearest of the frontier, a node may
 * turn out to be without its neighbors having to wait.
 */
#define MARGIN				0.8f

#define VISITED_INITIAL		2048
#define FRONTIER_INITIAL	1024
#define ASIDE_INITIAL		128
#define FOUND_INITIAL		512

HnswCounters hnsw_last_counters;

void
hnsw_search_init(HnswSearch *search, HnswIndex *ix, int ef)
{
	memset(search, 0, sizeof(HnswSearch));
	search->ix = ix;
	search->context = CurrentMemoryContext;
	quant_init_query(&ix->spec, &search->query);
	search->visited_mask = VISITED_INITIAL - 1;
	search->visited = palloc(sizeof(uint32) * VISITED_INITIAL);
	search->frontier_size = FRONTIER_INITIAL;
	search->frontier = palloc(sizeof(HnswCandidate) * FRONTIER_INITIAL);
	search->aside_size = ASIDE_INITIAL;
	search->aside = palloc(sizeof(HnswCandidate) * ASIDE_INITIAL);
	search->found_size = FOUND_INITIAL;
	search->found = palloc(sizeof(HnswFound) * FOUND_INITIAL);
	search->window = palloc(sizeof(float) * ef);
	search->ef = ef;
	for (int i = 0; i < 2; i++)
		search->batches[i].places = palloc(sizeof(HnswPlace) * 2 * ix->m);
}

Size
hnsw_search_memory(const HnswSearch *search)
{
	return sizeof(uint32) * ((Size) search->visited_mask + 1) +
		sizeof(HnswCandidate) * ((Size) search->frontier_size + search->aside_size) +
		sizeof(HnswFound) * (Size) search->found_size + sizeof(float) * (Size) search->ef;
}

static void
grow_visited(HnswSearch *search)
{
	uint32	   *old = search->visited;
	uint32		old_size = search->visited_mask + 1;
	uint32		mask = old_size * 2 - 1;
	uint32	   *table = MemoryContextAllocHuge(search->context, sizeof(uint32) * ((Size) mask + 1));

	memset(table, 0xFF, sizeof(uint32) * ((Size) mask + 1));
	for (uint32 i = 0; i < old_size; i++)
	{
		uint32		place;

		CHECK_FOR_INTERRUPTS();
		if (old[i] == HNSW_NO_NODE)
			continue;
		place = visited_place(old[i], mask);
		while (table[place] != HNSW_NO_NODE)
			place = (place + 1) & mask;
		table[place] = old[i];
	}
	search->visited = table;
	search->visited_mask = mask;
	pfree(old);
}

/* Mark a node; false when it has been marked before. */
static inline bool
visit(HnswSearch *search, uint32 node)
{
	uint32		mask = search->visited_mask;
	uint32		place = visited_place(node, mask);

	while (search->visited[place] != HNSW_NO_NODE)
	{
		if (search->visited[place] == node)
			return false;
		place = (place + 1) & mask;
	}
	search->visited[place] = node;
	if (unlikely(++search->visited_count > mask / 2))
		grow_visited(search);
	return true;
}

static inline bool
was_visited(const HnswSearch *search, uint32 node)
{
	uint32		mask = search->visited_mask;
	uint32		place = visited_place(node, mask);

	while (search->visited[place] != HNSW_NO_NODE && search->visited[place] != node)
		place = (place + 1) & mask;
	return search->visited[place] == node;
}

static inline void
push_frontier(HnswSearch *search, HnswCandidate candidate)
{
	if (unlikely(search->frontier_count == search->frontier_size))
	{
		search->frontier_size *= 2;
		search->frontier = repalloc_huge(search->frontier,
										 sizeof(HnswCandidate) * (Size) search->frontier_size);
	}
	candidate_push(search->frontier, &search->frontier_count, candidate);
}

/* Whether a slot is a node of the graph; aliases hang on another's chain. */
static inline bool
is_node(uint8 flags)
{
	return (flags & HNSW_STATE_MASK) != HNSW_FREE && (flags & HNSW_ALIAS) == 0;
}

static inline uint32
with_state(uint32 node, uint8 flags)
{
	return node | ((flags & HNSW_STATE_MASK) == HNSW_DEAD ? HNSW_DEAD_BIT : 0);
}

/* A place to start, by a glance at its sketch. */
typedef struct Entry
{
	float		glance;
	HnswCandidate candidate;
} Entry;

/* The nearest of the sketches on one page that the search has not come across, kept sorted in best. */
static void
scan_entry_page(HnswSearch *search, uint32 first, uint32 end, Entry *best, int *count)
{
	HnswIndex  *ix = search->ix;
	const HnswGeometry *g = &ix->geometry;
	Buffer		buffer = hnsw_read_page(ix, hnsw_sketch_block(g, first), HNSW_PAGE_SKETCH);
	const uint8 *slot = (const uint8 *) BufferGetPage(buffer) + hnsw_sketch_offset(g, first);
	const uint8 *sketches[MAX_SKETCHES];
	float		glances[MAX_SKETCHES];
	int			n = end - first;

	for (int i = 0; i < n; i++)
		sketches[i] = slot + i * g->sketch_size + HNSW_SKETCH_HEADER;
	quant_sketch_glances(&search->query, sketches, n, glances);
	for (int at = 0; at < n; at++)
	{
		const HnswSketch *sketch;
		Entry		entry;
		int			i;

		if (likely(*count == ENTRY_SEEDS && glances[at] >= best[ENTRY_SEEDS - 1].glance))
			continue;
		sketch = (const HnswSketch *) (sketches[at] - HNSW_SKETCH_HEADER);
		if (!is_node(sketch->flags) || was_visited(search, first + at))
			continue;
		entry.glance = glances[at];
		entry.candidate.node = with_state(first + at, sketch->flags);
		entry.candidate.distance = quant_sketch_distance(&search->query, sketch->code, sketch->factors);
		i = *count < ENTRY_SEEDS ? (*count)++ : ENTRY_SEEDS - 1;
		for (; i > 0 && best[i - 1].glance > entry.glance; i--)
			best[i] = best[i - 1];
		best[i] = entry;
	}
	UnlockReleaseBuffer(buffer);
	search->counters.estimates += n;
}

static uint32
page_end(const HnswGeometry *g, uint32 first)
{
	uint32		extent_end = (first / g->extent_nodes + 1) * g->extent_nodes;

	return Min(first + g->sketches_per_page, extent_end);
}

/*
 * The nearest of some sketches: of the random sample that a build puts first,
 * and of pages spread evenly over what has come since.  Returns how many.
 */
static int
find_entries(HnswSearch *search, const HnswMetaPage *meta, Entry *best)
{
	const HnswGeometry *g = &search->ix->geometry;
	uint32		count = search->node_count;
	uint32		since = meta->built_nodes;
	int			best_count = 0;
	uint32		first;

	for (first = 0; first < meta->entry_nodes; first = page_end(g, first))
		scan_entry_page(search, first, Min(page_end(g, first), meta->entry_nodes), best, &best_count);
	since = Max(since, first);

	/* When the sample has been deleted, pages are taken from everywhere. */
	if (best_count < ENTRY_SEEDS)
		since = 0;
	if (count > since)
	{
		uint32		pages = (count - since + g->sketches_per_page - 1) / g->sketches_per_page;
		uint32		most = Max(1, Min(ENTRY_STRIDED_PAGES, ENTRY_SKETCHES / g->sketches_per_page));
		uint32		wanted = Min(pages, most);

		for (uint32 i = 0; i < wanted; i++)
		{
			uint32		node = since + (uint32) ((uint64) i * (count - since) / wanted);
			uint32		extent_first = node / g->extent_nodes * g->extent_nodes;

			first = extent_first + (node - extent_first) / g->sketches_per_page * g->sketches_per_page;
			scan_entry_page(search, Max(first, since), Min(page_end(g, first), count), best, &best_count);
		}
	}
	return best_count;
}

static void
seed(HnswSearch *search, const HnswMetaPage *meta)
{
	const HnswGeometry *g = &search->ix->geometry;
	uint32		count = search->node_count;
	Entry		best[ENTRY_SEEDS];
	int			best_count = find_entries(search, meta, best);

	/* Almost everything has been deleted: look until something is left. */
	for (uint32 first = 0; best_count == 0 && first < count; first = page_end(g, first))
	{
		CHECK_FOR_INTERRUPTS();
		scan_entry_page(search, first, Min(page_end(g, first), count), best, &best_count);
	}
	for (int i = 0; i < best_count; i++)
		if (visit(search, best[i].candidate.node & ~HNSW_DEAD_BIT))
			push_frontier(search, best[i].candidate);
}

/* Begin a search for the ef nodes nearest to value. */
void
hnsw_search_start(HnswSearch *search, const void *value, int ef)
{
	HnswMetaPage meta;

	quant_set_query(&search->query, value);
	memset(search->visited, 0xFF, sizeof(uint32) * ((Size) search->visited_mask + 1));
	search->visited_count = 0;
	hnsw_search_end(search);
	search->found_count = 0;
	search->window_count = 0;
	search->error = 0;
	search->goal = -FLT_MAX;
	if (ef != search->ef)
		hnsw_search_widen(search, ef);

	hnsw_refresh_hints(search->ix, search->node_count);
	hnsw_reread_meta(search->ix, &meta);
	search->node_count = meta.node_count;
	search->counters.searches++;
	hnsw_refresh_hints(search->ix, search->node_count);
	seed(search, &meta);
}

/* Let the next run go on until more nodes have been found. */
void
hnsw_search_widen(HnswSearch *search, int ef)
{
	search->window = repalloc_huge(search->window, sizeof(float) * (Size) ef);
	search->ef = ef;
	search->goal = -FLT_MAX;
	search->window_count = 0;
	for (int i = 0; i < search->found_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if ((search->found[i].node & HNSW_DEAD_BIT) == 0)
			window_add(search->window, &search->window_count, ef, search->found[i].distance);
	}
}

/* A number beyond those known when the search began: a newer one, or damage. */
static bool
is_newer(HnswSearch *search, uint32 node)
{
	HnswMetaPage meta;

	hnsw_reread_meta(search->ix, &meta);
	search->node_count = meta.node_count;
	return node < meta.node_count;
}

static HnswFound *
add_found(HnswSearch *search)
{
	if (unlikely(search->found_count == search->found_size))
	{
		search->found_size *= 2;
		search->found = repalloc_huge(search->found, sizeof(HnswFound) * (Size) search->found_size);
	}
	return &search->found[search->found_count++];
}

/*
 * Note an alias as found, so that a later pass over everything leaves it out,
 * and return the next one of its chain.  It does not count towards ef.
 */
uint32
hnsw_search_alias(HnswSearch *search, uint32 alias)
{
	HnswIndex  *ix = search->ix;
	BlockNumber block = hnsw_node_block(&ix->geometry, alias);
	HnswFound  *found = add_found(search);
	Buffer		buffer;

	if (alias >= search->node_count && !is_newer(search, alias))
		hnsw_corrupted(ix->rel, block, "alias does not exist");
	buffer = hnsw_read_page(ix, block, HNSW_PAGE_NODE);
	found->node = alias | HNSW_DEAD_BIT;
	found->distance = FLT_MAX;
	found->slack = 0;
	found->next = hnsw_node(&ix->geometry, BufferGetPage(buffer), alias)->next;
	UnlockReleaseBuffer(buffer);
	if (found->next == alias || search->found_count > (int64) 2 * search->node_count)
		hnsw_corrupted(ix->rel, block, "chain of aliases has no end");
	return found->next;
}

/* What is wanted of a node slot. */
typedef struct NodeCopy
{
	HnswFound	found;
	float		error;			/* of sketches about as long */
	int			count;
	uint32		neighbors[HNSW_MAX_NEIGHBORS];
} NodeCopy;

static inline void
copy_node(HnswSearch *search, HnswCandidate candidate, HnswNode *node, NodeCopy *copy)
{
	HnswIndex  *ix = search->ix;

	/* Read once: where the page is not locked, the number that was checked must be the one used. */
	copy->count = *(volatile uint16 *) &node->count;
	if (unlikely(copy->count > 2 * ix->m))
		return;
	copy->found.node = candidate.node;
	copy->found.next = node->is_free ? HNSW_NO_NODE : node->next;
	copy->found.distance = candidate.distance;
	if (quant_has_code(&ix->spec))
		copy->found.distance = quant_code_distance(&search->query, hnsw_node_code(ix, node), node->factors);
	copy->found.slack = quant_slack(&search->query, node->factors, copy->found.distance);
	copy->error = quant_sketch_error(&search->query, node->factors);
	memcpy(copy->neighbors, node->neighbors, sizeof(uint32) * copy->count);
}

/*
 * Copy a slot without a pin, which will do for most: one that has aliases, or
 * looks odd, is read again with the page locked.  False when it has to be.
 */
static inline bool
peek_node(HnswSearch *search, HnswCandidate candidate, const HnswPlace *place, NodeCopy *copy)
{
	HnswIndex  *ix = search->ix;
	const char *page = hnsw_peek(ix, place->block);

	if (unlikely(page == NULL))
		return false;
	copy_node(search, candidate, (HnswNode *) (page + place->offset), copy);
	if (unlikely(copy->count > 2 * ix->m || copy->found.next != HNSW_NO_NODE ||
				 !hnsw_peeked(ix, place->block)))
		return false;
	for (int i = 0; i < copy->count; i++)
		if (unlikely(copy->neighbors[i] >= search->node_count))
			return false;
	return true;
}

static void
copy_locked_node(HnswSearch *search, HnswCandidate candidate, const HnswPlace *place, NodeCopy *copy)
{
	HnswIndex  *ix = search->ix;
	Buffer		buffer = hnsw_read_page(ix, place->block, HNSW_PAGE_NODE);

	copy_node(search, candidate, (HnswNode *) (BufferGetPage(buffer) + place->offset), copy);
	UnlockReleaseBuffer(buffer);
	if (unlikely(copy->count > 2 * ix->m))
		hnsw_corrupted(ix->rel, place->block, "too many neighbors");
	for (int i = 0; i < copy->count; i++)
		if (unlikely(copy->neighbors[i] >= search->node_count) && !is_newer(search, copy->neighbors[i]))
			hnsw_corrupted(ix->rel, place->block, "neighbor does not exist");
}

/* Whether a node found at this distance may well lead to something nearer than what is there. */
static inline bool
leads_on(const HnswSearch *search, float distance)
{
	if (search->window_count == search->ef &&
		distance > search->window[0] + MARGIN * search->error &&
		(distance > search->goal || search->counters.hops >= search->goal_hops))
		return false;
	return search->frontier_count == 0 ||
		distance <= search->frontier[0].distance + MARGIN * search->error;
}

static void
put_aside(HnswSearch *search, float distance, uint32 node)
{
	HnswCandidate candidate = {distance, node};

	if (unlikely(search->aside_count == search->aside_size))
	{
		search->aside_size *= 2;
		search->aside = repalloc_huge(search->aside, sizeof(HnswCandidate) * (Size) search->aside_size);
	}
	candidate_push(search->aside, &search->aside_count, candidate);
}

typedef enum ReadMode
{
	READ_NEW,					/* its neighbors may wait */
	READ_WHOLE,					/* its neighbors, too, whatever its distance */
	READ_AGAIN					/* one whose neighbors have waited */
} ReadMode;

/*
 * Read a node slot, record its distance unless that has been done before, and
 * note the neighbors not yet visited in the batch, whose sketches are asked
 * for.  When the node turns out to be farther than its sketch said, its
 * neighbors wait: most often nobody comes back for them.
 */
static void
read_node(HnswSearch *search, HnswCandidate candidate, ReadMode mode, HnswBatch *batch)
{
	HnswIndex  *ix = search->ix;
	HnswPlace	place = hnsw_node_place(ix, candidate.node & ~HNSW_DEAD_BIT);
	NodeCopy	copy;

	if (unlikely(!peek_node(search, candidate, &place, &copy)))
		copy_locked_node(search, candidate, &place, &copy);
	batch->count = 0;
	if (mode != READ_AGAIN)
	{
		*add_found(search) = copy.found;
		search->error = copy.error;
		search->counters.hops++;
		if ((candidate.node & HNSW_DEAD_BIT) == 0)
			window_add(search->window, &search->window_count, search->ef, copy.found.distance);
		if (mode == READ_NEW && !leads_on(search, copy.found.distance))
		{
			put_aside(search, copy.found.distance, candidate.node);
			return;
		}
	}
	for (int i = 0; i < copy.count; i++)
	{
		HnswPlace  *sketch = &batch->places[batch->count];

		if (!visit(search, copy.neighbors[i]))
			continue;
		*sketch = hnsw_sketch_place(ix, copy.neighbors[i]);
		sketch->buffer = hnsw_seen_in(ix, sketch->block);
		batch->count++;
	}

	/* In a loop with nothing else the processor looks up more addresses at a time. */
	for (int i = 0; i < batch->count; i++)
		hnsw_prefetch(&batch->places[i], ix->geometry.sketch_size);
}

/* Estimate a node by a sketch that is read with its page locked; false when there is none. */
static bool
read_locked_sketch(HnswSearch *search, const HnswPlace *place, HnswCandidate *candidate)
{
	Buffer		buffer = hnsw_read_page(search->ix, place->block, HNSW_PAGE_SKETCH);
	const HnswSketch *sketch = (const HnswSketch *) (BufferGetPage(buffer) + place->offset);
	uint8		flags = sketch->flags;

	candidate->distance = quant_sketch_distance(&search->query, sketch->code, sketch->factors);
	candidate->node = with_state(place->node, flags);
	UnlockReleaseBuffer(buffer);
	return is_node(flags);
}

/*
 * Estimate the nodes of a batch, and empty it; returns how many there are.
 * Sketches are read where their pages were last seen, and count where these
 * turn out to be there.  A node passes for dead only on what a locked page
 * says: nobody would look at its row again.
 */
static inline int
read_sketches(HnswSearch *search, HnswBatch *batch, HnswCandidate *candidates)
{
	const HnswHints *hints = search->ix->hints;
	const HnswPlace *places[HNSW_MAX_NEIGHBORS];
	const uint8 *sketches[HNSW_MAX_NEIGHBORS];
	float		distances[HNSW_MAX_NEIGHBORS];
	int			seen = 0;
	int			count = 0;

	for (int i = 0; i < batch->count; i++)
	{
		const HnswPlace *place = &batch->places[i];

		if (unlikely(place->buffer == InvalidBuffer))
			count += read_locked_sketch(search, place, &candidates[count]);
		else
		{
			const char *slot = hnsw_page_in(place->buffer) + place->offset;

			places[seen] = place;
			sketches[seen++] = (const uint8 *) slot + HNSW_SKETCH_HEADER;
		}
	}
	if (seen > 0)
		quant_sketch_distances(&search->query, sketches, seen, distances);
	pg_read_barrier();
	for (int i = 0; i < seen; i++)
	{
		uint8		flags = ((const HnswSketch *) (sketches[i] - HNSW_SKETCH_HEADER))->flags;

		if (unlikely(!hnsw_holds(hints, places[i]->block, places[i]->buffer) ||
					 (flags & HNSW_STATE_MASK) == HNSW_DEAD))
			count += read_locked_sketch(search, places[i], &candidates[count]);
		else if (is_node(flags))
		{
			candidates[count].distance = distances[i];
			candidates[count++].node = places[i]->node;
		}
	}
	search->counters.estimates += batch->count;
	batch->count = 0;
	return count;
}

static void
expand_batch(HnswSearch *search, HnswBatch *batch)
{
	HnswCandidate candidates[HNSW_MAX_NEIGHBORS];
	int			count = read_sketches(search, batch, candidates);

	for (int i = 0; i < count; i++)
		push_frontier(search, candidates[i]);
}

/* Whether ef nodes have been found that are surely nearer than all of the frontier, and the goal reached. */
static inline bool
rests(const HnswSearch *search)
{
	if (search->aside_count > 0 && leads_on(search, search->aside[0].distance))
		return false;
	if (search->frontier_count == 0)
		return true;
	return search->window_count == search->ef &&
		search->frontier[0].distance > search->window[0] + MARGIN * search->error &&
		(search->frontier[0].distance > search->goal || search->counters.hops >= search->goal_hops);
}

/* Read the node that seems nearest of what waits; there is one, or the search would rest. */
static inline void
read_next(HnswSearch *search, HnswBatch *batch)
{
	if (search->aside_count > 0 && leads_on(search, search->aside[0].distance))
		read_node(search, candidate_pop(search->aside, &search->aside_count), READ_AGAIN, batch);
	else
		read_node(search, candidate_pop(search->frontier, &search->frontier_count), READ_NEW, batch);
}

/* Ask for a node's slot, unless it is one of the last asked for. */
static pg_attribute_always_inline void
prefetch_node(HnswSearch *search, int i)
{
	uint32		node = search->frontier[i].node;
	HnswPlace	place;

	if (node == search->asked[0] || node == search->asked[1])
		return;
	search->asked[1] = search->asked[0];
	search->asked[0] = node;
	place = hnsw_node_place(search->ix, node & ~HNSW_DEAD_BIT);
	place.buffer = hnsw_seen_in(search->ix, place.block);
	hnsw_prefetch(&place, Min(search->ix->geometry.node_size, 1024));
}

/*
 * Expand the frontier until ef nodes have been found, or nothing is left of
 * it.  A node's neighbors are estimated after the next node has been read, so
 * that their sketches have time to come near.  Nodes are asked for as soon as
 * they are the second nearest of the frontier.
 */
void
hnsw_search_run(HnswSearch *search)
{
	HnswIndex  *ix = search->ix;
	HnswBatch  *next = &search->batches[0];
	HnswBatch  *last = &search->batches[1];

	hnsw_refresh_hints(ix, search->node_count);
	next->count = last->count = 0;
	while (!rests(search) || last->count > 0)
	{
		HnswBatch  *swap = last;

		CHECK_FOR_INTERRUPTS();
		if (!rests(search))
			read_next(search, next);
		expand_batch(search, last);
		last = next;
		next = swap;
		if (search->frontier_count > 0)
		{
			prefetch_node(search, 0);
			prefetch_node(search, candidate_second(search->frontier, search->frontier_count));
		}
	}
}

/* From a node to the nearest of its neighbors, and on, as long as they seem nearer. */
static void
descend(HnswSearch *search, HnswCandidate from)
{
	HnswBatch  *batch = &search->batches[0];
	HnswCandidate candidates[HNSW_MAX_NEIGHBORS];
	float		distance;

	do
	{
		int			count;
		int			nearest = 0;

		CHECK_FOR_INTERRUPTS();
		read_node(search, from, READ_WHOLE, batch);
		distance = search->found[search->found_count - 1].distance;
		count = read_sketches(search, batch, candidates);
		if (count == 0)
			return;
		for (int i = 1; i < count; i++)
			if (candidates[i].distance < candidates[nearest].distance)
				nearest = i;
		from = candidates[nearest];
		candidates[nearest] = candidates[count - 1];
		for (int i = 0; i < count - 1; i++)
			push_frontier(search, candidates[i]);
	} while (from.distance < distance);
	push_frontier(search, from);
}

/* Whether the nearest that have been found are all about as far away. */
static bool
is_flat(const HnswSearch *search)
{
	QuantMetric metric = search->ix->spec.metric;
	float		share = metric == QUANT_L1 || metric == QUANT_IP ? FLAT_LENGTHS : FLAT_SQUARES;
	float		nearest[FLAT_ROWS];
	int			count = 0;
	float		least = FLT_MAX;

	for (int i = 0; i < search->window_count; i++)
	{
		least = Min(least, search->window[i]);
		window_add(nearest, &count, FLAT_ROWS, search->window[i]);
	}
	return count == FLAT_ROWS && nearest[0] - least < share * fabsf(least);
}

/*
 * Where what has been found may be the best of one region only, look into
 * others: descend from the nearest entries that the search has not come
 * across, and go on from what that has brought.
 */
void
hnsw_search_elsewhere(HnswSearch *search)
{
	HnswMetaPage meta;
	Entry		entries[ENTRY_SEEDS];
	int			count;

	if (hnsw_search_ended(search) || !is_flat(search))
		return;
	hnsw_reread_meta(search->ix, &meta);
	count = find_entries(search, &meta, entries);
	for (int i = 0; i < count; i++)
		if (visit(search, entries[i].candidate.node & ~HNSW_DEAD_BIT))
			descend(search, entries[i].candidate);
	if (!rests(search))
		hnsw_search_run(search);
}

/*
 * Expand what seems as near as "goal", too, but no more once the search has
 * made so many hops.
 */
void
hnsw_search_closer(HnswSearch *search, float goal, int64 hops)
{
	search->goal = goal;
	search->goal_hops = hops;
	if (!rests(search))
		hnsw_search_run(search);
}

/* Nodes up to this distance have been found as well as this ef finds them. */
float
hnsw_search_limit(const HnswSearch *search)
{
	if (hnsw_search_ended(search) || search->window_count < search->ef)
		return INFINITY;
	return search->window[0];
}

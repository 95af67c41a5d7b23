/*
 * hnsw_vacuum.c
 *		Removing rows, mending the graph around them, reusing their numbers.
 *
 * Deletion marks sketches dead: such nodes are no longer returned, but still
 * lead to others.  When enough of them have gathered, cleanup takes them out:
 * chains of aliases are closed, every list that holds one gets the best of
 * its remaining neighbors and of the dead ones' neighbors, and only then are
 * the numbers freed.  Only one vacuum works on an index at a time; searches
 * and inserts go on meanwhile (README.md).
 */
#include "postgres.h"

#include "access/genam.h"
#include "base/compat.h"
#include "base/debug_point.h"
#include "commands/vacuum.h"
#include "hnsw/hnsw.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Cleanup waits until this share of the nodes is dead. */
#define REPAIR_SHARE 0.05

/* Neighbors of dead neighbors that are considered for one list, as a multiple of m. */
#define REPAIR_CANDIDATES 8

/* Numbers looked through for neighbors of a node that has lost them all. */
#define REPAIR_FALLBACK 10000

typedef struct Repair
{
	HnswIndex	ix;
	uint32		count;			/* numbers given out */
	uint8	   *dead;			/* bitmaps by number */
	uint8	   *skip;			/* aliases, and numbers already free: not nodes of the graph */
	uint8	   *gone;			/* dead, and to be freed: neither neighbor nor twin of anything */
	uint8	   *codes;
	HnswNeighbor *candidates;
	int			size;
	HnswLinker	linker;
} Repair;

static inline bool
is_set(const uint8 *bitmap, uint32 node)
{
	return (bitmap[node / 8] >> (node % 8)) & 1;
}

static inline void
set(uint8 *bitmap, uint32 node)
{
	bitmap[node / 8] |= 1 << (node % 8);
}

/* The number after the last whose sketch is on the same page. */
static uint32
sketch_page_end(const HnswGeometry *g, uint32 node, uint32 count)
{
	uint32		extent_first = node / g->extent_nodes * g->extent_nodes;
	uint32		page = (node - extent_first) / g->sketches_per_page;

	return Min(Min(count, extent_first + g->extent_nodes), extent_first + (page + 1) * g->sketches_per_page);
}

static uint32
node_page_end(const HnswGeometry *g, uint32 node, uint32 count)
{
	uint32		extent_first = node / g->extent_nodes * g->extent_nodes;
	uint32		page = (node - extent_first) / g->nodes_per_page;

	return Min(Min(count, extent_first + g->extent_nodes), extent_first + (page + 1) * g->nodes_per_page);
}

/*
 * Ask about every row of one sketch page, and mark those to be removed.  The
 * first look takes a shared lock; a page that must change is looked at again.
 */
static void
mark_page(HnswIndex *ix, Buffer buffer, uint32 first, uint32 end,
		  IndexBulkDeleteCallback callback, void *state, IndexBulkDeleteResult *stats)
{
	const HnswGeometry *g = &ix->geometry;
	Page		page = BufferGetPage(buffer);
	bool		change = false;
	HnswEdit	edit;
	int64		live = 0;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	hnsw_check_page(ix->rel, buffer, HNSW_PAGE_SKETCH);
	for (uint32 node = first; node < end; node++)
	{
		HnswSketch *sketch = hnsw_sketch(g, page, node);

		if ((sketch->flags & HNSW_STATE_MASK) != HNSW_LIVE)
			continue;
		if (callback(&sketch->tid, state))
			change = true;
		else
			live++;
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (change)
	{
		live = 0;
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		hnsw_edit_start(&edit, ix->rel, true);
		page = hnsw_edit_page(&edit, buffer, HNSW_PAGE_SKETCH);
		for (uint32 node = first; node < end; node++)
		{
			HnswSketch *sketch = hnsw_sketch(g, page, node);

			if ((sketch->flags & HNSW_STATE_MASK) != HNSW_LIVE)
				continue;
			if (callback(&sketch->tid, state))
			{
				sketch->flags = (sketch->flags & ~HNSW_STATE_MASK) | HNSW_DEAD;
				stats->tuples_removed++;
			}
			else
				live++;
		}
		hnsw_edit_finish(&edit);
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	}
	stats->num_index_tuples += live;
}

/*
 * Let the meta page be newer than all snapshots that may see a row which is
 * about to be marked, for scans to test: a record that changes nothing else.
 * Those snapshots were taken before the rows went from the table.
 */
static void
announce_removal(Relation index)
{
	Buffer		buffer = ReadBuffer(index, HNSW_META_BLOCK);
	HnswEdit	edit;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	hnsw_edit_start(&edit, index, true);
	hnsw_edit_page(&edit, buffer, HNSW_PAGE_META);
	hnsw_edit_finish(&edit);
	UnlockReleaseBuffer(buffer);
}

IndexBulkDeleteResult *
hnsw_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				IndexBulkDeleteCallback callback, void *state)
{
	HnswIndex	ix;
	HnswMetaPage meta;
	uint32		end;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	stats->num_index_tuples = 0;
	stats->num_pages = RelationGetNumberOfBlocks(info->index);
	hnsw_open(&ix, info->index);
	hnsw_read_meta(info->index, &meta);
	if (compat_snapshots_age())
		announce_removal(info->index);
	for (uint32 node = 0; node < meta.node_count; node = end)
	{
		Buffer		buffer;

		compat_vacuum_delay_point();
		end = sketch_page_end(&ix.geometry, node, meta.node_count);
		buffer = ReadBufferExtended(info->index, MAIN_FORKNUM, hnsw_sketch_block(&ix.geometry, node),
									RBM_NORMAL, info->strategy);
		mark_page(&ix, buffer, node, end, callback, state, stats);
		ReleaseBuffer(buffer);
	}
	DEBUG_POINT("hnsw_vacuum_marked");
	return stats;
}

/* Read all sketch flags; returns the number of dead nodes. */
static uint32
read_states(Repair *repair, IndexVacuumInfo *info)
{
	const HnswGeometry *g = &repair->ix.geometry;
	uint32		dead = 0;
	uint32		end;

	for (uint32 node = 0; node < repair->count; node = end)
	{
		Buffer		buffer;

		compat_vacuum_delay_point();
		end = sketch_page_end(g, node, repair->count);
		buffer = ReadBufferExtended(info->index, MAIN_FORKNUM, hnsw_sketch_block(g, node),
									RBM_NORMAL, info->strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		hnsw_check_page(info->index, buffer, HNSW_PAGE_SKETCH);
		for (uint32 i = node; i < end; i++)
		{
			HnswSketch *sketch = hnsw_sketch(g, BufferGetPage(buffer), i);

			if ((sketch->flags & HNSW_STATE_MASK) == HNSW_DEAD)
			{
				set(repair->dead, i);
				set(repair->gone, i);
				dead++;
			}
			if ((sketch->flags & HNSW_STATE_MASK) == HNSW_FREE || (sketch->flags & HNSW_ALIAS) != 0)
				set(repair->skip, i);
		}
		UnlockReleaseBuffer(buffer);
	}
	return dead;
}

static uint32
read_next(Repair *repair, uint32 node)
{
	HnswIndex  *ix = &repair->ix;
	Buffer		buffer = hnsw_read_page(ix, hnsw_node_block(&ix->geometry, node), HNSW_PAGE_NODE);
	uint32		next = hnsw_node(&ix->geometry, BufferGetPage(buffer), node)->next;

	UnlockReleaseBuffer(buffer);
	return next;
}

/* Let "node" point to "to" instead of "from"; false when it does not point there (a new alias came). */
static bool
replace_next(Repair *repair, uint32 node, uint32 from, uint32 to)
{
	HnswIndex  *ix = &repair->ix;
	const HnswGeometry *g = &ix->geometry;
	Buffer		buffer = hnsw_pin(ix, hnsw_node_block(g, node));
	bool		result;
	HnswEdit	edit;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	result = hnsw_node(g, BufferGetPage(buffer), node)->next == from;
	if (result)
	{
		hnsw_edit_start(&edit, ix->rel, true);
		hnsw_node(g, hnsw_edit_page(&edit, buffer, HNSW_PAGE_NODE), node)->next = to;
		hnsw_edit_finish(&edit);
	}
	UnlockReleaseBuffer(buffer);
	return result;
}

/*
 * Whether so many steps along a chain mean that it goes round: each number is
 * on it once, but there may be more numbers than when the vacuum began.
 */
static bool
is_endless(Repair *repair, uint32 steps)
{
	HnswMetaPage meta;

	if (steps / 2 <= repair->count)
		return false;
	hnsw_read_meta(repair->ix.rel, &meta);
	return steps / 2 > meta.node_count;
}

/*
 * Take dead aliases out of a node's chain.  A dead node with living aliases
 * stays, for their sake.
 */
static void
close_chain(Repair *repair, uint32 node)
{
	uint32		previous = node;
	uint32		next = read_next(repair, node);
	uint32		steps = 0;

	/* Aliases newer than the bitmaps are alive; they come first, before older ones. */
	while (next != HNSW_NO_NODE)
	{
		uint32		after;

		CHECK_FOR_INTERRUPTS();
		if (next == previous || is_endless(repair, steps++))
			hnsw_corrupted(repair->ix.rel, hnsw_node_block(&repair->ix.geometry, node),
						   "chain of aliases has no end");
		after = read_next(repair, next);
		if (next < repair->count && is_set(repair->dead, next))
		{
			if (replace_next(repair, previous, next, after))
				next = after;
			else
			{
				/* Someone has put a new alias first: go through again. */
				previous = node;
				next = read_next(repair, node);
			}
			continue;
		}
		repair->gone[node / 8] &= ~(1 << (node % 8));
		previous = next;
		next = after;
	}
}

/* Copy a list; returns its length, and in *leaving how many of it are to be freed. */
static int
read_list(Repair *repair, uint32 id, uint32 *ids, int *leaving, HnswNode *header)
{
	HnswIndex  *ix = &repair->ix;
	Buffer		buffer = hnsw_read_page(ix, hnsw_node_block(&ix->geometry, id), HNSW_PAGE_NODE);
	HnswNode   *node = hnsw_node(&ix->geometry, BufferGetPage(buffer), id);
	int			count = node->count;

	if (count > 2 * ix->m)
		hnsw_corrupted(ix->rel, hnsw_node_block(&ix->geometry, id), "too many neighbors");
	memcpy(header, node, HNSW_NODE_HEADER);
	memcpy(ids, node->neighbors, sizeof(uint32) * count);
	UnlockReleaseBuffer(buffer);
	*leaving = 0;
	for (int i = 0; i < count; i++)
		if (ids[i] < repair->count && is_set(repair->gone, ids[i]))
			(*leaving)++;
	return count;
}

static int
by_distance(const void *a, const void *b)
{
	float		x = ((const HnswNeighbor *) a)->distance;
	float		y = ((const HnswNeighbor *) b)->distance;

	return (x > y) - (x < y);
}

static int
by_number(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a;
	uint32		y = *(const uint32 *) b;

	return (x > y) - (x < y);
}

static bool
contains(const uint32 *ids, int count, uint32 id)
{
	for (int i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* The living of a list, and those of its dead ones' lists, each once; without "id" itself. */
static int
gather(Repair *repair, uint32 id, const uint32 *ids, int count, uint32 *gathered)
{
	int			n = 0;
	int			unique = 0;

	for (int i = 0; i < count; i++)
	{
		uint32		further[HNSW_MAX_NEIGHBORS];
		int			further_count;
		int			ignored;
		HnswNode	header;

		if (ids[i] >= repair->count || !is_set(repair->gone, ids[i]))
		{
			gathered[n++] = ids[i];
			continue;
		}
		further_count = read_list(repair, ids[i], further, &ignored, &header);
		for (int j = 0; j < further_count && n < repair->size; j++)
			if (further[j] != id && (further[j] >= repair->count || !is_set(repair->gone, further[j])))
				gathered[n++] = further[j];
	}
	qsort(gathered, n, sizeof(uint32), by_number);
	for (int i = 0; i < n; i++)
		if (unique == 0 || gathered[unique - 1] != gathered[i])
			gathered[unique++] = gathered[i];
	return unique;
}

/*
 * Choose a new list for a node that has neighbors to lose: it is left in the
 * first of repair->candidates, and in ids.  The node's own code is the first
 * of repair->codes.
 */
static int
choose_list(Repair *repair, uint32 id, uint32 *ids, int count, int floor, HnswLoaded *own_loaded)
{
	HnswIndex  *ix = &repair->ix;
	const QuantSpec *spec = &ix->spec;
	Size		bytes = quant_graph_bytes(spec);
	uint32	   *gathered = palloc(sizeof(uint32) * (repair->size + HNSW_MAX_NEIGHBORS));
	uint8	   *own = repair->codes;
	int			n = 0;

	count = gather(repair, id, ids, count, gathered);

	/* When all around has gone too, the living with the least numbers are neighbors: searches start there. */
	for (uint32 node = 0; count < ix->m / 2 && node < repair->count && node < REPAIR_FALLBACK; node++)
		if (node != id && !is_set(repair->gone, node) && !is_set(repair->skip, node) &&
			!contains(gathered, count, node))
			gathered[count++] = node;
	if (!hnsw_load_code(ix, id, own, own_loaded))
		count = 0;
	for (int i = 0; i < count; i++)
	{
		HnswNeighbor *candidate = &repair->candidates[n];
		uint8	   *code = repair->codes + bytes * (n + 1);
		HnswLoaded	loaded;

		if (!hnsw_load_code(ix, gathered[i], code, &loaded))
			continue;
		candidate->node = gathered[i];
		candidate->code = code;
		candidate->factors = loaded.factors;
		candidate->generation = loaded.generation;
		candidate->distance = quant_pair_distance(spec, own, own_loaded->factors, code, loaded.factors);
		n++;
	}
	pfree(gathered);
	qsort(repair->candidates, n, sizeof(HnswNeighbor), by_distance);
	n = hnsw_select(spec, repair->candidates, n, floor, 2 * ix->m);
	for (int i = 0; i < n; i++)
		ids[i] = repair->candidates[i].node;
	return n;
}

/* Replace a list that has not changed since its header was read. */
static bool
write_list(Repair *repair, uint32 id, const HnswNode *header, const uint32 *ids, int count)
{
	HnswIndex  *ix = &repair->ix;
	const HnswGeometry *g = &ix->geometry;
	Buffer		buffer = hnsw_pin(ix, hnsw_node_block(g, id));
	HnswNode   *node;
	HnswEdit	edit;
	bool		same;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	node = hnsw_node(g, BufferGetPage(buffer), id);
	same = node->version == header->version;
	if (same)
	{
		hnsw_edit_start(&edit, ix->rel, true);
		node = hnsw_node(g, hnsw_edit_page(&edit, buffer, HNSW_PAGE_NODE), id);
		memcpy(node->neighbors, ids, sizeof(uint32) * count);
		node->count = count;
		node->version++;
		hnsw_edit_finish(&edit);
	}
	UnlockReleaseBuffer(buffer);
	return same;
}

/*
 * Rid one list of the nodes to be freed.  Those nodes were the ones that led
 * here; so the neighbors that take their place get an edge back.
 */
static void
repair_node(Repair *repair, uint32 id)
{
	for (;;)
	{
		uint32		old_ids[HNSW_MAX_NEIGHBORS];
		uint32		ids[HNSW_MAX_NEIGHBORS];
		HnswNode	header;
		HnswLoaded	own;
		HnswNeighbor back;
		int			leaving;
		int			old_count = read_list(repair, id, old_ids, &leaving, &header);
		int			count;

		CHECK_FOR_INTERRUPTS();
		if (leaving == 0)
			return;
		memcpy(ids, old_ids, sizeof(uint32) * old_count);
		count = choose_list(repair, id, ids, old_count, Max(repair->ix.m, old_count - leaving), &own);
		if (!write_list(repair, id, &header, ids, count))
			continue;
		back.node = id;
		back.code = repair->codes;
		back.factors = own.factors;
		for (int i = 0; i < count; i++)
		{
			if (contains(old_ids, old_count, ids[i]))
				continue;
			back.distance = repair->candidates[i].distance;
			hnsw_link(&repair->linker, &repair->candidates[i], &back);
		}
		return;
	}
}

/* Give a number back: nothing points to it any more, except what is out of date and will notice. */
static void
free_node(Repair *repair, uint32 id)
{
	HnswIndex  *ix = &repair->ix;
	const HnswGeometry *g = &ix->geometry;
	Buffer		meta_buffer = ReadBuffer(ix->rel, HNSW_META_BLOCK);
	Buffer		sketch_buffer = hnsw_pin(ix, hnsw_sketch_block(g, id));
	Buffer		node_buffer = hnsw_pin(ix, hnsw_node_block(g, id));
	HnswMetaPage *meta;
	HnswSketch *sketch;
	HnswNode   *node;
	HnswEdit	edit;

	LockBuffer(meta_buffer, BUFFER_LOCK_EXCLUSIVE);
	LockBuffer(sketch_buffer, BUFFER_LOCK_EXCLUSIVE);
	LockBuffer(node_buffer, BUFFER_LOCK_EXCLUSIVE);

	hnsw_edit_start(&edit, ix->rel, true);
	meta = hnsw_page_meta(hnsw_edit_page(&edit, meta_buffer, HNSW_PAGE_META));
	sketch = hnsw_sketch(g, hnsw_edit_page(&edit, sketch_buffer, HNSW_PAGE_SKETCH), id);
	node = hnsw_node(g, hnsw_edit_page(&edit, node_buffer, HNSW_PAGE_NODE), id);
	sketch->flags = HNSW_FREE;
	sketch->generation++;
	ItemPointerSetInvalid(&sketch->tid);
	node->generation = sketch->generation;
	node->version++;
	node->count = 0;
	node->is_free = 1;
	node->next_free = meta->free_head;
	meta->free_head = id;
	meta->free_count++;
	hnsw_edit_finish(&edit);
	UnlockReleaseBuffer(node_buffer);
	UnlockReleaseBuffer(sketch_buffer);
	UnlockReleaseBuffer(meta_buffer);
}

static void
mend(Repair *repair)
{
	const HnswGeometry *g = &repair->ix.geometry;
	uint32		end;

	/* Chains first: they decide which dead nodes can go. */
	for (uint32 node = 0; node < repair->count; node++)
	{
		if (!is_set(repair->skip, node))
			close_chain(repair, node);
		if (node % 64 == 0)
			compat_vacuum_delay_point();
	}
	for (uint32 node = 0; node < repair->count; node = end)
	{
		compat_vacuum_delay_point();
		end = node_page_end(g, node, repair->count);
		for (uint32 i = node; i < end; i++)
			if (!is_set(repair->gone, i) && !is_set(repair->skip, i))
				repair_node(repair, i);
	}
	DEBUG_POINT("hnsw_vacuum_mended");

	/* The last number freed is the first given out again: let that be one of the entry sample. */
	for (uint32 node = repair->count; node-- > 0;)
		if (is_set(repair->gone, node))
		{
			compat_vacuum_delay_point();
			free_node(repair, node);
		}
}

IndexBulkDeleteResult *
hnsw_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	Repair		repair = {0};
	HnswMetaPage meta;
	MemoryContext context;
	MemoryContext old;
	Size		bitmap;
	uint32		dead;

	/* Nothing was deleted, or this is ANALYZE: no reason to look. */
	if (info->analyze_only || stats == NULL)
		return stats;

	context = AllocSetContextCreate(CurrentMemoryContext, "hnsw vacuum", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	hnsw_open(&repair.ix, info->index);
	hnsw_read_meta(info->index, &meta);
	hnsw_refresh_hints(&repair.ix, meta.node_count);
	repair.count = meta.node_count;
	bitmap = repair.count / 8 + 1;
	repair.dead = palloc_extended(bitmap, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	repair.skip = palloc_extended(bitmap, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	repair.gone = palloc_extended(bitmap, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	dead = read_states(&repair, info);
	DEBUG_POINT("hnsw_vacuum_read");
	if (dead > 0 && dead >= REPAIR_SHARE * (meta.node_count - Min(meta.free_count, meta.node_count)))
	{
		repair.size = Max(REPAIR_CANDIDATES * repair.ix.m, HNSW_MAX_NEIGHBORS);
		repair.codes = palloc(quant_graph_bytes(&repair.ix.spec) *
							  (Size) (repair.size + HNSW_MAX_NEIGHBORS + 1));
		repair.candidates = palloc(sizeof(HnswNeighbor) * (repair.size + HNSW_MAX_NEIGHBORS));
		hnsw_linker_init(&repair.linker, &repair.ix, true);
		mend(&repair);
	}
	stats->num_pages = RelationGetNumberOfBlocks(info->index);
	hnsw_read_meta(info->index, &meta);
	stats->pages_free = 0;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return stats;
}

/*
 * hnsw_link.c
 *		Reading graph codes, and adding a neighbor to a node's list.
 */
#include "postgres.h"

#include "hnsw/hnsw.h"
#include "miscadmin.h"

/* Attempts at a list that others change at the same time; then the edge is given up. */
#define LINK_ATTEMPTS 5

/*
 * Read a node's graph code; false when the number is free.  Without a
 * separate code it comes from the sketch, whose generation is the same.
 * Called many times in a row, with no lock held.
 */
bool
hnsw_load_code(HnswIndex *ix, uint32 id, uint8 *code, HnswLoaded *loaded)
{
	const HnswGeometry *g = &ix->geometry;
	Buffer		buffer;
	HnswNode   *node;
	HnswSketch *sketch;
	bool		in_use;

	CHECK_FOR_INTERRUPTS();
	buffer = hnsw_read_page(ix, hnsw_node_block(g, id), HNSW_PAGE_NODE);
	node = hnsw_node(g, BufferGetPage(buffer), id);
	in_use = !node->is_free;
	loaded->generation = node->generation;
	loaded->hash = node->hash;
	loaded->factors = node->factors;
	if (quant_has_code(&ix->spec))
		memcpy(code, hnsw_node_code(ix, node), ix->spec.code_bytes);
	UnlockReleaseBuffer(buffer);
	if (quant_has_code(&ix->spec) || !in_use)
		return in_use;

	buffer = hnsw_read_page(ix, hnsw_sketch_block(g, id), HNSW_PAGE_SKETCH);
	sketch = hnsw_sketch(g, BufferGetPage(buffer), id);
	in_use = (sketch->flags & HNSW_STATE_MASK) != HNSW_FREE;
	loaded->factors = sketch->factors;
	memcpy(code, sketch->code, ix->spec.sketch_bytes);
	UnlockReleaseBuffer(buffer);
	return in_use;
}

void
hnsw_linker_init(HnswLinker *linker, HnswIndex *ix, bool logged)
{
	linker->ix = ix;
	linker->logged = logged;
	linker->codes = palloc((Size) quant_graph_bytes(&ix->spec) * 2 * ix->m);
	linker->neighbors = palloc(sizeof(HnswNeighbor) * (2 * ix->m + 1));
}

static int
by_distance(const void *a, const void *b)
{
	float		x = ((const HnswNeighbor *) a)->distance;
	float		y = ((const HnswNeighbor *) b)->distance;

	return (x > y) - (x < y);
}

/* Replace a list, the caller holding the page exclusively. */
static void
write_list(HnswLinker *linker, Buffer buffer, uint32 id, const uint32 *ids, int count)
{
	HnswEdit	edit;
	HnswNode   *node;

	hnsw_edit_start(&edit, linker->ix->rel, linker->logged);
	node = hnsw_node(&linker->ix->geometry, hnsw_edit_page(&edit, buffer, HNSW_PAGE_NODE), id);
	memcpy(node->neighbors, ids, sizeof(uint32) * count);
	node->count = count;
	node->version++;
	hnsw_edit_finish(&edit);
}

static bool
contains(const uint32 *ids, int count, uint32 id)
{
	for (int i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/*
 * Choose among the old neighbors and the added one; ids holds count old ones
 * and is overwritten.  Returns the new count, 0 to leave the list as it is.
 */
static int
choose_list(HnswLinker *linker, const HnswNeighbor *to, const HnswNeighbor *added, uint32 *ids, int count)
{
	HnswIndex  *ix = linker->ix;
	const QuantSpec *spec = &ix->spec;
	Size		bytes = quant_graph_bytes(spec);
	HnswNeighbor *list = linker->neighbors;
	int			n = 0;

	for (int i = 0; i < count; i++)
	{
		HnswLoaded	loaded;

		list[n].node = ids[i];
		list[n].code = linker->codes + bytes * n;
		if (!hnsw_load_code(ix, ids[i], linker->codes + bytes * n, &loaded))
			continue;
		list[n].factors = loaded.factors;
		list[n].distance = quant_pair_distance(spec, to->code, to->factors, list[n].code, list[n].factors);
		n++;
	}
	list[n++] = *added;
	qsort(list, n, sizeof(HnswNeighbor), by_distance);
	n = hnsw_select(spec, list, n, ix->m, 2 * ix->m);
	for (int i = 0; i < n; i++)
		ids[i] = list[i].node;
	return contains(ids, n, added->node) ? n : 0;
}

/*
 * Add "added", whose distance is the one to "to", to the neighbors of "to".
 * Codes are read between two looks at the list, with no lock held; when the
 * list has changed meanwhile, its version tells.  A node of another generation
 * is not the one that was found, and gets no edge.
 */
void
hnsw_link(HnswLinker *linker, const HnswNeighbor *to, const HnswNeighbor *added)
{
	HnswIndex  *ix = linker->ix;
	const HnswGeometry *g = &ix->geometry;
	BlockNumber block = hnsw_node_block(g, to->node);
	uint32		ids[HNSW_MAX_NEIGHBORS + 1];
	int			count = 0;
	uint32		version = 0;
	bool		chosen = false;

	for (int attempt = 0; attempt < LINK_ATTEMPTS; attempt++)
	{
		Buffer		buffer;
		HnswNode   *node;

		CHECK_FOR_INTERRUPTS();
		buffer = hnsw_pin(ix, block);
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		hnsw_check_page(ix->rel, buffer, HNSW_PAGE_NODE);
		node = hnsw_node(g, BufferGetPage(buffer), to->node);
		if (node->count > 2 * ix->m)
			hnsw_corrupted(ix->rel, block, "too many neighbors");
		if (node->generation != to->generation || node->is_free ||
			contains(node->neighbors, node->count, added->node))
		{
			UnlockReleaseBuffer(buffer);
			return;
		}
		if (chosen && node->version == version)
		{
			write_list(linker, buffer, to->node, ids, count);
			UnlockReleaseBuffer(buffer);
			return;
		}
		count = node->count;
		version = node->version;
		memcpy(ids, node->neighbors, sizeof(uint32) * count);
		if (count < 2 * ix->m)
		{
			ids[count] = added->node;
			write_list(linker, buffer, to->node, ids, count + 1);
			UnlockReleaseBuffer(buffer);
			return;
		}
		UnlockReleaseBuffer(buffer);
		count = choose_list(linker, to, added, ids, count);
		if (count == 0)
			return;
		chosen = true;
	}
}

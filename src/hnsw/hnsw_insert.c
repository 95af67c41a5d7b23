/*
 * hnsw_insert.c
 *		Adding one row.
 *
 * The new node is complete, with its own list of neighbors, before anything
 * points to it; the edges back to it follow one by one.  Stopping anywhere in
 * between loses edges to a row whose transaction has failed.
 */
#include "postgres.h"

#include "base/debug_point.h"
#include "hnsw/hnsw.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/memutils.h"

struct HnswInserter
{
	HnswIndex	ix;
	HnswSearch	search;
	HnswLinker	linker;
	bool		logged;
	QuantCodes	codes;			/* of the new row */
	float	   *work;
	uint8	   *candidate_codes;
	HnswNeighbor *candidates;
	HnswFound  *sorted;
};

/* Made in the current memory context, which must live as long. */
HnswInserter *
hnsw_inserter_create(Relation index, bool logged)
{
	HnswInserter *inserter = palloc0(sizeof(HnswInserter));
	HnswIndex  *ix = &inserter->ix;
	int			ef;

	hnsw_open(ix, index);
	ef = ix->ef_construction;
	inserter->logged = logged;
	hnsw_search_init(&inserter->search, ix, ef);
	hnsw_linker_init(&inserter->linker, ix, logged);
	quant_init_codes(&ix->spec, &inserter->codes);
	inserter->work = palloc(sizeof(float) * ix->spec.dims);
	inserter->candidate_codes = palloc((Size) quant_graph_bytes(&ix->spec) * ef);
	inserter->candidates = palloc(sizeof(HnswNeighbor) * ef);
	inserter->sorted = palloc(sizeof(HnswFound) * ef);
	return inserter;
}

static int
by_distance(const void *a, const void *b)
{
	float		x = ((const HnswFound *) a)->distance;
	float		y = ((const HnswFound *) b)->distance;

	return (x > y) - (x < y);
}

/* The nearest live nodes of a finished search, at most ef, sorted. */
static int
nearest_found(HnswInserter *inserter)
{
	HnswSearch *search = &inserter->search;
	float		limit = search->window_count < search->ef ? 0 : search->window[0];
	int			count = 0;

	for (int i = 0; i < search->found_count && count < search->ef; i++)
	{
		const HnswFound *found = &search->found[i];

		if ((found->node & HNSW_DEAD_BIT) != 0)
			continue;
		if (search->window_count == search->ef && found->distance > limit)
			continue;
		inserter->sorted[count++] = *found;
	}
	qsort(inserter->sorted, count, sizeof(HnswFound), by_distance);
	return count;
}

static const uint8 *
own_code(const HnswInserter *inserter)
{
	return quant_has_code(&inserter->ix.spec) ? inserter->codes.code : inserter->codes.sketch;
}

static QuantFactors
own_factors(const HnswInserter *inserter)
{
	return quant_has_code(&inserter->ix.spec) ? inserter->codes.code_factors : inserter->codes.sketch_factors;
}

/*
 * Read the codes of the nearest nodes and choose neighbors.  Returns their
 * number; *twin is set to the place in candidates of a node with the same
 * value, else -1.
 */
static int
choose_neighbors(HnswInserter *inserter, uint32 hash, int *twin)
{
	HnswIndex  *ix = &inserter->ix;
	Size		bytes = quant_graph_bytes(&ix->spec);
	QuantFactors factors = own_factors(inserter);
	int			found = nearest_found(inserter);
	int			count = 0;
	uint32		twin_node = HNSW_NO_NODE;

	for (int i = 0; i < found; i++)
	{
		HnswNeighbor *candidate = &inserter->candidates[count];
		uint8	   *code = inserter->candidate_codes + bytes * count;
		HnswLoaded	loaded;

		if (!hnsw_load_code(ix, inserter->sorted[i].node, code, &loaded))
			continue;
		candidate->node = inserter->sorted[i].node;
		candidate->distance = inserter->sorted[i].distance;
		candidate->code = code;
		candidate->factors = loaded.factors;
		candidate->generation = loaded.generation;
		if (twin_node == HNSW_NO_NODE && loaded.hash == hash && loaded.factors.add == factors.add &&
			loaded.factors.rescale == factors.rescale && memcmp(code, own_code(inserter), bytes) == 0)
			twin_node = candidate->node;
		count++;
	}
	count = hnsw_select_first(&ix->spec, inserter->candidates, count, ix->m);
	*twin = -1;
	for (int i = 0; i < count; i++)
		if (inserter->candidates[i].node == twin_node)
			*twin = i;
	return count;
}

/* Pin a block, adding blocks to the file up to it.  The meta page's lock keeps others from adding. */
static Buffer
pin_or_extend(Relation index, BlockNumber block)
{
	while (RelationGetNumberOfBlocks(index) <= block)
		ReleaseBuffer(ReadBuffer(index, P_NEW));
	return ReadBuffer(index, block);
}

/* Take up a number and write both slots, as one change. */
static uint32
write_node(HnswInserter *inserter, ItemPointer tid, uint32 hash, int count, bool alias)
{
	HnswIndex  *ix = &inserter->ix;
	const HnswGeometry *g = &ix->geometry;
	Buffer		meta_buffer = ReadBuffer(ix->rel, HNSW_META_BLOCK);
	Buffer		sketch_buffer;
	Buffer		node_buffer;
	HnswMetaPage *meta;
	HnswSketch *sketch;
	HnswNode   *node;
	HnswEdit	edit;
	Page		page;
	uint32		id;
	bool		reused;

	LockBuffer(meta_buffer, BUFFER_LOCK_EXCLUSIVE);
	hnsw_check_page(ix->rel, meta_buffer, HNSW_PAGE_META);
	meta = hnsw_page_meta(BufferGetPage(meta_buffer));
	reused = meta->free_head != HNSW_NO_NODE;
	id = reused ? meta->free_head : meta->node_count;
	if (reused && id >= meta->node_count)
		hnsw_corrupted(ix->rel, HNSW_META_BLOCK, "free list is damaged");
	if (id >= HNSW_MAX_NODES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("index \"%s\" cannot have more than %u rows", RelationGetRelationName(ix->rel), id)));

	/* Blocks are locked in ascending order: meta, sketch, node. */
	sketch_buffer = pin_or_extend(ix->rel, hnsw_sketch_block(g, id));
	LockBuffer(sketch_buffer, BUFFER_LOCK_EXCLUSIVE);
	node_buffer = pin_or_extend(ix->rel, hnsw_node_block(g, id));
	LockBuffer(node_buffer, BUFFER_LOCK_EXCLUSIVE);
	if (!PageIsNew(BufferGetPage(sketch_buffer)))
		hnsw_check_page(ix->rel, sketch_buffer, HNSW_PAGE_SKETCH);
	if (!PageIsNew(BufferGetPage(node_buffer)))
		hnsw_check_page(ix->rel, node_buffer, HNSW_PAGE_NODE);
	if ((hnsw_sketch(g, BufferGetPage(sketch_buffer), id)->flags & HNSW_STATE_MASK) != HNSW_FREE)
		hnsw_corrupted(ix->rel, hnsw_sketch_block(g, id), "free number is in use");

	hnsw_edit_start(&edit, ix->rel, inserter->logged);
	meta = hnsw_page_meta(hnsw_edit_page(&edit, meta_buffer, HNSW_PAGE_META));
	page = hnsw_edit_page(&edit, sketch_buffer, HNSW_PAGE_SKETCH);
	sketch = hnsw_sketch(g, page, id);
	hnsw_use_page(page, hnsw_sketch_offset(g, id) + g->sketch_size);
	page = hnsw_edit_page(&edit, node_buffer, HNSW_PAGE_NODE);
	node = hnsw_node(g, page, id);
	hnsw_use_page(page, hnsw_node_offset(g, id) + g->node_size);
	if (reused)
	{
		meta->free_head = node->next_free;
		meta->free_count--;
	}
	else
		meta->node_count++;

	/* The generation was advanced when the number was freed. */
	sketch->tid = *tid;
	sketch->flags = HNSW_LIVE | (alias ? HNSW_ALIAS : 0);
	sketch->factors = inserter->codes.sketch_factors;
	memcpy(sketch->code, inserter->codes.sketch, ix->spec.sketch_bytes);
	node->count = count;
	node->is_free = 0;
	node->version++;
	node->next = HNSW_NO_NODE;
	node->hash = hash;
	node->factors = own_factors(inserter);
	for (int i = 0; i < count; i++)
		node->neighbors[i] = inserter->candidates[i].node;
	if (quant_has_code(&ix->spec))
		memcpy(hnsw_node_code(ix, node), inserter->codes.code, ix->spec.code_bytes);
	hnsw_edit_finish(&edit);

	UnlockReleaseBuffer(node_buffer);
	UnlockReleaseBuffer(sketch_buffer);
	UnlockReleaseBuffer(meta_buffer);
	return id;
}

static Buffer
lock_node_page(HnswIndex *ix, BlockNumber block)
{
	Buffer		buffer = hnsw_pin(ix, block);

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	return buffer;
}

/*
 * Hang a new alias on its twin's chain; false when the twin has gone, has
 * come back as an alias itself, or its row has gone: a vacuum that has found
 * a node dead looks through its chain once, and then counts on nobody making
 * it longer.  The lock on the sketch keeps
 * the twin from being marked meanwhile.  Pages are locked in ascending order;
 * the two nodes may lie on one.
 */
static bool
chain_alias(HnswInserter *inserter, uint32 twin, uint8 generation, uint32 alias)
{
	HnswIndex  *ix = &inserter->ix;
	const HnswGeometry *g = &ix->geometry;
	BlockNumber sketch_block = hnsw_sketch_block(g, twin);
	BlockNumber twin_block = hnsw_node_block(g, twin);
	BlockNumber alias_block = hnsw_node_block(g, alias);
	Buffer		alias_buffer = InvalidBuffer;
	Buffer		sketch_buffer;
	Buffer		twin_buffer;
	const HnswSketch *sketch;
	bool		result;

	if (alias_block < sketch_block)
		alias_buffer = lock_node_page(ix, alias_block);
	sketch_buffer = hnsw_read_page(ix, sketch_block, HNSW_PAGE_SKETCH);
	if (alias_block > sketch_block && alias_block < twin_block)
		alias_buffer = lock_node_page(ix, alias_block);
	twin_buffer = lock_node_page(ix, twin_block);
	if (alias_block > twin_block)
		alias_buffer = lock_node_page(ix, alias_block);

	sketch = hnsw_sketch(g, BufferGetPage(sketch_buffer), twin);
	result = sketch->generation == generation && sketch->flags == HNSW_LIVE;
	if (result)
	{
		HnswEdit	edit;
		Page		twin_page;
		Page		alias_page;
		HnswNode   *node;

		hnsw_edit_start(&edit, ix->rel, inserter->logged);
		twin_page = hnsw_edit_page(&edit, twin_buffer, HNSW_PAGE_NODE);
		alias_page = alias_block == twin_block ? twin_page :
			hnsw_edit_page(&edit, alias_buffer, HNSW_PAGE_NODE);
		node = hnsw_node(g, twin_page, twin);
		hnsw_node(g, alias_page, alias)->next = node->next;
		node->next = alias;
		hnsw_edit_finish(&edit);
	}
	if (BufferIsValid(alias_buffer))
		UnlockReleaseBuffer(alias_buffer);
	UnlockReleaseBuffer(twin_buffer);
	UnlockReleaseBuffer(sketch_buffer);
	return result;
}

/* The twin has gone before the alias could hang on it: make the alias a node like others. */
static void
promote_alias(HnswInserter *inserter, uint32 id)
{
	HnswIndex  *ix = &inserter->ix;
	const HnswGeometry *g = &ix->geometry;
	Buffer		buffer = hnsw_pin(ix, hnsw_sketch_block(g, id));
	HnswEdit	edit;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	hnsw_edit_start(&edit, ix->rel, inserter->logged);
	hnsw_sketch(g, hnsw_edit_page(&edit, buffer, HNSW_PAGE_SKETCH), id)->flags &= ~HNSW_ALIAS;
	hnsw_edit_finish(&edit);
	UnlockReleaseBuffer(buffer);
}

/* Add a row whose value is in the form of hnsw_form_value. */
void
hnsw_inserter_insert(HnswInserter *inserter, const void *value, ItemPointer tid)
{
	HnswIndex  *ix = &inserter->ix;
	uint32		hash = hnsw_value_hash(&ix->opclass, value, ix->spec.dims);
	HnswNeighbor added;
	uint32		id;
	int			count;
	int			twin;

	quant_encode(&ix->spec, value, inserter->work, &inserter->codes);
	hnsw_search_start(&inserter->search, value, ix->ef_construction);
	hnsw_search_run(&inserter->search);
	count = choose_neighbors(inserter, hash, &twin);
	DEBUG_POINT("hnsw_insert_chosen");
	id = write_node(inserter, tid, hash, count, twin >= 0);
	DEBUG_POINT("hnsw_insert_written");
	if (twin >= 0)
	{
		if (chain_alias(inserter, inserter->candidates[twin].node, inserter->candidates[twin].generation, id))
			return;
		promote_alias(inserter, id);
	}

	added.node = id;
	added.code = own_code(inserter);
	added.factors = own_factors(inserter);
	for (int i = 0; i < count; i++)
	{
		added.distance = inserter->candidates[i].distance;
		hnsw_link(&inserter->linker, &inserter->candidates[i], &added);
		DEBUG_POINT("hnsw_insert_linked");
	}
}

bool
hnsw_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
			IndexUniqueCheck check, bool unchanged, IndexInfo *info)
{
	HnswInserter *inserter = info->ii_AmCache;
	MemoryContext work;
	MemoryContext old;
	const void *value;
	bool		indexable;

	if (isnull[0])
		return false;
	if (inserter == NULL)
	{
		old = MemoryContextSwitchTo(info->ii_Context);
		inserter = hnsw_inserter_create(index, true);
		info->ii_AmCache = inserter;
		MemoryContextSwitchTo(old);
	}
	work = AllocSetContextCreate(CurrentMemoryContext, "hnsw insert", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work);
	value = hnsw_form_value(&inserter->ix.opclass, values[0], inserter->ix.spec.dims, &indexable);
	if (indexable)
		hnsw_inserter_insert(inserter, value, tid);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return false;
}

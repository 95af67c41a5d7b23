/*
 * hnsw_page.c
 *		Layout of the pages, the meta page, and what an open index is.
 */
#include "postgres.h"

#include "hnsw/hnsw.h"
#include "utils/memutils.h"

/* Longest extent tried when fitting sketch pages to node pages. */
#define EXTENT_MAX_SKETCH_PAGES 16

/* What pgvector writes at the start of its meta page, and at the end of every page. */
#define PGVECTOR_HNSW_MAGIC		0xA953A953

/* Our copy in the relation cache: one piece of memory, as rd_amcache must be. */
typedef struct HnswCache
{
	HnswMetaPage meta;
	uint32		words[FLEXIBLE_ARRAY_MEMBER];	/* signs of the rotation; the centroid's floats, if any */
} HnswCache;

void
hnsw_corrupted(Relation index, BlockNumber block, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is corrupted at block %u: %s", RelationGetRelationName(index), block, what),
			 errhint("Rebuild it with REINDEX INDEX.")));
}

/*
 * Fit sketch pages to node pages so that few slots at the end of an extent
 * stay empty; between equals the shorter extent wins, for small indexes.
 */
static void
choose_extent(HnswGeometry *g)
{
	double		best = 0;

	for (uint32 pages = 1; pages <= EXTENT_MAX_SKETCH_PAGES; pages++)
	{
		uint32		sketches = pages * g->sketches_per_page;
		uint32		fewer = sketches / g->nodes_per_page;

		for (uint32 node_pages = Max(fewer, 1); node_pages <= fewer + 1; node_pages++)
		{
			uint32		nodes = Min(sketches, node_pages * g->nodes_per_page);
			double		per_page = (double) nodes / (pages + node_pages);

			if (per_page > best * 1.005)
			{
				best = per_page;
				g->extent_sketch_pages = pages;
				g->extent_node_pages = node_pages;
				g->extent_nodes = nodes;
			}
		}
	}
}

static void
set_divisors(HnswIndex *ix)
{
	ix->extent_divisor = hnsw_divisor(ix->geometry.extent_nodes);
	ix->sketch_divisor = hnsw_divisor(ix->geometry.sketches_per_page);
	ix->node_divisor = hnsw_divisor(ix->geometry.nodes_per_page);
}

void
hnsw_choose_layout(HnswIndex *ix, const HnswOpclass *opclass, int dims, int m, int ef_construction)
{
	HnswGeometry *g = &ix->geometry;
	Size		node_fixed = HNSW_NODE_HEADER + sizeof(uint32) * 2 * m;

	ix->opclass = *opclass;
	ix->m = m;
	ix->ef_construction = ef_construction;
	quant_choose(&ix->spec, opclass->metric, dims, HNSW_PAGE_END - HNSW_SKETCH_START - HNSW_SKETCH_HEADER,
				 HNSW_PAGE_END - HNSW_NODE_START - node_fixed);
	quant_prepare(&ix->spec, NULL);

	g->sketch_size = MAXALIGN(HNSW_SKETCH_HEADER + ix->spec.sketch_bytes);
	g->node_size = MAXALIGN(node_fixed + ix->spec.code_bytes);
	g->sketches_per_page = (HNSW_PAGE_END - HNSW_SKETCH_START) / g->sketch_size;
	g->nodes_per_page = (HNSW_PAGE_END - HNSW_NODE_START) / g->node_size;
	Assert(g->sketches_per_page > 0);
	Assert(g->nodes_per_page > 0);
	choose_extent(g);
	set_divisors(ix);
}

void
hnsw_fill_meta(const HnswIndex *ix, HnswMetaPage *meta)
{
	memset(meta, 0, sizeof(HnswMetaPage));
	meta->magic = HNSW_MAGIC;
	meta->version = HNSW_VERSION;
	meta->metric = ix->spec.metric;
	meta->kind = ix->spec.kind;
	meta->dims = ix->spec.dims;
	meta->code_dims = ix->spec.code_dims;
	meta->sketch_bits = ix->spec.sketch_bits;
	meta->code_bits = ix->spec.code_bits;
	meta->seed = ix->spec.seed;
	meta->m = ix->m;
	meta->ef_construction = ix->ef_construction;
	meta->centroid_block = ix->centroid_block;
	meta->geometry = ix->geometry;
	meta->free_head = HNSW_NO_NODE;
}

void
hnsw_init_page(Page page, HnswPageKind kind)
{
	HnswPageSpecial *special;

	PageInit(page, BLCKSZ, sizeof(HnswPageSpecial));
	special = (HnswPageSpecial *) PageGetSpecialPointer(page);
	special->kind = kind;
	special->page_id = HNSW_PAGE_ID;
	if (kind == HNSW_PAGE_META)
		hnsw_use_page(page, MAXALIGN(SizeOfPageHeaderData) + sizeof(HnswMetaPage));
}

/*
 * Declare the bytes before "end" as used: the hole between pd_lower and
 * pd_upper is neither logged nor kept, and is zero for all readers.
 */
void
hnsw_use_page(Page page, uint32 end)
{
	PageHeader	header = (PageHeader) page;

	if (header->pd_lower < end)
		header->pd_lower = end;
}

HnswMetaPage *
hnsw_page_meta(Page page)
{
	return (HnswMetaPage *) PageGetContents(page);
}

/* The caller has the buffer pinned and locked. */
void
hnsw_check_page(Relation index, Buffer buffer, HnswPageKind kind)
{
	Page		page = BufferGetPage(buffer);
	PageHeader	header = (PageHeader) page;
	HnswPageSpecial *special = (HnswPageSpecial *) ((char *) page + HNSW_PAGE_END);

	if (unlikely(header->pd_special != HNSW_PAGE_END || special->page_id != HNSW_PAGE_ID ||
				 special->kind != kind))
		hnsw_corrupted(index, BufferGetBlockNumber(buffer),
					   PageIsNew(page) ? "page is empty" : "page is not of the expected kind");
}

static bool
geometry_is_sound(const HnswMetaPage *meta)
{
	const HnswGeometry *g = &meta->geometry;

	return g->sketch_size >= HNSW_SKETCH_HEADER && g->node_size >= HNSW_NODE_HEADER &&
		g->sketches_per_page > 0 && g->nodes_per_page > 0 && g->extent_nodes > 0 &&
		(uint64) g->sketches_per_page * g->sketch_size <= HNSW_PAGE_END - HNSW_SKETCH_START &&
		(uint64) g->nodes_per_page * g->node_size <= HNSW_PAGE_END - HNSW_NODE_START &&
		(uint64) g->extent_sketch_pages * g->sketches_per_page >= g->extent_nodes &&
		(uint64) g->extent_node_pages * g->nodes_per_page >= g->extent_nodes &&
		meta->m >= 2 && meta->m <= HNSW_MAX_M && meta->dims > 0 && meta->dims <= BLCKSZ * 8 &&
		meta->code_dims > 0 && meta->code_dims <= meta->dims &&
		meta->node_count <= HNSW_MAX_NODES && meta->entry_nodes <= meta->node_count &&
		meta->kind >= QUANT_PLAIN && meta->kind <= QUANT_BITS &&
		(meta->code_bits == 0 || meta->code_bits == 4 || meta->code_bits == 8) &&
		((meta->sketch_bits >= 1 && meta->sketch_bits <= 4) ||
		 meta->sketch_bits == 8 || meta->sketch_bits == 32) &&
		(meta->kind != QUANT_ROTATED || (meta->sketch_bits <= 4 && meta->code_bits > 0)) &&
		(meta->kind == QUANT_ROTATED || meta->code_bits == 0);
}

/* Whether slots have room for the codes. */
static bool
slots_are_sound(const HnswMetaPage *meta, const QuantSpec *spec)
{
	const HnswGeometry *g = &meta->geometry;

	return g->sketch_size >= HNSW_SKETCH_HEADER + spec->sketch_bytes &&
		g->sketch_size % MAXIMUM_ALIGNOF == 0 &&
		g->node_size >= HNSW_NODE_HEADER + sizeof(uint32) * 2 * meta->m + spec->code_bytes &&
		g->node_size % MAXIMUM_ALIGNOF == 0;
}

/* Refuse what this version cannot work with. */
static void
check_meta(Relation index, const HnswMetaPage *meta)
{
	if (meta->magic != HNSW_MAGIC || !geometry_is_sound(meta))
		hnsw_corrupted(index, HNSW_META_BLOCK, "meta page is damaged");
	if (meta->version != HNSW_VERSION || meta->filter_count != 0 || meta->epoch_count != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" has format %u, of a newer version of this extension",
						RelationGetRelationName(index), meta->version),
				 errhint("Rebuild it with REINDEX INDEX.")));
}

void
hnsw_read_meta(Relation index, HnswMetaPage *meta)
{
	Buffer		buffer = ReadBuffer(index, HNSW_META_BLOCK);
	Page		page = BufferGetPage(buffer);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(meta, hnsw_page_meta(page), sizeof(HnswMetaPage));
	if (!PageIsNew(page) && meta->magic == PGVECTOR_HNSW_MAGIC)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" was built by pgvector", RelationGetRelationName(index)),
				 errhint("Rebuild it with REINDEX INDEX.")));
	hnsw_check_page(index, buffer, HNSW_PAGE_META);
	UnlockReleaseBuffer(buffer);
	check_meta(index, meta);
}

/* The same for an open index, whose buffers are remembered. */
void
hnsw_reread_meta(HnswIndex *ix, HnswMetaPage *meta)
{
	Buffer		buffer = hnsw_read_page(ix, HNSW_META_BLOCK, HNSW_PAGE_META);

	memcpy(meta, hnsw_page_meta(BufferGetPage(buffer)), sizeof(HnswMetaPage));
	UnlockReleaseBuffer(buffer);
	check_meta(ix->rel, meta);
}

static void
spec_from_meta(QuantSpec *spec, const HnswMetaPage *meta)
{
	memset(spec, 0, sizeof(QuantSpec));
	spec->metric = meta->metric;
	spec->kind = meta->kind;
	spec->dims = meta->dims;
	spec->code_dims = meta->code_dims;
	spec->sketch_bits = meta->sketch_bits;
	spec->code_bits = meta->code_bits;
	spec->seed = meta->seed;
}

static void
read_centroid(Relation index, BlockNumber block, float *centroid, int dims)
{
	int			per_page = (HNSW_PAGE_END - HNSW_NODE_START) / sizeof(float);

	for (int done = 0; done < dims; done += per_page, block++)
	{
		Buffer		buffer = ReadBuffer(index, block);

		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		hnsw_check_page(index, buffer, HNSW_PAGE_CENTROID);
		memcpy(centroid + done, BufferGetPage(buffer) + HNSW_NODE_START,
			   sizeof(float) * Min(per_page, dims - done));
		UnlockReleaseBuffer(buffer);
	}
}

/* How many words of the cache follow the meta page. */
static Size
cache_words(const HnswMetaPage *meta, const QuantSpec *spec)
{
	return quant_sign_words(spec) + (meta->centroid_block != 0 ? spec->dims : 0);
}

static HnswCache *
load_cache(Relation index)
{
	HnswMetaPage meta;
	HnswCache  *cache;
	QuantSpec	spec;
	Size		signs;
	Size		size;

	hnsw_read_meta(index, &meta);
	spec_from_meta(&spec, &meta);
	quant_prepare(&spec, NULL);
	if (!slots_are_sound(&meta, &spec))
		hnsw_corrupted(index, HNSW_META_BLOCK, "meta page is damaged");
	signs = quant_sign_words(&spec);
	size = offsetof(HnswCache, words) + sizeof(uint32) * cache_words(&meta, &spec);
	cache = palloc(size);
	cache->meta = meta;
	if (signs > 0)
	{
		memcpy(cache->words, spec.signs, sizeof(uint32) * signs);
		pfree(spec.signs);
	}
	if (meta.centroid_block != 0)
		read_centroid(index, meta.centroid_block, (float *) (cache->words + signs), spec.dims);

	/* Reading may have processed an invalidation: attach the copy last. */
	if (index->rd_amcache != NULL)
		pfree(index->rd_amcache);
	index->rd_amcache = MemoryContextAlloc(index->rd_indexcxt, size);
	memcpy(index->rd_amcache, cache, size);
	return cache;
}

/* Describe an open index, in the current memory context. */
void
hnsw_open(HnswIndex *ix, Relation index)
{
	HnswCache  *cache = index->rd_amcache;
	Size		size;
	uint32	   *words;

	if (cache == NULL)
		cache = load_cache(index);

	memset(ix, 0, sizeof(HnswIndex));
	ix->rel = index;
	ix->opclass = hnsw_opclass(index);
	if (hnsw_column_dims(index, &ix->opclass) != (int) cache->meta.dims)
		hnsw_corrupted(index, HNSW_META_BLOCK, "dimensions do not agree with the column");
	ix->geometry = cache->meta.geometry;
	set_divisors(ix);
	ix->m = cache->meta.m;
	ix->ef_construction = cache->meta.ef_construction;
	ix->centroid_block = cache->meta.centroid_block;

	spec_from_meta(&ix->spec, &cache->meta);
	size = sizeof(uint32) * cache_words(&cache->meta, &ix->spec);
	words = palloc(size);
	memcpy(words, cache->words, size);
	quant_prepare(&ix->spec, words);
	if (ix->centroid_block != 0)
		ix->spec.centroid = (const float *) (words + quant_sign_words(&ix->spec));
	if (ix->spec.metric != ix->opclass.metric)
		hnsw_corrupted(index, HNSW_META_BLOCK, "metric does not agree with the operator class");
}

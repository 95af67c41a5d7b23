/*
 * hnsw.h
 *		The graph access method: page format and what its files share.
 *
 * README.md explains the algorithms, the order of locks and what a crash
 * leaves behind.
 */
#ifndef HNSW_H
#define HNSW_H

#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "access/generic_xlog.h"
#include "base/compat.h"
#include "nodes/execnodes.h"
#include "quant/quant.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

/* ---- page format (values on disk: never renumber) ---- */

#define HNSW_META_BLOCK		0
#define HNSW_MAGIC			0x56534757	/* another program's index shows another number here */
#define HNSW_VERSION		1

#define HNSW_PAGE_ID		0xFA57	/* last bytes of every page */

typedef enum HnswPageKind
{
	HNSW_PAGE_META = 1,
	HNSW_PAGE_CENTROID,
	HNSW_PAGE_SKETCH,
	HNSW_PAGE_NODE
} HnswPageKind;

typedef struct HnswPageSpecial
{
	uint16		kind;			/* HnswPageKind */
	uint16		reserved;
	uint16		reserved2;
	uint16		page_id;		/* HNSW_PAGE_ID */
} HnswPageSpecial;

/* Sketch slots start at a cache line; node slots right after the header. */
#define HNSW_SKETCH_START	64
#define HNSW_NODE_START		MAXALIGN(SizeOfPageHeaderData)
#define HNSW_PAGE_END		(BLCKSZ - MAXALIGN(sizeof(HnswPageSpecial)))

#define HNSW_MAX_M			100
#define HNSW_MAX_NEIGHBORS	(2 * HNSW_MAX_M)
#define HNSW_NO_NODE		0xFFFFFFFFu
#define HNSW_MAX_NODES		0x7FFFFFFFu	/* the top bit marks dead nodes in queues */

/* Reserved: a value to filter by, kept behind the sketch. */
#define HNSW_MAX_FILTERS	8
typedef struct HnswFilterColumn
{
	Oid			type;
	uint16		width;
	uint16		offset;
} HnswFilterColumn;

/* How nodes are laid out; everything follows from dimensions and m. */
typedef struct HnswGeometry
{
	uint32		sketch_size;	/* bytes of a slot */
	uint32		node_size;
	uint32		sketches_per_page;
	uint32		nodes_per_page;
	uint32		extent_sketch_pages;
	uint32		extent_node_pages;
	uint32		extent_nodes;	/* nodes of one extent */
	BlockNumber first_extent;
} HnswGeometry;

typedef struct HnswMetaPage
{
	uint32		magic;
	uint32		version;

	/* Fixed when the index is made. */
	uint16		metric;			/* QuantMetric */
	uint16		kind;			/* QuantKind */
	uint32		dims;			/* as coded: see HnswOpclass */
	uint32		code_dims;
	uint16		sketch_bits;
	uint16		code_bits;
	uint64		seed;
	uint16		m;
	uint16		ef_construction;
	BlockNumber centroid_block; /* 0: none */
	HnswGeometry geometry;

	/* Change as the index grows. */
	uint32		node_count;		/* numbers below this have been given out */
	uint32		entry_nodes;	/* the first so many are a sample of those of the build */
	uint32		built_nodes;	/* as many were there when the build ended */
	uint32		free_head;		/* list of freed numbers, linked by next_free */
	uint32		free_count;

	/* Reserved, zero. */
	uint32		filter_count;
	HnswFilterColumn filters[HNSW_MAX_FILTERS];
	uint32		epoch_count;	/* further centroids of codes */
	BlockNumber epoch_block[3];
} HnswMetaPage;

/* What a sketch slot says about its node. */
#define HNSW_STATE_MASK		0x03
#define HNSW_FREE			0x00	/* never used, or reusable */
#define HNSW_LIVE			0x01
#define HNSW_DEAD			0x02	/* its row is gone; still leads to others */
#define HNSW_ALIAS			0x04	/* equal to another node, reached through its chain only */
#define HNSW_EPOCH_MASK		0x30	/* reserved, zero: which centroid */

typedef struct HnswSketch
{
	ItemPointerData tid;		/* row in the heap */
	uint8		flags;
	uint8		generation;		/* counts reuses of the number */
	QuantFactors factors;
	uint8		code[FLEXIBLE_ARRAY_MEMBER];	/* sketch_bytes */
} HnswSketch;

typedef struct HnswNode
{
	uint16		count;			/* of neighbors */
	uint8		generation;		/* equals the sketch's */
	uint8		is_free;		/* as the sketch says */
	uint32		version;		/* changes with the list of neighbors */
	uint32		next;			/* next alias, or HNSW_NO_NODE; kept when freed, for those on their way */
	uint32		hash;			/* of the value */
	QuantFactors factors;
	uint32		next_free;		/* of a free number; HNSW_NO_NODE ends the list */
	uint32		reserved;
	uint32		neighbors[FLEXIBLE_ARRAY_MEMBER];	/* 2 * m, then code_bytes of code */
} HnswNode;

#define HNSW_SKETCH_HEADER	offsetof(HnswSketch, code)
#define HNSW_NODE_HEADER	offsetof(HnswNode, neighbors)

/* ---- operator classes ---- */

typedef enum HnswType
{
	HNSW_TYPE_VECTOR,
	HNSW_TYPE_HALFVEC,
	HNSW_TYPE_SPARSEVEC,
	HNSW_TYPE_BIT
} HnswType;

/* Sparse vectors with more dimensions than this are folded into so many. */
#define HNSW_FOLDED_DIMS	2048

typedef struct HnswOpclass
{
	HnswType	type;
	QuantMetric metric;
	bool		folded;			/* distances in the index are vague: look at every row */
} HnswOpclass;

/* hnsw_type.c */
extern HnswOpclass hnsw_opclass(Relation index);
extern int	hnsw_column_dims(Relation index, HnswOpclass *opclass);
extern const void *hnsw_form_value(const HnswOpclass *opclass, Datum datum, int dims, bool *indexable);
extern uint32 hnsw_value_hash(const HnswOpclass *opclass, const void *value, int dims);
extern double hnsw_graph_scale(const HnswOpclass *opclass, double exact);

/* ---- an open index ---- */

/* To divide by a number known beforehand: multiply and shift. */
typedef struct HnswDivisor
{
	uint64		factor;
	int			shift;
} HnswDivisor;

/*
 * For dividends up to HNSW_MAX_NODES: the factor is 2^shift / divisor, rounded
 * up by less than one, which a dividend below 2^31 makes less than 2^shift / divisor.
 */
static inline HnswDivisor
hnsw_divisor(uint32 divisor)
{
	HnswDivisor result = {.shift = 31};

	while (result.shift < 63 && (UINT64CONST(1) << (result.shift - 31)) < divisor)
		result.shift++;
	result.factor = ((UINT64CONST(1) << result.shift) + divisor - 1) / divisor;
	return result;
}

static inline uint32
hnsw_divide(uint32 dividend, HnswDivisor divisor)
{
	return (uint32) (dividend * divisor.factor >> divisor.shift);
}

/*
 * What never changes about an index, copied out of the relation cache, which
 * may forget its own copy at any moment.
 */
typedef struct HnswIndex
{
	Relation	rel;
	HnswOpclass opclass;
	QuantSpec	spec;
	HnswGeometry geometry;
	HnswDivisor extent_divisor; /* nodes of an extent, slots of a page */
	HnswDivisor sketch_divisor;
	HnswDivisor node_divisor;
	int			m;
	int			ef_construction;
	BlockNumber centroid_block;

	/* Where pages were last seen; good until hnsw_refresh_hints is called again, for any index. */
	Relation	heap;			/* the table, when its rows are looked at */
	struct HnswHints *hints;	/* pages of the index */
	struct HnswHints *rows;		/* pages of the table; NULL when it is not a heap in shared buffers */
	uint64		hints_epoch;
} HnswIndex;

/* hnsw_page.c */
extern void hnsw_choose_layout(HnswIndex *ix, const HnswOpclass *opclass, int dims, int m,
							   int ef_construction);
extern void hnsw_fill_meta(const HnswIndex *ix, HnswMetaPage *meta);
extern void hnsw_open(HnswIndex *ix, Relation index);
extern void hnsw_read_meta(Relation index, HnswMetaPage *meta);
extern void hnsw_reread_meta(HnswIndex *ix, HnswMetaPage *meta);
extern void hnsw_init_page(Page page, HnswPageKind kind);
extern void hnsw_use_page(Page page, uint32 end);
extern HnswMetaPage *hnsw_page_meta(Page page);
extern void hnsw_check_page(Relation index, Buffer buffer, HnswPageKind kind);
pg_noreturn extern void hnsw_corrupted(Relation index, BlockNumber block, const char *what);

static inline BlockNumber
hnsw_sketch_block(const HnswGeometry *g, uint32 node)
{
	uint32		extent = node / g->extent_nodes;
	uint32		rest = node % g->extent_nodes;

	return g->first_extent + extent * (g->extent_sketch_pages + g->extent_node_pages) +
		rest / g->sketches_per_page;
}

static inline BlockNumber
hnsw_node_block(const HnswGeometry *g, uint32 node)
{
	uint32		extent = node / g->extent_nodes;
	uint32		rest = node % g->extent_nodes;

	return g->first_extent + extent * (g->extent_sketch_pages + g->extent_node_pages) +
		g->extent_sketch_pages + rest / g->nodes_per_page;
}

static inline uint32
hnsw_sketch_offset(const HnswGeometry *g, uint32 node)
{
	return HNSW_SKETCH_START + node % g->extent_nodes % g->sketches_per_page * g->sketch_size;
}

static inline uint32
hnsw_node_offset(const HnswGeometry *g, uint32 node)
{
	return HNSW_NODE_START + node % g->extent_nodes % g->nodes_per_page * g->node_size;
}

/* A slot, found once. */
typedef struct HnswPlace
{
	uint32		node;
	BlockNumber block;
	uint32		offset;
	Buffer		buffer;			/* where its page was last seen */
} HnswPlace;

/* The same as above, where it is done hundreds of times. */
static inline HnswPlace
hnsw_sketch_place(const HnswIndex *ix, uint32 node)
{
	const HnswGeometry *g = &ix->geometry;
	uint32		extent = hnsw_divide(node, ix->extent_divisor);
	uint32		rest = node - extent * g->extent_nodes;
	uint32		page = hnsw_divide(rest, ix->sketch_divisor);
	HnswPlace	place = {.node = node};

	place.block = g->first_extent + extent * (g->extent_sketch_pages + g->extent_node_pages) + page;
	place.offset = HNSW_SKETCH_START + (rest - page * g->sketches_per_page) * g->sketch_size;
	return place;
}

static inline HnswPlace
hnsw_node_place(const HnswIndex *ix, uint32 node)
{
	const HnswGeometry *g = &ix->geometry;
	uint32		extent = hnsw_divide(node, ix->extent_divisor);
	uint32		rest = node - extent * g->extent_nodes;
	uint32		page = hnsw_divide(rest, ix->node_divisor);
	HnswPlace	place = {.node = node};

	place.block = g->first_extent + extent * (g->extent_sketch_pages + g->extent_node_pages) +
		g->extent_sketch_pages + page;
	place.offset = HNSW_NODE_START + (rest - page * g->nodes_per_page) * g->node_size;
	return place;
}

static inline HnswSketch *
hnsw_sketch(const HnswGeometry *g, Page page, uint32 node)
{
	return (HnswSketch *) ((char *) page + hnsw_sketch_offset(g, node));
}

static inline HnswNode *
hnsw_node(const HnswGeometry *g, Page page, uint32 node)
{
	return (HnswNode *) ((char *) page + hnsw_node_offset(g, node));
}

static inline uint8 *
hnsw_node_code(const HnswIndex *ix, HnswNode *node)
{
	return (uint8 *) (node->neighbors + 2 * ix->m);
}

/* hnsw_pin.c: buffers remembered between accesses */
extern void hnsw_refresh_hints(HnswIndex *ix, uint32 node_count);
extern Buffer hnsw_pin(HnswIndex *ix, BlockNumber block);
extern Buffer hnsw_read_page(HnswIndex *ix, BlockNumber block, HnswPageKind kind);

/* ---- search ---- */

#define HNSW_DEAD_BIT		0x80000000u

typedef struct HnswCandidate
{
	float		distance;
	uint32		node;			/* with HNSW_DEAD_BIT */
} HnswCandidate;

/* A node whose neighbors have been looked at. */
typedef struct HnswFound
{
	float		distance;		/* by its graph code */
	float		slack;
	uint32		node;			/* with HNSW_DEAD_BIT */
	uint32		next;			/* first alias */
} HnswFound;

typedef struct HnswCounters
{
	int64		searches;
	int64		hops;			/* nodes whose slots were read */
	int64		estimates;		/* sketches compared */
	int64		reranks;		/* rows fetched for their exact distance */
	int64		sweeps;			/* passes over all sketches */
} HnswCounters;

/* Neighbors of one node, not seen before. */
typedef struct HnswBatch
{
	int			count;
	HnswPlace  *places;
} HnswBatch;

typedef struct HnswSearch
{
	HnswIndex  *ix;
	QuantQuery	query;
	int			ef;
	MemoryContext context;

	uint32	   *visited;		/* open addressing; HNSW_NO_NODE is empty */
	uint32		visited_mask;
	uint32		visited_count;

	HnswCandidate *frontier;	/* min-heap of what may be looked at next */
	int			frontier_count;
	int			frontier_size;

	HnswCandidate *aside;		/* min-heap of what has been found while its neighbors wait to be looked at */
	int			aside_count;
	int			aside_size;

	HnswFound  *found;			/* in the order of discovery */
	int			found_count;
	int			found_size;

	float	   *window;			/* max-heap of the ef least distances found */
	int			window_count;

	uint32		node_count;		/* of the index, as last seen */
	HnswBatch	batches[2];		/* one is looked at while the other's sketches come near */
	uint32		asked[2];		/* nodes whose slots are on their way */
	float		error;			/* standard deviation of a sketch's distance, near by */
	float		goal;			/* the search rests when nothing on the frontier seems as near ... */
	int64		goal_hops;		/* ... or it has made so many hops */
	HnswCounters counters;
} HnswSearch;

/* hnsw_search.c */
extern void hnsw_search_init(HnswSearch *search, HnswIndex *ix, int ef);
extern void hnsw_search_start(HnswSearch *search, const void *value, int ef);
extern void hnsw_search_widen(HnswSearch *search, int ef);
extern void hnsw_search_run(HnswSearch *search);
extern void hnsw_search_elsewhere(HnswSearch *search);
extern void hnsw_search_closer(HnswSearch *search, float goal, int64 hops);
extern uint32 hnsw_search_alias(HnswSearch *search, uint32 alias);
extern float hnsw_search_limit(const HnswSearch *search);
extern Size hnsw_search_memory(const HnswSearch *search);

/* Whether the search has been wherever edges lead. */
static inline bool
hnsw_search_ended(const HnswSearch *search)
{
	return search->frontier_count == 0 && search->aside_count == 0;
}

/* Go no further: nothing waits to be looked at any more. */
static inline void
hnsw_search_end(HnswSearch *search)
{
	search->frontier_count = 0;
	search->aside_count = 0;
}
extern HnswCounters hnsw_last_counters;

/* hnsw_row.c: rows of the table */
#define HNSW_ROWS_AHEAD 32

/* Rows that will be looked at soon. */
typedef struct HnswRowsAhead
{
	int			count;
	ItemPointerData tids[HNSW_ROWS_AHEAD];
} HnswRowsAhead;

struct IndexFetchTableData;
extern bool hnsw_remembers_rows(Relation heap);
extern bool hnsw_row_pin(HnswIndex *ix, struct IndexFetchTableData *fetch, const ItemPointerData *tid);
extern bool hnsw_row_fetch(HnswIndex *ix, struct IndexFetchTableData *fetch, ItemPointer tid,
						   Snapshot snapshot, TupleTableSlot *slot);
extern void hnsw_rows_ahead(const HnswIndex *ix, const HnswFound *found, int count, float limit,
							HnswRowsAhead *ahead);
extern void hnsw_rows_prefetch(const HnswIndex *ix, const HnswRowsAhead *ahead);

/* ---- neighbor selection ---- */

/* A candidate neighbor with its graph code. */
typedef struct HnswNeighbor
{
	float		distance;
	uint32		node;
	QuantFactors factors;
	const uint8 *code;
	uint8		generation;		/* at which it was read */
} HnswNeighbor;

/* hnsw_select.c */
extern void hnsw_search_elsewhere(HnswSearch *search);
extern int	hnsw_select(const QuantSpec *spec, HnswNeighbor *candidates, int count, int floor, int most);
extern int	hnsw_select_first(const QuantSpec *spec, HnswNeighbor *candidates, int count, int m);

/* ---- changes ---- */

/*
 * A change of up to four pages that happens as a whole: one generic WAL
 * record, or no record while an index is being built.  Buffers are locked by
 * the caller before and released by him after.
 */
typedef struct HnswEdit
{
	GenericXLogState *state;	/* NULL: not logged */
	Buffer		buffers[MAX_GENERIC_XLOG_PAGES];
	int			count;
} HnswEdit;

/* hnsw_edit.c */
extern void hnsw_edit_start(HnswEdit *edit, Relation index, bool logged);
extern Page hnsw_edit_page(HnswEdit *edit, Buffer buffer, HnswPageKind kind);
extern void hnsw_edit_finish(HnswEdit *edit);

/* What has been read of a node. */
typedef struct HnswLoaded
{
	uint8		generation;
	uint32		hash;
	QuantFactors factors;
} HnswLoaded;

extern bool hnsw_load_code(HnswIndex *ix, uint32 node, uint8 *code, HnswLoaded *loaded);

/* Add a neighbor to a node, choosing anew when its list is full. */
typedef struct HnswLinker
{
	HnswIndex  *ix;
	bool		logged;
	uint8	   *codes;			/* room for the codes of a full list and one more */
	HnswNeighbor *neighbors;
} HnswLinker;

/* hnsw_link.c */
extern void hnsw_linker_init(HnswLinker *linker, HnswIndex *ix, bool logged);
extern void hnsw_link(HnswLinker *linker, const HnswNeighbor *to, const HnswNeighbor *added);

/* hnsw_insert.c */
typedef struct HnswInserter HnswInserter;
extern HnswInserter *hnsw_inserter_create(Relation index, bool logged);
extern void hnsw_inserter_insert(HnswInserter *inserter, const void *value, ItemPointer tid);
extern bool hnsw_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
						IndexUniqueCheck check, bool unchanged, struct IndexInfo *info);

#define HNSW_PHASE_LOAD		2	/* progress of a build */
#define HNSW_PHASE_WRITE	3

/* hnsw_build.c */
extern IndexBuildResult *hnsw_build(Relation heap, Relation index, struct IndexInfo *info);
extern void hnsw_buildempty(Relation index);

/* hnsw_scan.c */
extern IndexScanDesc hnsw_beginscan(Relation index, int nkeys, int norderbys);
extern void hnsw_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys);
extern bool hnsw_gettuple(IndexScanDesc scan, ScanDirection direction);
extern void hnsw_endscan(IndexScanDesc scan);

/* hnsw_vacuum.c */
extern IndexBulkDeleteResult *hnsw_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
											  IndexBulkDeleteCallback callback, void *state);
extern IndexBulkDeleteResult *hnsw_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats);

/* hnsw_cost.c */
struct PlannerInfo;
struct IndexPath;
extern void hnsw_costestimate(struct PlannerInfo *root, struct IndexPath *path, double loop_count,
							  Cost *startup, Cost *total, Selectivity *selectivity,
							  double *correlation, double *pages);

/* hnsw_options.c */
typedef enum HnswIterativeScan
{
	HNSW_ITERATIVE_OFF,
	HNSW_ITERATIVE_RELAXED,
	HNSW_ITERATIVE_STRICT
} HnswIterativeScan;

extern int	hnsw_ef_search;
extern int	hnsw_iterative_scan;
extern int	hnsw_max_scan_tuples;
extern double hnsw_scan_mem_multiplier;

#define HNSW_DEFAULT_M					16
#define HNSW_DEFAULT_EF_CONSTRUCTION	64

extern void hnsw_init(void);
extern bytea *hnsw_options(Datum reloptions, bool validate);
extern int	hnsw_option_m(Relation index);
extern int	hnsw_option_ef_construction(Relation index);

#endif							/* HNSW_H */

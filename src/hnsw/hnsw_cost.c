/*
 * hnsw_cost.c
 *		Cost of a scan.
 *
 * The startup cost is that of the search for the first ef_search rows, the
 * total that of handing out every row in order; in between the planner
 * interpolates, which is what a LIMIT above the scan, or a filter that makes
 * it go on, comes to.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/heaptoast.h"
#include "base/compat.h"
#include "hnsw/hnsw.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"

/*
 * Measured, in units of a simple operator: reading a node and its neighbors'
 * sketches, and for each byte of a value; one sketch of the entry sample; a
 * row's exact distance, looked up or met in passing; a piece of a value stored
 * out of line.  More nodes than ef_search are expanded before the search rests.
 */
#define HOP_OPERATORS		100
#define HOP_BYTE_OPERATORS	0.2
#define ENTRY_OPERATORS		0.25
#define RERANK_OPERATORS	250
#define DISTANCE_OPERATORS	20
#define CHUNK_OPERATORS		280
#define HOPS_PER_EF			1.25

/* Of the entry sample. */
#define ENTRY_SKETCHES		600

/* Sketch pages are few and stay cached: of so many hops, one finds a sketch page missing. */
#define HOPS_PER_SKETCH_PAGE 4

/* Bytes of an indexed value; 0 when that cannot be told from its type. */
static double
value_bytes(const IndexOptInfo *info)
{
	double		bytes = 0;
	Relation	index;
	HnswOpclass opclass;
	int			dims;

	if (info->hypothetical)
		return 0;
	index = index_open(info->indexoid, NoLock);
	opclass = hnsw_opclass(index);
	dims = hnsw_column_dims(index, &opclass);
	switch (opclass.type)
	{
		case HNSW_TYPE_VECTOR:
			bytes = sizeof(float) * dims;
			break;
		case HNSW_TYPE_HALFVEC:
			bytes = sizeof(uint16) * dims;
			break;
		case HNSW_TYPE_BIT:
			bytes = dims / 8;
			break;
		case HNSW_TYPE_SPARSEVEC:
			break;
	}
	index_close(index, NoLock);
	return bytes;
}

/* Pieces out of line that a value consists of: 0 when the table is large enough to hold the values itself. */
static double
value_chunks(const IndexOptInfo *info, double bytes)
{
	if ((double) info->rel->pages * BLCKSZ >= info->rel->tuples * bytes / 2)
		return 0;
	return ceil(bytes / TOAST_MAX_CHUNK_SIZE);
}

/*
 * The planner takes a distance for a simple operator, and does not count what
 * it takes to fetch values stored out of line.  So a plan that compares every
 * row looks cheaper than it is: by this factor, by which a scan has to look
 * cheaper, too.
 */
static double
counted_share(const IndexOptInfo *info, double chunks, double sequential_cost)
{
	double		rows = Max(info->rel->rows, 1); /* those that pass the filter */
	double		counted = info->rel->pages * sequential_cost + info->rel->tuples * cpu_tuple_cost +
		rows * 2 * cpu_operator_cost * log2(Max(rows, 2));
	double		true_cost = counted +
		rows * (DISTANCE_OPERATORS + chunks * CHUNK_OPERATORS) * cpu_operator_cost;

	/* All of the settings may be zero. */
	return true_cost > 0 ? counted / true_cost : 1;
}

void
hnsw_costestimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
				  Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *info = path->indexinfo;
	double		rows = Max(info->tuples, 1);
	double		index_pages = Max(info->pages, 1);
	double		heap_pages = Max(info->rel->pages, 1);
	double		first_hops = Min(rows, hnsw_ef_search * HOPS_PER_EF);
	double		random_cost;
	double		sequential_cost;
	double		touched;
	double		page_cost;
	double		heap_fetches;
	double		bytes;
	double		chunks;
	double		hop;
	double		share;

	*selectivity = 1;
	*correlation = 0;
	*pages = index_pages;

	/* The index cannot do without an order, nor with more than one. */
	if (list_length(path->indexorderbys) != 1)
	{
		*startup = *total = get_float8_infinity();
		compat_disable_index_path(path);
		return;
	}

	/* Pages of the first search: the larger their share of the index, the more are read in passing. */
	get_tablespace_page_costs(info->reltablespace, &random_cost, &sequential_cost);
	touched = Min(index_pages, first_hops * (1 + 1.0 / HOPS_PER_SKETCH_PAGE));
	touched = index_pages_fetched(touched * loop_count, (BlockNumber) index_pages, index_pages, root);
	touched /= loop_count;
	page_cost = random_cost - (random_cost - sequential_cost) * sqrt(Min(touched / index_pages, 1));
	touched = Min(touched, heap_pages / 2);

	/*
	 * The first rows in order are each a page of the table on its own.  The
	 * planner will add the cost of fetching all rows, in which a page counts
	 * about once, and takes a share of it for the few that are wanted: let a
	 * page count three times.
	 */
	heap_fetches = Min(2 * heap_pages, rows);
	bytes = value_bytes(info);
	chunks = value_chunks(info, bytes);
	hop = HOP_OPERATORS + bytes * HOP_BYTE_OPERATORS;
	share = counted_share(info, chunks, sequential_cost);
	*startup = touched * page_cost +
		(first_hops * hop + Min(rows, ENTRY_SKETCHES) * ENTRY_OPERATORS) * cpu_operator_cost;
	*total = *startup + heap_fetches * random_cost + Max(index_pages - touched, 0) * random_cost +
		(rows * (RERANK_OPERATORS + chunks * CHUNK_OPERATORS) + (rows - first_hops) * hop) *
		cpu_operator_cost;
	*startup *= share;
	*total *= share;
}

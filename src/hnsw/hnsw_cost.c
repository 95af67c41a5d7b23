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
#include "base/compat.h"
#include "hnsw/hnsw.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"

/*
 * Measured, in units of a simple operator: reading a node and its neighbors'
 * sketches; one sketch of the entry sample; a row's exact distance.  More
 * nodes than ef_search are expanded before the search rests.
 */
#define HOP_OPERATORS		40
#define ENTRY_OPERATORS		0.25
#define RERANK_OPERATORS	30
#define HOPS_PER_EF			1.25

/* Sketch pages are few and stay cached: of so many hops, one finds a sketch page missing. */
#define HOPS_PER_SKETCH_PAGE 4

void
hnsw_costestimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
				  Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *info = path->indexinfo;
	double		rows = Max(info->tuples, 1);
	double		index_pages = Max(info->pages, 1);
	double		first_hops;
	double		all_hops = rows;
	double		random_cost;
	double		sequential_cost;
	double		touched;

	*selectivity = 1;
	*correlation = 0;
	*pages = index_pages;

	/* The index cannot do without an order. */
	if (path->indexorderbys == NIL)
	{
		*startup = *total = get_float8_infinity();
		compat_disable_index_path(path);
		return;
	}

	get_tablespace_page_costs(info->reltablespace, &random_cost, &sequential_cost);
	first_hops = Min(rows, hnsw_ef_search * HOPS_PER_EF);
	touched = Min(index_pages, first_hops * (1 + 1.0 / HOPS_PER_SKETCH_PAGE));

	/* In a large cache nearly every page is found; in a scan of everything each is read about once. */
	touched = index_pages_fetched(touched, (BlockNumber) index_pages, index_pages, root);
	*startup = touched * random_cost +
		(first_hops * HOP_OPERATORS + Min(rows, 1024) * ENTRY_OPERATORS) * cpu_operator_cost;
	*total = *startup + Max(index_pages - touched, 0) * random_cost +
		(all_hops - first_hops) * HOP_OPERATORS * cpu_operator_cost +
		rows * RERANK_OPERATORS * cpu_operator_cost;
}

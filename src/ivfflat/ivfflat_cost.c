/*
 * ivfflat_cost.c
 *		What a scan costs.
 *
 * Before the first row comes out, all centers and the rows of "probes" lists
 * have been compared.  The total is that of all lists, whether or not the
 * scan will go on to them: a query that wants every row is not one for this
 * index.  Visits to the table are added by core.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "base/compat.h"
#include "ivfflat/ivfflat.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "utils/float.h"
#include "utils/spccache.h"

typedef struct ListCosts
{
	double		pages;			/* of all lists */
	double		rows;
	double		random_page;
	double		sequential_page;
	double		per_row;
} ListCosts;

/* Look at so many lists, a share of all; each is one stretch of the file, found by one jump. */
static Cost
cost_of_lists(const ListCosts *costs, double lists, double share)
{
	double		pages = Max(1.0, costs->pages * share);
	double		jumps = Min(pages, lists);

	return jumps * costs->random_page + (pages - jumps) * costs->sequential_page +
		costs->rows * share * costs->per_row;
}

void
ivfflat_costestimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
					 Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *info = path->indexinfo;
	int			lists = IVFFLAT_DEFAULT_LISTS;
	int			probes;
	ListCosts	costs;
	QualCost	distance = {0};

	*selectivity = 1;
	*correlation = 0;

	/* The index cannot do without an order, nor with more than one. */
	if (list_length(path->indexorderbys) != 1)
	{
		*startup = *total = get_float8_infinity();
		*pages = 0;
		compat_disable_index_path(path);
		return;
	}

	/* There is nothing to open of an index that a planning tool has made up. */
	if (!info->hypothetical)
	{
		Relation	index = index_open(info->indexoid, NoLock);

		lists = ivfflat_read_lists(index);
		index_close(index, NoLock);
	}

	/*
	 * Core does not count the pages of values stored out of line when it
	 * scans the table, so they may not count here either.
	 */
	costs.pages = Min((double) info->pages, (double) info->rel->pages);
	costs.rows = info->tuples;
	get_tablespace_page_costs(info->reltablespace, &costs.random_page, &costs.sequential_page);
	cost_qual_eval(&distance, path->indexorderbys, root);
	costs.per_row = cpu_index_tuple_cost + cpu_operator_cost + distance.per_tuple;

	probes = Min(ivfflat_probes, lists);
	*startup = distance.startup + lists * (cpu_operator_cost + distance.per_tuple) +
		cost_of_lists(&costs, probes, (double) probes / lists);
	*total = *startup + cost_of_lists(&costs, lists, 1) +
		costs.rows * cpu_operator_cost * log2(Max(2.0, costs.rows));
	*pages = Max(1.0, costs.pages * probes / lists);
}

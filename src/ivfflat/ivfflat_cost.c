/*
 * ivfflat_cost.c
 *		What a scan costs.
 *
 * Before the first row comes out, all centers and the rows of "probes" lists
 * have been compared; after that, rows are free but for their visit to the
 * table, which core adds.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "ivfflat/ivfflat.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "base/compat.h"
#include "utils/float.h"
#include "utils/spccache.h"

void
ivfflat_costestimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
					 Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *info = path->indexinfo;
	Relation	index;
	int			lists;
	double		share;
	double		rows;
	double		list_pages;
	double		random_cost;
	double		sequential_cost;
	QualCost	distance = {0};

	*selectivity = 1;
	*correlation = 0;
	if (path->indexorderbys == NIL)
	{
		*startup = *total = get_float8_infinity();
		*pages = 0;
		compat_disable_index_path(path);
		return;
	}

	index = index_open(info->indexoid, NoLock);
	lists = ivfflat_read_lists(index);
	index_close(index, NoLock);

	share = Min(1.0, (double) ivfflat_probes / lists);
	rows = clamp_row_est(info->tuples * share);

	/*
	 * Core does not count the pages of values stored out of line when it
	 * scans the table, so they may not count here either.
	 */
	list_pages = Max(1.0, Min((double) info->pages, (double) info->rel->pages) * share);
	get_tablespace_page_costs(info->reltablespace, &random_cost, &sequential_cost);
	cost_qual_eval(&distance, path->indexorderbys, root);

	/* A list is one stretch of the file, found by one jump. */
	*startup = Min(list_pages, (double) ivfflat_probes) * random_cost +
		Max(0.0, list_pages - ivfflat_probes) * sequential_cost;
	*startup += distance.startup + (lists + rows) * (cpu_operator_cost + distance.per_tuple) +
		rows * cpu_index_tuple_cost;
	*total = *startup + rows * cpu_operator_cost * log2(Max(2.0, rows));
	*pages = list_pages;
}

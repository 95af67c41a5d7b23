/*
 * hnsw_build.c
 *		CREATE INDEX: the graph grows in memory and is written at the end.
 *
 * When maintenance_work_mem is full, the graph is written early and the rest
 * of the rows is inserted into the pages one by one, without WAL: the whole
 * index is logged once, when it is complete.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "access/xloginsert.h"
#include "base/compat.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "hnsw/hnsw_build.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "pgstat.h"
#include "utils/memutils.h"

/* Rows and blocks looked at for the centroid. */
#define CENTROID_BLOCKS 64
#define CENTROID_ROWS	4000

/* Blocks whose rows are counted, and what is added for the others, which may hold more. */
#define COUNTED_BLOCKS	64
#define COUNTED_MARGIN	1.25

typedef struct CentroidSample
{
	const HnswIndex *ix;
	double	   *sum;
	float	   *work;
	int64		rows;
	MemoryContext row_context;
} CentroidSample;

static void
sample_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	CentroidSample *sample = state;
	int			dims = sample->ix->spec.dims;
	MemoryContext old;
	const float *x;
	bool		indexable;

	if (isnull[0] || sample->rows >= CENTROID_ROWS)
		return;
	old = MemoryContextSwitchTo(sample->row_context);
	x = hnsw_form_value(&sample->ix->opclass, values[0], dims, &indexable);
	if (indexable)
	{
		memcpy(sample->work, x, sizeof(float) * dims);
		if (sample->ix->spec.metric == QUANT_COSINE)
			quant_normalize(sample->work, dims);
		for (int i = 0; i < dims; i++)
			sample->sum[i] += sample->work[i];
		sample->rows++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(sample->row_context);
}

/* The mean of a sample; NULL where codes gain nothing by it. */
static const float *
find_centroid(HnswBuild *build)
{
	CentroidSample sample = {.ix = &build->ix, .row_context = build->row_context};
	int			dims = build->ix.spec.dims;
	BlockNumber blocks = RelationGetNumberOfBlocks(build->heap);
	BlockNumber step = Max(1, blocks / CENTROID_BLOCKS);
	float	   *centroid;

	if (build->ix.spec.kind != QUANT_ROTATED || build->ix.spec.metric == QUANT_IP)
		return NULL;
	sample.sum = palloc0(sizeof(double) * dims);
	sample.work = palloc(sizeof(float) * dims);
	for (BlockNumber block = 0; block < blocks && sample.rows < CENTROID_ROWS; block += step)
		table_index_build_range_scan(build->heap, build->index, build->info, false, false, false,
									 block, 1, sample_row, &sample, NULL);
	if (sample.rows == 0)
		return NULL;
	centroid = palloc(sizeof(float) * dims);
	for (int i = 0; i < dims; i++)
		centroid[i] = (float) (sample.sum[i] / sample.rows);
	return centroid;
}

static void
count_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	(*(double *) state)++;
}

/*
 * Rows to make room for.  Of a table that was never analyzed the server knows
 * the pages only, and takes values of our types for short: there, the rows of
 * some blocks are counted.  Rows that are dead to us but not to others are
 * indexed, too; those that a partial index leaves out are counted with the
 * others, as they may lie elsewhere.
 */
static double
expected_rows(Relation heap, Relation index, IndexInfo *info)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(heap);
	BlockNumber counted = Min(blocks, COUNTED_BLOCKS);
	double		rows = 0;

	if (heap->rd_rel->reltuples >= 0 || blocks == 0)
	{
		double		all_visible;

		estimate_rel_size(heap, NULL, &blocks, &rows, &all_visible);
		return rows;
	}
	for (BlockNumber i = 0; i < counted; i++)
	{
		BlockNumber block = (BlockNumber) ((uint64) i * blocks / counted);
		double		indexed = 0;
		double		live = table_index_build_range_scan(heap, index, info, false, false, false,
														block, 1, count_row, &indexed, NULL);

		rows += Max(live, indexed);
	}
	return rows / counted * blocks * COUNTED_MARGIN;
}

/* Rows that fit into maintenance_work_mem. */
static uint32
most_rows(const HnswBuild *build)
{
	double		memory = maintenance_work_mem * 1024.0 - hnsw_graph_bytes(&build->ix.spec, build->ix.m, 0);
	double		rows = memory / hnsw_graph_row_bytes(&build->ix.spec, build->ix.m);

	return (uint32) Max(0, Min(rows - 2, HNSW_MAX_NODES));
}

/*
 * The graph is read here and there, and looking up the addresses of small
 * pages takes as long as reading: ask for large ones.  The kernel may decline.
 */
static void
ask_for_large_pages(void *memory, Size bytes)
{
#ifdef MADV_HUGEPAGE
	uintptr_t	page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t	start = TYPEALIGN(page, memory);
	uintptr_t	end = TYPEALIGN_DOWN(page, (uintptr_t) memory + bytes);

	if (end > start)
		(void) madvise((void *) start, end - start, MADV_HUGEPAGE);
#endif
}

static void
allocate_graph(HnswBuild *build, uint32 capacity)
{
	Size		bytes = hnsw_graph_bytes(&build->ix.spec, build->ix.m, capacity);

	build->header = palloc_extended(bytes, MCXT_ALLOC_HUGE);
	ask_for_large_pages(build->header, bytes);
	hnsw_graph_create(build->header, capacity, LWTRANCHE_FIRST_USER_DEFINED);
	hnsw_graph_attach(&build->graph, &build->ix, build->header, false);
}

/* A private graph can move to a larger piece of memory; false when none is allowed. */
static bool
grow_graph(HnswBuild *build)
{
	uint32		old_capacity = build->header->capacity;
	uint32		capacity = Min((double) most_rows(build), old_capacity * 1.5 + 1024);
	GraphHeader *old_header = build->header;
	HnswGraph	old = build->graph;
	MemoryContext old_context;

	/* Until the old piece is gone there are two. */
	if (capacity <= old_capacity)
		return false;
	old_context = MemoryContextSwitchTo(build->context);
	allocate_graph(build, capacity);
	pg_atomic_write_u32(&build->header->count, old_capacity);
	memcpy(build->graph.nodes, old.nodes, sizeof(GraphNode) * (Size) old_capacity);
	memcpy(build->graph.neighbors, old.neighbors, sizeof(uint32) * 2 * build->ix.m * (Size) old_capacity);
	memcpy(build->graph.sketches, old.sketches, old.sketch_bytes * old_capacity);
	if (quant_has_code(&build->ix.spec))
		memcpy(build->graph.codes, old.codes, old.code_bytes * old_capacity);
	pfree(old_header);
	pfree(old.visited);
	MemoryContextSwitchTo(old_context);
	return true;
}

static void
graph_full(HnswBuild *build)
{
	if (build->shared == NULL || build->leader)
		ereport(NOTICE,
				(errmsg("hnsw graph no longer fits into maintenance_work_mem after %u tuples",
						hnsw_graph_count(&build->graph)),
				 errdetail("Building will take significantly more time."),
				 errhint("Increase maintenance_work_mem to speed up builds.")));
	if (build->shared != NULL)
		hnsw_graph_full_parallel(build);
	else
	{
		hnsw_write_graph(&build->ix, &build->graph);
		pfree(build->header);
		pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, HNSW_PHASE_LOAD);
	}
	build->written = true;
}

static void
add_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	HnswBuild  *build = state;
	MemoryContext old;
	const void *value;
	bool		indexable;

	if (isnull[0])
		return;
	CHECK_FOR_INTERRUPTS();
	old = MemoryContextSwitchTo(build->row_context);
	value = hnsw_form_value(&build->ix.opclass, values[0], build->ix.spec.dims, &indexable);
	if (indexable)
	{
		while (!build->written && !hnsw_graph_add(&build->graph, &build->ix, value, tid))
			if (build->shared != NULL || !grow_graph(build))
				graph_full(build);
		if (build->written)
		{
			if (build->inserter == NULL)
			{
				MemoryContextSwitchTo(build->context);
				build->inserter = hnsw_inserter_create(index, false);
				MemoryContextSwitchTo(build->row_context);
			}
			hnsw_inserter_insert(build->inserter, value, tid);
		}
		build->index_rows++;
		if (build->shared == NULL || build->leader)
			pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) build->index_rows);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(build->row_context);
}

/* Take this process's share of the table's rows; scan is NULL when that is all of them. */
void
hnsw_build_scan(HnswBuild *build, TableScanDesc scan)
{
	build->heap_rows = table_index_build_scan(build->heap, build->index, build->info, true,
											  scan == NULL || build->leader, add_row, build, scan);
}

static int
workers_wanted(HnswBuild *build)
{
	return compat_index_build_workers(build->heap, build->index, build->info);
}

static void
check_options(Relation index)
{
	if (hnsw_option_ef_construction(index) < 2 * hnsw_option_m(index))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ef_construction must be greater than or equal to 2 * m")));
}

static void
choose_layout(HnswIndex *ix, Relation index)
{
	HnswOpclass opclass;
	int			dims;

	check_options(index);
	opclass = hnsw_opclass(index);
	dims = hnsw_column_dims(index, &opclass);
	memset(ix, 0, sizeof(HnswIndex));
	ix->rel = index;
	hnsw_choose_layout(ix, &opclass, dims, hnsw_option_m(index), hnsw_option_ef_construction(index));
}

IndexBuildResult *
hnsw_build(Relation heap, Relation index, IndexInfo *info)
{
	IndexBuildResult *result = palloc(sizeof(IndexBuildResult));
	HnswBuild	build = {.heap = heap, .index = index, .info = info, .leader = true};
	MemoryContext old;
	int			workers;

	if (RelationGetNumberOfBlocks(index) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));

	build.context = AllocSetContextCreate(CurrentMemoryContext, "hnsw build", ALLOCSET_DEFAULT_SIZES);
	build.row_context = AllocSetContextCreate(build.context, "hnsw build row", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(build.context);
	choose_layout(&build.ix, index);
	build.ix.spec.centroid = find_centroid(&build);
	hnsw_write_empty(&build.ix, MAIN_FORKNUM);
	build.expected_rows = expected_rows(heap, index, info);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, HNSW_PHASE_LOAD);
	workers = workers_wanted(&build);
	if (workers == 0 || !hnsw_begin_parallel(&build, workers))
	{
		allocate_graph(&build, Min(most_rows(&build), build.expected_rows * 1.05 + 1024));
		hnsw_build_scan(&build, NULL);
	}
	else
		hnsw_end_parallel(&build);
	if (!build.written)
		hnsw_write_graph(&build.ix, &build.graph);
	if (build.shared != NULL)
	{
		DestroyParallelContext(build.pcxt);
		ExitParallelMode();
		dsm_detach(build.segment);
	}

	if (RelationNeedsWAL(index))
		log_newpage_range(index, MAIN_FORKNUM, 0, RelationGetNumberOfBlocks(index), true);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(build.context);

	result->heap_tuples = build.heap_rows;
	result->index_tuples = build.index_rows;
	return result;
}

/* The init fork of an unlogged index. */
void
hnsw_buildempty(Relation index)
{
	HnswIndex	ix;

	choose_layout(&ix, index);
	hnsw_write_empty(&ix, INIT_FORKNUM);
	log_newpage_range(index, INIT_FORKNUM, 0, 1, true);
}

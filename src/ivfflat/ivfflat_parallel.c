/*
 * ivfflat_parallel.c
 *		Workers that assign rows to lists while an index is built.
 *
 * The leader has the centers and shares them; every participant scans a part
 * of the table and sorts what it found, and the leader merges the sorts.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/compat.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "executor/instrument.h"
#include "ivfflat/ivfflat.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#define KEY_SHARED		UINT64CONST(0x5653495600000001)
#define KEY_SORT		UINT64CONST(0x5653495600000002)
#define KEY_CENTERS		UINT64CONST(0x5653495600000003)
#define KEY_QUERY		UINT64CONST(0x5653495600000004)
#define KEY_WAL			UINT64CONST(0x5653495600000005)
#define KEY_BUFFERS		UINT64CONST(0x5653495600000006)

typedef struct Shared
{
	/* Fixed by the leader. */
	Oid			heap;
	Oid			index;
	bool		concurrent;
	int			participants;
	int			sort_memory;	/* of each */
	int			lists;

	ConditionVariable done;
	slock_t		mutex;			/* for what follows */
	int			finished;
	double		heap_rows;
	double		rows;
	bool		broken_hot_chain;
} Shared;

struct IvfflatParallel
{
	ParallelContext *context;
	Shared	   *shared;
	Sharedsort *sort;
	Snapshot	snapshot;
	int			participants;
	WalUsage   *wal;
	BufferUsage *buffers;
};

extern PGDLLEXPORT void ivfflat_parallel_main(dsm_segment *segment, shm_toc *toc);

static ParallelTableScanDesc
shared_table_scan(Shared *shared)
{
	return (ParallelTableScanDesc) ((char *) shared + BUFFERALIGN(sizeof(Shared)));
}

/* The number of workers to ask for; the values' size outside of the table does not count for core. */
static int
count_workers(Relation heap, Relation index, IndexInfo *info)
{
	int			workers = compat_index_build_workers(heap, index, info);

	if (workers == 0)
		return 0;
	workers = RelationGetParallelWorkers(heap, -1);
	if (workers < 0)
		workers = max_parallel_maintenance_workers;
	return Min(workers, max_parallel_maintenance_workers);
}

/* Scan and sort this participant's share. */
static void
take_part(const IvfflatIndex *ix, Relation heap, Shared *shared, Sharedsort *sort,
		  const IvfflatPoints *centers, bool progress)
{
	SortCoordinateData coordinate = {.isWorker = true, .nParticipants = -1, .sharedsort = sort};
	IvfflatAssigner *assigner = ivfflat_assigner_create(ix, centers, shared->sort_memory, &coordinate);
	IndexInfo  *info = BuildIndexInfo(ix->rel);
	TableScanDesc scan = table_beginscan_parallel(heap, shared_table_scan(shared));

	info->ii_Concurrent = shared->concurrent;
	ivfflat_assigner_scan(assigner, heap, info, scan, progress);

	SpinLockAcquire(&shared->mutex);
	shared->finished++;
	shared->heap_rows += ivfflat_assigner_heap_rows(assigner);
	shared->rows += ivfflat_assigner_rows(assigner);
	if (info->ii_BrokenHotChain)
		shared->broken_hot_chain = true;
	SpinLockRelease(&shared->mutex);
	ConditionVariableSignal(&shared->done);
	tuplesort_end(ivfflat_assigner_sort(assigner));
}

void
ivfflat_parallel_main(dsm_segment *segment, shm_toc *toc)
{
	Shared	   *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	Sharedsort *sort = shm_toc_lookup(toc, KEY_SORT, false);
	char	   *query = shm_toc_lookup(toc, KEY_QUERY, true);
	WalUsage   *wal = shm_toc_lookup(toc, KEY_WAL, false);
	BufferUsage *buffers = shm_toc_lookup(toc, KEY_BUFFERS, false);
	LOCKMODE	heap_lock = shared->concurrent ? ShareUpdateExclusiveLock : ShareLock;
	LOCKMODE	index_lock = shared->concurrent ? RowExclusiveLock : AccessExclusiveLock;
	IvfflatIndex ix;
	IvfflatPoints centers;
	Relation	heap;

	debug_query_string = query;
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	heap = table_open(shared->heap, heap_lock);
	ix.rel = index_open(shared->index, index_lock);
	ix.opclass = ivfflat_opclass(ix.rel);
	ix.dims = ivfflat_column_dims(ix.rel, &ix.opclass);
	ix.lists = shared->lists;
	ivfflat_set_layout(&ix);
	ivfflat_points_init(&centers, &ix);
	centers.values = shm_toc_lookup(toc, KEY_CENTERS, false);
	centers.count = ix.lists;

	tuplesort_attach_shared(sort, segment);
	InstrStartParallelQuery();
	take_part(&ix, heap, shared, sort, &centers, false);
	InstrEndParallelQuery(&buffers[ParallelWorkerNumber], &wal[ParallelWorkerNumber]);

	index_close(ix.rel, index_lock);
	table_close(heap, heap_lock);
}

/* Lay out what is shared; false when no shared memory was to be had. */
static bool
set_up(IvfflatParallel *parallel, const IvfflatIndex *ix, Relation heap, const IvfflatPoints *centers,
	   int workers)
{
	ParallelContext *context = parallel->context;
	int			participants = workers + 1;
	Size		scan_size = table_parallelscan_estimate(heap, parallel->snapshot);
	Size		shared_size = BUFFERALIGN(sizeof(Shared)) + scan_size;
	Size		sort_size = tuplesort_estimate_shared(participants);
	Size		centers_size = centers->stride * centers->count;
	Size		query_size = debug_query_string ? strlen(debug_query_string) + 1 : 0;
	Shared	   *shared;
	char	   *copy;

	shm_toc_estimate_chunk(&context->estimator, shared_size);
	shm_toc_estimate_chunk(&context->estimator, sort_size);
	shm_toc_estimate_chunk(&context->estimator, centers_size);
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(WalUsage), workers));
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(BufferUsage), workers));
	shm_toc_estimate_keys(&context->estimator, 5);
	if (query_size > 0)
	{
		shm_toc_estimate_chunk(&context->estimator, query_size);
		shm_toc_estimate_keys(&context->estimator, 1);
	}
	InitializeParallelDSM(context);
	if (context->seg == NULL)
		return false;

	shared = parallel->shared = shm_toc_allocate(context->toc, shared_size);
	memset(shared, 0, sizeof(Shared));
	shared->heap = RelationGetRelid(heap);
	shared->index = RelationGetRelid(ix->rel);
	shared->concurrent = parallel->snapshot != SnapshotAny;
	shared->lists = ix->lists;
	ConditionVariableInit(&shared->done);
	SpinLockInit(&shared->mutex);
	table_parallelscan_initialize(heap, shared_table_scan(shared), parallel->snapshot);
	shm_toc_insert(context->toc, KEY_SHARED, shared);

	parallel->sort = shm_toc_allocate(context->toc, sort_size);
	tuplesort_initialize_shared(parallel->sort, participants, context->seg);
	shm_toc_insert(context->toc, KEY_SORT, parallel->sort);

	copy = shm_toc_allocate(context->toc, centers_size);
	memcpy(copy, centers->values, centers_size);
	shm_toc_insert(context->toc, KEY_CENTERS, copy);
	if (query_size > 0)
	{
		copy = shm_toc_allocate(context->toc, query_size);
		memcpy(copy, debug_query_string, query_size);
		shm_toc_insert(context->toc, KEY_QUERY, copy);
	}
	parallel->wal = shm_toc_allocate(context->toc, mul_size(sizeof(WalUsage), workers));
	shm_toc_insert(context->toc, KEY_WAL, parallel->wal);
	parallel->buffers = shm_toc_allocate(context->toc, mul_size(sizeof(BufferUsage), workers));
	shm_toc_insert(context->toc, KEY_BUFFERS, parallel->buffers);
	return true;
}

/* Everybody has sorted his share when as many have finished as were launched, and the leader. */
static void
wait_for_all(IvfflatParallel *parallel)
{
	Shared	   *shared = parallel->shared;

	for (;;)
	{
		bool		done;

		SpinLockAcquire(&shared->mutex);
		done = shared->finished == parallel->participants;
		SpinLockRelease(&shared->mutex);
		if (done)
			break;
		ConditionVariableSleep(&shared->done, WAIT_EVENT_PARALLEL_CREATE_INDEX_SCAN);
	}
	ConditionVariableCancelSleep();
}

/*
 * Assign all rows with the help of workers.  NULL when there are none to be
 * had; otherwise to be ended once result->sort has been read.
 */
IvfflatParallel *
ivfflat_parallel_assign(const IvfflatIndex *ix, Relation heap, IndexInfo *info, const IvfflatPoints *centers,
						IvfflatAssigned *result)
{
	int			workers = count_workers(heap, ix->rel, info);
	SortCoordinate coordinate;
	IvfflatParallel *parallel;
	Shared	   *shared;

	if (workers == 0)
		return NULL;
	parallel = palloc0(sizeof(IvfflatParallel));
	EnterParallelMode();
	parallel->context = CreateParallelContext("vector", "ivfflat_parallel_main", workers);
	parallel->snapshot = info->ii_Concurrent ? RegisterSnapshot(GetTransactionSnapshot()) : SnapshotAny;
	if (!set_up(parallel, ix, heap, centers, workers))
	{
		ivfflat_parallel_end(parallel);
		return NULL;
	}
	shared = parallel->shared;
	shared->participants = workers + 1;
	shared->sort_memory = maintenance_work_mem / shared->participants;
	LaunchParallelWorkers(parallel->context);
	parallel->participants = parallel->context->nworkers_launched + 1;
	if (parallel->context->nworkers_launched == 0)
	{
		ivfflat_parallel_end(parallel);
		return NULL;
	}
	ereport(DEBUG1, (errmsg_internal("using %d parallel workers", parallel->context->nworkers_launched)));

	take_part(ix, heap, shared, parallel->sort, centers, true);
	WaitForParallelWorkersToAttach(parallel->context);
	wait_for_all(parallel);

	coordinate = palloc0(sizeof(SortCoordinateData));
	coordinate->isWorker = false;
	coordinate->nParticipants = parallel->participants;
	coordinate->sharedsort = parallel->sort;
	result->sort = ivfflat_begin_sort(maintenance_work_mem, coordinate);
	tuplesort_performsort(result->sort);
	result->heap_rows = shared->heap_rows;
	result->rows = shared->rows;
	if (shared->broken_hot_chain)
		info->ii_BrokenHotChain = true;
	return parallel;
}

void
ivfflat_parallel_end(IvfflatParallel *parallel)
{
	WaitForParallelWorkersToFinish(parallel->context);
	for (int i = 0; i < parallel->context->nworkers_launched; i++)
		InstrAccumParallelQuery(&parallel->buffers[i], &parallel->wal[i]);
	if (IsMVCCSnapshot(parallel->snapshot))
		UnregisterSnapshot(parallel->snapshot);
	DestroyParallelContext(parallel->context);
	ExitParallelMode();
	pfree(parallel);
}

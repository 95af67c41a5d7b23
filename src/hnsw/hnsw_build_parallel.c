/*
 * hnsw_build_parallel.c
 *		Several processes build one graph in shared memory.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/compat.h"
#include "base/debug_point.h"
#include "catalog/index.h"
#include "executor/instrument.h"
#include "hnsw/hnsw_build.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#define KEY_SHARED	UINT64CONST(0x56534701)
#define KEY_SCAN	UINT64CONST(0x56534702)
#define KEY_QUERY	UINT64CONST(0x56534703)
#define KEY_WAL		UINT64CONST(0x56534704)
#define KEY_BUFFERS UINT64CONST(0x56534705)

/* One tranche for all builds since the server started: their number is limited. */
static int
build_tranche(void)
{
	bool		found;
	int		   *tranche;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	tranche = ShmemInitStruct("hnsw build tranche", sizeof(int), &found);
	if (!found)
		*tranche = LWLockNewTrancheId();
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(*tranche, "HnswBuild");
	return *tranche;
}

/*
 * A segment for the graph, or NULL when the system has not enough shared
 * memory: the subtransaction turns that error into a plain answer.
 */
static dsm_segment *
create_segment(Size size)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	dsm_segment *volatile segment = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		DEBUG_CRASH_POINT("hnsw_build_segment");
		segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
		if (segment != NULL)
			dsm_pin_mapping(segment);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		ereport(DEBUG1,
				(errmsg_internal("building without workers: %s", error->message)));
		FreeErrorData(error);
		segment = NULL;
	}
	PG_END_TRY();
	if (segment != NULL)
		dsm_unpin_mapping(segment);
	return segment;
}

static void
share_string(ParallelContext *pcxt, uint64 key, const char *string)
{
	char	   *copy = shm_toc_allocate(pcxt->toc, strlen(string) + 1);

	strcpy(copy, string);
	shm_toc_insert(pcxt->toc, key, copy);
}

static HnswShared *
create_shared(HnswBuild *build, Snapshot snapshot, dsm_segment *segment, int tranche)
{
	ParallelContext *pcxt = build->pcxt;
	HnswShared *shared = shm_toc_allocate(pcxt->toc, sizeof(HnswShared));
	ParallelTableScanDesc scan =
		shm_toc_allocate(pcxt->toc, table_parallelscan_estimate(build->heap, snapshot));

	memset(shared, 0, sizeof(HnswShared));
	shared->heap = RelationGetRelid(build->heap);
	shared->index = RelationGetRelid(build->index);
	shared->concurrent = build->info->ii_Concurrent;
	shared->graph = dsm_segment_handle(segment);
	shared->tranche = tranche;
	BarrierInit(&shared->barrier, 0);
	SpinLockInit(&shared->mutex);
	table_parallelscan_initialize(build->heap, scan, snapshot);
	shm_toc_insert(pcxt->toc, KEY_SHARED, shared);
	shm_toc_insert(pcxt->toc, KEY_SCAN, scan);
	return shared;
}

/* This process's share of the work, the same in the leader and in workers. */
static void
participate(HnswBuild *build, ParallelTableScanDesc parallel_scan)
{
	HnswShared *shared = build->shared;
	int			phase = BarrierAttach(&shared->barrier);

	hnsw_graph_attach(&build->graph, &build->ix, build->header, true);
	if (phase == 1)
		BarrierArriveAndWait(&shared->barrier, PG_WAIT_EXTENSION);
	build->written = phase > 0;
	hnsw_build_scan(build, table_beginscan_parallel(build->heap, parallel_scan));
	BarrierDetach(&shared->barrier);

	SpinLockAcquire(&shared->mutex);
	shared->heap_rows += build->heap_rows;
	shared->index_rows += build->index_rows;
	shared->broken_hot_chain |= build->info->ii_BrokenHotChain;
	SpinLockRelease(&shared->mutex);
}

/*
 * Rows no longer fit.  Wait until everyone has noticed, or has no more rows;
 * one of those waiting writes the graph.
 */
void
hnsw_graph_full_parallel(HnswBuild *build)
{
	Barrier    *barrier = &build->shared->barrier;

	if (BarrierArriveAndWait(barrier, PG_WAIT_EXTENSION))
	{
		hnsw_write_graph(&build->ix, &build->graph);
		SpinLockAcquire(&build->shared->mutex);
		build->shared->written = true;
		SpinLockRelease(&build->shared->mutex);
	}
	BarrierArriveAndWait(barrier, PG_WAIT_EXTENSION);
}

/* Start the workers and do the leader's share; false when there are none, and nothing has been done. */
bool
hnsw_begin_parallel(HnswBuild *build, int workers)
{
	double		most = (maintenance_work_mem * 1024.0 - hnsw_graph_bytes(&build->ix.spec, build->ix.m, 0)) /
		hnsw_graph_row_bytes(&build->ix.spec, build->ix.m) - 2;
	uint32		capacity = (uint32) Max(1, Min(Min(most, build->expected_rows * 1.2 + 4096), HNSW_MAX_NODES));
	int			tranche = build_tranche();
	dsm_segment *segment = create_segment(hnsw_graph_bytes(&build->ix.spec, build->ix.m, capacity));
	Snapshot	snapshot;
	ParallelContext *pcxt;
	const char *query = debug_query_string != NULL ? debug_query_string : "";

	if (segment == NULL)
		return false;
	build->header = dsm_segment_address(segment);
	hnsw_graph_create(build->header, capacity, tranche);

	EnterParallelMode();
	pcxt = CreateParallelContext("vector", "hnsw_build_worker", workers);
	build->pcxt = pcxt;
	snapshot = build->info->ii_Concurrent ? RegisterSnapshot(GetTransactionSnapshot()) : SnapshotAny;
	shm_toc_estimate_chunk(&pcxt->estimator, sizeof(HnswShared));
	shm_toc_estimate_chunk(&pcxt->estimator, table_parallelscan_estimate(build->heap, snapshot));
	shm_toc_estimate_chunk(&pcxt->estimator, strlen(query) + 1);
	shm_toc_estimate_chunk(&pcxt->estimator, mul_size(sizeof(WalUsage), pcxt->nworkers));
	shm_toc_estimate_chunk(&pcxt->estimator, mul_size(sizeof(BufferUsage), pcxt->nworkers));
	shm_toc_estimate_keys(&pcxt->estimator, 5);
	InitializeParallelDSM(pcxt);
	if (pcxt->seg != NULL)
	{
		build->shared = create_shared(build, snapshot, segment, tranche);
		share_string(pcxt, KEY_QUERY, query);
		shm_toc_insert(pcxt->toc, KEY_WAL,
					   shm_toc_allocate(pcxt->toc, mul_size(sizeof(WalUsage), pcxt->nworkers)));
		shm_toc_insert(pcxt->toc, KEY_BUFFERS,
					   shm_toc_allocate(pcxt->toc, mul_size(sizeof(BufferUsage), pcxt->nworkers)));
		LaunchParallelWorkers(pcxt);
		ereport(DEBUG1, (errmsg_internal("using %d parallel workers, with room for %u rows",
								 pcxt->nworkers_launched, capacity)));
	}
	if (pcxt->seg == NULL || pcxt->nworkers_launched == 0)
	{
		WaitForParallelWorkersToFinish(pcxt);
		if (IsMVCCSnapshot(snapshot))
			UnregisterSnapshot(snapshot);
		DestroyParallelContext(pcxt);
		ExitParallelMode();
		dsm_detach(segment);
		build->shared = NULL;
		return false;
	}
	build->segment = segment;
	WaitForParallelWorkersToAttach(pcxt);
	participate(build, shm_toc_lookup(pcxt->toc, KEY_SCAN, false));
	WaitForParallelWorkersToFinish(pcxt);
	if (IsMVCCSnapshot(snapshot))
		UnregisterSnapshot(snapshot);
	return true;
}

/* Gather what the workers have counted. */
void
hnsw_end_parallel(HnswBuild *build)
{
	HnswShared *shared = build->shared;
	WalUsage   *wal = shm_toc_lookup(build->pcxt->toc, KEY_WAL, false);
	BufferUsage *buffers = shm_toc_lookup(build->pcxt->toc, KEY_BUFFERS, false);

	for (int i = 0; i < build->pcxt->nworkers_launched; i++)
		InstrAccumParallelQuery(&buffers[i], &wal[i]);
	build->heap_rows = shared->heap_rows;
	build->index_rows = shared->index_rows;
	build->info->ii_BrokenHotChain = shared->broken_hot_chain;
	build->written = shared->written;
}

/* A worker's life. */
void
hnsw_build_worker(dsm_segment *segment, shm_toc *toc)
{
	HnswShared *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	WalUsage   *wal = shm_toc_lookup(toc, KEY_WAL, false);
	BufferUsage *buffers = shm_toc_lookup(toc, KEY_BUFFERS, false);
	LOCKMODE	heap_lock = shared->concurrent ? ShareUpdateExclusiveLock : ShareLock;
	LOCKMODE	index_lock = shared->concurrent ? RowExclusiveLock : AccessExclusiveLock;
	HnswBuild	build = {.shared = shared};

	debug_query_string = shm_toc_lookup(toc, KEY_QUERY, false);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	LWLockRegisterTranche(shared->tranche, "HnswBuild");
	build.segment = dsm_attach(shared->graph);
	if (build.segment == NULL)
		elog(ERROR, "could not map the shared graph");
	build.header = dsm_segment_address(build.segment);
	build.heap = table_open(shared->heap, heap_lock);
	build.index = index_open(shared->index, index_lock);
	build.info = BuildIndexInfo(build.index);
	build.info->ii_Concurrent = shared->concurrent;
	build.context = AllocSetContextCreate(CurrentMemoryContext, "hnsw build", ALLOCSET_DEFAULT_SIZES);
	build.row_context = AllocSetContextCreate(build.context, "hnsw build row", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(build.context);
	hnsw_open(&build.ix, build.index);

	InstrStartParallelQuery();
	DEBUG_POINT("hnsw_build_worker");
	participate(&build, shm_toc_lookup(toc, KEY_SCAN, false));
	InstrEndParallelQuery(&buffers[ParallelWorkerNumber], &wal[ParallelWorkerNumber]);

	dsm_detach(build.segment);
	index_close(build.index, index_lock);
	table_close(build.heap, heap_lock);
}

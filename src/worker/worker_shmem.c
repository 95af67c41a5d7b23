/*
 * worker_shmem.c
 *		What sessions, launcher and workers share.
 *
 * No pointer here leads into a process's own memory: latches are those of
 * PGPROCs, which live in shared memory for as long as the server.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "queue/queue.h"
#include "worker/worker.h"

#define TRANCHE "vecsync"

WorkerShared *worker_shared = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
shmem_request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(WorkerShared)));
	RequestNamedLWLockTranche(TRANCHE, 1);
	queue_shared_request();
	worker_query_cache_request();
	worker_activity_request();
}

static void
shmem_startup(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	worker_shared = ShmemInitStruct("vecsync", sizeof(WorkerShared), &found);
	if (!found)
	{
		memset(worker_shared, 0, sizeof(WorkerShared));
		worker_shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		pg_atomic_init_u64(&worker_shared->config_generation, 1);
		ConditionVariableInit(&worker_shared->progressed);
		for (int i = 0; i < WORKER_MAX_DATABASES; i++)
			pg_atomic_init_u32(&worker_shared->databases[i].rows_changed, 0);
	}
	queue_shared_startup();
	worker_query_cache_startup();
	worker_activity_startup();
	LWLockRelease(AddinShmemInitLock);
}

void
worker_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	queue_commit_hook = worker_on_commit;
}

/* On a standby each process counts for itself. */
#define STANDBY_GENERATION	(UINT64CONST(1) << 63)

static uint64 standby_changes = 0;

static void
relation_changed(Datum arg, Oid relid)
{
	standby_changes++;
}

/*
 * On a standby no session commits changes and tells the others.  But replayed
 * commits bring the primary's invalidations, and those of the configuration's
 * tables are among them (catalog_config_changed).
 */
static uint64
standby_generation(void)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	registered = true;
	return STANDBY_GENERATION + standby_changes;
}

/*
 * Changes whenever a cache of models or vectorizers may be stale; 0 when nobody
 * would tell.  On a standby the number means something in this process only.
 */
uint64
worker_config_generation(void)
{
	if (worker_shared == NULL)
		return 0;
	if (RecoveryInProgress())
		return standby_generation();
	return pg_atomic_read_u64(&worker_shared->config_generation);
}

WorkerDatabase *
worker_find_database(Oid database, bool create)
{
	WorkerDatabase *free_slot = NULL;
	WorkerDatabase *result = NULL;

	LWLockAcquire(worker_shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < WORKER_MAX_DATABASES && result == NULL; i++)
	{
		WorkerDatabase *slot = &worker_shared->databases[i];

		if (slot->state == WORKER_UNUSED)
			free_slot = free_slot ? free_slot : slot;
		else if (slot->database == database)
			result = slot;
	}
	if (result == NULL && create && free_slot != NULL)
	{
		free_slot->database = database;
		free_slot->state = WORKER_WANTED;
		free_slot->pid = 0;
		free_slot->latch = NULL;
		free_slot->next_start = 0;
		free_slot->hold_until = 0;
		free_slot->restarts = 0;
		free_slot->no_slot = false;
		pg_atomic_write_u32(&free_slot->rows_changed, 0);
		result = free_slot;
	}
	LWLockRelease(worker_shared->lock);
	return result;
}

/*
 * After a commit that changed the queue or the configuration.  Must not fail.
 * The slot is remembered: a database keeps it while it exists.
 *
 * A worker that is not asleep looks at rows_changed before it sleeps, so most
 * commits of a busy database wake nobody.  The barrier is the counterpart of
 * the one in the worker's wait_for_work().
 */
void
worker_on_commit(int changed)
{
	static WorkerDatabase *slot = NULL;
	bool		wanted = false;
	Latch	   *latch;

	if (worker_shared == NULL)
		return;
	if (changed & QUEUE_CHANGED_CONFIG)
		pg_atomic_fetch_add_u64(&worker_shared->config_generation, 1);
	if (slot == NULL || slot->database != MyDatabaseId || slot->state == WORKER_UNUSED)
	{
		slot = worker_find_database(MyDatabaseId, true);
		wanted = true;			/* perhaps the slot is new */
	}
	if (slot == NULL)
		return;

	pg_atomic_write_u32(&slot->rows_changed, 1);
	pg_memory_barrier();
	latch = slot->latch;
	if (latch != NULL)
	{
		if (slot->asleep || (changed & QUEUE_CHANGED_CONFIG))
			SetLatch(latch);
		return;
	}
	if (slot->state == WORKER_ABSENT)
	{
		LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
		if (slot->state == WORKER_ABSENT)
		{
			slot->state = WORKER_WANTED;
			slot->next_start = 0;
		}
		LWLockRelease(worker_shared->lock);
		wanted = true;
	}
	/* one that is to start later, or never, is on the launcher's mind already */
	latch = worker_shared->launcher;
	if (wanted && latch != NULL)
		SetLatch(latch);
}

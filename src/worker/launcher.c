/*
 * launcher.c
 *		Finds the databases that have vecsync and keeps a worker in each.
 *
 * At start, and whenever a database appears, a worker is started in it once;
 * it leaves at once when the database has no vecsync.  Every commit that changes
 * configuration or queue asks for one by a slot in shared memory.  A worker that
 * fails is started again, after a pause that doubles from one second to one
 * minute while the failures go on.
 *
 * The launcher is the only one that moves slots from WANTED to STARTING and
 * that frees them; handles of the background workers are its own.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "queue/queue.h"
#include "worker/worker.h"

#define RESTART_MIN_MS		1000
#define RESTART_MAX_MS		60000
#define RUN_LONG_MS			60000	/* a worker that ran this long starts the pauses anew */
#define RESCAN_MS			60000
#define NO_SLOT_MS			5000

static BackgroundWorkerHandle *handles[WORKER_MAX_DATABASES];

static void
launcher_detach(int code, Datum arg)
{
	worker_shared->launcher = NULL;
}

/* Give every connectable database a slot, and free the slots of those that are gone. */
static void
scan_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *databases = NIL;
	List	   *gone = NIL;
	ListCell   *lc;
	MemoryContext context = CurrentMemoryContext;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!form->datallowconn || form->datistemplate || compat_database_is_invalid(form))
			continue;
		old = MemoryContextSwitchTo(context);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WORKER_MAX_DATABASES; i++)
	{
		WorkerDatabase *slot = &worker_shared->databases[i];

		if ((slot->state == WORKER_WANTED || slot->state == WORKER_ABSENT) && handles[i] == NULL &&
			!list_member_oid(databases, slot->database))
		{
			slot->state = WORKER_UNUSED;
			gone = lappend_oid(gone, slot->database);
		}
	}
	LWLockRelease(worker_shared->lock);
	foreach(lc, gone)
		queue_database_gone(lfirst_oid(lc));
	foreach(lc, databases)
		(void) worker_find_database(lfirst_oid(lc), true);
	list_free(gone);
	list_free(databases);
}

static void
start_worker(int i)
{
	WorkerDatabase *slot = &worker_shared->databases[i];
	BackgroundWorker worker = {0};
	bool		registered;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(i);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "vecsync", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "vecsync worker for database %u", slot->database);
	strlcpy(worker.bgw_type, "vecsync worker", BGW_MAXLEN);

	/* before it is registered: a process that finds another state is not the one that is wanted */
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->state = WORKER_STARTING;
	LWLockRelease(worker_shared->lock);
	registered = RegisterDynamicBackgroundWorker(&worker, &handles[i]);
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->no_slot = !registered;
	if (!registered)
	{
		handles[i] = NULL;
		slot->state = WORKER_WANTED;
		slot->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_SLOT_MS);
	}
	LWLockRelease(worker_shared->lock);
}

/* A worker's process has ended: what next? */
static void
worker_ended(int i)
{
	WorkerDatabase *slot = &worker_shared->databases[i];
	TimestampTz now = GetCurrentTimestamp();

	pfree(handles[i]);
	handles[i] = NULL;
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	if (slot->state != WORKER_ABSENT)
	{
		if (slot->started_at != 0 && TimestampDifferenceExceeds(slot->started_at, now, RUN_LONG_MS))
			slot->restarts = 0;
		slot->next_start = TimestampTzPlusMilliseconds(now, Min(RESTART_MIN_MS << Min(slot->restarts, 10),
																RESTART_MAX_MS));
		slot->next_start = Max(slot->next_start, slot->hold_until);
		slot->restarts++;
		slot->state = WORKER_WANTED;
	}
	LWLockRelease(worker_shared->lock);
}

/*
 * The slot speaks of a worker that we have not started, but a launcher before us.  If it has not left, it is
 * to do that before another one comes: under the lock the number is that of a process that has not ended.
 */
static void
replace_stray(WorkerDatabase *slot)
{
	pid_t		pid;

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->state = WORKER_WANTED;
	slot->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RESTART_MIN_MS);
	pid = slot->pid;
	if (pid != 0)
		kill(pid, SIGTERM);
	LWLockRelease(worker_shared->lock);
	if (pid != 0)
		ereport(LOG, errmsg("vecsync launcher ends process %d, a worker of the launcher before it",
							(int) pid));
}

/* One look at all slots.  Returns how long to sleep. */
static long
tend_workers(void)
{
	long		sleep_ms = RESCAN_MS;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < WORKER_MAX_DATABASES; i++)
	{
		WorkerDatabase *slot = &worker_shared->databases[i];
		pid_t		pid;

		/* no pause is longer: the clock was set back */
		if (slot->state == WORKER_WANTED &&
			slot->next_start > TimestampTzPlusMilliseconds(now, RESTART_MAX_MS))
		{
			LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
			slot->next_start = slot->hold_until = 0;
			LWLockRelease(worker_shared->lock);
		}

		if (handles[i] != NULL && GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED)
			worker_ended(i);
		if (handles[i] == NULL &&
			(slot->state == WORKER_STARTING || slot->state == WORKER_RUNNING ||
			 (slot->state == WORKER_WANTED && slot->pid != 0 && slot->next_start <= now)))
			replace_stray(slot);
		if (slot->state == WORKER_WANTED && handles[i] == NULL && worker_enabled)
		{
			if (slot->next_start <= now)
				start_worker(i);
			if (slot->state == WORKER_WANTED)
				sleep_ms = Min(sleep_ms, Max(10, TimestampDifferenceMilliseconds(now, slot->next_start)));
		}
	}
	return sleep_ms;
}

void
launcher_main(Datum arg)
{
	TimestampTz last_scan = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* no database: only the shared catalogs */
	BackgroundWorkerInitializeConnectionByOid(InvalidOid, InvalidOid, 0);

	before_shmem_exit(launcher_detach, (Datum) 0);
	worker_shared->launcher = MyLatch;

	for (;;)
	{
		long		sleep_ms;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (last_scan == 0 || TimestampDifferenceExceeds(last_scan, GetCurrentTimestamp(), RESCAN_MS))
		{
			scan_databases();
			last_scan = GetCurrentTimestamp();
		}
		sleep_ms = tend_workers();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, sleep_ms,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * Not while pg_upgrade has the server: it dumps and restores the schema, then moves
 * the files, and between the two nothing may change, in the old cluster or in the
 * new one, whose tables have no rows yet.
 */
void
launcher_register(void)
{
	BackgroundWorker worker = {0};

	if (IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "vecsync", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "vecsync launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "vecsync launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

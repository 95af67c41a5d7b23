/*
 * worker_database.c
 *		Workers make way for commands that want a database to themselves.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE and CREATE
 * DATABASE ... TEMPLATE refuse to run while anybody is connected.  A worker
 * is nobody the user could know of, so it leaves first and comes back a
 * little later, if there is still something to come back to.
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "worker/worker.h"

#define HOLD_MS		10000		/* a worker stays away so long */
#define LEAVE_MS	5000		/* it may take so long to leave */

static ProcessUtility_hook_type previous_utility_hook = NULL;

static char *
option_string(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return defGetString(option);
	}
	return NULL;
}

/* The database that the statement wants for itself, or NULL. */
static const char *
wanted_database(Node *statement)
{
	if (IsA(statement, DropdbStmt))
		return ((DropdbStmt *) statement)->dbname;
	if (IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
		return ((RenameStmt *) statement)->subname;
	if (IsA(statement, AlterDatabaseStmt) &&
		option_string(((AlterDatabaseStmt *) statement)->options, "tablespace"))
		return ((AlterDatabaseStmt *) statement)->dbname;
	if (IsA(statement, CreatedbStmt))
		return option_string(((CreatedbStmt *) statement)->options, "template");
	return NULL;
}

static WorkerDatabase *
send_worker_away(const char *name, bool owner_only)
{
	Oid			database = get_database_oid(name, true);
	WorkerDatabase *slot;
	TimestampTz start = GetCurrentTimestamp();
	pid_t		pid;

	if (!OidIsValid(database) || (owner_only && !compat_database_owned(database, GetUserId())))
		return NULL;
	slot = worker_find_database(database, false);
	if (slot == NULL)
		return NULL;

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->hold_until = TimestampTzPlusMilliseconds(start, HOLD_MS);
	slot->next_start = Max(slot->next_start, slot->hold_until);
	pid = slot->pid;
	if (pid != 0)				/* so it has not ended */
		kill(pid, SIGTERM);
	LWLockRelease(worker_shared->lock);
	/* until the launcher has seen it, too: what it decides then would undo let_worker_back() */
	while (pid != 0 &&
		   (slot->pid == pid || slot->state == WORKER_STARTING || slot->state == WORKER_RUNNING) &&
		   !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), LEAVE_MS))
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return slot;
}

/* The command is through, and the database still there. */
static void
let_worker_back(WorkerDatabase *slot)
{
	Latch	   *launcher;

	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->hold_until = slot->next_start = 0;
	launcher = worker_shared->launcher;
	LWLockRelease(worker_shared->lock);
	if (launcher != NULL)
		SetLatch(launcher);
}

/* The database is gone: nobody starts a worker for it, and the launcher frees the slot at its next look. */
static void
forget_worker(WorkerDatabase *slot)
{
	LWLockAcquire(worker_shared->lock, LW_EXCLUSIVE);
	slot->state = WORKER_ABSENT;
	LWLockRelease(worker_shared->lock);
}

static void
database_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *queryEnv,
				 DestReceiver *dest, QueryCompletion *qc)
{
	const char *name = worker_shared ? wanted_database(pstmt->utilityStmt) : NULL;
	bool		dropped = IsA(pstmt->utilityStmt, DropdbStmt);
	WorkerDatabase *slot = NULL;

	if (name != NULL)
		slot = send_worker_away(name, !IsA(pstmt->utilityStmt, CreatedbStmt));
	if (previous_utility_hook)
		previous_utility_hook(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	if (slot != NULL && dropped)
		forget_worker(slot);
	else if (slot != NULL)
		let_worker_back(slot);
}

void
worker_database_init(void)
{
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = database_utility;
}

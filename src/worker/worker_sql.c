/*
 * worker_sql.c
 *		Transactions of the worker.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "worker/worker_state.h"

/* How long, at most, until we look again whether somebody still has a table of ours to himself. */
#define HELD_UP_MAX_MS	1000

/* ---- our own tables --------------------------------------------------------------- */

/* What transactions of the worker read and write, and how. */
static const struct
{
	const char *name;
	LOCKMODE	mode;
}			own_tables[] = {
	{"model", AccessShareLock},
	{"secret", AccessShareLock},
	{"vectorizer", AccessShareLock},
	{"queue", RowExclusiveLock},
	{"dead_letter", RowExclusiveLock},
	{"digest", RowExclusiveLock},
	{"operation_batch", RowExclusiveLock},
};

/* False: somebody has one of them to himself, and we do not wait. */
static bool
lock_own_tables_now(void)
{
	Oid			schema = get_namespace_oid("vecsync", false);

	for (int i = 0; i < lengthof(own_tables); i++)
	{
		Oid			relid = get_relname_relid(own_tables[i].name, schema);

		/* an installation not yet updated lacks some */
		if (OidIsValid(relid) && !ConditionalLockRelationOid(relid, own_tables[i].mode))
			return false;
	}
	return true;
}

/* The same, but stand in line for as long as lock_timeout lets us: VACUUM gives way to who does. */
static void
lock_own_tables(void *arg)
{
	Oid			schema = get_namespace_oid("vecsync", false);

	for (int i = 0; i < lengthof(own_tables); i++)
	{
		Oid			relid = get_relname_relid(own_tables[i].name, schema);

		if (OidIsValid(relid))
			LockRelationOid(relid, own_tables[i].mode);
	}
}

/*
 * VACUUM FULL or REINDEX of a large table of ours takes as long as it takes.  All that the transaction needs
 * is locked before it locks anything of others, so that nobody waits for us who wait.  When this fails the
 * transaction must end.
 */
static bool
own_tables_locked(void)
{
	ErrorData  *error;

	if (lock_own_tables_now() || (error = worker_try(lock_own_tables, NULL)) == NULL)
	{
		MyWorker->held_up_until = 0;
		MyWorker->held_up_times = 0;
		return true;
	}
	if (!worker_passing_error(error))
		ThrowErrorData(error);
	FreeErrorData(error);
	MyWorker->held_up_until =
		worker_from_now(Min(WORKER_LOCKED_RETRY_MS << Min(MyWorker->held_up_times, 10), HELD_UP_MAX_MS));
	MyWorker->held_up_times++;
	return false;
}

bool
worker_held_up(TimestampTz *when)
{
	if (MyWorker->held_up_until <= GetCurrentTimestamp())
		return false;
	*when = Min(*when, MyWorker->held_up_until);
	return true;
}

/* ---- transactions ------------------------------------------------------------------ */

/* Is this still the extension that all that we know is about? */
static bool
same_extension(void)
{
	Oid			extension = catalog_extension();

	if (!OidIsValid(MyWorker->extension))
		MyWorker->extension = extension;
	MyWorker->replaced = OidIsValid(extension) && extension != MyWorker->extension;
	return OidIsValid(extension) && !MyWorker->replaced;
}

bool
worker_begin(const char *activity)
{
	pgstat_report_activity(STATE_RUNNING, activity);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MyWorker->gone = !same_extension();
	if (MyWorker->gone || !own_tables_locked())
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(WorkerContext);
		pgstat_report_activity(STATE_IDLE, NULL);
		MyWorker->queue_read_at = 0;	/* the next turn reads the queue, or leaves */
		return false;
	}
	SPI_connect();
	return true;
}

/* ---- as the owner ----------------------------------------------------------------- */

/* SET CONSTRAINTS ALL IMMEDIATE: also fires what waits. */
static void
constraints_immediate(void)
{
	AfterTriggerSetState(makeNode(ConstraintsSetStmt));
}

/*
 * As an owner with what an owner's code sees: his name, the database's
 * search_path, and settings that end with the scope.  The restricted context
 * keeps his functions from changing roles.
 *
 * Deferred triggers of the table run at once, so that they run as the owner
 * and their errors are the row's: at commit we would be the superuser, and an
 * error would end the process.  What the owner's code defers once more is
 * refused by the server: no trigger waits in a restricted operation.
 */
void
worker_enter_owner(WorkerVectorizer *v, CatalogScope *scope)
{
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	scope->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(v->owner, scope->save_sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("search_path", MyWorker->default_search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	constraints_immediate();
}

void
worker_leave_owner(CatalogScope *scope)
{
	constraints_immediate();
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
}

void
worker_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(WorkerContext);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

ErrorData *
worker_try(void (*function) (void *), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		function(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

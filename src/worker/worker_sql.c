/*
 * worker_sql.c
 *		Transactions of the worker.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "worker/worker_state.h"

bool
worker_begin(const char *activity)
{
	Oid			extension;

	pgstat_report_activity(STATE_RUNNING, activity);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	extension = catalog_extension();
	if (!OidIsValid(MyWorker->extension))
		MyWorker->extension = extension;
	MyWorker->replaced = OidIsValid(extension) && extension != MyWorker->extension;
	if (!OidIsValid(extension) || MyWorker->replaced)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		pgstat_report_activity(STATE_IDLE, NULL);
		MyWorker->queue_read_at = 0;	/* the next turn reads the queue, and leaves */
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

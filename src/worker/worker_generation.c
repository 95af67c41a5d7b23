/*
 * worker_generation.c
 *		Generations of a vectorizer: the index that waits for its rows, the
 *		cut-over, and the end of those that were replaced.
 *
 * Each step is one transaction that runs a SQL function of
 * sql/install/vecsync/32_generation.sql as the table's owner.  It waits for a lock
 * only for a moment, because whoever comes later waits behind it; after a failure it
 * is tried again, later each time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "worker/worker_state.h"

#define NEARLY_ROWS			256		/* pending at most, or the cut-over is not tried */
#define LOCK_WAIT			"100ms"
#define LOCK_RETRY_MS		200		/* doubling ... */
#define LOCK_RETRY_MAX_MS	10000
#define BEHIND_RETRY_MS		100
#define MAX_HOLDS			5		/* in a row, of the serving generation ... */
#define HOLD_AGAIN_MS		3000	/* ... until then */
#define FAILED_RETRY_MS		5000	/* rows that failed: somebody has to look at them */
#define HORIZON_RETRY_MS	1000	/* somebody still sees what was before */

/* A generation that was replaced, and is to be dropped. */
typedef struct Retired
{
	int			id;
	Oid			source;
	TimestampTz due;
	int			tries;
} Retired;

static List *retired = NIL;

/* The configuration is about to be read anew. */
void
worker_generations_reset(void)
{
	list_free_deep(retired);
	retired = NIL;
}

void
worker_note_retired(const CatalogVectorizer *def)
{
	MemoryContext old = MemoryContextSwitchTo(WorkerContext);
	Retired    *r = palloc0(sizeof(Retired));

	r->id = def->id;
	r->source = def->source;
	retired = lappend(retired, r);
	MemoryContextSwitchTo(old);
}

/* ---- a step ------------------------------------------------------------------------- */

typedef struct Step
{
	const char *sql;			/* one value, of the generation's number */
	int			id;
	Oid			owner;
	char	   *result;			/* as text */
} Step;

static void
run_step(void *arg)
{
	Step	   *step = arg;
	WorkerVectorizer as = {.owner = step->owner};
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(step->id);

	worker_enter_owner(&as, &scope);
	(void) set_config_option("lock_timeout", LOCK_WAIT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	if (SPI_execute_with_args(step->sql, 1, &type, &id, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "\"%s\" gave no row", step->sql);
	step->result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	worker_leave_owner(&scope);
}

/* Inside a transaction.  The error that rolled it back, or NULL. */
static ErrorData *
try_step(Step *step, Oid source)
{
	step->owner = catalog_relation_owner(source);
	if (!OidIsValid(step->owner))
		return NULL;			/* it goes with its table */
	return worker_try(run_step, step);
}

static int64
lock_retry_ms(int tries)
{
	return Min((int64) LOCK_RETRY_MS << Min(tries, 10), LOCK_RETRY_MAX_MS);
}

/* ---- cut-over --------------------------------------------------------------------------- */

static WorkerVectorizer *
find_vectorizer(int id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);

		if (v->def->id == id)
			return v;
	}
	return NULL;
}

/* Is it worth asking whether this next generation is complete? */
static bool
nearly_complete(const WorkerVectorizer *v)
{
	return v->def->successor_of != 0 && !v->def->paused && (v->def->auto_cutover || v->def->pending_index) &&
		v->read_sql != NULL && v->source->nitems <= NEARLY_ROWS && !queue_window_scanning(v->source);
}

/* What to do about what it lacked, or about the error. */
static void
plan_next_try(WorkerVectorizer *v, const char *lack, ErrorData *error)
{
	int64		ms = BEHIND_RETRY_MS;

	if (error != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		ms = lock_retry_ms(v->cutover_tries++);
	else if (error != NULL)
	{
		ms = worker_backoff_ms(++v->cutover_tries);
		worker_note_error(v, error->message);
		ereport(LOG, errmsg("vectorizer \"%s\": %s", v->def->name, error->message));
	}
	else if (lack != NULL && strcmp(lack, "failed") == 0)
		ms = FAILED_RETRY_MS;
	else if (lack != NULL && strcmp(lack, "pending") == 0)
	{
		/*
		 * Let it catch up: for a moment, what is new waits for both of them, and the next one's is done
		 * first.  Not for long, since its service may be slower; not at all while that one fails.
		 */
		WorkerVectorizer *serving = find_vectorizer(v->def->successor_of);

		if (serving != NULL && v->model != NULL && v->model->failures == 0 && v->cutover_holds++ < MAX_HOLDS)
			serving->not_before = Max(serving->not_before, worker_from_now(2 * BEHIND_RETRY_MS));
		else
		{
			v->cutover_holds = 0;
			ms = HOLD_AGAIN_MS;
		}
	}
	v->cutover_at = worker_from_now(ms);
}

/* Take the next step of a generation in the making.  Returns whether the configuration was read anew. */
static bool
advance(WorkerVectorizer *v)
{
	Step		step = {.id = v->def->id};
	ErrorData  *error;

	if (!worker_begin("changing generations"))
		return false;
	if (worker_config_load())
	{
		worker_commit();
		return true;
	}
	step.sql = v->def->pending_index ? "SELECT vecsync._build_pending_index($1)"
		: "SELECT vecsync._cut_over($1, false)";
	error = try_step(&step, v->def->source);
	plan_next_try(v, step.result, error);
	if (error == NULL)
		DEBUG_POINT("worker_cut_over");
	else
		FreeErrorData(error);
	worker_commit();
	return false;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void
drop_retired(Retired *r)
{
	Step		step = {.sql = "SELECT vecsync._drop_retired($1)", .id = r->id};
	ErrorData  *error;

	if (!worker_begin("dropping a generation"))
		return;
	r->due = worker_from_now(HORIZON_RETRY_MS);
	error = try_step(&step, r->source);
	if (error != NULL)
	{
		r->due = worker_from_now(lock_retry_ms(r->tries++));
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		{
			r->due = worker_from_now(worker_backoff_max);
			ereport(LOG, errmsg("vectorizer number %d, which was replaced, cannot be dropped: %s", r->id,
								error->message));
		}
		FreeErrorData(error);
	}
	else
		MyWorker->entries_left = true;
	worker_commit();
}

/* Everything that is due.  True: look at everything anew.  Lowers 'when' to the next time. */
bool
worker_generations(TimestampTz *when)
{
	dlist_iter	iter;
	ListCell   *lc;
	TimestampTz now = GetCurrentTimestamp();

	dlist_foreach(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);

		if (!nearly_complete(v))
			continue;
		if (v->cutover_at <= now && advance(v))
			return true;		/* v may be gone */
		*when = Min(*when, v->cutover_at);
	}
	foreach(lc, retired)
	{
		Retired    *r = lfirst(lc);

		if (r->due <= now)
			drop_retired(r);
		*when = Min(*when, r->due);
	}
	return false;
}

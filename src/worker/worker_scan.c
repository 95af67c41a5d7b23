/*
 * worker_scan.c
 *		Backfill: the keys of a whole table, a chunk at a time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "worker/worker_state.h"

typedef struct ScanArgs
{
	WorkerVectorizer *v;
	QueueScan  *scan;
} ScanArgs;

ArrayType **
worker_scan_keys(WorkerVectorizer *v, ArrayType *after, int *nkeys)
{
	CatalogScope scope;
	Oid			types[INDEX_MAX_KEYS];
	Datum	   *texts;
	int			n;
	int			code;
	ArrayType **keys;

	deconstruct_array(after, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	for (int i = 0; i < n; i++)
		types[i] = TEXTOID;
	worker_enter_owner(v, &scope);
	/* the keys' texts are those of queue_key_string() */
	(void) set_config_option("timezone", "UTC", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	/*
	 * Not "read-only", which would be by a snapshot of before the locks: in a partition that was written anew
	 * meanwhile it would see no row.
	 */
	if (n == 0)
		code = SPI_execute(v->scan_first_sql, false, 0);
	else
		code = SPI_execute_with_args(v->scan_next_sql, n, types, texts, NULL, false, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not scan the rows of vectorizer \"%s\"", v->def->name);
	*nkeys = (int) SPI_processed;
	keys = palloc(sizeof(ArrayType *) * Max(*nkeys, 1));
	for (int i = 0; i < *nkeys; i++)
	{
		bool		isnull;

		keys[i] = DatumGetArrayTypePCopy(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	worker_leave_owner(&scope);
	return keys;
}

static void
scan_rows(void *arg)
{
	ScanArgs   *s = arg;
	WorkerVectorizer *v = s->v;
	ArrayType **keys;
	int			nkeys;
	int64		rows = -1;
	int64		filled;

	keys = worker_scan_keys(v, s->scan->after, &nkeys);
	/* from here on nothing fails that would be rolled back alone, with the entry where it was */
	if (!s->scan->counted)
		rows = worker_count_rows(v->def->source, NULL, &filled);
	if (rows >= 0)
		queue_window_scan_count(v->source, rows);
	queue_window_scan_chunk(v->source, keys, nkeys, nkeys < WORKER_SCAN_ROWS);
}

/* Read the next chunk of keys of a backfill, when it wants one.  Inside a transaction. */
void
worker_feed_scan(WorkerVectorizer *v)
{
	QueueScan  *scan = queue_window_scan(v->source);
	ScanArgs	args = {.v = v, .scan = scan};
	ErrorData  *error;

	if (scan == NULL || v->read_sql == NULL)
		return;
	if (!worker_lock_source(v))
		return;
	error = worker_try(scan_rows, &args);
	if (error != NULL)
		worker_own_failure(v, error);
	else
		queue_window_finish(MyWorker->window);
}

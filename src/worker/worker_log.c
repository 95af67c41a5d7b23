/*
 * worker_log.c
 *		The operation log: what was done to which row, and when.
 *
 * A write-back of up to max_batch rows is one row of vecsync.operation_batch, which holds the keys as one
 * array, a letter for each row and the digests of its texts before and after; vecsync.operation takes it
 * apart for the reader.  So a logged row costs some bytes of a tuple and no tuple of its own.  The log is
 * written in the transaction that writes the vectors, so both are there or none.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "queue/digest.h"
#include "worker/worker_state.h"

/* Old entries are looked for this often, or more often where they live shorter. */
#define EXPIRE_INTERVAL_S	600
#define EXPIRE_BATCH		5000

int			worker_log_retention = 7 * 24 * 3600;

struct WorkerLog
{
	StringInfoData operations;
	Datum	   *keys;			/* text, row after row */
	int			nkeys;
	int			maxkeys;
	Datum	   *attempts;
	Datum	   *old_digests;	/* of the text of the row's vector before; with nulls */
	bool	   *no_old;
	Datum	   *new_digests;
	bool	   *no_new;
	TimestampTz queued_at;		/* of the oldest row */
};

/* Milliseconds since 1970 in front, as in version 7; the last 16 bits are 0 for the rows' numbers. */
static pg_uuid_t *
time_uuid(TimestampTz time, bool random)
{
	pg_uuid_t  *uuid = palloc0(sizeof(pg_uuid_t));
	int64		days = POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE;
	int64		ms = time / 1000 + days * SECS_PER_DAY * INT64CONST(1000);

	for (int i = 0; i < 6; i++)
		uuid->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	if (random)
		for (int i = 6; i < 14; i++)
			uuid->data[i] = (unsigned char) pg_prng_uint32(&pg_global_prng_state);
	uuid->data[6] = (uuid->data[6] & 0x0f) | 0x70;
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
	return uuid;
}

/* For up to maxrows rows; NULL, which the others take, when nothing is logged.  In the current context. */
WorkerLog *
worker_log_begin(int maxrows)
{
	WorkerLog  *log;

	if (worker_log_retention == 0)
		return NULL;
	log = palloc0(sizeof(WorkerLog));
	initStringInfo(&log->operations);
	log->attempts = palloc(sizeof(Datum) * maxrows);
	log->old_digests = palloc(sizeof(Datum) * maxrows);
	log->no_old = palloc(sizeof(bool) * maxrows);
	log->new_digests = palloc(sizeof(Datum) * maxrows);
	log->no_new = palloc(sizeof(bool) * maxrows);
	log->queued_at = DT_NOEND;
	return log;
}

/* Note a row before its item is given up.  text: what its vector is of now, or NULL. */
void
worker_log_row(WorkerLog *log, const QueueItem *item, char operation, const char *text)
{
	Datum	   *elems;
	int			n;
	int			row;

	if (log == NULL)
		return;
	deconstruct_array(item->key, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	if (log->nkeys + n > log->maxkeys)
	{
		log->maxkeys = Max(2 * log->maxkeys, log->nkeys + n + 64);
		log->keys = log->keys ? repalloc(log->keys, sizeof(Datum) * log->maxkeys)
			: palloc(sizeof(Datum) * log->maxkeys);
	}
	for (int i = 0; i < n; i++)
		log->keys[log->nkeys++] = PointerGetDatum(PG_DETOAST_DATUM_COPY(elems[i]));
	row = log->operations.len;
	log->no_old[row] = !item->has_old_digest;
	log->old_digests[row] = Int64GetDatum(item->has_old_digest ? item->old_digest : 0);
	log->no_new[row] = text == NULL;
	log->new_digests[row] = Int64GetDatum(text ? digest_text(text, strlen(text)) : 0);
	log->attempts[row] =
		Int32GetDatum(item->attempts + (operation == WORKER_LOG_FAILED ? 0 : 1));
	appendStringInfoChar(&log->operations, operation);
	log->queued_at = Min(log->queued_at, item->queued_at);
}

/* There are none before ALTER EXTENSION vecsync UPDATE has added the columns. */
static bool
has_digest_columns(void)
{
	Oid			table = get_relname_relid("operation_batch", get_namespace_oid("vecsync", false));

	return get_attnum(table, "new_digests") != InvalidAttrNumber;
}

static Datum
digest_array(Datum *digests, bool *nulls, int n)
{
	int			lower = 1;

	return PointerGetDatum(construct_md_array(digests, nulls, 1, &n, &lower, INT8OID, sizeof(int64),
											  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Write what was noted, inside the transaction it belongs to. */
void
worker_log_end(WorkerLog *log, const WorkerVectorizer *v, const char *error)
{
	static bool with_digests = false;
	Oid			types[10] = {UUIDOID, INT4OID, TEXTARRAYOID, TEXTOID, INT4ARRAYOID, TEXTOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[10];
	char		nulls[11] = "          ";
	TimestampTz now = GetCurrentTimestamp();
	int			nrows;

	if (log == NULL || log->operations.len == 0)
		return;
	nrows = log->operations.len;
	values[0] = UUIDPGetDatum(time_uuid(now, true));
	values[1] = Int32GetDatum(v->def->id);
	values[2] = PointerGetDatum(construct_array(log->keys, log->nkeys, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = CStringGetTextDatum(log->operations.data);
	values[4] = PointerGetDatum(construct_array(log->attempts, nrows, INT4OID, 4, true, TYPALIGN_INT));
	nulls[5] = error ? ' ' : 'n';
	values[5] = error ? CStringGetTextDatum(error) : (Datum) 0;
	values[6] = TimestampTzGetDatum(log->queued_at);
	values[7] = TimestampTzGetDatum(now);
	values[8] = digest_array(log->old_digests, log->no_old, nrows);
	values[9] = digest_array(log->new_digests, log->no_new, nrows);
	if (MyWorker->log_plan != NULL && with_digests != has_digest_columns())
	{
		SPI_freeplan(MyWorker->log_plan);
		MyWorker->log_plan = NULL;
	}
	if (MyWorker->log_plan == NULL)
	{
		with_digests = has_digest_columns();
		MyWorker->log_plan = with_digests
			? worker_prepare(
				"INSERT INTO vecsync.operation_batch (id, vectorizer, keys, operations, attempts, error,"
				" queued_at, finished_at, old_digests, new_digests)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", 10, types)
			: worker_prepare(
				"INSERT INTO vecsync.operation_batch"
				" (id, vectorizer, keys, operations, attempts, error, queued_at, finished_at)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", 8, types);
	}
	if (SPI_execute_plan(MyWorker->log_plan, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write vecsync.operation_batch");
}

/* Is it time to look for old entries? */
bool
worker_log_due(TimestampTz now)
{
	int			every = worker_log_retention == 0 ? EXPIRE_INTERVAL_S
		: Min(EXPIRE_INTERVAL_S, Max(1, worker_log_retention / 2));

	return TimestampDifferenceExceeds(MyWorker->log_expired_at, now, every * 1000);
}

/* Delete entries older than the retention, a bounded number at a time.  In a transaction of its own. */
void
worker_log_expire(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Oid			type = UUIDOID;
	Datum		before;

	if (!worker_begin("deleting old entries of the operation log"))
		return;
	before = UUIDPGetDatum(time_uuid(now - worker_log_retention * USECS_PER_SEC, false));
	SPI_execute_with_args("DELETE FROM vecsync.operation_batch WHERE id IN"
						  " (SELECT id FROM vecsync.operation_batch WHERE id < $1 ORDER BY id LIMIT "
						  CppAsString2(EXPIRE_BATCH) ")", 1, &type, &before, NULL, false, 0);
	if (SPI_processed < EXPIRE_BATCH)
		MyWorker->log_expired_at = now;
	worker_commit();
}

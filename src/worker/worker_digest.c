/*
 * worker_digest.c
 *		Digests of the texts that vectors were made from: what is unchanged is not sent again.
 *
 * The digests of a batch are written in the transaction of its vectors.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "queue/digest.h"
#include "worker/worker_state.h"

/* There are none before ALTER EXTENSION vecsync UPDATE has made the table. */
static bool
table_exists(void)
{
	return OidIsValid(get_relname_relid("digest", get_namespace_oid("vecsync", false)));
}

static Datum
key_digest(QueueItem *item)
{
	pg_uuid_t  *digest = palloc(sizeof(pg_uuid_t));
	Datum	   *texts;
	int			n;

	deconstruct_array(item->key, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	digest_key(texts, n, digest);
	pfree(texts);
	return UUIDPGetDatum(digest);
}

static Datum
uuid_array(Datum *values, int n)
{
	return PointerGetDatum(construct_array(values, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* Which of these rows have a vector of just this text?  Inside a transaction. */
void
worker_digest_compare(RenderArgs *r, bool *unchanged)
{
	static SPIPlanPtr plan = NULL;
	Datum	   *keys = palloc(sizeof(Datum) * r->nrows);
	Datum		values[2] = {Int32GetDatum(r->v->def->id)};

	memset(unchanged, 0, sizeof(bool) * r->nrows);
	for (int i = 0; i < r->nrows; i++)
		r->rows[i].item->has_old_digest = false;
	if (!table_exists())
		return;
	for (int i = 0; i < r->nrows; i++)
		keys[i] = key_digest(r->rows[i].item);
	values[1] = uuid_array(keys, r->nrows);
	if (plan == NULL)
		plan = worker_prepare("SELECT k.ord::int4, d.digest FROM unnest($2) WITH ORDINALITY k(key, ord)"
							  " JOIN vecsync.digest d ON d.vectorizer = $1 AND d.key = k.key",
							  2, (Oid[]) {INT4OID, UUIDARRAYOID});
	if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.digest");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		int			row = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull)) - 1;
		int64		digest = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));

		r->rows[row].item->old_digest = digest;
		r->rows[row].item->has_old_digest = true;
		if (!r->rows[row].item->forced && r->found[row] && r->embedded[row] &&
			!worker_text_blank(r->texts[row]))
			unchanged[row] = digest == digest_text(r->texts[row], strlen(r->texts[row]));
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Rows that got their vectors, and rows that have none any more.  In the transaction that wrote them. */
void
worker_digest_write(WorkerVectorizer *v, BatchRow **written, int nwritten, BatchRow **emptied, int nemptied)
{
	static SPIPlanPtr write_plan = NULL;
	static SPIPlanPtr delete_plan = NULL;
	Oid			types[3] = {INT4OID, UUIDARRAYOID, INT8ARRAYOID};
	Datum		values[3] = {Int32GetDatum(v->def->id)};
	Datum	   *keys = palloc(sizeof(Datum) * Max(nwritten, nemptied));
	Datum	   *digests = palloc(sizeof(Datum) * nwritten);

	if (!table_exists())
		return;
	if (write_plan == NULL)
		write_plan = worker_prepare(DIGEST_WRITE_SQL, 3, types);
	if (delete_plan == NULL)
		delete_plan = worker_prepare(DIGEST_DELETE_SQL, 2, types);
	if (nwritten > 0)
	{
		for (int i = 0; i < nwritten; i++)
		{
			keys[i] = key_digest(written[i]->item);
			worker_sweep_keep(v, keys[i]);
			digests[i] = Int64GetDatum(digest_text(written[i]->text, strlen(written[i]->text)));
		}
		values[1] = uuid_array(keys, nwritten);
		values[2] = PointerGetDatum(construct_array(digests, nwritten, INT8OID, sizeof(int64),
													FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		if (SPI_execute_plan(write_plan, values, NULL, false, 0) < 0)
			elog(ERROR, "could not write vecsync.digest");
	}
	if (nemptied > 0)
	{
		for (int i = 0; i < nemptied; i++)
			keys[i] = key_digest(emptied[i]->item);
		values[1] = uuid_array(keys, nemptied);
		if (SPI_execute_plan(delete_plan, values, NULL, false, 0) < 0)
			elog(ERROR, "could not write vecsync.digest");
	}
}

/*
 * worker_digest.c
 *		Digests of the texts that vectors were made from: what is unchanged is not sent again.
 *
 * The digests of a batch are written in the transaction of its vectors.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

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

/* A row of the batch by its key's digest. */
typedef struct DigestRow
{
	pg_uuid_t	key;
	BatchRow   *row;
	const char *text;			/* to be compared; NULL when it is to be sent anyway */
	bool	   *unchanged;
} DigestRow;

static int
compare_keys(const void *a, const void *b)
{
	return memcmp(&((const DigestRow *) a)->key, &((const DigestRow *) b)->key, UUID_LEN);
}

static void
compare_row(DigestRow *row, int64 digest)
{
	row->row->item->old_digest = digest;
	row->row->item->has_old_digest = true;
	*row->unchanged = row->text != NULL && digest == digest_text(row->text, strlen(row->text));
}

/*
 * Look the rows, which are in the order of their keys, up by the table's primary key.  Without SPI: a plan
 * that was made while the table was small would go on reading all of it for each batch.
 */
static void
look_up(int vectorizer, DigestRow *rows, int nrows)
{
	Oid			schema = get_namespace_oid("vecsync", false);
	Relation	rel = table_open(get_relname_relid("digest", schema), AccessShareLock);
	Relation	index = index_open(get_relname_relid("digest_pkey", schema), AccessShareLock);
	Datum	   *uuids = palloc(sizeof(Datum) * nrows);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	for (int i = 0; i < nrows; i++)
		uuids[i] = UUIDPGetDatum(&rows[i].key);
	PushActiveSnapshot(GetTransactionSnapshot());
	ScanKeyInit(&keys[0], DIGEST_ATT_VECTORIZER, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(vectorizer));
	ScanKeyEntryInitialize(&keys[1], SK_SEARCHARRAY, DIGEST_ATT_KEY, BTEqualStrategyNumber, UUIDOID,
						   InvalidOid, F_UUID_EQ, uuid_array(uuids, nrows));
	scan = systable_beginscan_ordered(rel, index, GetActiveSnapshot(), lengthof(keys), keys);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		DigestRow	wanted;
		DigestRow  *row;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		wanted.key = *DatumGetUUIDP(heap_getattr(tuple, DIGEST_ATT_KEY, RelationGetDescr(rel), &isnull));
		row = bsearch(&wanted, rows, nrows, sizeof(DigestRow), compare_keys);
		if (row != NULL)
			compare_row(row, DatumGetInt64(heap_getattr(tuple, DIGEST_ATT_DIGEST, RelationGetDescr(rel),
														&isnull)));
	}
	systable_endscan_ordered(scan);
	PopActiveSnapshot();
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

/* Which of these rows have a vector of just this text?  Inside a transaction. */
void
worker_digest_compare(RenderArgs *r, bool *unchanged)
{
	DigestRow  *rows = palloc(sizeof(DigestRow) * r->nrows);

	memset(unchanged, 0, sizeof(bool) * r->nrows);
	for (int i = 0; i < r->nrows; i++)
		r->rows[i].item->has_old_digest = false;
	if (!table_exists())
		return;
	for (int i = 0; i < r->nrows; i++)
	{
		QueueItem  *item = r->rows[i].item;
		bool		trusted = !item->forced && r->found[i] && r->embedded[i] &&
			!worker_text_blank(r->texts[i]);

		rows[i].key = *DatumGetUUIDP(key_digest(item));
		rows[i].row = &r->rows[i];
		rows[i].text = trusted ? r->texts[i] : NULL;
		rows[i].unchanged = &unchanged[i];
	}
	qsort(rows, r->nrows, sizeof(DigestRow), compare_keys);
	look_up(r->v->def->id, rows, r->nrows);
	pfree(rows);
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

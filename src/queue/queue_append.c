/*
 * queue_append.c
 *		Appending to vecsync.queue, under the current transaction.
 *
 * Each transaction that changed rows comes here as it commits, so an entry is
 * written without executor and SPI, like a row of a system catalog, and where
 * the table has just the index that it is made with, without the general path
 * of catalogs either.
 *
 * The locks on the table and its index are kept to the end of the transaction,
 * as those of any statement that writes: nobody rewrites the table while it
 * holds entries that are not committed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "queue/queue.h"

/* Looked up by name when the relation cache says that they may be others. */
static struct
{
	bool		known;
	Oid			table;
	Oid			sequence;
	uint64		invalidations;
}			queue_objects;

static void
forget_objects(Datum arg, Oid relid)
{
	queue_objects.invalidations++;
	if (relid == InvalidOid || relid == queue_objects.table || relid == queue_objects.sequence)
		queue_objects.known = false;
}

void
queue_append_init(void)
{
	CacheRegisterRelcacheCallback(forget_objects, (Datum) 0);
}

static void
find_objects(void)
{
	uint64		before = queue_objects.invalidations;
	Oid			schema;

	if (queue_objects.known)
		return;
	schema = get_namespace_oid("vecsync", false);
	queue_objects.table = get_relname_relid("queue", schema);
	queue_objects.sequence = get_relname_relid("queue_seq", schema);
	/* what is being replaced at this moment is not remembered */
	queue_objects.known = before == queue_objects.invalidations &&
		OidIsValid(queue_objects.table) && OidIsValid(queue_objects.sequence);
}

/* Its primary key; in an installation not yet updated that is on seq alone, and there is another index. */
Oid
queue_index(Oid schema)
{
	Oid			former = get_relname_relid("queue_vectorizer_seq", schema);

	return OidIsValid(former) ? former : get_relname_relid("queue_pkey", schema);
}

/* Is this the index that the table is made with?  A primary key has neither expressions nor a predicate. */
static bool
is_made_index(Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisprimary && form->indimmediate && form->indnatts == 2 && form->indnkeyatts == 2 &&
		form->indkey.values[0] == QUEUE_ATT_VECTORIZER && form->indkey.values[1] == QUEUE_ATT_SEQ;
}

static void
insert_entry(Relation rel, HeapTuple tuple, Datum *values)
{
	List	   *indexes = RelationGetIndexList(rel);
	Relation	index = NULL;

	if (list_length(indexes) == 1)
		index = index_open(linitial_oid(indexes), RowExclusiveLock);
	if (index != NULL && is_made_index(index))
	{
		Datum		key[2] = {values[QUEUE_ATT_VECTORIZER - 1], values[QUEUE_ATT_SEQ - 1]};
		bool		nulls[2] = {false, false};

		simple_heap_insert(rel, tuple);
		/* a btree makes no use of an IndexInfo, as the server's own TOAST tables rely on, too */
		(void) index_insert(index, key, nulls, &tuple->t_self, rel, UNIQUE_CHECK_YES, false, NULL);
	}
	else
		CatalogTupleInsert(rel, tuple);
	if (index != NULL)
		index_close(index, NoLock);
	list_free(indexes);
}

int64
queue_append(int vectorizer, char op, int rows, ArrayType *keys)
{
	Relation	rel;
	HeapTuple	tuple;
	int64		seq;
	Datum		values[6];
	bool		nulls[6] = {false};
	bool		pushed = false;

	PreventCommandIfReadOnly("INSERT");
	PreventCommandIfParallelMode("INSERT");

	/* Long keys go to the TOAST table, which needs a snapshot; at the end of a transaction there is none. */
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}

	/* The number must be younger than the transaction's xid. */
	(void) GetCurrentTransactionId();
	find_objects();
	rel = table_open(queue_objects.table, RowExclusiveLock);
	seq = queue_number_next(queue_objects.sequence);

	values[QUEUE_ATT_SEQ - 1] = Int64GetDatum(seq);
	values[QUEUE_ATT_VECTORIZER - 1] = Int32GetDatum(vectorizer);
	values[QUEUE_ATT_OP - 1] = CharGetDatum(op);
	values[QUEUE_ATT_ROWS - 1] = Int32GetDatum(rows);
	values[QUEUE_ATT_KEYS - 1] = PointerGetDatum(keys);
	values[QUEUE_ATT_QUEUED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	insert_entry(rel, tuple, values);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	if (pushed)
		PopActiveSnapshot();

	queue_note_change(QUEUE_CHANGED_ROWS);
	return seq;
}

/*
 * queue_append.c
 *		Appending to vecsync.queue, under the current transaction.
 *
 * Each transaction that changed rows comes here as it commits, so an entry is
 * written without executor and SPI, like a row of a system catalog.  The table
 * has no index: whoever writes an entry tells the worker its block instead
 * (queue_shared.c).
 *
 * The lock on the table is kept to the end of the transaction, as that of any
 * statement that writes: nobody rewrites the table while it holds entries that
 * are not committed.
 */
#include "postgres.h"

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
#include "queue/queue_shared.h"

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

Relation
queue_open(LOCKMODE lockmode)
{
	find_objects();
	return table_open(queue_objects.table, lockmode);
}

/* In an installation not yet updated the table has indexes. */
static void
insert_entry(Relation rel, HeapTuple tuple)
{
	if (rel->rd_rel->relhasindex)
		CatalogTupleInsert(rel, tuple);
	else
		simple_heap_insert(rel, tuple);
	queue_note_block(ItemPointerGetBlockNumber(&tuple->t_self));
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

	/* whoever draws a number has an xid */
	(void) GetCurrentTransactionId();
	rel = queue_open(RowExclusiveLock);
	seq = queue_number_next(queue_objects.sequence);

	values[QUEUE_ATT_SEQ - 1] = Int64GetDatum(seq);
	values[QUEUE_ATT_VECTORIZER - 1] = Int32GetDatum(vectorizer);
	values[QUEUE_ATT_OP - 1] = CharGetDatum(op);
	values[QUEUE_ATT_ROWS - 1] = Int32GetDatum(rows);
	values[QUEUE_ATT_KEYS - 1] = PointerGetDatum(keys);
	values[QUEUE_ATT_QUEUED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	insert_entry(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	if (pushed)
		PopActiveSnapshot();

	queue_note_change(QUEUE_CHANGED_ROWS);
	return seq;
}

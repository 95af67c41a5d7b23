/*
 * worker_count.c
 *		How many rows a table has, and how many of them have a vector.
 *
 * The status shows the tables of all owners to whoever watches over them, so
 * it must depend on nobody's code.  SQL over a table runs its owner's: policies,
 * rules, and as soon as it is planned, the expressions of indexes and
 * statistics; and it waits for locks of the table's indexes.  A scan of our
 * own knows none of these.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "optimizer/plancat.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "worker/worker.h"

/* What a scan counts beside the rows: those with a value in a column, or with a certain one. */
typedef struct Wanted
{
	const char *column;			/* NULL: nothing else is counted */
	bool		zero;			/* an integer that is 0 */
} Wanted;

/* The relation, locked; NULL when somebody has it to himself (then *busy is set) or it is gone. */
static Relation
open_unless_locked(Oid relid, bool *busy)
{
	Relation	rel;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
	{
		*busy = true;
		return NULL;
	}
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, AccessShareLock);
	return rel;
}

/* A table and its partitions, listed under its lock: of one that is gone the list cannot be asked for. */
static List *
parts(Oid relid, bool *busy)
{
	Relation	rel = open_unless_locked(relid, busy);
	List	   *result;

	if (rel == NULL)
		return NIL;
	result = find_all_inheritors(relid, NoLock, NULL);
	relation_close(rel, AccessShareLock);
	return result;
}

/* Has it rows of its own?  Those of an unlogged table are not on a standby. */
static bool
has_rows(Relation rel)
{
	return RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind) &&
		!(rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED && RecoveryInProgress());
}

/* Rows of a table when it was last vacuumed or analyzed; less than 0: it never was. */
static double
remembered_rows(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double		rows = 0;

	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return rows;
}

/* Of a table that cannot be looked at, or a part.  What is not known of a part is not known of the whole. */
static void
add_remembered(Oid relid, double *rows)
{
	double		part = remembered_rows(relid);

	*rows = part < 0 || *rows < 0 ? -1 : *rows + part;
}

/*
 * Rows of a table with its partitions as the planner sees them, by their present size, whether they were ever
 * analyzed or not; and the blocks.  False when somebody has one of them to himself: that one has the rows
 * that it had when it was last analyzed; *rows is -1 if it never was.
 */
static bool
estimate(Oid relid, double *rows, double *blocks)
{
	bool		whole_busy = false;
	bool		any_busy = false;
	List	   *list = parts(relid, &whole_busy);
	ListCell   *lc;

	*rows = *blocks = 0;
	if (whole_busy)
		add_remembered(relid, rows);
	foreach(lc, list)
	{
		bool		busy = false;
		Relation	rel = open_unless_locked(lfirst_oid(lc), &busy);
		BlockNumber part_blocks;
		double		part_rows;
		double		visible;

		if (busy && RELKIND_HAS_TABLE_AM(get_rel_relkind(lfirst_oid(lc))))
			add_remembered(lfirst_oid(lc), rows);
		any_busy |= busy;
		if (rel == NULL)
			continue;
		if (has_rows(rel))
		{
			estimate_rel_size(rel, NULL, &part_blocks, &part_rows, &visible);
			if (*rows >= 0)
				*rows += part_rows;
			*blocks += part_blocks;
		}
		relation_close(rel, AccessShareLock);
	}
	return !whole_busy && !any_busy;
}

/* The column of one table or partition to look at, or InvalidAttrNumber when it is not as expected. */
static AttrNumber
wanted_column(Relation rel, const Wanted *wanted)
{
	Oid			relid = RelationGetRelid(rel);
	AttrNumber	attnum = wanted->column == NULL ? InvalidAttrNumber : get_attnum(relid, wanted->column);

	if (attnum <= 0 || (wanted->zero && get_atttype(relid, attnum) != INT4OID))
		return InvalidAttrNumber;
	return attnum;
}

static void
count_in(Relation rel, const Wanted *wanted, int64 *rows, int64 *found)
{
	AttrNumber	attnum = wanted_column(rel, wanted);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value;

		CHECK_FOR_INTERRUPTS();
		(*rows)++;
		if (attnum == InvalidAttrNumber)
			continue;
		value = slot_getattr(slot, attnum, &isnull);
		if (!isnull && (!wanted->zero || DatumGetInt32(value) == 0))
			(*found)++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
}

/* By the active snapshot.  False when somebody has a part to himself. */
static bool
count(Oid relid, const Wanted *wanted, int64 *rows, int64 *found)
{
	bool		busy = false;
	ListCell   *lc;

	*rows = *found = 0;
	foreach(lc, parts(relid, &busy))
	{
		Relation	rel = open_unless_locked(lfirst_oid(lc), &busy);

		if (busy)
			return false;
		if (rel == NULL)
			continue;
		if (has_rows(rel))
			count_in(rel, wanted, rows, found);
		relation_close(rel, AccessShareLock);
	}
	return !busy;
}

int64
worker_count_rows(Oid source, const char *column, int64 *filled)
{
	double		rows;
	double		blocks;
	int64		counted;

	/* so few rows are on no more blocks, unless most of it is empty, and that would take as long */
	if (estimate(source, &rows, &blocks) && rows <= WORKER_COUNT_UP_TO && blocks <= WORKER_COUNT_UP_TO &&
		count(source, &(Wanted) {.column = column}, &counted, filled))
		return counted;
	*filled = -1;
	if (rows < 0)
		return -1;
	/* statistics may say anything */
	return rows < PG_INT32_MAX * 1e6 ? (int64) rows : (int64) (PG_INT32_MAX * 1e6);
}

int64
worker_count_documents(Oid chunk_table)
{
	double		rows;
	double		blocks;
	int64		chunks;
	int64		documents;

	if (estimate(chunk_table, &rows, &blocks) && blocks <= WORKER_COUNT_UP_TO &&
		count(chunk_table, &(Wanted) {.column = "chunk_seq", .zero = true}, &chunks, &documents))
		return documents;
	return -1;
}

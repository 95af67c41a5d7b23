/*
 * catalog_current.c
 *		Is what a query's snapshot shows of the catalog still so?
 *
 * A transaction reads models and vectorizers with its own snapshot, which may
 * be older than the last change of them: that keeps the vectors of a question and
 * of its rows from one generation.  But what it learned so must not be kept for
 * those who come later.  Who wants to keep something reads the generation of the
 * configuration first, then the row, then asks here: a change that was committed
 * before the generation was read shows as another version of the row, a later one
 * makes the generation old.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "queue/catalog.h"
#include "queue/queue.h"

PG_FUNCTION_INFO_V1(catalog_model_user);

typedef struct RowVersion
{
	ItemPointerData tid;
	TransactionId xmin;
} RowVersion;

/* The row of that name in the snapshot; NULL stands for a new one. */
static bool
find_version(Relation rel, Oid index, const char *name, Snapshot snapshot, RowVersion *version)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyEntryInitialize(&key, 0, get_attnum(RelationGetRelid(rel), "name"), BTEqualStrategyNumber, TEXTOID,
						   DEFAULT_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(name));
	scan = systable_beginscan(rel, index, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		version->tid = tuple->t_self;
		version->xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	}
	systable_endscan(scan);
	return HeapTupleIsValid(tuple);
}

static bool
row_is_current(const char *table, const char *index, const char *name)
{
	Oid			schema = get_namespace_oid("vecsync", false);
	Relation	rel;
	RowVersion	seen,
				latest;
	bool		current;

	/* what only this transaction sees may be rolled back */
	if (queue_config_changing())
		return false;
	rel = table_open(get_relname_relid(table, schema), AccessShareLock);
	current = find_version(rel, get_relname_relid(index, schema), name, GetActiveSnapshot(), &seen) &&
		find_version(rel, get_relname_relid(index, schema), name, NULL, &latest) &&
		ItemPointerEquals(&seen.tid, &latest.tid) && seen.xmin == latest.xmin;
	table_close(rel, AccessShareLock);
	return current;
}

/*
 * vecsync._model_user(model text) -> text: a vectorizer that uses the model, by what is
 * committed now and what this transaction did; NULL if there is none.
 */
Datum
catalog_model_user(PG_FUNCTION_ARGS)
{
	Oid			schema = get_namespace_oid("vecsync", false);
	Relation	rel = table_open(get_relname_relid("vectorizer", schema), AccessShareLock);
	AttrNumber	name = get_attnum(RelationGetRelid(rel), "name");
	AttrNumber	model = get_attnum(RelationGetRelid(rel), "model");
	Datum		result = (Datum) 0;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyEntryInitialize(&key, 0, model, BTEqualStrategyNumber, TEXTOID, DEFAULT_COLLATION_OID, F_TEXTEQ,
						   PG_GETARG_DATUM(0));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, name, RelationGetDescr(rel), &isnull);

		result = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (result == (Datum) 0)
		PG_RETURN_NULL();
	return result;
}

bool
catalog_model_is_current(const char *name)
{
	return row_is_current("model", "model_pkey", name);
}

bool
catalog_vectorizer_is_current(const char *name)
{
	return row_is_current("vectorizer", "vectorizer_name_key", name);
}

/*
 * vectorizer.c
 *		The privileged half of the vectorizer functions.
 *
 * The SQL functions (sql/install/vecsync/30_vectorizer.sql) run as their
 * caller and make the caller's own objects: a column, a function, triggers.
 * What touches the extension's tables is here; each entry point checks that
 * the caller owns the table before it does anything.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/chunk_options.h"
#include "base/compat.h"
#include "queue/catalog.h"
#include "queue/queue.h"

PG_FUNCTION_INFO_V1(vectorizer_reserve);
PG_FUNCTION_INFO_V1(vectorizer_register);
PG_FUNCTION_INFO_V1(vectorizer_forget);
PG_FUNCTION_INFO_V1(vectorizer_set_paused);
PG_FUNCTION_INFO_V1(vectorizer_resync);
PG_FUNCTION_INFO_V1(vectorizer_sweep);
PG_FUNCTION_INFO_V1(vectorizer_key_columns);

/*
 * Numbers that this transaction has drawn and not used: nobody takes one that is another's, or to come.  In
 * TopTransactionContext.
 */
static List *reserved = NIL;

static void
forget_reserved(XactEvent event, void *arg)
{
	reserved = NIL;
}

static void
reserve(int vectorizer)
{
	static bool registered = false;
	MemoryContext old;

	if (!registered)
		RegisterXactCallback(forget_reserved, NULL);
	registered = true;
	old = MemoryContextSwitchTo(TopTransactionContext);
	reserved = lappend_int(reserved, vectorizer);
	MemoryContextSwitchTo(old);
}

static void
check_owner(Oid relid)
{
	if (!compat_relation_owned(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

/* What is to be a vectorizer's view or table of chunks is of that kind, and its source's owner owns it. */
static void
check_own_object(Oid source, Oid relid, char relkind)
{
	check_owner(relid);
	if (get_rel_relkind(relid) != relkind || catalog_relation_owner(relid) != catalog_relation_owner(source))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" cannot be part of a vectorizer of table \"%s\"", get_rel_name(relid),
					   get_rel_name(source)));
}

static void
run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	int			code = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
}

/* Who makes a vectorizer may use the model, and so may the table's owner, as whom the worker works. */
static void
check_model_use(text *name, Oid source)
{
	CatalogModel *model = catalog_get_model(text_to_cstring(name), CurrentMemoryContext);

	catalog_check_model_use(model, catalog_relation_owner(source));
}

/* vecsync._reserve_vectorizer(source regclass) -> int: the next number, for the owner of a fit table. */
Datum
vectorizer_reserve(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	char		relkind = get_rel_relkind(relid);
	CatalogKeyColumn *keys;
	int			nkeys;
	int			id;

	if (relkind == '\0')
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	check_owner(relid);
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is not a table", get_rel_name(relid)),
				errdetail("A vectorizer follows an ordinary or partitioned table."));
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("\"%s\" is a temporary table", get_rel_name(relid)),
				errdetail("The worker, another session, cannot read it."));
	if (relkind == RELKIND_RELATION && find_inheritance_children(relid, NoLock) != NIL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("table \"%s\" has inheritance children", get_rel_name(relid)),
				errdetail("Changes of rows in the children would not be noticed."),
				errhint("Use partitions, or a vectorizer for each of the children."));
	keys = catalog_key_columns(relid, &nkeys);
	if (nkeys == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" has no primary key", get_rel_name(relid)),
				errdetail("A vectorizer follows its rows by their primary key."),
				errhint("Add one with ALTER TABLE ... ADD PRIMARY KEY."));
	catalog_check_key_types(relid, keys, nkeys);
	id = (int) nextval_internal(get_relname_relid("vectorizer_id_seq", get_namespace_oid("vecsync", false)),
								false);
	reserve(id);
	PG_RETURN_INT32(id);
}

/*
 * vecsync._register_vectorizer(id int, name text, source regclass, model text,
 *	content text, content_view regclass, metric text,
 *	chunking jsonb, chunk_table regclass, enqueue bool)
 *
 * chunking and chunk_table may be NULL.  Anyone may call this, so what everyone
 * is going to read is judged here.
 */
Datum
vectorizer_register(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			types[9] = {INT4OID, TEXTOID, REGCLASSOID, TEXTOID, TEXTOID, REGCLASSOID, TEXTOID, JSONBOID,
	REGCLASSOID};
	Datum		values[9];
	char		nulls[10] = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || PG_ARGISNULL(3) || PG_ARGISNULL(5) || PG_ARGISNULL(9))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("arguments must not be null"));
	check_owner(PG_GETARG_OID(2));
	check_own_object(PG_GETARG_OID(2), PG_GETARG_OID(5), RELKIND_VIEW);
	if (!PG_ARGISNULL(8))
		check_own_object(PG_GETARG_OID(2), PG_GETARG_OID(8), RELKIND_RELATION);
	if (!PG_ARGISNULL(7))
		chunk_options_check(PG_GETARG_JSONB_P(7));
	if (!list_member_int(reserved, PG_GETARG_INT32(0)))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("vectorizer number %d has not been reserved", PG_GETARG_INT32(0)));
	reserved = list_delete_int(reserved, PG_GETARG_INT32(0));
	for (int i = 0; i < 9; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	check_model_use(PG_GETARG_TEXT_PP(3), PG_GETARG_OID(2));
	catalog_enter(&scope);
	/* drop_model() waits for us, or we for it */
	run("SELECT FROM vecsync.model WHERE name = $4 FOR KEY SHARE", 9, types, values, nulls);
	if (SPI_processed == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("model \"%s\" does not exist", text_to_cstring(PG_GETARG_TEXT_PP(3))));
	run("INSERT INTO vecsync.vectorizer"
		" (id, name, source, model, content, content_view, metric, chunking, chunk_table)"
		" OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		9, types, values, nulls);
	catalog_leave(&scope);
	if (PG_GETARG_BOOL(9))
		(void) queue_append(PG_GETARG_INT32(0), QUEUE_OP_SCAN, -1, construct_empty_array(TEXTOID));
	PG_RETURN_VOID();
}

/* vecsync._forget_vectorizer(name text): the catalog row, and with it queue and dead letters. */
Datum
vectorizer_forget(PG_FUNCTION_ARGS)
{
	CatalogVectorizer *v =
		catalog_get_vectorizer(text_to_cstring(PG_GETARG_TEXT_PP(0)), CurrentMemoryContext);
	CatalogScope scope;
	Oid			type = INT4OID;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		id = Int32GetDatum(v->id);
	Datum		name;

	if (get_rel_relkind(v->source) != '\0')
		check_owner(v->source);
	catalog_enter(&scope);
	run("DELETE FROM vecsync.vectorizer WHERE id = $1 OR successor_of = $1", 1, &type, &id, NULL);
	run("DELETE FROM vecsync.queue WHERE vectorizer = $1", 1, &type, &id, NULL);
	name = CStringGetTextDatum(v->name);
	run("SELECT vecsync._drop_partition_triggers($1, $2)", 2, types, (Datum[]) {id, name}, NULL);
	catalog_leave(&scope);
	PG_RETURN_VOID();
}

/* vecsync.pause(name), vecsync.resume(name): the second argument says which. */
Datum
vectorizer_set_paused(PG_FUNCTION_ARGS)
{
	CatalogVectorizer *v =
		catalog_get_vectorizer(text_to_cstring(PG_GETARG_TEXT_PP(0)), CurrentMemoryContext);
	CatalogScope scope;
	Oid			types[3] = {INT4OID, BOOLOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(v->id), PG_GETARG_DATUM(1), PG_GETARG_DATUM(0)};
	uint64		updated;

	check_owner(v->source);
	catalog_enter(&scope);
	run("UPDATE vecsync.vectorizer SET paused = $2 WHERE id = $1 AND name = $3", 3, types, values, NULL);
	updated = SPI_processed;
	catalog_leave(&scope);
	/* a cut-over that held the row until now has given the name to another generation */
	if (updated != 1)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("vectorizer \"%s\" has been changed meanwhile", v->name),
				errhint("Try again."));
	PG_RETURN_VOID();
}

int64
queue_retry_failed(int vectorizer)
{
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(vectorizer);
	SPITupleTable *table;
	int64		rows;

	run("DELETE FROM vecsync.dead_letter WHERE vectorizer = $1 RETURNING key", 1, &type, &id, NULL);
	table = SPI_tuptable;
	rows = (int64) SPI_processed;
	for (int64 i = 0; i < rows; i++)
	{
		bool		isnull;
		Datum		key = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);

		/* what failed may have left a vector that the digest does not speak of */
		(void) queue_append(vectorizer, QUEUE_OP_FORCED, 1, DatumGetArrayTypeP(key));
	}
	return rows;
}

/*
 * vecsync._queue_rows(name, failed_only, force): look at every row again, or at
 * the dead letters; returns how many rows that is, as far as it is known.  An
 * installation not yet updated has no third argument.
 */
Datum
vectorizer_resync(PG_FUNCTION_ARGS)
{
	CatalogVectorizer *v =
		catalog_get_vectorizer(text_to_cstring(PG_GETARG_TEXT_PP(0)), CurrentMemoryContext);
	bool		force = PG_NARGS() > 2 && PG_GETARG_BOOL(2);
	CatalogScope scope;
	int64		rows;

	check_owner(v->source);
	catalog_enter(&scope);
	if (PG_GETARG_BOOL(1))
		rows = queue_retry_failed(v->id);
	else
	{
		char	   *sql = psprintf("SELECT count(*) FROM %s", catalog_relation_name(v->source));
		CatalogScope owner;

		catalog_enter_owner(&owner, catalog_relation_owner(v->source));
		run(sql, 0, NULL, NULL, NULL);
		rows = atoll(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
		catalog_leave(&owner);
		(void) queue_append(v->id, force ? QUEUE_OP_SCAN_FORCED : QUEUE_OP_SCAN,
							(int) Min(rows, PG_INT32_MAX), construct_empty_array(TEXTOID));
	}
	catalog_leave(&scope);
	PG_RETURN_INT64(rows);
}

/* vecsync._sweep(id int): rows went without entries of their own. */
Datum
vectorizer_sweep(PG_FUNCTION_ARGS)
{
	(void) queue_append(PG_GETARG_INT32(0), QUEUE_OP_TRUNCATE, 0, construct_empty_array(TEXTOID));
	PG_RETURN_VOID();
}

/* vecsync._key_columns(source regclass) -> name[], in the order of the primary key. */
Datum
vectorizer_key_columns(PG_FUNCTION_ARGS)
{
	int			nkeys;
	CatalogKeyColumn *keys = catalog_key_columns(PG_GETARG_OID(0), &nkeys);
	Datum	   *names = palloc(sizeof(Datum) * Max(nkeys, 1));

	for (int i = 0; i < nkeys; i++)
		names[i] = DirectFunctionCall1(namein, CStringGetDatum(keys[i].name));
	PG_RETURN_ARRAYTYPE_P(construct_array(names, nkeys, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
}

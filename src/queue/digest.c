/*
 * digest.c
 *		What text each vector was made from.
 *
 * vecsync.digest holds, for each row that has a vector, a digest of its key and
 * one of the text that was sent.  The worker writes it together with the vector
 * and asks it before it sends a text again; vecsync.verify() compares it with
 * the texts as they are.  A digest that is missing says nothing: the row is embedded
 * when it is queued, and is not called stale.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "port/pg_bswap.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/uuid.h"

#include "base/compat.h"
#include "queue/catalog.h"
#include "queue/digest.h"
#include "queue/queue.h"

PG_FUNCTION_INFO_V1(digest_key_sql);
PG_FUNCTION_INFO_V1(digest_text_sql);
PG_FUNCTION_INFO_V1(digest_key_text);
PG_FUNCTION_INFO_V1(digest_rows_as_owner);
PG_FUNCTION_INFO_V1(digest_list);
PG_FUNCTION_INFO_V1(digest_list_queued);
PG_FUNCTION_INFO_V1(digest_list_failed);
PG_FUNCTION_INFO_V1(digest_list_scans);
PG_FUNCTION_INFO_V1(digest_key_after);
PG_FUNCTION_INFO_V1(digest_note);
PG_FUNCTION_INFO_V1(digest_enqueue);
PG_FUNCTION_INFO_V1(digest_enqueue_query);
PG_FUNCTION_INFO_V1(digest_check_condition);

/* ---- digests ----------------------------------------------------------------------- */

static pg_cryptohash_ctx *
begin(void)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (context == NULL || pg_cryptohash_init(context) < 0)
		elog(ERROR, "could not begin a SHA-256");
	return context;
}

static void
add(pg_cryptohash_ctx *context, const void *data, size_t len)
{
	if (pg_cryptohash_update(context, data, len) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(context));
}

static void
end(pg_cryptohash_ctx *context, uint8 *result)
{
	if (pg_cryptohash_final(context, result, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(context));
	pg_cryptohash_free(context);
}

/* Of the texts of a key's columns, each with its length before it.  The same on every machine. */
void
digest_key(Datum *texts, int n, pg_uuid_t *result)
{
	pg_cryptohash_ctx *context = begin();
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	for (int i = 0; i < n; i++)
	{
		text	   *column = DatumGetTextPP(texts[i]);
		uint32		len = VARSIZE_ANY_EXHDR(column);
		uint32		prefix = pg_hton32(len);

		add(context, &prefix, sizeof(prefix));
		add(context, VARDATA_ANY(column), len);
	}
	end(context, digest);
	memcpy(result->data, digest, UUID_LEN);
}

int64
digest_text(const char *data, size_t len)
{
	pg_cryptohash_ctx *context = begin();
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	uint64		first;

	add(context, data, len);
	end(context, digest);
	memcpy(&first, digest, sizeof(first));
	return (int64) pg_ntoh64(first);
}

/* vecsync._key_digest(key text[]) -> uuid */
Datum
digest_key_sql(PG_FUNCTION_ARGS)
{
	Datum	   *texts;
	int			n;
	pg_uuid_t  *result = palloc(sizeof(pg_uuid_t));

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	digest_key(texts, n, result);
	PG_RETURN_UUID_P(result);
}

/* vecsync._text_digest(text) -> bigint */
Datum
digest_text_sql(PG_FUNCTION_ARGS)
{
	text	   *input = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT64(digest_text(VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input)));
}

/* vecsync._key_text("any") -> text: a key column's value as the queue has it, by any settings. */
Datum
digest_key_text(PG_FUNCTION_ARGS)
{
	FmgrInfo   *output = fcinfo->flinfo->fn_extra;

	if (output == NULL)
	{
		Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 0);
		Oid			function;
		bool		varlena;

		if (!OidIsValid(type))
			ereport(ERROR, errcode(ERRCODE_INDETERMINATE_DATATYPE), errmsg("the type of a key is not known"));
		getTypeOutputInfo(type, &function, &varlena);
		output = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(function, output, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = output;
	}
	PG_RETURN_TEXT_P(cstring_to_text(queue_key_string(output, PG_GETARG_DATUM(0))));
}

/* ---- for the owner of a vectorizer's table ------------------------------------------ */

/* Everything that a portal gives, which is closed then. */
static void
store_rows(Portal portal, ReturnSetInfo *rsinfo)
{
	uint64		fetched;

	do
	{
		SPI_cursor_fetch(portal, true, 1000);
		fetched = SPI_processed;
		for (uint64 i = 0; i < fetched; i++)
			tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
		SPI_freetuptable(SPI_tuptable);
	} while (fetched == 1000);
	SPI_cursor_close(portal);
}

/* The rows of a query over the extension's tables, whose one parameter is a vectorizer of the caller's. */
static Datum
rows_for_owner(FunctionCallInfo fcinfo, const char *sql)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = PG_GETARG_DATUM(0);
	Portal		portal;

	catalog_check_owner(PG_GETARG_INT32(0));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	catalog_enter(&scope);
	portal = SPI_cursor_open_with_args(NULL, sql, 1, &type, &id, NULL, true, 0);
	store_rows(portal, rsinfo);
	catalog_leave(&scope);
	return (Datum) 0;
}

/* vecsync._digests(id int) -> (key uuid, digest bigint) */
Datum
digest_list(PG_FUNCTION_ARGS)
{
	return rows_for_owner(fcinfo, "SELECT key, digest FROM vecsync.digest WHERE vectorizer = $1");
}

/* vecsync._queued_keys(id int) -> (key uuid): of rows that changed and wait */
Datum
digest_list_queued(PG_FUNCTION_ARGS)
{
	return rows_for_owner(fcinfo, "SELECT DISTINCT vecsync._key_digest(q.keys[(g.n - 1) * k.n + 1:g.n * k.n])"
						  " FROM vecsync.queue q, LATERAL (SELECT cardinality(q.keys) / q.rows) k(n),"
						  " LATERAL generate_series(1, q.rows) g(n)"
						  " WHERE q.vectorizer = $1 AND q.op IN ('k', 'f') AND q.rows > 0");
}

/* vecsync._failed_keys(id int) -> (key text[]) */
Datum
digest_list_failed(PG_FUNCTION_ARGS)
{
	return rows_for_owner(fcinfo, "SELECT key FROM vecsync.dead_letter WHERE vectorizer = $1");
}

/* vecsync._scans(id int) -> (op "char", after text[]): of all rows, and up to which key they are done. */
Datum
digest_list_scans(PG_FUNCTION_ARGS)
{
	return rows_for_owner(fcinfo, "SELECT op, keys FROM vecsync.queue WHERE vectorizer = $1"
						  " AND op IN ('s', 'a', 't')");
}

/* vecsync._key_after(name text) -> text: "the row s of its content view is behind the key c.after". */
Datum
digest_key_after(PG_FUNCTION_ARGS)
{
	CatalogVectorizer *v =
		catalog_get_vectorizer(text_to_cstring(PG_GETARG_TEXT_PP(0)), CurrentMemoryContext);
	int			nkeys;
	CatalogKeyColumn *keys = catalog_key_columns(v->source, &nkeys);
	const char *columns[INDEX_MAX_KEYS];
	const char *values[INDEX_MAX_KEYS];

	catalog_check_keys(v, keys, nkeys);
	for (int i = 0; i < nkeys; i++)
	{
		columns[i] = psprintf("s.k%d", i + 1);
		values[i] = psprintf("c.after[%d]", i + 1);
	}
	PG_RETURN_TEXT_P(cstring_to_text(catalog_key_after(keys, nkeys, columns, values)));
}

/*
 * vecsync._rows_as_owner(id int, query text) -> setof record
 *
 * The texts of a table are made by its owner's code, which must not run with the
 * rights of a superuser who verifies it: as the worker, with the caller's search_path.
 */
Datum
digest_rows_as_owner(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *path = pstrdup(GetConfigOption("search_path", false, false));
	Oid			source = catalog_check_owner(PG_GETARG_INT32(0));
	CatalogScope scope;
	Portal		portal;

	InitMaterializedSRF(fcinfo, 0);
	catalog_enter_owner(&scope, catalog_relation_owner(source));
	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	portal = SPI_cursor_open_with_args(NULL, query, 0, NULL, NULL, NULL, true, 0);
	for (int i = 0; i < Max(portal->tupDesc->natts, rsinfo->setDesc->natts); i++)
		if (i >= portal->tupDesc->natts || i >= rsinfo->setDesc->natts ||
			TupleDescAttr(portal->tupDesc, i)->atttypid != TupleDescAttr(rsinfo->setDesc, i)->atttypid)
			ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the query's columns are others"));
	store_rows(portal, rsinfo);
	catalog_leave(&scope);
	return (Datum) 0;
}

static void
run(const char *sql, int nargs, Oid *types, Datum *values)
{
	int			code = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
}

/* vecsync._note_digests(id int, keys uuid[], digests bigint[]): of vectors that were there before us. */
Datum
digest_note(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			types[3] = {INT4OID, UUIDARRAYOID, INT8ARRAYOID};
	Datum		values[3] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)};

	catalog_check_owner(PG_GETARG_INT32(0));
	catalog_enter(&scope);
	run(DIGEST_WRITE_SQL, 3, types, values);
	catalog_leave(&scope);
	PG_RETURN_VOID();
}

/* Append an entry for rows, their keys row after row. */
static void
enqueue(int vectorizer, Datum *texts, int rows, int nkeys, bool force)
{
	(void) queue_append(vectorizer, force ? QUEUE_OP_FORCED : QUEUE_OP_KEYS, rows,
						construct_array(texts, rows * nkeys, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * vecsync._enqueue(id int, keys text[], rows int, force boolean)
 *
 * Have rows looked at: their keys row after row.  With force they are embedded
 * whatever their text is.
 */
Datum
digest_enqueue(PG_FUNCTION_ARGS)
{
	int			rows = PG_GETARG_INT32(2);
	Datum	   *texts;
	int			n;

	catalog_check_owner(PG_GETARG_INT32(0));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	if (rows <= 0 || rows > QUEUE_ENTRY_ROWS || n == 0 || n % rows != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("keys and rows do not fit"));
	enqueue(PG_GETARG_INT32(0), texts, rows, n / rows, PG_GETARG_BOOL(3));
	PG_RETURN_VOID();
}

/* vecsync._check_condition(condition text): an error unless it is one SQL expression. */
Datum
digest_check_condition(PG_FUNCTION_ARGS)
{
	char	   *condition = text_to_cstring(PG_GETARG_TEXT_PP(0));
	List	   *parsed = raw_parser(psprintf("SELECT (\n%s\n)", condition), RAW_PARSE_DEFAULT);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;

	if (list_length(parsed) != 1 || !IsA(select, SelectStmt) || select->op != SETOP_NONE ||
		list_length(select->targetList) != 1 || select->fromClause != NIL || select->whereClause != NULL ||
		select->sortClause != NIL || select->limitCount != NULL || select->limitOffset != NULL)
		ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("the condition is not one SQL expression"));
	PG_RETURN_VOID();
}

/*
 * vecsync._enqueue_query(id int, query text, force boolean) -> bigint
 *
 * The same for the keys that a query of the caller's gives, one text[] a row.
 */
Datum
digest_enqueue_query(PG_FUNCTION_ARGS)
{
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64		total = 0;
	uint64		fetched;
	Portal		portal;
	MemoryContext batch;
	MemoryContext old;

	catalog_check_owner(PG_GETARG_INT32(0));
	SPI_connect();
	batch = AllocSetContextCreate(CurrentMemoryContext, "vecsync keys", ALLOCSET_DEFAULT_SIZES);
	portal = SPI_cursor_open_with_args(NULL, query, 0, NULL, NULL, NULL, false, 0);
	do
	{
		Datum	   *texts = NULL;
		int			nkeys = 0;
		SPITupleTable *table;

		SPI_cursor_fetch(portal, true, QUEUE_ENTRY_ROWS);
		table = SPI_tuptable;
		fetched = SPI_processed;
		old = MemoryContextSwitchTo(batch);
		for (uint64 i = 0; i < fetched; i++)
		{
			bool		isnull;
			Datum		array = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);
			Datum	   *key;
			int			n;

			if (isnull || SPI_gettypeid(table->tupdesc, 1) != TEXTARRAYOID)
				ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a key must be a text[]"));
			deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &key, NULL, &n);
			if (n == 0 || (texts != NULL && n != nkeys))
				ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("keys differ in length"));
			nkeys = n;
			if (texts == NULL)
				texts = palloc(sizeof(Datum) * nkeys * fetched);
			memcpy(texts + i * nkeys, key, sizeof(Datum) * nkeys);
			pfree(key);
		}
		if (fetched > 0)
			enqueue(PG_GETARG_INT32(0), texts, (int) fetched, nkeys, PG_GETARG_BOOL(2));
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);
		SPI_freetuptable(table);
		total += fetched;
	} while (fetched == QUEUE_ENTRY_ROWS);
	SPI_cursor_close(portal);
	SPI_finish();
	PG_RETURN_INT64(total);
}

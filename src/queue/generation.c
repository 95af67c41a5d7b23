/*
 * generation.c
 *		The privileged half of changing a vectorizer's generation.
 *
 * A new generation is a vectorizer of its own that has a predecessor: its own
 * number, column or table of chunks, content view, triggers and queue entries.
 * The SQL functions (sql/install/vecsync/32_generation.sql) make and swap the
 * owner's objects; what touches the extension's tables is here, behind a check of
 * who owns the source.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "queue/catalog.h"
#include "queue/queue.h"

/* More rows pending than this and the new generation is behind, whichever they are. */
#define COMPARE_ROWS	4096

PG_FUNCTION_INFO_V1(generation_content_expression);
PG_FUNCTION_INFO_V1(generation_view_column);
PG_FUNCTION_INFO_V1(generation_index_predicate);
PG_FUNCTION_INFO_V1(generation_lock);
PG_FUNCTION_INFO_V1(generation_hold);
PG_FUNCTION_INFO_V1(generation_begin);
PG_FUNCTION_INFO_V1(generation_index_built);
PG_FUNCTION_INFO_V1(generation_set_metric);
PG_FUNCTION_INFO_V1(generation_unfinished);
PG_FUNCTION_INFO_V1(generation_switch);
PG_FUNCTION_INFO_V1(generation_unseen);

/* ---- views ------------------------------------------------------------------------ */

/* A column of a view over one table, or NULL.  Anyone may call this, with any relation. */
static Node *
view_expression(Relation view, const char *column, Query **query, int *rtindex)
{
	ListCell   *lc;

	*query = catalog_simple_view(view, rtindex);
	if (*query == NULL)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is no view of a vectorizer", RelationGetRelationName(view)));
	foreach(lc, (*query)->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (!entry->resjunk && strcmp(entry->resname, column) == 0)
			return (Node *) entry->expr;
	}
	return NULL;
}

/*
 * vecsync._content_expression(content_view regclass) -> text: the expression of
 * its content, columns qualified by the source's name.  It follows what was renamed
 * since the vectorizer was made, and its names need no search_path.
 */
Datum
generation_content_expression(PG_FUNCTION_ARGS)
{
	Relation	view = relation_open(PG_GETARG_OID(0), AccessShareLock);
	Query	   *query;
	int			index;
	Node	   *expr = copyObject(view_expression(view, "content", &query, &index));
	Oid			source = rt_fetch(index, query->rtable)->relid;
	char	   *sql;

	if (expr == NULL)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is no view of a vectorizer", RelationGetRelationName(view)));
	/* before 16 the table is not the first in a view's range table */
	ChangeVarNodes(expr, index, 1, 0);
	sql = deparse_expression(expr, deparse_context_for(get_rel_name(source), source), true, false);
	relation_close(view, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(sql));
}

/* vecsync._view_column(view regclass, name) -> name: the source's column behind one of the view's. */
Datum
generation_view_column(PG_FUNCTION_ARGS)
{
	Relation	view = relation_open(PG_GETARG_OID(0), AccessShareLock);
	Query	   *query;
	int			index;
	Node	   *expr = view_expression(view, NameStr(*PG_GETARG_NAME(1)), &query, &index);
	char	   *name = NULL;

	if (expr != NULL && IsA(expr, Var))
		name = get_attname(rt_fetch(index, query->rtable)->relid,
						   ((Var *) expr)->varattno, true);
	relation_close(view, AccessShareLock);
	if (name == NULL)
		PG_RETURN_NULL();
	return DirectFunctionCall1(namein, CStringGetDatum(name));
}

/* ---- indexes ------------------------------------------------------------------------ */

typedef struct ColumnChange
{
	AttrNumber	from;
	AttrNumber	to;
} ColumnChange;

static Node *
change_column(Node *node, void *context)
{
	ColumnChange *change = context;

	if (node != NULL && IsA(node, Var) && ((Var *) node)->varattno == change->from)
	{
		Var		   *var = copyObject((Var *) node);

		var->varattno = var->varattnosyn = change->to;
		return (Node *) var;
	}
	return expression_tree_mutator(node, change_column, context);
}

/*
 * vecsync._index_predicate(index regclass, old_column name, new_column name) -> text
 *
 * The condition of a partial index, with another column of the table in the
 * place of the old one; NULL when it has none.
 */
Datum
generation_index_predicate(PG_FUNCTION_ARGS)
{
	Relation	index = index_open(PG_GETARG_OID(0), AccessShareLock);
	Oid			table = index->rd_index->indrelid;
	List	   *predicate = RelationGetIndexPredicate(index);
	ColumnChange change = {
		.from = get_attnum(table, NameStr(*PG_GETARG_NAME(1))),
		.to = get_attnum(table, NameStr(*PG_GETARG_NAME(2)))
	};
	Node	   *expr;
	char	   *sql;

	index_close(index, AccessShareLock);
	if (predicate == NIL)
		PG_RETURN_NULL();
	expr = (Node *) make_ands_explicit(predicate);
	/* without the new column the table is another one, of the same columns */
	if (change.to != InvalidAttrNumber)
		expr = change_column(expr, &change);
	sql = deparse_expression(expr, deparse_context_for(get_rel_name(table), table), false, false);
	PG_RETURN_TEXT_P(cstring_to_text(sql));
}

/* ---- the catalog ------------------------------------------------------------------- */

static uint64
run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	int			code = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
	return SPI_processed;
}

static void
lock_vectorizer(int id, LOCKMODE table, const char *row)
{
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		value = Int32GetDatum(id);

	LockRelationOid(catalog_check_owner(id), table);
	catalog_enter(&scope);
	(void) run(psprintf("SELECT FROM vecsync.vectorizer WHERE id = $1 FOR %s", row), 1, &type, &value, NULL);
	catalog_leave(&scope);
}

/*
 * vecsync._lock_vectorizer(id int, alone bool): nobody else begins to change it,
 * and a transaction that does not see its last change fails.  Its table comes first: a
 * command on that has it already when it needs the row.  'alone': what follows needs
 * the table for itself.  That is asked for at once, since who asks for more of what
 * he has meets those in a deadlock who have read the table and go on to change it.
 */
Datum
generation_lock(PG_FUNCTION_ARGS)
{
	lock_vectorizer(PG_GETARG_INT32(0), PG_GETARG_BOOL(1) ? AccessExclusiveLock : ShareUpdateExclusiveLock,
					"NO KEY UPDATE");
	PG_RETURN_VOID();
}

/*
 * vecsync._hold_vectorizer(id int): no generation takes the name of another until this
 * transaction ends, and one that does not see the last time that one did fails.
 */
Datum
generation_hold(PG_FUNCTION_ARGS)
{
	lock_vectorizer(PG_GETARG_INT32(0), AccessShareLock, "KEY SHARE");
	PG_RETURN_VOID();
}

/*
 * vecsync._begin_generation(id int, predecessor int, generation int, cutover text, pending_index jsonb)
 *
 * Both are vectorizers of one table.
 */
Datum
generation_begin(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			types[5] = {INT4OID, INT4OID, INT4OID, TEXTOID, JSONBOID};
	Datum		values[5];
	char		nulls[6] = {0};
	uint64		updated;

	for (int i = 0; i < 5; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		if (i < 4 && PG_ARGISNULL(i))
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("arguments must not be null"));
	}
	catalog_check_owner(PG_GETARG_INT32(0));
	catalog_check_owner(PG_GETARG_INT32(1));
	catalog_enter(&scope);
	updated = run("UPDATE vecsync.vectorizer n"
				  " SET successor_of = $2, generation = $3, cutover = $4, pending_index = $5"
				  " FROM vecsync.vectorizer o WHERE n.id = $1 AND o.id = $2 AND o.source = n.source"
				  " AND n.id <> o.id AND o.retired IS NULL AND o.successor_of IS NULL",
				  5, types, values, nulls);
	catalog_leave(&scope);
	if (updated != 1)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("vectorizer number %d cannot follow number %d", PG_GETARG_INT32(0),
					   PG_GETARG_INT32(1)));
	PG_RETURN_VOID();
}

/* vecsync._index_built(id int): the index that had to wait for the rows is there. */
Datum
generation_index_built(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = PG_GETARG_DATUM(0);

	catalog_check_owner(PG_GETARG_INT32(0));
	catalog_enter(&scope);
	(void) run("UPDATE vecsync.vectorizer SET pending_index = NULL WHERE id = $1", 1, &type, &id, NULL);
	catalog_leave(&scope);
	PG_RETURN_VOID();
}

/* vecsync._set_metric(id int, metric text) */
Datum
generation_set_metric(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};

	catalog_check_owner(PG_GETARG_INT32(0));
	catalog_enter(&scope);
	(void) run("UPDATE vecsync.vectorizer SET metric = $2 WHERE id = $1", 2, types, values, NULL);
	catalog_leave(&scope);
	PG_RETURN_VOID();
}

static bool
first_bool(int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* The rows of a generation's entries. */
#define PENDING_KEYS(number) \
	"SELECT q.keys[(g.n - 1) * k.n + 1:g.n * k.n] FROM pending q," \
	" LATERAL (SELECT cardinality(q.keys) / q.rows) k(n), LATERAL generate_series(1, q.rows) g(n)" \
	" WHERE q.vectorizer = " number " AND q.op IN ('k', 'f') AND q.rows > 0"

/*
 * Is the new generation behind, has it an index to make, are there rows that
 * failed in it alone, and rows that wait for it and not for the old one, so
 * that it would miss what that has?  Reads the queue once; where nothing waits
 * for the new one the old one's rows, perhaps very many, are not listed.
 */
static const char *const unfinished_sql =
	"WITH pending AS MATERIALIZED (SELECT vectorizer, op, rows, keys FROM vecsync.queue"
	" WHERE vectorizer IN ($1, $2)),"
	" next(behind, waits) AS (SELECT coalesce(bool_or(op IN ('s', 'a')), false)"
	" OR coalesce(sum(rows) FILTER (WHERE op IN ('k', 'f')), 0) > " CppAsString2(COMPARE_ROWS) ","
	" coalesce(bool_or(op IN ('k', 'f')), false)"
	" FROM pending WHERE vectorizer = $2)"
	" SELECT next.behind,"
	" (SELECT pending_index IS NOT NULL FROM vecsync.vectorizer WHERE id = $2),"
	" EXISTS (SELECT FROM vecsync.dead_letter n WHERE n.vectorizer = $2 AND NOT EXISTS"
	" (SELECT FROM vecsync.dead_letter o WHERE o.vectorizer = $1 AND o.key = n.key)),"
	" CASE WHEN NOT next.behind THEN next.waits AND EXISTS (" PENDING_KEYS("$2")
	" EXCEPT " PENDING_KEYS("$1") ") END"
	" FROM next";

/*
 * vecsync._unfinished(old int, new int) -> text
 *
 * What the new generation still lacks, compared with the old one: 'pending'
 * rows, an 'index', rows that 'failed' in it alone; NULL when nothing.  Under
 * an exclusive lock of the source the answer stays true until the end of the transaction:
 * who has written a row has written its queue entry by then.
 */
Datum
generation_unfinished(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		ids[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	const char *lack = NULL;

	catalog_check_owner(PG_GETARG_INT32(0));
	catalog_check_owner(PG_GETARG_INT32(1));
	catalog_enter(&scope);
	(void) run(unfinished_sql, 2, types, ids, NULL);
	if (first_bool(1))
		lack = "pending";
	else if (first_bool(2))
		lack = "index";
	else if (first_bool(3))
		lack = "failed";
	else if (first_bool(4))
		lack = "pending";
	catalog_leave(&scope);
	if (lack == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(lack));
}

#define FROM_BOTH \
	" FROM vecsync.vectorizer o WHERE o.id = $1 AND n.id = $2 AND n.successor_of = $1"

/*
 * vecsync._switch_generations(old int, new int, takes_search boolean)
 *
 * The new one takes the old one's name, the old one is retired and forgets its
 * queue.  With takes_search it takes what text search and namespaces need, too.
 */
Datum
generation_switch(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			types[3] = {INT4OID, INT4OID, BOOLOID};
	Datum		values[3] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)};
	uint64		updated;

	catalog_check_owner(PG_GETARG_INT32(0));
	catalog_check_owner(PG_GETARG_INT32(1));
	catalog_enter(&scope);
	if (PG_GETARG_BOOL(2))
		(void) run("UPDATE vecsync.vectorizer n SET search_view = o.search_view, text_config = o.text_config"
				   FROM_BOTH, 2, types, values, NULL);
	/* names are unique: the old one gives its name away first; what is paused under that name stays so */
	(void) run("UPDATE vecsync.vectorizer n"
			   " SET name = 'successor of ' || o.name, paused = o.paused OR n.paused" FROM_BOTH,
			   2, types, values, NULL);
	updated = run("UPDATE vecsync.vectorizer o"
				  " SET name = format('generation %s of %s', o.generation, o.name),"
				  " retired = pg_current_xact_id(),"
				  " search_view = CASE WHEN $3 THEN NULL ELSE o.search_view END"
				  " FROM vecsync.vectorizer n WHERE o.id = $1 AND n.id = $2 AND n.successor_of = $1",
				  3, types, values, NULL);
	if (updated != 1)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("vectorizer number %d does not follow number %d", PG_GETARG_INT32(1),
					   PG_GETARG_INT32(0)));
	(void) run("UPDATE vecsync.vectorizer SET name = substr(name, length('successor of ') + 1),"
			   " successor_of = NULL, cutover = NULL WHERE id = $2 AND $1 IS NOT NULL",
			   2, types, values, NULL);
	(void) run("DELETE FROM vecsync.queue WHERE vectorizer = $1", 1, types, values, NULL);
	(void) run("DELETE FROM vecsync.dead_letter WHERE vectorizer = $1", 1, types, values, NULL);
	catalog_leave(&scope);
	PG_RETURN_VOID();
}

/*
 * vecsync._unseen(retired xid8) -> boolean: has nobody a snapshot any more that
 * shows what was before that transaction?  One of another cluster, whose number a
 * dump brought here, is of the past.
 */
Datum
generation_unseen(PG_FUNCTION_ARGS)
{
	FullTransactionId retired = PG_GETARG_FULLTRANSACTIONID(0);
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());
	uint64		then = U64FromFullTransactionId(retired);
	Relation	rel;
	TransactionId horizon;

	if (then >= next || next - then > PG_INT32_MAX)
		PG_RETURN_BOOL(true);
	rel = relation_open(get_relname_relid("vectorizer", get_namespace_oid("vecsync", false)),
						AccessShareLock);
	horizon = GetOldestNonRemovableTransactionId(rel);
	relation_close(rel, AccessShareLock);
	PG_RETURN_BOOL(TransactionIdPrecedes(XidFromFullTransactionId(retired), horizon));
}

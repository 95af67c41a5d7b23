/*
 * ddl.c
 *		What commands on tables mean for their vectorizers.
 *
 * Renames need nothing: views and triggers keep numbers.  Two event triggers,
 * before and after ALTER TABLE and CREATE TABLE, see to the rest:
 *
 * - ALTER COLUMN ... TYPE, which the server refuses for a column that a view,
 *   a trigger's condition or a policy uses: what we have made of that kind is
 *   taken away before the command and made again after it.  The new texts and
 *   keys decide whether the rows have to be looked at.
 * - DROP COLUMN, for the view of chunks shows every column.
 * - OWNER TO: what the vectorizer has made for the table goes to the same role.
 * - partitions that come with rows (ATTACH) or leave with them (DETACH).
 * - ADD, DROP and RENAME COLUMN, for contents that show rows whole: their texts
 *   are others then, the update trigger has to see the new column, too, and who
 *   reads chunks must be one who may read it.
 * - SET EXPRESSION of a generated column, and triggers of ours that were disabled
 *   and are enabled again: all rows are looked at.
 * - inheritance, which would bring rows that no trigger of ours sees: refused.
 *
 * A partition that is dropped is the business of vecsync._on_drop().
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "queue/catalog.h"
#include "queue/queue.h"

PG_FUNCTION_INFO_V1(ddl_run_as_owner);
PG_FUNCTION_INFO_V1(ddl_begins);
PG_FUNCTION_INFO_V1(ddl_ended);

/* ---- which tables ------------------------------------------------------------------ */

static AlterTableCmd *
find_command(Node *statement, AlterTableType type)
{
	ListCell   *lc;

	if (!IsA(statement, AlterTableStmt) || ((AlterTableStmt *) statement)->objtype != OBJECT_TABLE)
		return NULL;
	foreach(lc, ((AlterTableStmt *) statement)->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);

		if (command->subtype == type)
			return command;
	}
	return NULL;
}

/* The numbers of the vectorizers that follow a table, itself or by an ancestor. */
static List *
followers(Oid relid, bool ancestors)
{
	CatalogScope scope;
	CatalogVectorizer *list;
	int			count;
	List	   *sources = list_make1_oid(relid);
	List	   *result = NIL;

	if (!OidIsValid(catalog_extension()) || !OidIsValid(relid))
		return NIL;
	if (ancestors && get_rel_relispartition(relid))
		sources = list_concat(sources, get_partition_ancestors(relid));
	catalog_enter(&scope);
	list = catalog_read_vectorizers(NULL, &count, CurTransactionContext);
	catalog_leave(&scope);
	for (int i = 0; i < count; i++)
		if (list_member_oid(sources, list[i].source))
			result = lappend_int(result, list[i].id);
	return result;
}

static Datum
call(const char *sql, int nargs, Oid *types, Datum *values)
{
	bool		isnull;
	int			code = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
	if (code != SPI_OK_SELECT || SPI_processed == 0)
		return (Datum) 0;
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
}

static void
call_for(const char *sql, int vectorizer)
{
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(vectorizer);

	catalog_enter(&scope);
	(void) call(sql, 1, &type, &id);
	catalog_leave(&scope);
}

/* Rows may have changed, come and gone, and nobody noted which. */
static void
queue_all_rows(int vectorizer)
{
	(void) queue_append(vectorizer, QUEUE_OP_TRUNCATE, 0, construct_empty_array(TEXTOID));
	(void) queue_append(vectorizer, QUEUE_OP_SCAN, -1, construct_empty_array(TEXTOID));
}

static void
look_at_all_rows(Oid relid)
{
	ListCell   *lc;

	foreach(lc, followers(relid, true))
		queue_all_rows(lfirst_int(lc));
}

/* ---- triggers that were disabled ------------------------------------------------------- */

/* Triggers of ours that did not fire when the command began. */
static int64 disabled_triggers = 0;

static bool
enables_triggers(Node *statement)
{
	static const AlterTableType types[] = {
		AT_EnableTrig, AT_EnableAlwaysTrig, AT_EnableReplicaTrig, AT_EnableTrigAll, AT_EnableTrigUser
	};

	for (int i = 0; i < lengthof(types); i++)
		if (find_command(statement, types[i]) != NULL)
			return true;
	return false;
}

/* On a table and its partitions, which the command goes to, too. */
static int64
count_disabled(Oid relid)
{
	CatalogScope scope;
	Oid			type = OIDOID;
	Datum		value = ObjectIdGetDatum(relid);
	int64		count;

	catalog_enter(&scope);
	count = DatumGetInt64(call(
		"SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger t WHERE t.tgenabled IN ('D', 'R')"
		" AND t.tgfoid = 'vecsync.capture()'::pg_catalog.regprocedure AND (t.tgrelid = $1"
		" OR t.tgrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1) p))", 1, &type, &value));
	catalog_leave(&scope);
	return count;
}

/* ---- columns that come and go ------------------------------------------------------------ */

/* Where a view's table is, seen from within so many subqueries. */
typedef struct ViewTable
{
	int			rtindex;
	Index		levels;
} ViewTable;

static bool
has_whole_row(Node *node, void *context)
{
	ViewTable  *table = context;
	bool		result;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varattno == InvalidAttrNumber && ((Var *) node)->varno == table->rtindex &&
			((Var *) node)->varlevelsup == table->levels;
	if (!IsA(node, Query))
		return expression_tree_walker(node, has_whole_row, context);
	table->levels++;
	result = query_tree_walker((Query *) node, has_whole_row, context, 0);
	table->levels--;
	return result;
}

static Oid
content_view_of(int vectorizer)
{
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(vectorizer);
	Datum		result;

	catalog_enter(&scope);
	result = call("SELECT content_view::oid FROM vecsync.vectorizer WHERE id = $1", 1, &type, &id);
	catalog_leave(&scope);
	return DatumGetObjectId(result);
}

/* Whose content shows rows whole, as in "t::text" or "to_json(t)"?  Then every column is in the text. */
static bool
shows_whole_rows(Oid content_view)
{
	Relation	view = try_relation_open(content_view, AccessShareLock);
	Query	   *query;
	ViewTable	table = {0};
	bool		result;

	if (view == NULL)
		return false;
	query = catalog_simple_view(view, &table.rtindex);
	result = query != NULL && has_whole_row((Node *) query->targetList, &table);
	relation_close(view, AccessShareLock);
	return result;
}

/* As the table's owner, run what a query gives, if anything.  $1: vectorizer, $2: it shows rows whole */
static void
run_for_owner(const char *sql, int vectorizer, Oid source, bool whole)
{
	CatalogScope scope;
	CatalogScope owner;
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2] = {Int32GetDatum(vectorizer), BoolGetDatum(whole)};
	Datum		statement;

	catalog_enter(&scope);
	statement = call(sql, 2, types, values);
	if (statement != (Datum) 0)
	{
		char	   *command = TextDatumGetCString(statement);

		catalog_enter_owner(&owner, catalog_relation_owner(source));
		if (SPI_execute(command, false, 0) < 0)
			elog(ERROR, "\"%s\" failed", command);
		catalog_leave(&owner);
	}
	catalog_leave(&scope);
}

/* Of a vectorizer that is followed, so not of one that was replaced. */
#define ITS_TRIGGERS \
	" FROM vecsync.vectorizer v JOIN pg_catalog.pg_trigger t ON t.tgrelid = v.source" \
	" AND t.tgname = vecsync._object_name(v.id, 'write', v.name) WHERE v.id = $1"

/* A column that is in the trigger's condition, but not in the content, which only has a name like it. */
static bool
has_lost_trigger(int vectorizer)
{
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(vectorizer);
	bool		result;

	catalog_enter(&scope);
	result = call("SELECT v.id" ITS_TRIGGERS " AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger u"
				  " WHERE u.tgrelid = v.source AND u.tgname = vecsync._object_name(v.id, 'update', v.name))",
				  1, &type, &id) != (Datum) 0;
	catalog_leave(&scope);
	return result;
}

/*
 * What is compared by the update trigger, and has to be readable for who reads chunks: of contents that show
 * rows whole every column there is, of others those that the view names.  Not the column of the vectors, or
 * each of them would be a change.
 */
#define ITS_COLUMNS \
	"(SELECT pg_catalog.string_agg(pg_catalog.format('vecsync._differ(OLD.%1$I, NEW.%1$I)', a.attname)," \
	" ' OR ') FROM pg_catalog.pg_attribute a" \
	" WHERE a.attrelid = v.source AND a.attnum > 0 AND NOT a.attisdropped" \
	" AND ($2 OR a.attname = ANY (vecsync._content_columns(v, NULL)))" \
	" AND (v.chunk_table IS NOT NULL OR a.attname IS DISTINCT FROM vecsync._target_column(v.content_view)))"

/*
 * All texts may be others.  The update trigger's condition and the chunks' policy name the columns that were
 * there when they were made; one of them that is dropped has taken them along.
 */
static void
columns_changed(Oid relid)
{
	int			nkeys;
	CatalogKeyColumn *keys;
	ListCell   *lc;

	foreach(lc, followers(relid, false))
	{
		int			id = lfirst_int(lc);
		Oid			view = content_view_of(id);
		bool		whole = shows_whole_rows(view);

		/* a view that went with a column takes the vectorizer along: _on_drop() is about to drop it */
		if (get_rel_name(view) == NULL || (!whole && !has_lost_trigger(id)))
			continue;
		run_for_owner("SELECT pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER UPDATE ON %s"
					  " FOR EACH ROW WHEN (%s) EXECUTE FUNCTION vecsync.capture(%s)',"
					  " vecsync._object_name(v.id, 'update', v.name), v.source, " ITS_COLUMNS ", v.id)"
					  ITS_TRIGGERS, id, relid, whole);
		run_for_owner("SELECT pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', v.source,"
					  " vecsync._object_name(v.id, 'update', v.name))" ITS_TRIGGERS " AND t.tgenabled = 'A'",
					  id, relid, whole);
		keys = catalog_key_columns(relid, &nkeys);
		queue_all_rows(id);
		/* under another key chunks have no rows */
		if (nkeys == 0 || !catalog_view_shows_keys(view, keys, nkeys))
			continue;
		/* the trigger's columns are the content's now */
		run_for_owner("SELECT coalesce((SELECT pg_catalog.format('DROP POLICY %I ON %s; ', p.polname,"
					  " v.chunk_table) FROM pg_catalog.pg_policy p"
					  " WHERE p.polrelid = v.chunk_table AND p.polname = 'as_the_source'), '')"
					  " || vecsync._chunks_policy_sql(v.source, v.chunk_table,"
					  " vecsync._content_columns(v, NULL))"
					  ITS_TRIGGERS " AND v.chunk_table IS NOT NULL", id, relid, whole);
	}
}

/* ---- ALTER COLUMN ... TYPE ----------------------------------------------------------- */

/* A sum over the keys and texts of all rows.  The table's own code may run: as its owner. */
static char *
digest(int vectorizer)
{
	CatalogScope scope;
	CatalogScope owner;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(vectorizer);
	Oid			view;
	char	   *sql;
	char	   *result;

	catalog_enter(&scope);
	view = DatumGetObjectId(call("SELECT content_view::oid FROM vecsync.vectorizer WHERE id = $1", 1, &type,
								 &id));
	id = ObjectIdGetDatum(view);
	type = OIDOID;
	sql = TextDatumGetCString(call(
		"SELECT pg_catalog.format('SELECT pg_catalog.sum(pg_catalog.hashtextextended("
		"pg_catalog.concat_ws(''/'', %s, content), 0))::text FROM %s',"
		" pg_catalog.string_agg(attname, ', ' ORDER BY attnum), $1::regclass)"
		" FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attname ~ '^k[0-9]+$'", 1, &type, &id));
	catalog_enter_owner(&owner, catalog_relation_owner(view));
	/* not read-only: the command before may have written all rows anew */
	if (SPI_execute(sql, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the texts of vectorizer %d", vectorizer);
	result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	result = MemoryContextStrdup(CurTransactionContext, result ? result : "");
	catalog_leave(&owner);
	catalog_leave(&scope);
	return result;
}

/*
 * vecsync._run_as_owner(source regclass, statement text)
 *
 * To define a view again is to read its literals, to retype the keys of the
 * chunks is to cast them: domains, casts and constraints of the table's owner run,
 * and must not run as the extension's.
 */
Datum
ddl_run_as_owner(PG_FUNCTION_ARGS)
{
	CatalogScope owner;
	int			code;

	catalog_enter_owner(&owner, catalog_relation_owner(PG_GETARG_OID(0)));
	code = SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(1)), false, 0);
	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", text_to_cstring(PG_GETARG_TEXT_PP(1)),
			 SPI_result_code_string(code));
	catalog_leave(&owner);
	PG_RETURN_VOID();
}

/* Take away what stands in the way of a new type, and remember it in vecsync.suspended. */
static void
suspend(int vectorizer)
{
	CatalogScope scope;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(vectorizer), CStringGetTextDatum(digest(vectorizer))};

	catalog_enter(&scope);
	(void) call("SELECT vecsync._suspend($1, $2)", 2, types, values);
	catalog_leave(&scope);
}

/* Only the view of the chunks. */
static void
suspend_view(int vectorizer)
{
	call_for("SELECT vecsync._suspend($1, NULL)", vectorizer);
}

/* The reverse.  Rows are looked at again if any key or text is another one now. */
static void
resume(int vectorizer)
{
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(vectorizer);
	Datum		answer;
	char	   *before;
	Oid			source;
	CatalogKeyColumn *keys;
	int			nkeys;

	catalog_enter(&scope);
	answer = call("SELECT vecsync._resume($1)", 1, &type, &id);
	if (answer == (Datum) 0)
	{
		catalog_leave(&scope);	/* no text can have changed */
		return;
	}
	before = MemoryContextStrdup(CurTransactionContext, TextDatumGetCString(answer));
	source = DatumGetObjectId(call("SELECT source::oid FROM vecsync.vectorizer WHERE id = $1", 1, &type,
								   &id));
	catalog_leave(&scope);
	CommandCounterIncrement();
	keys = catalog_key_columns(source, &nkeys);
	catalog_check_key_types(source, keys, nkeys);
	if (strcmp(before, digest(vectorizer)) != 0)
		queue_all_rows(vectorizer);
}

/*
 * The table that the command will find, locked as the command will lock it; InvalidOid when none is followed
 * or the caller does not own it.  Whoever had it before us may have given the name to another table.
 */
static Oid
lock_followed(RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);

	while (OidIsValid(relid) && compat_relation_owned(relid, GetUserId()) && followers(relid, false) != NIL)
	{
		Oid			again;

		LockRelationOid(relid, AccessExclusiveLock);
		again = RangeVarGetRelid(name, NoLock, true);
		if (again == relid)
			return relid;
		UnlockRelationOid(relid, AccessExclusiveLock);
		relid = again;
	}
	return InvalidOid;
}

/*
 * vecsync._ddl_begins(), on ddl_command_start of ALTER TABLE.  For others than
 * the owner the command fails by itself, and nothing is touched.
 */
Datum
ddl_begins(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = (EventTriggerData *) fcinfo->context;
	bool		new_type;
	Oid			relid;
	ListCell   *lc;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("vecsync._ddl_begins() is an event trigger function"));
	if (enables_triggers(event->parsetree))
	{
		relid = RangeVarGetRelid(((AlterTableStmt *) event->parsetree)->relation, NoLock, true);
		disabled_triggers = followers(relid, true) != NIL ? count_disabled(relid) : 0;
	}
	new_type = find_command(event->parsetree, AT_AlterColumnType) != NULL;
	if (!new_type && find_command(event->parsetree, AT_DropColumn) == NULL)
		PG_RETURN_NULL();
	relid = lock_followed(((AlterTableStmt *) event->parsetree)->relation);
	foreach(lc, followers(relid, false))
		if (new_type)
			suspend(lfirst_int(lc));
		else
			suspend_view(lfirst_int(lc));
	PG_RETURN_NULL();
}

/* ---- partitions --------------------------------------------------------------------------- */

/* Queue the rows of one table, locked by the command, by their keys' columns of these names. */
static void
queue_table(int vectorizer, Oid relid, CatalogKeyColumn *keys, int nkeys)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "vecsync keys", ALLOCSET_DEFAULT_SIZES);
	AttrNumber	attnum[INDEX_MAX_KEYS];
	FmgrInfo	output[INDEX_MAX_KEYS];
	Datum	   *texts = palloc(sizeof(Datum) * nkeys * QUEUE_ENTRY_ROWS);
	bool		more = true;

	for (int i = 0; i < nkeys; i++)
	{
		Oid			function;
		bool		varlena;

		attnum[i] = get_attnum(relid, keys[i].name);
		getTypeOutputInfo(keys[i].type, &function, &varlena);
		fmgr_info(function, &output[i]);
	}
	while (more)
	{
		MemoryContext old = MemoryContextSwitchTo(batch);
		int			rows = 0;

		while (rows < QUEUE_ENTRY_ROWS && (more = table_scan_getnextslot(scan, ForwardScanDirection, slot)))
		{
			CHECK_FOR_INTERRUPTS();
			for (int i = 0; i < nkeys; i++)
			{
				bool		isnull;
				Datum		value = slot_getattr(slot, attnum[i], &isnull);

				texts[rows * nkeys + i] = CStringGetTextDatum(queue_key_string(&output[i], value));
			}
			rows++;
		}
		if (rows > 0)
			(void) queue_append(vectorizer, QUEUE_OP_FORCED, rows,
								construct_array(texts, rows * nkeys, TEXTOID, -1, false, TYPALIGN_INT));
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	MemoryContextDelete(batch);
	pfree(texts);
}

/*
 * Queue every row of a partition that came with rows.  It may have brought vectors of its own, too.
 *
 * It was found by its name, which may be another's by now, for an index that ATTACH builds runs the code of
 * its expressions.  So it has to be the partition, and is read by its number, not by SQL: code must find no
 * way to run with our rights.
 */
static void
queue_rows(int vectorizer, Oid source, Oid parent, Oid partition)
{
	int			nkeys;
	CatalogKeyColumn *keys = catalog_key_columns(source, &nkeys);
	ListCell   *lc;

	if (!get_rel_relispartition(partition) || get_partition_parent(partition, true) != parent)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the partition of table \"%s\" was renamed while it was attached",
					   get_rel_name(parent)));
	if (nkeys == 0)
		return;
	foreach(lc, find_all_inheritors(partition, AccessShareLock, NULL))
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			queue_table(vectorizer, lfirst_oid(lc), keys, nkeys);
}

static void
partition_attached(Oid parent, Oid partition)
{
	ListCell   *lc;

	foreach(lc, followers(parent, true))
	{
		CatalogScope scope;
		Oid			type = INT4OID;
		Datum		id = Int32GetDatum(lfirst_int(lc));
		Oid			source;

		call_for("SELECT vecsync._tend_partitions($1)", lfirst_int(lc));
		if (!OidIsValid(partition))
			continue;
		catalog_enter(&scope);
		source = DatumGetObjectId(call("SELECT source::oid FROM vecsync.vectorizer WHERE id = $1", 1, &type,
									   &id));
		catalog_leave(&scope);
		queue_rows(lfirst_int(lc), source, parent, partition);
	}
}

static void
partition_detached(Oid parent)
{
	ListCell   *lc;

	foreach(lc, followers(parent, true))
	{
		call_for("SELECT vecsync._tend_partitions($1)", lfirst_int(lc));
		(void) queue_append(lfirst_int(lc), QUEUE_OP_TRUNCATE, 0, construct_empty_array(TEXTOID));
	}
}

static void
refuse_inheritance(RangeVar *parent)
{
	Oid			relid = RangeVarGetRelid(parent, NoLock, true);

	if (OidIsValid(relid) && followers(relid, false) != NIL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("table \"%s\" is followed by a vectorizer and cannot have inheritance children",
					   get_rel_name(relid)),
				errdetail("Changes of rows in the children would not be noticed."),
				errhint("Use partitions instead."));
}

static void
create_table_ended(CreateStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->inhRelations)
	{
		if (statement->partbound == NULL)
			refuse_inheritance(lfirst_node(RangeVar, lc));
		else
			partition_attached(RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true), InvalidOid);
	}
}

/*
 * As who gave the table away, and so may give what belongs to the same owner.  Like expressions of indexes,
 * the content's run as the new owner from here on.
 */
static void
owner_changed(Oid relid)
{
	Oid			type = INT4OID;
	ListCell   *lc;

	foreach(lc, followers(relid, false))
	{
		Datum		id = Int32GetDatum(lfirst_int(lc));

		SPI_connect();
		(void) call("SELECT vecsync._hand_over($1)", 1, &type, &id);
		SPI_finish();
	}
}

/* vecsync._ddl_ended(), on ddl_command_end of ALTER TABLE and CREATE TABLE. */
Datum
ddl_ended(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = (EventTriggerData *) fcinfo->context;
	AlterTableCmd *command;
	Oid			relid;
	ListCell   *lc;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("vecsync._ddl_ended() is an event trigger function"));
	if (IsA(event->parsetree, CreateStmt))
		create_table_ended((CreateStmt *) event->parsetree);
	if (IsA(event->parsetree, RenameStmt) && ((RenameStmt *) event->parsetree)->renameType == OBJECT_COLUMN &&
		((RenameStmt *) event->parsetree)->relation != NULL)
		columns_changed(RangeVarGetRelid(((RenameStmt *) event->parsetree)->relation, NoLock, true));
	if (!IsA(event->parsetree, AlterTableStmt))
		PG_RETURN_NULL();

	relid = RangeVarGetRelid(((AlterTableStmt *) event->parsetree)->relation, NoLock, true);
	if (find_command(event->parsetree, AT_AlterColumnType) != NULL ||
		find_command(event->parsetree, AT_DropColumn) != NULL)
		foreach(lc, followers(relid, false))
			resume(lfirst_int(lc));
	if ((command = find_command(event->parsetree, AT_AttachPartition)) != NULL)
		partition_attached(relid, RangeVarGetRelid(castNode(PartitionCmd, command->def)->name, NoLock, true));
	if (find_command(event->parsetree, AT_DetachPartition) != NULL ||
		find_command(event->parsetree, AT_DetachPartitionFinalize) != NULL)
		partition_detached(relid);
	if (find_command(event->parsetree, AT_ChangeOwner) != NULL)
		owner_changed(relid);
	if (find_command(event->parsetree, COMPAT_AT_SET_EXPRESSION) != NULL ||
		(enables_triggers(event->parsetree) && disabled_triggers > 0 &&
		 count_disabled(relid) < disabled_triggers))
		look_at_all_rows(relid);
	if (find_command(event->parsetree, AT_AddColumn) != NULL ||
		find_command(event->parsetree, AT_DropColumn) != NULL)
		columns_changed(relid);
	if ((command = find_command(event->parsetree, AT_AddInherit)) != NULL)
		refuse_inheritance(castNode(RangeVar, command->def));
	PG_RETURN_NULL();
}

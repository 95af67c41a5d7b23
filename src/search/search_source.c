/*
 * search_source.c
 *		The session's knowledge of vectorizers, and its saved plans.
 *
 * Both are dropped when the catalog changes anywhere, when this session
 * changes it, when a table it knows is altered, when something it names may
 * have another name, and when a transaction rolls back, since it may have seen
 * what never was.  Without shared memory nobody
 * tells of other sessions' changes, and nothing is kept.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi_priv.h"
#include "lib/ilist.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "queue/queue.h"
#include "search/search.h"
#include "worker/worker.h"

#define KEPT_SOURCES	16
#define KEPT_PLANS		32
#define KEPT_PLAN_BYTES	16384	/* of a statement; its plan takes thirty times as much memory */

static const SearchMetric metrics[] = {
	{"cosine", "<=>"},
	{"l2", "<->"},
	{"ip", "<#>"},
	{"l1", "<+>"},
};

typedef struct KeptPlan
{
	dlist_node	node;			/* most recent first */
	SPIPlanPtr	plan;
	uint32		hash;
	Oid			vector_type;
	char	   *sql;
} KeptPlan;

static SearchSource *kept_sources[KEPT_SOURCES];
static dlist_head kept_plans = DLIST_STATIC_INIT(kept_plans);
static int	nkept_plans = 0;
static bool stale = false;
static uint64 kept_generation = 0;
static uint64 kept_local_changes = 0;
static int	searches_open = 0;

struct SearchScope
{
	MemoryContextCallback callback;
	bool		open;
};

/* ---- searches inside of searches ------------------------------------------------- */

static void
leave(void *arg)
{
	SearchScope *scope = arg;

	if (scope->open)
		searches_open--;
	scope->open = false;
}

SearchScope *
search_enter(void)
{
	SearchScope *scope = palloc0(sizeof(SearchScope));

	scope->callback.func = leave;
	scope->callback.arg = scope;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &scope->callback);
	scope->open = true;
	searches_open++;
	return scope;
}

void
search_leave(SearchScope *scope)
{
	leave(scope);
}

static bool
is_inner_search(void)
{
	return searches_open > 1;
}

/* ---- when to forget --------------------------------------------------------------- */

static void
relation_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < KEPT_SOURCES; i++)
	{
		CatalogVectorizer *def = kept_sources[i] ? kept_sources[i]->def : NULL;

		if (def != NULL && (relid == InvalidOid || relid == def->source || relid == def->content_view ||
							relid == def->search_view || relid == def->chunk_table))
			stale = true;
	}
}

/* A schema, type or operator may have another name, or that of another ... */
static void
names_changed(void)
{
	stale = true;
}

/* ... and so may a function or a text search configuration. */
static void
name_changed(Datum arg, int cacheid, uint32 hash)
{
	names_changed();
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		stale = true;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		stale = true;
}

/* Returns whether what was kept is gone. */
static bool
forget_if_stale(void)
{
	static bool registered = false;
	uint64		generation = worker_config_generation();

	if (!registered)
	{
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, name_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(TSCONFIGOID, name_changed, (Datum) 0);
		catalog_watch_names(names_changed);
		RegisterXactCallback(transaction_ended, NULL);
		RegisterSubXactCallback(subtransaction_ended, NULL);
		registered = true;
	}
	if (!stale && generation != 0 && generation == kept_generation &&
		queue_config_changes == kept_local_changes)
		return false;
	for (int i = 0; i < KEPT_SOURCES; i++)
	{
		if (kept_sources[i] != NULL)
			MemoryContextDelete(kept_sources[i]->context);
		kept_sources[i] = NULL;
	}
	stale = false;
	kept_generation = generation;
	kept_local_changes = queue_config_changes;
	return true;
}

/* ---- sources --------------------------------------------------------------------------- */

static const SearchMetric *
find_metric(const char *name)
{
	for (int i = 0; i < lengthof(metrics); i++)
		if (strcmp(metrics[i].name, name) == 0)
			return &metrics[i];
	elog(ERROR, "unknown metric \"%s\"", name);
	return NULL;
}

/*
 * A key column's value for its JSON form.  An extension's type may have a cast to JSON, and none back: its
 * text serves both ways.
 */
static char *
json_value(Oid type, int column)
{
	type = getBaseType(type);
	if (type >= FirstNormalObjectId && get_typtype(type) == TYPTYPE_BASE &&
		!OidIsValid(get_element_type(type)))
		return psprintf("pg_catalog.concat(r.k%d)", column);
	return psprintf("r.k%d", column);
}

static void
describe_keys(SearchSource *source)
{
	StringInfoData columns,
				order,
				json,
				content;

	initStringInfo(&columns);
	initStringInfo(&order);
	initStringInfo(&json);
	initStringInfo(&content);
	appendStringInfoString(&json, "pg_catalog.jsonb_build_object(");
	appendStringInfo(&content, "(SELECT t.content FROM %s AS t WHERE ",
					 catalog_relation_name(source->def->content_view));
	for (int i = 0; i < source->nkeys; i++)
	{
		const char *comma = i > 0 ? ", " : "";
		const char *name = quote_identifier(source->keys[i].name);

		appendStringInfo(&columns, "%ss.%s AS k%d", comma, name, i + 1);
		appendStringInfo(&order, "%ss.%s", comma, name);
		appendStringInfo(&json, "%s%s, %s", comma, quote_literal_cstr(source->keys[i].name),
						 json_value(source->keys[i].type, i + 1));
		appendStringInfo(&content, "%st.k%d %s r.k%d", i > 0 ? " AND " : "", i + 1, source->keys[i].equal,
						 i + 1);
	}
	appendStringInfoChar(&json, ')');
	appendStringInfoChar(&content, ')');
	source->key_columns = columns.data;
	source->key_order = order.data;
	source->key_json = json.data;
	source->content = content.data;
}

static void
describe_chunks(SearchSource *source)
{
	StringInfoData from,
				group;

	initStringInfo(&from);
	initStringInfo(&group);
	appendStringInfo(&from, "%s AS c JOIN %s ON ", catalog_relation_name(source->def->chunk_table),
					 source->rows);
	for (int i = 0; i < source->nkeys; i++)
	{
		const char *name = quote_identifier(source->keys[i].name);

		appendStringInfo(&from, "%ss.%s %s c.k%d", i > 0 ? " AND " : "", name, source->keys[i].equal, i + 1);
		appendStringInfo(&group, "%ss.%s", i > 0 ? ", " : " GROUP BY ", name);
	}
	source->from = from.data;
	source->vector = "c.embedding";
	source->row_vector = psprintf("%s.avg(c.embedding)", source->vector_schema);
	source->row_group = group.data;
}

/*
 * The search view names the namespace and the words of the text leg.  What
 * counts are its expressions: they follow renames, and are put over the table
 * itself, where its indexes are.
 */
static void
describe_search_view(SearchSource *source)
{
	Relation	view = try_relation_open(source->def->search_view, AccessShareLock);
	Query	   *query;
	int			rtindex;
	List	   *context;
	ListCell   *lc;
	int			guc_level;

	if (view == NULL)
		return;
	/* with this path every name that needs it is written with its schema */
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	context = deparse_context_for("s", source->def->source);
	query = catalog_simple_view(view, &rtindex);
	foreach(lc, query ? query->targetList : NIL)
	{
		TargetEntry *entry = lfirst(lc);
		Node	   *expr = copyObject((Node *) entry->expr);
		char	   *sql;

		if (entry->resjunk)
			continue;
		/* before 16 the table is not the first in a view's range table */
		ChangeVarNodes(expr, rtindex, 1, 0);
		sql = deparse_expression(expr, context, true, false);
		if (strcmp(entry->resname, "namespace") == 0)
		{
			source->namespace = psprintf("(%s)", sql);
			source->namespace_type = exprType(expr);
		}
		else if (strcmp(entry->resname, "words") == 0)
			source->words = psprintf("(%s)", sql);
	}
	relation_close(view, AccessShareLock);
	if (OidIsValid(source->def->text_config))
		source->text_config = psprintf("%s::pg_catalog.regconfig",
									   quote_literal_cstr(DatumGetCString(DirectFunctionCall1(
										   regconfigout, ObjectIdGetDatum(source->def->text_config)))));
	AtEOXact_GUC(false, guc_level);
}

static SearchSource *
make_source(const char *name)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "vecsync search source", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SearchSource *source = palloc0(sizeof(SearchSource));

	source->context = context;
	source->def = catalog_get_vectorizer(name, context);
	LockRelationOid(source->def->source, AccessShareLock);
	source->def = catalog_get_vectorizer(name, context);	/* its column may have been renamed meanwhile */
	source->metric = find_metric(source->def->metric);
	source->keys = catalog_key_columns(source->def->source, &source->nkeys);
	catalog_check_keys(source->def, source->keys, source->nkeys);
	source->rows = psprintf("%s AS s", catalog_relation_name(source->def->source));
	source->chunked = OidIsValid(source->def->chunk_table);
	if (source->def->target_column == NULL && !source->chunked)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the content view of vectorizer \"%s\" is missing", name));
	source->vector_schema = catalog_vector_schema();
	if (source->chunked)
		describe_chunks(source);
	else
	{
		source->from = source->rows;
		source->vector = psprintf("s.%s", quote_identifier(source->def->target_column));
		source->row_vector = source->vector;
		source->row_group = "";
	}
	describe_keys(source);
	if (OidIsValid(source->def->search_view))
		describe_search_view(source);
	MemoryContextSwitchTo(old);
	return source;
}

/*
 * The table is locked before its columns' names are taken, and stays so: a
 * new generation comes into use under an exclusive lock, so the model, the column and
 * the rows of one transaction belong together.
 */
SearchSource *
search_source(const char *name)
{
	SearchSource *source;
	int			slot = hash_bytes((const unsigned char *) name, strlen(name)) % KEPT_SOURCES;

	Assert(searches_open > 0);
	if (is_inner_search())
		return make_source(name);
	forget_if_stale();
	source = kept_sources[slot];
	if (source != NULL && strcmp(source->def->name, name) == 0)
	{
		LockRelationOid(source->def->source, AccessShareLock);	/* may run invalidations */
		if (!forget_if_stale())
			return source;
	}
	source = make_source(name);
	if (kept_generation == 0 || !catalog_vectorizer_is_current(name))
		return source;
	if (kept_sources[slot] != NULL)
		MemoryContextDelete(kept_sources[slot]->context);
	MemoryContextSetParent(source->context, TopMemoryContext);
	kept_sources[slot] = source;
	return source;
}

/* ---- plans -------------------------------------------------------------------------------- */

static void
drop_plan(KeptPlan *kept)
{
	dlist_delete(&kept->node);
	SPI_freeplan(kept->plan);
	pfree(kept->sql);
	pfree(kept);
	nkept_plans--;
}

/*
 * Everything but the vector is in the text, so one generic plan is as good as
 * one made for each vector.
 */
SPIPlanPtr
search_plan(const char *sql, Oid vector_type)
{
	size_t		len = strlen(sql);
	uint32		hash = hash_bytes((const unsigned char *) sql, len);
	dlist_iter	iter;
	KeptPlan   *kept;
	SPIPlanPtr	plan;

	dlist_foreach(iter, &kept_plans)
	{
		kept = dlist_container(KeptPlan, node, iter.cur);
		if (kept->hash == hash && kept->vector_type == vector_type && strcmp(kept->sql, sql) == 0)
		{
			dlist_move_head(&kept_plans, &kept->node);
			return kept->plan;
		}
	}
	plan = SPI_prepare_cursor(sql, 1, &vector_type, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare a search: %s", SPI_result_code_string(SPI_result));
	if (is_inner_search() || len > KEPT_PLAN_BYTES)
		return plan;
	kept = MemoryContextAllocZero(TopMemoryContext, sizeof(KeptPlan));
	kept->hash = hash;
	kept->vector_type = vector_type;
	kept->sql = MemoryContextStrdup(TopMemoryContext, sql);
	SPI_keepplan(plan);
	kept->plan = plan;
	dlist_push_head(&kept_plans, &kept->node);
	if (++nkept_plans > KEPT_PLANS)
		drop_plan(dlist_tail_element(KeptPlan, node, &kept_plans));
	return plan;
}

static bool
has_ordered_scan(Plan *plan)
{
	List	   *children = NIL;
	ListCell   *lc;

	if (plan == NULL)
		return false;
	if (IsA(plan, IndexScan) && ((IndexScan *) plan)->indexorderby != NIL)
		return true;
	if (IsA(plan, Append))
		children = ((Append *) plan)->appendplans;
	else if (IsA(plan, MergeAppend))
		children = ((MergeAppend *) plan)->mergeplans;
	else if (IsA(plan, SubqueryScan))
		children = list_make1(((SubqueryScan *) plan)->subplan);
	foreach(lc, children)
		if (has_ordered_scan(lfirst(lc)))
			return true;
	return has_ordered_scan(plan->lefttree) || has_ordered_scan(plan->righttree);
}

/* Does it read rows by their distance from an index, which may give up before it has enough? */
bool
search_plan_uses_vector_index(SPIPlanPtr plan)
{
	CachedPlan *cached = SPI_plan_get_cached_plan(plan);
	bool		result = false;
	ListCell   *lc;

	if (cached == NULL)
		return true;
	foreach(lc, cached->stmt_list)
	{
		PlannedStmt *statement = lfirst_node(PlannedStmt, lc);

		result |= has_ordered_scan(statement->planTree);
	}
	ReleaseCachedPlan(cached, plan->saved ? CurrentResourceOwner : NULL);
	return result;
}

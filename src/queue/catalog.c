/*
 * catalog.c
 *		The extension's own tables, read and written as their owner.
 *
 * Sessions call our functions as themselves.  What they may not read (models'
 * keys) or write (the catalog) is reached through a scope that switches to
 * the extension's owner for the time of our own, fixed SQL.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteSupport.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/chunk_options.h"
#include "base/compat.h"
#include "queue/catalog.h"
#include "queue/queue.h"

#define SECRET_MAX_BYTES 16384

PG_FUNCTION_INFO_V1(catalog_config_changed);
PG_FUNCTION_INFO_V1(catalog_target_column_sql);

void
catalog_enter(CatalogScope *scope)
{
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   scope->save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* a text search configuration is known by its text */
	if (quote_all_identifiers)
		(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	SPI_connect();
}

void
catalog_leave(CatalogScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
}

/*
 * The same for SQL over a user's objects: as their owner, in a context that
 * keeps the owner's functions from changing roles or session state.
 */
void
catalog_enter_owner(CatalogScope *scope, Oid owner)
{
	if (!OidIsValid(owner))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the table does not exist any more"));
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	SetUserIdAndSecContext(owner, scope->save_sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

Oid
catalog_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* By number: names change with generations. */
Oid
catalog_check_owner(int vectorizer)
{
	CatalogScope scope;
	Oid			type = INT4OID;
	Datum		id = Int32GetDatum(vectorizer);
	Oid			source = InvalidOid;
	bool		isnull;

	catalog_enter(&scope);
	if (SPI_execute_with_args("SELECT source::oid FROM vecsync.vectorizer WHERE id = $1", 1, &type, &id, NULL,
							  false, 1) == SPI_OK_SELECT && SPI_processed == 1)
		source = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	catalog_leave(&scope);
	if (!OidIsValid(source))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no vectorizer with number %d", vectorizer));
	if (get_rel_name(source) == NULL || !compat_relation_owned(source, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(source));
	return source;
}

/*
 * Statement trigger of the configuration tables: tell the worker at commit.  The
 * invalidation is for the sessions of standbys.
 */
Datum
catalog_config_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("vecsync._config_changed() is a trigger function"));
	queue_note_change(QUEUE_CHANGED_CONFIG);
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

/* ---- reading rows ----------------------------------------------------------------- */

static char *
column_string(HeapTuple tuple, TupleDesc desc, const char *column, MemoryContext context)
{
	char	   *value = SPI_getvalue(tuple, desc, SPI_fnumber(desc, column));

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

static int
column_int(HeapTuple tuple, TupleDesc desc, const char *column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, SPI_fnumber(desc, column), &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

static Oid
column_oid(HeapTuple tuple, TupleDesc desc, const char *column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, SPI_fnumber(desc, column), &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

static bool
column_is_null(HeapTuple tuple, TupleDesc desc, const char *column)
{
	bool		isnull;

	(void) SPI_getbinval(tuple, desc, SPI_fnumber(desc, column), &isnull);
	return isnull;
}

static bool
column_is(HeapTuple tuple, TupleDesc desc, const char *column, const char *expected)
{
	char	   *value = SPI_getvalue(tuple, desc, SPI_fnumber(desc, column));

	return value != NULL && strcmp(value, expected) == 0;
}

static ChunkOptions
column_chunking(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, SPI_fnumber(desc, "chunking"), &isnull);

	return chunk_options_from_json(isnull ? NULL : DatumGetJsonbP(value));
}

/* ---- secrets ------------------------------------------------------------------- */

static char *
catalog_read_secret_file(const char *path, char **problem)
{
	FILE	   *file;
	char		buffer[SECRET_MAX_BYTES + 1];
	size_t		length;

	file = AllocateFile(path, "r");
	if (file == NULL)
	{
		*problem = psprintf("the secret's file \"%s\" cannot be read: %m", path);
		return NULL;
	}
	length = fread(buffer, 1, SECRET_MAX_BYTES, file);
	FreeFile(file);
	while (length > 0 && isspace((unsigned char) buffer[length - 1]))
		length--;
	buffer[length] = '\0';
	if (length == 0)
	{
		*problem = psprintf("the secret's file \"%s\" is empty", path);
		return NULL;
	}
	return pstrdup(buffer);
}

/* The elements of a text[], with commas between them. */
static char *
join_texts(Datum array, MemoryContext context)
{
	StringInfoData buf;
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	initStringInfo(&buf);
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? "," : "", TextDatumGetCString(elems[i]));
	return MemoryContextStrdup(context, buf.data);
}

/*
 * A key that was set by name: it belongs to the role that set it, or goes to
 * the URLs it was set for.
 */
static char *
catalog_named_secret(CatalogModel *model, const char *name, char **problem, MemoryContext context)
{
	Datum		arg = CStringGetTextDatum(name);
	Oid			argtype = TEXTOID;
	HeapTuple	tuple;
	TupleDesc	desc;
	Datum		urls;
	bool		isnull;
	Oid			owner;

	/* columns that an installation not yet updated lacks read as NULL */
	if (SPI_execute_with_args("SELECT * FROM vecsync.secret WHERE name = $1", 1, &argtype, &arg, NULL, true,
							  1) != SPI_OK_SELECT || SPI_processed == 0)
	{
		*problem = psprintf("there is no secret \"%s\"", name);
		return NULL;
	}
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	owner = column_oid(tuple, desc, "owner");
	urls = SPI_getbinval(tuple, desc, SPI_fnumber(desc, "urls"), &isnull);
	if (!isnull)
		model->secret_urls = join_texts(urls, context);
	else if (OidIsValid(owner) && !superuser_arg(model->owner) && !has_privs_of_role(model->owner, owner))
	{
		model->secret_denied = true;
		*problem = psprintf("secret \"%s\" was set by another role, for no URL", name);
		return NULL;
	}
	return SPI_getvalue(tuple, desc, SPI_fnumber(desc, "value"));
}

/* Resolve what vecsync.model.secret says.  Inside a catalog scope. */
static char *
catalog_resolve_secret(CatalogModel *model, const char *reference, char **problem, MemoryContext context)
{
	*problem = NULL;
	if (strncmp(reference, "env:", 4) == 0)
	{
		char	   *value = getenv(reference + 4);

		if (value == NULL || value[0] == '\0')
		{
			*problem = psprintf("the server's environment has no variable \"%s\"", reference + 4);
			return NULL;
		}
		return pstrdup(value);
	}
	if (strncmp(reference, "file:", 5) == 0)
		return catalog_read_secret_file(reference + 5, problem);

	return catalog_named_secret(model, reference, problem, context);
}

/* ---- models and vectorizers ----------------------------------------------------------- */

static void
column_users(CatalogModel *model, HeapTuple tuple, TupleDesc desc, MemoryContext context)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, SPI_fnumber(desc, "users"), &isnull);
	Datum	   *elems;
	bool	   *nulls;

	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(value), REGROLEOID, sizeof(Oid), true, TYPALIGN_INT, &elems, &nulls,
					  &model->nusers);
	model->users = MemoryContextAlloc(context, sizeof(Oid) * Max(model->nusers, 1));
	for (int i = 0; i < model->nusers; i++)
		model->users[i] = nulls[i] ? BOOTSTRAP_SUPERUSERID : DatumGetObjectId(elems[i]);
}

CatalogModel *
catalog_read_models(const char *name, int *count, MemoryContext context)
{
	Oid			argtype = TEXTOID;
	Datum		arg = name ? CStringGetTextDatum(name) : (Datum) 0;
	char		null = name ? ' ' : 'n';
	SPITupleTable *table;
	CatalogModel *models;

	if (SPI_execute_with_args("SELECT *, (extract(epoch FROM timeout) * 1000)::int4 AS timeout_ms"
							  " FROM vecsync.model WHERE $1 IS NULL OR name = $1 ORDER BY name",
							  1, &argtype, &arg, &null, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.model");
	table = SPI_tuptable;
	*count = (int) SPI_processed;
	models = MemoryContextAllocZero(context, sizeof(CatalogModel) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		HeapTuple	tuple = table->vals[i];
		TupleDesc	desc = table->tupdesc;
		CatalogModel *m = &models[i];
		char	   *reference = column_string(tuple, desc, "secret", CurrentMemoryContext);

		m->name = column_string(tuple, desc, "name", context);
		m->kind = column_string(tuple, desc, "kind", context);
		m->provider = column_string(tuple, desc, "provider", context);
		m->url = column_string(tuple, desc, "url", context);
		m->model = column_string(tuple, desc, "model", context);
		m->dimensions = column_int(tuple, desc, "dimensions");
		m->parameters = column_string(tuple, desc, "parameters", context);
		m->document_parameters = column_string(tuple, desc, "document_parameters", context);
		m->query_parameters = column_string(tuple, desc, "query_parameters", context);
		m->max_batch = column_int(tuple, desc, "max_batch");
		m->max_batch_bytes = column_int(tuple, desc, "max_batch_bytes");
		m->max_inflight = column_int(tuple, desc, "max_inflight");
		m->rate_limit = column_int(tuple, desc, "rate_limit");
		m->token_limit = column_int(tuple, desc, "token_limit");
		m->timeout_ms = column_int(tuple, desc, "timeout_ms");
		m->owner = column_oid(tuple, desc, "owner");
		column_users(m, tuple, desc, context);
		m->private_addresses = column_int(tuple, desc, "private_addresses") != 0;
		if (reference != NULL)
		{
			char	   *problem;
			char	   *value = catalog_resolve_secret(m, reference, &problem, context);

			m->secret = value ? MemoryContextStrdup(context, value) : NULL;
			m->secret_error = problem ? MemoryContextStrdup(context, problem) : NULL;
		}
	}
	return models;
}

CatalogModel *
catalog_get_model(const char *name, MemoryContext context)
{
	CatalogScope scope;
	CatalogModel *model;
	int			count;

	catalog_enter(&scope);
	model = catalog_read_models(name, &count, context);
	catalog_leave(&scope);
	if (count == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("model \"%s\" does not exist", name),
				errhint("vecsync.create_model() makes one; vecsync.model lists them."));
	catalog_check_model_use(model, GetUserId());
	return model;
}

bool
catalog_model_usable(const CatalogModel *model, Oid role)
{
	for (int i = 0; i < model->nusers; i++)
		if (!OidIsValid(model->users[i]) || has_privs_of_role(role, model->users[i]))
			return true;
	/* no owner: an installation not yet updated */
	return !OidIsValid(model->owner) || has_privs_of_role(role, model->owner);
}

void
catalog_check_model_use(const CatalogModel *model, Oid role)
{
	if (!catalog_model_usable(model, role))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for model \"%s\"", model->name),
				errhint("Its owner can let role \"%s\" use it with vecsync.grant_model().",
						GetUserNameFromId(role, true)));
}

/* The query, if it is one over a single table, and where that is in its range table; else NULL. */
static Query *
simple_query(Query *query, int *rtindex)
{
	Node	   *from;

	if (query->targetList == NIL || list_length(query->jointree->fromlist) != 1)
		return NULL;
	from = linitial(query->jointree->fromlist);
	if (!IsA(from, RangeTblRef))
		return NULL;
	*rtindex = ((RangeTblRef *) from)->rtindex;
	return rt_fetch(*rtindex, query->rtable)->rtekind == RTE_RELATION ? query : NULL;
}

Query *
catalog_simple_view(Relation view, int *rtindex)
{
	if (view->rd_rel->relkind != RELKIND_VIEW)
		return NULL;
	return simple_query(get_view_query(view), rtindex);
}

/*
 * A view's query, without a lock of the view; NULL when it is gone.  Somebody may have the view to
 * himself for long, as in a transaction that has given a column another type: who reads about
 * all vectorizers (the worker, the status, commands on other tables) must not wait for him.
 */
static Query *
unlocked_view_query(Oid viewid)
{
	HeapTuple	tuple = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(viewid),
										PointerGetDatum(ViewSelectRuleName));
	Query	   *query;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	query = linitial_node(Query, (List *) stringToNode(TextDatumGetCString(
		SysCacheGetAttr(RULERELNAME, tuple, Anum_pg_rewrite_ev_action, &isnull))));
	ReleaseSysCache(tuple);
	return query;
}

/*
 * The table's column behind the last column of the content view.  The view
 * keeps the column's number, so a renamed column is found.  NULL when the
 * view is gone.
 */
char *
catalog_target_column(Oid viewid, MemoryContext context)
{
	Query	   *query = unlocked_view_query(viewid);
	int			rtindex;
	Var		   *var;
	char	   *name = NULL;

	if (query == NULL || simple_query(query, &rtindex) == NULL)
		return NULL;
	var = (Var *) llast_node(TargetEntry, query->targetList)->expr;
	if (IsA(var, Var) && rt_fetch(var->varno, query->rtable)->rtekind == RTE_RELATION)
		name = get_attname(rt_fetch(var->varno, query->rtable)->relid, var->varattno, true);
	return name == NULL ? NULL : MemoryContextStrdup(context, name);
}

/* vecsync._target_column(content_view regclass) -> name */
Datum
catalog_target_column_sql(PG_FUNCTION_ARGS)
{
	char	   *name = catalog_target_column(PG_GETARG_OID(0), CurrentMemoryContext);

	if (name == NULL)
		PG_RETURN_NULL();
	return DirectFunctionCall1(namein, CStringGetDatum(name));
}

CatalogVectorizer *
catalog_read_vectorizers(const char *name, int *count, MemoryContext context)
{
	Oid			argtype = TEXTOID;
	Datum		arg = name ? CStringGetTextDatum(name) : (Datum) 0;
	char		null = name ? ' ' : 'n';
	SPITupleTable *table;
	CatalogVectorizer *list;

	if (SPI_execute_with_args("SELECT v.*, (SELECT c.oid FROM pg_catalog.pg_ts_config c"
							  " WHERE c.oid::regconfig::text = v.text_config::text) AS text_config_oid"
							  " FROM vecsync.vectorizer v WHERE $1 IS NULL OR name = $1 ORDER BY id",
							  1, &argtype, &arg, &null, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read vecsync.vectorizer");
	table = SPI_tuptable;
	*count = (int) SPI_processed;
	list = MemoryContextAllocZero(context, sizeof(CatalogVectorizer) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		HeapTuple	tuple = table->vals[i];
		TupleDesc	desc = table->tupdesc;
		CatalogVectorizer *v = &list[i];

		v->id = column_int(tuple, desc, "id");
		v->name = column_string(tuple, desc, "name", context);
		v->source = column_oid(tuple, desc, "source");
		v->model = column_string(tuple, desc, "model", context);
		v->content_view = column_oid(tuple, desc, "content_view");
		v->chunk_table = column_oid(tuple, desc, "chunk_table");
		if (!OidIsValid(v->chunk_table))
			v->target_column = catalog_target_column(v->content_view, context);
		v->chunking = column_chunking(tuple, desc);
		v->metric = column_string(tuple, desc, "metric", context);
		v->search_view = column_oid(tuple, desc, "search_view");
		v->text_config = column_oid(tuple, desc, "text_config_oid");
		v->paused = column_int(tuple, desc, "paused") != 0;
		v->generation = column_int(tuple, desc, "generation");
		v->successor_of = column_int(tuple, desc, "successor_of");
		v->auto_cutover = column_is(tuple, desc, "cutover", "auto");
		v->pending_index = !column_is_null(tuple, desc, "pending_index");
		v->retired = !column_is_null(tuple, desc, "retired");
	}
	return list;
}

CatalogVectorizer *
catalog_get_vectorizer(const char *name, MemoryContext context)
{
	CatalogScope scope;
	CatalogVectorizer *vectorizer;
	int			count;

	catalog_enter(&scope);
	vectorizer = catalog_read_vectorizers(name, &count, context);
	catalog_leave(&scope);
	if (count == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("vectorizer \"%s\" does not exist", name),
				errhint("vecsync.create_vectorizer() makes one; vecsync.status lists them."));
	return vectorizer;
}

/* ---- names ----------------------------------------------------------------------------- */

char *
catalog_relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

char *
catalog_operator_name(Oid oper)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(oper));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

/* A member of the operator family of a key's index. */
static char *
key_operator(Oid family, Oid type, int16 strategy)
{
	char	   *name = catalog_operator_name(get_opfamily_member(family, type, type, strategy));

	if (name == NULL)
		elog(ERROR, "operator family %u has no operator %d for type %u", family, strategy, type);
	return name;
}

CatalogKeyColumn *
catalog_key_columns(Oid relid, int *nkeys)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	Oid			pkey = compat_primary_key_index(rel);
	CatalogKeyColumn *keys = NULL;

	*nkeys = 0;
	if (OidIsValid(pkey))
	{
		Relation	index = index_open(pkey, AccessShareLock);

		/*
		 * A key WITHOUT OVERLAPS is of another access method, and names no single row by equality.  That of a
		 * partitioned table is valid when all partitions have it: while a dump is restored, when they have
		 * their rows.
		 */
		if (index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid)
			*nkeys = index->rd_index->indnkeyatts;
		keys = palloc0(sizeof(CatalogKeyColumn) * *nkeys);
		for (int i = 0; i < *nkeys; i++)
		{
			AttrNumber	attnum = index->rd_index->indkey.values[i];
			Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
			Oid			input = index->rd_opcintype[i];

			keys[i].attnum = attnum;
			keys[i].name = pstrdup(NameStr(att->attname));
			keys[i].type = att->atttypid;
			catalog_note_type_named(att->atttypid);
			keys[i].type_name = format_type_extended(att->atttypid, att->atttypmod,
													 FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
			keys[i].equal = key_operator(index->rd_opfamily[i], input, BTEqualStrategyNumber);
			keys[i].greater = key_operator(index->rd_opfamily[i], input, BTGreaterStrategyNumber);
			keys[i].greater_equal = key_operator(index->rd_opfamily[i], input,
												 BTGreaterEqualStrategyNumber);
		}
		index_close(index, AccessShareLock);
	}
	relation_close(rel, AccessShareLock);
	return keys;
}

/* Do the content view's first columns show just these? */
bool
catalog_view_shows_keys(Oid viewid, CatalogKeyColumn *keys, int nkeys)
{
	Relation	view = try_relation_open(viewid, AccessShareLock);
	Query	   *query = NULL;
	int			rtindex;
	bool		same;

	if (view == NULL)
		return true;			/* whoever needs it says so */
	query = catalog_simple_view(view, &rtindex);
	same = query == NULL || list_length(query->targetList) > nkeys;
	for (int i = 0; query != NULL && same && i < nkeys; i++)
	{
		TargetEntry *entry = list_nth_node(TargetEntry, query->targetList, i);

		same = IsA(entry->expr, Var) && ((Var *) entry->expr)->varattno == keys[i].attnum;
	}
	/* the column behind the keys is the text */
	if (query != NULL && same)
		same = strcmp(list_nth_node(TargetEntry, query->targetList, nkeys)->resname, "content") == 0;
	relation_close(view, AccessShareLock);
	return same;
}

/*
 * Rows are known by their primary key, in the queue, in the view and in the table
 * of chunks.  Under another key of the same types their texts would be taken for
 * each other's.
 */
void
catalog_check_keys(const CatalogVectorizer *v, CatalogKeyColumn *keys, int nkeys)
{
	if (nkeys == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" has no primary key", get_rel_name(v->source)));
	if (!catalog_view_shows_keys(v->content_view, keys, nkeys))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the primary key of table \"%s\" is not the one that vectorizer \"%s\" was made for",
					   get_rel_name(v->source), v->name),
				errhint("Restore the key and call vecsync.resync(), or make the vectorizer anew."));
}

/* (a > x) OR (a = x AND b > y): the rows behind a key, in a form that an index on (a, b) serves. */
char *
catalog_key_after(CatalogKeyColumn *keys, int nkeys, const char **columns, const char **values)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s %s %s::%s AND (", columns[0], keys[0].greater_equal, values[0],
					 keys[0].type_name);
	for (int i = 0; i < nkeys; i++)
	{
		appendStringInfoString(&buf, i > 0 ? " OR (" : "(");
		for (int j = 0; j <= i; j++)
			appendStringInfo(&buf, "%s%s %s %s::%s", j > 0 ? " AND " : "", columns[j],
							 j < i ? keys[j].equal : keys[j].greater, values[j], keys[j].type_name);
		appendStringInfoString(&buf, ")");
	}
	appendStringInfoString(&buf, ")");
	return buf.data;
}

/* ---- extensions --------------------------------------------------------------------------- */

Oid
catalog_extension(void)
{
	Oid			queue = get_relname_relid("queue", get_namespace_oid("vecsync", true));

	return OidIsValid(queue) ? get_extension_oid("vecsync", true) : InvalidOid;
}

/*
 * The schema that holds the vector extension, found by the extension and not
 * by the search path: anyone may have a type called vector.
 */
static Oid
catalog_vector_namespace(void)
{
	Oid			extension = get_extension_oid("vector", true);
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	if (!OidIsValid(extension))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("extension \"vector\" is not installed"),
				errhint("Run CREATE EXTENSION vector."));
	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		result = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

char *
catalog_vector_schema(void)
{
	return pstrdup(quote_identifier(get_namespace_name(catalog_vector_namespace())));
}

Oid
catalog_vector_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("vector"),
						   ObjectIdGetDatum(catalog_vector_namespace()));
}

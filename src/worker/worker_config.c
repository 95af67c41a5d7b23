/*
 * worker_config.c
 *		The worker's copy of models and vectorizers, and the SQL for each.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/debug_point.h"
#include "http/http_url.h"
#include "queue/queue.h"
#include "worker/worker_state.h"

/*
 * A relation changed: perhaps a source was renamed, or its key changed, or its view or table of chunks moved.
 * May come at any catalog access, so it looks at nothing that is being replaced.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	dlist_iter	iter;

	dlist_foreach(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);

		if (relid == InvalidOid || v->relid == relid || v->content_view == relid || v->chunk_table == relid)
			v->stale = MyWorker->sources_stale = true;
	}
}

/* A name in the SQL is another one now; or another table's, as when schemas take each other's. */
static void
names_changed(void)
{
	relation_changed((Datum) 0, InvalidOid);
}

/*
 * A role or a membership changed: who may use a model, and whose key may be sent, has to be judged again.
 * Comes at the begin of a transaction, so before rows are read for a request.
 */
static bool roles_changed = false;

static void
role_changed(Datum arg, int cacheid, uint32 hash)
{
	roles_changed = true;
}

void
worker_config_init(void)
{
	MyWorker->entries_left = true;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	catalog_watch_names(names_changed);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
}

/* ---- SQL ---------------------------------------------------------------------- */

/* "s.k1 = k.k1::type AND ...": rows of the content view by an array of texts for each key column. */
static char *
key_join(CatalogKeyColumn *keys, int nkeys)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, "%ss.k%d %s k.k%d::%s", i > 0 ? " AND " : "", i + 1, keys[i].equal, i + 1,
						 keys[i].type_name);
	return buf.data;
}

/* "c.k1 = s.k1 AND ...": chunks of a row of the content view. */
static char *
chunk_join(CatalogKeyColumn *keys, int nkeys)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, "%sc.k%d %s s.k%d", i > 0 ? " AND " : "", i + 1, keys[i].equal, i + 1);
	return buf.data;
}

static char *
key_arrays(int nkeys)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "ROWS FROM (");
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, "%spg_catalog.unnest($%d::pg_catalog.text[])", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(&buf, ") WITH ORDINALITY AS k(");
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, "k%d, ", i + 1);
	appendStringInfoString(&buf, "ord)");
	return buf.data;
}

/* The table's rows behind a key that is given by parameters. */
static char *
key_after(CatalogKeyColumn *keys, int nkeys)
{
	const char *columns[INDEX_MAX_KEYS];
	const char *values[INDEX_MAX_KEYS];

	for (int i = 0; i < nkeys; i++)
	{
		columns[i] = psprintf("s.%s", quote_identifier(keys[i].name));
		values[i] = psprintf("$%d", i + 1);
	}
	return catalog_key_after(keys, nkeys, columns, values);
}

/* With texts as the trigger makes them: by the types' output functions, and not by casts. */
static char *
key_list(CatalogKeyColumn *keys, int nkeys, bool texts)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, texts ? "%spg_catalog.concat(s.%s)" : "%ss.%s", i > 0 ? ", " : "",
						 quote_identifier(keys[i].name));
	return buf.data;
}

static void
free_plan(SPIPlanPtr *plan)
{
	if (*plan != NULL)
		SPI_freeplan(*plan);
	*plan = NULL;
}

/* "s.a = $2::type AND ...": one row, its key as texts from parameter 'first' on. */
static char *
key_equals(CatalogKeyColumn *keys, int nkeys, int first)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, "%ss.%s %s $%d::%s", i > 0 ? " AND " : "", quote_identifier(keys[i].name),
						 keys[i].equal, i + first, keys[i].type_name);
	return buf.data;
}

/*
 * The table of chunks has columns k1, ..., kn, chunk_seq, chunk, embedding:
 * its own names, so that the source's columns may be renamed.
 */
static void
build_chunk_sql(WorkerVectorizer *v, CatalogKeyColumn *keys)
{
	char	   *chunks = catalog_relation_name(v->def->chunk_table);
	StringInfoData columns,
				values,
				where,
				join;

	initStringInfo(&columns);
	initStringInfo(&values);
	initStringInfo(&where);
	initStringInfo(&join);
	for (int i = 0; i < v->nkeys; i++)
	{
		const char *and = i > 0 ? " AND " : "";

		appendStringInfo(&columns, "k%d, ", i + 1);
		appendStringInfo(&values, "$%d::%s, ", i + 2, keys[i].type_name);
		appendStringInfo(&where, "%sk%d %s $%d::%s", and, i + 1, keys[i].equal, i + 1, keys[i].type_name);
		appendStringInfo(&join, "%ss.%s %s c.k%d", and, quote_identifier(keys[i].name), keys[i].equal, i + 1);
	}
	v->delete_sql = MemoryContextStrdup(v->context, psprintf("DELETE FROM %s WHERE %s", chunks, where.data));
	v->write_sql = MemoryContextStrdup(
		v->context, psprintf("INSERT INTO %s (%schunk_seq, chunk, embedding) VALUES (%s$%d, $%d, $1)", chunks,
							 columns.data, values.data, v->nkeys + 2, v->nkeys + 3));
	v->orphans_sql = MemoryContextStrdup(
		v->context, psprintf("DELETE FROM %s AS c WHERE NOT EXISTS (SELECT FROM %s AS s WHERE %s)", chunks,
							 catalog_relation_name(v->def->source), join.data));
}

/* Build what is run against the table.  The strings live in the vectorizer's context. */
static void
build_sql(WorkerVectorizer *v)
{
	CatalogVectorizer *def = v->def;
	CatalogKeyColumn *keys = catalog_key_columns(def->source, &v->nkeys);
	char	   *table = catalog_relation_name(def->source);
	char	   *rows;
	char	   *embedded = "s.vector IS NOT NULL";

	free_plan(&v->read_plan);
	free_plan(&v->lock_plan);
	free_plan(&v->write_plan);
	free_plan(&v->delete_plan);
	catalog_check_keys(def, keys, v->nkeys);
	if (catalog_relation_owner(def->content_view) != v->owner ||
		(OidIsValid(def->chunk_table) && catalog_relation_owner(def->chunk_table) != v->owner))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("the view or table of vectorizer \"%s\" does not belong to the owner of table %s",
					   def->name, table),
				errhint("Give them to the same role with ALTER ... OWNER TO."));
	if (get_rel_name(def->content_view) == NULL ||
		(!OidIsValid(def->chunk_table) && def->target_column == NULL))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the content view of vectorizer \"%s\" is missing", def->name));

	rows = psprintf("FROM %s JOIN %s AS s ON %s", key_arrays(v->nkeys),
					catalog_relation_name(def->content_view), key_join(keys, v->nkeys));
	if (OidIsValid(def->chunk_table))
		embedded = psprintf("EXISTS (SELECT FROM %s AS c WHERE %s)", catalog_relation_name(def->chunk_table),
							chunk_join(keys, v->nkeys));
	v->read_sql = MemoryContextStrdup(
		v->context, psprintf("SELECT k.ord::pg_catalog.int4, s.content, %s %s", embedded, rows));
	v->lock_sql =
		MemoryContextStrdup(v->context, psprintf("%s FOR NO KEY UPDATE OF s SKIP LOCKED", v->read_sql));

	v->delete_sql = v->orphans_sql = NULL;
	if (OidIsValid(def->chunk_table))
		build_chunk_sql(v, keys);
	else
		v->write_sql = MemoryContextStrdup(v->context,
										   psprintf("UPDATE %s AS s SET %s = $1 WHERE %s", table,
													quote_identifier(def->target_column),
													key_equals(keys, v->nkeys, 2)));
	v->scan_first_sql = MemoryContextStrdup(v->context,
											psprintf("SELECT ARRAY[%s] FROM %s AS s ORDER BY %s LIMIT %d",
													 key_list(keys, v->nkeys, true), table,
													 key_list(keys, v->nkeys, false), WORKER_SCAN_ROWS));
	v->scan_next_sql = MemoryContextStrdup(
		v->context, psprintf("SELECT ARRAY[%s] FROM %s AS s WHERE %s ORDER BY %s LIMIT %d",
							 key_list(keys, v->nkeys, true), table, key_after(keys, v->nkeys),
							 key_list(keys, v->nkeys, false), WORKER_SCAN_ROWS));
}

/* A key that was set for other URLs than the model's is as good as none. */
void
worker_guard_secret(CatalogModel *model, MemoryContext context)
{
	if (model->secret == NULL || model->secret_urls == NULL ||
		http_url_listed(model->url, model->secret_urls))
		return;
	model->secret = NULL;
	model->secret_denied = true;
	model->secret_error = MemoryContextStrdup(context, "the secret was set for other URLs");
}

/* ---- reload ----------------------------------------------------------------------- */

/* A changed configuration is a reason to try at once. */
static void
load_models(bool configuration_changed)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "vecsync models", ALLOCSET_DEFAULT_SIZES);
	int			count;
	CatalogModel *list = catalog_read_models(NULL, &count, context);

	for (int i = 0; i < count; i++)
	{
		WorkerModel *model = NULL;
		dlist_iter	iter;
		CatalogModel *copies;
		int			one;

		dlist_foreach(iter, &MyWorker->models)
		{
			WorkerModel *m = dlist_container(WorkerModel, node, iter.cur);

			if (strcmp(m->def->name, list[i].name) == 0)
				model = m;
		}
		if (model == NULL)
		{
			model = MemoryContextAllocZero(WorkerContext, sizeof(WorkerModel));
			model->context = AllocSetContextCreate(WorkerContext, "vecsync model", ALLOCSET_SMALL_SIZES);
			dlist_push_tail(&MyWorker->models, &model->node);
		}
		MemoryContextReset(model->context);
		copies = catalog_read_models(list[i].name, &one, model->context);
		worker_guard_secret(copies, model->context);
		model->def = copies;
		model->seen = true;
		if (configuration_changed)
			model->not_before = 0;
	}
	MemoryContextDelete(context);
}

/* One that was read with the rest of the configuration: others are about to go. */
static WorkerModel *
find_model(const char *name)
{
	dlist_iter	iter;

	dlist_foreach(iter, &MyWorker->models)
	{
		WorkerModel *m = dlist_container(WorkerModel, node, iter.cur);

		if (m->seen && strcmp(m->def->name, name) == 0)
			return m;
	}
	return NULL;
}

/* The SQL in the old context goes with it and has to be built again. */
static void
replace_definition(WorkerVectorizer *v, CatalogVectorizer *def, MemoryContext context)
{
	MemoryContext old = v->context;

	v->context = context;
	v->def = def;
	v->relid = def->source;
	v->content_view = def->content_view;
	v->chunk_table = def->chunk_table;
	v->chunking = def->chunking;
	v->read_sql = v->lock_sql = v->write_sql = v->delete_sql = v->orphans_sql = NULL;
	v->scan_first_sql = v->scan_next_sql = NULL;
	if (old != NULL)
		MemoryContextDelete(old);
}

/*
 * Another model than before, or none: somebody deleted its row.  What was asked of the one that goes is
 * forgotten with it; its rows are asked again.
 */
static void
change_model(WorkerVectorizer *v, WorkerModel *model)
{
	dlist_mutable_iter iter;

	if (v->model == model)
		return;
	dlist_foreach_modify(iter, &v->batches)
	{
		WorkerBatch *batch = dlist_container(WorkerBatch, node, iter.cur);

		if (!dlist_is_empty(&batch->calls))
			worker_drop_batch(batch);
	}
	v->model = model;
}

/* May the table's owner use the model?  Requests that are under way keep it, and are answered. */
static void
judge_model(WorkerVectorizer *v, Oid owner)
{
	v->denied = v->model != NULL && !catalog_model_usable(v->model->def, owner);
	if (v->denied)
		worker_note_error(v, psprintf("permission denied for model \"%s\"", v->def->model));
}

static void
load_vectorizers(void)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "vecsync vectorizers", ALLOCSET_DEFAULT_SIZES);
	int			count;
	CatalogVectorizer *list = catalog_read_vectorizers(NULL, &count, context);

	worker_generations_reset();
	for (int i = 0; i < count; i++)
	{
		WorkerVectorizer *v = NULL;
		MemoryContext fresh;
		CatalogVectorizer *def;
		dlist_iter	iter;
		int			one;

		MyWorker->newest_vectorizer = Max(MyWorker->newest_vectorizer, list[i].id);
		if (list[i].retired)
		{
			worker_note_retired(&list[i]);
			continue;
		}
		fresh = AllocSetContextCreate(WorkerContext, "vecsync vectorizer", ALLOCSET_SMALL_SIZES);
		def = catalog_read_vectorizers(list[i].name, &one, fresh);

		dlist_foreach(iter, &MyWorker->vectorizers)
		{
			WorkerVectorizer *x = dlist_container(WorkerVectorizer, node, iter.cur);

			if (x->def->id == list[i].id)
				v = x;
		}
		if (v == NULL)
		{
			v = MemoryContextAllocZero(WorkerContext, sizeof(WorkerVectorizer));
			dlist_init(&v->batches);
			v->source = queue_window_add_source(MyWorker->window, list[i].id, v);
			v->progress = worker_progress_slot(list[i].id);
			dlist_push_tail(&MyWorker->vectorizers, &v->node);
		}
		replace_definition(v, def, fresh);
		v->seen = v->stale = true;
		v->not_before = v->cutover_at = 0;
		change_model(v, find_model(v->def->model));
		judge_model(v, catalog_relation_owner(v->def->source));
	}
	MemoryContextDelete(context);
}

/* It was dropped: its requests are aborted, its rows forgotten. */
static void
drop_vectorizer(WorkerVectorizer *v)
{
	while (!dlist_is_empty(&v->batches))
		worker_drop_batch(dlist_head_element(WorkerBatch, node, &v->batches));
	queue_window_drop_source(MyWorker->window, v->source);
	MyWorker->entries_left = true;
	worker_progress_drop(v->progress);
	free_plan(&v->read_plan);
	free_plan(&v->lock_plan);
	free_plan(&v->write_plan);
	free_plan(&v->delete_plan);
	worker_sweep_end(v);
	dlist_delete(&v->node);
	MemoryContextDelete(v->context);
	pfree(v);
}

static void
reload(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &MyWorker->models)
		dlist_container(WorkerModel, node, iter.cur)->seen = false;
	dlist_foreach_modify(iter, &MyWorker->vectorizers)
		dlist_container(WorkerVectorizer, node, iter.cur)->seen = false;

	load_models(true);
	load_vectorizers();

	dlist_foreach_modify(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);

		if (!v->seen)
			drop_vectorizer(v);
	}
	dlist_foreach_modify(iter, &MyWorker->models)
	{
		WorkerModel *m = dlist_container(WorkerModel, node, iter.cur);

		if (m->seen)
			continue;
		dlist_delete(&m->node);
		MemoryContextDelete(m->context);
		pfree(m);
	}
}

/* A table without its triggers changes, and nobody notes which rows: that is to be seen, at least. */
static void
tell_of_missing_triggers(WorkerVectorizer *v)
{
	static const char *const kinds[] = {"write", "update", "truncate"};
	Relation	rel = relation_open(v->def->source, NoLock);

	for (int i = 0; i < lengthof(kinds); i++)
	{
		char	   *prefix = psprintf("vecsync_%d_%s_", v->def->id, kinds[i]);
		bool		found = false;

		for (int j = 0; rel->trigdesc != NULL && j < rel->trigdesc->numtriggers && !found; j++)
		{
			Trigger    *trigger = &rel->trigdesc->triggers[j];

			found = strncmp(trigger->tgname, prefix, strlen(prefix)) == 0 &&
				trigger->tgenabled != TRIGGER_DISABLED && trigger->tgenabled != TRIGGER_FIRES_ON_REPLICA;
		}
		if (!found)
		{
			worker_note_error(v, psprintf("trigger \"%s...\" of table \"%s\" is disabled or missing: "
										  "not all changes are followed", prefix,
										  RelationGetRelationName(rel)));
			break;
		}
	}
	relation_close(rel, NoLock);
}

/* Read the definition anew: names in it may have changed, too. */
static void
refresh_vectorizer(void *arg)
{
	WorkerVectorizer *v = arg;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "vecsync vectorizer",
												  ALLOCSET_SMALL_SIZES);
	int			count;
	CatalogVectorizer *def;

	/* Somebody has the table to himself: go on with the SQL that is there, and look again. */
	if (get_rel_name(v->relid) != NULL && !ConditionalLockRelationOid(v->relid, AccessShareLock))
		ereport(ERROR, errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("table is locked"));
	/* and what he has done must be seen */
	PushActiveSnapshot(GetTransactionSnapshot());
	def = catalog_read_vectorizers(v->def->name, &count, context);
	PopActiveSnapshot();
	if (count == 0 || def->id != v->def->id)
	{
		v->read_sql = NULL;
		return;					/* dropped, or its successor has the name: the next reload sees it */
	}
	MemoryContextSetParent(context, WorkerContext);
	replace_definition(v, def, context);
	v->owner = catalog_relation_owner(def->source);
	if (!OidIsValid(v->owner))
		return;
	judge_model(v, v->owner);
	build_sql(v);
	tell_of_missing_triggers(v);
}

/* Vectorizers whose table changed get new SQL; one that cannot be followed now says why in its status. */
static void
refresh_stale(void)
{
	dlist_iter	iter;

	MyWorker->sources_stale = false;
	dlist_foreach(iter, &MyWorker->vectorizers)
	{
		WorkerVectorizer *v = dlist_container(WorkerVectorizer, node, iter.cur);
		ErrorData  *error;

		if (!v->stale || v->not_before > GetCurrentTimestamp())
			continue;
		v->stale = false;
		error = worker_try(refresh_vectorizer, v);
		if (error == NULL)
			continue;
		/* may_work() in worker_main.c asks for the next look */
		v->stale = true;
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			v->not_before = worker_from_now(WORKER_LOCKED_RETRY_MS);
		else
		{
			v->read_sql = NULL;
			v->not_before = worker_from_now(worker_backoff_ms(++v->failures));
			worker_note_error(v, error->message);
		}
		FreeErrorData(error);
	}
}

/*
 * Who drops a vectorizer deletes its entries and dead letters, but not those of a
 * transaction, or of ours, that commits while he waits for its locks.  In one snapshot
 * an entry without its vectorizer is nobody's, for numbers are not used again; but
 * while a dump is restored the entries may come first, so only numbers up to the
 * newest vectorizer's tell anything.
 */
static void
delete_left_entries(void *arg)
{
	static const char *const sql =
		"DELETE FROM vecsync.queue q WHERE NOT EXISTS (SELECT FROM vecsync.vectorizer v"
		" WHERE v.id = q.vectorizer)"
		" AND q.vectorizer <= greatest($1, (SELECT max(v.id) FROM vecsync.vectorizer v))";
	static const char *const failed =
		"DELETE FROM vecsync.dead_letter d WHERE NOT EXISTS (SELECT FROM vecsync.vectorizer v"
		" WHERE v.id = d.vectorizer)"
		" AND d.vectorizer <= greatest($1, (SELECT max(v.id) FROM vecsync.vectorizer v))";
	Oid			type = INT4OID;
	Datum		newest = Int32GetDatum(MyWorker->newest_vectorizer);

	if (SPI_execute_with_args(failed, 1, &type, &newest, NULL, false, 0) != SPI_OK_DELETE ||
		SPI_execute_with_args(sql, 1, &type, &newest, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete entries of vectorizers that are gone");
}

/* They are in nobody's way: where a block of the queue is damaged, of which read_queue() tells, they stay. */
static void
try_to_delete_left_entries(void)
{
	ErrorData  *error = worker_try(delete_left_entries, NULL);

	MyWorker->entries_left = false;
	if (error == NULL)
		return;
	if (!queue_damaged(error))
		ThrowErrorData(error);
	FreeErrorData(error);
}

bool
worker_config_load(void)
{
	uint64		generation = worker_config_generation();
	bool		reloaded = generation != MyWorker->config_generation;
	bool		judge = roles_changed;

	if (!reloaded && !judge && !MyWorker->sources_stale && !MyWorker->entries_left)
		return false;
	roles_changed = false;		/* what comes while we read is for the next time */

	/* a snapshot younger than the generation, or a change in between would be taken for seen */
	PushActiveSnapshot(GetTransactionSnapshot());
	if (reloaded)
	{
		reload();
		MyWorker->config_generation = generation;
	}
	else if (judge)
	{
		load_models(false);
		relation_changed((Datum) 0, InvalidOid);
	}
	refresh_stale();
	if (MyWorker->entries_left)
		try_to_delete_left_entries();
	PopActiveSnapshot();
	return reloaded;
}

bool
worker_lock_source(WorkerVectorizer *v)
{
	DEBUG_POINT("worker_locks");
	if (ConditionalLockRelationOid(v->def->source, AccessShareLock) && !v->stale)
		return true;
	v->not_before = worker_from_now(WORKER_LOCKED_RETRY_MS);
	return false;
}

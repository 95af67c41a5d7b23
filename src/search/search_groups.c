/*
 * search_groups.c
 *		Rows against rows: near pairs, clusters, vectors by key.
 *
 * Of many rows each vector is a query of its own, which an index answers in
 * the time of a search, so neither is quadratic where there is one.  Few rows,
 * as a filter leaves them, and rows without an index are compared with each other
 * (search_all.c): a search for each would look through the table as often.
 * Results go to a tuplestore, which spills to disk beyond work_mem, as does what
 * clusters remember.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "search/embed.h"
#include "search/search.h"
#include "search/search_all.h"
#include "search/search_seen.h"
#include "worker/worker.h"

#define FETCH 500

/* hnsw.ef_search: what is near by itself, and is looked for from both sides, is found with few candidates. */
#define NEAR_EFFORT "12"

/*
 * So many vectors are sooner compared with each other than searched for in an
 * index; under conditions, which an index does not know, more.
 */
#define FEW_ROWS 4000
#define FEW_FILTERED_ROWS 10000

PG_FUNCTION_INFO_V1(groups_pairs);
PG_FUNCTION_INFO_V1(groups_clusters);
PG_FUNCTION_INFO_V1(groups_vectors);
PG_FUNCTION_INFO_V1(groups_mean);

/*
 * Neighbors to ask for, one after the other, until one is too far: most rows
 * have none that is near.  The row itself is the first.
 */
static const int limits[] = {3, 30, 300, SEARCH_MAX_ROWS};

#define NLIMITS lengthof(limits)

/* A walk over all vectors of a request, in the order of their rows' keys. */
typedef struct Walk
{
	SearchSource *source;
	SearchRequest request;
	double		threshold;
	ReturnSetInfo *rsinfo;
	SearchScope *scope;
	WorkerSearch search;
	MemoryContext row_context;	/* reset after each vector */
	SPIPlanPtr	plans[NLIMITS]; /* with an index, made when first needed */
	SPIPlanPtr	exact;			/* all that are near enough */
	SearchAll  *all;			/* the rows themselves, if they are to be compared with each other */
	SearchSeen *seen;			/* clusters: hash of a key, its cluster */
	int			clusters;
	uint64		leader;			/* hash of the last leader's key */
} Walk;

typedef struct Near
{
	Jsonb	   *key;
	double		score;
} Near;

typedef struct NearRows
{
	int			count;
	Near	   *rows;
} NearRows;

/* Two rows with one hash would meet in 64 bits: for a million rows, once in 10^7 times. */
static uint64
key_hash(Jsonb *key)
{
	return hash_bytes_extended((const unsigned char *) key, VARSIZE(key), 0);
}

static void
put(Walk *walk, Datum first, Jsonb *second, double score)
{
	Datum		values[3] = {first, JsonbPGetDatum(second), Float8GetDatum(score)};
	bool		nulls[3] = {false, false, false};

	tuplestore_putvalues(walk->rsinfo->setResult, walk->rsinfo->setDesc, values, nulls);
}

/* The smaller key first, so that a pair found from both sides is the same pair. */
static void
put_pair(void *walk, Jsonb *a, Jsonb *b, double score)
{
	int			order = compareJsonbContainers(&a->root, &b->root);

	if (order < 0)
		put(walk, JsonbPGetDatum(a), b, score);
	else if (order > 0)
		put(walk, JsonbPGetDatum(b), a, score);
}

static void
put_member(void *walk, int cluster, Jsonb *key, double score)
{
	put(walk, Int32GetDatum(cluster), key, score);
}

/* ---- neighbors --------------------------------------------------------------------------- */

/* The nearest rows of the request to $1, by an index where that is cheaper, or by comparing all. */
static SPIPlanPtr
neighbor_plan(Walk *walk, int limit, bool exact)
{
	SearchSource *source = walk->source;
	char	   *distance = psprintf("%s OPERATOR(%s.%s) $1", source->vector, source->vector_schema,
									source->metric->operator);
	Oid			vector = embed_vector_type()->type;
	StringInfoData sql;
	SPIPlanPtr	plan;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "SELECT %s, r.d FROM (SELECT %s, (%s)::pg_catalog.float8 AS d FROM %s "
					 "WHERE %s IS NOT NULL",
					 source->key_json, source->key_columns, distance, source->from, source->vector);
	search_append_conditions(&sql, source, &walk->request);
	appendStringInfo(&sql, " ORDER BY %s%s LIMIT %d) AS r", distance,
					 exact ? " OPERATOR(pg_catalog.+) 0::pg_catalog.float8" : "", limit);
	plan = SPI_prepare_cursor(sql.data, 1, &vector, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* Run the plan: the rows that are near enough, in no order, of *found. */
static NearRows
run_neighbors(Walk *walk, SPIPlanPtr plan, Datum vector, int *found)
{
	NearRows	near = {0};

	if (SPI_execute_plan(plan, &vector, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not search vectorizer \"%s\"", walk->source->def->name);
	*found = (int) SPI_processed;
	near.rows = MemoryContextAlloc(walk->row_context, sizeof(Near) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;
		double		distance = DatumGetFloat8(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
		double		score = search_score(walk->source->metric, distance);
		MemoryContext old;

		if (isnan(score) || score < walk->threshold)
			continue;
		old = MemoryContextSwitchTo(walk->row_context);
		near.rows[near.count].key =
			(Jsonb *) PG_DETOAST_DATUM_COPY(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		near.rows[near.count++].score = score;
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
	return near;
}

/*
 * The rows whose score against a vector is at least the threshold, at most
 * SEARCH_MAX_ROWS.  More are asked for only while all that came are so near; an
 * index that ended before one was too far is not believed.
 */
static NearRows
search_near(Walk *walk, Datum vector)
{
	NearRows	near = {0};
	int			found;

	for (int i = 0; i < NLIMITS; i++)
	{
		if (walk->plans[i] == NULL)
			walk->plans[i] = neighbor_plan(walk, limits[i], false);
		near = run_neighbors(walk, walk->plans[i], vector, &found);
		if (near.count < found)
			return near;
		if (found < limits[i])
		{
			if (!search_plan_uses_vector_index(walk->plans[i]))
				return near;
			break;
		}
		if (i == NLIMITS - 1)
			return near;
	}
	if (walk->exact == NULL)
		walk->exact = neighbor_plan(walk, SEARCH_MAX_ROWS, true);
	return run_neighbors(walk, walk->exact, vector, &found);
}

/* ---- visits -------------------------------------------------------------------------------- */

static void
visit_for_pairs(Walk *walk, Jsonb *key, Datum vector)
{
	NearRows	near = search_near(walk, vector);

	for (int i = 0; i < near.count; i++)
		put_pair(walk, key, near.rows[i].key, near.rows[i].score);
}

/*
 * A row that is in no cluster leads a new one, of all rows near to it that
 * are in none.  A leader of many vectors comes once for each, one after the
 * other, and may find a row again.
 */
static void
visit_for_clusters(Walk *walk, Jsonb *key, Datum vector)
{
	uint64		hash = key_hash(key);
	NearRows	near;

	if (walk->clusters == 0 || hash != walk->leader)
	{
		if (search_seen_find(walk->seen, hash) != 0)
			return;
		walk->leader = hash;
		search_seen_add(walk->seen, hash, ++walk->clusters);
		put(walk, Int32GetDatum(walk->clusters), key, 1);
	}
	near = search_near(walk, vector);
	for (int i = 0; i < near.count; i++)
	{
		uint64		found = key_hash(near.rows[i].key);
		int			cluster = search_seen_find(walk->seen, found);

		if (found == hash || (cluster != 0 && cluster != walk->clusters))
			continue;
		if (cluster == 0)
			search_seen_add(walk->seen, found, walk->clusters);
		put(walk, Int32GetDatum(walk->clusters), near.rows[i].key, near.rows[i].score);
	}
}

typedef void (*Visit) (Walk *walk, Jsonb *key, Datum vector);

static Portal
open_rows(Walk *walk)
{
	StringInfoData sql;
	SPIPlanPtr	plan;
	Portal		portal;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s, r.v FROM (SELECT %s, %s AS v FROM %s WHERE %s IS NOT NULL",
					 walk->source->key_json, walk->source->key_columns, walk->source->vector,
					 walk->source->from, walk->source->vector);
	search_append_conditions(&sql, walk->source, &walk->request);
	appendStringInfo(&sql, " ORDER BY %s) AS r", walk->source->key_order);
	plan = SPI_prepare(sql.data, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not prepare: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	/* or else CLOSE ALL in a policy's function would close it */
	PinPortal(portal);
	return portal;
}

static void
close_rows(Portal portal)
{
	UnpinPortal(portal);
	SPI_cursor_close(portal);
}

/* Visit the next rows; returns whether there may be more. */
static bool
fetch_rows(Walk *walk, Portal portal, Visit visit)
{
	SPITupleTable *table;
	uint64		found;

	SPI_cursor_fetch(portal, true, FETCH);
	table = SPI_tuptable;
	found = SPI_processed;
	for (uint64 i = 0; i < found; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(walk->row_context);
		bool		isnull;
		Datum		key = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);
		Datum		vector =
			PointerGetDatum(PG_DETOAST_DATUM_COPY(SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull)));

		CHECK_FOR_INTERRUPTS();
		visit(walk, (Jsonb *) PG_DETOAST_DATUM_COPY(key), vector);
		MemoryContextSwitchTo(old);
		MemoryContextReset(walk->row_context);
	}
	SPI_freetuptable(table);
	return found == FETCH;
}

static void
visit_for_all(Walk *walk, Jsonb *key, Datum vector)
{
	search_all_add(walk->all, key, vector);
}

/* Take all rows into walk->all if they are few, or if there is no index.  False: neither. */
static bool
take_rows(Walk *walk)
{
	Size		memory = work_mem * (Size) 1024;
	int			most = search_all_max_rows(memory);
	int			few = Min(search_has_conditions(walk->source, &walk->request) ? FEW_FILTERED_ROWS : FEW_ROWS,
						  most);
	Portal		portal = open_rows(walk);
	bool		more = true;

	walk->all = search_all_begin(walk->source, walk->threshold, memory);
	while (more && search_all_count(walk->all) <= few)
		more = fetch_rows(walk, portal, visit_for_all);
	if (more)
	{
		walk->plans[0] = neighbor_plan(walk, limits[0], false);
		if (!search_plan_uses_vector_index(walk->plans[0]))
			while (more && search_all_count(walk->all) <= most)
				more = fetch_rows(walk, portal, visit_for_all);
	}
	close_rows(portal);
	if (more)
		search_all_end(walk->all);
	return !more;
}

/* Visit each row, unless all of them are taken. */
static void
walk_rows(Walk *walk, Visit visit)
{
	int			guc_level = NewGUCNestLevel();

	search_settings();
	search_set_effort(NEAR_EFFORT);
	if (!take_rows(walk))
	{
		Portal		portal = open_rows(walk);

		walk->all = NULL;
		while (fetch_rows(walk, portal, visit))
			;
		close_rows(portal);
	}
	AtEOXact_GUC(false, guc_level);
}

/* (name text, threshold float8, filter jsonb, namespace text) */
static void
start_walk(FunctionCallInfo fcinfo, Walk *walk)
{
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("name and threshold must not be null"));
	walk->scope = search_enter();
	walk->source = search_source(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	worker_search_begin(&walk->search, walk->source->def->id);
	walk->threshold = PG_GETARG_FLOAT8(1);
	if (isnan(walk->threshold))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("threshold must not be NaN"));
	walk->request.filter = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	walk->request.namespace = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));
	walk->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	walk->row_context = AllocSetContextCreate(CurrentMemoryContext, "vecsync row", ALLOCSET_DEFAULT_SIZES);
}

static void
end_walk(Walk *walk)
{
	search_leave(walk->scope);
	worker_search_end(&walk->search, tuplestore_tuple_count(walk->rsinfo->setResult), false);
}

/* vecsync._pairs(name, threshold, filter, namespace) -> (a jsonb, b jsonb, score float8); pairs may repeat */
Datum
groups_pairs(PG_FUNCTION_ARGS)
{
	Walk		walk = {0};

	start_walk(fcinfo, &walk);
	SPI_connect();
	walk_rows(&walk, visit_for_pairs);
	if (walk.all != NULL)
	{
		search_all_pairs(walk.all, put_pair, &walk);
		search_all_end(walk.all);
	}
	SPI_finish();
	end_walk(&walk);
	return (Datum) 0;
}

/*
 * vecsync._clusters(name, threshold, filter, namespace) -> (cluster int, key jsonb,
 * score float8); of rows with many vectors, each may come several times in its cluster
 */
Datum
groups_clusters(PG_FUNCTION_ARGS)
{
	Walk		walk = {0};

	start_walk(fcinfo, &walk);
	walk.seen = search_seen_create(work_mem * (Size) 1024);
	SPI_connect();
	walk_rows(&walk, visit_for_clusters);
	if (walk.all != NULL)
	{
		search_all_clusters(walk.all, put_member, &walk);
		search_all_end(walk.all);
	}
	SPI_finish();
	search_seen_free(walk.seen);
	end_walk(&walk);
	return (Datum) 0;
}

/* vecsync._vectors(name text, keys jsonb[], namespace text) -> (n int, key jsonb, v vector) */
Datum
groups_vectors(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SearchRequest request = {0};
	SearchScope *scope;
	SearchSource *source;
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	scope = search_enter();
	source = search_source(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	request.namespace = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	SPI_connect();
	for (int i = 0; i < count; i++)
	{
		StringInfoData sql;
		Datum		values[3] = {Int32GetDatum(i + 1)};
		bool		isnull[3] = {false};

		CHECK_FOR_INTERRUPTS();
		if (nulls[i])
			continue;
		initStringInfo(&sql);
		appendStringInfo(&sql,
						 "SELECT %s, r.v FROM (SELECT %s, %s AS v FROM %s WHERE %s IS NOT NULL AND %s",
						 source->key_json, source->key_columns, source->row_vector, source->from,
						 source->vector, search_key_condition(source, DatumGetJsonbP(elements[i])));
		search_append_conditions(&sql, source, &request);
		appendStringInfo(&sql, "%s) AS r", source->row_group);
		if (SPI_execute(sql.data, true, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not read a row of vectorizer \"%s\"", source->def->name);
		if (SPI_processed == 1)
		{
			values[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull[1]);
			values[2] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull[2]);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_finish();
	search_leave(scope);
	return (Datum) 0;
}

/*
 * vecsync._weighted_mean(vectors vector[], weights float8[], normalise bool) ->
 * vector; NULL when there are none or nothing is left of them.
 */
Datum
groups_mean(PG_FUNCTION_ARGS)
{
	VectorType *type = embed_vector_type();
	bool		normalise = PG_GETARG_BOOL(2);
	Datum	   *vectors;
	Datum	   *weights;
	int			n;
	int			nweights;
	int			dimensions = 0;
	double	   *sum = NULL;
	float	   *result;
	bool		zero = true;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), type->type, -1, false, TYPALIGN_INT, &vectors, NULL, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &weights,
					  NULL, &nweights);
	if (n != nweights)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%d vectors and %d weights", n, nweights));
	for (int i = 0; i < n; i++)
	{
		int			dims;
		float	   *values = vector_value_read(type, vectors[i], &dims);
		double		weight = DatumGetFloat8(weights[i]);
		double		norm = 0;

		if (sum == NULL)
		{
			dimensions = dims;
			sum = palloc0(sizeof(double) * dims);
		}
		else if (dims != dimensions)
			ereport(ERROR, errcode(ERRCODE_DATA_EXCEPTION),
					errmsg("different vector dimensions %d and %d", dimensions, dims));
		for (int d = 0; normalise && d < dims; d++)
			norm += (double) values[d] * values[d];
		norm = normalise && norm > 0 ? sqrt(norm) : 1;
		for (int d = 0; d < dims; d++)
			sum[d] += weight * values[d] / norm;
		pfree(values);
	}
	if (n == 0)
		PG_RETURN_NULL();
	result = palloc(sizeof(float) * dimensions);
	for (int d = 0; d < dimensions; d++)
	{
		result[d] = (float) sum[d];
		zero &= fabs(sum[d]) < 1e-9;
	}
	if (zero)
		PG_RETURN_NULL();
	return vector_value_make(type, result, dimensions);
}

/*
 * search.c
 *		vecsync.search: arguments in, rows out.
 *
 * The statements run as the caller, over the caller's view of the table: what
 * the caller may not SELECT is not found.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "search/embed.h"
#include "search/search.h"
#include "search/snippet.h"
#include "worker/worker.h"

#define FUSION_CANDIDATES	100 /* of each leg, at least */
#define RERANK_CANDIDATES	50	/* at least */

PG_FUNCTION_INFO_V1(search_vectors);

/* The arguments of vecsync.search, in their order. */
enum
{
	ARG_NAME,
	ARG_QUERY,
	ARG_QUERY_VECTOR,
	ARG_QUERY_KEY,
	ARG_TOP_K,
	ARG_FILTER,
	ARG_MIN_SCORE,
	ARG_NAMESPACE,
	ARG_MODE,
	ARG_FUSION,
	ARG_VECTOR_WEIGHT,
	ARG_RERANK,
	ARG_RERANK_ERROR,
	ARG_EXCLUDE,
	ARG_GROUP,
	ARG_SNIPPET_LENGTH,
	ARG_METADATA,
	ARG_VALUES
};

/* ---- arguments ------------------------------------------------------------------------ */

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* One of a few words; NULL is the first. */
static int
word_arg(FunctionCallInfo fcinfo, int n, const char *name, const char *const *words, int nwords)
{
	char	   *value = text_arg(fcinfo, n);
	StringInfoData list;

	if (value == NULL)
		return 0;
	initStringInfo(&list);
	for (int i = 0; i < nwords; i++)
	{
		if (strcmp(value, words[i]) == 0)
			return i;
		appendStringInfo(&list, "%s%s", i == 0 ? "" : i == nwords - 1 ? " and " : ", ", words[i]);
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("unknown %s \"%s\"", name, value),
			errhint("There are %s.", list.data));
	return 0;					/* not reached */
}

static List *
keys_arg(FunctionCallInfo fcinfo, int n)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	List	   *list = NIL;

	if (PG_ARGISNULL(n))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), JSONBOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			list = lappend(list, DatumGetJsonbP(values[i]));
	return list;
}

static void
read_request(FunctionCallInfo fcinfo, SearchRequest *request)
{
	static const char *const modes[] = {"vector", "text", "hybrid"};
	static const char *const fusions[] = {"weighted", "rrf"};
	static const char *const levels[] = {"none", "indexed", "all"};
	int			mode = word_arg(fcinfo, ARG_MODE, "mode", modes, lengthof(modes));

	request->query = text_arg(fcinfo, ARG_QUERY);
	request->text_only = mode == 1;
	request->hybrid = mode == 2;
	request->weighted = word_arg(fcinfo, ARG_FUSION, "fusion", fusions, lengthof(fusions)) == 0;
	request->metadata = word_arg(fcinfo, ARG_METADATA, "return_metadata", levels, lengthof(levels));
	request->vector_weight = PG_ARGISNULL(ARG_VECTOR_WEIGHT) ? -1 : PG_GETARG_FLOAT8(ARG_VECTOR_WEIGHT);
	request->filter = PG_ARGISNULL(ARG_FILTER) ? NULL : PG_GETARG_JSONB_P(ARG_FILTER);
	request->has_min_score = !PG_ARGISNULL(ARG_MIN_SCORE);
	request->min_score = request->has_min_score ? PG_GETARG_FLOAT8(ARG_MIN_SCORE) : 0;
	request->namespace = text_arg(fcinfo, ARG_NAMESPACE);
	request->exclude = keys_arg(fcinfo, ARG_EXCLUDE);
	request->ungrouped = mode == 0 && !PG_ARGISNULL(ARG_GROUP) && !PG_GETARG_BOOL(ARG_GROUP);
	request->values = !PG_ARGISNULL(ARG_VALUES) && PG_GETARG_BOOL(ARG_VALUES);
	if (PG_ARGISNULL(ARG_TOP_K) || PG_GETARG_INT32(ARG_TOP_K) < 1 ||
		PG_GETARG_INT32(ARG_TOP_K) > SEARCH_MAX_ROWS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("top_k must be between 1 and %d", SEARCH_MAX_ROWS));
	request->top_k = PG_GETARG_INT32(ARG_TOP_K);
	if (isnan(request->min_score))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("min_score must not be NaN"));
	if (!PG_ARGISNULL(ARG_VECTOR_WEIGHT) &&
		!(request->vector_weight >= 0 && request->vector_weight <= 1))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("vector_weight must be between 0 and 1"));

	if (mode == 0)
	{
		if ((request->query != NULL) + !PG_ARGISNULL(ARG_QUERY_VECTOR) + !PG_ARGISNULL(ARG_QUERY_KEY) != 1)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("give one of query, query_vector and query_key"));
	}
	else if (request->query == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("mode \"%s\" needs query", modes[mode]));
	else if (!PG_ARGISNULL(ARG_QUERY_KEY) || (request->text_only && !PG_ARGISNULL(ARG_QUERY_VECTOR)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("mode \"%s\" takes no other query than its text", modes[mode]));
}

/* ---- the query's vector ------------------------------------------------------------------ */

/* Without chunks a row is none of those joined to their chunks. */
static bool
row_exists(SearchSource *source, SearchRequest *conditions, Jsonb *key)
{
	StringInfoData sql;

	if (!source->chunked)
		return false;
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT FROM %s WHERE %s", source->rows, search_key_condition(source, key));
	search_append_conditions(&sql, source, conditions);
	if (SPI_execute(sql.data, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read a row of vectorizer \"%s\"", source->def->name);
	return SPI_processed > 0;
}

/* The vector of a row, by its key; the row itself is not to be found. */
static Datum
vector_of_key(SearchSource *source, SearchRequest *request, Jsonb *key, MemoryContext context)
{
	StringInfoData sql;
	SearchRequest only_namespace = {.namespace = request->namespace};
	Datum		value = (Datum) 0;
	bool		isnull = true;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s FROM %s WHERE %s", source->row_vector, source->from,
					 search_key_condition(source, key));
	search_append_conditions(&sql, source, &only_namespace);
	appendStringInfoString(&sql, source->row_group);
	if (SPI_execute(sql.data, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read a row of vectorizer \"%s\"", source->def->name);
	if (SPI_processed > 0)
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	else if (!row_exists(source, &only_namespace, key))
		ereport(ERROR, errcode(ERRCODE_NO_DATA_FOUND),
				errmsg("row %s of vectorizer \"%s\" not found",
					   JsonbToCString(NULL, &key->root, VARSIZE(key)), source->def->name));
	if (isnull)
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("row %s of vectorizer \"%s\" has no vector",
				   JsonbToCString(NULL, &key->root, VARSIZE(key)), source->def->name),
			errhint("It has no text, or is not embedded yet: see vecsync.wait() and vecsync.failed."));
	request->exclude = lappend(request->exclude, key);
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
		MemoryContextSwitchTo(old);
	}
	return value;
}

/* Under cosine a vector of zeroes has no direction: every distance would be NaN. */
static void
check_direction(SearchSource *source, Datum vector)
{
	int			dimensions;
	float	   *values;

	if (strcmp(source->metric->name, "cosine") != 0)
		return;
	values = vector_value_read(embed_vector_type(), vector, &dimensions);
	for (int i = 0; i < dimensions; i++)
		if (values[i] != 0)
		{
			pfree(values);
			return;
		}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("a query vector of zeroes has no cosine distance"));
}

/* ---- running -------------------------------------------------------------------------------- */

static SearchRows
run_request(SearchSource *source, SearchRequest *request, MemoryContext context)
{
	SearchRequest leg = *request;
	SearchRows	vector;
	SearchRows	text;

	if (request->text_only)
		return search_text_leg(source, request, request->top_k, context);
	if (!request->hybrid)
		return search_vector_leg(source, request, context);
	leg.top_k = Min(SEARCH_MAX_ROWS, Max(FUSION_CANDIDATES, request->top_k * 2));
	vector = search_vector_leg(source, &leg, context);
	text = search_text_leg(source, &leg, leg.top_k, context);
	return search_fuse(source, request, vector, text);
}

static void
cut(SearchRows *rows, SearchRequest *request, int top_k)
{
	int			n = 0;

	while (n < rows->count && n < top_k &&
		   !(request->has_min_score && rows->rows[n].score < request->min_score))
		n++;
	rows->count = n;
}

static void
put_row(ReturnSetInfo *rsinfo, SearchRow *row, const char *query, int snippet_length)
{
	Datum		values[10];
	bool		nulls[10] = {false};

	values[0] = JsonbPGetDatum(row->key);
	values[1] = Float8GetDatum(row->score);
	values[2] = Float8GetDatum(row->vector_score);
	nulls[2] = !row->has_vector_score;
	values[3] = Float8GetDatum(row->text_score);
	nulls[3] = !row->has_text_score;
	values[4] = Float8GetDatum(row->rerank_score);
	nulls[4] = !row->has_rerank_score;
	values[5] = Int32GetDatum(row->chunk_seq);
	nulls[5] = row->chunk == NULL;
	values[6] = row->chunk ? CStringGetTextDatum(row->chunk) : (Datum) 0;
	nulls[6] = row->chunk == NULL;
	nulls[7] = snippet_length == 0 || row->content == NULL;
	values[7] = nulls[7] ? (Datum) 0 : CStringGetTextDatum(snippet_make(row->content, query, snippet_length));
	values[8] = row->metadata;
	nulls[8] = row->metadata == (Datum) 0;
	values[9] = row->values;
	nulls[9] = row->values == (Datum) 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* vecsync.search(...): see the enum above for the arguments */
Datum
search_vectors(PG_FUNCTION_ARGS)
{
	static const char *const failures[] = {"warning", "error"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context = CurrentMemoryContext;
	SearchRequest request = {0};
	SearchScope *scope;
	SearchSource *source;
	SearchRows	rows;
	WorkerSearch search;
	char	   *reranker = text_arg(fcinfo, ARG_RERANK);
	int			on_failure = word_arg(fcinfo, ARG_RERANK_ERROR, "rerank_error", failures, lengthof(failures));
	int			snippet_length = PG_ARGISNULL(ARG_SNIPPET_LENGTH) ? 0 : PG_GETARG_INT32(ARG_SNIPPET_LENGTH);
	int			top_k;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(ARG_NAME))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("name of the vectorizer must not be null"));
	read_request(fcinfo, &request);
	if (snippet_length < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("snippet_length must not be negative"));
	if (reranker != NULL && request.query == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("rerank needs query"));
	top_k = request.top_k;
	request.content = snippet_length > 0 || reranker != NULL;
	if (reranker != NULL)
		request.top_k = Max(top_k, RERANK_CANDIDATES);
	scope = search_enter();
	source = search_source(text_to_cstring(PG_GETARG_TEXT_PP(ARG_NAME)));
	worker_search_begin(&search, source->def->id);
	if (!request.text_only && !PG_ARGISNULL(ARG_QUERY_VECTOR))
		request.vector = PG_GETARG_DATUM(ARG_QUERY_VECTOR);
	else if (!request.text_only && PG_ARGISNULL(ARG_QUERY_KEY))
		request.vector = embed_query(source->def->model, request.query);

	SPI_connect();
	if (!PG_ARGISNULL(ARG_QUERY_KEY))
		request.vector = vector_of_key(source, &request, PG_GETARG_JSONB_P(ARG_QUERY_KEY), context);
	if (!request.text_only)
		check_direction(source, request.vector);
	rows = run_request(source, &request, context);
	cut(&rows, &request, reranker ? request.top_k : top_k);
	MemoryContextSwitchTo(context);
	if (reranker != NULL)
	{
		search_rerank(reranker, request.query, &rows, on_failure == 1);
		rows.count = Min(rows.count, top_k);
	}
	for (int i = 0; i < rows.count; i++)
		put_row(rsinfo, &rows.rows[i], request.query, snippet_length);
	worker_search_end(&search, rows.count, request.values);
	SPI_finish();
	search_leave(scope);
	return (Datum) 0;
}

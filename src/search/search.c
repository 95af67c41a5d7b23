/*
 * search.c
 *		vecsync.search: the rows of a vectorizer nearest to a text or vector.
 *
 * The query runs as the caller, over the caller's view of the table: what the
 * caller may not SELECT is not found.  Every name in it is qualified and quoted.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "queue/catalog.h"
#include "search/embed.h"

#define SEARCH_MAX_ROWS 10000

PG_FUNCTION_INFO_V1(search_vectors);

typedef struct SearchMetric
{
	const char *name;
	const char *operator;
	const char *score;			/* from distance d: larger is nearer */
} SearchMetric;

static const SearchMetric metrics[] = {
	{"cosine", "<=>", "1 - d"},
	{"l2", "<->", "1 / (1 + d)"},
	{"ip", "<#>", "-d"},
	{"l1", "<+>", "1 / (1 + d)"},
};

static const SearchMetric *
find_metric(const char *name)
{
	for (int i = 0; i < lengthof(metrics); i++)
		if (strcmp(metrics[i].name, name) == 0)
			return &metrics[i];
	elog(ERROR, "unknown metric \"%s\"", name);
	return NULL;
}

/* SELECT key, score ... ORDER BY distance, key: ties have an order, too. */
static char *
search_sql(CatalogVectorizer *v)
{
	const SearchMetric *metric = find_metric(v->metric);
	const char *target = quote_identifier(v->target_column);
	int			nkeys;
	CatalogKeyColumn *keys = catalog_key_columns(v->source, &nkeys);
	StringInfoData sql;

	if (nkeys == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" has no primary key", get_rel_name(v->source)));
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "SELECT key, (%s)::pg_catalog.float8 FROM (SELECT pg_catalog.jsonb_build_object(",
					 metric->score);
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&sql, "%s%s, s.%s", i > 0 ? ", " : "", quote_literal_cstr(keys[i].name),
						 quote_identifier(keys[i].name));
	appendStringInfo(&sql,
					 ") AS key, s.%s OPERATOR(%s.%s) $1 AS d FROM %s AS s WHERE s.%s IS NOT NULL"
					 " ORDER BY s.%s OPERATOR(%s.%s) $1",
					 target, catalog_vector_schema(), metric->operator, catalog_relation_name(v->source),
					 target, target, catalog_vector_schema(), metric->operator);
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&sql, ", s.%s", quote_identifier(keys[i].name));
	appendStringInfo(&sql, " LIMIT $2) AS r WHERE $3 IS NULL OR (%s) >= $3", metric->score);
	return sql.data;
}

/* vecsync.search(name text, query text, query_vector vector, top_k int, min_score float8) */
Datum
search_vectors(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CatalogVectorizer *v;
	Oid			types[3] = {embed_vector_type()->type, INT8OID, FLOAT8OID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("name of the vectorizer must not be null"));
	if (PG_ARGISNULL(1) == PG_ARGISNULL(2))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("give either query or query_vector"));
	if (PG_ARGISNULL(3) || PG_GETARG_INT32(3) < 1 || PG_GETARG_INT32(3) > SEARCH_MAX_ROWS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("top_k must be between 1 and %d", SEARCH_MAX_ROWS));

	v = catalog_get_vectorizer(text_to_cstring(PG_GETARG_TEXT_PP(0)), CurrentMemoryContext);
	values[0] = PG_ARGISNULL(2) ? embed_query(v->model, text_to_cstring(PG_GETARG_TEXT_PP(1)))
								: PG_GETARG_DATUM(2);
	values[1] = Int64GetDatum(PG_GETARG_INT32(3));
	values[2] = PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4);
	nulls[2] = PG_ARGISNULL(4) ? 'n' : ' ';

	SPI_connect();
	if (SPI_execute_with_args(search_sql(v), 3, types, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not search vectorizer \"%s\"", v->name);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		row[2];
		bool		isnull[2];

		for (int c = 0; c < 2; c++)
			row[c] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1, &isnull[c]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, isnull);
	}
	SPI_finish();
	return (Datum) 0;
}

/*
 * search_sql.c
 *		The statements of a search.
 *
 * An inner query finds the rows, in order, and stops; the outer one makes
 * keys, metadata and texts for those only.  They run as the caller.  Every name
 * is quoted and qualified, every value but the vector a literal with its type.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "search/embed.h"
#include "search/filter.h"
#include "search/search.h"

#define FEW_EXCLUDED 8
#define PLUS_ZERO "OPERATOR(pg_catalog.+) 0::pg_catalog.float8"

/* ---- keys ---------------------------------------------------------------------------- */

/* The text of a JSON scalar, as ->> gives it. */
static char *
scalar_text(Jsonb *value)
{
	JsonbValue	scalar;

	if (value == NULL || !filter_scalar(value, &scalar) || scalar.type == jbvNull)
		return NULL;
	if (scalar.type == jbvString)
		return pnstrdup(scalar.val.string.val, scalar.val.string.len);
	return JsonbToCString(NULL, &value->root, VARSIZE(value));
}

/* The value of one key column in a key: {"id": 5}, or the bare value of a key of one column; or NULL. */
static Jsonb *
key_value(SearchSource *source, Jsonb *key, int column)
{
	const char *name = source->keys[column].name;
	JsonbValue	buffer;
	JsonbValue *v;

	if (!JB_ROOT_IS_OBJECT(key))
		return source->nkeys == 1 ? key : NULL;
	v = getKeyJsonValueFromContainer(&key->root, name, strlen(name), &buffer);
	return v ? JsonbValueToJsonb(v) : NULL;
}

/* What JSON has a form of its own for. */
static bool
structured_type(Oid type)
{
	return OidIsValid(get_element_type(type)) || get_typtype(type) == TYPTYPE_COMPOSITE;
}

/*
 * One key column's value as SQL, without the modifiers of the column, which would cut it to fit.  As search
 * returns keys: arrays and composite values in their JSON form; any value but a jsonb by its text, too, as
 * other functions show it.  NULL when it is none.
 */
static char *
key_sql(Jsonb *value, Oid type)
{
	char	   *type_name = filter_type_name(type);
	char	   *text;
	char	   *json;
	JsonbValue	scalar;

	if (value == NULL)
		return NULL;
	text = scalar_text(value);
	json = JsonbToCString(NULL, &value->root, VARSIZE(value));
	if (type == JSONBOID)
		return psprintf("%s::pg_catalog.jsonb", quote_literal_cstr(json));
	if (text != NULL &&
		(!structured_type(type) || (filter_scalar(value, &scalar) && scalar.type == jbvString)))
		return psprintf("%s::%s", quote_literal_cstr(text), type_name);
	if (JB_ROOT_IS_SCALAR(value) || !structured_type(type))
		return NULL;
	return psprintf("(SELECT x.v FROM pg_catalog.jsonb_to_record(%s::pg_catalog.jsonb) AS x(v %s))",
					quote_literal_cstr(psprintf("{\"v\": %s}", json)), type_name);
}

/* The key columns' values as SQL. */
static char **
key_values(SearchSource *source, Jsonb *key)
{
	char	  **values = palloc(sizeof(char *) * source->nkeys);

	for (int i = 0; i < source->nkeys; i++)
	{
		values[i] = key_sql(key_value(source, key, i), getBaseType(source->keys[i].type));
		if (values[i] == NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s is no key of table \"%s\"", JsonbToCString(NULL, &key->root, VARSIZE(key)),
						   get_rel_name(source->def->source)),
					errhint("A key is a JSON object with the columns of the primary key, as search returns "
							"it, or the value alone when there is one column."));
	}
	return values;
}

/* s.a = VALUE AND ...; the values are SQL. */
static char *
key_condition(SearchSource *source, char **values)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < source->nkeys; i++)
		appendStringInfo(&sql, "%ss.%s %s %s", i > 0 ? " AND " : "", quote_identifier(source->keys[i].name),
						 source->keys[i].equal, values[i]);
	return sql.data;
}

char *
search_key_condition(SearchSource *source, Jsonb *key)
{
	return key_condition(source, key_values(source, key));
}

/* ---- conditions ----------------------------------------------------------------------- */

/* The type's own =, qualified. */
static char *
equality(Oid type)
{
	char	   *name = catalog_operator_name(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr);

	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a namespace cannot be of type %s", format_type_be(type)));
	return name;
}

static void
append_namespace(StringInfo sql, SearchSource *source, const char *namespace)
{
	if (source->namespace == NULL && namespace == NULL)
		return;
	if (source->namespace == NULL)
		ereport(
			ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("vectorizer \"%s\" has no namespaces", source->def->name),
			errhint(
				"Name a column with create_vectorizer(..., namespace => 'column'), or use a filter."));
	if (namespace == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("vectorizer \"%s\" has namespaces, and none is given", source->def->name),
				errhint("Pass namespace => '...'; a search never crosses namespaces."));
	appendStringInfo(sql, " AND %s %s %s::%s", source->namespace,
					 equality(getBaseType(source->namespace_type)), quote_literal_cstr(namespace),
					 filter_type_name(getBaseType(source->namespace_type)));
}

/*
 * Without these rows.  Of more than a few an OR would be gone through for each
 * row, and compiled by LLVM in a time that grows with their square: the server
 * can put a list into a hash table instead.
 */
static void
append_excluded(StringInfo sql, SearchSource *source, List *keys)
{
	bool		many = list_length(keys) > FEW_EXCLUDED;
	char	  **columns = palloc(sizeof(char *) * source->nkeys);
	ListCell   *lc;

	appendStringInfoString(sql, many ? " AND (EXISTS (SELECT FROM (VALUES " : " AND (");
	foreach(lc, keys)
	{
		char	  **values = key_values(source, lfirst(lc));

		CHECK_FOR_INTERRUPTS();
		if (!many)
		{
			appendStringInfo(sql, "%s(%s)", lc == list_head(keys) ? "" : " OR ",
							 key_condition(source, values));
			continue;
		}
		appendStringInfoString(sql, lc == list_head(keys) ? "(" : ", (");
		for (int i = 0; i < source->nkeys; i++)
			appendStringInfo(sql, "%s%s", i > 0 ? ", " : "", values[i]);
		appendStringInfoChar(sql, ')');
	}
	if (many)
	{
		appendStringInfoString(sql, ") AS x (");
		for (int i = 0; i < source->nkeys; i++)
		{
			columns[i] = psprintf("x.k%d", i + 1);
			appendStringInfo(sql, "%sk%d", i > 0 ? ", " : "", i + 1);
		}
		appendStringInfo(sql, ") WHERE %s)", key_condition(source, columns));
	}
	appendStringInfoString(sql, ") IS NOT TRUE");
}

void
search_append_conditions(StringInfo sql, SearchSource *source, SearchRequest *request)
{
	StringInfoData condition;

	append_namespace(sql, source, request->namespace);
	initStringInfo(&condition);
	if (request->filter != NULL && filter_compile(&condition, request->filter, source->def->source, "s"))
		appendStringInfo(sql, " AND %s", condition.data);
	if (request->exclude != NIL)
		append_excluded(sql, source, request->exclude);
}

/* ---- metadata ---------------------------------------------------------------------------- */

/* Is the column part of an index other than one on its vectors? */
static Bitmapset *
indexed_columns(Relation rel)
{
	Bitmapset  *columns = NULL;
	ListCell   *lc;
	List	   *indexes = RelationGetIndexList(rel);

	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index form;

		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_index) GETSTRUCT(tuple);
		for (int i = 0; i < form->indnatts; i++)
			if (form->indkey.values[i] > 0)
				columns = bms_add_member(columns, form->indkey.values[i]);
		ReleaseSysCache(tuple);
	}
	return columns;
}

/* Columns that the caller may read, without vectors: "s.a AS a1", and "r.a1 AS a" for the JSON. */
static void
metadata_columns(SearchSource *source, SearchMetadata level, StringInfo inner, StringInfo outer)
{
	Relation	rel = table_open(source->def->source, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	Bitmapset  *indexed = level == SEARCH_METADATA_INDEXED ? indexed_columns(rel) : NULL;
	Oid			vector = embed_vector_type()->type;
	bool		all = pg_class_aclcheck(source->def->source, GetUserId(), ACL_SELECT) == ACLCHECK_OK;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->atttypid == vector ||
			(level == SEARCH_METADATA_INDEXED && !bms_is_member(att->attnum, indexed)) ||
			(!all && pg_attribute_aclcheck(source->def->source, att->attnum, GetUserId(), ACL_SELECT) !=
						 ACLCHECK_OK))
			continue;
		appendStringInfo(inner, ", s.%s AS a%d", quote_identifier(NameStr(att->attname)), att->attnum);
		appendStringInfo(outer, "%sr.a%d AS %s", outer->len > 0 ? ", " : "", att->attnum,
						 quote_identifier(NameStr(att->attname)));
	}
	table_close(rel, AccessShareLock);
}

/* ---- statements -------------------------------------------------------------------------- */

/*
 * The frame of both legs: key, d, metadata, values, content, chunk_seq, chunk.
 * 'distinct' comes behind the inner SELECT.  The text leg of a chunked
 * vectorizer finds rows, not chunks.
 */
static void
begin_statement(StringInfo sql, SearchSource *source, SearchRequest *request, const char *distinct,
				const char *d, bool by_words)
{
	bool		chunks = source->chunked && !by_words;
	const char *from = by_words ? source->rows : source->from;
	char	   *more = "";

	StringInfoData inner,
				outer;

	initStringInfo(&inner);
	initStringInfo(&outer);
	if (request->metadata != SEARCH_METADATA_NONE)
		metadata_columns(source, request->metadata, &inner, &outer);
	appendStringInfo(sql, "SELECT %s, r.d", source->key_json);
	if (request->metadata == SEARCH_METADATA_NONE)
		appendStringInfoString(sql, ", NULL::pg_catalog.jsonb");
	else
		/* with the star m is the row, though there be a column of that name */
		appendStringInfo(sql, ", (SELECT pg_catalog.to_jsonb(m.*) FROM (SELECT %s) AS m)", outer.data);
	if (chunks)
		more = ", c.chunk_seq AS cs, c.chunk AS ct";
	if (request->values && !(source->chunked && by_words))
		more = psprintf("%s, %s AS v", more, source->vector);
	appendStringInfo(sql, ", %s, %s, %s FROM (SELECT %s%s, (%s)::pg_catalog.float8 AS d%s%s FROM %s",
					 request->values && !(source->chunked && by_words) ? "r.v" : "NULL",
					 !request->content ? "NULL::pg_catalog.text" : chunks ? "r.ct" : source->content,
					 chunks ? "r.cs, r.ct" : "NULL::pg_catalog.int4, NULL::pg_catalog.text",
					 distinct, source->key_columns, d, inner.data, more, from);
}

static void
append_outer_order(StringInfo sql, SearchSource *source, bool chunks)
{
	for (int i = 0; i < source->nkeys; i++)
		appendStringInfo(sql, ", r.k%d", i + 1);
	if (chunks)
		appendStringInfoString(sql, ", r.cs");
}

/*
 * Rows by distance, then by key.  The form for indexes asks only for the
 * distance inside, which is all that an index can give, and sorts the rows
 * again outside, by a sum that says nothing of the order they came in: an index
 * may give them a little out of order.  The other form hides the distance from
 * indexes.
 */
char *
search_vector_sql(SearchSource *source, SearchRequest *request, int limit, bool exact)
{
	StringInfoData sql;
	char	   *distance = psprintf("%s OPERATOR(%s.%s) $1", source->vector, source->vector_schema,
									source->metric->operator);
	bool		best_chunks = exact && source->chunked && !request->ungrouped;

	if (exact)
		distance = psprintf("(%s) " PLUS_ZERO, distance);
	initStringInfo(&sql);
	begin_statement(&sql, source, request,
					best_chunks ? psprintf("DISTINCT ON (%s) ", source->key_order) : "", distance, false);
	appendStringInfo(&sql, " WHERE %s IS NOT NULL", source->vector);
	search_append_conditions(&sql, source, request);
	if (best_chunks)
	{
		/* the best chunk of each row, and then the nearest rows */
		appendStringInfo(&sql, " ORDER BY %s, d, c.chunk_seq) AS r ORDER BY r.d", source->key_order);
		append_outer_order(&sql, source, true);
		appendStringInfo(&sql, " LIMIT %d", limit);
		return sql.data;
	}
	if (exact)
		appendStringInfo(&sql, " ORDER BY %s, %s%s", distance, source->key_order,
						 source->chunked ? ", c.chunk_seq" : "");
	else
		appendStringInfo(&sql, " ORDER BY %s", distance);
	appendStringInfo(&sql, " LIMIT %d) AS r ORDER BY r.d%s", limit, exact ? "" : " " PLUS_ZERO);
	append_outer_order(&sql, source, source->chunked);
	return sql.data;
}

/*
 * A row is found by the words of the query, or by its similarity to a part of
 * the text when the trigram extension is there.  The score is at least 0.5 for
 * the words.  For the similarity it is the mean of that to any part and that to
 * whole words: the first alone cannot tell a misspelt word from a longer one that
 * begins like it, the second is low for words that are written together.
 */
char *
search_text_sql(SearchSource *source, SearchRequest *request, int limit, const char *trgm_schema)
{
	StringInfoData sql;
	const char *query = psprintf("%s::pg_catalog.text", quote_literal_cstr(request->query));
	char	   *words = psprintf("pg_catalog.to_tsvector(%s, %s)", source->text_config, source->words);
	char	   *tsquery = psprintf("pg_catalog.websearch_to_tsquery(%s, %s)", source->text_config, query);
	char	   *match = psprintf("%s OPERATOR(pg_catalog.@@) %s", words, tsquery);
	char *score = psprintf(
		"CASE WHEN %s THEN (pg_catalog.ts_rank(%s, %s, 32)::pg_catalog.float8 OPERATOR(pg_catalog.+) "
		"1::pg_catalog.float8) OPERATOR(pg_catalog./) 2::pg_catalog.float8 ELSE 0::pg_catalog.float8 END",
		match, words, tsquery);

	if (trgm_schema != NULL)
	{
		/* below the floor it is below 0.5, so it cannot outdo the words */
		score = psprintf("greatest(%s, (%s.word_similarity(%s, %s) OPERATOR(pg_catalog.+) "
						 "%s.strict_word_similarity(%s, %s))::pg_catalog.float8 OPERATOR(pg_catalog./) "
						 "2::pg_catalog.float8)",
						 score, trgm_schema, query, source->words, trgm_schema, query, source->words);
		match = psprintf("(%s OR %s OPERATOR(%s.%%>) %s)", match, source->words, trgm_schema, query);
	}
	initStringInfo(&sql);
	begin_statement(&sql, source, request, "", score, true);
	appendStringInfo(&sql, " WHERE %s", match);
	if (!source->chunked)
		appendStringInfo(&sql, " AND %s IS NOT NULL", source->vector);
	search_append_conditions(&sql, source, request);
	appendStringInfo(&sql, " ORDER BY d DESC, %s LIMIT %d) AS r ORDER BY r.d DESC", source->key_order, limit);
	append_outer_order(&sql, source, false);
	return sql.data;
}

/*
 * filter_compile.c
 *		From a filter to a SQL condition that indexes can serve.
 *
 * Every name is quoted and every operator qualified; every value is a literal
 * with its type.  A compiled condition is true exactly for the rows that match
 * and may be false or NULL for the others; $not turns "not true" into true,
 * which makes the whole two-valued while the plain forms stay indexable.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/typcache.h"

#include "queue/catalog.h"
#include "search/filter.h"

/*
 * An array's elements, and JSON values, are looked for one by one by the
 * operators that GIN knows: in time that grows with the list, for each row that
 * no index has chosen.  Longer lists are for a hash table, which asks no index.
 */
#define LONG_LIST			32
#define LONG_INDEXED_LIST	1000

typedef struct Compiler
{
	StringInfo	sql;
	Oid			relid;
	const char *alias;
} Compiler;

static void compile_node(Compiler *c, FilterNode *node);
static void compile_null(Compiler *c, const FilterTarget *target);

/* ---- operators ------------------------------------------------------------------------ */

/* The operator of the type's default btree class, qualified. */
static char *
btree_operator(const FilterTarget *target, Oid type, StrategyNumber strategy)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	Oid			oper = InvalidOid;
	char	   *name;

	if (OidIsValid(entry->btree_opf))
		oper = get_opfamily_member(entry->btree_opf, entry->btree_opintype, entry->btree_opintype, strategy);
	name = catalog_operator_name(oper);
	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("column \"%s\" of type %s cannot be compared in a filter", target->key,
					   format_type_be(target->type)),
				errhint("$exists and null work for every type."));
	return name;
}

static char *
literal(Oid type, const char *text)
{
	return psprintf("%s::%s", quote_literal_cstr(text), filter_type_name(type));
}

static char *
column_sql(Compiler *c, const FilterTarget *target)
{
	return psprintf("%s.%s", c->alias, quote_identifier(target->column));
}

/* ---- ranges ---------------------------------------------------------------------------- */

static StrategyNumber
strategy_of(FilterOp op)
{
	switch (op)
	{
		case FILTER_GT:
			return BTGreaterStrategyNumber;
		case FILTER_GTE:
			return BTGreaterEqualStrategyNumber;
		case FILTER_LT:
			return BTLessStrategyNumber;
		case FILTER_LTE:
			return BTLessEqualStrategyNumber;
		default:
			return BTEqualStrategyNumber;
	}
}

/*
 * A floating-point column is compared by the decimal numbers it shows, as JSON
 * shows them: 0.1 equals the float4 that prints as 0.1.  A number between two
 * floats equals none of them, and for ranges is moved onto the nearest float,
 * with the operator that includes or excludes that one as it should.  Returns
 * the side of the number on which the shown value of that float is: -1, 0, 1.
 */
static int
float_side(Oid type, const char *text)
{
	char		shown[32];
	Datum		number = DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
											 Int32GetDatum(-1));
	Datum		nearest;

	if (type == FLOAT4OID)
		float_to_shortest_decimal_buf(
			DatumGetFloat4(DirectFunctionCall1(float4in, CStringGetDatum(text))), shown);
	else
		double_to_shortest_decimal_buf(
			DatumGetFloat8(DirectFunctionCall1(float8in, CStringGetDatum(text))), shown);
	nearest = DirectFunctionCall3(numeric_in, CStringGetDatum(shown), ObjectIdGetDatum(InvalidOid),
								  Int32GetDatum(-1));
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, nearest, number));
}

static FilterOp
float_range(FilterOp op, int side)
{
	bool		upward = op == FILTER_GT || op == FILTER_GTE;

	if (side == 0)
		return op;
	if (upward)
		return side > 0 ? FILTER_GTE : FILTER_GT;
	return side > 0 ? FILTER_LT : FILTER_LTE;
}

static bool
is_float(Oid type)
{
	return type == FLOAT4OID || type == FLOAT8OID;
}

/* column OP value, for a column of a scalar type */
static void
compile_comparison(Compiler *c, const FilterTarget *target, FilterOp op, JsonbValue *value)
{
	char	   *text = filter_text(target, target->type, target->class, value);

	if (is_float(target->type))
	{
		int			side = float_side(target->type, text);

		if (side != 0 && op == FILTER_EQ)
		{
			appendStringInfoString(c->sql, "false");
			return;
		}
		op = float_range(op, side);
	}
	appendStringInfo(c->sql, "%s %s %s", column_sql(c, target),
					 btree_operator(target, target->type, strategy_of(op)), literal(target->type, text));
}

static bool
has_gin_index(Oid relid, AttrNumber attnum)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	bool		found = false;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_rel->relam == GIN_AM_OID)
			for (int i = 0; i < index->rd_index->indnkeyatts; i++)
				found |= index->rd_index->indkey.values[i] == attnum;
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	relation_close(rel, AccessShareLock);
	return found;
}

static bool
is_long_list(Compiler *c, const FilterTarget *target, int count)
{
	return count > LONG_INDEXED_LIST || (count > LONG_LIST && !has_gin_index(c->relid, target->attnum));
}

/* ---- arrays ----------------------------------------------------------------------------- */

/* What a list of scalars becomes: one literal, of which the parser makes one node. */
typedef struct ArrayLiteral
{
	char	   *sql;			/* '{...}'::type[] */
	int			count;			/* of its elements */
	bool		has_null;		/* the list has one; the literal, if nulls are kept */
	bool		has_impossible; /* the list has a number between two floats, which equals none; left out */
} ArrayLiteral;

static char
array_delimiter(Oid type)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	char		typdelim;
	Oid			typioparam;
	Oid			function;

	get_type_io_data(type, IOFunc_input, &typlen, &typbyval, &typalign, &typdelim, &typioparam, &function);
	return typdelim;
}

static void
append_element(StringInfo buf, const char *text)
{
	appendStringInfoChar(buf, '"');
	for (; *text; text++)
	{
		if (*text == '"' || *text == '\\')
			appendStringInfoChar(buf, '\\');
		appendStringInfoChar(buf, *text);
	}
	appendStringInfoChar(buf, '"');
}

static ArrayLiteral
array_literal(const FilterTarget *target, FilterNode *node, bool keep_nulls)
{
	Oid			type = OidIsValid(target->element) ? target->element : target->type;
	FilterClass class = OidIsValid(target->element) ? target->element_class : target->class;
	char		delimiter = array_delimiter(type);
	ArrayLiteral result = {0};
	StringInfoData buf;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "vecsync filter value", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	initStringInfo(&buf);
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < node->list.count; i++)
	{
		JsonbValue *value = &node->list.values[i];
		const char *text = NULL;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(context);
		if (value->type == jbvBinary)
			filter_misfit(target, node->op, JsonbValueToJsonb(value), "Write an array of scalars.");
		if (value->type == jbvNull)
		{
			result.has_null = true;
			if (!keep_nulls)
				continue;
		}
		else
		{
			text = filter_text(target, type, class, value);
			if (is_float(type) && float_side(type, text) != 0)
			{
				result.has_impossible = true;
				continue;
			}
		}
		appendStringInfoChar(&buf, result.count++ > 0 ? delimiter : '{');
		if (text != NULL)
			append_element(&buf, text);
		else
			appendStringInfoString(&buf, "NULL");
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	appendStringInfoString(&buf, result.count > 0 ? "}" : "{}");
	result.sql = psprintf("%s::%s[]", quote_literal_cstr(buf.data), filter_type_name(type));
	return result;
}

/* Arrays of domains, and int2vector, have no operators: the column as an array of its elements' base type. */
static char *
array_sql(Compiler *c, const FilterTarget *target)
{
	char	   *column = column_sql(c, target);

	if (get_array_type(target->element) == target->type)
		return column;
	return psprintf("(%s)::%s[]", column, filter_type_name(target->element));
}

/*
 * JSON knows of no other first element than the first, while = does: a slice of
 * everything has the lower bound 1.  Only @> is for indexes.
 */
static void
compile_array_equal(Compiler *c, const char *column, const ArrayLiteral *list)
{
	if (list->has_impossible)
		appendStringInfoString(c->sql, "false");
	else if (list->count == 0 || list->has_null)
		appendStringInfo(c->sql, "(%s)[:] OPERATOR(pg_catalog.=) %s", column, list->sql);
	else
		appendStringInfo(c->sql, "(%s OPERATOR(pg_catalog.@>) %s AND (%s)[:] OPERATOR(pg_catalog.=) %s)",
						 column, list->sql, column, list->sql);
}

/* Is an element of the list in the array?  && goes through all of the list for each element of a row. */
static void
compile_array_any(Compiler *c, const FilterTarget *target, const char *column, const ArrayLiteral *list)
{
	appendStringInfoChar(c->sql, '(');
	if (is_long_list(c, target, list->count))
		appendStringInfo(c->sql, "EXISTS (SELECT FROM pg_catalog.unnest(%s) AS e(v) WHERE e.v %s ANY (%s))",
						 column, btree_operator(target, target->element, BTEqualStrategyNumber), list->sql);
	else
		appendStringInfo(c->sql, "%s OPERATOR(pg_catalog.&&) %s", column, list->sql);
	if (list->has_null)
		appendStringInfo(c->sql, " OR %s IS NULL", column);
	appendStringInfoChar(c->sql, ')');
}

static void
compile_array(Compiler *c, const FilterTarget *target, FilterNode *node)
{
	char	   *column = array_sql(c, target);
	bool		scalar = JB_ROOT_IS_SCALAR(node->value);
	ArrayLiteral list;

	if (target->element_class == FILTER_JSON || target->element_class == FILTER_ARRAY)
		filter_misfit(target, node->op, node->value,
					  "Arrays of JSON values can only be tested with $exists and null.");
	if (!scalar && !JB_ROOT_IS_ARRAY(node->value))
		filter_misfit(target, node->op, node->value, "Write an array, or an element.");
	(void) btree_operator(target, target->element, BTEqualStrategyNumber);
	switch (node->op)
	{
		case FILTER_EQ:
			list = array_literal(target, node, !scalar);
			if (scalar)
				compile_array_any(c, target, column, &list);
			else
				compile_array_equal(c, column, &list);
			break;
		case FILTER_IN:
			list = array_literal(target, node, false);
			compile_array_any(c, target, column, &list);
			break;
		case FILTER_CONTAINS:
			list = array_literal(target, node, true);
			if (list.has_null)
				filter_misfit(target, node->op, node->value, "null cannot be looked for inside an array.");
			if (list.has_impossible)
				appendStringInfoString(c->sql, "false");
			else
				appendStringInfo(c->sql, "%s OPERATOR(pg_catalog.@>) %s", column, list.sql);
			break;
		default:
			filter_misfit(target, node->op, node->value,
						  "Use $in (any of), $contains (all of) or $eq for an array column.");
	}
}

/* ---- JSON --------------------------------------------------------------------------------- */

static char *
jsonb_literal(Jsonb *value)
{
	return psprintf("%s::pg_catalog.jsonb",
					quote_literal_cstr(JsonbToCString(NULL, &value->root, VARSIZE(value))));
}

/* The value that a key leads to: the column or what is at the path in it; NULL when missing. */
static char *
json_node(Compiler *c, const FilterTarget *target)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, column_sql(c, target));
	if (target->type == JSONOID)
		appendStringInfoString(&buf, "::pg_catalog.jsonb");
	if (target->npath > 0)
	{
		appendStringInfoString(&buf, " OPERATOR(pg_catalog.#>) ARRAY[");
		for (int i = 0; i < target->npath; i++)
			appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(target->path[i]));
		appendStringInfoString(&buf, "]::pg_catalog.text[]");
	}
	return psprintf("(%s)", buf.data);
}

/* Could a path's element count the elements of an array? */
static bool
counts_elements(const FilterTarget *target)
{
	for (int i = 0; i < target->npath; i++)
		if (strspn(target->path[i], " \t\n\v\f\r+-0123456789") > 0)
			return true;
	return false;
}

/* {"a": {"b": VALUE}} for the path a.b: what a GIN index on the column finds by @> */
static char *
wrapped(const FilterTarget *target, Jsonb *value, bool in_array)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < target->npath; i++)
	{
		appendStringInfoChar(&buf, '{');
		escape_json(&buf, target->path[i]);
		appendStringInfoString(&buf, ": ");
	}
	if (in_array)
		appendStringInfoChar(&buf, '[');
	(void) JsonbToCString(&buf, &value->root, VARSIZE(value));
	if (in_array)
		appendStringInfoChar(&buf, ']');
	for (int i = 0; i < target->npath; i++)
		appendStringInfoChar(&buf, '}');
	return psprintf("%s::pg_catalog.jsonb", quote_literal_cstr(buf.data));
}

/* The value equals the scalar, or is an array that has it. */
static void
compile_json_has(Compiler *c, const FilterTarget *target, Jsonb *value)
{
	char	   *column = column_sql(c, target);

	if (target->type == JSONOID || target->npath == 0 || counts_elements(target))
		appendStringInfo(c->sql, "%s OPERATOR(pg_catalog.@>) %s", json_node(c, target), jsonb_literal(value));
	else
		appendStringInfo(c->sql, "(%s OPERATOR(pg_catalog.@>) %s OR %s OPERATOR(pg_catalog.@>) %s)", column,
						 wrapped(target, value, false), column, wrapped(target, value, true));
}

/*
 * Of many values each row's is looked up in a hash table; an array's elements,
 * or the value itself as the only one.
 */
static void
compile_json_in_many(Compiler *c, const char *json, FilterList list)
{
	StringInfoData values;
	StringInfoData one;
	const char *separator = "{";

	initStringInfo(&values);
	initStringInfo(&one);
	for (int i = 0; i < list.count; i++)
	{
		Jsonb	   *value;

		CHECK_FOR_INTERRUPTS();
		if (list.values[i].type == jbvNull)
			continue;
		value = JsonbValueToJsonb(&list.values[i]);
		resetStringInfo(&one);
		(void) JsonbToCString(&one, &value->root, VARSIZE(value));
		pfree(value);
		appendStringInfoString(&values, separator);
		append_element(&values, one.data);
		separator = ",";
	}
	appendStringInfoString(&values, *separator == '{' ? "{}" : "}");
	appendStringInfo(c->sql,
					 "EXISTS (SELECT FROM pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof(%s)"
					 " WHEN 'array' THEN %s ELSE pg_catalog.jsonb_build_array(%s) END) AS e(v)"
					 " WHERE e.v OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.jsonb[]))",
					 json, json, json, quote_literal_cstr(values.data));
}

static void
compile_json_in(Compiler *c, const FilterTarget *target, FilterNode *node)
{
	bool		many = is_long_list(c, target, node->list.count);
	bool		has_null = false;
	const char *or = "";

	appendStringInfoChar(c->sql, '(');
	for (int i = 0; i < node->list.count; i++)
		if (node->list.values[i].type == jbvNull)
			has_null = true;
		else if (!many)
		{
			appendStringInfoString(c->sql, or);
			compile_json_has(c, target, JsonbValueToJsonb(&node->list.values[i]));
			or = " OR ";
		}
	if (many)
	{
		compile_json_in_many(c, json_node(c, target), node->list);
		or = " OR ";
	}
	if (has_null)
	{
		appendStringInfoString(c->sql, or);
		compile_null(c, target);
	}
	appendStringInfoString(c->sql, node->list.count > 0 ? ")" : "false)");
}

static void
compile_json(Compiler *c, const FilterTarget *target, FilterNode *node)
{
	char	   *json = json_node(c, target);
	JsonbValue	value;
	bool		scalar = filter_scalar(node->value, &value);

	switch (node->op)
	{
		case FILTER_EQ:
			if (scalar)
				compile_json_has(c, target, node->value);
			else
				appendStringInfo(c->sql, "%s OPERATOR(pg_catalog.=) %s", json, jsonb_literal(node->value));
			break;
		case FILTER_IN:
			compile_json_in(c, target, node);
			break;
		case FILTER_CONTAINS:
			/* a null is as good as missing, and has nothing in it */
			if (scalar && value.type == jbvNull)
				appendStringInfo(c->sql, "%s OPERATOR(pg_catalog.<>) 'null'::pg_catalog.jsonb AND ", json);
			appendStringInfo(c->sql, "%s OPERATOR(pg_catalog.@>) %s", json, jsonb_literal(node->value));
			break;
		default:
			{
				static const char *const symbols[] = {">", ">=", "<", "<="};

				appendStringInfo(c->sql,
								 "(pg_catalog.jsonb_typeof(%s) OPERATOR(pg_catalog.=) '%s'"
								 " AND %s OPERATOR(pg_catalog.%s) %s)",
								 json, value.type == jbvNumeric ? "number" : "string", json,
								 symbols[node->op - FILTER_GT], jsonb_literal(node->value));
			}
	}
}

/* ---- conditions -------------------------------------------------------------------------- */

static void
compile_null(Compiler *c, const FilterTarget *target)
{
	if (target->class == FILTER_JSON)
	{
		char	   *json = json_node(c, target);

		appendStringInfo(c->sql, "(%s IS NULL OR %s OPERATOR(pg_catalog.=) 'null'::pg_catalog.jsonb)",
						 json, json);
	}
	else
		/* IS NULL would look into a composite value */
		appendStringInfo(c->sql, "%s IS NOT DISTINCT FROM NULL", column_sql(c, target));
}

static void
compile_in(Compiler *c, const FilterTarget *target, FilterNode *node)
{
	ArrayLiteral list = array_literal(target, node, false);

	appendStringInfo(c->sql, "(%s %s ANY (%s)", column_sql(c, target),
					 btree_operator(target, target->type, BTEqualStrategyNumber), list.sql);
	if (list.has_null)
	{
		appendStringInfoString(c->sql, " OR ");
		compile_null(c, target);
	}
	appendStringInfoChar(c->sql, ')');
}

/* $eq, $in, $contains and the ranges */
static void
compile_positive(Compiler *c, const FilterTarget *target, FilterNode *node)
{
	JsonbValue	value;
	bool		scalar = filter_scalar(node->value, &value);

	if (node->op == FILTER_EQ && scalar && value.type == jbvNull)
		compile_null(c, target);
	else if (target->class == FILTER_JSON)
		compile_json(c, target, node);
	else if (target->class == FILTER_ARRAY)
		compile_array(c, target, node);
	else if (node->op == FILTER_IN)
		compile_in(c, target, node);
	else if (node->op == FILTER_CONTAINS)
		filter_misfit(target, node->op, node->value, "$contains works for arrays and JSON.");
	else if (!scalar)
		filter_misfit(target, node->op, node->value, "Write a scalar; $in takes a list.");
	else
		compile_comparison(c, target, node->op, &value);
}

static void
compile_condition(Compiler *c, FilterNode *node)
{
	FilterTarget *target = filter_resolve(c->relid, node->key);
	FilterNode	positive = *node;
	JsonbValue	value;

	switch (node->op)
	{
		case FILTER_NE:
		case FILTER_NIN:
			positive.op = node->op == FILTER_NE ? FILTER_EQ : FILTER_IN;
			appendStringInfoString(c->sql, "((");
			compile_positive(c, target, &positive);
			appendStringInfoString(c->sql, ") IS NOT TRUE)");
			break;
		case FILTER_EXISTS:
			(void) filter_scalar(node->value, &value);
			appendStringInfoString(c->sql, "((");
			compile_null(c, target);
			appendStringInfo(c->sql, ") IS %sTRUE)", value.val.boolean ? "NOT " : "");
			break;
		default:
			appendStringInfoChar(c->sql, '(');
			compile_positive(c, target, node);
			appendStringInfoChar(c->sql, ')');
	}
}

static void
compile_node(Compiler *c, FilterNode *node)
{
	ListCell   *lc;
	bool		first = true;

	check_stack_depth();
	switch (node->op)
	{
		case FILTER_AND:
		case FILTER_OR:
			if (node->children == NIL)
				appendStringInfoString(c->sql, node->op == FILTER_AND ? "true" : "false");
			else
			{
				appendStringInfoChar(c->sql, '(');
				foreach(lc, node->children)
				{
					if (!first)
						appendStringInfoString(c->sql, node->op == FILTER_AND ? " AND " : " OR ");
					first = false;
					compile_node(c, lfirst(lc));
				}
				appendStringInfoChar(c->sql, ')');
			}
			break;
		case FILTER_NOT:
			appendStringInfoString(c->sql, "((");
			compile_node(c, linitial(node->children));
			appendStringInfoString(c->sql, ") IS NOT TRUE)");
			break;
		default:
			compile_condition(c, node);
	}
}

bool
filter_compile(StringInfo sql, Jsonb *filter, Oid relid, const char *alias)
{
	Compiler	c = {sql, relid, alias};
	FilterNode *node = filter_parse(filter);

	if (node == NULL)
		return false;
	compile_node(&c, node);
	return true;
}

void
filter_check(FilterNode *node, Oid relid)
{
	StringInfoData sql;
	Compiler	c = {&sql, relid, "s"};

	initStringInfo(&sql);
	compile_node(&c, node);
	pfree(sql.data);
}

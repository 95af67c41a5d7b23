/*
 * filter_match.c
 *		vecsync.match: does a row, given as JSON, satisfy a filter?
 *
 * An evaluator that shares nothing with the compiler but the parser and the
 * reading of keys and values.  With a table, values are compared by the types of
 * its columns, exactly as the compiled condition does.  Without one they are
 * compared as JSON shows them: numbers, booleans, dates and times in ISO form,
 * strings.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "search/filter.h"

PG_FUNCTION_INFO_V1(filter_match);
PG_FUNCTION_INFO_V1(filter_match_table);
PG_FUNCTION_INFO_V1(filter_condition);

/* What is at a key of a row, and how it is compared. */
typedef struct Place
{
	const FilterTarget *target; /* NULL: no table is known */
	bool		nested;			/* inside a JSON value: strings are just strings */
	Jsonb	   *value;			/* NULL: missing or null */
} Place;

/* ---- places ------------------------------------------------------------------------ */

static Jsonb *
member(Jsonb *object, const char *key, int len)
{
	JsonbValue	buffer;
	JsonbValue *v;

	if (!JB_ROOT_IS_OBJECT(object))
		return NULL;
	v = getKeyJsonValueFromContainer(&object->root, key, len, &buffer);
	return v ? JsonbValueToJsonb(v) : NULL;
}

/* One step of a path: a member of an object, or an element of an array by its number. */
static Jsonb *
step(Jsonb *value, const char *name)
{
	char	   *end;
	long		index;
	long		count;
	JsonbValue *v;

	if (JB_ROOT_IS_OBJECT(value))
		return member(value, name, strlen(name));
	if (!JB_ROOT_IS_ARRAY(value) || JB_ROOT_IS_SCALAR(value))
		return NULL;
	errno = 0;
	index = strtol(name, &end, 10);
	if (end == name || *end != '\0' || errno != 0 || index > INT_MAX || index < INT_MIN)
		return NULL;
	count = JB_ROOT_COUNT(value);
	if (index < 0)
		index += count;
	if (index < 0 || index >= count)
		return NULL;
	v = getIthJsonbValueFromContainer(&value->root, (uint32) index);
	return v ? JsonbValueToJsonb(v) : NULL;
}

static Jsonb *
not_null(Jsonb *value)
{
	JsonbValue	scalar;

	if (value != NULL && filter_scalar(value, &scalar) && scalar.type == jbvNull)
		return NULL;
	return value;
}

static Place
find_place(Jsonb *row, const char *key, Oid relid)
{
	Place		place = {0};

	if (OidIsValid(relid))
	{
		const FilterTarget *target = filter_resolve(relid, key);

		place.target = target;
		place.nested = target->class == FILTER_JSON;
		place.value = member(row, target->column, strlen(target->column));
		for (int i = 0; i < target->npath && place.value != NULL; i++)
			place.value = step(place.value, target->path[i]);
	}
	else
	{
		place.value = member(row, key, strlen(key));
		for (const char *dot = strchr(key, '.'); place.value == NULL && dot != NULL;
			 dot = strchr(dot + 1, '.'))
		{
			Jsonb	   *value = member(row, key, dot - key);

			for (const char *rest = dot; rest != NULL && value != NULL;)
			{
				const char *next = strchr(rest + 1, '.');

				value = step(value, next ? pnstrdup(rest + 1, next - rest - 1) : rest + 1);
				rest = next;
			}
			place.value = value;
			place.nested = true;
		}
	}
	place.value = not_null(place.value);
	return place;
}

/* ---- comparing scalars --------------------------------------------------------------- */

static int
digits(const char **p, int n)
{
	int			value = 0;

	for (int i = 0; i < n; i++, (*p)++)
	{
		if (**p < '0' || **p > '9')
			return -1;
		value = value * 10 + (**p - '0');
	}
	return value;
}

/* YYYY-MM-DD[(T| )HH:MM[:SS[.f]][Z|(+|-)HH[:MM]]] in microseconds; without a zone it is UTC. */
static bool
iso_time(const char *p, int64 *result)
{
	int			year = digits(&p, 4);
	int			month = year < 0 || *p++ != '-' ? -1 : digits(&p, 2);
	int			day = month < 1 || month > 12 || *p++ != '-' ? -1 : digits(&p, 2);
	int64		us = 0;
	int			hour,
				minute,
				second = 0;

	if (day < 1 || day > day_tab[isleap(year)][month - 1])
		return false;
	*result = (int64) (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
	if (*p == '\0')
		return true;
	if (*p != 'T' && *p != ' ')
		return false;
	p++;
	hour = digits(&p, 2);
	minute = hour < 0 || *p++ != ':' ? -1 : digits(&p, 2);
	if (minute < 0 || hour > 24 || minute > 59)
		return false;
	if (*p == ':')
	{
		p++;
		second = digits(&p, 2);
		if (second < 0 || second > 60)
			return false;
		if (*p == '.')
		{
			int			scale = 100000;

			for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10)
				us += (*p - '0') * scale;
		}
	}
	*result += ((hour * INT64CONST(60) + minute) * 60 + second) * USECS_PER_SEC + us;
	if (*p == 'Z')
		p++;
	else if (*p == '+' || *p == '-')
	{
		int			sign = *p++ == '+' ? 1 : -1;
		int			zone_hour = digits(&p, 2);
		int			zone_minute = 0;

		if (*p == ':')
			p++;
		if (*p != '\0')
			zone_minute = digits(&p, 2);
		if (zone_hour < 0 || zone_minute < 0)
			return false;
		*result -= sign * (zone_hour * 60 + zone_minute) * 60 * USECS_PER_SEC;
	}
	return *p == '\0';
}

static char *
string_of(JsonbValue *v)
{
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static int
compare_typed(const FilterTarget *target, Oid type, FilterClass class, JsonbValue *a, JsonbValue *b)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_CMP_PROC_FINFO);
	Datum		left = filter_datum(target, type, string_of(a));
	Datum		right = filter_datum(target, type, filter_text(target, type, class, b));

	if (!OidIsValid(entry->cmp_proc))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("column \"%s\" of type %s cannot be compared in a filter", target->key,
					   format_type_be(target->type)));
	return DatumGetInt32(FunctionCall2Coll(&entry->cmp_proc_finfo, target->collation, left, right));
}

static int
compare_strings(JsonbValue *a, JsonbValue *b, bool as_text)
{
	int64		left,
				right;

	if (!as_text && iso_time(string_of(a), &left) && iso_time(string_of(b), &right))
		return left < right ? -1 : left > right;
	return varstr_cmp(a->val.string.val, a->val.string.len, b->val.string.val, b->val.string.len,
					  DEFAULT_COLLATION_OID);
}

/* A floating-point column's NaN and infinities are strings in JSON. */
static bool
special_number(const Place *place, JsonbValue *a, int *order)
{
	char	   *text;

	if (place->nested || a->type != jbvString || (place->target && place->target->class != FILTER_NUMBER &&
												  place->target->element_class != FILTER_NUMBER))
		return false;
	text = string_of(a);
	*order = strcmp(text, "-Infinity") == 0 ? -1 : 1;
	return *order < 0 || strcmp(text, "NaN") == 0 || strcmp(text, "Infinity") == 0;
}

/* The row's a against the filter's b; false when they are of different kinds. */
static bool
compare_scalars(const Place *place, JsonbValue *a, JsonbValue *b, int *order)
{
	const FilterTarget *target = place->target;

	if (b->type == jbvNumeric && special_number(place, a, order))
		return true;
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvNumeric:
			*order = DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->val.numeric),
													   NumericGetDatum(b->val.numeric)));
			return true;
		case jbvBool:
			*order = (int) a->val.boolean - (int) b->val.boolean;
			return true;
		case jbvString:
			if (target == NULL || place->nested)
				*order = compare_strings(a, b, place->nested);
			else if (target->class == FILTER_ARRAY)
				*order = compare_typed(target, target->element, target->element_class, a, b);
			else
				*order = compare_typed(target, target->type, target->class, a, b);
			return true;
		default:
			return false;
	}
}

/* ---- conditions ------------------------------------------------------------------------- */

static bool
same_json(Jsonb *a, Jsonb *b)
{
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

/* Of a value's own elements, is one that scalar?  Arrays of a column count at every depth. */
static bool
has_scalar(const Place *place, FilterList own, JsonbValue *wanted)
{
	bool		deep = place->target != NULL && place->target->class == FILTER_ARRAY;
	int			order;

	check_stack_depth();
	for (int i = 0; i < own.count; i++)
		if (own.values[i].type == jbvBinary)
		{
			if (deep && has_scalar(place, filter_elements(JsonbValueToJsonb(&own.values[i])), wanted))
				return true;
		}
		else if (compare_scalars(place, &own.values[i], wanted, &order) && order == 0)
			return true;
	return false;
}

/* Typed arrays are equal when their elements are, one by one. */
static bool
same_array(const Place *place, Jsonb *value, FilterNode *node)
{
	FilterList	own;

	if (place->target == NULL || place->target->class != FILTER_ARRAY)
		return same_json(value, node->value);
	own = filter_elements(value);
	if (!JB_ROOT_IS_ARRAY(value) || own.count != node->list.count)
		return false;
	for (int i = 0; i < own.count; i++)
	{
		JsonbValue *a = &own.values[i];
		JsonbValue *b = &node->list.values[i];
		int			order;

		if (a->type == jbvNull && b->type == jbvNull)
			continue;
		if (!compare_scalars(place, a, b, &order) || order != 0)
			return false;
	}
	return true;
}

/* Is the value, or an element of it, one of these?  null is for what is missing. */
static bool
match_any(const Place *place, FilterList wanted)
{
	FilterList	own = {0};

	if (place->value != NULL)
		own = filter_elements(place->value);
	for (int i = 0; i < wanted.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (wanted.values[i].type == jbvNull)
		{
			if (place->value == NULL)
				return true;
		}
		else if (has_scalar(place, own, &wanted.values[i]))
			return true;
	}
	return false;
}

static bool
match_equal(const Place *place, FilterNode *node)
{
	if (JB_ROOT_IS_SCALAR(node->value))
		return match_any(place, node->list);
	return place->value != NULL && same_array(place, place->value, node);
}

static bool
match_range(const Place *place, FilterOp op, Jsonb *bound)
{
	JsonbValue	value;
	JsonbValue	wanted;
	int			order;

	if (place->value == NULL || !filter_scalar(place->value, &value) || !filter_scalar(bound, &wanted) ||
		!compare_scalars(place, &value, &wanted, &order))
		return false;
	switch (op)
	{
		case FILTER_GT:
			return order > 0;
		case FILTER_GTE:
			return order >= 0;
		case FILTER_LT:
			return order < 0;
		default:
			return order <= 0;
	}
}

static bool
match_contains(const Place *place, FilterNode *node)
{
	FilterList	own;

	if (place->value == NULL)
		return false;
	if (place->target == NULL || place->target->class != FILTER_ARRAY)
		return DatumGetBool(
			DirectFunctionCall2(jsonb_contains, JsonbPGetDatum(place->value), JsonbPGetDatum(node->value)));
	own = filter_elements(place->value);
	for (int i = 0; i < node->list.count; i++)
		if (!has_scalar(place, own, &node->list.values[i]))
			return false;
	return true;
}

static bool
match_node(Jsonb *row, FilterNode *node, Oid relid)
{
	Place		place;
	JsonbValue	scalar;
	ListCell   *lc;

	check_stack_depth();
	switch (node->op)
	{
		case FILTER_AND:
			foreach(lc, node->children)
				if (!match_node(row, lfirst(lc), relid))
					return false;
			return true;
		case FILTER_OR:
			foreach(lc, node->children)
				if (match_node(row, lfirst(lc), relid))
					return true;
			return false;
		case FILTER_NOT:
			return !match_node(row, linitial(node->children), relid);
		default:
			break;
	}
	place = find_place(row, node->key, relid);
	switch (node->op)
	{
		case FILTER_EQ:
			return match_equal(&place, node);
		case FILTER_NE:
			return !match_equal(&place, node);
		case FILTER_IN:
			return match_any(&place, node->list);
		case FILTER_NIN:
			return !match_any(&place, node->list);
		case FILTER_EXISTS:
			(void) filter_scalar(node->value, &scalar);
			return (place.value != NULL) == scalar.val.boolean;
		case FILTER_CONTAINS:
			return match_contains(&place, node);
		default:
			return match_range(&place, node->op, node->value);
	}
}

/* What a call knows of the filter that it had for the row before. */
typedef struct KnownFilter
{
	MemoryContext context;
	Jsonb	   *filter;
	Oid			relid;
	FilterNode *node;			/* NULL: no condition */
} KnownFilter;

/*
 * A filter is read once for all rows.  What does not fit the table is an error
 * here, too, whichever conditions are reached: whatever the compiler refuses.
 */
static FilterNode *
known_filter(FunctionCallInfo fcinfo, Jsonb *filter, Oid relid)
{
	KnownFilter *known = fcinfo->flinfo->fn_extra;
	Jsonb	   *copy;
	MemoryContext old;

	if (known != NULL && known->filter != NULL && known->relid == relid &&
		VARSIZE(known->filter) == VARSIZE(filter) && memcmp(known->filter, filter, VARSIZE(filter)) == 0)
		return known->node;
	if (known == NULL)
	{
		known = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(KnownFilter));
		known->context =
			AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "vecsync filter", ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = known;
	}
	known->filter = NULL;
	MemoryContextReset(known->context);
	old = MemoryContextSwitchTo(known->context);
	copy = (Jsonb *) PG_DETOAST_DATUM_COPY(JsonbPGetDatum(filter));
	known->node = filter_parse(copy);
	known->relid = relid;
	MemoryContextSwitchTo(old);
	if (OidIsValid(relid) && known->node != NULL)
		filter_check(known->node, relid);
	known->filter = copy;
	return known->node;
}

static bool
match(FunctionCallInfo fcinfo, Oid relid)
{
	Jsonb	   *row = PG_GETARG_JSONB_P(0);
	FilterNode *node = PG_ARGISNULL(1) ? NULL : known_filter(fcinfo, PG_GETARG_JSONB_P(1), relid);

	if (!JB_ROOT_IS_OBJECT(row))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a row must be a JSON object"),
				errhint("to_jsonb() makes one of a table's row."));
	return node == NULL || match_node(row, node, relid);
}

/* vecsync.match(row jsonb, filter jsonb) -> boolean; no filter is no condition */
Datum
filter_match(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(match(fcinfo, InvalidOid));
}

/* vecsync.match(row jsonb, filter jsonb, source regclass) -> boolean */
Datum
filter_match_table(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	(void) filter_table(PG_GETARG_OID(2));
	PG_RETURN_BOOL(match(fcinfo, PG_GETARG_OID(2)));
}

/* vecsync.filter_sql(source regclass, filter jsonb) -> text: the condition that search runs */
Datum
filter_condition(PG_FUNCTION_ARGS)
{
	StringInfoData sql;
	Oid			relid = PG_GETARG_OID(0);

	initStringInfo(&sql);
	if (!filter_compile(&sql, PG_GETARG_JSONB_P(1), relid, quote_identifier(filter_table(relid))))
		appendStringInfoString(&sql, "true");
	PG_RETURN_TEXT_P(cstring_to_text(sql.data));
}

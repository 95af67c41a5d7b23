/*
 * filter_value.c
 *		Keys and values of filters, as the columns' types see them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"

#include "search/filter.h"

/* ---- keys ------------------------------------------------------------------------ */

static FilterClass
class_of(Oid type)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			return FILTER_NUMBER;
		case BOOLOID:
			return FILTER_BOOL;
		case JSONBOID:
		case JSONOID:
			return FILTER_JSON;
		default:
			return OidIsValid(get_element_type(type)) && get_typlen(type) == -1 ? FILTER_ARRAY
																				: FILTER_STRING;
	}
}

/* varchar has no operators of its own */
static Oid
compared_type(Oid type)
{
	Oid			base = getBaseType(type);

	return base == VARCHAROID ? TEXTOID : base;
}

static FilterTarget *
make_target(Oid relid, const char *key, const char *column)
{
	AttrNumber	attnum = get_attnum(relid, column);
	FilterTarget *target;
	Oid			type;
	int32		typmod;

	if (attnum <= 0)
		return NULL;
	target = palloc0(sizeof(FilterTarget));
	target->key = pstrdup(key);
	target->column = pstrdup(column);
	target->attnum = attnum;
	get_atttypetypmodcoll(relid, attnum, &type, &typmod, &target->collation);
	target->type = compared_type(type);
	target->class = class_of(target->type);
	if (target->class == FILTER_ARRAY)
	{
		target->element = getBaseType(get_element_type(target->type));
		target->element_class = class_of(target->element);
	}
	return target;
}

/* "b.c" of "a.b.c" into the elements of a path. */
static void
split_path(FilterTarget *target, const char *rest)
{
	int			n = 1;

	for (const char *p = rest; *p; p++)
		n += *p == '.';
	target->path = palloc(sizeof(char *) * n);
	while (true)
	{
		const char *dot = strchr(rest, '.');

		target->path[target->npath++] = dot ? pnstrdup(rest, dot - rest) : pstrdup(rest);
		if (dot == NULL)
			break;
		rest = dot + 1;
	}
}

char *
filter_table(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	return name;
}

FilterTarget *
filter_resolve(Oid relid, const char *key)
{
	FilterTarget *target = make_target(relid, key, key);
	FilterTarget *other = NULL;

	if (target != NULL)
		return target;
	for (const char *dot = strchr(key, '.'); dot != NULL; dot = strchr(dot + 1, '.'))
	{
		target = make_target(relid, key, pnstrdup(key, dot - key));
		if (target != NULL && target->class == FILTER_JSON)
		{
			split_path(target, dot + 1);
			return target;
		}
		other = target ? target : other;
	}
	if (other != NULL)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("filter key \"%s\" leads into column \"%s\" of type %s", key, other->column,
					   format_type_be(other->type)),
				errhint("Only columns of type jsonb and json have fields."));
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("column \"%s\" of table \"%s\" does not exist", key, filter_table(relid)),
			errdetail("A filter names it."),
			errhint("Every column of the table can be used, and \"column.field\" for those of type jsonb."));
	return NULL;				/* not reached */
}

/* ---- values ------------------------------------------------------------------------- */

/* With "no modifier" said: else the names of bpchar and bit would be those of one character, one bit. */
char *
filter_type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

void
filter_misfit(const FilterTarget *target, FilterOp op, Jsonb *value, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("%s %s does not fit column \"%s\" of type %s", filter_op_name(op),
				   JsonbToCString(NULL, &value->root, VARSIZE(value)), target->key,
				   format_type_be(target->type)),
			errhint("%s", hint));
}

/* Error context: what the type's own input function complains about gets a place and a hint. */
static void
value_error(void *arg)
{
	const FilterTarget *target = arg;

	errcontext("filter on column \"%s\"", target->key);
	errhint("The value must fit the column's type, %s.", format_type_be(target->type));
}

Datum
filter_datum(const FilterTarget *target, Oid type, const char *text)
{
	ErrorContextCallback callback = {error_context_stack, value_error, unconstify(FilterTarget *, target)};
	Oid			input;
	Oid			ioparam;
	Datum		result;

	error_context_stack = &callback;
	getTypeInputInfo(type, &input, &ioparam);
	result = OidInputFunctionCall(input, unconstify(char *, text), ioparam, -1);
	error_context_stack = callback.previous;
	return result;
}

static char *
number_text(const FilterTarget *target, Oid type, JsonbValue *value)
{
	Datum		number = NumericGetDatum(value->val.numeric);

	if (type == INT2OID || type == INT4OID || type == INT8OID)
	{
		Datum		whole = DirectFunctionCall2(numeric_trunc, number, Int32GetDatum(0));

		if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number, whole)))
			filter_misfit(target, FILTER_EQ, JsonbValueToJsonb(value), "Write a whole number.");
		number = whole;
	}
	return DatumGetCString(DirectFunctionCall1(numeric_out, number));
}

char *
filter_text(const FilterTarget *target, Oid type, FilterClass class, JsonbValue *value)
{
	char	   *text = NULL;
	char		buffer[MAXDATELEN + 1];
	Datum		datum;

	switch (class)
	{
		case FILTER_NUMBER:
			if (value->type != jbvNumeric)
				filter_misfit(target, FILTER_EQ, JsonbValueToJsonb(value), "Write a JSON number.");
			text = number_text(target, type, value);
			break;
		case FILTER_BOOL:
			if (value->type != jbvBool)
				filter_misfit(target, FILTER_EQ, JsonbValueToJsonb(value), "Write true or false.");
			text = value->val.boolean ? "true" : "false";
			break;
		case FILTER_STRING:
			if (value->type != jbvString)
				filter_misfit(target, FILTER_EQ, JsonbValueToJsonb(value), "Write a JSON string.");
			text = pnstrdup(value->val.string.val, value->val.string.len);
			break;
		default:
			elog(ERROR, "a filter compares no scalar with type %u", type);
	}
	datum = filter_datum(target, type, text);
	switch (type)
	{
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return pstrdup(JsonEncodeDateTime(buffer, datum, type, NULL));
		default:
			return text;
	}
}

/*
 * filter_parse.c
 *		From a JSON filter to a tree of conditions.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "search/filter.h"

static const struct
{
	const char *name;
	FilterOp	op;
} operators[] = {
	{"$and", FILTER_AND}, {"$or", FILTER_OR}, {"$not", FILTER_NOT}, {"$eq", FILTER_EQ},
	{"$ne", FILTER_NE}, {"$in", FILTER_IN}, {"$nin", FILTER_NIN}, {"$gt", FILTER_GT},
	{"$gte", FILTER_GTE}, {"$lt", FILTER_LT}, {"$lte", FILTER_LTE}, {"$exists", FILTER_EXISTS},
	{"$contains", FILTER_CONTAINS},
};

static FilterNode *parse_filter(Jsonb *filter);

const char *
filter_op_name(FilterOp op)
{
	for (int i = 0; i < lengthof(operators); i++)
		if (operators[i].op == op)
			return operators[i].name;
	return "?";
}

static bool
find_operator(const char *name, FilterOp *op)
{
	for (int i = 0; i < lengthof(operators); i++)
		if (strcmp(operators[i].name, name) == 0)
		{
			*op = operators[i].op;
			return true;
		}
	return false;
}

static void
unknown_operator(const char *name, const char *key)
{
	if (key == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown operator \"%s\" in a filter", name),
				errhint("Outside of a column's condition there are $and, $or and $not."));
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("unknown operator \"%s\" for \"%s\" in a filter", name, key),
			errhint("Operators are $eq, $ne, $in, $nin, $gt, $gte, $lt, $lte, $exists, $contains and $not; "
					"{\"$eq\": ...} compares with an object, and \"a.b\" names a field of a JSON column."));
}

bool
filter_scalar(Jsonb *value, JsonbValue *scalar)
{
	if (!JB_ROOT_IS_SCALAR(value))
		return false;
	return JsonbExtractScalar(&value->root, scalar);
}

FilterList
filter_elements(Jsonb *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	FilterList	list = {0};

	if (!JB_ROOT_IS_ARRAY(value))
		return list;
	it = JsonbIteratorInit(&value->root);
	list.values = palloc_extended(sizeof(JsonbValue) * Max(JB_ROOT_COUNT(value), 1), MCXT_ALLOC_HUGE);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			list.values[list.count++] = v;
	return list;
}

static FilterNode *
make_node(FilterOp op, List *children)
{
	FilterNode *node = palloc0(sizeof(FilterNode));

	node->op = op;
	node->children = children;
	return node;
}

/* The right side must have the operator's shape; whether it fits the column is seen later. */
static void
check_shape(FilterOp op, const char *key, Jsonb *value, FilterList list)
{
	JsonbValue	scalar;
	bool		is_scalar = filter_scalar(value, &scalar);
	const char *needed = NULL;

	if ((op == FILTER_IN || op == FILTER_NIN) && (is_scalar || !JB_ROOT_IS_ARRAY(value)))
		needed = "an array";
	else if (op == FILTER_EXISTS && (!is_scalar || scalar.type != jbvBool))
		needed = "true or false";
	else if (op >= FILTER_GT && op <= FILTER_LTE &&
			 (!is_scalar || (scalar.type != jbvNumeric && scalar.type != jbvString)))
		needed = "a number or a string";
	else if (op == FILTER_IN || op == FILTER_NIN)
		for (int i = 0; i < list.count; i++)
			if (list.values[i].type == jbvBinary)
				needed = "an array of scalars";
	if (needed != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operator %s for \"%s\" in a filter needs %s", filter_op_name(op), key, needed),
				errdetail("It is %s.", JsonbToCString(NULL, &value->root, VARSIZE(value))));
}

static FilterNode *
make_condition(FilterOp op, const char *key, Jsonb *value)
{
	FilterNode *node = make_node(op, NIL);

	node->key = pstrdup(key);
	node->value = value;
	node->list = filter_elements(value);
	check_shape(op, key, value, node->list);
	return node;
}

/* {"$gt": 1, "$lt": 5}: all of them. */
static FilterNode *
parse_operators(const char *key, Jsonb *object)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;
	List	   *list = NIL;

	check_stack_depth();
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
		{
			FilterOp	op;
			Jsonb	   *value = JsonbValueToJsonb(&v);

			if (!find_operator(name, &op) || op == FILTER_AND || op == FILTER_OR)
				unknown_operator(name, key);
			if (op != FILTER_NOT)
				list = lappend(list, make_condition(op, key, value));
			else if (!JB_ROOT_IS_OBJECT(value))
				ereport(ERROR,
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("operator $not for \"%s\" in a filter needs an object of operators", key));
			else
				list = lappend(list, make_node(FILTER_NOT, list_make1(parse_operators(key, value))));
		}
	}
	if (list == NIL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the condition for \"%s\" in a filter is an empty object", key),
				errhint("{\"$eq\": {}} compares with an empty object."));
	return list_length(list) == 1 ? linitial(list) : make_node(FILTER_AND, list);
}

static FilterNode *
parse_member(const char *key, Jsonb *value)
{
	FilterOp	op;
	List	   *children = NIL;
	FilterList	list;

	if (key[0] != '$')
	{
		if (JB_ROOT_IS_OBJECT(value))
			return parse_operators(key, value);
		return make_condition(FILTER_EQ, key, value);
	}
	if (!find_operator(key, &op) || op > FILTER_NOT)
		unknown_operator(key, NULL);
	if (op == FILTER_NOT)
		return make_node(op, list_make1(parse_filter(value)));
	if (!JB_ROOT_IS_ARRAY(value) || JB_ROOT_IS_SCALAR(value))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operator %s in a filter needs an array of filters", key));
	list = filter_elements(value);
	for (int i = 0; i < list.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		children = lappend(children, parse_filter(JsonbValueToJsonb(&list.values[i])));
	}
	return make_node(op, children);
}

/* Never NULL: {} is an empty $and. */
static FilterNode *
parse_filter(Jsonb *filter)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *key = NULL;
	List	   *list = NIL;

	check_stack_depth();
	if (!JB_ROOT_IS_OBJECT(filter))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a filter must be a JSON object"),
				errdetail("It is %s.", JsonbToCString(NULL, &filter->root, VARSIZE(filter))),
				errhint("An example: {\"year\": {\"$gte\": 1990}, \"genre\": \"Grunge\"}."));
	it = JsonbIteratorInit(&filter->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
			list = lappend(list, parse_member(key, JsonbValueToJsonb(&v)));
	}
	return list_length(list) == 1 ? linitial(list) : make_node(FILTER_AND, list);
}

FilterNode *
filter_parse(Jsonb *filter)
{
	FilterNode *node;

	if (filter == NULL)
		return NULL;
	node = parse_filter(filter);
	return node->op == FILTER_AND && node->children == NIL ? NULL : node;
}

/*
 * filter.h
 *		Filters: JSON conditions on a table's columns.
 *
 * One parser, two independent consumers: a compiler to SQL conditions, and an
 * evaluator over rows given as JSON (vecsync.match).  Conditions are two-valued: a
 * filter and its $not split the rows.
 */
#ifndef SEARCH_FILTER_H
#define SEARCH_FILTER_H

#include "postgres.h"

#include "access/attnum.h"
#include "base/compat.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum FilterOp
{
	FILTER_AND,
	FILTER_OR,
	FILTER_NOT,
	FILTER_EQ,
	FILTER_NE,
	FILTER_IN,
	FILTER_NIN,
	FILTER_GT,
	FILTER_GTE,
	FILTER_LT,
	FILTER_LTE,
	FILTER_EXISTS,
	FILTER_CONTAINS,
} FilterOp;

/* The elements of a JSON array, or a scalar as the only one; they point into it.  No scalar: jbvBinary. */
typedef struct FilterList
{
	int			count;
	JsonbValue *values;
} FilterList;

typedef struct FilterNode
{
	FilterOp	op;
	List	   *children;		/* of $and, $or and $not */
	char	   *key;			/* of the others: a column, or a path into one, as written */
	Jsonb	   *value;			/* of the others: the right type for the operator's shape ($in: an array) */
	FilterList	list;			/* its elements; none of an object */
} FilterNode;

/* How a column is compared. */
typedef enum FilterClass
{
	FILTER_NUMBER,
	FILTER_BOOL,
	FILTER_STRING,				/* everything else that has a default ordering, by its text */
	FILTER_JSON,
	FILTER_ARRAY,
} FilterClass;

/* A key of a filter, looked up in a table. */
typedef struct FilterTarget
{
	char	   *key;			/* as written */
	char	   *column;			/* not quoted */
	AttrNumber	attnum;
	Oid			type;			/* below domains */
	Oid			element;		/* of an array, below domains */
	Oid			collation;
	FilterClass class;
	FilterClass element_class;
	int			npath;			/* into a JSON column */
	char	  **path;
} FilterTarget;

/* ---- filter_parse.c ---- */

/* NULL for no condition.  Anything that is not a filter is an error. */
extern FilterNode *filter_parse(Jsonb *filter);
extern const char *filter_op_name(FilterOp op);

/* True and *scalar filled when the value is no array and no object. */
extern bool filter_scalar(Jsonb *value, JsonbValue *scalar);

extern FilterList filter_elements(Jsonb *value);

/* ---- filter_value.c ---- */

/* The name of a table; an error when there is no such table: a regclass can be any number. */
extern char *filter_table(Oid relid);

/* An unknown column is an error. */
extern FilterTarget *filter_resolve(Oid relid, const char *key);

/*
 * The text of a scalar in the form that the type's input takes, independent of
 * session settings; an error with a hint when it does not fit.  'type' and
 * 'class' are the column's or its element's.
 */
extern char *filter_text(const FilterTarget *target, Oid type, FilterClass class, JsonbValue *value);
extern Datum filter_datum(const FilterTarget *target, Oid type, const char *text);
pg_noreturn extern void filter_misfit(const FilterTarget *target, FilterOp op, Jsonb *value,
						  const char *hint);
extern char *filter_type_name(Oid type);

/* ---- filter_compile.c ---- */

/* Append a condition over "alias.column", or nothing (and return false) for no condition. */
extern bool filter_compile(StringInfo sql, Jsonb *filter, Oid relid, const char *alias);

/* An error unless the tree can be compiled. */
extern void filter_check(FilterNode *node, Oid relid);

#endif							/* SEARCH_FILTER_H */

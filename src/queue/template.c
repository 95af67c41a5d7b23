/*
 * template.c
 *		From a vectorizer's "content" to a SQL expression over its table.
 *
 * Three forms: the name of a column; a template with {column} in it, where {{
 * and }} stand for braces; and "=" followed by a SQL expression over the
 * table's columns.  The expression becomes a column of a view, so values are
 * never looked at for braces, renames are followed, and the columns used
 * cannot be dropped under it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(template_compile);

typedef struct TemplateColumns
{
	Relation	rel;
	List	   *attnums;		/* used, each once */
} TemplateColumns;

static void
template_use(TemplateColumns *columns, AttrNumber attnum)
{
	columns->attnums = list_append_unique_int(columns->attnums, attnum);
}

/* The column's number, or 0. */
static AttrNumber
template_find_column(Relation rel, const char *name)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);

	return attnum > 0 ? attnum : InvalidAttrNumber;
}

static void
template_unknown_column(Relation rel, const char *name)
{
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("column \"%s\" of table \"%s\" does not exist", name, RelationGetRelationName(rel)),
			errdetail("The content of a vectorizer names it."),
			errhint("Write {column} for a value, {{ and }} for braces, or \"=\" and a SQL expression."));
}

static void
template_literal(StringInfo expression, StringInfo literal)
{
	if (literal->len == 0)
		return;
	appendStringInfo(expression, ", %s", quote_literal_cstr(literal->data));
	resetStringInfo(literal);
}

static char *
template_column(Relation rel, const char *name)
{
	return quote_qualified_identifier(RelationGetRelationName(rel), name);
}

/* concat('literal', column, ...): NULL gives nothing, every type its text. */
static char *
template_braces(TemplateColumns *columns, const char *content)
{
	StringInfoData expression,
				literal,
				name;
	const char *p = content;

	initStringInfo(&expression);
	initStringInfo(&literal);
	initStringInfo(&name);
	while (*p != '\0')
	{
		AttrNumber	attnum;
		const char *end;

		if ((p[0] == '{' && p[1] == '{') || (p[0] == '}' && p[1] == '}'))
		{
			appendStringInfoChar(&literal, *p);
			p += 2;
			continue;
		}
		if (*p == '}')
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unmatched \"}\" in content at character %d", (int) (p - content) + 1),
					errhint("Write }} for a brace."));
		if (*p != '{')
		{
			appendStringInfoChar(&literal, *p++);
			continue;
		}
		end = strchr(p, '}');
		if (end == NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unmatched \"{\" in content at character %d", (int) (p - content) + 1),
					errhint("Write {{ for a brace."));
		resetStringInfo(&name);
		appendBinaryStringInfo(&name, p + 1, end - p - 1);
		attnum = template_find_column(columns->rel, name.data);
		if (attnum == InvalidAttrNumber)
			template_unknown_column(columns->rel, name.data);
		template_use(columns, attnum);
		template_literal(&expression, &literal);
		appendStringInfo(&expression, ", %s", template_column(columns->rel, name.data));
		p = end + 1;
	}
	template_literal(&expression, &literal);
	if (columns->attnums == NIL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("content uses no column of table \"%s\"", RelationGetRelationName(columns->rel)),
				errhint("Write {column} for a value."));
	return psprintf("pg_catalog.concat(%s)", expression.data + 2);
}

static void
template_use_all(TemplateColumns *columns)
{
	for (AttrNumber a = 1; a <= RelationGetNumberOfAttributes(columns->rel); a++)
		if (!TupleDescAttr(RelationGetDescr(columns->rel), a - 1)->attisdropped)
			template_use(columns, a);
}

/*
 * Which columns may an expression use?  Names are compared, nothing is
 * resolved: one too many costs a look at a row that did not change.
 */
static bool
template_walk_expression(Node *node, void *context)
{
	TemplateColumns *columns = context;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, ColumnRef))
		return raw_expression_tree_walker(node, template_walk_expression, context);

	/* a, t.a or a.field; t and t.* are the whole row */
	foreach(lc, ((ColumnRef *) node)->fields)
	{
		AttrNumber	attnum;

		if (IsA(lfirst(lc), A_Star))
		{
			template_use_all(columns);
			continue;
		}
		attnum = template_find_column(columns->rel, strVal(lfirst(lc)));
		if (attnum != InvalidAttrNumber)
			template_use(columns, attnum);
		else if (list_length(((ColumnRef *) node)->fields) == 1 &&
				 strcmp(strVal(lfirst(lc)), RelationGetRelationName(columns->rel)) == 0)
			template_use_all(columns);
	}
	return false;
}

/* One expression, checked to be no more than that. */
static char *
template_sql(TemplateColumns *columns, const char *content)
{
	List	   *parsed = raw_parser(psprintf("SELECT (\n%s\n)", content), RAW_PARSE_DEFAULT);
	SelectStmt *select = linitial_node(RawStmt, parsed)->stmt == NULL ? NULL :
		castNode(SelectStmt, linitial_node(RawStmt, parsed)->stmt);

	if (list_length(parsed) != 1 || select->op != SETOP_NONE || list_length(select->targetList) != 1 ||
		select->fromClause != NIL || select->whereClause != NULL || select->sortClause != NIL ||
		select->limitCount != NULL || select->limitOffset != NULL)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("content is not one SQL expression"),
				errhint("Write \"=\" and an expression over the columns of table \"%s\".",
						RelationGetRelationName(columns->rel)));
	(void) template_walk_expression((Node *) select->targetList, columns);
	if (columns->attnums == NIL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("content uses no column of table \"%s\"", RelationGetRelationName(columns->rel)));

	return psprintf("(\n%s\n)::pg_catalog.text", content);
}

/*
 * vecsync._compile_content(source regclass, content text) -> (expression text, columns name[])
 */
Datum
template_compile(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	char	   *content = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TemplateColumns columns = {0};
	AttrNumber	attnum;
	char	   *expression;
	TupleDesc	desc;
	Datum	   *names;
	ListCell   *lc;
	int			n = 0;
	Datum		values[2];
	bool		nulls[2] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	columns.rel = relation_open(relid, AccessShareLock);
	attnum = template_find_column(columns.rel, content);
	if (content[0] == '=')
		expression = template_sql(&columns, content + 1);
	else if (attnum != InvalidAttrNumber)
	{
		template_use(&columns, attnum);
		expression = psprintf("%s::pg_catalog.text", template_column(columns.rel, content));
	}
	else if (strpbrk(content, "{}") != NULL)
		expression = template_braces(&columns, content);
	else
	{
		template_unknown_column(columns.rel, content);
		expression = NULL;		/* not reached */
	}

	names = palloc(sizeof(Datum) * list_length(columns.attnums));
	foreach(lc, columns.attnums)
		names[n++] = DirectFunctionCall1(namein, CStringGetDatum(get_attname(relid, lfirst_int(lc), false)));
	relation_close(columns.rel, AccessShareLock);

	values[0] = CStringGetTextDatum(expression);
	values[1] = PointerGetDatum(construct_array(names, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

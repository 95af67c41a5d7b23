/*
 * vector_report.c
 *		Errors about bad values, one wording for all types, and type modifiers.
 */
#include "postgres.h"

#include "base/compat.h"
#include "utils/array.h"
#include "vector/dense.h"
#include "vector/sparsevec.h"

/* Faults whose message needs nothing but the name of the type, between two pieces of text. */
static const struct
{
	VectorFault fault;
	int			sqlstate;
	const char *before;
	const char *after;
}			plain_faults[] = {
	{VECTOR_NAN, ERRCODE_DATA_EXCEPTION, "NaN not allowed in ", ""},
	{VECTOR_INFINITE, ERRCODE_DATA_EXCEPTION, "infinite value not allowed in ", ""},
	{VECTOR_EMPTY, ERRCODE_DATA_EXCEPTION, "", " must have at least 1 dimension"},
	{VECTOR_NEGATIVE_ELEMENTS, ERRCODE_DATA_EXCEPTION, "", " cannot have negative number of elements"},
	{VECTOR_MORE_THAN_DIMENSIONS, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "",
	" cannot have more elements than dimensions"},
	{VECTOR_BAD_INDEX, ERRCODE_DATA_EXCEPTION, "", " index out of bounds"},
	{VECTOR_DUPLICATE_INDEX, ERRCODE_DATA_EXCEPTION, "", " indices must not contain duplicates"},
	{VECTOR_DESCENDING_INDEX, ERRCODE_DATA_EXCEPTION, "", " indices must be in ascending order"},
	{VECTOR_ZERO_ELEMENT, ERRCODE_DATA_EXCEPTION, "binary representation of ", " cannot contain zero values"},
};

/* What to say in addition about a literal with bad syntax; NULL when nothing. */
static const char *
syntax_detail(VectorFault fault, bool sparse)
{
	switch (fault)
	{
		case VECTOR_NO_OPENING:
			return sparse ? "Vector contents must start with \"{\"." :
				"Vector contents must start with \"[\".";
		case VECTOR_JUNK:
			return sparse ? "Junk after closing." : "Junk after closing right brace.";
		case VECTOR_NO_DIMENSIONS:
			return "Unexpected end of input.";
		default:
			return NULL;
	}
}

/*
 * Raise the error for what a reader found, or hand it to escontext; returns
 * only in the latter case.  "text" is the whole literal, NULL for the binary form.
 */
void
vector_report(const VectorFinding *finding, const char *type_name, const char *text,
			  const VectorLimits *limits, Node *escontext)
{
	bool		sparse = limits->max_elements > 0;
	const char *detail = syntax_detail(finding->fault, sparse);

	switch (finding->fault)
	{
		case VECTOR_OK:
			return;
		case VECTOR_NO_OPENING:
		case VECTOR_BAD_SYNTAX:
		case VECTOR_JUNK:
		case VECTOR_NO_DIMENSIONS:
			compat_errsave(escontext,
						   (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
							errmsg("invalid input syntax for type %s: \"%s\"", type_name, text),
							detail ? errdetail_internal("%s", detail) : 0));
			return;
		case VECTOR_OUT_OF_RANGE:
			compat_errsave(escontext,
						   (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							errmsg("\"%.*s\" is out of range for type %s", (int) finding->token_length,
								   finding->token, type_name)));
			return;
		case VECTOR_TOO_LONG:
			compat_errsave(escontext,
						   (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("%s cannot have more than %d dimensions", type_name, limits->max_dim)));
			return;
		case VECTOR_TOO_MANY_ELEMENTS:
			compat_errsave(escontext,
						   (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("%s cannot have more than %d non-zero elements", type_name,
								   limits->max_elements)));
			return;
		case VECTOR_UNUSED_SET:
			compat_errsave(escontext,
						   (errcode(ERRCODE_DATA_EXCEPTION),
							errmsg("expected unused to be 0, not %d", finding->number)));
			return;
		case VECTOR_WRONG_TYPMOD:
			compat_errsave(escontext,
						   (errcode(ERRCODE_DATA_EXCEPTION),
							errmsg("expected %d dimensions, not %d", (int) limits->typmod, finding->number)));
			return;
		case VECTOR_CUT_SHORT:
			compat_errsave(escontext,
						   (errcode(ERRCODE_PROTOCOL_VIOLATION),
							errmsg("insufficient data left in message")));
			return;
		default:
			break;
	}

	for (int i = 0; i < (int) lengthof(plain_faults); i++)
	{
		if (plain_faults[i].fault == finding->fault)
		{
			compat_errsave(escontext,
						   (errcode(plain_faults[i].sqlstate),
							errmsg_internal("%s%s%s", plain_faults[i].before, type_name,
											plain_faults[i].after)));
			return;
		}
	}
	elog(ERROR, "unexpected fault %d of a value", (int) finding->fault);
}

/* Does a value of "dim" dimensions fit the type modifier?  Negative means any. */
void
vector_check_typmod(int32 typmod, int dim)
{
	if (typmod != -1 && typmod != dim)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("expected %d dimensions, not %d", typmod, dim)));
}

/* The body of the types' typmod_in functions: the modifier is the number of dimensions. */
int32
vector_typmod(ArrayType *modifiers, const char *type_name, int max_dim)
{
	int			n;
	int32	   *values = ArrayGetIntegerTypmods(modifiers, &n);

	if (n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid type modifier"),
				 errhint("Give the number of dimensions, as in %s(3).", type_name)));
	if (*values < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dimensions for type %s must be at least 1", type_name)));
	if (*values > max_dim)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dimensions for type %s cannot exceed %d", type_name, max_dim)));
	return *values;
}

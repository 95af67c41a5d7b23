/*
 * subscript.c
 *		Subscripts of "vector" and "halfvec": v[1] is an element, v[2:3] a vector.
 *
 * As with arrays, what lies outside is NULL and not an error.  Elements can
 * be read, not assigned.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/execExpr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/subscripting.h"
#include "parser/parse_coerce.h"
#include "parser/parse_expr.h"
#include "utils/builtins.h"
#include "vector/dense.h"

/* What one expression needs at run time. */
typedef struct SubscriptState
{
	const DenseType *type;
	int64		lower;
	int64		upper;
} SubscriptState;

/* A bound as an expression of type int4; NULL for one left out. */
static Node *
transform_bound(ParseState *pstate, Node *bound)
{
	Node	   *expression;
	Node	   *coerced;

	if (bound == NULL)
		return NULL;
	expression = transformExpr(pstate, bound, pstate->p_expr_kind);
	coerced = coerce_to_target_type(pstate, expression, exprType(expression), INT4OID, -1,
									COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
	if (coerced == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("subscript must have type integer"),
				 parser_errposition(pstate, exprLocation(bound))));
	return coerced;
}

static void
transform(SubscriptingRef *ref, List *indirection, ParseState *pstate, bool is_slice, bool is_assignment)
{
	A_Indices  *indices = linitial_node(A_Indices, indirection);

	if (is_assignment)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("elements of type %s cannot be assigned", format_type_be(ref->refcontainertype)),
				 errhint("Assign a whole value; one can be made from an array of numbers."),
				 parser_errposition(pstate, exprLocation((Node *) indirection))));
	if (list_length(indirection) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("type %s has one subscript only", format_type_be(ref->refcontainertype)),
				 parser_errposition(pstate, exprLocation((Node *) indirection))));

	ref->refupperindexpr = list_make1(transform_bound(pstate, indices->uidx));
	ref->reflowerindexpr = is_slice ? list_make1(transform_bound(pstate, indices->lidx)) : NIL;
	ref->refrestype = is_slice ? ref->refcontainertype : FLOAT4OID;
	ref->reftypmod = -1;
}

/* Note the bounds; without one of them, as NULL, there is no result. */
static bool
check_subscripts(ExprState *expression, ExprEvalStep *op, ExprContext *context)
{
	SubscriptingRefState *ref = op->d.sbsref_subscript.state;
	SubscriptState *state = (SubscriptState *) ref->workspace;

	if ((ref->upperprovided[0] && ref->upperindexnull[0]) ||
		(ref->numlower > 0 && ref->lowerprovided[0] && ref->lowerindexnull[0]))
	{
		*op->resnull = true;
		return false;
	}
	state->upper = ref->upperprovided[0] ? DatumGetInt32(ref->upperindex[0]) : PG_INT32_MAX;
	state->lower = ref->numlower == 0 ? state->upper :
		ref->lowerprovided[0] ? DatumGetInt32(ref->lowerindex[0]) : 1;
	return true;
}

/* Only the element's part of a value stored out of line is read. */
static void
fetch_element(ExprState *expression, ExprEvalStep *op, ExprContext *context)
{
	SubscriptState *state = (SubscriptState *) op->d.sbsref.state->workspace;
	const DenseType *type = state->type;
	struct varlena *element;
	float		value;

	if (state->upper >= 1 && state->upper <= type->max_dim)
	{
		element = PG_DETOAST_DATUM_SLICE(*op->resvalue,
										 offsetof(DenseVector, elements) - VARHDRSZ +
										 (state->upper - 1) * type->element_size, type->element_size);
		if (VARSIZE_ANY_EXHDR(element) == type->element_size)
		{
			if (type->widen != NULL)
				type->widen(VARDATA_ANY(element), &value, 1);
			else
				memcpy(&value, VARDATA_ANY(element), sizeof(value));
			*op->resvalue = Float4GetDatum(value);
			return;
		}
	}
	*op->resnull = true;
}

static void
fetch_slice(ExprState *expression, ExprEvalStep *op, ExprContext *context)
{
	SubscriptState *state = (SubscriptState *) op->d.sbsref.state->workspace;
	DenseVector *v = (DenseVector *) PG_DETOAST_DATUM(*op->resvalue);

	if (Max(state->lower, 1) > Min(state->upper, v->dim))
		*op->resnull = true;
	else
		*op->resvalue = PointerGetDatum(vector_dense_slice(state->type, v, state->lower, state->upper));
}

static void
setup(const DenseType *type, SubscriptingRefState *ref, SubscriptExecSteps *methods)
{
	SubscriptState *state = (SubscriptState *) palloc(sizeof(SubscriptState));

	state->type = type;
	ref->workspace = state;
	methods->sbs_check_subscripts = check_subscripts;
	methods->sbs_fetch = ref->numlower > 0 ? fetch_slice : fetch_element;
	methods->sbs_assign = NULL;
	methods->sbs_fetch_old = NULL;
}

static void
setup_vector(const SubscriptingRef *ref, SubscriptingRefState *state, SubscriptExecSteps *methods)
{
	setup(&vector_dense_vector, state, methods);
}

static void
setup_halfvec(const SubscriptingRef *ref, SubscriptingRefState *state, SubscriptExecSteps *methods)
{
	setup(&vector_dense_halfvec, state, methods);
}

PG_FUNCTION_INFO_V1(vector_subscript);
Datum
vector_subscript(PG_FUNCTION_ARGS)
{
	static const SubscriptRoutines routines = {
		.transform = transform,
		.exec_setup = setup_vector,
		.fetch_strict = true,
		.fetch_leakproof = true,
		.store_leakproof = false
	};

	PG_RETURN_POINTER(&routines);
}

PG_FUNCTION_INFO_V1(halfvec_subscript);
Datum
halfvec_subscript(PG_FUNCTION_ARGS)
{
	static const SubscriptRoutines routines = {
		.transform = transform,
		.exec_setup = setup_halfvec,
		.fetch_strict = true,
		.fetch_leakproof = true,
		.store_leakproof = false
	};

	PG_RETURN_POINTER(&routines);
}

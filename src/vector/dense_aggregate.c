/*
 * dense_aggregate.c
 *		avg(vector), avg(halfvec) and sum(vector).
 *
 * The state is an array of float8: the number of rows, then the sum of each
 * dimension; {0} before the first row.  Sums in double precision neither
 * overflow nor lose digits that the result could show.  Within an aggregate
 * the state belongs to it and is changed in place.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "kernel/distance.h"
#include "utils/array.h"
#include "utils/float.h"
#include "vector/dense.h"

typedef struct SumState
{
	ArrayType  *array;
	int			dim;			/* 0 while no row has been seen */
	float8	   *values;			/* the count, and dim sums */
} SumState;

static SumState
get_state(FunctionCallInfo fcinfo, int argument, const char *function)
{
	SumState	state;
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(argument);

	if (ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] < 1 || ARR_HASNULL(array) ||
		ARR_ELEMTYPE(array) != FLOAT8OID)
		elog(ERROR, "%s: expected state array", function);
	state.array = array;
	state.dim = ARR_DIMS(array)[0] - 1;
	state.values = (float8 *) ARR_DATA_PTR(array);
	return state;
}

static SumState
new_state(int dim)
{
	Size		size = ARR_OVERHEAD_NONULLS(1) + sizeof(float8) * (dim + 1);
	ArrayType  *array = (ArrayType *) palloc0(size);
	SumState	state;

	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = FLOAT8OID;
	ARR_DIMS(array)[0] = dim + 1;
	ARR_LBOUND(array)[0] = 1;
	state.array = array;
	state.dim = dim;
	state.values = (float8 *) ARR_DATA_PTR(array);
	return state;
}

/* The state to write to: the given one inside an aggregate, a copy elsewhere. */
static SumState
writable_state(FunctionCallInfo fcinfo, SumState state)
{
	SumState	copy;

	if (AggCheckCallContext(fcinfo, NULL))
		return state;
	copy = new_state(state.dim);
	memcpy(copy.values, state.values, sizeof(float8) * (state.dim + 1));
	return copy;
}

/* Add the vector to a state that is writable and of its dimensions. */
static Datum
add_row(const DenseType *type, SumState state, const DenseVector *v)
{
	const float *x = vector_dense_floats(type, v);

	state.values[0] += 1;
	kernel_distance.accumulate(x, state.values + 1, v->dim);
	if ((const void *) x != (const void *) v->elements)
		pfree(unconstify(float *, x));
	PG_RETURN_ARRAYTYPE_P(state.array);
}

Datum
vector_dense_accum(const DenseType *type, FunctionCallInfo fcinfo)
{
	SumState	state = get_state(fcinfo, 0, type == &vector_dense_vector ? "vector_accum" : "halfvec_accum");
	DenseVector *v = DenseGetArg(1);

	if (state.dim == 0)
		return add_row(type, new_state(v->dim), v);
	vector_check_typmod(state.dim, v->dim);
	return add_row(type, writable_state(fcinfo, state), v);
}

/* The same for sum, where rows of different dimensions are an error of addition. */
PG_FUNCTION_INFO_V1(vector_sum_accum);
Datum
vector_sum_accum(PG_FUNCTION_ARGS)
{
	const DenseType *type = &vector_dense_vector;
	SumState	state = get_state(fcinfo, 0, "vector_sum_accum");
	DenseVector *v = DenseGetArg(1);

	if (state.dim == 0)
		return add_row(type, new_state(v->dim), v);
	if (state.dim != v->dim)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different vector dimensions %d and %d", state.dim, v->dim)));
	return add_row(type, writable_state(fcinfo, state), v);
}

/* Joins the states of parallel workers; serves both types. */
PG_FUNCTION_INFO_V1(vector_combine);
Datum
vector_combine(PG_FUNCTION_ARGS)
{
	SumState	a = get_state(fcinfo, 0, "vector_combine");
	SumState	b = get_state(fcinfo, 1, "vector_combine");
	SumState	sum;

	if (b.dim == 0)
		PG_RETURN_ARRAYTYPE_P(a.array);
	if (a.dim == 0)
	{
		sum = new_state(b.dim);
		memcpy(sum.values, b.values, sizeof(float8) * (b.dim + 1));
		PG_RETURN_ARRAYTYPE_P(sum.array);
	}
	vector_check_typmod(a.dim, b.dim);
	sum = writable_state(fcinfo, a);
	for (int i = 0; i <= sum.dim; i++)
	{
		sum.values[i] += b.values[i];
		if (unlikely(isinf(sum.values[i])))
			float_overflow_error();
	}
	PG_RETURN_ARRAYTYPE_P(sum.array);
}

/* The sums, each divided by the divisor, as a vector. */
static Datum
finish(const DenseType *type, SumState state, float8 divisor)
{
	DenseVector *result = vector_dense_new(type, state.dim);
	float	   *x = (float *) palloc(sizeof(float) * state.dim);

	for (int i = 0; i < state.dim; i++)
		x[i] = (float) (state.values[i + 1] / divisor);
	if (vector_dense_store(type, x, result) >= 0)
		float_overflow_error();
	PG_RETURN_POINTER(result);
}

Datum
vector_dense_avg(const DenseType *type, FunctionCallInfo fcinfo)
{
	SumState	state = get_state(fcinfo, 0, type == &vector_dense_vector ? "vector_avg" : "halfvec_avg");

	if (state.values[0] == 0)
		PG_RETURN_NULL();
	return finish(type, state, state.values[0]);
}

PG_FUNCTION_INFO_V1(vector_sum);
Datum
vector_sum(PG_FUNCTION_ARGS)
{
	SumState	state = get_state(fcinfo, 0, "vector_sum");

	if (state.values[0] == 0)
		PG_RETURN_NULL();
	return finish(&vector_dense_vector, state, 1);
}

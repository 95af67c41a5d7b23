/*
 * dense_math.c
 *		Arithmetic on "vector" and "halfvec".
 */
#include "postgres.h"

#include <math.h>

#include "kernel/distance.h"
#include "utils/float.h"
#include "utils/varbit.h"
#include "vector/dense.h"
#include "vector/detoast.h"

/* Of a value out of line only the start is read. */
Datum
vector_dense_dims(const DenseType *type, FunctionCallInfo fcinfo)
{
	struct varlena *v = (struct varlena *) PG_GETARG_POINTER(0);
	int16		dim;

	if (!vector_is_plain(v))
		v = PG_DETOAST_DATUM_SLICE(PG_GETARG_DATUM(0), 0, offsetof(DenseVector, elements) - VARHDRSZ);
	memcpy(&dim, VARDATA_ANY(v), sizeof(dim));
	PG_RETURN_INT32(dim);
}

/* The Euclidean norm, in double precision. */
double
vector_norm_of_floats(const float *x, int n)
{
	return sqrt(kernel_distance.squares_f32(x, n));
}

Datum
vector_dense_norm(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = (DenseVector *) vector_get_argument(fcinfo, 0);

	PG_RETURN_FLOAT8(vector_norm_of_floats(vector_dense_floats(type, v), v->dim));
}

/* Store results, where infinity means overflow, and return the vector. */
static Datum
dense_result(const DenseType *type, const float *x, DenseVector *result)
{
	if (vector_dense_store(type, x, result) >= 0)
		float_overflow_error();
	PG_RETURN_POINTER(result);
}

/* Room for the results: the vector's own elements where these are floats. */
static float *
dense_results(const DenseType *type, DenseVector *result)
{
	if (type->narrow == NULL)
		return (float *) result->elements;
	return (float *) palloc(sizeof(float) * result->dim);
}

/* The vector of length 1 in the same direction; of zeros, when all elements are. */
Datum
vector_dense_normalize(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);
	const float *x = vector_dense_floats(type, v);
	double		norm = vector_norm_of_floats(x, v->dim);
	DenseVector *result = vector_dense_new(type, v->dim);
	float	   *r = dense_results(type, result);

	for (int i = 0; i < v->dim; i++)
		r[i] = norm > 0 ? (float) (x[i] / norm) : 0;
	return dense_result(type, r, result);
}

typedef enum Operation
{
	ADD, SUBTRACT, MULTIPLY
} Operation;

/* Element by element; inlined, so that each operation gets a loop of its own. */
static inline Datum
dense_combine(const DenseType *type, FunctionCallInfo fcinfo, Operation operation)
{
	DenseVector *a = DenseGetArg(0);
	DenseVector *b = DenseGetArg(1);
	const float *x,
			   *y;
	float	   *r;
	DenseVector *result;

	vector_dense_check_same(type, a, b);
	x = vector_dense_floats(type, a);
	y = vector_dense_floats(type, b);
	result = vector_dense_new(type, a->dim);
	r = dense_results(type, result);
	for (int i = 0; i < a->dim; i++)
		r[i] = operation == ADD ? x[i] + y[i] : operation == SUBTRACT ? x[i] - y[i] : x[i] * y[i];

	if (vector_dense_store(type, r, result) >= 0)
		float_overflow_error();
	if (operation == MULTIPLY)
	{
		/* What the elements have become counts: a half underflows before a float. */
		const float *stored = vector_dense_floats(type, result);

		for (int i = 0; i < a->dim; i++)
			if (stored[i] == 0 && x[i] != 0 && y[i] != 0)
				float_underflow_error();
	}
	PG_RETURN_POINTER(result);
}

Datum
vector_dense_add(const DenseType *type, FunctionCallInfo fcinfo)
{
	return dense_combine(type, fcinfo, ADD);
}

Datum
vector_dense_sub(const DenseType *type, FunctionCallInfo fcinfo)
{
	return dense_combine(type, fcinfo, SUBTRACT);
}

Datum
vector_dense_mul(const DenseType *type, FunctionCallInfo fcinfo)
{
	return dense_combine(type, fcinfo, MULTIPLY);
}

Datum
vector_dense_concat(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *a = DenseGetArg(0);
	DenseVector *b = DenseGetArg(1);
	DenseVector *result = vector_dense_new(type, a->dim + b->dim);
	Size		first = type->element_size * a->dim;

	memcpy(result->elements, a->elements, first);
	memcpy(result->elements + first, b->elements, type->element_size * b->dim);
	PG_RETURN_POINTER(result);
}

/*
 * The elements from "first" to "last", both counted from 1 and cut to the
 * vector; an error when nothing is left, since a vector is never empty.
 */
DenseVector *
vector_dense_slice(const DenseType *type, const DenseVector *v, int64 first, int64 last)
{
	DenseVector *result;

	first = Max(first, 1);
	last = Min(last, v->dim);
	result = vector_dense_new(type, (int) Max(last - first + 1, 0));
	memcpy(result->elements, v->elements + type->element_size * (first - 1),
		   type->element_size * result->dim);
	return result;
}

/* As substring: a start before the first element shortens the result. */
Datum
vector_dense_subvector(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);
	int64		start = PG_GETARG_INT32(1);
	int64		count = PG_GETARG_INT32(2);

	PG_RETURN_POINTER(vector_dense_slice(type, v, start, start + count - 1));
}

/* One bit per element, set where it is positive; the first element is the first bit. */
Datum
vector_dense_binary_quantize(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);
	const float *x = vector_dense_floats(type, v);
	Size		size = VARBITTOTALLEN(v->dim);
	VarBit	   *result = (VarBit *) palloc0(size);
	bits8	   *bits = VARBITS(result);

	SET_VARSIZE(result, size);
	VARBITLEN(result) = v->dim;
	for (int i = 0; i < v->dim; i++)
		bits[i / 8] |= (x[i] > 0) << (7 - i % 8);
	PG_RETURN_VARBIT_P(result);
}

/*
 * sparse_math.c
 *		Distances, norms and arithmetic of "sparsevec".
 */
#include "postgres.h"

#include <math.h>

#include "kernel/distance.h"
#include "utils/float.h"
#include "vector/dense.h"
#include "vector/detoast.h"
#include "vector/sparse_type.h"
#include "vector/vector_distance.h"

/* "result" is an expression of the elements of both arguments, x and y. */
#define SPARSE_DISTANCE(name, result) \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		SparseVector *a = (SparseVector *) vector_get_argument(fcinfo, 0); \
		SparseVector *b = (SparseVector *) vector_get_argument(fcinfo, 1); \
		KernelSparse x = vector_sparse_elements(a); \
		KernelSparse y = vector_sparse_elements(b); \
		\
		vector_sparse_check_same(a, b); \
		PG_RETURN_FLOAT8(result); \
	} \
	extern Datum name(PG_FUNCTION_ARGS)

static double
cosine(const KernelSparse *x, const KernelSparse *y)
{
	KernelCosine sums;

	sums.dot = kernel_sparse_dot(x, y);
	sums.norm_a = kernel_distance.dot_f32(x->values, x->values, x->count);
	sums.norm_b = kernel_distance.dot_f32(y->values, y->values, y->count);
	return vector_cosine_distance(sums);
}

SPARSE_DISTANCE(sparsevec_l2_distance, sqrt((double) kernel_sparse_l2_squared(&x, &y)));
SPARSE_DISTANCE(sparsevec_l2_squared_distance, (double) kernel_sparse_l2_squared(&x, &y));
SPARSE_DISTANCE(sparsevec_inner_product, (double) kernel_sparse_dot(&x, &y));
SPARSE_DISTANCE(sparsevec_negative_inner_product, -(double) kernel_sparse_dot(&x, &y));
SPARSE_DISTANCE(sparsevec_cosine_distance, cosine(&x, &y));
SPARSE_DISTANCE(sparsevec_l1_distance, (double) kernel_sparse_l1(&x, &y));

PG_FUNCTION_INFO_V1(sparsevec_l2_norm);
Datum
sparsevec_l2_norm(PG_FUNCTION_ARGS)
{
	SparseVector *v = (SparseVector *) vector_get_argument(fcinfo, 0);

	PG_RETURN_FLOAT8(vector_norm_of_floats(SPARSEVEC_VALUES(v), v->nnz));
}

/* A vector under construction, with room for all elements it could get. */
typedef struct SparseBuilder
{
	int			dim;
	int			count;
	int32	   *indices;
	float	   *values;
} SparseBuilder;

static SparseBuilder
start_sparse(int dim, int room)
{
	SparseBuilder builder;

	builder.dim = dim;
	builder.count = 0;
	builder.indices = (int32 *) palloc(sizeof(int32) * Max(room, 1));
	builder.values = (float *) palloc(sizeof(float) * Max(room, 1));
	return builder;
}

/* Zeros are not stored; infinity means that the operation overflowed. */
static inline void
add_element(SparseBuilder *builder, int32 index, float value)
{
	if (unlikely(isinf(value)))
		float_overflow_error();
	if (value == 0)
		return;
	builder->indices[builder->count] = index;
	builder->values[builder->count++] = value;
}

static Datum
finish_sparse(SparseBuilder *builder)
{
	SparseVector *result;

	vector_sparse_check_count(builder->count);
	result = InitSparseVector(builder->dim, builder->count);
	memcpy(result->indices, builder->indices, sizeof(int32) * builder->count);
	memcpy(SPARSEVEC_VALUES(result), builder->values, sizeof(float) * builder->count);
	pfree(builder->indices);
	pfree(builder->values);
	PG_RETURN_SPARSEVEC_P(result);
}

/* The vector of length 1 in the same direction; without elements, when it has none. */
PG_FUNCTION_INFO_V1(sparsevec_l2_normalize);
Datum
sparsevec_l2_normalize(PG_FUNCTION_ARGS)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);
	const float *values = SPARSEVEC_VALUES(v);
	double		norm = vector_norm_of_floats(values, v->nnz);
	SparseBuilder builder = start_sparse(v->dim, v->nnz);

	if (norm > 0)
		for (int i = 0; i < v->nnz; i++)
			add_element(&builder, v->indices[i], (float) (values[i] / norm));
	return finish_sparse(&builder);
}

/* a + sign * b */
static Datum
add_sparse(FunctionCallInfo fcinfo, float sign)
{
	SparseVector *a = PG_GETARG_SPARSEVEC_P(0);
	SparseVector *b = PG_GETARG_SPARSEVEC_P(1);
	const float *x = SPARSEVEC_VALUES(a);
	const float *y = SPARSEVEC_VALUES(b);
	SparseBuilder builder = start_sparse(a->dim, a->nnz + b->nnz);
	int			i = 0,
				j = 0;

	vector_sparse_check_same(a, b);
	while (i < a->nnz || j < b->nnz)
	{
		if (j == b->nnz || (i < a->nnz && a->indices[i] < b->indices[j]))
		{
			add_element(&builder, a->indices[i], x[i]);
			i++;
		}
		else if (i == a->nnz || b->indices[j] < a->indices[i])
		{
			add_element(&builder, b->indices[j], sign * y[j]);
			j++;
		}
		else
		{
			add_element(&builder, a->indices[i], x[i] + sign * y[j]);
			i++;
			j++;
		}
	}
	return finish_sparse(&builder);
}

PG_FUNCTION_INFO_V1(sparsevec_add);
Datum
sparsevec_add(PG_FUNCTION_ARGS)
{
	return add_sparse(fcinfo, 1.0f);
}

PG_FUNCTION_INFO_V1(sparsevec_sub);
Datum
sparsevec_sub(PG_FUNCTION_ARGS)
{
	return add_sparse(fcinfo, -1.0f);
}

PG_FUNCTION_INFO_V1(sparsevec_mul);
Datum
sparsevec_mul(PG_FUNCTION_ARGS)
{
	SparseVector *a = PG_GETARG_SPARSEVEC_P(0);
	SparseVector *b = PG_GETARG_SPARSEVEC_P(1);
	const float *x = SPARSEVEC_VALUES(a);
	const float *y = SPARSEVEC_VALUES(b);
	SparseBuilder builder = start_sparse(a->dim, Min(a->nnz, b->nnz));
	int			i = 0,
				j = 0;

	vector_sparse_check_same(a, b);
	while (i < a->nnz && j < b->nnz)
	{
		if (a->indices[i] < b->indices[j])
			i++;
		else if (b->indices[j] < a->indices[i])
			j++;
		else
		{
			float		product = x[i] * y[j];

			if (product == 0 && x[i] != 0 && y[j] != 0)
				float_underflow_error();
			add_element(&builder, a->indices[i], product);
			i++;
			j++;
		}
	}
	return finish_sparse(&builder);
}

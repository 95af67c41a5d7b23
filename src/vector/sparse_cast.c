/*
 * sparse_cast.c
 *		Casts of "sparsevec" from arrays, from and to the dense types, and to declared dimensions.
 */
#include "postgres.h"

#include <math.h>

#include "vector/dense.h"
#include "vector/sparse_type.h"

PG_FUNCTION_INFO_V1(sparsevec);
Datum
sparsevec(PG_FUNCTION_ARGS)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);

	vector_check_typmod(PG_GETARG_INT32(1), v->dim);
	PG_RETURN_SPARSEVEC_P(v);
}

/* The elements of x that are not zero. */
static Datum
sparse_from_floats(const float *x, int dim, int32 typmod)
{
	SparseVector *result;
	float	   *values;
	int			nnz = 0;

	vector_sparse_check_dim(dim);
	vector_check_typmod(typmod, dim);
	for (int i = 0; i < dim; i++)
		nnz += x[i] != 0;
	vector_sparse_check_count(nnz);
	result = InitSparseVector(dim, nnz);
	values = SPARSEVEC_VALUES(result);
	for (int i = 0, k = 0; k < nnz; i++)
	{
		if (x[i] != 0)
		{
			result->indices[k] = i;
			values[k++] = x[i];
		}
	}
	PG_RETURN_SPARSEVEC_P(result);
}

PG_FUNCTION_INFO_V1(array_to_sparsevec);
Datum
array_to_sparsevec(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int			n;
	float	   *x = vector_floats_of_array(array, &n);

	vector_check_finite("sparsevec", INFINITY, x, n);
	return sparse_from_floats(x, n, PG_GETARG_INT32(1));
}

static Datum
sparse_from_dense(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);

	return sparse_from_floats(vector_dense_floats(type, v), v->dim, PG_GETARG_INT32(1));
}

PG_FUNCTION_INFO_V1(vector_to_sparsevec);
Datum
vector_to_sparsevec(PG_FUNCTION_ARGS)
{
	return sparse_from_dense(&vector_dense_vector, fcinfo);
}

PG_FUNCTION_INFO_V1(halfvec_to_sparsevec);
Datum
halfvec_to_sparsevec(PG_FUNCTION_ARGS)
{
	return sparse_from_dense(&vector_dense_halfvec, fcinfo);
}

static Datum
sparse_to_dense(const DenseType *type, FunctionCallInfo fcinfo)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);
	const float *values = SPARSEVEC_VALUES(v);
	DenseVector *result;
	float	   *x;

	vector_dense_check_dim(type, v->dim);
	vector_check_typmod(PG_GETARG_INT32(1), v->dim);
	vector_check_finite(type->name, type->largest, values, v->nnz);
	result = vector_dense_new(type, v->dim);
	x = (float *) palloc0(sizeof(float) * v->dim);
	for (int i = 0; i < v->nnz; i++)
		x[v->indices[i]] = values[i];
	vector_dense_store(type, x, result);
	pfree(x);
	PG_RETURN_POINTER(result);
}

PG_FUNCTION_INFO_V1(sparsevec_to_vector);
Datum
sparsevec_to_vector(PG_FUNCTION_ARGS)
{
	return sparse_to_dense(&vector_dense_vector, fcinfo);
}

PG_FUNCTION_INFO_V1(sparsevec_to_halfvec);
Datum
sparsevec_to_halfvec(PG_FUNCTION_ARGS)
{
	return sparse_to_dense(&vector_dense_halfvec, fcinfo);
}

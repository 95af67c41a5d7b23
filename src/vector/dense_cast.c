/*
 * dense_cast.c
 *		Casts of "vector" and "halfvec" from and to arrays, and to a declared number of dimensions.
 *
 * Cast functions have the signature (value, type modifier, is explicit).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "vector/dense.h"

Datum
vector_dense_typmod_cast(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);

	vector_check_typmod(PG_GETARG_INT32(1), v->dim);
	PG_RETURN_POINTER(v);
}

/*
 * The elements of a one-dimensional array of a number type, as floats in the
 * current memory context.
 */
float *
vector_floats_of_array(ArrayType *array, int *n)
{
	Oid			element_type = ARR_ELEMTYPE(array);
	const char *data;
	float	   *x;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("array must be 1-D")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("array must not contain nulls")));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	data = ARR_DATA_PTR(array);
	x = (float *) palloc(sizeof(float) * Max(*n, 1));

	/* Elements of fixed length lie side by side. */
	if (element_type == FLOAT4OID)
		memcpy(x, data, sizeof(float) * *n);
	else if (element_type == FLOAT8OID)
	{
		for (int i = 0; i < *n; i++)
			x[i] = (float) ((const float8 *) data)[i];
	}
	else if (element_type == INT4OID)
	{
		for (int i = 0; i < *n; i++)
			x[i] = (float) ((const int32 *) data)[i];
	}
	else if (element_type == NUMERICOID)
	{
		Datum	   *numbers;

		deconstruct_array(array, NUMERICOID, -1, false, TYPALIGN_INT, &numbers, NULL, n);
		for (int i = 0; i < *n; i++)
			x[i] = DatumGetFloat4(DirectFunctionCall1(numeric_float4, numbers[i]));
		pfree(numbers);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("unsupported array type")));
	return x;
}

Datum
vector_dense_from_array(const DenseType *type, FunctionCallInfo fcinfo)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int			n;
	float	   *x = vector_floats_of_array(array, &n);
	DenseVector *result;

	vector_dense_check_dim(type, n);
	vector_check_typmod(PG_GETARG_INT32(1), n);
	vector_check_finite(type->name, type->largest, x, n);
	result = vector_dense_new(type, n);
	vector_dense_store(type, x, result);
	pfree(x);
	PG_RETURN_POINTER(result);
}

Datum
vector_dense_to_float4(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);
	const float *x = vector_dense_floats(type, v);
	Size		size = ARR_OVERHEAD_NONULLS(1) + sizeof(float) * v->dim;
	ArrayType  *result = (ArrayType *) palloc0(size);

	SET_VARSIZE(result, size);
	result->ndim = 1;
	result->elemtype = FLOAT4OID;
	ARR_DIMS(result)[0] = v->dim;
	ARR_LBOUND(result)[0] = 1;
	memcpy(ARR_DATA_PTR(result), x, sizeof(float) * v->dim);
	PG_RETURN_ARRAYTYPE_P(result);
}

/* A vector of one dense type as one of the other. */
static Datum
dense_convert(const DenseType *from, const DenseType *to, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);
	const float *x = vector_dense_floats(from, v);
	DenseVector *result;

	vector_check_typmod(PG_GETARG_INT32(1), v->dim);
	vector_check_finite(to->name, to->largest, x, v->dim);
	result = vector_dense_new(to, v->dim);
	vector_dense_store(to, x, result);
	PG_RETURN_POINTER(result);
}

PG_FUNCTION_INFO_V1(vector_to_halfvec);
Datum
vector_to_halfvec(PG_FUNCTION_ARGS)
{
	return dense_convert(&vector_dense_vector, &vector_dense_halfvec, fcinfo);
}

PG_FUNCTION_INFO_V1(halfvec_to_vector);
Datum
halfvec_to_vector(PG_FUNCTION_ARGS)
{
	return dense_convert(&vector_dense_halfvec, &vector_dense_vector, fcinfo);
}

/*
 * header_user.c
 *		An extension of somebody else's, compiled against the installed headers.
 */
#include "postgres.h"

#include "fmgr.h"

#include "halfvec.h"
#include "sparsevec.h"
#include "vector.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(user_reverse);
PG_FUNCTION_INFO_V1(user_halves);
PG_FUNCTION_INFO_V1(user_every_other);

/* user_reverse(vector): the elements in the other order. */
Datum
user_reverse(PG_FUNCTION_ARGS)
{
	Vector	   *v = PG_GETARG_VECTOR_P(0);
	Vector	   *result = InitVector(v->dim);

	for (int i = 0; i < v->dim; i++)
		result->x[i] = v->x[v->dim - 1 - i];
	PG_RETURN_VECTOR_P(result);
}

/* user_halves(halfvec): the second half of the elements. */
Datum
user_halves(PG_FUNCTION_ARGS)
{
	HalfVector *v = PG_GETARG_HALFVEC_P(0);
	HalfVector *result = InitHalfVector(v->dim / 2);

	memcpy(result->x, v->x + v->dim - v->dim / 2, result->dim * sizeof(half));
	PG_RETURN_HALFVEC_P(result);
}

/* user_every_other(sparsevec): the first, third, ... of the stored elements, in twice as many dimensions. */
Datum
user_every_other(PG_FUNCTION_ARGS)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);
	SparseVector *result = InitSparseVector(v->dim * 2, (v->nnz + 1) / 2);

	for (int i = 0; i < result->nnz; i++)
	{
		result->indices[i] = v->indices[i * 2];
		SPARSEVEC_VALUES(result)[i] = SPARSEVEC_VALUES(v)[i * 2];
	}
	PG_RETURN_SPARSEVEC_P(result);
}

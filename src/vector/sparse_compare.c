/*
 * sparse_compare.c
 *		Comparison and hashing of "sparsevec".
 */
#include "postgres.h"

#include <limits.h>

#include "common/hashfn.h"
#include "vector/sparse_type.h"

/*
 * As the dense forms of both compare: element by element, an element that is
 * not stored being zero, then the shorter first.
 */
static int
sparse_compare(SparseVector *a, SparseVector *b)
{
	const float *x = SPARSEVEC_VALUES(a);
	const float *y = SPARSEVEC_VALUES(b);
	int			shared = Min(a->dim, b->dim);
	int			i = 0,
				j = 0;

	for (;;)
	{
		int			next_a = i < a->nnz ? a->indices[i] : INT_MAX;
		int			next_b = j < b->nnz ? b->indices[j] : INT_MAX;
		float		value_a = 0;
		float		value_b = 0;

		if (Min(next_a, next_b) >= shared)
			break;
		if (next_a <= next_b)
			value_a = x[i++];
		if (next_b <= next_a)
			value_b = y[j++];
		if (value_a != value_b)
			return value_a < value_b ? -1 : 1;
	}
	return (a->dim > b->dim) - (a->dim < b->dim);
}

/* A comparison: "test" looks at c, which is below, at or above zero. */
#define SPARSE_COMPARISON(name, RETURN, test) \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		SparseVector *a = PG_GETARG_SPARSEVEC_P(0); \
		SparseVector *b = PG_GETARG_SPARSEVEC_P(1); \
		int			c = sparse_compare(a, b); \
		\
		PG_FREE_IF_COPY(a, 0); \
		PG_FREE_IF_COPY(b, 1); \
		RETURN(test); \
	} \
	extern Datum name(PG_FUNCTION_ARGS)

SPARSE_COMPARISON(sparsevec_lt, PG_RETURN_BOOL, c < 0);
SPARSE_COMPARISON(sparsevec_le, PG_RETURN_BOOL, c <= 0);
SPARSE_COMPARISON(sparsevec_eq, PG_RETURN_BOOL, c == 0);
SPARSE_COMPARISON(sparsevec_ne, PG_RETURN_BOOL, c != 0);
SPARSE_COMPARISON(sparsevec_ge, PG_RETURN_BOOL, c >= 0);
SPARSE_COMPARISON(sparsevec_gt, PG_RETURN_BOOL, c > 0);
SPARSE_COMPARISON(sparsevec_cmp, PG_RETURN_INT32, c);

/* Equal vectors must hash alike: a stored zero, should there be one, counts as not stored. */
static uint64
hash_sparse(SparseVector *v, uint64 seed)
{
	const float *values = SPARSEVEC_VALUES(v);
	VectorElement *elements = (VectorElement *) palloc(sizeof(VectorElement) * (v->nnz + 1));
	int			n = 0;
	uint64		hash;

	elements[n].index = v->dim;
	elements[n++].value = 0;
	for (int i = 0; i < v->nnz; i++)
	{
		if (values[i] == 0)
			continue;
		elements[n].index = v->indices[i];
		elements[n++].value = values[i];
	}
	hash = hash_bytes_extended((const unsigned char *) elements, (int) sizeof(VectorElement) * n, seed);
	pfree(elements);
	return hash;
}

PG_FUNCTION_INFO_V1(sparsevec_hash);
Datum
sparsevec_hash(PG_FUNCTION_ARGS)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);
	uint64		hash = hash_sparse(v, 0);

	PG_FREE_IF_COPY(v, 0);
	PG_RETURN_INT32((int32) hash);
}

PG_FUNCTION_INFO_V1(sparsevec_hash_extended);
Datum
sparsevec_hash_extended(PG_FUNCTION_ARGS)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);
	uint64		hash = hash_sparse(v, PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(v, 0);
	PG_RETURN_INT64((int64) hash);
}

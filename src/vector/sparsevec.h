/*
 * sparsevec.h
 *		The type "sparsevec": at most 16,000 non-zero float4 values out of at most a billion.
 *
 * Installed for other extensions; see vector.h about the layout.  The values
 * follow the indices, which count from 0 and ascend.
 */
#ifndef SPARSEVEC_H
#define SPARSEVEC_H

#include "fmgr.h"
#if __has_include("varatt.h")
#include "varatt.h"			/* a header of its own since 16 */
#endif

#define SPARSEVEC_MAX_DIM 1000000000
#define SPARSEVEC_MAX_NNZ 16000

typedef struct SparseVector
{
	int32		vl_len_;		/* varlena header (do not touch directly!) */
	int32		dim;			/* number of dimensions, at least 1 */
	int32		nnz;			/* number of stored elements */
	int32		unused;			/* always zero */
	int32		indices[FLEXIBLE_ARRAY_MEMBER];
} SparseVector;

#define SPARSEVEC_SIZE(nnz) \
	(offsetof(SparseVector, indices) + (sizeof(int32) + sizeof(float)) * (Size) (nnz))
#define DatumGetSparseVector(d)		((SparseVector *) PG_DETOAST_DATUM(d))
#define PG_GETARG_SPARSEVEC_P(n)	DatumGetSparseVector(PG_GETARG_DATUM(n))
#define PG_RETURN_SPARSEVEC_P(v)	PG_RETURN_POINTER(v)

static inline float *
SPARSEVEC_VALUES(SparseVector *v)
{
	return (float *) (v->indices + v->nnz);
}

/* All indices and values zero, in the current memory context; the caller fills them in. */
static inline SparseVector *
InitSparseVector(int dim, int nnz)
{
	SparseVector *result = (SparseVector *) palloc0(SPARSEVEC_SIZE(nnz));

	SET_VARSIZE(result, SPARSEVEC_SIZE(nnz));
	result->dim = dim;
	result->nnz = nnz;
	return result;
}

#endif							/* SPARSEVEC_H */

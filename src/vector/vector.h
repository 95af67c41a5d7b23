/*
 * vector.h
 *		The type "vector": a list of at most 16,000 float4 values.
 *
 * Installed for other extensions.  The layout is that of pgvector 0.6 and
 * later, so that code compiled for one reads the values of the other; it is
 * also the layout on disk and must not change.
 */
#ifndef VECTOR_H
#define VECTOR_H

#include "fmgr.h"
#if __has_include("varatt.h")
#include "varatt.h"			/* a header of its own since 16 */
#endif

#define VECTOR_MAX_DIM 16000

typedef struct Vector
{
	int32		vl_len_;		/* varlena header (do not touch directly!) */
	int16		dim;			/* number of dimensions, at least 1 */
	int16		unused;			/* always zero */
	float		x[FLEXIBLE_ARRAY_MEMBER];	/* neither NaN nor infinity */
} Vector;

#define VECTOR_SIZE(dim)		(offsetof(Vector, x) + sizeof(float) * (Size) (dim))
#define DatumGetVector(d)		((Vector *) PG_DETOAST_DATUM(d))
#define PG_GETARG_VECTOR_P(n)	DatumGetVector(PG_GETARG_DATUM(n))
#define PG_RETURN_VECTOR_P(v)	PG_RETURN_POINTER(v)

/* A vector of zeros in the current memory context; the caller has checked dim. */
static inline Vector *
InitVector(int dim)
{
	Vector	   *result = (Vector *) palloc0(VECTOR_SIZE(dim));

	SET_VARSIZE(result, VECTOR_SIZE(dim));
	result->dim = dim;
	return result;
}

#endif							/* VECTOR_H */

/*
 * halfvec.h
 *		The type "halfvec": a list of at most 16,000 IEEE 754 binary16 values.
 *
 * Installed for other extensions; see vector.h about the layout.
 */
#ifndef HALFVEC_H
#define HALFVEC_H

#include "fmgr.h"
#if __has_include("varatt.h")
#include "varatt.h"			/* a header of its own since 16 */
#endif

#ifndef half
#define half uint16
#endif

#define HALFVEC_MAX_DIM 16000

typedef struct HalfVector
{
	int32		vl_len_;		/* varlena header (do not touch directly!) */
	int16		dim;			/* number of dimensions, at least 1 */
	int16		unused;			/* always zero */
	half		x[FLEXIBLE_ARRAY_MEMBER];	/* neither NaN nor infinity */
} HalfVector;

#define HALFVEC_SIZE(dim)		(offsetof(HalfVector, x) + sizeof(half) * (Size) (dim))
#define DatumGetHalfVector(d)	((HalfVector *) PG_DETOAST_DATUM(d))
#define PG_GETARG_HALFVEC_P(n)	DatumGetHalfVector(PG_GETARG_DATUM(n))
#define PG_RETURN_HALFVEC_P(v)	PG_RETURN_POINTER(v)

/* A vector of zeros in the current memory context; the caller has checked dim. */
static inline HalfVector *
InitHalfVector(int dim)
{
	HalfVector *result = (HalfVector *) palloc0(HALFVEC_SIZE(dim));

	SET_VARSIZE(result, HALFVEC_SIZE(dim));
	result->dim = dim;
	return result;
}

#endif							/* HALFVEC_H */

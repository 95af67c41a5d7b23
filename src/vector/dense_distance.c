/*
 * dense_distance.c
 *		Distances between two values of "vector", "halfvec" and bit.
 *
 * Called once per row of a sequential scan: nothing is done here but to look
 * at the dimensions and call the kernel.
 */
#include "postgres.h"

#include <math.h>

#include "kernel/distance.h"
#include "vector/dense.h"
#include "vector/detoast.h"
#include "vector/vector_distance.h"

/*
 * A function of (a, b), two values of one dense type with equal dimensions;
 * "result" is an expression of them.
 */
#define DENSE_DISTANCE(name, Type, type, result) \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		Type	   *a = (Type *) vector_get_argument(fcinfo, 0); \
		Type	   *b = (Type *) vector_get_argument(fcinfo, 1); \
		\
		vector_dense_check_same(&type, (DenseVector *) a, (DenseVector *) b); \
		PG_RETURN_FLOAT8(result); \
	} \
	extern Datum name(PG_FUNCTION_ARGS)

/* The angle between two vectors of length 1, in units of pi. */
static double
angle(double dot)
{
	dot = Max(Min(dot, 1.0), -1.0);
	return acos(dot) / M_PI;
}

#define FLOATS(kernel) kernel_distance.kernel(a->x, b->x, a->dim)

DENSE_DISTANCE(l2_distance, Vector, vector_dense_vector, sqrt((double) FLOATS(l2_squared_f32)));
DENSE_DISTANCE(vector_l2_squared_distance, Vector, vector_dense_vector, (double) FLOATS(l2_squared_f32));
DENSE_DISTANCE(inner_product, Vector, vector_dense_vector, (double) FLOATS(dot_f32));
DENSE_DISTANCE(vector_negative_inner_product, Vector, vector_dense_vector, -(double) FLOATS(dot_f32));
DENSE_DISTANCE(cosine_distance, Vector, vector_dense_vector, vector_cosine_distance(FLOATS(cosine_f32)));
DENSE_DISTANCE(vector_spherical_distance, Vector, vector_dense_vector, angle(FLOATS(dot_f32)));
DENSE_DISTANCE(l1_distance, Vector, vector_dense_vector, (double) FLOATS(l1_f32));

DENSE_DISTANCE(halfvec_l2_distance, HalfVector, vector_dense_halfvec, sqrt((double) FLOATS(l2_squared_f16)));
DENSE_DISTANCE(halfvec_l2_squared_distance, HalfVector, vector_dense_halfvec,
			   (double) FLOATS(l2_squared_f16));
DENSE_DISTANCE(halfvec_inner_product, HalfVector, vector_dense_halfvec, (double) FLOATS(dot_f16));
DENSE_DISTANCE(halfvec_negative_inner_product, HalfVector, vector_dense_halfvec, -(double) FLOATS(dot_f16));
DENSE_DISTANCE(halfvec_cosine_distance, HalfVector, vector_dense_halfvec,
			   vector_cosine_distance(FLOATS(cosine_f16)));
DENSE_DISTANCE(halfvec_spherical_distance, HalfVector, vector_dense_halfvec, angle(FLOATS(dot_f16)));
DENSE_DISTANCE(halfvec_l1_distance, HalfVector, vector_dense_halfvec, (double) FLOATS(l1_f16));

/* A bit string where it lies: short ones have a one-byte header in a row, and no alignment. */
typedef struct BitString
{
	uint32		length;			/* in bits */
	uint32		bytes;
	const uint8 *bits;
} BitString;

static inline BitString
get_bits(FunctionCallInfo fcinfo, int n)
{
	struct varlena *value = (struct varlena *) PG_GETARG_POINTER(n);
	const char *data;
	BitString	result;

	if (!vector_is_plain(value))
		value = vector_get_argument(fcinfo, n);
	data = VARDATA_ANY(value);
	memcpy(&result.length, data, sizeof(result.length));
	result.bytes = VARSIZE_ANY_EXHDR(value) - sizeof(result.length);
	result.bits = (const uint8 *) data + sizeof(result.length);
	return result;
}

static void
check_same_length(const BitString *a, const BitString *b)
{
	if (unlikely(a->length != b->length))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different bit lengths %u and %u", a->length, b->length)));
}

PG_FUNCTION_INFO_V1(hamming_distance);
Datum
hamming_distance(PG_FUNCTION_ARGS)
{
	BitString	a = get_bits(fcinfo, 0);
	BitString	b = get_bits(fcinfo, 1);

	check_same_length(&a, &b);
	PG_RETURN_FLOAT8((double) kernel_distance.hamming(a.bits, b.bits, a.bytes));
}

/* One minus the share of the bits set in either that are set in both. */
PG_FUNCTION_INFO_V1(jaccard_distance);
Datum
jaccard_distance(PG_FUNCTION_ARGS)
{
	BitString	a = get_bits(fcinfo, 0);
	BitString	b = get_bits(fcinfo, 1);
	KernelOverlap overlap;

	check_same_length(&a, &b);
	overlap = kernel_distance.overlap(a.bits, b.bits, a.bytes);
	if (overlap.both == 0)
		PG_RETURN_FLOAT8(1.0);
	PG_RETURN_FLOAT8(1.0 - (double) overlap.both / (double) overlap.either);
}

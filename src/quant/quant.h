/*
 * quant.h
 *		Compressed codes of vectors and the distances estimated from them.
 *
 * A vector has a "sketch", small enough to be read for every vector that is
 * looked at, and for most kinds a finer "code", read for the few that matter.
 * Where there is no separate code the sketch serves as one; "graph code"
 * means whichever is the finer.  See README.md for the kinds.
 *
 * All distances are on one scale per metric, on which smaller is nearer:
 * squared Euclidean for L2 and cosine (vectors are normalised first), the
 * negative inner product, the sum of differences, the number or share of
 * differing bits.  None is ever NaN.
 */
#ifndef QUANT_H
#define QUANT_H

#include "postgres.h"

typedef enum QuantMetric
{
	QUANT_L2 = 1,
	QUANT_IP,
	QUANT_COSINE,
	QUANT_L1,
	QUANT_HAMMING,
	QUANT_JACCARD
} QuantMetric;

/* These values are stored in indexes. */
typedef enum QuantKind
{
	QUANT_PLAIN = 1,			/* the floats themselves: few dimensions */
	QUANT_ROTATED,				/* bit-plane sketch and finer code of the rotated vector */
	QUANT_AFFINE,				/* one byte per dimension under a map of the vector's own: L1 */
	QUANT_BITS					/* the bits themselves */
} QuantKind;

#define QUANT_ROUNDS 4			/* sign flips and Hadamard transforms that make up a rotation */

/* How vectors are coded.  The first group is stored with the index, the rest follows from it. */
typedef struct QuantSpec
{
	QuantMetric metric;
	QuantKind	kind;
	int			dims;			/* floats, or bits */
	int			code_dims;		/* leading (rotated) or evenly spread (affine) dimensions the codes cover */
	int			sketch_bits;	/* per dimension */
	int			code_bits;		/* 0: no separate code */
	uint64		seed;			/* of the rotation */
	const float *centroid;		/* subtracted first; NULL for zero */

	Size		sketch_bytes;
	Size		code_bytes;
	uint32	   *signs;			/* what each round of the rotation flips: see quant_sign_words */
	int			hadamard;		/* width of the transforms: a power of two */
} QuantSpec;

/* What turns a code's sum into a distance; the meaning depends on the kind. */
typedef struct QuantFactors
{
	float		rescale;		/* factor of the code's numbers (affine: its step) */
	float		add;			/* squared length of what was coded (affine: its lowest value) */
} QuantFactors;

/* A query, ready to be compared with codes. */
typedef struct QuantQuery
{
	const QuantSpec *spec;
	float	   *x;				/* normalised, centred, rotated */
	uint8	   *bits;			/* the bits, for QUANT_BITS */
	float		norm_squared;
	float		norm;
	int16	   *words;			/* x in 12 bits, times word_scale */
	float		word_scale;
	uint64	   *planes;			/* x in bit planes, times plane_scale */
	float		plane_scale;
	uint64	   *fine_planes;	/* more of them, for codes made of planes */
	float		fine_scale;
	float		sketch_base;	/* the sum of a sketch that agrees in every bit */
	float		sketch_scale;	/* plane_scale, or word_scale */
} QuantQuery;

/* Both codes of one vector, in memory of the caller. */
typedef struct QuantCodes
{
	uint8	   *sketch;			/* sketch_bytes */
	uint8	   *code;			/* code_bytes; NULL when there is no separate code */
	QuantFactors sketch_factors;
	QuantFactors code_factors;
} QuantCodes;

/*
 * Choose the codes for a metric: sketch_room and code_room are the bytes a
 * slot can have.  quant_prepare must follow, here or after reading the first
 * group from an index.  It makes the signs in the current memory context when
 * the caller has not kept those of an earlier call.
 */
extern void quant_choose(QuantSpec *spec, QuantMetric metric, int dims, Size sketch_room, Size code_room);
extern void quant_prepare(QuantSpec *spec, uint32 *signs);

/* The value to code is an array of dims floats, or of (dims + 7) / 8 bytes of bits. */
extern void quant_init_codes(const QuantSpec *spec, QuantCodes *codes);
extern void quant_encode(const QuantSpec *spec, const void *value, float *work, QuantCodes *codes);
extern void quant_init_query(const QuantSpec *spec, QuantQuery *query);
extern void quant_set_query(QuantQuery *query, const void *value);

/* The codes of the value that a query has been set to, without transforming it once more. */
extern void quant_encode_query(const QuantQuery *query, const void *value, QuantCodes *codes);

/* Scale to length one, in double precision; false for a vector of length zero. */
extern bool quant_normalize(float *x, int dims);

extern float quant_sketch_distance(const QuantQuery *query, const uint8 *sketch, QuantFactors factors);

/* To count sketches, each right behind its factors, at addresses that are multiples of 8. */
extern void quant_sketch_distances(const QuantQuery *query, const uint8 *const *sketches, int count,
								   float *distances);

/*
 * How far sketches seem by the signs of their dimensions alone, where they are
 * made of those: good enough to choose where to look.
 */
extern void quant_sketch_glances(const QuantQuery *query, const uint8 *const *sketches, int count,
								 float *distances);

extern float quant_code_distance(const QuantQuery *query, const uint8 *code, QuantFactors factors);

/* Between two graph codes. */
extern float quant_pair_distance(const QuantSpec *spec, const uint8 *a, QuantFactors factors_a,
								 const uint8 *b, QuantFactors factors_b);

/* By how much the distance to a graph code may be off: about three standard deviations. */
extern float quant_slack(const QuantQuery *query, QuantFactors factors, float distance);

/* One standard deviation of the distance by sketch, for a vector with these factors. */
extern float quant_sketch_error(const QuantQuery *query, QuantFactors factors);

/* A bit for each dimension and round, set where the sign changes; each round's begin with a word. */
static inline Size
quant_sign_words(const QuantSpec *spec)
{
	return spec->kind == QUANT_ROTATED ? (Size) QUANT_ROUNDS * ((spec->dims + 31) / 32) : 0;
}

static inline bool
quant_has_code(const QuantSpec *spec)
{
	return spec->code_bits > 0;
}

static inline Size
quant_graph_bytes(const QuantSpec *spec)
{
	return spec->code_bits > 0 ? spec->code_bytes : spec->sketch_bytes;
}

/* The distance to a graph code. */
static inline float
quant_graph_distance(const QuantQuery *query, const uint8 *code, QuantFactors factors)
{
	return query->spec->code_bits > 0 ? quant_code_distance(query, code, factors) :
		quant_sketch_distance(query, code, factors);
}

#endif							/* QUANT_H */

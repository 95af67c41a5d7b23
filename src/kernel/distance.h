/*
 * distance.h
 *		Exact distances between raw arrays of float, half and bits, and conversions.
 *
 * Arrays need no alignment and may be of any length, zero included.  Sums are
 * kept in float, in an order that depends on the level; they overflow to
 * infinity as float does.
 */
#ifndef KERNEL_DISTANCE_H
#define KERNEL_DISTANCE_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/choose.h"
#include "kernel/half.h"

/* The three sums a cosine is made of, collected in one pass. */
typedef struct KernelCosine
{
	float		dot;
	float		norm_a;			/* squared norms */
	float		norm_b;
} KernelCosine;

/* Counts of the bits set in both and in either of two bit strings. */
typedef struct KernelOverlap
{
	uint64_t	both;
	uint64_t	either;
} KernelOverlap;

typedef struct KernelDistance
{
	float		(*l2_squared_f32) (const float *a, const float *b, size_t n);
	float		(*dot_f32) (const float *a, const float *b, size_t n);
	float		(*l1_f32) (const float *a, const float *b, size_t n);
	KernelCosine (*cosine_f32) (const float *a, const float *b, size_t n);

	float		(*l2_squared_f16) (const kernel_half *a, const kernel_half *b, size_t n);
	float		(*dot_f16) (const kernel_half *a, const kernel_half *b, size_t n);
	float		(*l1_f16) (const kernel_half *a, const kernel_half *b, size_t n);
	KernelCosine (*cosine_f16) (const kernel_half *a, const kernel_half *b, size_t n);

	/* The sum of the squares, in double precision. */
	double		(*squares_f32) (const float *x, size_t n);

	/* All pairs of the rows of a and of b, n floats each, one after the other: out[row of a][row of b]. */
	void		(*dot_tile) (const float *a, size_t rows, const float *b, size_t columns, size_t n,
							 float *out);
	void		(*l2_squared_tile) (const float *a, size_t rows, const float *b, size_t columns, size_t n,
									float *out);

	/* Lengths in bytes; unused bits of the last byte must be equal (both zero). */
	uint64_t	(*hamming) (const uint8_t *a, const uint8_t *b, size_t bytes);
	KernelOverlap (*overlap) (const uint8_t *a, const uint8_t *b, size_t bytes);

	void		(*widen) (const kernel_half *from, float *to, size_t n);
	/* Too large a value becomes infinity. */
	void		(*narrow) (const float *from, kernel_half *to, size_t n);
	/* Add each element to its sum. */
	void		(*accumulate) (const float *x, double *sums, size_t n);
} KernelDistance;

/* The functions in use, once kernel_distance_init() has been called. */
extern KernelDistance kernel_distance;

extern void kernel_distance_init(void);

/* One level's functions; NULL when the level is not available here. */
extern const KernelDistance *kernel_distance_level(KernelLevel level);

#endif							/* KERNEL_DISTANCE_H */

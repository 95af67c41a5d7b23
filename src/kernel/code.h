/*
 * code.h
 *		Arithmetic on the compressed codes of vectors.
 *
 * Three kinds of code occur: signed bytes, unsigned bytes under an affine
 * map, and bit planes.  Byte arrays have a length that is a multiple of
 * CODE_ALIGN, filled up with zeros; bit planes are whole 64-bit words, the
 * bits past the last dimension zero.  No address needs alignment beyond that
 * of its element type.
 */
#ifndef KERNEL_CODE_H
#define KERNEL_CODE_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/choose.h"

#define CODE_ALIGN 16

/* Bit planes of a query; more would be below the error of the codes. */
#define CODE_QUERY_PLANES 4

typedef struct KernelCode
{
	/* |q| <= 2047 and n <= 32768 keep the sum within 32 bits. */
	int32_t		(*dot_i16_i8) (const int16_t *q, const int8_t *code, size_t n);
	int32_t		(*dot_i8_i8) (const int8_t *a, const int8_t *b, size_t n);

	/*
	 * The sum over planes j of a and k of b of 2^(j+k) * popcount(a_j ^ b_k).
	 * a holds planes_a words for each word position, one plane after the
	 * other; b likewise.
	 */
	uint64_t	(*xor_planes) (const uint64_t *a, size_t planes_a, const uint64_t *b, size_t planes_b,
							   size_t words);
	/* The same for CODE_QUERY_PLANES planes of a and one of b. */
	uint32_t	(*xor_query) (const uint64_t *a, const uint64_t *b, size_t words);
	/* And for n of them, at addresses that are multiples of 8. */
	void		(*xor_rows) (const uint64_t *a, const uint8_t *const *rows, size_t n, size_t words,
							 uint32_t *sums);
	/* For each of n, in how many bits it differs from the highest plane of a alone. */
	void		(*xor_signs) (const uint64_t *a, const uint8_t *const *rows, size_t n, size_t words,
							  uint32_t *sums);

	/* The sum of |q - (low + step * code)|. */
	float		(*l1_f32_u8) (const float *q, const uint8_t *code, float low, float step, size_t n);

	double		(*norm_squared) (const float *x, size_t n);
	float		(*largest) (const float *x, size_t n);	/* of the absolute values */
	void		(*scale) (float *x, double factor, size_t n);
	void		(*subtract) (float *x, const float *y, size_t n);

	/* Change the signs of those whose bit is set, the first one's the lowest of signs[0]. */
	void		(*flip) (float *x, const uint32_t *signs, size_t n);

	/* One Hadamard transform, scaled to keep lengths; n is a power of two. */
	void		(*hadamard) (float *x, size_t n);

	/* code = round(x * factor), which the caller knows to lie within -127..127. */
	void		(*to_i8) (const float *x, float factor, int8_t *code, size_t n);
	void		(*to_i16) (const float *x, float factor, int16_t *code, size_t n);

	/* level = the whole part of x * factor + shift, within 0..top; 0 for NaN. */
	void		(*to_levels) (const float *x, float factor, float shift, int top, uint8_t *levels, size_t n);
} KernelCode;

/* The functions in use, once kernel_code_init() has been called. */
extern KernelCode kernel_code;

extern void kernel_code_init(void);

/* One level's functions; NULL when the level is not available here. */
extern const KernelCode *kernel_code_level(KernelLevel level);

#endif							/* KERNEL_CODE_H */

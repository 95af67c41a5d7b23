/*
 * code_eight.h
 *		The short strides of a Hadamard transform in one register of AVX.
 *
 * Compilers make scalar code of the loops in code_body.h that do the same.
 */
#ifndef KERNEL_CODE_EIGHT_H
#define KERNEL_CODE_EIGHT_H

#include <immintrin.h>

#define HADAMARD_EIGHT

/* Partners plus values, whose signs are changed where -0.0 stands. */
#define EIGHT_SUMS(v, partners, a, b, c, d, e, f, g, h) \
	_mm256_add_ps(partners, _mm256_xor_ps(v, _mm256_setr_ps(a, b, c, d, e, f, g, h)))

static inline void
hadamard_eight(float *x, float scale)
{
	__m256		v = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(scale));

	v = EIGHT_SUMS(v, _mm256_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1)),
				   0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f);
	v = EIGHT_SUMS(v, _mm256_permute_ps(v, _MM_SHUFFLE(1, 0, 3, 2)),
				   0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f);
	v = EIGHT_SUMS(v, _mm256_permute2f128_ps(v, v, 1),
				   0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
	_mm256_storeu_ps(x, v);
}

#endif							/* KERNEL_CODE_EIGHT_H */

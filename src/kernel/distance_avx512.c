/*
 * distance_avx512.c
 *		Distances with AVX-512 (F, BW, VL, DQ, VPOPCNTDQ; flags in the Makefile).
 */
#include "kernel/distance.h"

#define DISTANCE_TABLE kernel_distance_avx512
extern const KernelDistance *const DISTANCE_TABLE;

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VPOPCNTDQ__)

#include <immintrin.h>

#define LANES 16
typedef __m512 floats;

static inline floats
load_f32(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void
store_f32(float *p, floats v)
{
	_mm512_storeu_ps(p, v);
}

static inline floats
load_f16(const kernel_half *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p));
}

static inline void
store_f16(kernel_half *p, floats v)
{
	_mm256_storeu_si256((__m256i *) p,
						_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#define BIT_BYTES 64
typedef __m512i bits;			/* eight words, of which ^ & | and + make use */
typedef __m512i counts;

#define count_bits(x) _mm512_popcnt_epi64(x)
#define sum_counts(c) ((uint64_t) _mm512_reduce_add_epi64(c))

#include "kernel/distance_body.h"

#else
const KernelDistance *const DISTANCE_TABLE = NULL;
#endif

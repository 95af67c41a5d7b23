/*
 * distance_avx2.c
 *		Distances with AVX2, FMA, F16C and POPCNT (flags in the Makefile).
 */
#include "kernel/distance.h"

#define DISTANCE_TABLE kernel_distance_avx2
extern const KernelDistance *const DISTANCE_TABLE;

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__POPCNT__)

#include <immintrin.h>

#define LANES 8
typedef __m256 floats;

static inline floats
load_f32(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline void
store_f32(float *p, floats v)
{
	_mm256_storeu_ps(p, v);
}

static inline floats
load_f16(const kernel_half *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p));
}

static inline void
store_f16(kernel_half *p, floats v)
{
	_mm_storeu_si128((__m128i *) p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#define BIT_BYTES 8
typedef uint64_t bits;
typedef uint64_t counts;

#define count_bits(x) ((counts) __builtin_popcountll(x))
#define sum_counts(c) (c)

#include "kernel/distance_body.h"

#else
const KernelDistance *const DISTANCE_TABLE = NULL;
#endif

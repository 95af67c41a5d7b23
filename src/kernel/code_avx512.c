/*
 * code_avx512.c
 *		Code kernels with AVX-512 and its population count (flags in the Makefile).
 */
#include "kernel/code.h"

#define CODE_TABLE kernel_code_avx512
extern const KernelCode *const CODE_TABLE;

#if defined(__AVX512VL__) && defined(__AVX512VNNI__) && defined(__AVX512VPOPCNTDQ__)

#include "kernel/code_eight.h"

#define count_bits(x) __builtin_popcountll(x)

typedef __m256i words16;
typedef __m256i ints;

static inline words16
load_i16(const int16_t *p)
{
	return _mm256_loadu_si256((const __m256i *) p);
}

static inline words16
load_i8(const int8_t *p)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *) p));
}

static inline ints
add_products(ints sum, words16 a, words16 b)
{
	return _mm256_dpwssd_epi32(sum, a, b);
}

static inline int32_t
sum_ints(ints sum)
{
	__m128i		half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));

	half = _mm_add_epi32(half, _mm_shuffle_epi32(half, _MM_SHUFFLE(1, 0, 3, 2)));
	half = _mm_add_epi32(half, _mm_shuffle_epi32(half, _MM_SHUFFLE(2, 3, 0, 1)));
	return _mm_cvtsi128_si32(half);
}

typedef __m256i counts;

static inline counts
add_bits(counts sum, const uint64_t *a, uint64_t b)
{
	__m256i		x = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *) a),
									 _mm256_set1_epi64x((long long) b));

	return _mm256_add_epi64(sum, _mm256_popcnt_epi64(x));
}

static inline uint32_t
weigh(counts sum)
{
	__m256i		weighed = _mm256_sllv_epi64(sum, _mm256_setr_epi64x(0, 1, 2, 3));
	__m128i		half = _mm_add_epi64(_mm256_castsi256_si128(weighed), _mm256_extracti128_si256(weighed, 1));

	return (uint32_t) (_mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1));
}

#include "kernel/code_body.h"

#else
const KernelCode *const CODE_TABLE = NULL;
#endif

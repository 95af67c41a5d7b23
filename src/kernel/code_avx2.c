/*
 * code_avx2.c
 *		Code kernels with AVX2, FMA and POPCNT (flags in the Makefile).
 */
#include "kernel/code.h"

#define CODE_TABLE kernel_code_avx2
extern const KernelCode *const CODE_TABLE;

#if defined(__AVX2__) && defined(__FMA__) && defined(__POPCNT__)

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
	return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
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

/* Bits are counted four at a time by a table of 16 entries; each byte has a count of its own. */
static inline counts
add_bits(counts sum, const uint64_t *a, uint64_t b)
{
	const __m256i bits = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
										  0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
	const __m256i four = _mm256_set1_epi8(0x0f);
	__m256i		x = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *) a),
									 _mm256_set1_epi64x((long long) b));
	__m256i		low = _mm256_shuffle_epi8(bits, _mm256_and_si256(x, four));
	__m256i		high = _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16(x, 4), four));

	return _mm256_add_epi8(sum, _mm256_add_epi8(low, high));
}

static inline uint32_t
weigh(counts sum)
{
	__m256i		words = _mm256_sad_epu8(sum, _mm256_setzero_si256());
	__m256i		weighed = _mm256_sllv_epi64(words, _mm256_setr_epi64x(0, 1, 2, 3));
	__m128i		half = _mm_add_epi64(_mm256_castsi256_si128(weighed), _mm256_extracti128_si256(weighed, 1));

	return (uint32_t) (_mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1));
}

#include "kernel/code_body.h"

#else
const KernelCode *const CODE_TABLE = NULL;
#endif

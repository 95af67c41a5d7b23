/*
 * avx512_plain.h
 *		The AVX-512 instructions that the kernels name, made of AVX2 ones.
 *
 * Included first (-include) where the unit tests compile the AVX-512 level
 * for a processor without it: loops, lanes, tails and sums are then run,
 * though not by the instructions themselves.  What an instruction does is
 * written after Intel's description of it.  A level that names another
 * instruction does not compile here until it is added.
 */
#ifndef AVX512_PLAIN_H
#define AVX512_PLAIN_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* Only after the compiler's own header, which would take them for flags of the target. */
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512VL__ 1
#define __AVX512DQ__ 1
#define __AVX512VNNI__ 1
#define __AVX512VPOPCNTDQ__ 1

static inline __m512
plain_loadu_ps(const void *p)
{
	__m512		v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void
plain_storeu_ps(void *p, __m512 v)
{
	memcpy(p, &v, sizeof(v));
}

static inline __m512
plain_cvtph_ps(__m256i halves)
{
	__m256		part[2] = {
		_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
		_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))
	};

	return plain_loadu_ps(part);
}

static inline __m256i
plain_cvtps_ph(__m512 v)
{
	__m256		part[2];

	memcpy(part, &v, sizeof(part));
	return _mm256_set_m128i(_mm256_cvtps_ph(part[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
							_mm256_cvtps_ph(part[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline __m512i
plain_popcnt_512(__m512i v)
{
	uint64_t	word[8];

	memcpy(word, &v, sizeof(word));
	for (int i = 0; i < 8; i++)
		word[i] = (uint64_t) __builtin_popcountll(word[i]);
	memcpy(&v, word, sizeof(word));
	return v;
}

static inline long long
plain_reduce_add(__m512i v)
{
	uint64_t	word[8];
	uint64_t	sum = 0;

	memcpy(word, &v, sizeof(word));
	for (int i = 0; i < 8; i++)
		sum += word[i];
	return (long long) sum;
}

static inline __m256i
plain_popcnt_256(__m256i v)
{
	uint64_t	word[4];

	memcpy(word, &v, sizeof(word));
	for (int i = 0; i < 4; i++)
		word[i] = (uint64_t) __builtin_popcountll(word[i]);
	memcpy(&v, word, sizeof(word));
	return v;
}

/* Products of neighbouring 16-bit numbers are added up in pairs, then to the sum, without saturation. */
static inline __m256i
plain_dpwssd(__m256i sum, __m256i a, __m256i b)
{
	return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* Some of them are macros already. */
#undef _mm512_loadu_ps
#undef _mm512_storeu_ps
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#undef _mm512_popcnt_epi64
#undef _mm512_reduce_add_epi64
#undef _mm256_popcnt_epi64
#undef _mm256_dpwssd_epi32

#define _mm512_loadu_ps(p) plain_loadu_ps(p)
#define _mm512_storeu_ps(p, v) plain_storeu_ps((p), (v))
#define _mm512_cvtph_ps(halves) plain_cvtph_ps(halves)
#define _mm512_cvtps_ph(v, rounding) \
	((void) sizeof(char[(rounding) == (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) ? 1 : -1]), \
	 plain_cvtps_ph(v))
#define _mm512_popcnt_epi64(v) plain_popcnt_512(v)
#define _mm512_reduce_add_epi64(v) plain_reduce_add(v)
#define _mm256_popcnt_epi64(v) plain_popcnt_256(v)
#define _mm256_dpwssd_epi32(sum, a, b) plain_dpwssd((sum), (a), (b))

#endif							/* AVX512_PLAIN_H */

/*
 * code_neon.c
 *		Code kernels on aarch64, where NEON is always there.
 */
#include "kernel/code.h"

#define CODE_TABLE kernel_code_neon
extern const KernelCode *const CODE_TABLE;

#if defined(__aarch64__)

#include <arm_neon.h>

#define count_bits(x) __builtin_popcountll(x)

typedef int16x8x2_t words16;
typedef int32x4_t ints;

static inline words16
load_i16(const int16_t *p)
{
	words16		v = {{vld1q_s16(p), vld1q_s16(p + 8)}};

	return v;
}

static inline words16
load_i8(const int8_t *p)
{
	int8x16_t	bytes = vld1q_s8(p);
	words16		v = {{vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes))}};

	return v;
}

static inline ints
add_products(ints sum, words16 a, words16 b)
{
	for (int i = 0; i < 2; i++)
	{
		sum = vmlal_s16(sum, vget_low_s16(a.val[i]), vget_low_s16(b.val[i]));
		sum = vmlal_s16(sum, vget_high_s16(a.val[i]), vget_high_s16(b.val[i]));
	}
	return sum;
}

#define sum_ints(sum) vaddvq_s32(sum)

typedef uint8x16x2_t counts;

static inline counts
add_bits(counts sum, const uint64_t *a, uint64_t b)
{
	for (int i = 0; i < 2; i++)
	{
		uint64x2_t	x = veorq_u64(vld1q_u64(a + 2 * i), vdupq_n_u64(b));

		sum.val[i] = vaddq_u8(sum.val[i], vcntq_u8(vreinterpretq_u8_u64(x)));
	}
	return sum;
}

static inline uint32_t
weigh(counts sum)
{
	uint32_t	result = 0;

	for (int i = 0; i < 2; i++)
	{
		uint64x2_t	words = vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(sum.val[i])));

		result += (uint32_t) (vgetq_lane_u64(words, 0) + 2 * vgetq_lane_u64(words, 1)) << (2 * i);
	}
	return result;
}

#include "kernel/code_body.h"

#else
const KernelCode *const CODE_TABLE = NULL;
#endif

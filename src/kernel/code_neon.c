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

#include "kernel/code_body.h"

#else
const KernelCode *const CODE_TABLE = NULL;
#endif

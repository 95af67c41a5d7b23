/*
 * distance_neon.c
 *		Distances on aarch64, where NEON and conversion from and to half are always present.
 */
#include "kernel/distance.h"

#define DISTANCE_TABLE kernel_distance_neon
extern const KernelDistance *const DISTANCE_TABLE;

#if defined(__aarch64__)

#include <arm_neon.h>

#define LANES 4
typedef float32x4_t floats;

static inline floats
load_f32(const float *p)
{
	return vld1q_f32(p);
}

static inline void
store_f32(float *p, floats v)
{
	vst1q_f32(p, v);
}

static inline floats
load_f16(const kernel_half *p)
{
	return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline void
store_f16(kernel_half *p, floats v)
{
	vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}

#define BIT_BYTES 16
typedef uint8x16_t bits;
typedef uint64x2_t counts;

static inline counts
count_bits(bits x)
{
	return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(vcntq_u8(x))));
}

#define sum_counts(c) vaddvq_u64(c)

#include "kernel/distance_body.h"

#else
const KernelDistance *const DISTANCE_TABLE = NULL;
#endif

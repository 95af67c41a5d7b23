/*
 * distance_scalar.c
 *		Distances in portable code: vectors of four floats, which the
 *		compiler turns into whatever its target has, and bits by words.
 */
#include "kernel/distance.h"

#define LANES 4
typedef float floats __attribute__((vector_size(LANES * sizeof(float))));

static inline floats
load_f32(const float *p)
{
	floats		v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void
store_f32(float *p, floats v)
{
	memcpy(p, &v, sizeof(v));
}

static inline floats
load_f16(const kernel_half *p)
{
	floats		v = {
		kernel_half_to_float(p[0]), kernel_half_to_float(p[1]),
		kernel_half_to_float(p[2]), kernel_half_to_float(p[3])
	};

	return v;
}

static inline void
store_f16(kernel_half *p, floats v)
{
	for (int i = 0; i < LANES; i++)
		p[i] = kernel_float_to_half(v[i]);
}

#define BIT_BYTES 8
typedef uint64_t bits;
typedef uint64_t counts;

/* Sums of 1, 2, 4 bits side by side, then all bytes added up by a multiplication. */
static inline counts
count_bits(bits x)
{
	x -= x >> 1 & UINT64_C(0x5555555555555555);
	x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
	x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return x * UINT64_C(0x0101010101010101) >> 56;
}

#define sum_counts(c) (c)

#define DISTANCE_TABLE kernel_distance_scalar
extern const KernelDistance *const DISTANCE_TABLE;
#include "kernel/distance_body.h"

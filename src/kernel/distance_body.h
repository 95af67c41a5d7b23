/*
 * distance_body.h
 *		The one body of the distance kernels, included by one file per level.
 *
 * The including file defines
 *
 *	LANES, floats		a vector type of LANES floats
 *	load_f32, load_f16	LANES elements from an unaligned address
 *	store_f32			LANES elements to an unaligned address
 *	store_f16			the same, rounded to half
 *	BIT_BYTES, bits		a type of BIT_BYTES bytes with the operators ^ & |
 *	counts				an accumulator for population counts
 *	count_bits(x)		the population count of x, as counts
 *	sum_counts(c)		the sum of an accumulator
 *	DISTANCE_TABLE		the name of the table to export
 *
 * Four independent accumulators hide the latency of the additions; that is
 * also why the compiler cannot be left to vectorise a plain loop, as it must
 * not reorder float additions by itself.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernel/distance.h"

static inline float
sum_floats(floats v)
{
	float		lane[LANES];
	float		sum = 0;

	memcpy(lane, &v, sizeof(lane));
	for (int step = LANES / 2; step > 0; step /= 2)
		for (int i = 0; i < step; i++)
			lane[i] += lane[i + step];
	sum = lane[0];
	return sum;
}

static inline floats
absolute(floats v)
{
	typedef int32_t ints __attribute__((vector_size(sizeof(floats))));

	return (floats) ((ints) v & 0x7fffffff);
}

#define ELEMENT float
#define NAME(function) function##_f32
#define LOAD(p) load_f32(p)
#define ONE(x) (x)
#include "kernel/distance_loops.h"

#define ELEMENT kernel_half
#define NAME(function) function##_f16
#define LOAD(p) load_f16(p)
#define ONE(x) kernel_half_to_float(x)
#include "kernel/distance_loops.h"

#include "kernel/distance_tile.h"

/* Sums side by side do not depend on each other: the compiler vectorises the inner loop. */
static double
squares_f32(const float *x, size_t n)
{
	enum {SUMS = 16};
	double		sum[SUMS];
	size_t		i = 0;

	for (int k = 0; k < SUMS; k++)
		sum[k] = 0;
	for (; i + SUMS <= n; i += SUMS)
		for (int k = 0; k < SUMS; k++)
			sum[k] += (double) x[i + k] * (double) x[i + k];
	for (int k = 0; i < n; i++, k++)
		sum[k] += (double) x[i] * (double) x[i];
	for (int step = SUMS / 2; step > 0; step /= 2)
		for (int k = 0; k < step; k++)
			sum[k] += sum[k + step];
	return sum[0];
}

static inline bits
load_bits(const uint8_t *p)
{
	bits		v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The last bytes, filled up with zeros. */
static inline bits
load_last_bits(const uint8_t *p, size_t bytes)
{
	uint8_t		buffer[BIT_BYTES] = {0};

	memcpy(buffer, p, bytes);
	return load_bits(buffer);
}

static uint64_t
hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
	counts		sum0 = {0},
				sum1 = {0};
	size_t		i = 0;

	for (; i + 2 * BIT_BYTES <= bytes; i += 2 * BIT_BYTES)
	{
		sum0 += count_bits(load_bits(a + i) ^ load_bits(b + i));
		sum1 += count_bits(load_bits(a + i + BIT_BYTES) ^ load_bits(b + i + BIT_BYTES));
	}
	for (; i + BIT_BYTES <= bytes; i += BIT_BYTES)
		sum0 += count_bits(load_bits(a + i) ^ load_bits(b + i));
	if (i < bytes)
		sum1 += count_bits(load_last_bits(a + i, bytes - i) ^ load_last_bits(b + i, bytes - i));
	return sum_counts(sum0 + sum1);
}

static KernelOverlap
overlap(const uint8_t *a, const uint8_t *b, size_t bytes)
{
	counts		both = {0},
				either = {0};
	size_t		i = 0;
	KernelOverlap result;

	for (; i + BIT_BYTES <= bytes; i += BIT_BYTES)
	{
		bits		x = load_bits(a + i);
		bits		y = load_bits(b + i);

		both += count_bits(x & y);
		either += count_bits(x | y);
	}
	if (i < bytes)
	{
		bits		x = load_last_bits(a + i, bytes - i);
		bits		y = load_last_bits(b + i, bytes - i);

		both += count_bits(x & y);
		either += count_bits(x | y);
	}
	result.both = sum_counts(both);
	result.either = sum_counts(either);
	return result;
}

static void
widen(const kernel_half *from, float *to, size_t n)
{
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		store_f32(to + i, load_f16(from + i));
	for (; i < n; i++)
		to[i] = kernel_half_to_float(from[i]);
}

static void
narrow(const float *from, kernel_half *to, size_t n)
{
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		store_f16(to + i, load_f32(from + i));
	for (; i < n; i++)
		to[i] = kernel_float_to_half(from[i]);
}

/* No sum depends on another here: the compiler vectorises the plain loop. */
static void
accumulate(const float *x, double *sums, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sums[i] += x[i];
}

static const KernelDistance functions = {
	.l2_squared_f32 = l2_squared_f32,
	.dot_f32 = dot_f32,
	.l1_f32 = l1_f32,
	.cosine_f32 = cosine_f32,
	.l2_squared_f16 = l2_squared_f16,
	.dot_f16 = dot_f16,
	.l1_f16 = l1_f16,
	.cosine_f16 = cosine_f16,
	.squares_f32 = squares_f32,
	.dot_tile = dot_tile,
	.l2_squared_tile = l2_squared_tile,
	.hamming = hamming,
	.overlap = overlap,
	.widen = widen,
	.narrow = narrow,
	.accumulate = accumulate,
};

const KernelDistance *const DISTANCE_TABLE = &functions;

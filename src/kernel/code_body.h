/*
 * code_body.h
 *		The one body of the code kernels, included by one file per level.
 *
 * Float sums are spread over an array of accumulators, so that the compiler
 * can vectorise the loops.  The including file defines
 *
 *	CODE_TABLE				the name of the table to export
 *	count_bits(x)			the population count of a 64-bit word
 *	words16					CODE_ALIGN 16-bit integers
 *	ints					an accumulator of 32-bit integers
 *	load_i16, load_i8		CODE_ALIGN elements from an unaligned address, as words16
 *	add_products(sum, a, b)	sum plus the products of two words16
 *	sum_ints(sum)			the sum of an accumulator
 *	counts					a count for each of CODE_QUERY_PLANES planes, of COUNT_WORDS words at most
 *	add_bits(sum, a, b)		sum plus the counts of bits set in each word of a, exclusive-or b
 *	weigh(sum)				the sum of counts, each weighing twice as much as the one before
 *	HADAMARD_EIGHT			when it brings a function hadamard_eight of its own
 */
#include <math.h>
#include <string.h>

#include "kernel/code.h"

#define FLOAT_SUMS 16

/* As many words can be counted byte by byte, eight bits each time. */
#define COUNT_WORDS 31

static int32_t
dot_i16_i8(const int16_t *q, const int8_t *code, size_t n)
{
	ints		sum0 = {0},
				sum1 = {0};
	size_t		i = 0;

	for (; i + 2 * CODE_ALIGN <= n; i += 2 * CODE_ALIGN)
	{
		sum0 = add_products(sum0, load_i16(q + i), load_i8(code + i));
		sum1 = add_products(sum1, load_i16(q + i + CODE_ALIGN), load_i8(code + i + CODE_ALIGN));
	}
	if (i < n)
		sum0 = add_products(sum0, load_i16(q + i), load_i8(code + i));
	return sum_ints(sum0) + sum_ints(sum1);
}

static int32_t
dot_i8_i8(const int8_t *a, const int8_t *b, size_t n)
{
	ints		sum0 = {0},
				sum1 = {0};
	size_t		i = 0;

	for (; i + 2 * CODE_ALIGN <= n; i += 2 * CODE_ALIGN)
	{
		sum0 = add_products(sum0, load_i8(a + i), load_i8(b + i));
		sum1 = add_products(sum1, load_i8(a + i + CODE_ALIGN), load_i8(b + i + CODE_ALIGN));
	}
	if (i < n)
		sum0 = add_products(sum0, load_i8(a + i), load_i8(b + i));
	return sum_ints(sum0) + sum_ints(sum1);
}

static uint64_t
xor_planes(const uint64_t *a, size_t planes_a, const uint64_t *b, size_t planes_b, size_t words)
{
	uint64_t	sum = 0;

	for (size_t w = 0; w < words; w++)
	{
		for (size_t j = 0; j < planes_a; j++)
			for (size_t k = 0; k < planes_b; k++)
				sum += (uint64_t) count_bits(a[j] ^ b[k]) << (j + k);
		a += planes_a;
		b += planes_b;
	}
	return sum;
}

static uint32_t
xor_query(const uint64_t *a, const uint64_t *b, size_t words)
{
	uint32_t	sum[CODE_QUERY_PLANES] = {0};

	for (size_t w = 0; w < words; w++)
		for (size_t j = 0; j < CODE_QUERY_PLANES; j++)
			sum[j] += (uint32_t) count_bits(a[w * CODE_QUERY_PLANES + j] ^ b[w]);
	return sum[0] + 2 * sum[1] + 4 * sum[2] + 8 * sum[3];
}

/* With a number of words that the compiler knows, all of "a" stays in registers. */
static inline __attribute__((always_inline)) void
xor_rows_of(const uint64_t *a, const uint8_t *const *rows, size_t n, size_t words, uint32_t *sums)
{
	for (size_t i = 0; i < n; i++)
	{
		const uint64_t *b = (const uint64_t *) rows[i];
		uint32_t	result = 0;

		for (size_t start = 0; start < words; start += COUNT_WORDS)
		{
			size_t		end = words - start > COUNT_WORDS ? start + COUNT_WORDS : words;
			counts		sum = {0};

			for (size_t w = start; w < end; w++)
				sum = add_bits(sum, a + w * CODE_QUERY_PLANES, b[w]);
			result += weigh(sum);
		}
		sums[i] = result;
	}
}

/* Counting all planes at once pays where what it needs is set up for many rows. */
static void
xor_rows(const uint64_t *a, const uint8_t *const *rows, size_t n, size_t words, uint32_t *sums)
{
	switch (words)
	{
		case 384 / 64:
			xor_rows_of(a, rows, n, 384 / 64, sums);
			break;
		case 768 / 64:
			xor_rows_of(a, rows, n, 768 / 64, sums);
			break;
		default:
			xor_rows_of(a, rows, n, words, sums);
	}
}

static inline __attribute__((always_inline)) void
xor_signs_of(const uint64_t *a, const uint8_t *const *rows, size_t n, size_t words, uint32_t *sums)
{
	for (size_t i = 0; i < n; i++)
	{
		const uint64_t *b = (const uint64_t *) rows[i];
		uint32_t	sum = 0;

		for (size_t w = 0; w < words; w++)
			sum += (uint32_t) count_bits(a[w * CODE_QUERY_PLANES + CODE_QUERY_PLANES - 1] ^ b[w]);
		sums[i] = sum;
	}
}

static void
xor_signs(const uint64_t *a, const uint8_t *const *rows, size_t n, size_t words, uint32_t *sums)
{
	if (words == 384 / 64)
		xor_signs_of(a, rows, n, 384 / 64, sums);
	else
		xor_signs_of(a, rows, n, words, sums);
}

static float
l1_f32_u8(const float *q, const uint8_t *code, float low, float step, size_t n)
{
	float		sum[FLOAT_SUMS] = {0};
	float		result = 0;

	for (size_t i = 0; i + FLOAT_SUMS <= n; i += FLOAT_SUMS)
		for (size_t j = 0; j < FLOAT_SUMS; j++)
			sum[j] += fabsf(q[i + j] - (low + step * (float) code[i + j]));
	for (size_t i = n - n % FLOAT_SUMS; i < n; i++)
		result += fabsf(q[i] - (low + step * (float) code[i]));
	for (size_t j = 0; j < FLOAT_SUMS; j++)
		result += sum[j];
	return result;
}

#ifndef HADAMARD_EIGHT
/* Three strides, 1, 2 and 4, of eight values. */
static inline void
hadamard_eight(float *x, float scale)
{
	float		y[8];

	for (size_t j = 0; j < 8; j++)
		y[j] = x[j] * scale;
	for (size_t stride = 1; stride < 8; stride *= 2)
	{
		float		z[8];

		for (size_t j = 0; j < 8; j++)
			z[j] = (j & stride) ? y[j ^ stride] - y[j] : y[j] + y[j ^ stride];
		for (size_t j = 0; j < 8; j++)
			y[j] = z[j];
	}
	for (size_t j = 0; j < 8; j++)
		x[j] = y[j];
}
#endif

/* One stride: sums and differences of the first and the second half of every 2 * stride values. */
static inline void
hadamard_stride(float *x, size_t n, size_t stride)
{
	for (size_t i = 0; i < n; i += 2 * stride)
	{
		float	   *restrict a = x + i;
		float	   *restrict b = a + stride;

		for (size_t j = 0; j < stride; j++)
		{
			float		sum = a[j] + b[j];
			float		difference = a[j] - b[j];

			a[j] = sum;
			b[j] = difference;
		}
	}
}

/* A stride and its double in one pass. */
static inline void
hadamard_two_strides(float *x, size_t n, size_t stride)
{
	for (size_t i = 0; i < n; i += 4 * stride)
	{
		float	   *restrict a = x + i;
		float	   *restrict b = a + stride;
		float	   *restrict c = b + stride;
		float	   *restrict d = c + stride;

		for (size_t j = 0; j < stride; j++)
		{
			float		ab = a[j] + b[j];
			float		a_b = a[j] - b[j];
			float		cd = c[j] + d[j];
			float		c_d = c[j] - d[j];

			a[j] = ab + cd;
			b[j] = a_b + c_d;
			c[j] = ab - cd;
			d[j] = a_b - c_d;
		}
	}
}

/* The short strides are done on blocks of eight values, which the compiler keeps in registers. */
static void
hadamard(float *x, size_t n)
{
	float		scale = 1 / sqrtf((float) n);
	size_t		stride = 1;

	if (n >= 8)
	{
		for (size_t i = 0; i < n; i += 8)
			hadamard_eight(x + i, scale);
		stride = 8;
	}
	else
		for (size_t i = 0; i < n; i++)
			x[i] *= scale;
	for (; 4 * stride <= n; stride *= 4)
		hadamard_two_strides(x, n, stride);
	if (2 * stride <= n)
		hadamard_stride(x, n, stride);
}

static double
norm_squared(const float *x, size_t n)
{
	double		sum[FLOAT_SUMS] = {0};
	double		result = 0;

	for (size_t i = 0; i + FLOAT_SUMS <= n; i += FLOAT_SUMS)
		for (size_t j = 0; j < FLOAT_SUMS; j++)
			sum[j] += (double) x[i + j] * (double) x[i + j];
	for (size_t i = n - n % FLOAT_SUMS; i < n; i++)
		result += (double) x[i] * (double) x[i];
	for (size_t j = 0; j < FLOAT_SUMS; j++)
		result += sum[j];
	return result;
}

static float
largest(const float *x, size_t n)
{
	float		most[FLOAT_SUMS] = {0};
	float		result = 0;

	for (size_t i = 0; i + FLOAT_SUMS <= n; i += FLOAT_SUMS)
		for (size_t j = 0; j < FLOAT_SUMS; j++)
			most[j] = fabsf(x[i + j]) > most[j] ? fabsf(x[i + j]) : most[j];
	for (size_t i = n - n % FLOAT_SUMS; i < n; i++)
		result = fabsf(x[i]) > result ? fabsf(x[i]) : result;
	for (size_t j = 0; j < FLOAT_SUMS; j++)
		result = most[j] > result ? most[j] : result;
	return result;
}

static void
scale(float *x, double factor, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = (float) (x[i] * factor);
}

static void
subtract(float *restrict x, const float *restrict y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] -= y[i];
}

static inline void
flip_some(float *x, uint32_t signs, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	bits;

		memcpy(&bits, x + i, sizeof(bits));
		bits ^= signs << (31 - i) & UINT32_C(0x80000000);
		memcpy(x + i, &bits, sizeof(bits));
	}
}

static void
flip(float *x, const uint32_t *signs, size_t n)
{
	size_t		i = 0;

	for (; i + 32 <= n; i += 32)
		flip_some(x + i, signs[i / 32], 32);
	if (i < n)
		flip_some(x + i, signs[i / 32], n - i);
}

static void
to_i8(const float *x, float factor, int8_t *code, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		float		v = x[i] * factor;

		code[i] = (int8_t) (int32_t) (v + copysignf(0.5f, v));
	}
}

static void
to_i16(const float *x, float factor, int16_t *code, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		float		v = x[i] * factor;

		code[i] = (int16_t) (int32_t) (v + copysignf(0.5f, v));
	}
}

static void
to_levels(const float *x, float factor, float shift, int top, uint8_t *levels, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		float		v = x[i] * factor + shift;

		v = v > 0 ? v : 0;
		v = v < (float) top ? v : (float) top;
		levels[i] = (uint8_t) (int32_t) v;
	}
}

static const KernelCode functions = {
	.dot_i16_i8 = dot_i16_i8,
	.dot_i8_i8 = dot_i8_i8,
	.xor_planes = xor_planes,
	.xor_query = xor_query,
	.xor_rows = xor_rows,
	.xor_signs = xor_signs,
	.l1_f32_u8 = l1_f32_u8,
	.norm_squared = norm_squared,
	.largest = largest,
	.scale = scale,
	.subtract = subtract,
	.flip = flip,
	.hadamard = hadamard,
	.to_i8 = to_i8,
	.to_i16 = to_i16,
	.to_levels = to_levels,
};

const KernelCode *const CODE_TABLE = &functions;

/*
 * code_test.c
 *		Every CPU level of the code kernels against plain loops.
 *
 * Whole numbers must agree exactly; the transforms to rounding.
 *
 * unit-objects: kernel
 * unit-cross: aarch64
 * unit-plain: avx512
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/code.h"

#include "random_bits.h"

#define MAX_LENGTH 4096

static int	test_number = 0;
static int	failed_tests = 0;
static int	failures = 0;

static float
random_float(void)
{
	return (float) (int64_t) (random_bits() >> 40) / (1 << 22) - 2;
}

static void
finish(const char *level, const char *what)
{
	printf("%s %d - %s: %s\n", failures == 0 ? "ok" : "not ok", ++test_number, level, what);
	failed_tests += failures != 0;
	failures = 0;
}

static void
test_products(const KernelCode *k, const char *level)
{
	/* One element more, so that addresses can be odd. */
	static int8_t a[MAX_LENGTH + 1],
				b[MAX_LENGTH + 1];
	static int16_t q[MAX_LENGTH + 1];

	for (int round = 0; round < 300; round++)
	{
		size_t		n = CODE_ALIGN * (random_bits() % (MAX_LENGTH / CODE_ALIGN + 1));
		size_t		shift = round % 2;
		int			extreme = round % 5 == 0;
		int64_t		words = 0,
					bytes = 0;

		for (size_t i = 0; i < MAX_LENGTH + 1; i++)
		{
			a[i] = extreme ? 127 : (int8_t) (random_bits() % 255 - 127);
			b[i] = extreme ? -127 : (int8_t) (random_bits() % 255 - 127);
			q[i] = extreme ? 2047 : (int16_t) (random_bits() % 4095 - 2047);
		}
		for (size_t i = 0; i < n; i++)
		{
			words += q[i + shift] * b[i + shift];
			bytes += a[i + shift] * b[i + shift];
		}
		failures += k->dot_i16_i8(q + shift, b + shift, n) != words;
		failures += k->dot_i8_i8(a + shift, b + shift, n) != bytes;
	}
	finish(level, "products of whole numbers");
}

static uint64_t
plain_planes(const uint64_t *a, size_t planes_a, const uint64_t *b, size_t planes_b, size_t words)
{
	uint64_t	sum = 0;

	for (size_t w = 0; w < words; w++)
		for (size_t j = 0; j < planes_a; j++)
			for (size_t k = 0; k < planes_b; k++)
				for (int bit = 0; bit < 64; bit++)
					sum += ((a[w * planes_a + j] ^ b[w * planes_b + k]) >> bit & 1) << (j + k);
	return sum;
}

static void
test_planes(const KernelCode *k, const char *level)
{
	static uint64_t a[64 * 8],
				b[64 * 8];
	const uint8_t *rows[7];
	uint32_t	sums[7];
	uint64_t	signs[64];

	for (int round = 0; round < 100; round++)
	{
		size_t		words = round % 4 == 0 ? 6 : round % 4 == 1 ? 12 : random_bits() % 65;
		size_t		planes_a = 1 + random_bits() % 8;
		size_t		planes_b = 1 + random_bits() % 4;

		for (int i = 0; i < 64 * 8; i++)
		{
			a[i] = random_bits();
			b[i] = round % 10 == 0 ? ~a[i] : random_bits();
		}
		failures += k->xor_planes(a, planes_a, b, planes_b, words) !=
			plain_planes(a, planes_a, b, planes_b, words);
		failures += k->xor_query(a, b, words) != plain_planes(a, CODE_QUERY_PLANES, b, 1, words);
		for (int i = 0; i < 7; i++)
			rows[i] = (const uint8_t *) (b + i * (words + 1));
		k->xor_rows(a, rows, 7, words, sums);
		for (int i = 0; i < 7; i++)
			failures += sums[i] != plain_planes(a, CODE_QUERY_PLANES, b + i * (words + 1), 1, words);
		k->xor_signs(a, rows, 7, words, sums);
		for (size_t w = 0; w < words; w++)
			signs[w] = a[w * CODE_QUERY_PLANES + CODE_QUERY_PLANES - 1];
		for (int i = 0; i < 7; i++)
			failures += sums[i] != plain_planes(signs, 1, b + i * (words + 1), 1, words);
	}
	finish(level, "bit planes");
}

static void
test_l1(const KernelCode *k, const char *level)
{
	static float q[MAX_LENGTH];
	static uint8_t code[MAX_LENGTH];

	for (int round = 0; round < 100; round++)
	{
		size_t		n = random_bits() % (MAX_LENGTH + 1);
		float		low = random_float(),
					step = 0.01f;
		double		sum = 0;

		for (size_t i = 0; i < n; i++)
		{
			q[i] = random_float();
			code[i] = (uint8_t) random_bits();
			sum += fabs((double) q[i] - (low + step * code[i]));
		}
		failures += fabs(k->l1_f32_u8(q, code, low, step, n) - sum) > 1e-4 * (1 + sum);
	}
	finish(level, "differences");
}

static void
test_transforms(const KernelCode *k, const char *level)
{
	static float x[MAX_LENGTH],
				y[MAX_LENGTH];
	static int8_t bytes[MAX_LENGTH];
	static int16_t words[MAX_LENGTH];

	for (size_t n = 1; n <= MAX_LENGTH; n *= 2)
	{
		double		length = 0,
					after = 0;

		for (size_t i = 0; i < n; i++)
		{
			x[i] = y[i] = random_float();
			length += (double) x[i] * x[i];
		}
		k->hadamard(y, n);
		for (size_t i = 0; i < n; i++)
			after += (double) y[i] * y[i];
		failures += fabs(after - length) > 1e-5 * length;

		/* The first value is the mean, times a root; and the transform undoes itself. */
		after = 0;
		for (size_t i = 0; i < n; i++)
			after += x[i];
		failures += fabs(after / sqrt((double) n) - y[0]) > 1e-3;
		k->hadamard(y, n);
		for (size_t i = 0; i < n; i++)
			failures += fabsf(y[i] - x[i]) > 1e-4f;

		k->to_i8(x, 127 / 2.1f, bytes, n);
		k->to_i16(x, 2047 / 2.1f, words, n);
		for (size_t i = 0; i < n; i++)
		{
			failures += fabsf(bytes[i] - x[i] * (127 / 2.1f)) > 0.501f;
			failures += fabsf(words[i] - x[i] * (2047 / 2.1f)) > 0.501f;
		}
	}
	finish(level, "Hadamard transform and rounding");
}

static void
test_preparation(const KernelCode *k, const char *level)
{
	static float x[MAX_LENGTH],
				y[MAX_LENGTH],
				z[MAX_LENGTH];
	static uint32_t signs[MAX_LENGTH / 32];
	static uint8_t levels[MAX_LENGTH + 1];

	for (int round = 0; round < 100; round++)
	{
		size_t		n = random_bits() % (MAX_LENGTH + 1);
		int			top = (1 << (1 + round % 4)) - 1;
		float		factor = round % 10 == 0 ? 1e30f : 1.5f;
		double		squares = 0;
		float		most = 0;

		for (size_t i = 0; i < n; i++)
		{
			x[i] = random_float();
			y[i] = random_float();
			squares += (double) x[i] * x[i];
			most = fmaxf(most, fabsf(x[i]));
		}
		for (size_t i = 0; i < MAX_LENGTH / 32; i++)
			signs[i] = (uint32_t) random_bits();
		failures += fabs(k->norm_squared(x, n) - squares) > 1e-12 * squares;
		failures += k->largest(x, n) != most;

		memcpy(z, x, sizeof(x));
		k->subtract(z, y, n);
		for (size_t i = 0; i < n; i++)
			failures += z[i] != x[i] - y[i];
		memcpy(z, x, sizeof(x));
		k->scale(z, 1 / 3.0, n);
		for (size_t i = 0; i < n; i++)
			failures += z[i] != (float) (x[i] * (1 / 3.0));
		memcpy(z, x, sizeof(x));
		k->flip(z, signs, n);
		for (size_t i = 0; i < MAX_LENGTH; i++)
			failures += z[i] != (i < n && (signs[i / 32] >> i % 32 & 1) != 0 ? -x[i] : x[i]);

		/* Nothing is written beyond the end, and what is no number becomes the lowest level. */
		if (n > 0)
			x[n - 1] = NAN;
		levels[n] = 99;
		k->to_levels(x, factor, 0.5f * (float) (top + 1), top, levels, n);
		failures += levels[n] != 99 || (n > 0 && levels[n - 1] != 0);
		for (size_t i = 0; i + 1 < n; i++)
		{
			double		v = (double) x[i] * factor + 0.5 * (top + 1);
			int			level = v <= 0 ? 0 : v >= top ? top : (int) v;

			/* Where rounding moves a value over the border between two levels, either will do. */
			failures += levels[i] != level && fabs(v - rint(v)) > 1e-5;
		}
		if (n > 0)
			x[n - 1] = 0;
	}
	finish(level, "preparation of vectors");
}

int
main(void)
{
	for (int level = 0; level < KERNEL_LEVELS; level++)
	{
		const KernelCode *k = kernel_code_level((KernelLevel) level);
		const char *name = kernel_level_name((KernelLevel) level);

		if (k == NULL)
		{
			printf("ok %d # SKIP level %s is not available here\n", ++test_number, name);
			continue;
		}
		test_products(k, name);
		test_planes(k, name);
		test_l1(k, name);
		test_transforms(k, name);
		test_preparation(k, name);
	}
	kernel_code_init();
	printf("%s %d - a level was chosen\n", kernel_code.dot_i8_i8 != NULL ? "ok" : "not ok", ++test_number);
	printf("1..%d\n", test_number);
	return failed_tests == 0 ? 0 : 1;
}

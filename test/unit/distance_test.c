/*
 * distance_test.c
 *		Every CPU level of the distance kernels against plain double-precision loops and the scalar level.
 *
 * Lengths around every unrolling step, unaligned arrays that end just at the
 * end of their memory, ordinary, subnormal, huge and mixed values.
 *
 * unit-objects: kernel
 * unit-cross: aarch64
 * unit-plain: avx512
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/distance.h"

#include "random_bits.h"

#define MAX_LENGTH 1100

static int	test_number = 0;
static int	failed_tests = 0;
static int	failures = 0;

static void
report(const char *level, const char *what)
{
	printf("%s %d - %s: %s\n", failures == 0 ? "ok" : "not ok", ++test_number, level, what);
	failed_tests += failures != 0;
	failures = 0;
}

static void
complain(const char *what, size_t n, double got, double expected)
{
	if (failures++ < 5)
		printf("# %s of length %zu: %.9g, expected %.9g\n", what, n, got, expected);
}

/* Is a float sum of n terms, whose absolute values sum to "mass", as near to the exact one as it must be? */
static void
near(const char *what, size_t n, float got, double expected, double mass)
{
	if (fabs(expected) > FLT_MAX && isinf(got) && (got > 0) == (expected > 0))
		return;
	if (isnan(got) || fabs(got - expected) > mass * (double) (n + 2) * FLT_EPSILON + (double) n * 1e-44)
		complain(what, n, got, expected);
}

typedef enum Kind
{
	ORDINARY, SUBNORMAL, HUGE_VALUES, MIXED, KINDS
} Kind;

static const char *const kind_names[] = {"ordinary values", "subnormal values", "huge values",
"mixed magnitudes"};

static float
random_float(Kind kind)
{
	double		x = (double) (int64_t) random_bits() * 0x1p-63;

	switch (kind)
	{
		case SUBNORMAL:
			return (float) (x * 0x1p-130);
		case HUGE_VALUES:
			return (float) (x * 0x1p126);
		case MIXED:
			return random_bits() % 4 == 0 ? 0.0f : (float) ldexp(x, (int) (random_bits() % 60) - 30);
		default:
			return (float) x;
	}
}

static kernel_half
random_half(Kind kind)
{
	double		x = (double) (int64_t) random_bits() * 0x1p-63;

	switch (kind)
	{
		case SUBNORMAL:
			return kernel_float_to_half((float) (x * 0x1p-15));
		case HUGE_VALUES:
			return kernel_float_to_half((float) (x * 65504));
		case MIXED:
			return (kernel_half) (random_bits() & 0xbfff);
		default:
			return kernel_float_to_half((float) x);
	}
}

static void
check_sums(size_t n, const float *a, const float *b, const float sums[3], KernelCosine cosine)
{
	double		l2 = 0,
				dot = 0,
				l1 = 0,
				norm_a = 0,
				norm_b = 0,
				dot_mass = 0;

	for (size_t i = 0; i < n; i++)
	{
		double		x = a[i],
					y = b[i];

		l2 += (x - y) * (x - y);
		dot += x * y;
		dot_mass += fabs(x * y);
		l1 += fabs(x - y);
		norm_a += x * x;
		norm_b += y * y;
	}
	near("l2_squared", n, sums[0], l2, l2);
	if (dot_mass < FLT_MAX / 4)
		near("dot", n, sums[1], dot, dot_mass);
	near("l1", n, sums[2], l1, l1);
	if (dot_mass < FLT_MAX / 4)
		near("cosine: dot", n, cosine.dot, dot, dot_mass);
	near("cosine: norm_a", n, cosine.norm_a, norm_a, norm_a);
	near("cosine: norm_b", n, cosine.norm_b, norm_b, norm_b);
}

/* A sum in double precision: no float squared overflows, and none that is not zero vanishes. */
static void
check_squares(size_t n, const float *x, double got)
{
	long double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (long double) x[i] * x[i];
	if (!(fabsl(got - sum) <= sum * (n + 2) * DBL_EPSILON))
		complain("squares", n, got, (double) sum);
}

/* "count" elements of "size" bytes that start off any alignment and end at the end of their memory. */
static void *
unaligned(size_t count, size_t size, void **memory)
{
	*memory = malloc(count * size + size);
	return (char *) *memory + size;
}

static void
test_floats(const KernelDistance *k, const char *level, Kind kind)
{
	for (size_t n = 0; n < MAX_LENGTH; n += n < 140 ? 1 : 37)
	{
		void	   *memory_a,
				   *memory_b;
		float	   *a = unaligned(n, sizeof(float), &memory_a);
		float	   *b = unaligned(n, sizeof(float), &memory_b);
		float		sums[3];

		for (size_t i = 0; i < n; i++)
		{
			a[i] = random_float(kind);
			b[i] = random_float(kind);
		}
		sums[0] = k->l2_squared_f32(a, b, n);
		sums[1] = k->dot_f32(a, b, n);
		sums[2] = k->l1_f32(a, b, n);
		check_sums(n, a, b, sums, k->cosine_f32(a, b, n));
		check_squares(n, a, k->squares_f32(a, n));
		free(memory_a);
		free(memory_b);
	}
	report(level, kind_names[kind]);
}

/* Every pair of some rows and columns; what is beyond the result stays as it was. */
static void
test_tiles(const KernelDistance *k, const char *level)
{
	for (size_t n = 0; n < 300; n += n < 70 ? 1 : 29)
	{
		for (size_t rows = 0; rows <= 5; rows++)
		{
			size_t		columns = random_bits() % 10;
			void	   *memory_a,
					   *memory_b;
			float	   *a = unaligned(rows * n, sizeof(float), &memory_a);
			float	   *b = unaligned(columns * n, sizeof(float), &memory_b);
			float		dot[5 * 9 + 1];
			float		l2[5 * 9 + 1];

			for (size_t i = 0; i < rows * n; i++)
				a[i] = random_float(ORDINARY);
			for (size_t i = 0; i < columns * n; i++)
				b[i] = random_float(ORDINARY);
			dot[rows * columns] = l2[rows * columns] = 12345;
			k->dot_tile(a, rows, b, columns, n, dot);
			k->l2_squared_tile(a, rows, b, columns, n, l2);
			for (size_t r = 0; r < rows; r++)
			{
				for (size_t c = 0; c < columns; c++)
				{
					double		sum = 0,
								mass = 0,
								squares = 0;

					for (size_t i = 0; i < n; i++)
					{
						double		x = a[r * n + i],
									y = b[c * n + i];

						sum += x * y;
						mass += fabs(x * y);
						squares += (x - y) * (x - y);
					}
					near("dot_tile", n, dot[r * columns + c], sum, mass);
					near("l2_squared_tile", n, l2[r * columns + c], squares, squares);
				}
			}
			near("beyond dot_tile", n, dot[rows * columns], 12345, 0);
			near("beyond l2_squared_tile", n, l2[rows * columns], 12345, 0);
			free(memory_a);
			free(memory_b);
		}
	}
	report(level, "tiles");
}

static void
test_halves(const KernelDistance *k, const char *level, Kind kind)
{
	char		name[64];

	for (size_t n = 0; n < MAX_LENGTH; n += n < 140 ? 1 : 37)
	{
		void	   *memory_a,
				   *memory_b;
		kernel_half *a = unaligned(n, sizeof(kernel_half), &memory_a);
		kernel_half *b = unaligned(n, sizeof(kernel_half), &memory_b);
		float		wide_a[MAX_LENGTH],
					wide_b[MAX_LENGTH],
					sums[3];

		for (size_t i = 0; i < n; i++)
		{
			do
				a[i] = random_half(kind);
			while (!kernel_half_is_finite(a[i]));
			do
				b[i] = random_half(kind);
			while (!kernel_half_is_finite(b[i]));
			wide_a[i] = kernel_half_to_float(a[i]);
			wide_b[i] = kernel_half_to_float(b[i]);
		}
		sums[0] = k->l2_squared_f16(a, b, n);
		sums[1] = k->dot_f16(a, b, n);
		sums[2] = k->l1_f16(a, b, n);
		check_sums(n, wide_a, wide_b, sums, k->cosine_f16(a, b, n));
		free(memory_a);
		free(memory_b);
	}
	snprintf(name, sizeof(name), "halves, %s", kind_names[kind]);
	report(level, name);
}

static void
test_bits(const KernelDistance *k, const char *level)
{
	for (size_t n = 0; n < MAX_LENGTH; n += n < 140 ? 1 : 37)
	{
		void	   *memory_a,
				   *memory_b;
		uint8_t    *a = unaligned(n, 1, &memory_a);
		uint8_t    *b = unaligned(n, 1, &memory_b);
		uint64_t	differ = 0,
					both = 0,
					either = 0;
		KernelOverlap overlap;

		for (size_t i = 0; i < n; i++)
		{
			a[i] = random_bits() % 3 == 0 ? 0xff : (uint8_t) random_bits();
			b[i] = random_bits() % 3 == 0 ? 0xff : (uint8_t) random_bits();
			differ += __builtin_popcount(a[i] ^ b[i]);
			both += __builtin_popcount(a[i] & b[i]);
			either += __builtin_popcount(a[i] | b[i]);
		}
		if (k->hamming(a, b, n) != differ)
			complain("hamming", n, (double) k->hamming(a, b, n), (double) differ);
		overlap = k->overlap(a, b, n);
		if (overlap.both != both)
			complain("overlap: both", n, (double) overlap.both, (double) both);
		if (overlap.either != either)
			complain("overlap: either", n, (double) overlap.either, (double) either);
		free(memory_a);
		free(memory_b);
	}
	report(level, "bits");
}

/* Conversions give the same bits on all levels: every half, and floats around every rounding limit. */
static void
test_conversions(const KernelDistance *k, const char *level)
{
	enum
	{
		BLOCK = 67
	};
	kernel_half halves[BLOCK],
				back[BLOCK];
	float		floats[BLOCK];

	for (uint32_t h = 0; h < 0x10000; h += BLOCK)
	{
		for (uint32_t i = 0; i < BLOCK; i++)
			halves[i] = (kernel_half) ((h + i) & 0xffff);
		k->widen(halves, floats, BLOCK);
		k->narrow(floats, back, BLOCK);
		for (uint32_t i = 0; i < BLOCK; i++)
		{
			float		expected = kernel_half_to_float(halves[i]);
			int			nan = (halves[i] & 0x7fff) > 0x7c00;

			if (nan ? !isnan(floats[i]) : memcmp(&floats[i], &expected, sizeof(float)) != 0)
				complain("widen", halves[i], floats[i], expected);
			if (nan ? (back[i] & 0x7fff) <= 0x7c00 : back[i] != halves[i])
				complain("narrow of widened", halves[i], back[i], halves[i]);
		}
	}
	for (uint32_t bits = 0; bits < 0x7f800000; bits += 0x0fff)
	{
		for (uint32_t i = 0; i < BLOCK; i++)
		{
			uint32_t	near_bits = (bits + (i % 3) - 1) | (i % 2) << 31;

			memcpy(&floats[i], &near_bits, sizeof(float));
		}
		k->narrow(floats, halves, BLOCK);
		for (uint32_t i = 0; i < BLOCK; i++)
			if (!isnan(floats[i]) && halves[i] != kernel_float_to_half(floats[i]))
				complain("narrow", bits, halves[i], kernel_float_to_half(floats[i]));
	}
	report(level, "conversions of halves");
}

static void
test_accumulate(const KernelDistance *k, const char *level)
{
	float		x[133];
	double		sums[133],
				expected[133];

	for (int n = 0; n <= 133; n++)
	{
		for (int i = 0; i < 133; i++)
		{
			x[i] = random_float((Kind) (i % KINDS));
			sums[i] = (double) random_float(ORDINARY);
			expected[i] = sums[i] + (i < n ? (double) x[i] : 0);
		}
		k->accumulate(x, sums, n);
		for (int i = 0; i < 133; i++)
			if (sums[i] != expected[i])
				complain("accumulate", n, sums[i], expected[i]);
	}
	report(level, "sums of columns");
}

/* The plain conversion against its definition: the nearest half, the even one of two. */
static void
test_half_rounding(void)
{
	for (uint32_t h = 0; h < 0x7c00; h++)
	{
		float		low = kernel_half_to_float((kernel_half) h);
		float		high = h == 0x7bff ? 65536.0f : kernel_half_to_float((kernel_half) (h + 1));
		float		middle = (low + high) / 2;
		kernel_half even = (kernel_half) (h % 2 == 0 ? h : h + 1);

		if (kernel_float_to_half(low) != h || kernel_float_to_half(-low) != (h | 0x8000))
			complain("float_to_half of a half", h, kernel_float_to_half(low), h);
		if (kernel_float_to_half(middle) != even)
			complain("float_to_half of a middle", h, kernel_float_to_half(middle), even);
		if (kernel_float_to_half(nextafterf(middle, 0)) != h)
			complain("float_to_half below a middle", h, kernel_float_to_half(nextafterf(middle, 0)), h);
		if (kernel_float_to_half(nextafterf(middle, INFINITY)) != h + 1)
			complain("float_to_half above a middle", h, kernel_float_to_half(nextafterf(middle, INFINITY)),
					 h + 1);
	}
	if (kernel_half_to_float(0x3555) != 0x1.554p-2f || kernel_half_to_float(1) != 0x1p-24f ||
		kernel_half_to_float(0x7bff) != 65504.0f || !isinf(kernel_half_to_float(0x7c00)))
		complain("known halves", 0, 0, 0);
	report("scalar", "rounding to half");
}

int
main(void)
{
	test_half_rounding();
	for (int level = KERNEL_SCALAR; level < KERNEL_LEVELS; level++)
	{
		const char *name = kernel_level_name((KernelLevel) level);
		const KernelDistance *k = kernel_distance_level((KernelLevel) level);

		if (k == NULL)
		{
			printf("ok %d # SKIP level %s is not available here\n", ++test_number, name);
			continue;
		}
		for (int kind = 0; kind < KINDS; kind++)
		{
			test_floats(k, name, (Kind) kind);
			test_halves(k, name, (Kind) kind);
		}
		test_bits(k, name);
		test_conversions(k, name);
		test_accumulate(k, name);
		test_tiles(k, name);
	}
	printf("1..%d\n", test_number);
	return failed_tests != 0;
}

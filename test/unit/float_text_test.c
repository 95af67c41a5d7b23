/*
 * float_text_test.c
 *		Text to float against strtof: fixed cases, then random ones.
 *
 *	float_text_test [NUMBERS]			NUMBERS random numbers per kind (default 100,000)
 *	float_text_test speed				compare the time per number with strtof's
 *
 * unit-objects: kernel
 * unit-cross: aarch64
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/float_text.h"

#include "random_bits.h"

static int	test_number = 0;
static long failures = 0;
static int	failed_tests = 0;

/* Does the parser agree with strtof about value, end and range?  Counts and shows where not. */
static void
compare(const char *text)
{
	char	   *rest;
	const char *ours_rest;
	float		expected,
				value = 0;
	bool		in_range = false,
				expected_in_range;

	errno = 0;
	expected = strtof(text, &rest);
	expected_in_range = errno != ERANGE;
	ours_rest = kernel_parse_float(text, text + strlen(text), &value, &in_range);
	if (ours_rest != rest ||
		(rest != text && (in_range != expected_in_range ||
						  (memcmp(&value, &expected, sizeof(value)) != 0 && !isnan(expected)))))
	{
		if (failures++ < 10)
			printf("# \"%s\": %a to \"%s\", strtof says %a to \"%s\"\n", text, value, ours_rest, expected,
				   rest);
	}
}

static void
report(const char *name)
{
	printf("%s %d - %s\n", failures == 0 ? "ok" : "not ok", ++test_number, name);
	failed_tests += failures != 0;
	failures = 0;
}

static void
fixed_cases(void)
{
	static const char *const cases[] = {
		"", "-", "+", ".", "-.", "e5", "1", "-1", "+1", "0", "-0", "00", "1.", ".5", "-.5", "1.5", "1e5",
		"1E5", "1e+5", "1e-5",
		"1e", "1e+", "1e-", "1ex", "1.e3", ".e3", "0x10", "0X1p3", "0x", "-0x1.8p1", "nan", "NAN(1)", "inf",
		"-Infinity", "infin",
		"1,2", "1]", "1 ", "1:2", "12345678", "123456789", "1234567812345678", "12345678123456789",
		"1234567890123456789",
		"12345678901234567890", "99999999999999999999999", "0.00000000000000000000000000000000000001",
		"0.00000000123456789", "00000000000000000000000000001.5", "16777217", "16777217.0000000001",
		"16777216.9999999999",
		"16777219", "33554434", "33554435", "33554438", "3.4028234663852886e38", "3.4028235e38",
		"3.4028235677973366e38",
		"3.4028235677973367e38", "3.5e38", "1e39", "1e400", "1e-400", "1e99999999999999999999",
		"1e-99999999999999999999",
		"0e99999999999999999999", "1.1754943508222875e-38", "1.17549435e-38", "1.1754942e-38", "1.4e-45",
		"7.0e-46",
		"7.00649232162408535461e-46", "7.00649232162408535462e-46", "1e-46", "1.00000017881393432617187499",
		"1.00000017881393432617187500", "1.00000017881393432617187501", "1..2", "1.2.3", "--1", "+-1",
		"9007199254740993",
		"0.000000059604644775390625", "5.960464477539063e-8", "1e22", "1e23", "8.5e37",
		"1.7014118346046923e38",
	};
	char	   *exact;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		/* A copy of just its length, so that a reader of too much is found by valgrind. */
		exact = strdup(cases[i]);
		compare(exact);
		free(exact);
	}
	report("fixed cases");
}

static float
random_float(void)
{
	uint32_t	bits = (uint32_t) random_bits();
	float		f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

int
main(int argc, char **argv)
{
	long		n = argc > 1 ? atol(argv[1]) : 100000;
	char		text[512];

	if (argc > 1 && strcmp(argv[1], "speed") == 0)
	{
		enum
		{
			COUNT = 4096, ROUNDS = 500
		};
		static char numbers[COUNT][32];
		const char *const formats[] = {"%.6f", "%.9g", "%.17g"};

		for (int f = 0; f < 3; f++)
		{
			double		seconds[2];
			float		sum[2] = {0, 0};

			for (int i = 0; i < COUNT; i++)
				snprintf(numbers[i], sizeof(numbers[i]), formats[f],
						 (double) (float) ((double) (int64_t) random_bits() * 0x1p-66));
			for (int ours = 0; ours < 2; ours++)
			{
				clock_t		start = clock();

				for (int round = 0; round < ROUNDS; round++)
					for (int i = 0; i < COUNT; i++)
					{
						float		value;
						bool		in_range;
						char	   *rest;

						if (ours)
							kernel_parse_float(numbers[i], numbers[i] + sizeof(numbers[i]) - 1, &value,
											   &in_range);
						else
							value = strtof(numbers[i], &rest);
						sum[ours] += value;
					}
				seconds[ours] = (double) (clock() - start) / CLOCKS_PER_SEC;
			}
			printf("%-6s strtof %5.1f ns, kernel_parse_float %5.1f ns, ratio %.1f%s\n", formats[f],
				   seconds[0] / COUNT / ROUNDS * 1e9, seconds[1] / COUNT / ROUNDS * 1e9,
				seconds[0] / seconds[1],
				   sum[0] == sum[1] ? "" : " (sums differ)");
		}
		return 0;
	}

	fixed_cases();

	for (long i = 0; i < n; i++)
	{
		static const char *const formats[] = {"%.9g", "%.6f", "%.17g", "%g", "%.12e", "%.25f", "%.50f"};
		float		f = random_float();

		if (isfinite(f))
		{
			snprintf(text, sizeof(text), formats[random_bits() % 7], (double) f);
			compare(text);
		}
	}
	report("floats of any magnitude");

	for (long i = 0; i < n; i++)
	{
		snprintf(text, sizeof(text), "%.*g", (int) (random_bits() % 18 + 1),
				 (double) (int64_t) random_bits() * 0x1p-64);
		compare(text);
	}
	report("numbers between -1 and 1 of 1 to 18 digits");

	for (long i = 0; i < n; i++)
	{
		float		f = random_float();
		double		middle = ((double) f + (double) nextafterf(f, INFINITY)) / 2;

		if (isfinite(middle))
		{
			/* half way between two floats, and the nearest doubles on either side */
			snprintf(text, sizeof(text), "%.*e", (int) (random_bits() % 60 + 10), middle);
			compare(text);
			snprintf(text, sizeof(text), "%.25e", nextafter(middle, INFINITY));
			compare(text);
			snprintf(text, sizeof(text), "%.25e", nextafter(middle, -INFINITY));
			compare(text);
		}
	}
	report("points half way between floats");

	for (long i = 0; i < n; i++)
	{
		snprintf(text, sizeof(text), "%s%llu%s%llue%d", random_bits() & 1 ? "-" : "",
				 (unsigned long long) (random_bits() >> (random_bits() % 64)),
				 random_bits() & 1 ? "." : "",
				 (unsigned long long) (random_bits() >> (random_bits() % 64)),
				(int) (random_bits() % 120) - 75);
		compare(text);
	}
	report("random digits, point and exponent");

	for (long i = 0; i < n; i++)
	{
		static const char alphabet[] = "0123456789+-.eE0123456789xXinfa,] ";
		int			length = (int) (random_bits() % 24);

		for (int k = 0; k < length; k++)
			text[k] = alphabet[random_bits() % (sizeof(alphabet) - 1)];
		text[length] = '\0';
		if (text[0] != ' ')
			compare(text);
	}
	report("random text");

	printf("1..%d\n", test_number);
	return failed_tests != 0;
}

/*
 * float_text.c
 *		Decimal text to float, exactly as strtof rounds it, several times faster.
 *
 * The digits are collected in a 64-bit integer w (19 of them; more change the
 * value by less than 1e-17 of it) and d = w * 10^e is computed in double
 * precision.  Three roundings happen: of w, of the power from the table, and
 * of the product; with the digits cut off, d is within 4 units in the last
 * place of the true value.  Rounding d to float therefore gives the float
 * nearest to the true value unless a point half way between two neighbouring
 * floats lies within that distance of d.  Such points have one and then
 * only zeros in the 29 bits that float lacks, so a look at these bits
 * tells; then, and outside the range of normal floats, strtof decides.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/float_text.h"

#define MIN_POWER (-64)
#define MAX_POWER 38

static const double power_of_ten[MAX_POWER - MIN_POWER + 1] = {
	1e-64, 1e-63, 1e-62, 1e-61, 1e-60, 1e-59, 1e-58, 1e-57, 1e-56, 1e-55, 1e-54, 1e-53, 1e-52,
	1e-51, 1e-50, 1e-49, 1e-48, 1e-47, 1e-46, 1e-45, 1e-44, 1e-43, 1e-42, 1e-41, 1e-40, 1e-39,
	1e-38, 1e-37, 1e-36, 1e-35, 1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26,
	1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13,
	1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3,
	1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
	1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36,
	1e37, 1e38
};

/* Bits of a double's fraction that a float does not have. */
#define EXTRA_BITS 29
#define HALF_WAY (INT64_C(1) << (EXTRA_BITS - 1))

/* Distance from half-way points, in units of the last place, at which d is trusted. */
#define SAFE_DISTANCE 16

/* Digits that always fit into 64 bits. */
#define MAX_DIGITS 19

/* A number whose further digits are cut off must have at least this many left. */
#define MIN_CUT UINT64_C(100000000000000000)

static inline bool
is_digit(char c)
{
	return (unsigned char) (c - '0') < 10;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define DIGITS_BY_EIGHT

/*
 * Flags (high bits) of the bytes that are no digits.  Only the lowest flag is
 * reliable: a byte that is no digit may carry into those above it.
 */
static inline uint64_t
not_digits(uint64_t bytes)
{
	return ((bytes + UINT64_C(0x4646464646464646)) | (bytes - UINT64_C(0x3030303030303030))) &
		UINT64_C(0x8080808080808080);
}

/* Values of eight digits, most significant lowest: joined to pairs, to fours, to one number. */
static inline uint64_t
join_digits(uint64_t values)
{
	values = values * 10 + (values >> 8);
	return ((values & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
			(values >> 16 & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >> 32;
}
#endif

/* Everything the fast path does not decide: syntax beyond plain decimals, ties, extremes. */
static const char *
parse_slowly(const char *text, float *value, bool *in_range)
{
	char	   *rest;
	int			saved_errno = errno;

	errno = 0;
	*value = strtof(text, &rest);
	*in_range = errno != ERANGE;
	errno = saved_errno;
	return rest;
}

/* The decimal number being read. */
typedef struct Decimal
{
	uint64_t	digits;
	int			used;			/* how many digits "digits" has, or more */
	int			power;			/* of ten, to multiply by */
	bool		cut;			/* were there more digits? */
} Decimal;

/*
 * Read digits up to the first other character.  Each digit moves the point
 * by "per_digit" (-1 behind it, 0 before), those that do not fit any more by
 * one more, as if they were zeros.
 */
static inline const char *
read_digits(const char *p, const char *end, Decimal *d, int per_digit)
{
#ifdef DIGITS_BY_EIGHT
	static const uint64_t scale[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};

	while (end - p >= 8)
	{
		uint64_t	bytes;
		uint64_t	others;

		memcpy(&bytes, p, sizeof(bytes));
		others = not_digits(bytes);
		bytes -= UINT64_C(0x3030303030303030);
		if (others != 0)
		{
			/* The last one to seven digits: move zeros in front of them. */
			int			n = __builtin_ctzll(others) / 8;

			if (d->used + n > MAX_DIGITS)
				break;
			if (n > 0)
			{
				d->digits = d->digits * scale[n] + join_digits(bytes << (64 - 8 * n));
				d->used += n;
				d->power += n * per_digit;
			}
			return p + n;
		}
		if (d->used + 8 > MAX_DIGITS)
			break;
		d->digits = d->digits * 100000000 + join_digits(bytes);
		d->used += d->digits != 0 ? 8 : 0;
		d->power += 8 * per_digit;
		p += 8;
	}
#endif
	for (; p < end && is_digit(*p); p++)
	{
		if (d->used < MAX_DIGITS)
		{
			d->digits = d->digits * 10 + (uint64_t) (*p - '0');
			d->used += d->digits != 0;
			d->power += per_digit;
		}
		else
		{
			d->power += per_digit + 1;
			d->cut = true;
		}
	}
	return p;
}

/* The exponent behind the digits; NULL when it is not a plain one. */
static inline const char *
read_exponent(const char *p, const char *end, Decimal *d)
{
	bool		negative = false;
	int			exponent = 0;

	if (p < end && (*p == '+' || *p == '-'))
		negative = *p++ == '-';
	if (p == end || !is_digit(*p))
		return NULL;
	for (; p < end && is_digit(*p); p++)
		if (exponent < 100000)
			exponent = exponent * 10 + (*p - '0');
	d->power += negative ? -exponent : exponent;
	return p;
}

const char *
kernel_parse_float(const char *text, const char *end, float *value, bool *in_range)
{
	const char *p = text;
	bool		negative = false;
	Decimal		decimal = {0};
	const char *whole;
	int			places = 0;
	double		d;
	int64_t		bits;

	/* No jump: the sign of an embedding's element cannot be predicted. */
	if (p < end)
	{
		negative = *p == '-';
		p += negative | (*p == '+');
	}

	whole = p;
	if (end - p >= 2 && is_digit(p[0]) && p[1] == '.')
	{
		/* one digit before the point: nearly every element of an embedding */
		decimal.digits = (uint64_t) (*p++ - '0');
		decimal.used = decimal.digits != 0;
	}
	else
		p = read_digits(p, end, &decimal, 0);
	places = p - whole;
	if (p < end && *p == '.')
	{
		whole = ++p;
		p = read_digits(p, end, &decimal, -1);
		places += p - whole;
	}
	if (places == 0)
		return parse_slowly(text, value, in_range);
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p = read_exponent(p + 1, end, &decimal);
		if (p == NULL)
			return parse_slowly(text, value, in_range);
	}
	else if (p < end && (*p == 'x' || *p == 'X'))
		return parse_slowly(text, value, in_range);

	if (decimal.digits == 0)
	{
		*value = negative ? -0.0f : 0.0f;
		*in_range = true;
		return p;
	}
	if (decimal.power < MIN_POWER || decimal.power > MAX_POWER || (decimal.cut && decimal.digits < MIN_CUT))
		return parse_slowly(text, value, in_range);

	d = (double) decimal.digits * power_of_ten[decimal.power - MIN_POWER];
	memcpy(&bits, &d, sizeof(bits));
	bits = (bits & ((INT64_C(1) << EXTRA_BITS) - 1)) - HALF_WAY;
	if ((bits <= SAFE_DISTANCE && bits >= -SAFE_DISTANCE) || d < 0x1p-125 || d > 0x1p127)
		return parse_slowly(text, value, in_range);

	*value = (float) d * (negative ? -1.0f : 1.0f);
	*in_range = true;
	return p;
}

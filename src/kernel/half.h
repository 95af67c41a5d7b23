/*
 * half.h
 *		IEEE 754 binary16, converted without help of the processor.
 *
 * Conversion to binary16 rounds to nearest, ties to even, and overflows to
 * infinity from 65520 on; the instructions of the wider levels do the same,
 * so a value does not depend on the machine that stored it.
 */
#ifndef KERNEL_HALF_H
#define KERNEL_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t kernel_half;

static inline float
kernel_half_to_float(kernel_half h)
{
	uint32_t	sign = (uint32_t) (h & 0x8000) << 16;
	uint32_t	bits = (uint32_t) (h & 0x7fff) << 13;
	float		f;

	/*
	 * Move exponent and fraction into place and correct the bias by a
	 * multiplication: it normalises subnormal values on the way.
	 */
	memcpy(&f, &bits, sizeof(f));
	f *= 0x1p112f;
	memcpy(&bits, &f, sizeof(f));
	if ((h & 0x7c00) == 0x7c00)
		bits |= 0x7f800000;
	bits |= sign;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline kernel_half
kernel_float_to_half(float f)
{
	uint32_t	bits;
	uint32_t	sign;

	memcpy(&bits, &f, sizeof(f));
	sign = bits >> 16 & 0x8000;
	bits &= 0x7fffffff;

	if (bits > 0x7f800000)
		return (kernel_half) (sign | 0x7e00);
	if (bits >= 0x477ff000)		/* 65520, half way beyond the largest value */
		return (kernel_half) (sign | 0x7c00);
	if (bits < 0x38800000)		/* below 2^-14: subnormal */
	{
		float		magnitude;

		/* In the binade of 0.5 a float's last place is 2^-24, that of subnormal halves. */
		memcpy(&magnitude, &bits, sizeof(magnitude));
		magnitude += 0.5f;
		memcpy(&bits, &magnitude, sizeof(bits));
		return (kernel_half) (sign | (bits - 0x3f000000));
	}
	/* Rebias, and add just under half of the last place, or half when the result would be odd. */
	bits += 0xc8000fff + (bits >> 13 & 1);
	return (kernel_half) (sign | bits >> 13);
}

static inline bool
kernel_half_is_finite(kernel_half h)
{
	return (h & 0x7c00) != 0x7c00;
}

#endif							/* KERNEL_HALF_H */

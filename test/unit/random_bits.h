/*
 * random_bits.h
 *		Random numbers (xorshift), the same in every run.
 */
#ifndef TEST_RANDOM_BITS_H
#define TEST_RANDOM_BITS_H

#include <stdint.h>

static uint64_t
random_bits(void)
{
	static uint64_t state = UINT64_C(0x2545f4914f6cdd1d);

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

#endif							/* TEST_RANDOM_BITS_H */

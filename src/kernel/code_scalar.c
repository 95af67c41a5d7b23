/*
 * code_scalar.c
 *		Code kernels in portable code.
 */
#include "kernel/code.h"

#define CODE_TABLE kernel_code_scalar
extern const KernelCode *const CODE_TABLE;

/* Sums of 1, 2, 4 bits side by side, then all bytes added up by a multiplication. */
static inline uint64_t
count_bits(uint64_t x)
{
	x -= x >> 1 & UINT64_C(0x5555555555555555);
	x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
	x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return x * UINT64_C(0x0101010101010101) >> 56;
}

typedef struct words16
{
	int16_t		v[CODE_ALIGN];
} words16;
typedef int32_t ints;

static inline words16
load_i16(const int16_t *p)
{
	words16		w;

	for (int i = 0; i < CODE_ALIGN; i++)
		w.v[i] = p[i];
	return w;
}

static inline words16
load_i8(const int8_t *p)
{
	words16		w;

	for (int i = 0; i < CODE_ALIGN; i++)
		w.v[i] = p[i];
	return w;
}

static inline ints
add_products(ints sum, words16 a, words16 b)
{
	for (int i = 0; i < CODE_ALIGN; i++)
		sum += (int32_t) a.v[i] * b.v[i];
	return sum;
}

#define sum_ints(sum) (sum)

typedef struct counts
{
	uint32_t	v[CODE_QUERY_PLANES];
} counts;

static inline counts
add_bits(counts sum, const uint64_t *a, uint64_t b)
{
	for (int i = 0; i < CODE_QUERY_PLANES; i++)
		sum.v[i] += (uint32_t) count_bits(a[i] ^ b);
	return sum;
}

static inline uint32_t
weigh(counts sum)
{
	uint32_t	result = 0;

	for (int i = 0; i < CODE_QUERY_PLANES; i++)
		result += sum.v[i] << i;
	return result;
}

#include "kernel/code_body.h"

/*
 * sparse.c
 *		Exact distances between sparse arrays of floats.
 *
 * Two ascending lists of indices are merged.  Which list is behind cannot be
 * predicted, so the steps are computed rather than branched on.
 */
#include "kernel/sparse.h"

#include <math.h>

float
kernel_sparse_dot(const KernelSparse *a, const KernelSparse *b)
{
	float		sum = 0;
	int			i = 0,
				j = 0;

	while (i < a->count && j < b->count)
	{
		int32_t		x = a->indices[i];
		int32_t		y = b->indices[j];

		/* Shared indices are rare: this jump is predicted well. */
		if (x == y)
			sum += a->values[i] * b->values[j];
		i += x <= y;
		j += y <= x;
	}
	return sum;
}

/*
 * The sum over all indices of a function of the difference there.  Inlined
 * with a constant "squared".
 */
static inline float
sum_differences(const KernelSparse *a, const KernelSparse *b, int squared)
{
	float		sum = 0;
	int			i = 0,
				j = 0;

	while (i < a->count && j < b->count)
	{
		int32_t		x = a->indices[i];
		int32_t		y = b->indices[j];
		float		d = (x <= y ? a->values[i] : 0.0f) - (y <= x ? b->values[j] : 0.0f);

		sum += squared ? d * d : fabsf(d);
		i += x <= y;
		j += y <= x;
	}
	for (; i < a->count; i++)
		sum += squared ? a->values[i] * a->values[i] : fabsf(a->values[i]);
	for (; j < b->count; j++)
		sum += squared ? b->values[j] * b->values[j] : fabsf(b->values[j]);
	return sum;
}

float
kernel_sparse_l2_squared(const KernelSparse *a, const KernelSparse *b)
{
	return sum_differences(a, b, 1);
}

float
kernel_sparse_l1(const KernelSparse *a, const KernelSparse *b)
{
	return sum_differences(a, b, 0);
}

/*
 * distance.c
 *		The table of distance functions in use.
 */
#include "kernel/distance.h"

extern const KernelDistance *const kernel_distance_scalar;
extern const KernelDistance *const kernel_distance_neon;
extern const KernelDistance *const kernel_distance_avx2;
extern const KernelDistance *const kernel_distance_avx512;

KernelDistance kernel_distance;

const KernelDistance *
kernel_distance_level(KernelLevel level)
{
	const KernelDistance *const tables[KERNEL_LEVELS] = {
		[KERNEL_SCALAR] = kernel_distance_scalar,
		[KERNEL_NEON] = kernel_distance_neon,
		[KERNEL_AVX2] = kernel_distance_avx2,
		[KERNEL_AVX512] = kernel_distance_avx512,
	};

	return kernel_level_usable(level) ? tables[level] : NULL;
}

/* Take the best level; called once, from _PG_init, before any distance is computed. */
void
kernel_distance_init(void)
{
	for (int level = KERNEL_SCALAR; level < KERNEL_LEVELS; level++)
	{
		const KernelDistance *table = kernel_distance_level((KernelLevel) level);

		if (table != NULL)
			kernel_distance = *table;
	}
}

/*
 * code.c
 *		Choice of the code kernels' level.
 */
#include "kernel/code.h"

extern const KernelCode *const kernel_code_scalar;
extern const KernelCode *const kernel_code_avx2;
extern const KernelCode *const kernel_code_avx512;
extern const KernelCode *const kernel_code_neon;

KernelCode	kernel_code;

const KernelCode *
kernel_code_level(KernelLevel level)
{
	if (!kernel_level_usable(level))
		return NULL;
	switch (level)
	{
		case KERNEL_SCALAR:
			return kernel_code_scalar;
		case KERNEL_NEON:
			return kernel_code_neon;
		case KERNEL_AVX2:
			return kernel_code_avx2;
		case KERNEL_AVX512:
			return kernel_code_avx512;
	}
	return NULL;
}

void
kernel_code_init(void)
{
	for (int level = 0; level < KERNEL_LEVELS; level++)
	{
		const KernelCode *functions = kernel_code_level((KernelLevel) level);

		if (functions != NULL)
			kernel_code = *functions;
	}
}

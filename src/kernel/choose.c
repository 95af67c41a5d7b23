/*
 * choose.c
 *		Which instruction sets this processor offers to the kernels.
 */
#include "kernel/choose.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* __builtin_cpu_supports knows this name only in newer compilers. */
static bool
has_f16c(void)
{
	unsigned int eax,
				ebx,
				ecx,
				edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & (1u << 29)) != 0;
}

/* The built-in also checks that the operating system saves the wide registers. */
static bool
has_avx2(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		__builtin_cpu_supports("popcnt") && has_f16c();
}

static bool
has_avx512(void)
{
	return has_avx2() &&
		__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

bool
kernel_level_usable(KernelLevel level)
{
	switch (level)
	{
		case KERNEL_SCALAR:
			return true;
		case KERNEL_NEON:
#if defined(__aarch64__)
			return true;
#else
			return false;
#endif
#if defined(__x86_64__)
		case KERNEL_AVX2:
			return has_avx2();
		case KERNEL_AVX512:
			return has_avx512();
#endif
		default:
			return false;
	}
}

const char *
kernel_level_name(KernelLevel level)
{
	static const char *const names[] = {"scalar", "neon", "avx2", "avx512"};

	return names[level];
}

/*
 * choose.h
 *		Which instruction sets this processor offers to the kernels.
 *
 * A kernel family (distance.h, and others) is compiled once per level.  The
 * family keeps one table of functions per level and fills its current table
 * once, at library load, with the best level that is usable here; no call
 * ever asks the processor again.
 */
#ifndef KERNEL_CHOOSE_H
#define KERNEL_CHOOSE_H

#include <stdbool.h>

/* In order of preference: the last usable one is the best. */
typedef enum KernelLevel
{
	KERNEL_SCALAR,				/* what the compiler makes of the plain code */
	KERNEL_NEON,				/* every aarch64 */
	KERNEL_AVX2,				/* AVX2, FMA, F16C, POPCNT */
	KERNEL_AVX512				/* F, BW, VL, DQ, VNNI, VPOPCNTDQ, and all of AVX2 */
} KernelLevel;

#define KERNEL_LEVELS (KERNEL_AVX512 + 1)

extern bool kernel_level_usable(KernelLevel level);
extern const char *kernel_level_name(KernelLevel level);

#endif							/* KERNEL_CHOOSE_H */

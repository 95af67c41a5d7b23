/*
 * sparse.h
 *		Exact distances between sparse arrays of floats.
 */
#ifndef KERNEL_SPARSE_H
#define KERNEL_SPARSE_H

#include <stdint.h>

/* The stored elements of a sparse vector; indices ascend strictly. */
typedef struct KernelSparse
{
	int			count;
	const int32_t *indices;
	const float *values;
} KernelSparse;

extern float kernel_sparse_dot(const KernelSparse *a, const KernelSparse *b);
extern float kernel_sparse_l2_squared(const KernelSparse *a, const KernelSparse *b);
extern float kernel_sparse_l1(const KernelSparse *a, const KernelSparse *b);

#endif							/* KERNEL_SPARSE_H */

/*
 * sparse_type.h
 *		Shared by the files about "sparsevec".  Private to this room.
 */
#ifndef VECTOR_SPARSE_TYPE_H
#define VECTOR_SPARSE_TYPE_H

#include "postgres.h"

#include "kernel/sparse.h"
#include "vector/sparsevec.h"
#include "vector/vector_text.h"

static inline KernelSparse
vector_sparse_elements(SparseVector *v)
{
	KernelSparse elements = {v->nnz, v->indices, SPARSEVEC_VALUES(v)};

	return elements;
}

/* sparse_io.c */
extern void vector_sparse_check_dim(int dim);
extern void vector_sparse_check_count(int nnz);
extern void vector_sparse_check_same(const SparseVector *a, const SparseVector *b);

#endif							/* VECTOR_SPARSE_TYPE_H */

/*
 * vector_wire.c
 *		Readers of the types' binary forms, which are in network byte order.
 */
#include "vector/vector_text.h"

#include <math.h>
#include <string.h>

static inline uint16_t
read16(const uint8_t *p)
{
	return (uint16_t) (p[0] << 8 | p[1]);
}

static inline uint32_t
read32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

int
vector_wire_dense(const uint8_t *data, size_t length, size_t size, const VectorLimits *limits,
				  VectorFinding *finding)
{
	int			dim;

	memset(finding, 0, sizeof(*finding));
	if (length < VECTOR_WIRE_HEADER)
	{
		finding->fault = VECTOR_CUT_SHORT;
		return 0;
	}
	dim = read16(data);
	finding->number = dim;
	finding->fault = vector_check_dim(dim, limits);
	if (finding->fault == VECTOR_OK && read16(data + 2) != 0)
	{
		finding->fault = VECTOR_UNUSED_SET;
		finding->number = (int16_t) read16(data + 2);
	}
	if (finding->fault == VECTOR_OK && length - VECTOR_WIRE_HEADER < size * (size_t) dim)
		finding->fault = VECTOR_CUT_SHORT;
	return finding->fault == VECTOR_OK ? dim : 0;
}

/* The first float that is not finite decides. */
static void
check_floats(const float *x, int n, VectorFinding *finding)
{
	/* Only what is not finite has all bits of the exponent set. */
	uint32_t	largest = 0;

	for (int i = 0; i < n; i++)
	{
		uint32_t	bits;

		memcpy(&bits, &x[i], sizeof(bits));
		bits &= UINT32_C(0x7f800000);
		largest = bits > largest ? bits : largest;
	}
	if (largest != UINT32_C(0x7f800000))
		return;
	for (int i = 0; i < n; i++)
	{
		if (!isfinite(x[i]))
		{
			finding->fault = isnan(x[i]) ? VECTOR_NAN : VECTOR_INFINITE;
			return;
		}
	}
}

static void
read_floats(const uint8_t *data, float *x, int n)
{
	for (int i = 0; i < n; i++)
	{
		uint32_t	bits = read32(data + 4 * (size_t) i);

		memcpy(&x[i], &bits, sizeof(float));
	}
}

void
vector_wire_floats(const uint8_t *data, float *x, int n, VectorFinding *finding)
{
	read_floats(data, x, n);
	check_floats(x, n, finding);
}

void
vector_wire_halves(const uint8_t *data, kernel_half *x, int n, VectorFinding *finding)
{
	for (int i = 0; i < n; i++)
		x[i] = read16(data + 2 * (size_t) i);
	for (int i = 0; i < n; i++)
	{
		if (!kernel_half_is_finite(x[i]))
		{
			finding->fault = (x[i] & 0x3ff) != 0 ? VECTOR_NAN : VECTOR_INFINITE;
			return;
		}
	}
}

int
vector_wire_sparse(const uint8_t *data, size_t length, const VectorLimits *limits, int32_t *dim,
				   VectorFinding *finding)
{
	int32_t		nnz;

	memset(finding, 0, sizeof(*finding));
	*dim = 0;
	if (length < VECTOR_WIRE_SPARSE_HEADER)
	{
		finding->fault = VECTOR_CUT_SHORT;
		return 0;
	}
	*dim = (int32_t) read32(data);
	nnz = (int32_t) read32(data + 4);
	finding->number = *dim;

	/* The declared dimensions are looked at last: limits of the type come first. */
	finding->fault = vector_check_dim(*dim, limits);
	if (finding->fault == VECTOR_OK || finding->fault == VECTOR_WRONG_TYPMOD)
	{
		if (nnz < 0)
			finding->fault = VECTOR_NEGATIVE_ELEMENTS;
		else if (nnz > limits->max_elements)
			finding->fault = VECTOR_TOO_MANY_ELEMENTS;
		else if (nnz > *dim)
			finding->fault = VECTOR_MORE_THAN_DIMENSIONS;
	}
	if (finding->fault == VECTOR_OK && read32(data + 8) != 0)
	{
		finding->fault = VECTOR_UNUSED_SET;
		finding->number = (int32_t) read32(data + 8);
	}
	if (finding->fault == VECTOR_OK && length - VECTOR_WIRE_SPARSE_HEADER < 8 * (size_t) nnz)
		finding->fault = VECTOR_CUT_SHORT;
	return finding->fault == VECTOR_OK ? nnz : 0;
}

void
vector_wire_elements(const uint8_t *data, int32_t *indices, float *values, int nnz, int32_t dim,
					 VectorFinding *finding)
{
	for (int i = 0; i < nnz; i++)
	{
		indices[i] = (int32_t) read32(data + 4 * (size_t) i);
		finding->fault = vector_check_index(indices[i], i > 0 ? indices[i - 1] : -1, dim);
		if (finding->fault != VECTOR_OK)
			return;
	}
	read_floats(data + 4 * (size_t) nnz, values, nnz);
	check_floats(values, nnz, finding);
	for (int i = 0; i < nnz && finding->fault == VECTOR_OK; i++)
		if (values[i] == 0)
			finding->fault = VECTOR_ZERO_ELEMENT;
}

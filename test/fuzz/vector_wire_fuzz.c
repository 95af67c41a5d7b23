/*
 * vector_wire_fuzz.c
 *		libFuzzer target for the binary input of "vector", "halfvec" and "sparsevec".
 *
 *	test/fuzz/run.sh vector_wire 600
 *
 * fuzz-frontend: vector_wire vector_text float_text
 *
 * The first byte of an input chooses the reader and its limits.  Accepted
 * messages must obey the limits and hold finite elements.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vector/vector_text.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
insist(int condition)
{
	if (!condition)
		abort();
}

static void
floats(const uint8_t *message, size_t size, const VectorLimits *limits)
{
	VectorFinding finding;
	int			dim = vector_wire_dense(message, size, sizeof(float), limits, &finding);
	float	   *x;

	if (finding.fault != VECTOR_OK)
		return;
	insist(dim >= 1 && dim <= limits->max_dim && (limits->typmod < 0 || dim == limits->typmod));
	x = malloc(sizeof(float) * dim);
	vector_wire_floats(message + VECTOR_WIRE_HEADER, x, dim, &finding);
	for (int i = 0; finding.fault == VECTOR_OK && i < dim; i++)
		insist(isfinite(x[i]));
	free(x);
}

static void
halves(const uint8_t *message, size_t size, const VectorLimits *limits)
{
	VectorFinding finding;
	int			dim = vector_wire_dense(message, size, sizeof(kernel_half), limits, &finding);
	kernel_half *x;

	if (finding.fault != VECTOR_OK)
		return;
	insist(dim >= 1 && dim <= limits->max_dim && (limits->typmod < 0 || dim == limits->typmod));
	x = malloc(sizeof(kernel_half) * dim);
	vector_wire_halves(message + VECTOR_WIRE_HEADER, x, dim, &finding);
	for (int i = 0; finding.fault == VECTOR_OK && i < dim; i++)
		insist(kernel_half_is_finite(x[i]));
	free(x);
}

static void
sparse(const uint8_t *message, size_t size, const VectorLimits *limits)
{
	VectorFinding finding;
	int32_t		dim;
	int			n = vector_wire_sparse(message, size, limits, &dim, &finding);
	int32_t    *indices;
	float	   *values;

	if (finding.fault != VECTOR_OK)
		return;
	insist(n >= 0 && n <= dim && dim <= limits->max_dim && (limits->typmod < 0 || dim == limits->typmod));
	indices = malloc(sizeof(int32_t) * n + 1);
	values = malloc(sizeof(float) * n + 1);
	vector_wire_elements(message + VECTOR_WIRE_SPARSE_HEADER, indices, values, n, dim, &finding);
	for (int i = 0; finding.fault == VECTOR_OK && i < n; i++)
	{
		insist(isfinite(values[i]) && values[i] != 0);
		insist(indices[i] >= 0 && indices[i] < dim && (i == 0 || indices[i] > indices[i - 1]));
	}
	free(indices);
	free(values);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VectorLimits limits = {.max_dim = 16000, .max_elements = 16000, .largest = FLT_MAX, .typmod = -1};
	uint8_t    *message;

	if (size == 0)
		return 0;
	/* Just as long as the message: reading past its end is seen. */
	message = malloc(size);
	memcpy(message, data + 1, size - 1);
	if (data[0] & 16)
		limits.typmod = 3;
	switch (data[0] % 3)
	{
		case 0:
			floats(message, size - 1, &limits);
			break;
		case 1:
			halves(message, size - 1, &limits);
			break;
		default:
			limits.max_dim = 1000000000;
			sparse(message, size - 1, &limits);
			break;
	}
	free(message);
	return 0;
}

/*
 * dense.c
 *		Making, reading and checking vectors of either dense type.
 */
#include "postgres.h"

#include <math.h>

#include "common/hashfn.h"
#include "common/shortest_dec.h"
#include "kernel/distance.h"
#include "vector/dense.h"

/* A vector in the current memory context, elements not yet set. */
DenseVector *
vector_dense_new(const DenseType *type, int dim)
{
	Size		size = offsetof(DenseVector, elements) + type->element_size * (Size) dim;
	DenseVector *result;

	vector_dense_check_dim(type, dim);
	result = (DenseVector *) palloc(size);
	SET_VARSIZE(result, size);
	result->dim = dim;
	result->unused = 0;
	return result;
}

/* The elements as floats: those of the vector itself, or a copy in the current memory context. */
const float *
vector_dense_floats(const DenseType *type, const DenseVector *v)
{
	float	   *copy;

	if (type->widen == NULL)
		return (const float *) v->elements;
	copy = (float *) palloc(sizeof(float) * v->dim);
	type->widen(v->elements, copy, v->dim);
	return copy;
}

/*
 * Store floats as the elements of v.  Returns the position of the first one
 * that is not finite in the element type, or -1.
 */
int
vector_dense_store(const DenseType *type, const float *x, DenseVector *v)
{
	if (type->narrow == NULL)
	{
		if ((const void *) x != (const void *) v->elements)
			memcpy(v->elements, x, sizeof(float) * v->dim);
	}
	else
		type->narrow(x, v->elements, v->dim);

	for (int i = 0; i < v->dim; i++)
		if (!(fabsf(x[i]) <= type->largest))
			return i;
	return -1;
}

void
vector_dense_check_dim(const DenseType *type, int dim)
{
	if (dim < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%s must have at least 1 dimension", type->name)));
	if (dim > type->max_dim)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s cannot have more than %d dimensions", type->name, type->max_dim)));
}

void
vector_dense_check_same(const DenseType *type, const DenseVector *a, const DenseVector *b)
{
	if (unlikely(a->dim != b->dim))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different %s dimensions %d and %d", type->name, a->dim, b->dim)));
}

/* Refuse NaN, infinity and, for narrower elements, magnitudes out of their range. */
void
vector_check_finite(const char *type_name, float largest, const float *x, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (likely(isfinite(x[i]) && fabsf(x[i]) <= largest))
			continue;
		if (isnan(x[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("NaN not allowed in %s", type_name)));
		if (isinf(x[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("infinite value not allowed in %s", type_name)));
		else
		{
			char		number[FLOAT_SHORTEST_DECIMAL_LEN];

			float_to_shortest_decimal_buf(x[i], number);
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("\"%s\" is out of range for type %s", number, type_name)));
		}
	}
}

/* Element by element, then the shorter first: as arrays of the elements compare. */
int
vector_dense_compare(const DenseType *type, const DenseVector *a, const DenseVector *b)
{
	int			n = Min(a->dim, b->dim);

	/* Equal vectors mostly are equal bytes; there is no NaN, which would not equal itself. */
	if (a->dim == b->dim && memcmp(a->elements, b->elements, type->element_size * n) == 0)
		return 0;
	for (int i = 0; i < n; i++)
	{
		float		x,
					y;

		if (type->widen == NULL)
		{
			x = ((const float *) a->elements)[i];
			y = ((const float *) b->elements)[i];
		}
		else
		{
			x = kernel_half_to_float(((const kernel_half *) a->elements)[i]);
			y = kernel_half_to_float(((const kernel_half *) b->elements)[i]);
		}
		if (x != y)
			return x < y ? -1 : 1;
	}
	return (a->dim > b->dim) - (a->dim < b->dim);
}

/*
 * A hash of the elements with the seed mixed in.  Equal vectors must hash
 * alike, so minus zero counts as zero; nothing else has two forms.
 */
uint64
vector_dense_hash(const DenseType *type, const DenseVector *v, uint64 seed)
{
	Size		bytes = type->element_size * v->dim;
	char	   *copy = (char *) palloc(bytes);
	uint64		hash;

	memcpy(copy, v->elements, bytes);
	if (type->widen == NULL)
	{
		for (int i = 0; i < v->dim; i++)
			if (((float *) copy)[i] == 0)
				((float *) copy)[i] = 0;
	}
	else
	{
		for (int i = 0; i < v->dim; i++)
			if (((kernel_half *) copy)[i] == 0x8000)
				((kernel_half *) copy)[i] = 0;
	}
	hash = hash_bytes_extended((const unsigned char *) copy, (int) bytes, seed);
	pfree(copy);
	return hash;
}

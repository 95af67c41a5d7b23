/*
 * sparse.c
 *		Exact distances between sparse arrays of floats.
 *
 * Two ascending lists of indices are merged.  Which list is behind cannot be
 * predicted, so the steps are computed instead of branched on; and as each
 * step waits for the one before, the lists are cut in two at some index and
 * both halves are merged side by side.
 */
#include "kernel/sparse.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* What a merge adds up. */
typedef enum Term
{
	PRODUCT, SQUARED_DIFFERENCE, ABSOLUTE_DIFFERENCE
} Term;

/* A part of both lists still to be merged. */
typedef struct Part
{
	int			i,
				i_end,
				j,
				j_end;
	float		sum;
} Part;

/* The value, or zero, without a jump. */
static inline float
keep_if(float value, bool keep)
{
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	bits &= -(uint32_t) keep;
	memcpy(&value, &bits, sizeof(bits));
	return value;
}

static inline float
term_of(Term term, float d)
{
	return term == SQUARED_DIFFERENCE ? d * d : fabsf(d);
}

static inline bool
more(const Part *part)
{
	return part->i < part->i_end && part->j < part->j_end;
}

/* Take the element that is next in order, or the two that share an index. */
static inline void
step(Term term, const KernelSparse *a, const KernelSparse *b, Part *part)
{
	int32_t		x = a->indices[part->i];
	int32_t		y = b->indices[part->j];
	float		u = a->values[part->i];
	float		v = b->values[part->j];

	if (term == PRODUCT)
		part->sum += keep_if(u * v, x == y);
	else
		part->sum += term_of(term, keep_if(u, x <= y) - keep_if(v, y <= x));
	part->i += x <= y;
	part->j += y <= x;
}

/* The first position in the list whose index is not below "index". */
static int
find(const KernelSparse *list, int32_t index)
{
	int			first = 0;
	int			count = list->count;

	while (count > 0)
	{
		int			half = count / 2;

		first += (list->indices[first + half] < index) ? count - half : 0;
		count = half;
	}
	return first;
}

/* Inlined with a constant term. */
static inline float
merge(Term term, const KernelSparse *list_a, const KernelSparse *list_b)
{
	const KernelSparse a = *list_a;
	const KernelSparse b = *list_b;
	int			middle_a = a.count / 2;
	int			middle_b = a.count > 0 ? find(&b, a.indices[middle_a]) : 0;
	Part		low = {0, middle_a, 0, middle_b, 0};
	Part		high = {middle_a, a.count, middle_b, b.count, 0};

	while (more(&low) && more(&high))
	{
		step(term, &a, &b, &low);
		step(term, &a, &b, &high);
	}
	while (more(&low))
		step(term, &a, &b, &low);
	while (more(&high))
		step(term, &a, &b, &high);

	if (term != PRODUCT)
	{
		/* What one list has behind the end of the other. */
		for (; low.i < low.i_end; low.i++)
			low.sum += term_of(term, a.values[low.i]);
		for (; low.j < low.j_end; low.j++)
			low.sum += term_of(term, b.values[low.j]);
		for (; high.i < high.i_end; high.i++)
			high.sum += term_of(term, a.values[high.i]);
		for (; high.j < high.j_end; high.j++)
			high.sum += term_of(term, b.values[high.j]);
	}
	return low.sum + high.sum;
}

float
kernel_sparse_dot(const KernelSparse *a, const KernelSparse *b)
{
	return merge(PRODUCT, a, b);
}

float
kernel_sparse_l2_squared(const KernelSparse *a, const KernelSparse *b)
{
	return merge(SQUARED_DIFFERENCE, a, b);
}

float
kernel_sparse_l1(const KernelSparse *a, const KernelSparse *b)
{
	return merge(ABSOLUTE_DIFFERENCE, a, b);
}

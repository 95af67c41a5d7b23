/*
 * vector_text.c
 *		Readers of the types' text forms.
 */
#include "vector/vector_text.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/float_text.h"

static inline bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline const char *
skip_spaces(const char *p)
{
	while (is_space(*p))
		p++;
	return p;
}

VectorFault
vector_check_dim(int32_t dim, const VectorLimits *limits)
{
	if (dim < 1)
		return VECTOR_EMPTY;
	if (dim > limits->max_dim)
		return VECTOR_TOO_LONG;
	if (limits->typmod != -1 && limits->typmod != dim)
		return VECTOR_WRONG_TYPMOD;
	return VECTOR_OK;
}

/* May this index follow the previous one (-1 before the first)? */
VectorFault
vector_check_index(int32_t index, int32_t previous, int32_t dim)
{
	if (index < 0 || index >= dim)
		return VECTOR_BAD_INDEX;
	if (index == previous)
		return VECTOR_DUPLICATE_INDEX;
	if (index < previous)
		return VECTOR_DESCENDING_INDEX;
	return VECTOR_OK;
}

/* One element's number: returns what follows it, or NULL with the fault set. */
static inline const char *
read_number(const char *p, const char *end, float largest, bool zero_on_underflow, float *value,
			VectorFinding *finding)
{
	bool		in_range;
	const char *rest = kernel_parse_float(p, end, value, &in_range);

	if (rest == p)
		finding->fault = VECTOR_BAD_SYNTAX;
	else if ((!in_range && (isinf(*value) || (*value == 0 && !zero_on_underflow))) ||
			 (isfinite(*value) && fabsf(*value) > largest))
	{
		finding->fault = VECTOR_OUT_OF_RANGE;
		finding->token = p;
		finding->token_length = rest - p;
	}
	else if (isnan(*value))
		finding->fault = VECTOR_NAN;
	else if (isinf(*value))
		finding->fault = VECTOR_INFINITE;
	return finding->fault == VECTOR_OK ? rest : NULL;
}

int
vector_text_dense(const char *text, float *x, const VectorLimits *limits, VectorFinding *finding)
{
	const char *p = skip_spaces(text);
	const char *end = p + strlen(p);
	int			dim = 0;

	memset(finding, 0, sizeof(*finding));
	if (*p != '[')
	{
		finding->fault = VECTOR_NO_OPENING;
		return 0;
	}
	p = skip_spaces(p + 1);
	if (*p == ']')
	{
		finding->fault = VECTOR_EMPTY;
		return 0;
	}

	for (;;)
	{
		if (dim == limits->max_dim)
		{
			finding->fault = VECTOR_TOO_LONG;
			return dim;
		}
		p = read_number(skip_spaces(p), end, limits->largest, true, &x[dim], finding);
		if (p == NULL)
			return dim;
		dim++;
		p = skip_spaces(p);
		if (*p == ']')
			break;
		if (*p != ',')
		{
			finding->fault = VECTOR_BAD_SYNTAX;
			return dim;
		}
		p++;
	}

	if (*skip_spaces(p + 1) != '\0')
		finding->fault = VECTOR_JUNK;
	else
		finding->fault = vector_check_dim(dim, limits);
	finding->number = dim;
	return dim;
}

static int
compare_indices(const void *a, const void *b)
{
	int32_t		x = ((const VectorElement *) a)->index;
	int32_t		y = ((const VectorElement *) b)->index;

	return (x > y) - (x < y);
}

/* An integer, brought into int32 range; returns what follows it, NULL when there is none. */
static const char *
read_integer(const char *p, int32_t *value)
{
	char	   *rest;
	long		number = strtol(p, &rest, 10);

	if (rest == p)
		return NULL;
	*value = number > INT32_MAX ? INT32_MAX : number < -INT32_MAX ? -INT32_MAX : (int32_t) number;
	return rest;
}

/* The elements between the braces; returns what follows the closing one, or NULL with the fault set. */
static const char *
read_elements(const char *p, const char *end, VectorElement *elements, int *count,
			  const VectorLimits *limits, VectorFinding *finding)
{
	p = skip_spaces(p);
	if (*p == '}')
		return p + 1;
	for (;;)
	{
		VectorElement element;

		p = read_integer(skip_spaces(p), &element.index);
		if (p == NULL || *(p = skip_spaces(p)) != ':')
		{
			finding->fault = VECTOR_BAD_SYNTAX;
			return NULL;
		}
		p = read_number(skip_spaces(p + 1), end, limits->largest, false, &element.value, finding);
		if (p == NULL)
			return NULL;
		if (element.value != 0)
		{
			element.index--;
			elements[(*count)++] = element;
		}
		p = skip_spaces(p);
		if (*p == '}')
			return p + 1;
		if (*p++ != ',')
		{
			finding->fault = VECTOR_BAD_SYNTAX;
			return NULL;
		}
	}
}

int
vector_text_sparse(const char *text, VectorElement *elements, const VectorLimits *limits,
				   int32_t *dim, VectorFinding *finding)
{
	const char *p = skip_spaces(text);
	int			count = 0;

	memset(finding, 0, sizeof(*finding));
	*dim = 0;
	if (*p != '{')
	{
		finding->fault = VECTOR_NO_OPENING;
		return 0;
	}
	p = read_elements(p + 1, p + strlen(p), elements, &count, limits, finding);
	if (p == NULL)
		return 0;

	p = skip_spaces(p);
	if (*p != '/')
	{
		finding->fault = VECTOR_NO_DIMENSIONS;
		return 0;
	}
	p = read_integer(skip_spaces(p + 1), dim);
	if (p == NULL)
	{
		finding->fault = VECTOR_BAD_SYNTAX;
		return 0;
	}
	if (*skip_spaces(p) != '\0')
	{
		finding->fault = VECTOR_JUNK;
		return 0;
	}

	finding->number = *dim;
	finding->fault = vector_check_dim(*dim, limits);
	qsort(elements, count, sizeof(VectorElement), compare_indices);
	for (int i = 0; i < count && finding->fault == VECTOR_OK; i++)
		finding->fault = vector_check_index(elements[i].index, i > 0 ? elements[i - 1].index : -1, *dim);
	return count;
}

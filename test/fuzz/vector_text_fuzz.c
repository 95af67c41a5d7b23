/*
 * vector_text_fuzz.c
 *		libFuzzer target for the text input of "vector", "halfvec" and "sparsevec", and of single numbers.
 *
 *	test/fuzz/run.sh vector_text 600
 *
 * fuzz-frontend: vector_text float_text
 *
 * The first byte of an input chooses the reader and its limits.  Besides what
 * the sanitizers see: numbers agree with strtof, accepted values obey the
 * limits, and their printed form is read back as the same value.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/float_text.h"
#include "vector/vector_text.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
insist(int condition)
{
	if (!condition)
		abort();
}

static void
number(const char *text)
{
	char	   *rest;
	float		value = 0;
	float		expected;
	bool		in_range;
	bool		expected_in_range;
	const char *ours;

	if (*text == ' ' || (*text >= '\t' && *text <= '\r'))
		return;					/* callers skip white space */
	errno = 0;
	expected = strtof(text, &rest);
	expected_in_range = errno != ERANGE;
	ours = kernel_parse_float(text, text + strlen(text), &value, &in_range);
	insist(ours == rest);
	if (rest == text)
		return;
	insist(in_range == expected_in_range);
	insist(memcmp(&value, &expected, sizeof(float)) == 0 || (isnan(value) && isnan(expected)));
}

static void
dense(const char *text, const VectorLimits *limits)
{
	float	   *x = malloc(sizeof(float) * limits->max_dim);
	VectorFinding finding;
	int			dim = vector_text_dense(text, x, limits, &finding);

	if (finding.fault == VECTOR_OK)
	{
		char	   *copy = malloc((size_t) dim * 32 + 3);
		float	   *again = malloc(sizeof(float) * limits->max_dim);
		size_t		length = 0;

		insist(dim >= 1 && dim <= limits->max_dim && (limits->typmod < 0 || dim == limits->typmod));
		for (int i = 0; i < dim; i++)
		{
			insist(fabsf(x[i]) <= limits->largest);
			length += sprintf(copy + length, "%c%.9g", i == 0 ? '[' : ',', (double) x[i]);
		}
		strcpy(copy + length, "]");
		insist(vector_text_dense(copy, again, limits, &finding) == dim && finding.fault == VECTOR_OK);
		insist(memcmp(x, again, sizeof(float) * dim) == 0);
		free(copy);
		free(again);
	}
	else if (finding.fault == VECTOR_OUT_OF_RANGE)
		insist(finding.token >= text && finding.token_length > 0 &&
			   finding.token_length <= strlen(finding.token));
	free(x);
}

static void
sparse(const char *text, const VectorLimits *limits)
{
	int			room = 1;
	VectorElement *elements;
	VectorFinding finding;
	int32_t		dim;
	int			n;

	for (const char *p = text; *p != '\0'; p++)
		room += *p == ',';
	elements = malloc(sizeof(VectorElement) * room);
	n = vector_text_sparse(text, elements, limits, &dim, &finding);
	if (finding.fault == VECTOR_OK)
	{
		insist(n <= room && dim >= 1 && dim <= limits->max_dim);
		for (int i = 0; i < n; i++)
		{
			insist(elements[i].index >= 0 && elements[i].index < dim && isfinite(elements[i].value));
			insist(elements[i].value != 0 && (i == 0 || elements[i].index > elements[i - 1].index));
		}
	}
	free(elements);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VectorLimits limits = {.max_dim = 16000, .largest = FLT_MAX, .typmod = -1};
	char	   *text;

	if (size == 0)
		return 0;
	/* Just as long as the text: reading past its end is seen. */
	text = malloc(size);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';

	if (data[0] & 8)
		limits.max_dim = 5;
	if (data[0] & 16)
		limits.typmod = 3;
	switch (data[0] & 3)
	{
		case 0:
			dense(text, &limits);
			break;
		case 1:
			limits.largest = 0x1.ffdffep15f;
			dense(text, &limits);
			break;
		case 2:
			limits.max_elements = 16000;
			limits.largest = INFINITY;
			sparse(text, &limits);
			break;
		default:
			number(text);
			break;
	}
	free(text);
	return 0;
}

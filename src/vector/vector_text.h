/*
 * vector_text.h
 *		Readers of the types' text and binary forms, without memory allocation or error reports.
 *
 * They compile without the server, so that a fuzzer can drive them; the
 * input functions turn their findings into errors (vector_report.c).
 */
#ifndef VECTOR_TEXT_H
#define VECTOR_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/half.h"

/* What is wrong with a value. */
typedef enum VectorFault
{
	VECTOR_OK,
	VECTOR_NO_OPENING,			/* text: the first character is not the opening bracket */
	VECTOR_BAD_SYNTAX,
	VECTOR_JUNK,				/* text: something behind the end */
	VECTOR_NO_DIMENSIONS,		/* sparse text: no "/" behind the elements */
	VECTOR_OUT_OF_RANGE,		/* text: a number the element type cannot hold */
	VECTOR_NAN,
	VECTOR_INFINITE,
	VECTOR_EMPTY,				/* no dimension */
	VECTOR_TOO_LONG,			/* too many dimensions */
	VECTOR_TOO_MANY_ELEMENTS,	/* sparse: more than can be stored */
	VECTOR_NEGATIVE_ELEMENTS,	/* sparse binary: negative number of elements */
	VECTOR_MORE_THAN_DIMENSIONS,	/* sparse binary: more elements than dimensions */
	VECTOR_BAD_INDEX,			/* sparse: index outside the dimensions */
	VECTOR_DUPLICATE_INDEX,
	VECTOR_DESCENDING_INDEX,	/* sparse binary: indices must ascend */
	VECTOR_ZERO_ELEMENT,		/* sparse binary: zeros must not be there */
	VECTOR_UNUSED_SET,			/* binary: the reserved field is not zero */
	VECTOR_WRONG_TYPMOD,		/* not the number of dimensions declared */
	VECTOR_CUT_SHORT			/* binary: the message ends too early */
} VectorFault;

typedef struct VectorFinding
{
	VectorFault fault;
	int			number;			/* the dimensions found; the content of the reserved field */
	const char *token;			/* the number out of range */
	size_t		token_length;
} VectorFinding;

/* What a type, or one declared column of it, allows. */
typedef struct VectorLimits
{
	int			max_dim;
	int			max_elements;	/* sparse */
	float		largest;		/* magnitude of an element */
	int32_t		typmod;			/* the dimensions declared, or -1 */
} VectorLimits;

/* One element of a sparse vector as it was read; indices count from 0. */
typedef struct VectorElement
{
	int32_t		index;
	float		value;
} VectorElement;

/*
 * "[1,2,3]" into x, which has room for limits->max_dim floats; returns the
 * number of dimensions.  Sets the finding, as the functions below do.
 */
extern int	vector_text_dense(const char *text, float *x, const VectorLimits *limits, VectorFinding *finding);

/*
 * "{1:1,3:2.5}/5" into elements, which has room for one more than the number
 * of commas in the text; returns the number of elements, sorted, and sets *dim.
 */
extern int	vector_text_sparse(const char *text, VectorElement *elements, const VectorLimits *limits,
							   int32_t *dim, VectorFinding *finding);

/* Bytes before the elements of the binary forms. */
#define VECTOR_WIRE_HEADER 4
#define VECTOR_WIRE_SPARSE_HEADER 12

/*
 * The header of a dense vector's binary form, "length" bytes with elements of
 * "size" bytes each: returns the number of dimensions, all of them present.
 */
extern int	vector_wire_dense(const uint8_t *data, size_t length, size_t size, const VectorLimits *limits,
							  VectorFinding *finding);

/* The n elements behind it. */
extern void vector_wire_floats(const uint8_t *data, float *x, int n, VectorFinding *finding);
extern void vector_wire_halves(const uint8_t *data, kernel_half *x, int n, VectorFinding *finding);

/* The header of a sparse vector's binary form: returns the number of elements, all present, and sets *dim. */
extern int	vector_wire_sparse(const uint8_t *data, size_t length, const VectorLimits *limits, int32_t *dim,
							   VectorFinding *finding);

/* The nnz indices and values behind it. */
extern void vector_wire_elements(const uint8_t *data, int32_t *indices, float *values, int nnz, int32_t dim,
								 VectorFinding *finding);

/* The rules that both forms share. */
extern VectorFault vector_check_dim(int32_t dim, const VectorLimits *limits);
extern VectorFault vector_check_index(int32_t index, int32_t previous, int32_t dim);

#endif							/* VECTOR_TEXT_H */

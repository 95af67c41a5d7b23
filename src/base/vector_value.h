/*
 * vector_value.h
 *		Values of the vector type, made and read by its binary form.
 *
 * vecsync knows no layout of the type: whatever extension is called "vector"
 * and speaks this form will do.
 */
#ifndef BASE_VECTOR_VALUE_H
#define BASE_VECTOR_VALUE_H

#include "postgres.h"

#include "fmgr.h"

typedef struct VectorType
{
	Oid			type;
	Oid			array_type;
	Oid			io_param;
	FmgrInfo	receive;
	FmgrInfo	send;
} VectorType;

/* What the functions remember lives in the context given. */
extern void vector_type_init(VectorType *vector, Oid type, MemoryContext context);

/* palloc'd; an error for values that the type refuses */
extern Datum vector_value_make(VectorType *vector, const float *values, int dimensions);

/* palloc'd floats */
extern float *vector_value_read(VectorType *vector, Datum value, int *dimensions);

#endif							/* BASE_VECTOR_VALUE_H */

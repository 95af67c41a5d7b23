/*
 * dense_functions.h
 *		The SQL functions of one dense type, as thin entries to the shared bodies.
 *
 * Their C names are those of pgvector's catalog entries, so that a database
 * made with it finds them in this library.
 */
#ifndef VECTOR_DENSE_FUNCTIONS_H
#define VECTOR_DENSE_FUNCTIONS_H

#include "vector/dense.h"

#define DENSE_FUNCTION(name, type, body) \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		return body(&type, fcinfo); \
	} \
	extern Datum name(PG_FUNCTION_ARGS)

/* A comparison: "test" looks at c, which is below, at or above zero. */
#define DENSE_COMPARISON(name, type, RETURN, test) \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		DenseVector *a = DenseGetArg(0); \
		DenseVector *b = DenseGetArg(1); \
		int			c = vector_dense_compare(&type, a, b); \
		\
		PG_FREE_IF_COPY(a, 0); \
		PG_FREE_IF_COPY(b, 1); \
		RETURN(test); \
	} \
	extern Datum name(PG_FUNCTION_ARGS)

/* The two hash support functions; the first keeps the lower half of the second's result with seed 0. */
#define DENSE_HASH(name, type) \
	PG_FUNCTION_INFO_V1(name); \
	Datum \
	name(PG_FUNCTION_ARGS) \
	{ \
		DenseVector *v = DenseGetArg(0); \
		uint64		hash = vector_dense_hash(&type, v, 0); \
		\
		PG_FREE_IF_COPY(v, 0); \
		PG_RETURN_INT32((int32) hash); \
	} \
	PG_FUNCTION_INFO_V1(name##_extended); \
	Datum \
	name##_extended(PG_FUNCTION_ARGS) \
	{ \
		DenseVector *v = DenseGetArg(0); \
		uint64		hash = vector_dense_hash(&type, v, PG_GETARG_INT64(1)); \
		\
		PG_FREE_IF_COPY(v, 0); \
		PG_RETURN_INT64((int64) hash); \
	} \
	extern Datum name(PG_FUNCTION_ARGS)

#endif							/* VECTOR_DENSE_FUNCTIONS_H */

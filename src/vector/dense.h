/*
 * dense.h
 *		What "vector" and "halfvec" share, written once.
 *
 * Both types have the same header and differ in the element: a DenseType
 * describes it, and functions that are not worth a kernel of their own work
 * on elements widened to float.  Private to this room.
 */
#ifndef VECTOR_DENSE_H
#define VECTOR_DENSE_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/nodes.h"
#include "utils/array.h"
#include "vector/halfvec.h"
#include "vector/vector.h"
#include "vector/vector_text.h"

/* The common part of Vector and HalfVector. */
typedef struct DenseVector
{
	int32		vl_len_;
	int16		dim;
	int16		unused;
	char		elements[FLEXIBLE_ARRAY_MEMBER];
} DenseVector;

typedef struct DenseType
{
	const char *name;
	int			max_dim;
	Size		element_size;
	float		largest;		/* greatest float that rounds to a finite element */

	/* Where widen is NULL, elements are floats. */
	void		(*widen) (const void *elements, float *to, int n);
	/* Too large a value becomes infinity. */
	void		(*narrow) (const float *from, void *elements, int n);
	void		(*read_wire) (const uint8 *data, void *elements, int n, VectorFinding *finding);
	void		(*write_wire) (const void *elements, uint8 *data, int n);
} DenseType;

extern const DenseType vector_dense_vector;
extern const DenseType vector_dense_halfvec;

#define DenseGetArg(n) ((DenseVector *) PG_DETOAST_DATUM(PG_GETARG_DATUM(n)))

/* dense.c */
extern DenseVector *vector_dense_new(const DenseType *type, int dim);
extern const float *vector_dense_floats(const DenseType *type, const DenseVector *v);
extern int	vector_dense_store(const DenseType *type, const float *x, DenseVector *v);
extern void vector_dense_check_dim(const DenseType *type, int dim);
extern void vector_dense_check_same(const DenseType *type, const DenseVector *a, const DenseVector *b);
extern void vector_check_typmod(int32 typmod, int dim);
extern void vector_check_finite(const char *type_name, float largest, const float *x, int n);
extern int	vector_dense_compare(const DenseType *type, const DenseVector *a, const DenseVector *b);
extern uint64 vector_dense_hash(const DenseType *type, const DenseVector *v, uint64 seed);

/* vector_report.c */
extern void vector_report(const VectorFinding *finding, const char *type_name, const char *text,
						  const VectorLimits *limits, Node *escontext);
extern int32 vector_typmod(ArrayType *modifiers, const char *type_name, int max_dim);

/* The bodies of the SQL functions, by file. */

/* dense_io.c */
extern Datum vector_dense_in(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_out(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_typmod_in(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_recv(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_send(const DenseType *type, FunctionCallInfo fcinfo);

/* dense_cast.c */
extern float *vector_floats_of_array(ArrayType *array, int *n);
extern Datum vector_dense_typmod_cast(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_from_array(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_to_float4(const DenseType *type, FunctionCallInfo fcinfo);

/* dense_math.c */
extern double vector_norm_of_floats(const float *x, int n);
extern DenseVector *vector_dense_slice(const DenseType *type, const DenseVector *v, int64 first, int64 last);
extern Datum vector_dense_dims(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_norm(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_normalize(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_add(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_sub(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_mul(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_concat(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_subvector(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_binary_quantize(const DenseType *type, FunctionCallInfo fcinfo);

/* dense_aggregate.c */
extern Datum vector_dense_accum(const DenseType *type, FunctionCallInfo fcinfo);
extern Datum vector_dense_avg(const DenseType *type, FunctionCallInfo fcinfo);

#endif							/* VECTOR_DENSE_H */

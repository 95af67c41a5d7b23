/*
 * sparse_io.c
 *		Text and binary form of "sparsevec", and its limits.
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "vector/dense.h"
#include "vector/sparse_type.h"

static VectorLimits
sparse_limits(int32 typmod)
{
	VectorLimits limits = {
		.max_dim = SPARSEVEC_MAX_DIM,
		.max_elements = SPARSEVEC_MAX_NNZ,
		.largest = INFINITY,
		.typmod = typmod
	};

	return limits;
}

/* Raise the error for a fault that is not about a literal. */
static void
report(VectorFault fault)
{
	VectorFinding finding = {.fault = fault};
	VectorLimits limits = sparse_limits(-1);

	vector_report(&finding, "sparsevec", NULL, &limits, NULL);
}

void
vector_sparse_check_dim(int dim)
{
	VectorLimits limits = sparse_limits(-1);

	report(vector_check_dim(dim, &limits));
}

void
vector_sparse_check_count(int nnz)
{
	if (nnz > SPARSEVEC_MAX_NNZ)
		report(VECTOR_TOO_MANY_ELEMENTS);
}

void
vector_sparse_check_same(const SparseVector *a, const SparseVector *b)
{
	if (unlikely(a->dim != b->dim))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different sparsevec dimensions %d and %d", a->dim, b->dim)));
}

PG_FUNCTION_INFO_V1(sparsevec_in);
Datum
sparsevec_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	VectorLimits limits = sparse_limits(PG_GETARG_INT32(2));
	VectorFinding finding = {VECTOR_OK};
	VectorElement *elements = NULL;
	int			places = 1;
	int			nnz = 0;
	int32		dim = 0;
	SparseVector *result;

	for (const char *p = text; *p != '\0'; p++)
		places += *p == ',';
	if (places > SPARSEVEC_MAX_NNZ)
		finding.fault = VECTOR_TOO_MANY_ELEMENTS;
	else
	{
		elements = (VectorElement *) palloc(sizeof(VectorElement) * places);
		nnz = vector_text_sparse(text, elements, &limits, &dim, &finding);
	}
	if (finding.fault != VECTOR_OK)
	{
		vector_report(&finding, "sparsevec", text, &limits, fcinfo->context);
		PG_RETURN_NULL();
	}

	result = InitSparseVector(dim, nnz);
	for (int i = 0; i < nnz; i++)
	{
		result->indices[i] = elements[i].index;
		SPARSEVEC_VALUES(result)[i] = elements[i].value;
	}
	pfree(elements);
	PG_RETURN_SPARSEVEC_P(result);
}

PG_FUNCTION_INFO_V1(sparsevec_out);
Datum
sparsevec_out(PG_FUNCTION_ARGS)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);
	const float *values = SPARSEVEC_VALUES(v);
	/* "{}/" and a number; for each element an index, ":", a value and ",". */
	char	   *text = (char *) palloc(v->nnz * (Size) (FLOAT_SHORTEST_DECIMAL_LEN + 13) + 16);
	char	   *p = text;

	*p++ = '{';
	for (int i = 0; i < v->nnz; i++)
	{
		if (i > 0)
			*p++ = ',';
		p += pg_ltoa(v->indices[i] + 1, p);
		*p++ = ':';
		p += float_to_shortest_decimal_bufn(values[i], p);
	}
	*p++ = '}';
	*p++ = '/';
	pg_ltoa(v->dim, p);
	PG_FREE_IF_COPY(v, 0);
	PG_RETURN_CSTRING(text);
}

PG_FUNCTION_INFO_V1(sparsevec_typmod_in);
Datum
sparsevec_typmod_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(vector_typmod(PG_GETARG_ARRAYTYPE_P(0), "sparsevec", SPARSEVEC_MAX_DIM));
}

PG_FUNCTION_INFO_V1(sparsevec_recv);
Datum
sparsevec_recv(PG_FUNCTION_ARGS)
{
	StringInfo	message = (StringInfo) PG_GETARG_POINTER(0);
	VectorLimits limits = sparse_limits(PG_GETARG_INT32(2));
	const uint8 *data = (const uint8 *) message->data + message->cursor;
	VectorFinding finding;
	SparseVector *result = NULL;
	int32		dim;
	int			nnz;

	nnz = vector_wire_sparse(data, message->len - message->cursor, &limits, &dim, &finding);
	if (finding.fault == VECTOR_OK)
	{
		result = InitSparseVector(dim, nnz);
		vector_wire_elements(data + VECTOR_WIRE_SPARSE_HEADER, result->indices, SPARSEVEC_VALUES(result),
							 nnz, dim, &finding);
		message->cursor += VECTOR_WIRE_SPARSE_HEADER + 8 * nnz;
	}
	if (finding.fault != VECTOR_OK)
		vector_report(&finding, "sparsevec", NULL, &limits, NULL);
	PG_RETURN_SPARSEVEC_P(result);
}

PG_FUNCTION_INFO_V1(sparsevec_send);
Datum
sparsevec_send(PG_FUNCTION_ARGS)
{
	SparseVector *v = PG_GETARG_SPARSEVEC_P(0);
	/* Indices and values lie behind each other, and both are words. */
	const uint32 *words = (const uint32 *) v->indices;
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendint32(&message, v->dim);
	pq_sendint32(&message, v->nnz);
	pq_sendint32(&message, v->unused);
	for (int i = 0; i < 2 * v->nnz; i++)
		pq_sendint32(&message, words[i]);
	PG_FREE_IF_COPY(v, 0);
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

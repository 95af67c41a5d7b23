/*
 * dense_io.c
 *		Text and binary form of "vector" and "halfvec".
 */
#include "postgres.h"

#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "vector/dense.h"

static VectorLimits
dense_limits(const DenseType *type, int32 typmod)
{
	VectorLimits limits = {.max_dim = type->max_dim, .largest = type->largest, .typmod = typmod};

	return limits;
}

Datum
vector_dense_in(const DenseType *type, FunctionCallInfo fcinfo)
{
	char	   *text = PG_GETARG_CSTRING(0);
	VectorLimits limits = dense_limits(type, PG_GETARG_INT32(2));
	float		x[VECTOR_MAX_DIM];
	int			dim;
	VectorFinding finding;
	DenseVector *result;

	dim = vector_text_dense(text, x, &limits, &finding);
	if (finding.fault != VECTOR_OK)
	{
		vector_report(&finding, type->name, text, &limits, fcinfo->context);
		PG_RETURN_NULL();
	}
	result = vector_dense_new(type, dim);
	vector_dense_store(type, x, result);
	PG_RETURN_POINTER(result);
}

Datum
vector_dense_out(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);
	const float *x = vector_dense_floats(type, v);
	char	   *text = (char *) palloc(v->dim * (Size) FLOAT_SHORTEST_DECIMAL_LEN + 2);
	char	   *p = text;

	/* Each number takes at most FLOAT_SHORTEST_DECIMAL_LEN - 1 bytes, and one more for "[" or ",". */
	for (int i = 0; i < v->dim; i++)
	{
		*p++ = i == 0 ? '[' : ',';
		p += float_to_shortest_decimal_bufn(x[i], p);
	}
	*p++ = ']';
	*p = '\0';
	PG_FREE_IF_COPY(v, 0);
	PG_RETURN_CSTRING(text);
}

Datum
vector_dense_typmod_in(const DenseType *type, FunctionCallInfo fcinfo)
{
	PG_RETURN_INT32(vector_typmod(PG_GETARG_ARRAYTYPE_P(0), type->name, type->max_dim));
}

Datum
vector_dense_recv(const DenseType *type, FunctionCallInfo fcinfo)
{
	StringInfo	message = (StringInfo) PG_GETARG_POINTER(0);
	VectorLimits limits = dense_limits(type, PG_GETARG_INT32(2));
	const uint8 *data = (const uint8 *) message->data + message->cursor;
	VectorFinding finding;
	DenseVector *result = NULL;
	int			dim;

	dim = vector_wire_dense(data, message->len - message->cursor, type->element_size, &limits, &finding);
	if (finding.fault == VECTOR_OK)
	{
		result = vector_dense_new(type, dim);
		type->read_wire(data + VECTOR_WIRE_HEADER, result->elements, dim, &finding);
		message->cursor += VECTOR_WIRE_HEADER + (int) type->element_size * dim;
	}
	if (finding.fault != VECTOR_OK)
		vector_report(&finding, type->name, NULL, &limits, NULL);
	PG_RETURN_POINTER(result);
}

Datum
vector_dense_send(const DenseType *type, FunctionCallInfo fcinfo)
{
	DenseVector *v = DenseGetArg(0);
	int			bytes = (int) type->element_size * v->dim;
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendint16(&message, v->dim);
	pq_sendint16(&message, v->unused);
	enlargeStringInfo(&message, bytes);
	type->write_wire(v->elements, (uint8 *) message.data + message.len, v->dim);
	message.len += bytes;
	message.data[message.len] = '\0';
	PG_FREE_IF_COPY(v, 0);
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

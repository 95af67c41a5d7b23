/*
 * vector_value.c
 *		Values of the vector type, made and read by its binary form.
 */
#include "postgres.h"

#include "libpq/pqformat.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/vector_value.h"

void
vector_type_init(VectorType *vector, Oid type, MemoryContext context)
{
	Oid			function;
	bool		varlena;

	vector->array_type = get_array_type(type);
	getTypeBinaryInputInfo(type, &function, &vector->io_param);
	fmgr_info_cxt(function, &vector->receive, context);
	getTypeBinaryOutputInfo(type, &function, &varlena);
	fmgr_info_cxt(function, &vector->send, context);

	/* Last: an error on the way must not leave behind what passes for complete. */
	vector->type = type;
}

Datum
vector_value_make(VectorType *vector, const float *values, int dimensions)
{
	StringInfoData buf;
	Datum		result;

	initStringInfo(&buf);
	enlargeStringInfo(&buf, 4 + 4 * dimensions);
	pq_writeint16(&buf, dimensions);
	pq_writeint16(&buf, 0);
	for (int i = 0; i < dimensions; i++)
	{
		uint32		bits;

		memcpy(&bits, &values[i], 4);
		pq_writeint32(&buf, bits);
	}
	result = ReceiveFunctionCall(&vector->receive, &buf, vector->io_param, -1);
	pfree(buf.data);
	return result;
}

float *
vector_value_read(VectorType *vector, Datum value, int *dimensions)
{
	bytea	   *bytes = SendFunctionCall(&vector->send, value);
	StringInfoData buf;
	float	   *values;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	*dimensions = (int) pq_getmsgint(&buf, 2);
	(void) pq_getmsgint(&buf, 2);
	values = palloc(sizeof(float) * *dimensions);
	for (int i = 0; i < *dimensions; i++)
		values[i] = pq_getmsgfloat4(&buf);
	pfree(buf.data);
	pfree(bytes);
	return values;
}

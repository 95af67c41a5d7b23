/*
 * vector_type.c
 *		The functions of the type "vector".
 */
#include "postgres.h"

#include <float.h>

#include "port/pg_bswap.h"
#include "vector/dense_functions.h"

static void
vector_read_wire(const uint8 *data, void *elements, int n, VectorFinding *finding)
{
	vector_wire_floats(data, (float *) elements, n, finding);
}

static void
vector_write_wire(const void *elements, uint8 *data, int n)
{
	const uint32 *from = (const uint32 *) elements;

	for (int i = 0; i < n; i++)
	{
		uint32		bits = pg_hton32(from[i]);

		memcpy(data + sizeof(bits) * i, &bits, sizeof(bits));
	}
}

const DenseType vector_dense_vector = {
	.name = "vector",
	.max_dim = VECTOR_MAX_DIM,
	.element_size = sizeof(float),
	.largest = FLT_MAX,
	.read_wire = vector_read_wire,
	.write_wire = vector_write_wire,
};

DENSE_FUNCTION(vector_in, vector_dense_vector, vector_dense_in);
DENSE_FUNCTION(vector_out, vector_dense_vector, vector_dense_out);
DENSE_FUNCTION(vector_typmod_in, vector_dense_vector, vector_dense_typmod_in);
DENSE_FUNCTION(vector_recv, vector_dense_vector, vector_dense_recv);
DENSE_FUNCTION(vector_send, vector_dense_vector, vector_dense_send);

DENSE_FUNCTION(vector, vector_dense_vector, vector_dense_typmod_cast);
DENSE_FUNCTION(array_to_vector, vector_dense_vector, vector_dense_from_array);
DENSE_FUNCTION(vector_to_float4, vector_dense_vector, vector_dense_to_float4);

DENSE_FUNCTION(vector_add, vector_dense_vector, vector_dense_add);
DENSE_FUNCTION(vector_sub, vector_dense_vector, vector_dense_sub);
DENSE_FUNCTION(vector_mul, vector_dense_vector, vector_dense_mul);
DENSE_FUNCTION(vector_concat, vector_dense_vector, vector_dense_concat);
DENSE_FUNCTION(vector_dims, vector_dense_vector, vector_dense_dims);
DENSE_FUNCTION(vector_norm, vector_dense_vector, vector_dense_norm);
DENSE_FUNCTION(l2_normalize, vector_dense_vector, vector_dense_normalize);
DENSE_FUNCTION(subvector, vector_dense_vector, vector_dense_subvector);
DENSE_FUNCTION(binary_quantize, vector_dense_vector, vector_dense_binary_quantize);

DENSE_FUNCTION(vector_accum, vector_dense_vector, vector_dense_accum);
DENSE_FUNCTION(vector_avg, vector_dense_vector, vector_dense_avg);

DENSE_COMPARISON(vector_lt, vector_dense_vector, PG_RETURN_BOOL, c < 0);
DENSE_COMPARISON(vector_le, vector_dense_vector, PG_RETURN_BOOL, c <= 0);
DENSE_COMPARISON(vector_eq, vector_dense_vector, PG_RETURN_BOOL, c == 0);
DENSE_COMPARISON(vector_ne, vector_dense_vector, PG_RETURN_BOOL, c != 0);
DENSE_COMPARISON(vector_ge, vector_dense_vector, PG_RETURN_BOOL, c >= 0);
DENSE_COMPARISON(vector_gt, vector_dense_vector, PG_RETURN_BOOL, c > 0);
DENSE_COMPARISON(vector_cmp, vector_dense_vector, PG_RETURN_INT32, c);

DENSE_HASH(vector_hash, vector_dense_vector);

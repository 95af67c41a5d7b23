/*
 * halfvec_type.c
 *		The functions of the type "halfvec".
 */
#include "postgres.h"

#include "kernel/distance.h"
#include "port/pg_bswap.h"
#include "vector/dense_functions.h"

static void
halfvec_widen(const void *elements, float *to, int n)
{
	kernel_distance.widen((const kernel_half *) elements, to, n);
}

static void
halfvec_narrow(const float *from, void *elements, int n)
{
	kernel_distance.narrow(from, (kernel_half *) elements, n);
}

static void
halfvec_read_wire(const uint8 *data, void *elements, int n, VectorFinding *finding)
{
	vector_wire_halves(data, (kernel_half *) elements, n, finding);
}

static void
halfvec_write_wire(const void *elements, uint8 *data, int n)
{
	const uint16 *from = (const uint16 *) elements;

	for (int i = 0; i < n; i++)
	{
		uint16		bits = pg_hton16(from[i]);

		memcpy(data + sizeof(bits) * i, &bits, sizeof(bits));
	}
}

const DenseType vector_dense_halfvec = {
	.name = "halfvec",
	.max_dim = HALFVEC_MAX_DIM,
	.element_size = sizeof(half),
	.largest = 0x1.ffdffep15f,	/* the float below 65520, half way beyond the largest half */
	.widen = halfvec_widen,
	.narrow = halfvec_narrow,
	.read_wire = halfvec_read_wire,
	.write_wire = halfvec_write_wire,
};

DENSE_FUNCTION(halfvec_in, vector_dense_halfvec, vector_dense_in);
DENSE_FUNCTION(halfvec_out, vector_dense_halfvec, vector_dense_out);
DENSE_FUNCTION(halfvec_typmod_in, vector_dense_halfvec, vector_dense_typmod_in);
DENSE_FUNCTION(halfvec_recv, vector_dense_halfvec, vector_dense_recv);
DENSE_FUNCTION(halfvec_send, vector_dense_halfvec, vector_dense_send);

DENSE_FUNCTION(halfvec, vector_dense_halfvec, vector_dense_typmod_cast);
DENSE_FUNCTION(array_to_halfvec, vector_dense_halfvec, vector_dense_from_array);
DENSE_FUNCTION(halfvec_to_float4, vector_dense_halfvec, vector_dense_to_float4);

DENSE_FUNCTION(halfvec_add, vector_dense_halfvec, vector_dense_add);
DENSE_FUNCTION(halfvec_sub, vector_dense_halfvec, vector_dense_sub);
DENSE_FUNCTION(halfvec_mul, vector_dense_halfvec, vector_dense_mul);
DENSE_FUNCTION(halfvec_concat, vector_dense_halfvec, vector_dense_concat);
DENSE_FUNCTION(halfvec_vector_dims, vector_dense_halfvec, vector_dense_dims);
DENSE_FUNCTION(halfvec_l2_norm, vector_dense_halfvec, vector_dense_norm);
DENSE_FUNCTION(halfvec_l2_normalize, vector_dense_halfvec, vector_dense_normalize);
DENSE_FUNCTION(halfvec_subvector, vector_dense_halfvec, vector_dense_subvector);
DENSE_FUNCTION(halfvec_binary_quantize, vector_dense_halfvec, vector_dense_binary_quantize);

DENSE_FUNCTION(halfvec_accum, vector_dense_halfvec, vector_dense_accum);
DENSE_FUNCTION(halfvec_avg, vector_dense_halfvec, vector_dense_avg);

DENSE_COMPARISON(halfvec_lt, vector_dense_halfvec, PG_RETURN_BOOL, c < 0);
DENSE_COMPARISON(halfvec_le, vector_dense_halfvec, PG_RETURN_BOOL, c <= 0);
DENSE_COMPARISON(halfvec_eq, vector_dense_halfvec, PG_RETURN_BOOL, c == 0);
DENSE_COMPARISON(halfvec_ne, vector_dense_halfvec, PG_RETURN_BOOL, c != 0);
DENSE_COMPARISON(halfvec_ge, vector_dense_halfvec, PG_RETURN_BOOL, c >= 0);
DENSE_COMPARISON(halfvec_gt, vector_dense_halfvec, PG_RETURN_BOOL, c > 0);
DENSE_COMPARISON(halfvec_cmp, vector_dense_halfvec, PG_RETURN_INT32, c);

DENSE_HASH(halfvec_hash, vector_dense_halfvec);

/*
 * hnsw_type.c
 *		From values of the indexed types to what the codes are made of.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "hnsw/hnsw.h"
#include "kernel/distance.h"
#include "utils/varbit.h"
#include "vector/halfvec.h"
#include "vector/sparsevec.h"
#include "vector/vector.h"

#define DISTANCE_PROC	1
#define NORM_PROC		2

/* As many as fit into one sketch page. */
#define HNSW_MAX_BITS	64000

extern Datum vector_l2_squared_distance(PG_FUNCTION_ARGS);
extern Datum vector_negative_inner_product(PG_FUNCTION_ARGS);
extern Datum l1_distance(PG_FUNCTION_ARGS);
extern Datum halfvec_l2_squared_distance(PG_FUNCTION_ARGS);
extern Datum halfvec_negative_inner_product(PG_FUNCTION_ARGS);
extern Datum halfvec_l1_distance(PG_FUNCTION_ARGS);
extern Datum sparsevec_l2_squared_distance(PG_FUNCTION_ARGS);
extern Datum sparsevec_negative_inner_product(PG_FUNCTION_ARGS);
extern Datum sparsevec_l1_distance(PG_FUNCTION_ARGS);
extern Datum hamming_distance(PG_FUNCTION_ARGS);
extern Datum jaccard_distance(PG_FUNCTION_ARGS);

/* The distance function of an operator class tells type and metric; IP with a norm is cosine. */
static const struct
{
	PGFunction	distance;
	HnswType	type;
	QuantMetric metric;
}			known_distances[] = {
	{vector_l2_squared_distance, HNSW_TYPE_VECTOR, QUANT_L2},
	{vector_negative_inner_product, HNSW_TYPE_VECTOR, QUANT_IP},
	{l1_distance, HNSW_TYPE_VECTOR, QUANT_L1},
	{halfvec_l2_squared_distance, HNSW_TYPE_HALFVEC, QUANT_L2},
	{halfvec_negative_inner_product, HNSW_TYPE_HALFVEC, QUANT_IP},
	{halfvec_l1_distance, HNSW_TYPE_HALFVEC, QUANT_L1},
	{sparsevec_l2_squared_distance, HNSW_TYPE_SPARSEVEC, QUANT_L2},
	{sparsevec_negative_inner_product, HNSW_TYPE_SPARSEVEC, QUANT_IP},
	{sparsevec_l1_distance, HNSW_TYPE_SPARSEVEC, QUANT_L1},
	{hamming_distance, HNSW_TYPE_BIT, QUANT_HAMMING},
	{jaccard_distance, HNSW_TYPE_BIT, QUANT_JACCARD},
};

HnswOpclass
hnsw_opclass(Relation index)
{
	HnswOpclass opclass = {0};
	PGFunction	distance = index_getprocinfo(index, 1, DISTANCE_PROC)->fn_addr;

	for (int i = 0; i < (int) lengthof(known_distances); i++)
	{
		if (known_distances[i].distance != distance)
			continue;
		opclass.type = known_distances[i].type;
		opclass.metric = known_distances[i].metric;
		if (opclass.metric == QUANT_IP && OidIsValid(index_getprocid(index, 1, NORM_PROC)))
			opclass.metric = QUANT_COSINE;
		return opclass;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("type not supported for hnsw index"),
			 errdetail("The operator class of index \"%s\" has an unknown distance function.",
					   RelationGetRelationName(index))));
}

/* Dimensions as coded; sets opclass->folded. */
int
hnsw_column_dims(Relation index, HnswOpclass *opclass)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(index), 0);
	int			dims = attribute->atttypmod;

	if (opclass->type == HNSW_TYPE_BIT && attribute->atttypid == VARBITOID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("type not supported for hnsw index")));
	if (dims < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column does not have dimensions"),
				 errhint("Declare the column as, for example, vector(1536), or index an expression that "
						 "casts it to such a type.")));
	if (opclass->type == HNSW_TYPE_BIT && dims > HNSW_MAX_BITS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("column cannot have more than %d dimensions for hnsw index", HNSW_MAX_BITS)));
	if (opclass->type == HNSW_TYPE_SPARSEVEC && dims > HNSW_FOLDED_DIMS)
	{
		opclass->folded = true;
		dims = HNSW_FOLDED_DIMS;
	}
	return dims;
}

static void
check_dims(const char *type, int expected, int dims)
{
	if (unlikely(expected != dims))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different %s dimensions %d and %d", type, expected, dims)));
}

static bool
is_zero(const float *x, int n)
{
	for (int i = 0; i < n; i++)
		if (x[i] != 0)
			return false;
	return true;
}

static const float *
form_sparse(const HnswOpclass *opclass, SparseVector *v, int dims)
{
	float	   *x = palloc0(sizeof(float) * dims);
	const float *values = SPARSEVEC_VALUES(v);

	if (!opclass->folded)
		check_dims("sparsevec", dims, v->dim);
	for (int i = 0; i < v->nnz; i++)
	{
		uint32		hash;

		if (!opclass->folded)
		{
			x[v->indices[i]] = values[i];
			continue;
		}
		/* A random sign keeps inner products unbiased. */
		hash = murmurhash32((uint32) v->indices[i]);
		x[hash % dims] += (hash >> 31) ? -values[i] : values[i];
	}
	return x;
}

/*
 * The floats or bits to be coded, in the value itself or in the current
 * memory context.  Not indexable: a vector without direction under cosine.
 */
const void *
hnsw_form_value(const HnswOpclass *opclass, Datum datum, int dims, bool *indexable)
{
	const void *result = NULL;
	bool		sparse_zero = false;

	switch (opclass->type)
	{
		case HNSW_TYPE_VECTOR:
			{
				Vector	   *v = DatumGetVector(datum);

				check_dims("vector", dims, v->dim);
				result = v->x;
				break;
			}
		case HNSW_TYPE_HALFVEC:
			{
				HalfVector *v = DatumGetHalfVector(datum);
				float	   *x = palloc(sizeof(float) * dims);

				check_dims("halfvec", dims, v->dim);
				kernel_distance.widen(v->x, x, dims);
				result = x;
				break;
			}
		case HNSW_TYPE_SPARSEVEC:
			{
				SparseVector *v = DatumGetSparseVector(datum);

				result = form_sparse(opclass, v, dims);
				sparse_zero = is_zero(SPARSEVEC_VALUES(v), v->nnz);
				break;
			}
		case HNSW_TYPE_BIT:
			{
				VarBit	   *v = DatumGetVarBitP(datum);

				if (unlikely(VARBITLEN(v) != dims))
					ereport(ERROR,
							(errcode(ERRCODE_DATA_EXCEPTION),
							 errmsg("different bit lengths %d and %d", dims, VARBITLEN(v))));
				result = VARBITS(v);
				break;
			}
	}
	*indexable = true;

	/* A sparse value is not zero for being folded to zero; it was asked above. */
	if (opclass->metric == QUANT_COSINE)
		*indexable = opclass->type == HNSW_TYPE_SPARSEVEC ? !sparse_zero : !is_zero(result, dims);
	return result;
}

uint32
hnsw_value_hash(const HnswOpclass *opclass, const void *value, int dims)
{
	return hash_bytes(value, opclass->type == HNSW_TYPE_BIT ? (dims + 7) / 8 : dims * (int) sizeof(float));
}

/*
 * From the distance that SQL shows to the scale of the codes' distances
 * (quant.h), in the same order to the last bit.
 */
double
hnsw_graph_scale(const HnswOpclass *opclass, double exact)
{
	switch (opclass->metric)
	{
		case QUANT_L2:
			return exact * exact;
		case QUANT_COSINE:
			return 2 * exact;
		default:
			return exact;
	}
}

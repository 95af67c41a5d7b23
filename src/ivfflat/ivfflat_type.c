/*
 * ivfflat_type.c
 *		From values of the indexed types to distances.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "ivfflat/ivfflat.h"
#include "kernel/distance.h"
#include "utils/varbit.h"
#include "vector/halfvec.h"
#include "vector/vector.h"
#include "vector/vector_distance.h"

extern Datum vector_l2_squared_distance(PG_FUNCTION_ARGS);
extern Datum vector_negative_inner_product(PG_FUNCTION_ARGS);
extern Datum halfvec_l2_squared_distance(PG_FUNCTION_ARGS);
extern Datum halfvec_negative_inner_product(PG_FUNCTION_ARGS);
extern Datum hamming_distance(PG_FUNCTION_ARGS);

/* The distance function of an operator class tells type and metric; inner product with a norm is cosine. */
static const struct
{
	PGFunction	distance;
	IvfflatOpclass opclass;
}			known_distances[] = {
	{vector_l2_squared_distance, {IVFFLAT_VECTOR, IVFFLAT_L2}},
	{vector_negative_inner_product, {IVFFLAT_VECTOR, IVFFLAT_IP}},
	{halfvec_l2_squared_distance, {IVFFLAT_HALFVEC, IVFFLAT_L2}},
	{halfvec_negative_inner_product, {IVFFLAT_HALFVEC, IVFFLAT_IP}},
	{hamming_distance, {IVFFLAT_BIT, IVFFLAT_HAMMING}},
};

IvfflatOpclass
ivfflat_opclass(Relation index)
{
	PGFunction	distance = index_getprocinfo(index, 1, IVFFLAT_DISTANCE_PROC)->fn_addr;

	for (int i = 0; i < (int) lengthof(known_distances); i++)
	{
		IvfflatOpclass opclass = known_distances[i].opclass;

		if (known_distances[i].distance != distance)
			continue;
		if (opclass.metric == IVFFLAT_IP && OidIsValid(index_getprocid(index, 1, IVFFLAT_NORM_PROC)))
			opclass.metric = IVFFLAT_COSINE;
		return opclass;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("type not supported for ivfflat index"),
			 errdetail("The operator class of index \"%s\" has an unknown distance function.",
					   RelationGetRelationName(index))));
}

/* The dimensions the column is declared with, refused when it cannot be indexed. */
int
ivfflat_column_dims(Relation index, const IvfflatOpclass *opclass)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(index), 0);
	int			dims = attribute->atttypmod;
	static const int limits[] = {[IVFFLAT_VECTOR] = 2000, [IVFFLAT_HALFVEC] = 4000, [IVFFLAT_BIT] = 64000};
	int			most = limits[opclass->type];

	if (opclass->type == IVFFLAT_BIT && attribute->atttypid == VARBITOID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("type not supported for ivfflat index")));
	if (dims < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column does not have dimensions"),
				 errhint("Declare the column as, for example, vector(1536), "
						 "or index an expression with a cast.")));
	if (dims > most)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("column cannot have more than %d dimensions for ivfflat index", most)));
	if (dims == 1 && ivfflat_is_spherical(opclass))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dimensions must be greater than one for this opclass")));
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
is_zero(const IvfflatIndex *ix, const void *data)
{
	if (ix->opclass.type == IVFFLAT_VECTOR)
	{
		const float *x = data;

		for (int i = 0; i < ix->dims; i++)
			if (x[i] != 0)
				return false;
	}
	else
	{
		const half *x = data;

		for (int i = 0; i < ix->dims; i++)
			if ((x[i] & 0x7fff) != 0)
				return false;
	}
	return true;
}

/*
 * Take a value out of its varlena, which is made plain in the current memory
 * context if it is not.  False when it has no place in the index: a vector
 * without direction under cosine; it may still be asked for.
 */
bool
ivfflat_form_value(const IvfflatIndex *ix, Datum datum, IvfflatValue *value)
{
	value->norm = 0;
	if (ix->opclass.type == IVFFLAT_BIT)
	{
		VarBit	   *v = DatumGetVarBitP(datum);

		if (unlikely(VARBITLEN(v) != ix->dims))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("different bit lengths %d and %d", ix->dims, VARBITLEN(v))));
		value->data = VARBITS(v);
		return true;
	}
	if (ix->opclass.type == IVFFLAT_VECTOR)
	{
		Vector	   *v = DatumGetVector(datum);

		check_dims("vector", ix->dims, v->dim);
		value->data = v->x;
		if (ix->opclass.metric == IVFFLAT_COSINE)
			value->norm = kernel_distance.cosine_f32(v->x, v->x, v->dim).norm_a;
	}
	else
	{
		HalfVector *v = DatumGetHalfVector(datum);

		check_dims("halfvec", ix->dims, v->dim);
		value->data = v->x;
		if (ix->opclass.metric == IVFFLAT_COSINE)
			value->norm = kernel_distance.cosine_f16(v->x, v->x, v->dim).norm_a;
	}
	return ix->opclass.metric != IVFFLAT_COSINE || !is_zero(ix, value->data);
}

/*
 * One loop for each kernel, so that nothing is decided per value; "data" is
 * the value in a slot, and "result" an expression of it.
 */
#define FOR_EACH_SLOT(Element, result) \
	do { \
		const Element *q = (const Element *) query->data; \
		\
		for (int i = 0; i < count; i++) \
		{ \
			const char *slot = slots + stride * i; \
			const Element *data = (const Element *) (slot + header); \
			\
			distances[i] = (result); \
		} \
	} while (0)

#define COSINE(product) \
	vector_cosine_distance((KernelCosine) {(product), ((const IvfflatEntry *) slot)->norm, query->norm})

typedef struct Slots
{
	const char *slots;
	Size		stride;
	Size		header;
	int			count;
} Slots;

/* Distances that order as the operator's do; cosine as the operator itself computes it, to the last bit. */
static void
slot_distances(const IvfflatIndex *ix, IvfflatMetric metric, const IvfflatValue *query, Slots of,
			   double *distances)
{
	const char *slots = of.slots;
	Size		stride = of.stride;
	Size		header = of.header;
	int			count = of.count;
	int			n = ix->dims;

	if (ix->opclass.type == IVFFLAT_BIT)
		FOR_EACH_SLOT(uint8_t, (double) kernel_distance.hamming(q, data, ix->value_size));
	else if (ix->opclass.type == IVFFLAT_VECTOR && metric == IVFFLAT_L2)
		FOR_EACH_SLOT(float, kernel_distance.l2_squared_f32(data, q, n));
	else if (ix->opclass.type == IVFFLAT_VECTOR && metric == IVFFLAT_IP)
		FOR_EACH_SLOT(float, -kernel_distance.dot_f32(data, q, n));
	else if (ix->opclass.type == IVFFLAT_VECTOR)
		FOR_EACH_SLOT(float, COSINE(kernel_distance.dot_f32(data, q, n)));
	else if (metric == IVFFLAT_L2)
		FOR_EACH_SLOT(kernel_half, kernel_distance.l2_squared_f16(data, q, n));
	else if (metric == IVFFLAT_IP)
		FOR_EACH_SLOT(kernel_half, -kernel_distance.dot_f16(data, q, n));
	else
		FOR_EACH_SLOT(kernel_half, COSINE(kernel_distance.dot_f16(data, q, n)));

	/* As SQL sorts it: after everything else. */
	for (int i = 0; i < count; i++)
		if (unlikely(isnan(distances[i])))
			distances[i] = INFINITY;
}

/* Distances to "count" centers of one page.  Centers have length 1 where only the angle counts. */
void
ivfflat_center_distances(const IvfflatIndex *ix, const IvfflatValue *query, const char *centers, int count,
						 double *distances)
{
	Slots		slots = {centers, ix->center_size, 0, count};
	IvfflatMetric metric = ivfflat_is_spherical(&ix->opclass) ? IVFFLAT_IP : ix->opclass.metric;

	slot_distances(ix, metric, query, slots, distances);
}

/* Distances to "count" entries of one page; all zero for the SQL null. */
void
ivfflat_entry_distances(const IvfflatIndex *ix, const IvfflatValue *query, const char *entries, int count,
						double *distances)
{
	Slots		slots = {entries, ix->entry_size, ix->entry_header, count};

	if (query->data == NULL)
		memset(distances, 0, sizeof(double) * count);
	else
		slot_distances(ix, ix->opclass.metric, query, slots, distances);
}

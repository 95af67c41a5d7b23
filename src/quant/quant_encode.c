/*
 * quant_encode.c
 *		Choice of the codes, rotation and encoding.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "common/hashfn.h"
#include "kernel/code.h"
#include "kernel/distance.h"
#include "port/pg_bswap.h"
#include "quant/quant.h"

/* Up to this many dimensions the floats are no larger than codes worth having. */
#define PLAIN_DIMS 32

/* A sketch of fewer bits than this is too coarse to steer by. */
#define SKETCH_MIN_BITS 384

#define WORD_MAX 2047			/* kernel/code.h: 12 bits keep the sums in range */
#define FINE_PLANES 8

/* Steps of the uniform quantiser with least error for a normal distribution, by number of bits. */
static const float plane_step[] = {0, 1.596f, 0.9957f, 0.5860f, 0.3352f};

#define MAX_PLANES ((int) lengthof(plane_step) - 1)

static int
plane_words(int dims)
{
	return (dims + 63) / 64;
}

void
quant_choose(QuantSpec *spec, QuantMetric metric, int dims, Size sketch_room, Size code_room)
{
	memset(spec, 0, sizeof(QuantSpec));
	spec->metric = metric;
	spec->dims = dims;
	spec->code_dims = dims;
	spec->seed = UINT64CONST(0x76656374);

	if (metric == QUANT_HAMMING || metric == QUANT_JACCARD)
	{
		spec->kind = QUANT_BITS;
		spec->sketch_bits = 1;
	}
	else if (dims <= PLAIN_DIMS)
	{
		spec->kind = QUANT_PLAIN;
		spec->sketch_bits = 32;
	}
	else if (metric == QUANT_L1)
	{
		spec->kind = QUANT_AFFINE;
		spec->sketch_bits = 8;
		spec->code_dims = Min(dims, (int) (sketch_room / CODE_ALIGN * CODE_ALIGN));
	}
	else
	{
		spec->kind = QUANT_ROTATED;
		spec->sketch_bits = Max(1, Min(MAX_PLANES, (SKETCH_MIN_BITS + dims / 2) / dims));
		if (TYPEALIGN(CODE_ALIGN, dims) <= code_room)
			spec->code_bits = 8;
		else
		{
			/* Random leading dimensions of a rotated vector stand for all of them. */
			spec->code_bits = 4;
			spec->code_dims = Min(dims, (int) (code_room / (64 / 8 * spec->code_bits)) * 64);
		}
	}
}

static uint64
next_random(uint64 *state)
{
	uint64		z = (*state += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void
quant_prepare(QuantSpec *spec, uint32 *signs)
{
	uint64		state = spec->seed;

	switch (spec->kind)
	{
		case QUANT_PLAIN:
			spec->sketch_bytes = sizeof(float) * spec->dims;
			break;
		case QUANT_AFFINE:
			spec->sketch_bytes = TYPEALIGN(CODE_ALIGN, spec->code_dims);
			break;
		case QUANT_BITS:
			spec->sketch_bytes = (spec->dims + 7) / 8;
			break;
		case QUANT_ROTATED:
			spec->sketch_bytes = sizeof(uint64) * plane_words(spec->dims) * spec->sketch_bits;
			spec->code_bytes = spec->code_bits == 8 ? TYPEALIGN(CODE_ALIGN, spec->code_dims) :
				sizeof(uint64) * plane_words(spec->code_dims) * spec->code_bits;
			spec->hadamard = 1;
			while (spec->hadamard * 2 <= spec->dims)
				spec->hadamard *= 2;
			spec->signs = signs;
			if (signs != NULL)
				break;
			spec->signs = palloc0(sizeof(uint32) * quant_sign_words(spec));
			signs = spec->signs;
			for (int round = 0; round < QUANT_ROUNDS; round++, signs += (spec->dims + 31) / 32)
				for (int i = 0; i < spec->dims; i++)
					if ((next_random(&state) & 1) == 0)
						signs[i / 32] |= (uint32) 1 << (i % 32);
			break;
	}
}

bool
quant_normalize(float *x, int dims)
{
	double		norm = sqrt(kernel_code.norm_squared(x, dims));

	if (norm == 0)
		return false;
	kernel_code.scale(x, 1 / norm, dims);
	return true;
}

/*
 * Flip signs and transform the leading or the trailing power of two of the
 * dimensions, by turns: after four rounds every dimension has been spread
 * over all, and lengths and angles are what they were.
 */
static void
rotate(const QuantSpec *spec, float *x)
{
	const uint32 *signs = spec->signs;

	for (int round = 0; round < QUANT_ROUNDS; round++)
	{
		kernel_code.flip(x, signs, spec->dims);
		kernel_code.hadamard((round % 2) ? x + (spec->dims - spec->hadamard) : x, spec->hadamard);
		signs += (spec->dims + 31) / 32;
	}
}

/* Normalise, centre and rotate, as the kind demands. */
static void
transform(const QuantSpec *spec, const float *value, float *x)
{
	memcpy(x, value, sizeof(float) * spec->dims);
	if (spec->metric == QUANT_COSINE)
		quant_normalize(x, spec->dims);
	if (spec->kind != QUANT_ROTATED)
		return;
	if (spec->centroid != NULL)
		kernel_code.subtract(x, spec->centroid, spec->dims);
	rotate(spec, x);
}

static float
to_float(double value)
{
	if (!(value < FLT_MAX))
		return FLT_MAX;
	return value < -FLT_MAX ? -FLT_MAX : (float) value;
}

/* The lowest bits of eight bytes, the first byte's lowest. */
static inline uint64
low_bits(uint64 bytes)
{
	return (bytes & UINT64CONST(0x0101010101010101)) * UINT64CONST(0x0102040810204080) >> 56;
}

/* Add up the inner product of x with odd numbers, in four parts, which need not wait for each other. */
static void
add_products(const float *x, const uint8 *levels, int top, int n, double *sum)
{
	for (int i = 0; i < n; i++)
		sum[i % 4] += (double) x[i] * (2 * levels[i] - top);
}

/*
 * Bit planes of odd numbers near x / scale.  Plane k of word w is
 * planes[w * bits + k].  "product", where it is wanted, becomes the inner
 * product of x with the numbers.
 */
static void
to_planes(const float *x, int n, int bits, float scale, uint64 *planes, double *product)
{
	int			top = (1 << bits) - 1;
	float		factor = scale > 0 ? 0.5f / scale : 0;
	double		sum[4] = {0};

	for (int w = 0; w < plane_words(n); w++)
	{
		int			count = Min(64, n - w * 64);
		uint8		levels[64] = {0};

		kernel_code.to_levels(x + w * 64, factor, 0.5f * (top + 1), top, levels, count);
		if (product != NULL)
			add_products(x + w * 64, levels, top, count, sum);
		for (int k = 0; k < bits; k++)
		{
			uint64		plane = 0;

			for (int i = 0; i < 64; i += 8)
			{
				uint64		eight;

				memcpy(&eight, levels + i, sizeof(eight));
#ifdef WORDS_BIGENDIAN
				eight = pg_bswap64(eight);
#endif
				plane |= low_bits(eight >> k) << i;
			}
			planes[w * bits + k] = plane;
		}
	}
	if (product != NULL)
		*product = (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* The scale of planes for values with the spread of x. */
static float
planes_scale(const float *x, int n, int bits, double squared)
{
	if (bits > MAX_PLANES)
		return kernel_code.largest(x, n) / (float) ((1 << bits) - 1);
	return (float) sqrt(squared / n) * plane_step[bits] / 2;
}

static QuantFactors
make_factors(double squared, double sum)
{
	QuantFactors factors;

	factors.rescale = sum > 0 ? to_float(squared / sum) : 0;
	factors.add = to_float(squared);
	return factors;
}

static void
encode_sketch(const QuantSpec *spec, const float *x, double squared, QuantCodes *codes)
{
	int			bits = spec->sketch_bits;
	float		scale = planes_scale(x, spec->dims, bits, squared);
	double		product;

	to_planes(x, spec->dims, bits, scale, (uint64 *) codes->sketch, &product);
	codes->sketch_factors = make_factors(squared, product);
}

static void
encode_code(const QuantSpec *spec, const float *x, double squared, QuantCodes *codes)
{
	int			n = spec->code_dims;
	double		sum = 0;

	if (spec->code_bits == 8)
	{
		float		top = kernel_code.largest(x, n);
		int8	   *code = (int8 *) codes->code;
		float		factor = top > 0 ? 127.0f / top : 0;

		/* The reciprocal of a subnormal number is infinite. */
		if (!(factor <= FLT_MAX))
			factor = 0;
		kernel_code.to_i8(x, factor, code, n);
		memset(code + n, 0, spec->code_bytes - n);
		for (int i = 0; i < n; i++)
			sum += (double) x[i] * code[i];
	}
	else
		to_planes(x, n, spec->code_bits,
				  planes_scale(x, n, spec->code_bits, kernel_code.norm_squared(x, n)), (uint64 *) codes->code,
				  &sum);
	codes->code_factors = make_factors(squared, sum);
}

/*
 * Bytes under a map from the vector's range.  Where that has zero in it, zero
 * is one of the bytes' values: most dimensions of a sparse vector are zero,
 * and what all of them were off by would add up.
 */
static void
encode_affine(const QuantSpec *spec, const float *x, QuantCodes *codes)
{
	int			n = spec->code_dims;
	float		low = FLT_MAX;
	float		high = -FLT_MAX;
	float		step;

	for (int i = 0; i < spec->dims; i++)
	{
		low = Min(low, x[i]);
		high = Max(high, x[i]);
	}
	step = high / 255.0f - low / 255.0f;
	if (low < 0 && high > 0)
	{
		/* One value fewer for the range leaves room to move it down to a multiple of the step. */
		step = high / 254.0f - low / 254.0f;
		low = -step * ceilf(-low / step);
	}
	for (int i = 0; i < n; i++)
	{
		float		value = x[(int64) i * spec->dims / n];

		codes->sketch[i] = step > 0 ? (uint8) Min(255.0f, (value - low) / step + 0.5f) : 0;
	}
	memset(codes->sketch + n, 0, spec->sketch_bytes - n);
	codes->sketch_factors.rescale = step;
	codes->sketch_factors.add = low;
}

void
quant_init_codes(const QuantSpec *spec, QuantCodes *codes)
{
	memset(codes, 0, sizeof(QuantCodes));
	codes->sketch = palloc0(spec->sketch_bytes);
	codes->code = quant_has_code(spec) ? palloc0(spec->code_bytes) : NULL;
}

static void
encode_rotated(const QuantSpec *spec, const float *x, QuantCodes *codes)
{
	double		squared = kernel_code.norm_squared(x, spec->dims);

	encode_sketch(spec, x, squared, codes);
	encode_code(spec, x, squared, codes);
}

/* work has room for dims floats. */
void
quant_encode(const QuantSpec *spec, const void *value, float *work, QuantCodes *codes)
{
	switch (spec->kind)
	{
		case QUANT_BITS:
			memcpy(codes->sketch, value, spec->sketch_bytes);
			return;
		case QUANT_PLAIN:
			transform(spec, value, work);
			memcpy(codes->sketch, work, spec->sketch_bytes);
			return;
		case QUANT_AFFINE:
			encode_affine(spec, value, codes);
			return;
		case QUANT_ROTATED:
			transform(spec, value, work);
			encode_rotated(spec, work, codes);
			return;
	}
}

void
quant_encode_query(const QuantQuery *query, const void *value, QuantCodes *codes)
{
	const QuantSpec *spec = query->spec;

	if (spec->kind == QUANT_ROTATED)
		encode_rotated(spec, query->x, codes);
	else if (spec->kind == QUANT_PLAIN)
		memcpy(codes->sketch, query->x, spec->sketch_bytes);
	else
		quant_encode(spec, value, NULL, codes);
}

void
quant_init_query(const QuantSpec *spec, QuantQuery *query)
{
	int			words = plane_words(spec->dims);

	memset(query, 0, sizeof(QuantQuery));
	query->spec = spec;
	if (spec->kind == QUANT_BITS)
	{
		query->bits = palloc(spec->sketch_bytes);
		return;
	}
	query->x = palloc(sizeof(float) * spec->dims);
	if (spec->kind != QUANT_ROTATED)
		return;
	query->planes = palloc(sizeof(uint64) * words * CODE_QUERY_PLANES);
	if (spec->code_bits == 8)
		query->words = palloc0(sizeof(int16) * TYPEALIGN(CODE_ALIGN, spec->code_dims));
	else
		query->fine_planes = palloc(sizeof(uint64) * plane_words(spec->code_dims) * FINE_PLANES);
}

void
quant_set_query(QuantQuery *query, const void *value)
{
	const QuantSpec *spec = query->spec;
	int			plane_sum = (1 << CODE_QUERY_PLANES) - 1;
	double		squared;
	float		top;

	if (spec->kind == QUANT_BITS)
	{
		memcpy(query->bits, value, spec->sketch_bytes);
		return;
	}
	if (spec->kind == QUANT_AFFINE)
	{
		for (int i = 0; i < spec->code_dims; i++)
			query->x[i] = ((const float *) value)[(int64) i * spec->dims / spec->code_dims];
		return;
	}
	transform(spec, value, query->x);
	squared = kernel_code.norm_squared(query->x, spec->dims);
	query->norm_squared = to_float(squared);
	query->norm = to_float(sqrt(squared));
	if (spec->kind != QUANT_ROTATED)
		return;

	query->plane_scale = planes_scale(query->x, spec->dims, CODE_QUERY_PLANES, squared);
	to_planes(query->x, spec->dims, CODE_QUERY_PLANES, query->plane_scale, query->planes, NULL);
	query->sketch_base = (float) spec->dims * plane_sum * ((1 << spec->sketch_bits) - 1);
	query->sketch_scale = query->plane_scale;
	if (spec->code_bits == 8)
	{
		top = kernel_code.largest(query->x, spec->code_dims);
		query->word_scale = top / WORD_MAX;
		kernel_code.to_i16(query->x, query->word_scale > 0 && WORD_MAX / top <= FLT_MAX ? WORD_MAX / top : 0,
						   query->words, spec->code_dims);
	}
	else
	{
		query->fine_scale = planes_scale(query->x, spec->code_dims, FINE_PLANES, 0);
		to_planes(query->x, spec->code_dims, FINE_PLANES, query->fine_scale, query->fine_planes, NULL);
	}
}

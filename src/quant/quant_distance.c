/*
 * quant_distance.c
 *		Distances estimated from codes.
 *
 * The inner product with a rotated vector is estimated as the product of the
 * query with the code's whole numbers, times rescale = |o|^2 / <o, code>:
 * this makes the estimate unbiased over rotations (RaBitQ, SIGMOD 2024).
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "kernel/code.h"
#include "kernel/distance.h"
#include "quant/quant.h"

#define FINE_PLANES 8

/* Sketches whose bits are counted in one go. */
#define AT_ONCE 64

/* Three standard deviations of an error spread evenly over one step. */
#define STEP_ERROR (3 * 0.2887f)

static inline float
usable(float distance)
{
	return distance == distance ? distance : FLT_MAX;
}

/* From an inner product to a distance. */
static inline float
from_product(const QuantSpec *spec, float norm_squared, float product, float add)
{
	if (spec->metric == QUANT_IP)
		return usable(-product);
	return usable(norm_squared + add - 2 * product);
}

static float
plain_distance(const QuantSpec *spec, const float *a, const float *b)
{
	switch (spec->metric)
	{
		case QUANT_IP:
			return usable(-kernel_distance.dot_f32(a, b, spec->dims));
		case QUANT_L1:
			return usable(kernel_distance.l1_f32(a, b, spec->dims));
		default:
			return usable(kernel_distance.l2_squared_f32(a, b, spec->dims));
	}
}

/* A sum over the coded dimensions, extended to all. */
static inline float
whole_sum(const QuantSpec *spec, float sum)
{
	return spec->code_dims == spec->dims ? sum : sum * ((float) spec->dims / spec->code_dims);
}

static float
bits_distance(const QuantSpec *spec, const uint8 *a, const uint8 *b)
{
	KernelOverlap overlap;

	if (spec->metric == QUANT_HAMMING)
		return (float) kernel_distance.hamming(a, b, spec->sketch_bytes);
	overlap = kernel_distance.overlap(a, b, spec->sketch_bytes);
	return overlap.both == 0 ? 1.0f : 1.0f - (float) ((double) overlap.both / (double) overlap.either);
}

/* From the number of bits in which a sketch differs from the query, weighed by plane. */
static inline float
from_differing(const QuantQuery *query, float differing, QuantFactors factors)
{
	return from_product(query->spec, query->norm_squared,
						query->sketch_scale * factors.rescale * (query->sketch_base - 2 * differing),
						factors.add);
}

float
quant_sketch_distance(const QuantQuery *query, const uint8 *sketch, QuantFactors factors)
{
	const QuantSpec *spec = query->spec;
	Size		words;
	uint64		differing;
	float		sum;

	switch (spec->kind)
	{
		case QUANT_PLAIN:
			return plain_distance(spec, query->x, (const float *) sketch);
		case QUANT_AFFINE:
			sum = kernel_code.l1_f32_u8(query->x, sketch, factors.add, factors.rescale, spec->code_dims);
			return usable(whole_sum(spec, sum));
		case QUANT_BITS:
			return bits_distance(spec, query->bits, sketch);
		case QUANT_ROTATED:
			break;
	}
	words = (spec->dims + 63) / 64;
	if (spec->sketch_bits == 1)
		differing = kernel_code.xor_query(query->planes, (const uint64 *) sketch, words);
	else
		differing = kernel_code.xor_planes(query->planes, CODE_QUERY_PLANES,
										   (const uint64 *) sketch, spec->sketch_bits, words);
	return from_differing(query, (float) differing, factors);
}

void
quant_sketch_distances(const QuantQuery *query, const uint8 *const *sketches, int count, float *distances)
{
	const QuantSpec *spec = query->spec;
	uint32		differing[AT_ONCE];
	QuantFactors factors;

	if (spec->kind != QUANT_ROTATED || spec->sketch_bits != 1)
	{
		for (int i = 0; i < count; i++)
		{
			memcpy(&factors, sketches[i] - sizeof(QuantFactors), sizeof(QuantFactors));
			distances[i] = quant_sketch_distance(query, sketches[i], factors);
		}
		return;
	}
	for (int start = 0; start < count; start += AT_ONCE)
	{
		int			end = Min(start + AT_ONCE, count);

		kernel_code.xor_rows(query->planes, sketches + start, end - start, (spec->dims + 63) / 64, differing);
		for (int i = start; i < end; i++)
		{
			memcpy(&factors, sketches[i] - sizeof(QuantFactors), sizeof(QuantFactors));
			distances[i] = from_differing(query, (float) differing[i - start], factors);
		}
	}
}

void
quant_sketch_glances(const QuantQuery *query, const uint8 *const *sketches, int count, float *distances)
{
	const QuantSpec *spec = query->spec;
	uint32		differing[AT_ONCE];

	if (spec->kind != QUANT_ROTATED || spec->sketch_bits != 1)
	{
		quant_sketch_distances(query, sketches, count, distances);
		return;
	}
	for (int start = 0; start < count; start += AT_ONCE)
	{
		int			n = Min(count - start, AT_ONCE);

		kernel_code.xor_signs(query->planes, sketches + start, n, (spec->dims + 63) / 64, differing);
		for (int i = 0; i < n; i++)
			distances[start + i] = (float) differing[i];
	}
}

float
quant_code_distance(const QuantQuery *query, const uint8 *code, QuantFactors factors)
{
	const QuantSpec *spec = query->spec;
	double		base;
	uint64		differing;
	float		product;

	if (spec->code_bits == 8)
		product = query->word_scale * factors.rescale *
			(float) kernel_code.dot_i16_i8(query->words, (const int8 *) code, spec->code_bytes);
	else
	{
		differing = kernel_code.xor_planes(query->fine_planes, FINE_PLANES,
										   (const uint64 *) code, spec->code_bits,
										   (spec->code_dims + 63) / 64);
		base = (double) spec->code_dims * ((1 << FINE_PLANES) - 1) * ((1 << spec->code_bits) - 1);
		product = query->fine_scale * factors.rescale * (float) (base - 2.0 * (double) differing);
	}
	return from_product(spec, query->norm_squared, product, factors.add);
}

float
quant_pair_distance(const QuantSpec *spec, const uint8 *a, QuantFactors factors_a,
					const uint8 *b, QuantFactors factors_b)
{
	double		base;
	uint64		differing;
	float		product;

	switch (spec->kind)
	{
		case QUANT_PLAIN:
			return plain_distance(spec, (const float *) a, (const float *) b);
		case QUANT_BITS:
			return bits_distance(spec, a, b);
		case QUANT_AFFINE:
			product = 0;
			for (int i = 0; i < spec->code_dims; i++)
				product += fabsf((factors_a.add - factors_b.add) +
								 (factors_a.rescale * a[i] - factors_b.rescale * b[i]));
			return usable(whole_sum(spec, product));
		case QUANT_ROTATED:
			break;
	}
	if (spec->code_bits == 8)
		product = (float) kernel_code.dot_i8_i8((const int8 *) a, (const int8 *) b, spec->code_bytes);
	else
	{
		differing = kernel_code.xor_planes((const uint64 *) a, spec->code_bits,
										   (const uint64 *) b, spec->code_bits, (spec->code_dims + 63) / 64);
		base = (double) spec->code_dims * ((1 << spec->code_bits) - 1) * ((1 << spec->code_bits) - 1);
		product = (float) (base - 2.0 * (double) differing);
	}
	return from_product(spec, factors_a.add, product * factors_a.rescale * factors_b.rescale, factors_b.add);
}

float
quant_slack(const QuantQuery *query, QuantFactors factors, float distance)
{
	const QuantSpec *spec = query->spec;
	float		slack;
	float		left_out;

	switch (spec->kind)
	{
		case QUANT_PLAIN:
			/* The exact distance has a float's error of its own, of vectors of length one. */
			return 1e-5f * fabsf(distance) + (spec->metric == QUANT_COSINE ? 1e-6f : FLT_MIN);
		case QUANT_BITS:
			return 1e-6f;
		case QUANT_AFFINE:
			left_out = 1.0f - (float) spec->code_dims / spec->dims;

			/* Rounding one of two values nearer than a step makes their difference larger on average. */
			slack = factors.rescale * (0.25f * spec->code_dims + STEP_ERROR * sqrtf((float) spec->code_dims));
			slack = whole_sum(spec, slack) + 2.5f * distance * sqrtf(left_out / spec->code_dims);
			return usable(slack) + 1e-5f * fabsf(distance);
		case QUANT_ROTATED:
			break;
	}
	left_out = 1.0f - (float) spec->code_dims / spec->dims;
	slack = STEP_ERROR * (spec->code_bits == 8 ? 1.0f : 2.0f) * factors.rescale * query->norm +
		3 * query->norm * sqrtf(factors.add) * sqrtf(left_out / spec->code_dims);
	if (spec->metric != QUANT_IP)
		slack *= 2;
	return usable(slack);
}

float
quant_sketch_error(const QuantQuery *query, QuantFactors factors)
{
	/* The part of a random direction that so many bits leave over, against the part they keep. */
	static const float error[] = {0, 0.756f, 0.365f, 0.192f, 0.107f};
	const QuantSpec *spec = query->spec;
	float		result;

	if (spec->kind != QUANT_ROTATED)
		return 0;
	result = error[spec->sketch_bits] * query->norm * sqrtf(factors.add / spec->dims);
	if (spec->metric != QUANT_IP)
		result *= 2;
	return usable(result);
}

/*
 * ivfflat_kmeans.c
 *		The centers of the lists: k-means over a sample of the rows.
 *
 * Centers start as k-means++ chooses them, and move by Lloyd's iterations.
 * For inner product and cosine, where only the direction counts, samples and
 * centers have length 1 (spherical k-means).  Chance comes from a fixed seed:
 * the same rows give the same centers.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "common/pg_prng.h"
#include "ivfflat/ivfflat.h"
#include "kernel/distance.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define SEED			UINT64CONST(0x6c69737473)
#define ITERATIONS		10
#define ENOUGH			0.002	/* share of samples that may still change their center at the end */

/* The start looks at no more samples than these: it needs a pass over them for every center. */
#define START_SAMPLES	10000
#define START_PER_LIST	8

typedef struct Clustering
{
	const IvfflatPoints *samples;
	IvfflatPoints *centers;
	int		   *nearest;		/* for each sample */
	int		   *before;			/* the same, an iteration ago */
	float	   *distances;
	int		   *order;			/* samples by center */
	int		   *starts;			/* where a center's samples begin in "order"; one more than centers */
	double	   *sums;			/* for one center */
} Clustering;

/* What ivfflat_kmeans will have in use, its samples included. */
Size
ivfflat_kmeans_memory(const IvfflatIndex *ix, int samples, int lists)
{
	Size		stride = ivfflat_points_stride(ix);

	return stride * samples + stride * lists + sizeof(int) * (lists + 1) + sizeof(double) * ix->dims +
		(sizeof(int) * 3 + sizeof(float)) * samples;
}

/* The weight a point has in the choice of the next center: its squared distance. */
static float
start_weight(const IvfflatPoints *samples, const char *a, const char *b)
{
	float		d;

	if (samples->opclass.type == IVFFLAT_BIT)
		return (float) kernel_distance.hamming((const uint8 *) a, (const uint8 *) b, samples->stride);
	d = kernel_distance.l2_squared_f32((const float *) a, (const float *) b, samples->dims);
	return d < FLT_MAX ? d : FLT_MAX;
}

/*
 * k-means++: every further center is a sample, chosen with a probability
 * proportional to its squared distance from the centers there are.  Ends with
 * fewer centers than wanted when no other sample differs from them.
 */
static void
choose_start(const IvfflatPoints *samples, int lists, IvfflatPoints *centers, float *weights)
{
	int			count = Min(samples->count, Max(START_SAMPLES, START_PER_LIST * lists));
	pg_prng_state random;
	int			chosen = 0;

	/* The samples are in random order: the first ones serve. */
	pg_prng_seed(&random, SEED);
	for (int i = 0; i < count; i++)
		weights[i] = FLT_MAX;
	for (centers->count = 0; centers->count < lists;)
	{
		const char *center = samples->values + samples->stride * chosen;
		double		total = 0;
		double		left;

		memcpy(centers->values + centers->stride * centers->count, center, centers->stride);
		centers->count++;
		for (int i = 0; i < count; i++)
		{
			float		weight = start_weight(samples, samples->values + samples->stride * i, center);

			weights[i] = Min(weights[i], weight);
			total += weights[i];
			if (i % 1024 == 0)
				CHECK_FOR_INTERRUPTS();
		}
		if (!(total > 0))
			break;
		left = pg_prng_double(&random) * total;
		chosen = -1;
		for (int i = 0; i < count; i++)
		{
			if (weights[i] <= 0)
				continue;
			chosen = i;
			left -= weights[i];
			if (left <= 0)
				break;
		}
	}
}

/* Sort the samples by their center. */
static void
group_samples(Clustering *c)
{
	int			lists = c->centers->count;

	memset(c->starts, 0, sizeof(int) * (lists + 1));
	for (int i = 0; i < c->samples->count; i++)
		c->starts[c->nearest[i] + 1]++;
	for (int i = 0; i < lists; i++)
		c->starts[i + 1] += c->starts[i];
	/* Filling moves each start to the next one's place; moved back below. */
	for (int i = 0; i < c->samples->count; i++)
		c->order[c->starts[c->nearest[i]]++] = i;
	for (int i = lists; i > 0; i--)
		c->starts[i] = c->starts[i - 1];
	c->starts[0] = 0;
}

/* A center without samples takes the place of the sample that is farthest from its own. */
static void
move_empty(Clustering *c, int list)
{
	int			farthest = 0;

	for (int i = 1; i < c->samples->count; i++)
		if (c->distances[i] > c->distances[farthest])
			farthest = i;
	memcpy(c->centers->values + c->centers->stride * list,
		   c->samples->values + c->samples->stride * farthest, c->centers->stride);
	c->distances[farthest] = -FLT_MAX;
}

/* Of each bit, what most samples have. */
static void
majority(const Clustering *c, int first, int end, uint8 *center)
{
	memset(c->sums, 0, sizeof(double) * c->samples->dims);
	for (int i = first; i < end; i++)
	{
		const uint8 *sample = (const uint8 *) c->samples->values + c->samples->stride * c->order[i];

		for (int d = 0; d < c->samples->dims; d++)
			c->sums[d] += sample[d / 8] >> (7 - d % 8) & 1;
	}
	memset(center, 0, c->samples->stride);
	for (int d = 0; d < c->samples->dims; d++)
		if (c->sums[d] * 2 > end - first)
			center[d / 8] |= 1 << (7 - d % 8);
}

static void
mean(const Clustering *c, int first, int end, float *center)
{
	int			dims = c->samples->dims;

	memset(c->sums, 0, sizeof(double) * dims);
	for (int i = first; i < end; i++)
	{
		const float *sample = (const float *) (c->samples->values + c->samples->stride * c->order[i]);

		for (int d = 0; d < dims; d++)
			c->sums[d] += sample[d];
	}
	for (int d = 0; d < dims; d++)
		center[d] = (float) (c->sums[d] / (end - first));
	if (ivfflat_is_spherical(&c->samples->opclass))
		(void) ivfflat_scale_to_one(center, dims);
}

static void
move_centers(Clustering *c)
{
	group_samples(c);
	for (int list = 0; list < c->centers->count; list++)
	{
		char	   *center = c->centers->values + c->centers->stride * list;
		int			first = c->starts[list];
		int			end = c->starts[list + 1];

		if (first == end)
			move_empty(c, list);
		else if (c->samples->opclass.type == IVFFLAT_BIT)
			majority(c, first, end, (uint8 *) center);
		else
			mean(c, first, end, (float *) center);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Fill "centers", which has room for "lists" and gets at least one, from at
 * least one sample.
 */
void
ivfflat_kmeans(const IvfflatPoints *samples, int lists, IvfflatPoints *centers)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfflat k-means",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Clustering	c = {.samples = samples, .centers = centers};
	int			n = samples->count;

	Assert(n > 0 && lists > 0);
	c.nearest = palloc_extended(sizeof(int) * (Size) n, MCXT_ALLOC_HUGE);
	c.before = palloc_extended(sizeof(int) * (Size) n, MCXT_ALLOC_HUGE);
	c.order = palloc_extended(sizeof(int) * (Size) n, MCXT_ALLOC_HUGE);
	c.distances = palloc_extended(sizeof(float) * (Size) n, MCXT_ALLOC_HUGE);
	c.starts = palloc(sizeof(int) * (lists + 1));
	c.sums = palloc(sizeof(double) * samples->dims);

	choose_start(samples, lists, centers, c.distances);
	memset(c.before, 0xFF, sizeof(int) * (Size) n);
	for (int iteration = 0; iteration < ITERATIONS; iteration++)
	{
		int			changed = 0;

		ivfflat_nearest(centers, samples->values, n, c.nearest, c.distances);
		for (int i = 0; i < n; i++)
			changed += c.nearest[i] != c.before[i];
		if (changed <= n * ENOUGH)
			break;
		memcpy(c.before, c.nearest, sizeof(int) * (Size) n);
		move_centers(&c);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * ivfflat_points.c
 *		Values in memory while an index is built, and the nearest center of each.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "ivfflat/ivfflat.h"
#include "kernel/distance.h"
#include "miscadmin.h"

/* Points and centers compared at a time: as many as a processor's cache keeps, within these bounds. */
#define TILE_BYTES		(64 * 1024)
#define TILE_MOST		64
#define TILE_LEAST		8

Size
ivfflat_points_stride(const IvfflatIndex *ix)
{
	return ix->opclass.type == IVFFLAT_BIT ? ix->value_size : sizeof(float) * ix->dims;
}

/* No points yet, and no memory for them. */
void
ivfflat_points_init(IvfflatPoints *points, const IvfflatIndex *ix)
{
	points->opclass = ix->opclass;
	points->dims = ix->dims;
	points->stride = ivfflat_points_stride(ix);
	points->count = 0;
	points->values = NULL;
}

void
ivfflat_set_point(const IvfflatIndex *ix, const void *data, char *point)
{
	if (ix->opclass.type == IVFFLAT_HALFVEC)
		kernel_distance.widen((const kernel_half *) data, (float *) point, ix->dims);
	else
		memcpy(point, data, ix->value_size);
}

/* False, and unchanged, when there is no direction. */
bool
ivfflat_scale_to_one(float *x, int dims)
{
	double		sum = 0;

	for (int i = 0; i < dims; i++)
		sum += (double) x[i] * x[i];
	if (!(sum > 0))
		return false;
	sum = sqrt(sum);
	for (int i = 0; i < dims; i++)
		x[i] = (float) (x[i] / sum);
	return true;
}

static void
hamming_tile(const uint8 *a, int rows, const uint8 *b, int columns, Size bytes, float *out)
{
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < columns; j++)
			out[i * columns + j] = (float) kernel_distance.hamming(a + bytes * i, b + bytes * j, bytes);
}

static void
keep_nearest(const float *tile, int rows, int columns, int first, bool spherical, int *nearest,
			 float *distances)
{
	for (int r = 0; r < rows; r++)
	{
		const float *row = tile + r * columns;
		float		best = distances[r];

		for (int c = 0; c < columns; c++)
		{
			float		distance = spherical ? -row[c] : row[c];

			if (distance < best)
			{
				best = distance;
				nearest[r] = first + c;
			}
		}
		distances[r] = best;
	}
}

/*
 * For each point the center that is nearest, the first of equals; "distances"
 * are squared, or the negative inner product, or the number of bits.
 */
void
ivfflat_nearest(const IvfflatPoints *centers, const char *points, int count, int *nearest, float *distances)
{
	float		tile[TILE_MOST * TILE_MOST];
	bool		spherical = ivfflat_is_spherical(&centers->opclass);
	int			most = (int) Min(TILE_MOST, Max(TILE_LEAST, TILE_BYTES / centers->stride));

	for (int i = 0; i < count; i++)
	{
		nearest[i] = 0;
		distances[i] = FLT_MAX;
	}
	for (int p = 0; p < count; p += most)
	{
		int			rows = Min(most, count - p);
		const char *row = points + centers->stride * p;

		for (int c = 0; c < centers->count; c += most)
		{
			int			columns = Min(most, centers->count - c);
			const char *column = centers->values + centers->stride * c;

			if (centers->opclass.type == IVFFLAT_BIT)
				hamming_tile((const uint8 *) row, rows, (const uint8 *) column, columns, centers->stride,
							 tile);
			else if (spherical)
				kernel_distance.dot_tile((const float *) row, rows, (const float *) column, columns,
										 centers->dims, tile);
			else
				kernel_distance.l2_squared_tile((const float *) row, rows, (const float *) column, columns,
												centers->dims, tile);
			keep_nearest(tile, rows, columns, c, spherical, nearest + p, distances + p);
			CHECK_FOR_INTERRUPTS();
		}
	}
}

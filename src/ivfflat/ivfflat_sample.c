/*
 * ivfflat_sample.c
 *		A random sample of the values to be indexed.
 *
 * Blocks are chosen at random, and among their rows each has the same chance
 * (reservoir sampling).  Values stay packed until they are taken.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog/index.h"
#include "common/pg_prng.h"
#include "ivfflat/ivfflat.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/memutils.h"
#include "utils/sampling.h"

#define SEED			0x73616d70

typedef struct Sampler
{
	const IvfflatIndex *ix;
	IvfflatPoints *samples;
	int			wanted;
	double		seen;
	pg_prng_state random;
	MemoryContext row_context;
} Sampler;

static void
take_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	Sampler    *sampler = state;
	IvfflatPoints *samples = sampler->samples;
	uint64		place = samples->count;
	IvfflatValue value;
	MemoryContext old;

	if (isnull[0])
		return;
	sampler->seen++;
	if (samples->count == sampler->wanted)
	{
		place = pg_prng_uint64_range(&sampler->random, 0, (uint64) sampler->seen - 1);
		if (place >= sampler->wanted)
			return;
	}

	old = MemoryContextSwitchTo(sampler->row_context);
	if (ivfflat_form_value(sampler->ix, values[0], &value))
	{
		char	   *point = samples->values + samples->stride * place;

		ivfflat_set_point(sampler->ix, value.data, point);
		if (ivfflat_is_spherical(&samples->opclass))
			(void) ivfflat_scale_to_one((float *) point, samples->dims);
		if (place == samples->count)
			samples->count++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(sampler->row_context);
}

/* The samples come in the order of the table; give them a random one. */
static void
shuffle(Sampler *sampler)
{
	IvfflatPoints *samples = sampler->samples;
	char	   *spare = palloc(samples->stride);

	for (int i = samples->count - 1; i > 0; i--)
	{
		char	   *a = samples->values + samples->stride * i;
		char	   *b = samples->values + samples->stride * pg_prng_uint64_range(&sampler->random, 0, i);

		memcpy(spare, a, samples->stride);
		memmove(a, b, samples->stride);
		memcpy(b, spare, samples->stride);
	}
	pfree(spare);
}

/* Add at most "wanted" samples, for which there is room. */
void
ivfflat_sample(const IvfflatIndex *ix, Relation heap, struct IndexInfo *info, int wanted,
			   IvfflatPoints *samples)
{
	Sampler		sampler = {.ix = ix, .samples = samples, .wanted = wanted};
	BlockSamplerData blocks;
	BlockNumber block = InvalidBlockNumber;

	pg_prng_seed(&sampler.random, SEED);
	sampler.row_context = AllocSetContextCreate(CurrentMemoryContext, "ivfflat sample",
												ALLOCSET_DEFAULT_SIZES);

	BlockSampler_Init(&blocks, RelationGetNumberOfBlocks(heap), wanted, SEED);
	if (BlockSampler_HasMore(&blocks))
		block = BlockSampler_Next(&blocks);
	while (block != InvalidBlockNumber)
	{
		BlockNumber first = block;
		BlockNumber count = 0;

		/* One scan for each run of blocks that follow each other. */
		do
		{
			count++;
			block = BlockSampler_HasMore(&blocks) ? BlockSampler_Next(&blocks) : InvalidBlockNumber;
		} while (block == first + count);
		/* Rows just deleted or inserted serve too; but a concurrent build has a snapshot to go by. */
		(void) table_index_build_range_scan(heap, ix->rel, info, false, !info->ii_Concurrent, false,
											first, count, take_row, &sampler, NULL);
		CHECK_FOR_INTERRUPTS();
	}
	shuffle(&sampler);
	MemoryContextDelete(sampler.row_context);
}

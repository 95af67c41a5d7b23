/*
 * hnsw_select.c
 *		Which candidates become neighbors.
 */
#include "postgres.h"

#include "hnsw/hnsw.h"
#include "miscadmin.h"

/*
 * Put the chosen ones of count candidates, sorted by distance, to the front,
 * and return their number: at most "most".  A candidate nearer to one already
 * chosen than to the node itself can be reached through that one and is left
 * out; when fewer than "floor" are chosen, the nearest of those left out fill
 * up, which keeps the graph connected where rows are crowded together.
 */
int
hnsw_select(const QuantSpec *spec, HnswNeighbor *candidates, int count, int floor, int most)
{
	int			chosen = 0;
	int			kept;

	for (int i = 0; i < count && chosen < most; i++)
	{
		HnswNeighbor candidate = candidates[i];
		bool		keep = true;

		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < chosen && keep; j++)
			keep = quant_pair_distance(spec, candidate.code, candidate.factors,
									   candidates[j].code, candidates[j].factors) > candidate.distance;
		if (!keep)
			continue;

		/* Make room behind the chosen ones; those left out stay in order. */
		memmove(&candidates[chosen + 1], &candidates[chosen], sizeof(HnswNeighbor) * (i - chosen));
		candidates[chosen++] = candidate;
	}
	kept = Max(chosen, Min(Min(floor, count), most));
	return kept;
}

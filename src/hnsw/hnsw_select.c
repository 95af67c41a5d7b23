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

/*
 * The same for a new node.  Room is left for those that will link to it, but
 * where nothing else makes up for a missing edge, because a search by whole
 * distances has no margin, the list is filled.
 */
int
hnsw_select_first(const QuantSpec *spec, HnswNeighbor *candidates, int count, int m)
{
	if (quant_has_code(spec))
		return hnsw_select(spec, candidates, count, m, m + m / 2);
	return hnsw_select(spec, candidates, count, 2 * m, 2 * m);
}

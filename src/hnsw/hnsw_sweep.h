/*
 * hnsw_sweep.h
 *		Passes over all sketches, for what the graph search did not give.
 */
#ifndef HNSW_SWEEP_H
#define HNSW_SWEEP_H

#include "hnsw/hnsw.h"

typedef struct HnswSweep
{
	HnswSearch *search;
	bool		any_order;
	uint32		node_count;
	uint8	   *done;			/* bitmap: handed out already */
	HnswCandidate *best;		/* of the last pass */
	int			count;
	int			size;			/* of the next pass: grows up to most */
	int			most;
} HnswSweep;

extern HnswSweep *hnsw_sweep_begin(HnswSearch *search, bool any_order, Size memory);
extern bool hnsw_sweep_next(HnswSweep *sweep);
extern void hnsw_sweep_end(HnswSweep *sweep);

#endif							/* HNSW_SWEEP_H */

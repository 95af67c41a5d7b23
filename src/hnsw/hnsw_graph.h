/*
 * hnsw_graph.h
 *		The graph in memory, while an index is built.
 *
 * All of it lies in one piece of memory, private or shared, at offsets that
 * follow from its capacity; nodes are known by number, so the piece may be
 * mapped anywhere.
 */
#ifndef HNSW_GRAPH_H
#define HNSW_GRAPH_H

#include "hnsw/hnsw.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define GRAPH_LOCKS 1024

typedef struct GraphNode
{
	ItemPointerData tid;
	uint8		ready;			/* set last: the node is complete, readers may follow edges to it */
	bool		alias;
	uint32		hash;
	uint32		next;			/* first, or next, alias */
	QuantFactors factors;
	uint32		count;			/* of neighbors */
} GraphNode;

typedef struct GraphHeader
{
	uint32		capacity;
	pg_atomic_uint32 count;		/* numbers given out; may run past capacity */
	LWLockPadded locks[GRAPH_LOCKS];	/* for changes to a node's list, by number */
} GraphHeader;

/* One process's view of the graph, and its working memory. */
typedef struct HnswGraph
{
	const QuantSpec *spec;
	int			m;
	int			ef;
	bool		shared;			/* take locks */
	Size		code_bytes;
	Size		sketch_bytes;
	GraphHeader *header;
	GraphNode  *nodes;
	uint32	   *neighbors;		/* 2 * m for each node */
	uint8	   *sketches;		/* sketch_bytes for each node, its factors first */
	uint8	   *codes;			/* graph codes: code_bytes for each node; or in the sketches */

	QuantQuery	query;
	QuantCodes	own;
	uint8	   *visited;		/* bitmap */
	uint32	   *marked;			/* what has been set in it */
	int			marked_count;
	int			marked_size;
	HnswCandidate *frontier;
	int			frontier_size;
	HnswCandidate *nearest;		/* max-heap of ef */
	uint32		entry_step;		/* every so many nodes one is an entry */
	uint32		entry_next;		/* the first number not yet looked at for it */
	int			entry_count;
	uint32	   *entries;
	uint8	   *entry_sketches; /* copies, side by side */
	HnswNeighbor *selected;
	HnswNeighbor *relinked;
} HnswGraph;

/* hnsw_graph.c */
extern Size hnsw_graph_row_bytes(const QuantSpec *spec, int m);
extern Size hnsw_graph_bytes(const QuantSpec *spec, int m, uint32 capacity);
extern void hnsw_graph_create(GraphHeader *header, uint32 capacity, int tranche);
extern void hnsw_graph_attach(HnswGraph *graph, const HnswIndex *ix, GraphHeader *header, bool shared);
extern bool hnsw_graph_add(HnswGraph *graph, const HnswIndex *ix, const void *value, ItemPointer tid);
extern uint32 hnsw_graph_count(const HnswGraph *graph);

/* hnsw_write.c */
extern void hnsw_write_empty(HnswIndex *ix, ForkNumber fork);
extern void hnsw_write_graph(HnswIndex *ix, HnswGraph *graph);

#endif							/* HNSW_GRAPH_H */

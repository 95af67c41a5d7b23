/*
 * hnsw_build.h
 *		What the files of an index build share.
 */
#ifndef HNSW_BUILD_H
#define HNSW_BUILD_H

#include "access/parallel.h"
#include "access/tableam.h"
#include "hnsw/hnsw_graph.h"
#include "storage/barrier.h"
#include "storage/dsm.h"
#include "storage/spin.h"

/* What the participants of a parallel build share, besides the graph. */
typedef struct HnswShared
{
	Oid			heap;
	Oid			index;
	bool		concurrent;
	dsm_handle	graph;			/* segment that holds it */
	int			tranche;

	/*
	 * Phase 0: rows go into the graph.  Whoever finds it full arrives and
	 * waits for the others; one of them then writes it out (phase 1), and
	 * from phase 2 on rows go to the pages.  Who has no more rows leaves
	 * without arriving, so that the phase stands for nothing else.
	 */
	Barrier		barrier;

	slock_t		mutex;			/* protects what follows */
	double		heap_rows;
	double		index_rows;
	bool		broken_hot_chain;
	bool		written;		/* the graph, before the end */
} HnswShared;

/* One process's part of a build. */
typedef struct HnswBuild
{
	Relation	heap;
	Relation	index;
	struct IndexInfo *info;
	HnswIndex	ix;
	GraphHeader *header;
	HnswGraph	graph;
	bool		written;		/* the graph: rows go to the pages */
	HnswInserter *inserter;
	MemoryContext context;		/* of the build */
	MemoryContext row_context;
	double		heap_rows;
	double		index_rows;
	double		expected_rows;

	/* Parallel builds only. */
	HnswShared *shared;
	ParallelContext *pcxt;
	dsm_segment *segment;
	bool		leader;
} HnswBuild;

/* hnsw_build.c */
extern void hnsw_build_scan(HnswBuild *build, TableScanDesc scan);

/* hnsw_build_parallel.c */
extern bool hnsw_begin_parallel(HnswBuild *build, int workers);
extern void hnsw_end_parallel(HnswBuild *build);
extern void hnsw_graph_full_parallel(HnswBuild *build);
extern PGDLLEXPORT void hnsw_build_worker(dsm_segment *segment, shm_toc *toc);

#endif							/* HNSW_BUILD_H */

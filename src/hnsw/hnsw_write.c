/*
 * hnsw_write.c
 *		From the graph in memory to pages.
 */
#include "postgres.h"

#include "commands/progress.h"
#include "hnsw/hnsw_graph.h"
#include "hnsw/hnsw_queue.h"
#include "miscadmin.h"
#include "pgstat.h"

/* The sample put first: enough to start near any query, few enough to look at all of it. */
#define ENTRY_SAMPLE_BYTES (16 * 1024)

typedef struct Writer
{
	HnswIndex  *ix;
	HnswGraph  *graph;
	uint32		count;
	uint32	   *order;			/* from new number to number in the graph */
	uint32	   *place;			/* and back */

	/* While a page is filled. */
	HnswCandidate *waiting;		/* min-heap by the negative number of links */
	uint16	   *links;			/* of each node with those of the page */
} Writer;

/* Append a page to the relation; returns it pinned, locked and formatted. */
static Buffer
new_page(Relation index, ForkNumber fork, HnswPageKind kind)
{
	Buffer		buffer = ReadBufferExtended(index, fork, P_NEW, RBM_NORMAL, NULL);

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	hnsw_init_page(BufferGetPage(buffer), kind);
	return buffer;
}

static void
finish_page(Buffer buffer)
{
	MarkBufferDirty(buffer);
	UnlockReleaseBuffer(buffer);
}

/*
 * The pages of an index without rows.  Not logged: the caller logs the whole
 * fork at the end.
 */
void
hnsw_write_empty(HnswIndex *ix, ForkNumber fork)
{
	int			per_page = (HNSW_PAGE_END - HNSW_NODE_START) / sizeof(float);
	const float *centroid = ix->spec.centroid;
	Buffer		buffer;

	ix->centroid_block = centroid != NULL ? HNSW_META_BLOCK + 1 : 0;
	ix->geometry.first_extent = HNSW_META_BLOCK + 1;
	if (centroid != NULL)
		ix->geometry.first_extent += (ix->spec.dims + per_page - 1) / per_page;

	buffer = new_page(ix->rel, fork, HNSW_PAGE_META);
	Assert(BufferGetBlockNumber(buffer) == HNSW_META_BLOCK);
	hnsw_fill_meta(ix, hnsw_page_meta(BufferGetPage(buffer)));
	finish_page(buffer);
	for (int done = 0; centroid != NULL && done < ix->spec.dims; done += per_page)
	{
		int			n = Min(per_page, ix->spec.dims - done);

		buffer = new_page(ix->rel, fork, HNSW_PAGE_CENTROID);
		memcpy(BufferGetPage(buffer) + HNSW_NODE_START, centroid + done, sizeof(float) * n);
		hnsw_use_page(BufferGetPage(buffer), HNSW_NODE_START + sizeof(float) * n);
		finish_page(buffer);
	}
}

static void
give_number(Writer *writer, uint32 id, uint32 number)
{
	writer->place[id] = number;
	writer->order[number] = id;
}

/* The neighbors of a node just numbered have one more link with its page. */
static void
count_links(Writer *writer, uint32 id, int *waiting)
{
	HnswGraph  *graph = writer->graph;
	const uint32 *ids = graph->neighbors + (Size) 2 * graph->m * id;

	for (uint32 i = 0; i < graph->nodes[id].count; i++)
	{
		HnswCandidate candidate = {.node = ids[i]};

		if (writer->place[ids[i]] != HNSW_NO_NODE)
			continue;
		candidate.distance = -(float) ++writer->links[ids[i]];
		candidate_push(writer->waiting, waiting, candidate);
	}
}

/* The first number whose sketch is not on the same page, or not there. */
static uint32
page_end(const Writer *writer, uint32 number)
{
	const HnswGeometry *g = &writer->ix->geometry;
	uint32		rest = number % g->extent_nodes;
	uint32		left = Min(g->sketches_per_page - rest % g->sketches_per_page, g->extent_nodes - rest);

	return Min(writer->count, number + left);
}

/*
 * Fill a page of sketches with "id" and those around it, the one with most
 * links to the page always next: a search that looks at the neighbors of a
 * node then touches few pages.  Returns the next number.
 */
static uint32
number_around(Writer *writer, uint32 id, uint32 next)
{
	uint32		first = next;
	uint32		end = page_end(writer, first);
	int			waiting = 0;

	give_number(writer, id, next++);
	count_links(writer, id, &waiting);
	while (waiting > 0 && next < end)
	{
		uint32		nearest = candidate_pop(writer->waiting, &waiting).node;

		/* It stands there once for each of its links. */
		if (writer->place[nearest] != HNSW_NO_NODE)
			continue;
		give_number(writer, nearest, next++);
		count_links(writer, nearest, &waiting);
	}
	for (int i = 0; i < waiting; i++)
		writer->links[writer->waiting[i].node] = 0;
	for (uint32 number = first; number < next; number++)
		writer->links[writer->order[number]] = 0;
	return next;
}

/*
 * Nodes spread evenly over the table come first, as the sample searches start
 * from; the others follow so that neighbors share pages.  Returns the size of
 * the sample.
 */
static uint32
choose_order(Writer *writer)
{
	uint32		wanted = Max(128, ENTRY_SAMPLE_BYTES / writer->ix->geometry.sketch_size);
	uint32		step = Max(1, writer->count / wanted);
	uint32		next = 0;
	uint32		sample;

	for (uint32 id = 0; id < writer->count; id += step)
		if (!writer->graph->nodes[id].alias && next < wanted)
			give_number(writer, id, next++);
	sample = next;

	/* Where a page was full, the neighbors of its last nodes are the next to begin one. */
	for (uint32 node = 0; node < next; node++)
	{
		uint32		from = writer->order[node];
		const uint32 *ids = writer->graph->neighbors + (Size) 2 * writer->graph->m * from;

		CHECK_FOR_INTERRUPTS();
		for (uint32 i = 0; i < writer->graph->nodes[from].count; i++)
			if (writer->place[ids[i]] == HNSW_NO_NODE)
				next = number_around(writer, ids[i], next);
	}
	for (uint32 id = 0; id < writer->count; id++)
		if (writer->place[id] == HNSW_NO_NODE)
			next = number_around(writer, id, next);
	Assert(next == writer->count);
	return sample;
}

static void
write_sketch(Writer *writer, Page page, uint32 node)
{
	HnswIndex  *ix = writer->ix;
	uint32		id = writer->order[node];
	GraphNode  *from = &writer->graph->nodes[id];
	const uint8 *code = writer->graph->sketches + writer->graph->sketch_bytes * id;
	HnswSketch *sketch = hnsw_sketch(&ix->geometry, page, node);

	sketch->tid = from->tid;
	sketch->flags = HNSW_LIVE | (from->alias ? HNSW_ALIAS : 0);
	memcpy(&sketch->factors, code, sizeof(QuantFactors));
	memcpy(sketch->code, code + sizeof(QuantFactors), ix->spec.sketch_bytes);
	hnsw_use_page(page, hnsw_sketch_offset(&ix->geometry, node) + ix->geometry.sketch_size);
}

static int
by_number(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a;
	uint32		y = *(const uint32 *) b;

	return (x > y) - (x < y);
}

static void
write_node(Writer *writer, Page page, uint32 number)
{
	HnswIndex  *ix = writer->ix;
	uint32		id = writer->order[number];
	GraphNode  *from = &writer->graph->nodes[id];
	HnswNode   *node = hnsw_node(&ix->geometry, page, number);

	node->count = from->count;
	node->next = from->next == HNSW_NO_NODE ? HNSW_NO_NODE : writer->place[from->next];
	node->hash = from->hash;
	node->factors = from->factors;
	for (uint32 i = 0; i < from->count; i++)
		node->neighbors[i] = writer->place[writer->graph->neighbors[(Size) 2 * ix->m * id + i]];

	/* In order, so that neighbors whose sketches share a page come together. */
	qsort(node->neighbors, from->count, sizeof(uint32), by_number);
	if (quant_has_code(&ix->spec))
		memcpy(hnsw_node_code(ix, node), writer->graph->codes + writer->graph->code_bytes * id,
			   ix->spec.code_bytes);
	hnsw_use_page(page, hnsw_node_offset(&ix->geometry, number) + ix->geometry.node_size);
}

/* One page of slots, from "first" on; returns the number after its last. */
static uint32
write_page(Writer *writer, HnswPageKind kind, uint32 first, uint32 end, uint32 per_page)
{
	Buffer		buffer = new_page(writer->ix->rel, MAIN_FORKNUM, kind);
	Page		page = BufferGetPage(buffer);

	end = Min(end, first + per_page);
	for (uint32 node = first; node < end; node++)
	{
		if (kind == HNSW_PAGE_SKETCH)
			write_sketch(writer, page, node);
		else
			write_node(writer, page, node);
	}
	finish_page(buffer);
	CHECK_FOR_INTERRUPTS();
	return end;
}

/* Write all of a graph behind the pages of an empty index, and say so in the meta page. */
void
hnsw_write_graph(HnswIndex *ix, HnswGraph *graph)
{
	const HnswGeometry *g = &ix->geometry;
	Writer		writer = {.ix = ix, .graph = graph};
	HnswMetaPage *meta;
	uint32		sample;
	Buffer		buffer;

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, HNSW_PHASE_WRITE);
	writer.count = hnsw_graph_count(graph);
	writer.order = palloc_extended(sizeof(uint32) * (Size) (writer.count + 1), MCXT_ALLOC_HUGE);
	writer.place = palloc_extended(sizeof(uint32) * (Size) (writer.count + 1), MCXT_ALLOC_HUGE);
	memset(writer.place, 0xFF, sizeof(uint32) * (Size) (writer.count + 1));
	writer.waiting = palloc_extended(sizeof(HnswCandidate) * g->sketches_per_page * 2 * ix->m,
									 MCXT_ALLOC_HUGE);
	writer.links = palloc_extended(sizeof(uint16) * (Size) (writer.count + 1),
								   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	sample = choose_order(&writer);

	for (uint32 first = 0; first < writer.count; first += g->extent_nodes)
	{
		uint32		end = Min(writer.count, first + g->extent_nodes);
		uint32		node = first;

		for (uint32 i = 0; i < g->extent_sketch_pages; i++)
			node = write_page(&writer, HNSW_PAGE_SKETCH, Min(node, end), end, g->sketches_per_page);
		for (node = first; node < end;)
			node = write_page(&writer, HNSW_PAGE_NODE, node, end, g->nodes_per_page);
	}

	buffer = ReadBuffer(ix->rel, HNSW_META_BLOCK);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	meta = hnsw_page_meta(BufferGetPage(buffer));
	meta->node_count = writer.count;
	meta->built_nodes = writer.count;
	meta->entry_nodes = sample;
	finish_page(buffer);
	pfree(writer.order);
	pfree(writer.place);
	pfree(writer.waiting);
	pfree(writer.links);
}

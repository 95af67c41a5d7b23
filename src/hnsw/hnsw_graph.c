/*
 * hnsw_graph.c
 *		The graph in memory, while an index is built.
 *
 * Processes build one graph together.  A list of neighbors is changed under
 * the lock its number maps to, and read without: a reader may see a list half
 * old, half new, but every number in it is that of a complete node.
 */
#include "postgres.h"

#include <float.h>

#include "hnsw/hnsw_graph.h"
#include "hnsw/hnsw_queue.h"
#include "miscadmin.h"

/* Searches start from the nearest of so many nodes, up to twice as many, spread over those there are. */
#define ENTRY_MIN	128
#define ENTRY_SEEDS	4

/* How often a full list is chosen anew when others change it meanwhile. */
#define LINK_ATTEMPTS 5

static Size
nodes_offset(void)
{
	return MAXALIGN(sizeof(GraphHeader));
}

static Size
neighbors_offset(uint32 capacity)
{
	return nodes_offset() + MAXALIGN(sizeof(GraphNode) * (Size) capacity);
}

/* A sketch and its factors: one cache line, if they fit. */
static Size
sketch_stride(const QuantSpec *spec)
{
	Size		bytes = sizeof(QuantFactors) + spec->sketch_bytes;

	return bytes <= 64 ? TYPEALIGN(16, bytes) : TYPEALIGN(64, bytes);
}

/* Without a separate code the sketch is the graph code. */
static Size
code_stride(const QuantSpec *spec)
{
	return quant_has_code(spec) ? MAXALIGN(spec->code_bytes) : 0;
}

static Size
sketches_offset(int m, uint32 capacity)
{
	return TYPEALIGN(64, neighbors_offset(capacity) + sizeof(uint32) * 2 * m * (Size) capacity);
}

static Size
codes_offset(const QuantSpec *spec, int m, uint32 capacity)
{
	return TYPEALIGN(64, sketches_offset(m, capacity) + sketch_stride(spec) * capacity);
}

Size
hnsw_graph_row_bytes(const QuantSpec *spec, int m)
{
	return sizeof(GraphNode) + sizeof(uint32) * 2 * m + sketch_stride(spec) + code_stride(spec);
}

Size
hnsw_graph_bytes(const QuantSpec *spec, int m, uint32 capacity)
{
	return codes_offset(spec, m, capacity) + code_stride(spec) * capacity;
}

void
hnsw_graph_create(GraphHeader *header, uint32 capacity, int tranche)
{
	header->capacity = capacity;

	/* Memory may have been used before, and nobody may take a node for ready that is not. */
	memset((char *) header + nodes_offset(), 0, sizeof(GraphNode) * (Size) capacity);
	pg_atomic_init_u32(&header->count, 0);
	for (int i = 0; i < GRAPH_LOCKS; i++)
		LWLockInitialize(&header->locks[i].lock, tranche);
}

/* Work on a graph from this process; memory comes from the current context. */
void
hnsw_graph_attach(HnswGraph *graph, const HnswIndex *ix, GraphHeader *header, bool shared)
{
	char	   *base = (char *) header;
	uint32		capacity = header->capacity;

	memset(graph, 0, sizeof(HnswGraph));
	graph->spec = &ix->spec;
	graph->m = ix->m;
	graph->ef = ix->ef_construction;
	graph->shared = shared;
	graph->code_bytes = code_stride(&ix->spec);
	graph->sketch_bytes = sketch_stride(&ix->spec);
	graph->header = header;
	graph->nodes = (GraphNode *) (base + nodes_offset());
	graph->neighbors = (uint32 *) (base + neighbors_offset(capacity));
	graph->sketches = (uint8 *) (base + sketches_offset(ix->m, capacity));
	graph->codes = (uint8 *) (base + codes_offset(&ix->spec, ix->m, capacity));
	if (graph->code_bytes == 0)
	{
		graph->codes = graph->sketches + sizeof(QuantFactors);
		graph->code_bytes = graph->sketch_bytes;
	}

	quant_init_query(&ix->spec, &graph->query);
	quant_init_codes(&ix->spec, &graph->own);
	graph->visited = palloc_extended(capacity / 8 + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	graph->marked_size = 4096;
	graph->marked = palloc(sizeof(uint32) * graph->marked_size);
	graph->frontier_size = 4096;
	graph->frontier = palloc(sizeof(HnswCandidate) * graph->frontier_size);
	graph->nearest = palloc(sizeof(HnswCandidate) * (graph->ef + 1));
	graph->entry_step = 1;
	graph->entries = palloc(sizeof(uint32) * 2 * ENTRY_MIN);
	graph->entry_sketches = palloc(graph->sketch_bytes * 2 * ENTRY_MIN);
	graph->selected = palloc(sizeof(HnswNeighbor) * graph->ef);
	graph->relinked = palloc(sizeof(HnswNeighbor) * (2 * ix->m + 1));
}

uint32
hnsw_graph_count(const HnswGraph *graph)
{
	return Min(pg_atomic_read_u32(&graph->header->count), graph->header->capacity);
}

static inline uint8 *
node_code(const HnswGraph *graph, uint32 id)
{
	return graph->codes + graph->code_bytes * id;
}

static inline uint32 *
node_neighbors(const HnswGraph *graph, uint32 id)
{
	return graph->neighbors + (Size) 2 * graph->m * id;
}

static inline bool
visit(HnswGraph *graph, uint32 id)
{
	uint8		bit = 1 << (id % 8);

	if (graph->visited[id / 8] & bit)
		return false;
	graph->visited[id / 8] |= bit;
	if (unlikely(graph->marked_count == graph->marked_size))
	{
		graph->marked_size *= 2;
		graph->marked = repalloc_huge(graph->marked, sizeof(uint32) * (Size) graph->marked_size);
	}
	graph->marked[graph->marked_count++] = id;
	return true;
}

/* Keep the ef nearest in a max-heap; false when this one is too far. */
static bool
keep_nearest(HnswGraph *graph, int *count, HnswCandidate candidate)
{
	HnswCandidate *heap = graph->nearest;
	int			i;

	if (*count < graph->ef)
	{
		for (i = (*count)++; i > 0 && heap[(i - 1) / 2].distance < candidate.distance; i = (i - 1) / 2)
			heap[i] = heap[(i - 1) / 2];
		heap[i] = candidate;
		return true;
	}
	if (candidate.distance >= heap[0].distance)
		return false;
	for (i = 0;;)
	{
		int			child = 2 * i + 1;

		if (child >= *count)
			break;
		if (child + 1 < *count && heap[child + 1].distance > heap[child].distance)
			child++;
		if (heap[child].distance <= candidate.distance)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = candidate;
	return true;
}

static inline void
push_frontier(HnswGraph *graph, HnswCandidate candidate, int *count)
{
	if (unlikely(*count == graph->frontier_size))
	{
		graph->frontier_size *= 2;
		graph->frontier = repalloc_huge(graph->frontier, sizeof(HnswCandidate) * (Size) graph->frontier_size);
	}
	candidate_push(graph->frontier, count, candidate);
}

/*
 * Keep the entries up with the first "end" nodes.  Their sketches are copied:
 * where they lie in the graph, at large strides, they would share few lines
 * of the cache.
 */
static void
update_entries(HnswGraph *graph, uint32 end)
{
	while (end / graph->entry_step >= 2 * ENTRY_MIN)
	{
		graph->entry_step *= 2;
		graph->entry_next = 0;
		graph->entry_count = 0;
	}
	for (; graph->entry_next < end; graph->entry_next += graph->entry_step)
	{
		uint32		id = graph->entry_next;

		if (!graph->nodes[id].ready)
			continue;
		pg_read_barrier();
		if (graph->nodes[id].alias)
			continue;
		memcpy(graph->entry_sketches + graph->sketch_bytes * graph->entry_count,
			   graph->sketches + graph->sketch_bytes * id, graph->sketch_bytes);
		graph->entries[graph->entry_count++] = id;
	}
}

/* The nearest of the entries among the first "end" nodes, into seeds; returns how many. */
static int
find_seeds(HnswGraph *graph, uint32 end, HnswCandidate *seeds)
{
	const uint8 *sketches[2 * ENTRY_MIN];
	float		distances[2 * ENTRY_MIN];
	int			count = 0;

	update_entries(graph, end);
	for (int entry = 0; entry < graph->entry_count; entry++)
		sketches[entry] = graph->entry_sketches + graph->sketch_bytes * entry + sizeof(QuantFactors);
	quant_sketch_distances(&graph->query, sketches, graph->entry_count, distances);
	for (int entry = 0; entry < graph->entry_count; entry++)
	{
		float		distance = distances[entry];
		int			i;

		if (count == ENTRY_SEEDS && distance >= seeds[ENTRY_SEEDS - 1].distance)
			continue;
		i = count < ENTRY_SEEDS ? count++ : ENTRY_SEEDS - 1;
		for (; i > 0 && seeds[i - 1].distance > distance; i--)
			seeds[i] = seeds[i - 1];
		seeds[i].distance = distance;
		seeds[i].node = graph->entries[entry];
	}
	return count;
}

/* Always inlined: the compiler drops calls of functions that do nothing but prefetch. */
static pg_attribute_always_inline void
prefetch_code(const HnswGraph *graph, uint32 id)
{
	const uint8 *code = node_code(graph, id);
	Size		bytes = Min(graph->code_bytes, 512);

	for (Size i = 0; i < bytes; i += 64)
		__builtin_prefetch(code + i);
	__builtin_prefetch(&graph->nodes[id]);
}

static pg_attribute_always_inline void
prefetch_sketch(const HnswGraph *graph, uint32 id)
{
	const uint8 *sketch = graph->sketches + graph->sketch_bytes * id;

	for (Size i = 0; i < graph->sketch_bytes; i += 64)
		__builtin_prefetch(sketch + i);
}

static pg_attribute_always_inline void
prefetch_node(const HnswGraph *graph, uint32 id)
{
	const uint32 *ids = node_neighbors(graph, id);

	prefetch_code(graph, id);
	for (int i = 0; i < 2 * graph->m; i += 64 / sizeof(uint32))
		__builtin_prefetch(ids + i);
}

/* Copy the neighbors not seen before, and ask for their sketches. */
static int
expand(HnswGraph *graph, uint32 id, uint32 *fresh)
{
	const volatile uint32 *ids = node_neighbors(graph, id);
	uint32		count = *(volatile uint32 *) &graph->nodes[id].count;
	int			fresh_count = 0;

	/* A number is written before it is counted: see link_back. */
	pg_read_barrier();
	count = Min(count, 2 * (uint32) graph->m);
	for (uint32 i = 0; i < count; i++)
	{
		uint32		neighbor = ids[i];

		if (!visit(graph, neighbor))
			continue;
		prefetch_sketch(graph, neighbor);
		fresh[fresh_count++] = neighbor;
	}
	return fresh_count;
}

/* Put those on the frontier, by their sketches, that may be among the nearest. */
static void
estimate(HnswGraph *graph, const uint32 *fresh, int fresh_count, int nearest_count, int *frontier_count)
{
	const uint8 *sketches[HNSW_MAX_NEIGHBORS];
	float		distances[HNSW_MAX_NEIGHBORS];

	for (int i = 0; i < fresh_count; i++)
		sketches[i] = graph->sketches + graph->sketch_bytes * fresh[i] + sizeof(QuantFactors);
	quant_sketch_distances(&graph->query, sketches, fresh_count, distances);
	for (int i = 0; i < fresh_count; i++)
	{
		HnswCandidate candidate = {distances[i], fresh[i]};

		if (nearest_count < graph->ef || candidate.distance <= graph->nearest[0].distance)
			push_frontier(graph, candidate, frontier_count);
	}
}

/*
 * The ef nearest of the first "end" nodes by their graph codes, in
 * graph->nearest; returns how many.  The same search as on pages, with a
 * node's neighbors estimated after the next node has been expanded: see
 * hnsw_search.c.
 */
static int
search(HnswGraph *graph, uint32 end)
{
	bool		has_code = quant_has_code(graph->spec);
	HnswCandidate seeds[ENTRY_SEEDS];
	uint32		fresh[2][HNSW_MAX_NEIGHBORS];
	int			fresh_count[2] = {0, 0};
	int			last = 0;		/* which of the two waits to be estimated */
	int			frontier_count = 0;
	int			nearest_count = 0;
	int			seed_count = find_seeds(graph, end, seeds);

	for (int i = 0; i < seed_count; i++)
	{
		visit(graph, seeds[i].node);
		push_frontier(graph, seeds[i], &frontier_count);
	}
	for (;;)
	{
		bool		rests = frontier_count == 0 ||
			(nearest_count == graph->ef && graph->frontier[0].distance > graph->nearest[0].distance);

		CHECK_FOR_INTERRUPTS();
		if (rests && fresh_count[last] == 0)
			break;
		fresh_count[!last] = 0;
		if (!rests)
		{
			HnswCandidate candidate = candidate_pop(graph->frontier, &frontier_count);

			fresh_count[!last] = expand(graph, candidate.node, fresh[!last]);
			if (has_code)
				candidate.distance = quant_code_distance(&graph->query, node_code(graph, candidate.node),
														 graph->nodes[candidate.node].factors);
			keep_nearest(graph, &nearest_count, candidate);
		}
		estimate(graph, fresh[last], fresh_count[last], nearest_count, &frontier_count);
		last = !last;
		if (frontier_count > 0)
			prefetch_node(graph, graph->frontier[0].node);
	}
	for (int i = 0; i < graph->marked_count; i++)
		graph->visited[graph->marked[i] / 8] = 0;
	graph->marked_count = 0;
	return nearest_count;
}

#define ST_SORT sort_by_distance
#define ST_ELEMENT_TYPE HnswNeighbor
#define ST_COMPARE(a, b) (((a)->distance > (b)->distance) - ((a)->distance < (b)->distance))
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

static void
set_neighbor(HnswGraph *graph, HnswNeighbor *neighbor, uint32 id, float distance)
{
	neighbor->node = id;
	neighbor->distance = distance;
	neighbor->code = node_code(graph, id);
	neighbor->factors = graph->nodes[id].factors;
}

/* Which of a full list, and one more, are to stay; into graph->relinked, returns how many. */
static int
choose_anew(HnswGraph *graph, uint32 to, const uint32 *ids, uint32 added, float distance)
{
	const GraphNode *node = &graph->nodes[to];
	int			n = 2 * graph->m;

	for (int i = 0; i < n; i++)
		prefetch_code(graph, ids[i]);
	for (int i = 0; i < n; i++)
		set_neighbor(graph, &graph->relinked[i], ids[i],
					 quant_pair_distance(graph->spec, node_code(graph, to), node->factors,
										 node_code(graph, ids[i]), graph->nodes[ids[i]].factors));
	set_neighbor(graph, &graph->relinked[n], added, distance);
	sort_by_distance(graph->relinked, n + 1);
	return hnsw_select(graph->spec, graph->relinked, n + 1, graph->m, n);
}

/*
 * Add an edge from "to" to "added".  A full list is chosen anew without the
 * lock, under which nobody could be interrupted: for long lists of large
 * codes it takes a while.  When the list has changed meanwhile, this is done
 * again; where others are always faster, in the end with the lock held.
 */
static void
link_back(HnswGraph *graph, uint32 to, uint32 added, float distance)
{
	GraphNode  *node = &graph->nodes[to];
	uint32	   *ids = node_neighbors(graph, to);
	LWLock	   *lock = &graph->header->locks[to % GRAPH_LOCKS].lock;
	uint32		most = 2 * (uint32) graph->m;
	uint32		seen[HNSW_MAX_NEIGHBORS];
	int			chosen = 0;
	bool		done = false;

	for (int attempt = 0; attempt <= LINK_ATTEMPTS && !done; attempt++)
	{
		if (attempt > 0)
			chosen = choose_anew(graph, to, seen, added, distance);
		if (graph->shared)
			LWLockAcquire(lock, LW_EXCLUSIVE);
		if (node->count < most)
		{
			ids[node->count] = added;
			pg_write_barrier();
			node->count++;
			done = true;
		}
		else
		{
			done = attempt > 0 && memcmp(seen, ids, sizeof(uint32) * most) == 0;
			if (!done)
				memcpy(seen, ids, sizeof(uint32) * most);
			if (!done && attempt == LINK_ATTEMPTS)
			{
				chosen = choose_anew(graph, to, seen, added, distance);
				done = true;
			}
			if (done)
			{
				for (int i = 0; i < chosen; i++)
					ids[i] = graph->relinked[i].node;
				node->count = chosen;
			}
		}
		if (graph->shared)
			LWLockRelease(lock);
	}
}

/* Hang an equal value on its twin's chain. */
static void
chain(HnswGraph *graph, uint32 twin, uint32 alias)
{
	LWLock	   *lock = &graph->header->locks[twin % GRAPH_LOCKS].lock;

	if (graph->shared)
		LWLockAcquire(lock, LW_EXCLUSIVE);
	graph->nodes[alias].alias = true;
	graph->nodes[alias].next = graph->nodes[twin].next;
	graph->nodes[twin].next = alias;
	if (graph->shared)
		LWLockRelease(lock);
}

/*
 * Add a row; false when the graph is full.  The lists of others come to hold
 * the number only once the node is complete.
 */
bool
hnsw_graph_add(HnswGraph *graph, const HnswIndex *ix, const void *value, ItemPointer tid)
{
	uint32		id = pg_atomic_fetch_add_u32(&graph->header->count, 1);
	bool		has_code = quant_has_code(graph->spec);
	GraphNode  *node = &graph->nodes[id];
	uint32	   *ids;
	uint8	   *sketch;
	uint32		twin = HNSW_NO_NODE;
	int			count;

	if (id >= graph->header->capacity)
	{
		pg_atomic_fetch_sub_u32(&graph->header->count, 1);
		return false;
	}
	node->ready = 0;
	node->alias = false;
	node->next = HNSW_NO_NODE;
	node->count = 0;
	node->tid = *tid;
	node->hash = hnsw_value_hash(&ix->opclass, value, ix->spec.dims);
	quant_set_query(&graph->query, value);
	quant_encode_query(&graph->query, value, &graph->own);
	node->factors = has_code ? graph->own.code_factors : graph->own.sketch_factors;
	sketch = graph->sketches + graph->sketch_bytes * id;
	memcpy(sketch, &graph->own.sketch_factors, sizeof(QuantFactors));
	memcpy(sketch + sizeof(QuantFactors), graph->own.sketch, graph->spec->sketch_bytes);
	if (has_code)
		memcpy(node_code(graph, id), graph->own.code, graph->spec->code_bytes);

	count = search(graph, id);
	for (int i = 0; i < count; i++)
	{
		uint32		other = graph->nearest[i].node;

		set_neighbor(graph, &graph->selected[i], other, graph->nearest[i].distance);
		if (graph->nodes[other].hash == node->hash &&
			memcmp(&graph->nodes[other].factors, &node->factors, sizeof(QuantFactors)) == 0 &&
			memcmp(node_code(graph, other), node_code(graph, id), quant_graph_bytes(graph->spec)) == 0)
			twin = other;
	}
	if (twin != HNSW_NO_NODE)
	{
		chain(graph, twin, id);
		pg_write_barrier();
		node->ready = 1;
		return true;
	}
	sort_by_distance(graph->selected, count);
	count = hnsw_select_first(graph->spec, graph->selected, count, graph->m);
	ids = node_neighbors(graph, id);
	for (int i = 0; i < count; i++)
		ids[i] = graph->selected[i].node;
	node->count = count;
	pg_write_barrier();
	node->ready = 1;
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		link_back(graph, graph->selected[i].node, id, graph->selected[i].distance);
	}
	return true;
}

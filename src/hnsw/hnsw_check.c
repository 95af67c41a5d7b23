/*
 * hnsw_check.c
 *		Looking into an index: vector_index_check, vector_index_stats,
 *		vector_index_last_scan.
 *
 * Both readers keep writers of the table out (ShareLock), since they compare
 * pages with each other.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "commands/defrem.h"
#include "funcapi.h"
#include "hnsw/hnsw.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Problems after which no more are listed. */
#define MAX_PROBLEMS 1000

typedef struct Inspector
{
	HnswIndex	ix;
	HnswMetaPage meta;
	Relation	heap;
	BlockNumber heap_blocks;
	List	   *problems;		/* of text Datums */
	uint8	   *flags;			/* of each node's sketch */
	uint8	   *generations;
	uint32	   *next;			/* of each node */
	uint32	   *next_free;
	uint32	   *reached;		/* queue of a walk along the edges */
	uint8	   *seen;

	int64		live;
	int64		dead;
	int64		free;
	int64		aliases;
	int64		edges;
	int64		edges_to_free;
	int64		without_edges;
	int64		unreachable;
	int			max_degree;
} Inspector;

static void problem(Inspector *in, const char *format,...) pg_attribute_printf(2, 3);

static void
problem(Inspector *in, const char *format,...)
{
	StringInfoData text;

	if (list_length(in->problems) >= MAX_PROBLEMS)
		return;
	initStringInfo(&text);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&text, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	in->problems = lappend(in->problems, text.data);
}

/* Open and lock table and index; only their owner may look inside. */
static void
open_index(Inspector *in, Oid relid)
{
	Oid			heap_oid = IndexGetRelation(relid, true);
	Relation	index;

	memset(in, 0, sizeof(Inspector));
	if (get_rel_relkind(relid) != RELKIND_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("relation with OID %u is not an hnsw index", relid)));
	if (!compat_relation_owned(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, get_rel_name(relid));
	if (OidIsValid(heap_oid))
		in->heap = table_open(heap_oid, ShareLock);
	index = index_open(relid, AccessShareLock);
	if (index->rd_rel->relam != get_am_oid("hnsw", false) || index->rd_rel->relkind != RELKIND_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not an hnsw index", RelationGetRelationName(index))));
	if (!compat_relation_owned(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, RelationGetRelationName(index));
	hnsw_open(&in->ix, index);
	hnsw_read_meta(index, &in->meta);
	in->heap_blocks = RelationGetNumberOfBlocks(in->heap);
	in->flags = palloc_extended(in->meta.node_count + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	in->generations = palloc_extended(in->meta.node_count + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	in->seen = palloc_extended(in->meta.node_count + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	in->next = palloc_extended(sizeof(uint32) * ((Size) in->meta.node_count + 1), MCXT_ALLOC_HUGE);
	in->next_free = palloc_extended(sizeof(uint32) * ((Size) in->meta.node_count + 1), MCXT_ALLOC_HUGE);
	in->reached = palloc_extended(sizeof(uint32) * ((Size) in->meta.node_count + 1), MCXT_ALLOC_HUGE);
}

static void
close_index(Inspector *in)
{
	index_close(in->ix.rel, AccessShareLock);
	table_close(in->heap, ShareLock);
}

/* Read a page if it is there and of the right kind; else note that, and return false. */
static bool
read_page(Inspector *in, BlockNumber block, HnswPageKind kind, char *copy)
{
	Buffer		buffer;
	HnswPageSpecial *special = (HnswPageSpecial *) (copy + HNSW_PAGE_END);

	CHECK_FOR_INTERRUPTS();
	if (block >= RelationGetNumberOfBlocks(in->ix.rel))
	{
		problem(in, "block %u: beyond the end of the file", block);
		return false;
	}
	buffer = ReadBuffer(in->ix.rel, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(copy, BufferGetPage(buffer), BLCKSZ);
	UnlockReleaseBuffer(buffer);
	if (((PageHeader) copy)->pd_special != HNSW_PAGE_END || special->page_id != HNSW_PAGE_ID ||
		special->kind != kind)
	{
		problem(in, "block %u: not a %s page", block, kind == HNSW_PAGE_SKETCH ? "sketch" : "node");
		return false;
	}
	return true;
}

/* Whether the heap has such a row, dead or alive, or a pointer to one. */
static bool
row_exists(Inspector *in, ItemPointer tid)
{
	Buffer		buffer;
	Page		page;
	bool		result;

	if (!ItemPointerIsValid(tid) || ItemPointerGetBlockNumber(tid) >= in->heap_blocks)
		return false;
	buffer = ReadBuffer(in->heap, ItemPointerGetBlockNumber(tid));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	result = ItemPointerGetOffsetNumber(tid) <= PageGetMaxOffsetNumber(page) &&
		ItemIdIsUsed(PageGetItemId(page, ItemPointerGetOffsetNumber(tid)));
	UnlockReleaseBuffer(buffer);
	return result;
}

static void
inspect_sketch(Inspector *in, uint32 node, const HnswSketch *sketch)
{
	uint8		state = sketch->flags & HNSW_STATE_MASK;
	ItemPointerData tid = sketch->tid;

	in->flags[node] = sketch->flags;
	in->generations[node] = sketch->generation;
	if ((sketch->flags & ~(HNSW_STATE_MASK | HNSW_ALIAS)) != 0 || state == HNSW_STATE_MASK)
		problem(in, "node %u: flags 0x%02x have no meaning", node, sketch->flags);
	if (state == HNSW_LIVE && !row_exists(in, &tid))
		problem(in, "node %u: no row (%u,%u)", node,
				ItemPointerGetBlockNumberNoCheck(&tid), ItemPointerGetOffsetNumberNoCheck(&tid));
	in->live += state == HNSW_LIVE;
	in->dead += state == HNSW_DEAD;
	in->free += state == HNSW_FREE;
	in->aliases += state != HNSW_FREE && (sketch->flags & HNSW_ALIAS) != 0;
}

static void
inspect_node(Inspector *in, uint32 id, const HnswNode *node)
{
	int			count = Min(node->count, 2 * in->ix.m);

	in->next[id] = node->next;
	in->next_free[id] = node->next_free;
	if (node->is_free != ((in->flags[id] & HNSW_STATE_MASK) == HNSW_FREE))
		problem(in, "node %u: its sketch does not agree whether it is free", id);
	if (node->count > 2 * in->ix.m)
		problem(in, "node %u: %u neighbors", id, node->count);
	if (node->generation != in->generations[id])
		problem(in, "node %u: generation %u, its sketch has %u", id, node->generation, in->generations[id]);
	if (node->next != HNSW_NO_NODE && node->next >= in->meta.node_count)
		problem(in, "node %u: points to %u, which does not exist", id, node->next);
	for (int i = 0; i < count; i++)
	{
		uint32		neighbor = node->neighbors[i];

		if (neighbor >= in->meta.node_count || neighbor == id)
			problem(in, "node %u: neighbor %u", id, neighbor);
		else if ((in->flags[neighbor] & HNSW_STATE_MASK) == HNSW_FREE)
			in->edges_to_free++;
		for (int j = 0; j < i; j++)
			if (node->neighbors[j] == neighbor)
				problem(in, "node %u: neighbor %u twice", id, neighbor);
	}
	if ((in->flags[id] & HNSW_STATE_MASK) == HNSW_FREE || (in->flags[id] & HNSW_ALIAS) != 0)
		return;
	in->edges += count;
	in->without_edges += count == 0;
	in->max_degree = Max(in->max_degree, count);
}

/* All pages of one kind, slot by slot. */
static void
inspect_pages(Inspector *in, HnswPageKind kind)
{
	const HnswGeometry *g = &in->ix.geometry;
	PGAlignedBlock copy;
	BlockNumber block = InvalidBlockNumber;
	bool		usable = false;

	for (uint32 node = 0; node < in->meta.node_count; node++)
	{
		BlockNumber wanted = kind == HNSW_PAGE_SKETCH ? hnsw_sketch_block(g, node) : hnsw_node_block(g, node);

		if (wanted != block)
			usable = read_page(in, wanted, kind, copy.data);
		block = wanted;
		if (!usable)
			continue;
		if (kind == HNSW_PAGE_SKETCH)
			inspect_sketch(in, node, hnsw_sketch(g, copy.data, node));
		else
			inspect_node(in, node, hnsw_node(g, copy.data, node));
	}
}

/* Every alias on one chain, every free number on the list, and no loops. */
static void
inspect_lists(Inspector *in)
{
	uint32		count = in->meta.node_count;
	uint32		length = 0;

	for (uint32 node = 0; node < count; node++)
	{
		if ((in->flags[node] & HNSW_STATE_MASK) == HNSW_FREE || (in->flags[node] & HNSW_ALIAS) != 0)
			continue;
		for (uint32 alias = in->next[node]; alias < count; alias = in->next[alias])
		{
			if ((in->flags[alias] & HNSW_ALIAS) == 0 || in->seen[alias])
			{
				problem(in, "node %u: %u of its chain is no alias, or is on another", node, alias);
				break;
			}
			in->seen[alias] = 1;
		}
	}
	for (uint32 node = in->meta.free_head; node < count && length <= count; length++)
	{
		if ((in->flags[node] & HNSW_STATE_MASK) != HNSW_FREE)
		{
			problem(in, "node %u: in use, but on the free list", node);
			break;
		}
		node = in->next_free[node];
	}
	if (length != in->meta.free_count)
		problem(in, "free list: %u numbers, expected %u", length, in->meta.free_count);
	if (in->free != in->meta.free_count)
		problem(in, "%lld numbers are free, %u are on the free list", (long long) in->free,
				in->meta.free_count);
}

/* Follow the edges from where searches start. */
static void
walk(Inspector *in)
{
	const HnswGeometry *g = &in->ix.geometry;
	uint32		count = in->meta.node_count;
	uint32		starts = Min(count, Max(in->meta.entry_nodes, g->sketches_per_page));
	uint32		queued = 0;
	int64		reached = 0;
	PGAlignedBlock copy;

	memset(in->seen, 0, count);
	for (uint32 node = 0; node < starts; node++)
		if ((in->flags[node] & HNSW_STATE_MASK) != HNSW_FREE && (in->flags[node] & HNSW_ALIAS) == 0)
		{
			in->seen[node] = 1;
			in->reached[queued++] = node;
		}
	for (uint32 head = 0; head < queued; head++)
	{
		uint32		id = in->reached[head];
		HnswNode   *node;

		reached++;
		if (!read_page(in, hnsw_node_block(g, id), HNSW_PAGE_NODE, copy.data))
			continue;
		node = hnsw_node(g, copy.data, id);
		for (int i = 0; i < Min(node->count, 2 * in->ix.m); i++)
		{
			uint32		neighbor = node->neighbors[i];

			if (neighbor >= count || in->seen[neighbor] || (in->flags[neighbor] & HNSW_ALIAS) != 0 ||
				(in->flags[neighbor] & HNSW_STATE_MASK) == HNSW_FREE)
				continue;
			in->seen[neighbor] = 1;
			in->reached[queued++] = neighbor;
		}
	}
	in->unreachable = in->live + in->dead - in->aliases - reached;
}

PG_FUNCTION_INFO_V1(vector_index_check);
Datum
vector_index_check(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		Inspector	in;

		context = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		open_index(&in, PG_GETARG_OID(0));
		inspect_pages(&in, HNSW_PAGE_SKETCH);
		inspect_pages(&in, HNSW_PAGE_NODE);
		if (in.problems == NIL)
			inspect_lists(&in);
		close_index(&in);
		context->user_fctx = in.problems;
		MemoryContextSwitchTo(old);
	}
	context = SRF_PERCALL_SETUP();
	if (context->call_cntr < (uint64) list_length((List *) context->user_fctx))
	{
		/* SRF_RETURN_NEXT advances call_cntr before it looks at its result. */
		Datum		text = CStringGetTextDatum(list_nth((List *) context->user_fctx,
													(int) context->call_cntr));

		SRF_RETURN_NEXT(context, text);
	}
	SRF_RETURN_DONE(context);
}

static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, int count)
{
	TupleDesc	desc;
	bool	   *nulls = palloc0(sizeof(bool) * count);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != count)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

PG_FUNCTION_INFO_V1(vector_index_stats);
Datum
vector_index_stats(PG_FUNCTION_ARGS)
{
	Inspector	in;
	const HnswGeometry *g;
	double		nodes;
	Datum		values[17];

	open_index(&in, PG_GETARG_OID(0));
	inspect_pages(&in, HNSW_PAGE_SKETCH);
	inspect_pages(&in, HNSW_PAGE_NODE);
	walk(&in);
	g = &in.ix.geometry;
	nodes = in.live + in.dead - in.aliases;
	values[0] = Int32GetDatum(in.ix.spec.dims);
	values[1] = Int32GetDatum(in.ix.m);
	values[2] = Int32GetDatum(in.ix.ef_construction);
	values[3] = Int32GetDatum(in.ix.spec.sketch_bits);
	values[4] = Int32GetDatum(in.ix.spec.code_bits);
	values[5] = Int32GetDatum(g->sketch_size);
	values[6] = Int32GetDatum(g->node_size);
	values[7] = Int64GetDatum(in.live);
	values[8] = Int64GetDatum(in.dead);
	values[9] = Int64GetDatum(in.free);
	values[10] = Int64GetDatum(in.aliases);
	values[11] = Float8GetDatum(nodes > 0 ? in.edges / nodes : 0);
	values[12] = Int32GetDatum(in.max_degree);
	values[13] = Int64GetDatum(in.without_edges);
	values[14] = Int64GetDatum(in.edges_to_free);
	values[15] = Int64GetDatum(in.unreachable);
	values[16] = Int64GetDatum((int64) RelationGetNumberOfBlocks(in.ix.rel) * BLCKSZ);
	close_index(&in);
	PG_RETURN_DATUM(make_row(fcinfo, values, lengthof(values)));
}

/* What the last index scan of this session has done. */
PG_FUNCTION_INFO_V1(vector_index_last_scan);
Datum
vector_index_last_scan(PG_FUNCTION_ARGS)
{
	Datum		values[4];

	values[0] = Int64GetDatum(hnsw_last_counters.hops);
	values[1] = Int64GetDatum(hnsw_last_counters.estimates);
	values[2] = Int64GetDatum(hnsw_last_counters.reranks);
	values[3] = Int64GetDatum(hnsw_last_counters.sweeps);
	PG_RETURN_DATUM(make_row(fcinfo, values, lengthof(values)));
}

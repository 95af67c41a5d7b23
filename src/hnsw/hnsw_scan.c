/*
 * hnsw_scan.c
 *		Index scans: rows in the order of their exact distance.
 *
 * The graph search finds nodes with approximate distances.  Where these leave
 * open which row is the next, rows are looked up in the heap and the exact
 * distance is computed as the query's own operator computes it; a row is
 * returned once no other can be nearer.  Rows that the snapshot does not see
 * are dropped on the way, here or by the executor, so the scan goes on until
 * the executor has had enough.
 */
#include "postgres.h"

#include <float.h>
#include <limits.h>
#include <math.h>

#include "access/relscan.h"
#include "access/tableam.h"
#include "base/compat.h"
#include "catalog/index.h"
#include "distance_am/distance_am.h"
#include "executor/executor.h"
#include "hnsw/hnsw.h"
#include "hnsw/hnsw_sweep.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * Sketches misplace some of the nearest; a search for a few more than asked
 * for finds what one by full vectors would.  A short search needs fewer.
 */
#define EXTRA_CANDIDATES 8
#define EXTRA_SHARE 10	/* one for so many */
#define EXTRA_SHARE_WHOLE 5	/* where distances are whole, and there is no margin */

/*
 * As long as few of a search's rows have gone out, what sketches may have
 * misplaced is far away.  The later ones of the ef_search rows wait until all
 * that has not been expanded seems farther by so many standard deviations of a
 * sketch's error, or the search has made so many hops more: an eighth of the
 * true rows would be missing otherwise.  Rows beyond come of a larger search.
 *
 * The first few are what most queries want.  They wait only where values crowd
 * together so much that sketches do not tell near from nearest: where all that
 * the search has kept lies within little more than one standard deviation of
 * the nearest row.  Hardly any query on ordinary embeddings is like that.
 */
#define SURE_MARGIN 3.0f
#define SURE_HOPS 2				/* for each candidate kept, and for so many besides: */
#define SURE_HOPS_LEAST 20
#define FIRST_ROWS 10
#define CROWD 1.25f

/* What a short search needs is one piece of memory. */
#define SCAN_MEMORY (32 * 1024)

/* A row on its way out, in a min-heap by bound. */
typedef struct HnswReady
{
	double		bound;			/* no nearer than this; the distance itself when exact */
	float		slack;			/* when not exact: the distance seems so much larger */
	uint32		node;			/* when not exact */
	uint32		next;			/* its first alias */
	ItemPointerData tid;		/* once it has been read: when exact */
	bool		exact;
} HnswReady;

typedef struct HnswScan
{
	HnswIndex	ix;
	HnswSearch	search;
	MemoryContext context;		/* lives as long as the scan */
	MemoryContext row_context;	/* for one row's exact distance */
	bool		started;
	bool		any_order;		/* the query is NULL, or has no direction: all rows are equally near */
	Datum		query;

	HnswReady  *ready;
	int			ready_count;
	int			ready_size;
	int			taken;			/* of search.found */
	int64		rested;			/* hops after which the search has filled its window */
	HnswReady  *late;			/* rows found when farther ones had gone out already */
	int			late_count;
	int			late_size;
	bool		draining;		/* the late ones go out, at the end */
	int64		returned;
	double		nearest;		/* distance of the first row returned */
	double		last;			/* and of the last: no farther than this */
	double		before;			/* what "last" was before that one */
	ItemPointerData unseen;		/* the last, when nobody has looked at it */
	bool		exhausted;		/* the graph has given what it can, or all that is wanted of it */
	bool		ended;			/* nothing is looked for any more */
	HnswSweep  *sweep;			/* the pass over everything that comes last */

	/* To look at rows. */
	IndexFetchTableData *fetch;
	TupleTableSlot *slot;
	AttrNumber	attribute;		/* 0 for an expression */
	IndexInfo  *info;
	EState	   *estate;
} HnswScan;

IndexScanDesc
hnsw_beginscan(Relation index, int nkeys, int norderbys)
{
	IndexScanDesc scan = RelationGetIndexScan(index, nkeys, norderbys);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "hnsw scan", 0, SCAN_MEMORY,
												  ALLOCSET_DEFAULT_MAXSIZE);
	MemoryContext old = MemoryContextSwitchTo(context);
	HnswScan   *state = palloc0(sizeof(HnswScan));

	state->context = context;
	state->attribute = index->rd_index->indkey.values[0];
	hnsw_open(&state->ix, index);
	MemoryContextSwitchTo(old);
	scan->opaque = state;
	return scan;
}

void
hnsw_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	HnswScan   *state = scan->opaque;

	if (keys != NULL && scan->numberOfKeys > 0)
		memmove(scan->keyData, keys, sizeof(ScanKeyData) * scan->numberOfKeys);
	if (orderbys != NULL && scan->numberOfOrderBys > 0)
		memmove(scan->orderByData, orderbys, sizeof(ScanKeyData) * scan->numberOfOrderBys);
	state->started = false;
}

void
hnsw_endscan(IndexScanDesc scan)
{
	HnswScan   *state = scan->opaque;

	if (state->fetch != NULL)
		table_index_fetch_end(state->fetch);
	if (state->slot != NULL)
		ExecDropSingleTupleTableSlot(state->slot);
	if (state->estate != NULL)
		FreeExecutorState(state->estate);
	MemoryContextDelete(state->context);
	scan->opaque = NULL;
}

static void
ready_push(HnswScan *state, HnswReady entry)
{
	HnswReady  *heap;
	int			i = state->ready_count++;

	if (state->ready_count > state->ready_size)
	{
		state->ready_size *= 2;
		state->ready = repalloc_huge(state->ready, sizeof(HnswReady) * (Size) state->ready_size);
	}
	heap = state->ready;
	while (i > 0 && heap[(i - 1) / 2].bound > entry.bound)
	{
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = entry;
}

static HnswReady
ready_pop(HnswScan *state)
{
	HnswReady  *heap = state->ready;
	HnswReady	top = heap[0];
	HnswReady	last = heap[--state->ready_count];
	int			n = state->ready_count;
	int			i = 0;

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && heap[child + 1].bound < heap[child].bound)
			child++;
		if (heap[child].bound >= last.bound)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

static void
push_node(HnswScan *state, double bound, float slack, uint32 node, uint32 next)
{
	HnswReady	entry = {.bound = bound, .slack = slack, .node = node, .next = next};

	ready_push(state, entry);
}

/* Move what the search has found to the rows on their way out. */
static void
take_found(HnswScan *state)
{
	HnswSearch *search = &state->search;

	for (; state->taken < search->found_count; state->taken++)
	{
		const HnswFound *found = &search->found[state->taken];
		bool		dead = (found->node & HNSW_DEAD_BIT) != 0;
		bool		vague;

		CHECK_FOR_INTERRUPTS();

		/* A dead node may still have living aliases. */
		if (dead && found->next == HNSW_NO_NODE)
			continue;

		/* Where estimates have overflowed they say nothing. */
		vague = state->ix.opclass.folded || !(found->slack < FLT_MAX) || !(fabsf(found->distance) < FLT_MAX);
		push_node(state, vague ? -INFINITY : found->distance - found->slack, vague ? INFINITY : found->slack,
				  found->node & ~HNSW_DEAD_BIT, found->next);
	}
}

static void
prepare_fetch(IndexScanDesc scan, HnswScan *state)
{
	MemoryContext old;

	if (state->fetch != NULL)
		return;
	old = MemoryContextSwitchTo(state->context);
	state->row_context = AllocSetContextCreate(state->context, "hnsw row", ALLOCSET_SMALL_SIZES);
	state->ix.heap = scan->heapRelation;
	state->fetch = table_index_fetch_begin(scan->heapRelation);
	state->slot = table_slot_create(scan->heapRelation, NULL);
	if (state->attribute == 0)
	{
		state->info = BuildIndexInfo(scan->indexRelation);
		state->estate = CreateExecutorState();
	}
	MemoryContextSwitchTo(old);
}

/* How many to look for in the first place. */
static int
first_ef(const HnswScan *state)
{
	int			share = quant_has_code(&state->ix.spec) ? EXTRA_SHARE : EXTRA_SHARE_WHOLE;

	return hnsw_ef_search + Min(EXTRA_CANDIDATES, hnsw_ef_search / share);
}

static void
start_scan(IndexScanDesc scan, HnswScan *state)
{
	MemoryContext old;
	const void *value = NULL;
	bool		indexable;
	HnswRowsAhead ahead;

	if (scan->orderByData == NULL || scan->numberOfOrderBys != 1)
		elog(ERROR, "cannot scan hnsw index without order");
	if (!IsMVCCSnapshot(scan->xs_snapshot))
		elog(ERROR, "non-MVCC snapshots are not supported with hnsw");

	pgstat_count_index_scan(scan->indexRelation);
	compat_count_index_search(scan);
	prepare_fetch(scan, state);
	old = MemoryContextSwitchTo(state->context);
	if (state->ready == NULL)
	{
		hnsw_search_init(&state->search, &state->ix, first_ef(state));
		state->ready_size = 256;
		state->ready = palloc(sizeof(HnswReady) * state->ready_size);
		state->late_size = 16;
		state->late = palloc(sizeof(HnswReady) * state->late_size);
	}
	state->ready_count = 0;
	state->late_count = 0;
	state->draining = false;
	state->taken = 0;
	state->returned = 0;
	state->last = state->before = -INFINITY;
	ItemPointerSetInvalid(&state->unseen);
	state->exhausted = false;
	state->ended = false;
	memset(&state->search.counters, 0, sizeof(HnswCounters));
	if (state->sweep != NULL)
		hnsw_sweep_end(state->sweep);
	state->sweep = NULL;
	state->started = true;

	state->query = scan->orderByData->sk_argument;
	state->any_order = (scan->orderByData->sk_flags & SK_ISNULL) != 0;
	if (!state->any_order)
	{
		/* What the last query was made into; where no row has been looked at since, it is still here. */
		MemoryContextReset(state->row_context);
		MemoryContextSwitchTo(state->row_context);
		value = hnsw_form_value(&state->ix.opclass, state->query, state->ix.spec.dims, &indexable);
		MemoryContextSwitchTo(state->context);
		state->any_order = !indexable;
	}
	if (state->any_order)
	{
		state->search.found_count = 0;
		hnsw_search_end(&state->search);
		state->exhausted = true;
		hnsw_refresh_hints(&state->ix, state->search.node_count);
	}
	else
	{
		hnsw_search_start(&state->search, value, first_ef(state));
		hnsw_search_run(&state->search);
		hnsw_search_elsewhere(&state->search);
		state->rested = state->search.counters.hops;
		hnsw_rows_ahead(&state->ix, state->search.found, state->search.found_count,
						hnsw_search_limit(&state->search), &ahead);
		take_found(state);
		hnsw_rows_prefetch(&state->ix, &ahead);
	}
	MemoryContextSwitchTo(old);
}

/*
 * The exact distance of a row, on the scale of the codes; false when the
 * snapshot does not see it.
 */
static bool
exact_distance(IndexScanDesc scan, HnswScan *state, ItemPointer tid, double *distance)
{
	ItemPointerData row = *tid;
	bool		isnull;
	Datum		value;

	if (!hnsw_row_fetch(&state->ix, state->fetch, &row, scan->xs_snapshot, state->slot))
		return false;
	state->search.counters.reranks++;
	*distance = 0;
	if (state->any_order)
		return true;
	if (state->attribute != 0)
		value = slot_getattr(state->slot, state->attribute, &isnull);
	else
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		ResetPerTupleExprContext(state->estate);
		GetPerTupleExprContext(state->estate)->ecxt_scantuple = state->slot;
		FormIndexDatum(state->info, state->slot, state->estate, values, nulls);

		/* The expression may itself have searched an index. */
		hnsw_refresh_hints(&state->ix, state->search.node_count);
		value = values[0];
		isnull = nulls[0];
	}
	if (isnull)
		return false;
	*distance = hnsw_graph_scale(&state->ix.opclass,
								 DatumGetFloat8(FunctionCall2Coll(&scan->orderByData->sk_func,
																  scan->orderByData->sk_collation,
																  value, state->query)));
	if (isnan(*distance))
		*distance = INFINITY;
	return true;
}

/* Where a node's row is; false when it is dead. */
static bool
read_tid(HnswScan *state, uint32 node, ItemPointer tid)
{
	HnswIndex  *ix = &state->ix;
	const HnswGeometry *g = &ix->geometry;
	Buffer		buffer = hnsw_read_page(ix, hnsw_sketch_block(g, node), HNSW_PAGE_SKETCH);
	HnswSketch *sketch = hnsw_sketch(g, BufferGetPage(buffer), node);
	bool		live = (sketch->flags & HNSW_STATE_MASK) == HNSW_LIVE;

	*tid = sketch->tid;
	UnlockReleaseBuffer(buffer);
	return live;
}

/*
 * Look at a node's row, and put it back with its exact distance.  Its first
 * alias comes behind it, with the same distance: equal values.
 */
static void
rerank(IndexScanDesc scan, HnswScan *state, const HnswReady *entry)
{
	HnswReady	row = {.exact = true};
	double		bound = entry->bound;
	MemoryContext old;

	if (read_tid(state, entry->node, &row.tid))
	{
		MemoryContextReset(state->row_context);
		old = MemoryContextSwitchTo(state->row_context);
		if (exact_distance(scan, state, &row.tid, &row.bound))
		{
			ready_push(state, row);
			bound = row.bound;
		}
		MemoryContextSwitchTo(old);
	}
	if (entry->next != HNSW_NO_NODE)
	{
		push_node(state, bound, INFINITY, entry->next, hnsw_search_alias(&state->search, entry->next));
		state->taken = state->search.found_count;
	}
}

/*
 * Called when no row can go out as things stand: search on.  False when no
 * more rows are there, or wanted.
 */
static bool
search_on(HnswScan *state)
{
	HnswSearch *search = &state->search;
	Size		memory = (Size) (work_mem * 1024.0 * hnsw_scan_mem_multiplier);

	if (state->ended)
		return false;
	if (hnsw_iterative_scan == HNSW_ITERATIVE_OFF && !state->any_order)
	{
		/* What has been found goes out as far as it is wanted, though nearer rows may have been missed. */
		state->ended = state->exhausted;
		state->exhausted = true;
		return !state->ended;
	}
	if (!state->exhausted)
	{
		if (search->counters.hops >= hnsw_max_scan_tuples)
			state->ended = state->exhausted = true;
		else if (!hnsw_search_ended(search) && hnsw_search_memory(search) < memory)
		{
			hnsw_search_widen(search, Min(search->ef, INT_MAX / 4) * 2);
			hnsw_search_run(search);
			state->rested = search->counters.hops;
			take_found(state);
		}
		else
			state->exhausted = true;

		/* What is there already goes out before the passes over everything. */
		return !state->ended || state->ready_count > 0;
	}

	if (state->sweep == NULL)
		state->sweep = hnsw_sweep_begin(search, state->any_order, memory);
	state->ended = !hnsw_sweep_next(state->sweep);
	for (int i = 0; i < state->sweep->count; i++)
		push_node(state, -INFINITY, INFINITY, state->sweep->best[i].node, HNSW_NO_NODE);
	search->counters.sweeps++;
	return !state->ended;
}

/* Rows up to this distance can go out without searching on. */
static float
safe_limit(const HnswScan *state)
{
	if (state->exhausted || state->ix.opclass.folded)
		return INFINITY;
	return hnsw_search_limit(&state->search);
}

/*
 * Before a row of this distance goes out, look for nearer ones that sketches
 * have misplaced.  True when anything came.
 */
static bool
look_closer(HnswScan *state, double distance)
{
	HnswSearch *search = &state->search;

	if (state->returned == 0)
		state->nearest = distance;
	if (state->exhausted || state->returned >= hnsw_ef_search || hnsw_search_ended(search) ||
		state->ix.opclass.folded)
		return false;
	if (state->returned < FIRST_ROWS && search->window[0] > state->nearest + CROWD * search->error)
		return false;
	hnsw_search_closer(search, distance + SURE_MARGIN * search->error,
					   state->rested + SURE_HOPS * (search->ef + SURE_HOPS_LEAST));
	if (search->found_count == state->taken)
		return false;
	take_found(state);
	return true;
}

/*
 * No farther than this, however far the estimate is off.  The slack is three
 * standard deviations: twice of it does not happen, once it does.  The small
 * rest is what the operator itself rounds.
 */
static inline double
surely_within(const HnswReady *entry)
{
	if (entry->exact)
		return entry->bound;
	return entry->bound + 3 * (double) entry->slack + 1e-5 * fabs(entry->bound) + 1e-6;
}

/*
 * Whether a node's row comes next however far its estimate and the others' are
 * off, so that nobody need look at it but the executor.
 */
static bool
surely_next(const HnswScan *state, const HnswReady *entry)
{
	const HnswIndex *ix = &state->ix;
	double		above = surely_within(entry);

	/* Products of plain values may cancel out and leave nothing but what was rounded. */
	if (ix->spec.kind == QUANT_PLAIN && ix->spec.metric == QUANT_IP)
		return false;

	/* Of an alias, or where estimates have overflowed, nothing is known: the slack is infinite. */
	return entry->next == HNSW_NO_NODE && entry->bound >= state->last &&
		above < INFINITY && above <= safe_limit(state) &&
		(state->ready_count == 0 || above <= state->ready[0].bound) &&
		hnsw_iterative_scan != HNSW_ITERATIVE_OFF;
}

/*
 * Whether a row is nearer than the last that went out.  Where that one has not
 * been looked at, it is now: most often it was the nearer one all the same.
 */
static bool
comes_too_late(IndexScanDesc scan, HnswScan *state, double distance)
{
	MemoryContext old;
	double		seen;

	if (distance >= state->last || !ItemPointerIsValid(&state->unseen))
		return distance < state->last;
	MemoryContextReset(state->row_context);
	old = MemoryContextSwitchTo(state->row_context);
	state->last = state->before;
	if (exact_distance(scan, state, &state->unseen, &seen))
		state->last = Max(state->before, seen);
	MemoryContextSwitchTo(old);
	ItemPointerSetInvalid(&state->unseen);
	return distance < state->last;
}

/* Note that a row goes out. */
static void
note_returned(HnswScan *state, const HnswReady *entry)
{
	state->before = state->last;
	state->last = Max(state->last, surely_within(entry));
	ItemPointerSetInvalid(&state->unseen);
	if (!entry->exact)
		state->unseen = entry->tid;
	state->returned++;
}

/* The executor found that the last row is there for nobody: it does not count. */
static void
forget_returned(HnswScan *state)
{
	state->last = state->before;
	ItemPointerSetInvalid(&state->unseen);
	state->returned--;
}

/* Keep the order: a row that comes too late goes out at the end, should the scan get there. */
static void
put_aside(HnswScan *state, HnswReady entry)
{
	if (state->late_count == state->late_size)
	{
		state->late_size *= 2;
		state->late = repalloc_huge(state->late, sizeof(HnswReady) * (Size) state->late_size);
	}
	state->late[state->late_count++] = entry;
}

static bool
drain_late(HnswScan *state)
{
	if (state->draining || state->late_count == 0 || hnsw_iterative_scan == HNSW_ITERATIVE_OFF)
		return false;
	state->draining = true;
	for (int i = 0; i < state->late_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ready_push(state, state->late[i]);
	}
	return true;
}

/* The next row; false at the end. */
static bool
next_row(IndexScanDesc scan, HnswScan *state)
{
	for (;;)
	{
		HnswReady	entry;

		CHECK_FOR_INTERRUPTS();
		if (state->ready_count == 0 || state->ready[0].bound > safe_limit(state))
		{
			MemoryContext old = MemoryContextSwitchTo(state->context);
			bool		more = search_on(state);

			more = more || drain_late(state);
			MemoryContextSwitchTo(old);
			if (!more)
				return false;
			continue;
		}
		entry = ready_pop(state);
		if (!entry.exact && !surely_next(state, &entry))
		{
			rerank(scan, state, &entry);
			continue;
		}
		if (look_closer(state, entry.exact ? entry.bound : entry.bound + entry.slack))
		{
			ready_push(state, entry);
			continue;
		}

		/* The executor finds the row's page pinned; where it is not known yet, it becomes known. */
		if (!entry.exact &&
			!(read_tid(state, entry.node, &entry.tid) &&
			  hnsw_row_pin(&state->ix, scan->xs_heapfetch, &entry.tid)))
		{
			rerank(scan, state, &entry);
			continue;
		}
		if (entry.exact)
		{
			if (!state->draining && hnsw_iterative_scan != HNSW_ITERATIVE_RELAXED &&
				comes_too_late(scan, state, entry.bound))
			{
				put_aside(state, entry);
				continue;
			}
			if (hnsw_iterative_scan == HNSW_ITERATIVE_OFF && state->returned >= hnsw_ef_search)
				return false;
			hnsw_row_pin(&state->ix, scan->xs_heapfetch, &entry.tid);
		}
		note_returned(state, &entry);
		scan->xs_heaptid = entry.tid;
		return true;
	}
}

/*
 * Whatever rows the index may not have led to have been removed before the
 * meta page was written to: see announce_removal.
 */
static void
test_old_snapshot(IndexScanDesc scan, HnswScan *state)
{
	Buffer		buffer = hnsw_read_page(&state->ix, HNSW_META_BLOCK, HNSW_PAGE_META);

	compat_test_old_snapshot(scan->xs_snapshot, scan->indexRelation, BufferGetPage(buffer));
	UnlockReleaseBuffer(buffer);
}

bool
hnsw_gettuple(IndexScanDesc scan, ScanDirection direction)
{
	HnswScan   *state = scan->opaque;
	bool		result;

	Assert(ScanDirectionIsForward(direction));
	if (!state->started)
		start_scan(scan, state);
	else
	{
		hnsw_refresh_hints(&state->ix, state->search.node_count);
		if (scan->kill_prior_tuple)
			forget_returned(state);
		if (unlikely(compat_snapshots_age()))
			distance_am_test_fetched(scan->xs_heapfetch, scan->xs_snapshot);
	}
	scan->xs_recheck = false;
	scan->xs_recheckorderby = false;
	result = next_row(scan, state);
	ExecClearTuple(state->slot);
	if (unlikely(compat_snapshots_age()))
		test_old_snapshot(scan, state);
	hnsw_last_counters = state->search.counters;
	return result;
}

/*
 * ivfflat_scan.c
 *		Index scans: the rows of the nearest lists, in the order of their distance.
 *
 * The lists are looked at in batches of "probes".  All rows of a batch are
 * compared with the query and kept in memory as a heap; what goes beyond
 * work_mem is left out and found again by another pass over the same lists,
 * for the rows behind the last one returned.
 */
#include "postgres.h"

#include <math.h>

#include "access/relscan.h"
#include "base/compat.h"
#include "distance_am/distance_am.h"
#include "ivfflat/ivfflat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define LEAST_CANDIDATES	1024

/* A row; ordered by distance, and among equals by its place in the table. */
typedef struct Candidate
{
	double		distance;
	BlockNumber block;
	OffsetNumber offset;
} Candidate;

typedef struct ListDistance
{
	float		distance;
	uint32		list;
} ListDistance;

typedef struct IvfflatScan
{
	IvfflatIndex ix;
	MemoryContext context;		/* reset by every rescan */
	bool		started;
	Snapshot	snapshot;
	IvfflatValue query;
	double	   *distances;		/* for what is on one page */
	Candidate  *page;

	/* Lists not looked at yet: a min-heap. */
	ListDistance *lists;
	int			list_count;
	int			probes;			/* per batch */
	int			probes_left;	/* in all further batches */

	/* The current batch. */
	uint32	   *batch;
	int			batch_count;
	Candidate  *found;			/* a min-heap, once complete */
	int			found_count;
	int			found_size;
	int			found_most;		/* by work_mem */
	bool		left_out;		/* rows at or behind "cutoff" were left out */
	bool		has_last;
	Candidate	cutoff;
	Candidate	last;			/* returned in this batch */
} IvfflatScan;

IndexScanDesc
ivfflat_beginscan(Relation index, int nkeys, int norderbys)
{
	IndexScanDesc scan = RelationGetIndexScan(index, nkeys, norderbys);
	IvfflatScan *state = palloc0(sizeof(IvfflatScan));

	ivfflat_open(&state->ix, index);
	state->context = AllocSetContextCreate(CurrentMemoryContext, "ivfflat scan", ALLOCSET_DEFAULT_SIZES);
	scan->opaque = state;
	return scan;
}

void
ivfflat_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	IvfflatScan *state = scan->opaque;

	if (keys != NULL && scan->numberOfKeys > 0)
		memmove(scan->keyData, keys, sizeof(ScanKeyData) * scan->numberOfKeys);
	if (orderbys != NULL && scan->numberOfOrderBys > 0)
		memmove(scan->orderByData, orderbys, sizeof(ScanKeyData) * scan->numberOfOrderBys);
	state->started = false;
}

void
ivfflat_endscan(IndexScanDesc scan)
{
	IvfflatScan *state = scan->opaque;

	MemoryContextDelete(state->context);
	pfree(state);
	scan->opaque = NULL;
}

static inline bool
nearer(const Candidate *a, const Candidate *b)
{
	if (a->distance != b->distance)
		return a->distance < b->distance;
	if (a->block != b->block)
		return a->block < b->block;
	return a->offset < b->offset;
}

static int
compare_candidates(const void *a, const void *b)
{
	return nearer(a, b) ? -1 : nearer(b, a) ? 1 : 0;
}

/* Let heap[i] sink to where it belongs. */
static void
sink_candidate(Candidate *heap, int count, int i)
{
	Candidate	moving = heap[i];

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= count)
			break;
		if (child + 1 < count && nearer(&heap[child + 1], &heap[child]))
			child++;
		if (!nearer(&heap[child], &moving))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
}

static inline bool
list_nearer(const ListDistance *a, const ListDistance *b)
{
	return a->distance != b->distance ? a->distance < b->distance : a->list < b->list;
}

static void
sink_list(ListDistance *heap, int count, int i)
{
	ListDistance moving = heap[i];

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= count)
			break;
		if (child + 1 < count && list_nearer(&heap[child + 1], &heap[child]))
			child++;
		if (!list_nearer(&heap[child], &moving))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
}

/* All lists with the distances of their centers; in any order for the SQL null. */
static void
rank_lists(IvfflatScan *state)
{
	const IvfflatIndex *ix = &state->ix;

	state->list_count = ix->lists;
	state->lists = palloc(sizeof(ListDistance) * ix->lists);
	for (int first = 0; first < ix->lists; first += ix->centers_per_page)
	{
		int			count = Min(ix->centers_per_page, ix->lists - first);

		if (state->query.data == NULL)
			memset(state->distances, 0, sizeof(double) * count);
		else
		{
			BlockNumber block = ivfflat_center_block(ix, first);
			Buffer		buffer = ivfflat_read_page(ix->rel, block, IVFFLAT_PAGE_CENTERS);

			ivfflat_center_distances(ix, &state->query, ivfflat_page_slots(BufferGetPage(buffer)), count,
									 state->distances);
			UnlockReleaseBuffer(buffer);
		}
		for (int i = 0; i < count; i++)
		{
			state->lists[first + i].distance = (float) state->distances[i];
			state->lists[first + i].list = first + i;
		}
		CHECK_FOR_INTERRUPTS();
	}
	for (int i = state->list_count / 2 - 1; i >= 0; i--)
		sink_list(state->lists, state->list_count, i);
}

/* Room for another candidate: more memory, or only the nearer half is kept. */
static void
make_room(IvfflatScan *state)
{
	if (state->found_size < state->found_most)
	{
		state->found_size = Min(state->found_size * 2, state->found_most);
		state->found = repalloc_huge(state->found, sizeof(Candidate) * (Size) state->found_size);
		return;
	}
	qsort(state->found, state->found_count, sizeof(Candidate), compare_candidates);
	state->found_count /= 2;
	state->cutoff = state->found[state->found_count];
	state->left_out = true;
}

static void
take_page(IvfflatScan *state, uint32 list, uint32 number, BlockNumber block)
{
	const IvfflatIndex *ix = &state->ix;
	Buffer		buffer = ReadBuffer(ix->rel, block);
	const char *slots;
	int			count;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (PageIsNew(BufferGetPage(buffer)))
	{
		/* the list has grown by more pages than were needed so far */
		UnlockReleaseBuffer(buffer);
		return;
	}
	ivfflat_check_entries_page(ix, buffer);
	if (unlikely(ivfflat_page_special(BufferGetPage(buffer))->list != list ||
				 ivfflat_page_special(BufferGetPage(buffer))->number != number))
		ivfflat_corrupted(ix->rel, block, "page belongs to another list");
	compat_test_old_snapshot(state->snapshot, ix->rel, BufferGetPage(buffer));
	slots = ivfflat_page_slots(BufferGetPage(buffer));
	count = ivfflat_page_entries(ix, BufferGetPage(buffer));
	ivfflat_entry_distances(ix, &state->query, slots, count, state->distances);
	for (int i = 0; i < count; i++)
	{
		const IvfflatEntry *entry = (const IvfflatEntry *) (slots + ix->entry_size * i);

		state->page[i].distance = state->distances[i];
		state->page[i].block = ItemPointerGetBlockNumberNoCheck(&entry->tid);
		state->page[i].offset = ItemPointerGetOffsetNumberNoCheck(&entry->tid);
	}
	UnlockReleaseBuffer(buffer);

	/* Making room may sort as much as work_mem holds: not while others wait for the page. */
	for (int i = 0; i < count; i++)
	{
		const Candidate *candidate = &state->page[i];

		if (state->has_last && !nearer(&state->last, candidate))
			continue;
		if (state->found_count == state->found_size)
			make_room(state);	/* may set or move the cutoff */
		if (state->left_out && !nearer(candidate, &state->cutoff))
			continue;
		state->found[state->found_count++] = *candidate;
	}
}

/* Collect the rows of the current batch that are behind the last one returned. */
static void
take_batch(IvfflatScan *state)
{
	const IvfflatIndex *ix = &state->ix;
	IvfflatList list;
	IvfflatList next;

	state->found_count = 0;
	state->left_out = false;
	if (state->batch_count > 0)
		ivfflat_read_list(ix, state->batch[0], &next);
	for (int i = 0; i < state->batch_count; i++)
	{
		uint32		number = 0;

		/* The file's pages of a list follow each other; the system reads ahead once it has seen the first. */
		list = next;
		if (i + 1 < state->batch_count)
		{
			ivfflat_read_list(ix, state->batch[i + 1], &next);
			if (next.extent_count > 0)
				PrefetchBuffer(ix->rel, MAIN_FORKNUM, next.extents[0].start);
		}
		for (uint32 e = 0; e < list.extent_count; e++)
		{
			for (uint32 p = 0; p < list.extents[e].pages; p++)
			{
				take_page(state, state->batch[i], number++, list.extents[e].start + p);
				CHECK_FOR_INTERRUPTS();
			}
		}
	}
	for (int i = state->found_count / 2 - 1; i >= 0; i--)
		sink_candidate(state->found, state->found_count, i);
}

/* Go on with the next nearest lists; false when there are no more, or no more are wanted. */
static bool
next_batch(IvfflatScan *state)
{
	int			count = Min(Min(state->probes, state->probes_left), state->list_count);

	if (count == 0)
		return false;
	for (int i = 0; i < count; i++)
	{
		state->batch[i] = state->lists[0].list;
		state->lists[0] = state->lists[--state->list_count];
		if (state->list_count > 0)
			sink_list(state->lists, state->list_count, 0);
	}
	state->batch_count = count;
	state->probes_left -= count;
	state->has_last = false;
	take_batch(state);
	return true;
}

static void
start_scan(IndexScanDesc scan, IvfflatScan *state)
{
	const IvfflatIndex *ix = &state->ix;

	if (scan->orderByData == NULL || scan->numberOfOrderBys != 1)
		elog(ERROR, "cannot scan ivfflat index without order");
	if (!IsMVCCSnapshot(scan->xs_snapshot))
		elog(ERROR, "non-MVCC snapshots are not supported with ivfflat");

	pgstat_count_index_scan(scan->indexRelation);
	compat_count_index_search(scan);
	state->snapshot = scan->xs_snapshot;
	MemoryContextReset(state->context);
	state->distances = palloc(sizeof(double) * Max(ix->centers_per_page, ix->entries_per_page));
	state->page = palloc(sizeof(Candidate) * ix->entries_per_page);
	state->found_most = (int) Min((Size) MaxAllocHugeSize / sizeof(Candidate),
								  Min(INT_MAX / 2, (Size) work_mem * 1024 / sizeof(Candidate)));
	state->found_most = Max(state->found_most, LEAST_CANDIDATES);
	state->found_size = LEAST_CANDIDATES;
	state->found = palloc(sizeof(Candidate) * state->found_size);
	state->found_count = 0;
	state->left_out = false;

	state->query.data = NULL;
	if ((scan->orderByData->sk_flags & SK_ISNULL) == 0)
		(void) ivfflat_form_value(ix, scan->orderByData->sk_argument, &state->query);
	state->probes = Min(ivfflat_probes, ix->lists);
	state->probes_left = state->probes;
	if (ivfflat_iterative_scan != IVFFLAT_ITERATIVE_OFF)
		state->probes_left = Max(state->probes, ivfflat_max_probes);
	state->batch = palloc(sizeof(uint32) * state->probes);
	rank_lists(state);
	state->started = true;
}

bool
ivfflat_gettuple(IndexScanDesc scan, ScanDirection direction)
{
	IvfflatScan *state = scan->opaque;
	MemoryContext old = MemoryContextSwitchTo(state->context);
	bool		result = true;

	Assert(ScanDirectionIsForward(direction));
	if (!state->started)
		start_scan(scan, state);
	else if (compat_snapshots_age())
		distance_am_test_fetched(scan->xs_heapfetch, scan->xs_snapshot);
	scan->xs_recheck = false;
	scan->xs_recheckorderby = false;
	while (result && state->found_count == 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (state->left_out)
			take_batch(state);
		else
			result = next_batch(state);
	}
	if (result)
	{
		state->last = state->found[0];
		state->has_last = true;
		ItemPointerSet(&scan->xs_heaptid, state->last.block, state->last.offset);
		state->found[0] = state->found[--state->found_count];
		if (state->found_count > 0)
			sink_candidate(state->found, state->found_count, 0);
	}
	MemoryContextSwitchTo(old);
	return result;
}

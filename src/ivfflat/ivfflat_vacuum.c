/*
 * ivfflat_vacuum.c
 *		Removal of the rows that VACUUM has found dead.
 *
 * One pass over the pages of entries, in the order of the file.  Entries move
 * within their page only, so a scan under way meets each of them once.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "base/compat.h"
#include "base/debug_point.h"
#include "commands/vacuum.h"
#include "ivfflat/ivfflat.h"
#include "miscadmin.h"
#include "storage/indexfsm.h"

typedef struct Sweep
{
	IvfflatIndex ix;
	IndexBulkDeleteResult *stats;
	IndexBulkDeleteCallback callback;
	void	   *state;
	uint32	   *room;			/* for each list, the first of its pages that is not full */
} Sweep;

/*
 * Fill the gaps that dead entries leave with the page's last ones: the record
 * of a change holds what has moved.  The page is a working copy.
 */
static void
remove_entries(const Sweep *sweep, Page page, bool *dead, int count)
{
	Size		size = sweep->ix.entry_size;
	char	   *slots = ivfflat_page_slots(page);

	for (int i = 0; i < count; i++)
	{
		while (i < count && dead[count - 1])
			count--;
		if (i < count && dead[i])
			memcpy(slots + size * i, slots + size * --count, size);
	}
	ivfflat_use_page(page, IVFFLAT_PAGE_START + size * count);
}

static void
sweep_page(Sweep *sweep, BlockNumber block, BufferAccessStrategy strategy)
{
	const IvfflatIndex *ix = &sweep->ix;
	Buffer		buffer = ReadBufferExtended(ix->rel, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
	Page		page = BufferGetPage(buffer);
	bool		dead[BLCKSZ / sizeof(ItemPointerData)];
	int			count;
	int			removed = 0;
	uint32		list;
	uint32		number;

	/* Scans keep no pin on what they have read: under an MVCC snapshot none can see a dead row. */
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (PageIsNew(page))
	{
		UnlockReleaseBuffer(buffer);
		sweep->stats->pages_free++;
		return;
	}
	ivfflat_check_entries_page(ix, buffer);
	count = ivfflat_page_entries(ix, page);
	list = ivfflat_page_special(page)->list;
	number = ivfflat_page_special(page)->number;
	for (int i = 0; i < count; i++)
	{
		IvfflatEntry *entry = (IvfflatEntry *) (ivfflat_page_slots(page) + ix->entry_size * i);

		dead[i] = sweep->callback(&entry->tid, sweep->state);
		removed += dead[i];
	}
	if (removed > 0)
	{
		GenericXLogState *state = GenericXLogStart(ix->rel);

		remove_entries(sweep, GenericXLogRegisterBuffer(state, buffer, 0), dead, count);
		GenericXLogFinish(state);
	}
	UnlockReleaseBuffer(buffer);

	sweep->stats->tuples_removed += removed;
	sweep->stats->num_index_tuples += count - removed;
	if (count == removed)
		sweep->stats->pages_free++;
	if (count - removed < ix->entries_per_page)
		sweep->room[list] = Min(sweep->room[list], number);
}

/* Let inserts begin where there is room again. */
static void
reset_hints(Sweep *sweep)
{
	const IvfflatIndex *ix = &sweep->ix;

	for (int first = 0; first < ix->lists; first += ix->lists_per_page)
	{
		int			end = Min(ix->lists, first + ix->lists_per_page);
		Buffer		buffer = ReadBuffer(ix->rel, ivfflat_directory_block(ix, first));
		bool		changed = false;
		GenericXLogState *state;
		Page		page;

		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		ivfflat_check_page(ix->rel, buffer, IVFFLAT_PAGE_DIRECTORY);
		state = GenericXLogStart(ix->rel);
		page = GenericXLogRegisterBuffer(state, buffer, 0);
		for (int list = first; list < end; list++)
		{
			IvfflatList *slot = ivfflat_page_list(ix, page, list);

			if (sweep->room[list] < slot->insert_page)
			{
				slot->insert_page = sweep->room[list];
				changed = true;
			}
		}
		if (changed)
			GenericXLogFinish(state);
		else
			GenericXLogAbort(state);
		UnlockReleaseBuffer(buffer);
		CHECK_FOR_INTERRUPTS();
	}
}

IndexBulkDeleteResult *
ivfflat_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats, IndexBulkDeleteCallback callback,
				   void *state)
{
	Sweep		sweep = {.callback = callback, .state = state};
	BlockNumber blocks;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	sweep.stats = stats;
	stats->num_index_tuples = 0;
	stats->pages_free = 0;
	ivfflat_open(&sweep.ix, info->index);
	sweep.room = palloc(sizeof(uint32) * sweep.ix.lists);
	memset(sweep.room, 0xFF, sizeof(uint32) * sweep.ix.lists);

	/* Pages added from now on hold no row that is dead. */
	blocks = RelationGetNumberOfBlocks(info->index);
	for (BlockNumber block = sweep.ix.first_entries; block < blocks; block++)
	{
		compat_vacuum_delay_point();
		sweep_page(&sweep, block, info->strategy);
	}
	DEBUG_POINT("ivfflat_vacuum_hints");
	reset_hints(&sweep);
	pfree(sweep.room);
	return stats;
}

IndexBulkDeleteResult *
ivfflat_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	/* Without a pass over the index nothing is known to be new. */
	if (info->analyze_only || stats == NULL)
		return stats;
	stats->num_pages = RelationGetNumberOfBlocks(info->index);
	return stats;
}

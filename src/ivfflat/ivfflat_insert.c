/*
 * ivfflat_insert.c
 *		One more row in the list of the nearest center.
 */
#include "postgres.h"

#include <math.h>

#include "access/generic_xlog.h"
#include "base/debug_point.h"
#include "ivfflat/ivfflat.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

/* How a list grows: by a quarter of its pages, by more when few extents are left, never by more than this. */
#define GROWTH_MOST		16384

static uint32
nearest_list(const IvfflatIndex *ix, const IvfflatValue *value)
{
	double	   *distances = palloc(sizeof(double) * ix->centers_per_page);
	double		best = INFINITY;
	uint32		result = 0;

	for (int first = 0; first < ix->lists; first += ix->centers_per_page)
	{
		int			count = Min(ix->centers_per_page, ix->lists - first);
		BlockNumber block = ivfflat_center_block(ix, first);
		Buffer		buffer = ivfflat_read_page(ix->rel, block, IVFFLAT_PAGE_CENTERS);

		ivfflat_center_distances(ix, value, ivfflat_page_slots(BufferGetPage(buffer)), count, distances);
		UnlockReleaseBuffer(buffer);
		for (int i = 0; i < count; i++)
		{
			if (distances[i] < best)
			{
				best = distances[i];
				result = first + i;
			}
		}
		CHECK_FOR_INTERRUPTS();
	}
	pfree(distances);
	return result;
}

static BlockNumber
page_block(const IvfflatList *list, uint32 number)
{
	for (uint32 i = 0; i < list->extent_count; i++)
	{
		if (number < list->extents[i].pages)
			return list->extents[i].start + number;
		number -= list->extents[i].pages;
	}
	pg_unreachable();
}

/* Put an entry into a page of its list; false when the page is full. */
static bool
add_to_page(const IvfflatIndex *ix, uint32 list, uint32 number, BlockNumber block, const char *entry)
{
	Buffer		buffer = ReadBuffer(ix->rel, block);
	Page		page;
	bool		is_new;
	GenericXLogState *state;
	Size		end;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	is_new = PageIsNew(page);
	if (!is_new)
	{
		ivfflat_check_entries_page(ix, buffer);
		if (ivfflat_page_special(page)->list != list || ivfflat_page_special(page)->number != number)
			ivfflat_corrupted(ix->rel, block, "page belongs to another list");
		if (ivfflat_page_entries(ix, page) == ix->entries_per_page)
		{
			UnlockReleaseBuffer(buffer);
			return false;
		}
	}

	/* A page never used may not exist yet where the record is replayed. */
	state = GenericXLogStart(ix->rel);
	page = GenericXLogRegisterBuffer(state, buffer, is_new ? GENERIC_XLOG_FULL_IMAGE : 0);
	if (is_new)
		ivfflat_init_entries_page(page, list, number);
	end = ((PageHeader) page)->pd_lower;
	memcpy((char *) page + end, entry, ix->entry_size);
	ivfflat_use_page(page, end + ix->entry_size);
	GenericXLogFinish(state);
	UnlockReleaseBuffer(buffer);
	return true;
}

/* Pages before "number" have turned out to be full; somebody else's hint is left alone. */
static void
move_hint(const IvfflatIndex *ix, uint32 list, uint32 before, uint32 number)
{
	Buffer		buffer = ReadBuffer(ix->rel, ivfflat_directory_block(ix, list));
	GenericXLogState *state;
	IvfflatList *slot;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	ivfflat_check_page(ix->rel, buffer, IVFFLAT_PAGE_DIRECTORY);
	state = GenericXLogStart(ix->rel);
	slot = ivfflat_page_list(ix, GenericXLogRegisterBuffer(state, buffer, 0), list);
	if (slot->insert_page == before)
	{
		slot->insert_page = number;
		GenericXLogFinish(state);
	}
	else
		GenericXLogAbort(state);
	UnlockReleaseBuffer(buffer);
}

static uint32
growth(const IvfflatIndex *ix, const IvfflatList *list)
{
	uint32		left = IVFFLAT_MAX_EXTENTS - list->extent_count;
	uint64		wanted = list->pages / 4;

	if (left <= 3)
		wanted = (uint64) list->pages * 4;
	else if (left <= 10)
		wanted = list->pages;
	return (uint32) Max(1, Min(wanted, GROWTH_MOST));
}

/*
 * Add an extent to a list that had "pages" pages, unless another process has.
 *
 * The lock on extending the relation also keeps other growers away, so the
 * file grows before the directory's page is locked.  The record holds the
 * last new page too: replay makes the file as long as the directory says.  A
 * crash before it leaves pages that nobody owns until a REINDEX.
 */
static void
grow_list(const IvfflatIndex *ix, uint32 list, uint32 pages)
{
	bool		local = RELATION_IS_LOCAL(ix->rel);
	Buffer		last = InvalidBuffer;
	Buffer		buffer;
	IvfflatExtent added = {0};
	GenericXLogState *state;
	IvfflatList slot;
	IvfflatList *stored;
	Page		page;
	bool		joins;

	if (!local)
		LockRelationForExtension(ix->rel, ExclusiveLock);
	ivfflat_read_list(ix, list, &slot);
	if (slot.pages != pages)
	{
		if (!local)
			UnlockRelationForExtension(ix->rel, ExclusiveLock);
		return;
	}

	/* An insert that must fail does so before the file has grown for it. */
	added.start = RelationGetNumberOfBlocks(ix->rel);
	added.pages = growth(ix, &slot);
	joins = slot.extent_count > 0 &&
		slot.extents[slot.extent_count - 1].start + slot.extents[slot.extent_count - 1].pages == added.start;
	if (!joins && slot.extent_count == IVFFLAT_MAX_EXTENTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a list of index \"%s\" cannot grow any more", RelationGetRelationName(ix->rel)),
				 errhint("Rebuild it with REINDEX INDEX.")));
	for (uint32 i = 0; i < added.pages; i++)
	{
		if (BufferIsValid(last))
			ReleaseBuffer(last);
		last = ReadBufferExtended(ix->rel, MAIN_FORKNUM, P_NEW, RBM_NORMAL, NULL);
		Assert(BufferGetBlockNumber(last) == added.start + i);
		CHECK_FOR_INTERRUPTS();
	}
	DEBUG_CRASH_POINT("ivfflat_grow");

	buffer = ReadBuffer(ix->rel, ivfflat_directory_block(ix, list));
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	LockBuffer(last, BUFFER_LOCK_EXCLUSIVE);
	state = GenericXLogStart(ix->rel);
	stored = ivfflat_page_list(ix, GenericXLogRegisterBuffer(state, buffer, 0), list);
	page = GenericXLogRegisterBuffer(state, last, GENERIC_XLOG_FULL_IMAGE);
	ivfflat_init_entries_page(page, list, slot.pages + added.pages - 1);
	if (joins)
		stored->extents[stored->extent_count - 1].pages += added.pages;
	else
		stored->extents[stored->extent_count++] = added;
	stored->pages += added.pages;
	GenericXLogFinish(state);
	UnlockReleaseBuffer(last);
	UnlockReleaseBuffer(buffer);
	if (!local)
		UnlockRelationForExtension(ix->rel, ExclusiveLock);
}

static void
add_entry(const IvfflatIndex *ix, uint32 list, const char *entry)
{
	for (;;)
	{
		IvfflatList slot;

		ivfflat_read_list(ix, list, &slot);
		for (uint32 number = Min(slot.insert_page, slot.pages); number < slot.pages; number++)
		{
			if (add_to_page(ix, list, number, page_block(&slot, number), entry))
			{
				if (number != slot.insert_page)
					move_hint(ix, list, slot.insert_page, number);
				return;
			}
			CHECK_FOR_INTERRUPTS();
		}
		grow_list(ix, list, slot.pages);
	}
}

bool
ivfflat_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
			   IndexUniqueCheck check, bool unchanged, struct IndexInfo *info)
{
	MemoryContext context;
	MemoryContext old;
	IvfflatIndex ix;
	IvfflatValue value;

	if (isnull[0])
		return false;
	context = AllocSetContextCreate(CurrentMemoryContext, "ivfflat insert", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	ivfflat_open(&ix, index);
	if (ivfflat_form_value(&ix, values[0], &value))
	{
		IvfflatEntry *entry = palloc0(ix.entry_size);

		entry->tid = *tid;
		if (ix.opclass.metric == IVFFLAT_COSINE)
			entry->norm = value.norm;
		memcpy((char *) entry + ix.entry_header, value.data, ix.value_size);
		add_entry(&ix, nearest_list(&ix, &value), (const char *) entry);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return false;
}

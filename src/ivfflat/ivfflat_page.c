/*
 * ivfflat_page.c
 *		Layout of the pages, and access to what they hold.
 */
#include "postgres.h"

#include "ivfflat/ivfflat.h"

/* What pgvector writes at the start of its meta page. */
#define PGVECTOR_IVFFLAT_MAGIC	0x014FF1A7

void
ivfflat_corrupted(Relation index, BlockNumber block, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is corrupted at block %u: %s", RelationGetRelationName(index), block, what),
			 errhint("Rebuild it with REINDEX INDEX.")));
}

/* Everything that follows from type, metric, dimensions and number of lists. */
void
ivfflat_set_layout(IvfflatIndex *ix)
{
	Size		space = IVFFLAT_PAGE_END - IVFFLAT_PAGE_START;

	if (ix->opclass.type == IVFFLAT_VECTOR)
		ix->value_size = sizeof(float) * ix->dims;
	else if (ix->opclass.type == IVFFLAT_HALFVEC)
		ix->value_size = sizeof(uint16) * ix->dims;
	else
		ix->value_size = (ix->dims + 7) / 8;
	ix->center_size = MAXALIGN(ix->value_size);
	ix->entry_header = IVFFLAT_ENTRY_HEADER;
	if (ix->opclass.metric == IVFFLAT_COSINE)
		ix->entry_header = IVFFLAT_COSINE_ENTRY_HEADER;
	ix->entry_size = MAXALIGN(ix->entry_header + ix->value_size);
	ix->centers_per_page = (int) (space / ix->center_size);
	ix->lists_per_page = (int) (space / sizeof(IvfflatList));
	ix->entries_per_page = (int) (space / ix->entry_size);
	Assert(ix->centers_per_page > 0 && ix->entries_per_page > 0);

	ix->first_directory = ivfflat_center_block(ix, ix->lists - 1) + 1;
	ix->first_entries = ivfflat_directory_block(ix, ix->lists - 1) + 1;
}

void
ivfflat_init_page(Page page, IvfflatPageKind kind)
{
	IvfflatPageSpecial *special;

	PageInit(page, BLCKSZ, sizeof(IvfflatPageSpecial));
	special = ivfflat_page_special(page);
	special->kind = kind;
	special->page_id = IVFFLAT_PAGE_ID;
}

void
ivfflat_init_entries_page(Page page, uint32 list, uint32 number)
{
	ivfflat_init_page(page, IVFFLAT_PAGE_ENTRIES);
	ivfflat_page_special(page)->list = list;
	ivfflat_page_special(page)->number = number;
}

/*
 * Declare the bytes before "end" as used: the hole behind them is neither
 * logged nor kept.
 */
void
ivfflat_use_page(Page page, Size end)
{
	((PageHeader) page)->pd_lower = (LocationIndex) end;
}

/* The caller has the buffer pinned and locked. */
void
ivfflat_check_page(Relation index, Buffer buffer, IvfflatPageKind kind)
{
	Page		page = BufferGetPage(buffer);
	PageHeader	header = (PageHeader) page;
	IvfflatPageSpecial *special = ivfflat_page_special(page);

	if (unlikely(header->pd_special != IVFFLAT_PAGE_END || special->page_id != IVFFLAT_PAGE_ID ||
				 special->kind != kind))
		ivfflat_corrupted(index, BufferGetBlockNumber(buffer),
						  PageIsNew(page) ? "page is empty" : "page is not of the expected kind");
}

/* The same for a page of entries, whose number of entries can be relied on afterwards. */
void
ivfflat_check_entries_page(const IvfflatIndex *ix, Buffer buffer)
{
	Page		page = BufferGetPage(buffer);
	Size		used = ((PageHeader) page)->pd_lower - IVFFLAT_PAGE_START;

	ivfflat_check_page(ix->rel, buffer, IVFFLAT_PAGE_ENTRIES);
	if (unlikely(((PageHeader) page)->pd_lower < IVFFLAT_PAGE_START || used % ix->entry_size != 0 ||
				 used / ix->entry_size > ix->entries_per_page))
		ivfflat_corrupted(ix->rel, BufferGetBlockNumber(buffer), "number of entries is wrong");
	if (unlikely(ivfflat_page_special(page)->list >= ix->lists))
		ivfflat_corrupted(ix->rel, BufferGetBlockNumber(buffer), "page belongs to no list");
}

/* Pin, lock for reading, and check that the page is what it should be. */
Buffer
ivfflat_read_page(Relation index, BlockNumber block, IvfflatPageKind kind)
{
	Buffer		buffer = ReadBuffer(index, block);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	ivfflat_check_page(index, buffer, kind);
	return buffer;
}

static void
read_meta(Relation index, IvfflatMetaPage *meta)
{
	Buffer		buffer = ReadBuffer(index, IVFFLAT_META_BLOCK);
	Page		page = BufferGetPage(buffer);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(meta, PageGetContents(page), sizeof(IvfflatMetaPage));
	if (!PageIsNew(page) && meta->magic == PGVECTOR_IVFFLAT_MAGIC)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" was built by pgvector", RelationGetRelationName(index)),
				 errhint("Rebuild it with REINDEX INDEX.")));
	ivfflat_check_page(index, buffer, IVFFLAT_PAGE_META);
	UnlockReleaseBuffer(buffer);

	if (meta->magic != IVFFLAT_MAGIC)
		ivfflat_corrupted(index, IVFFLAT_META_BLOCK, "meta page is damaged");
	if (meta->version != IVFFLAT_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" has format %u, of a newer version of this extension",
						RelationGetRelationName(index), meta->version),
				 errhint("Rebuild it with REINDEX INDEX.")));
	if (meta->lists < 1 || meta->lists > IVFFLAT_MAX_LISTS)
		ivfflat_corrupted(index, IVFFLAT_META_BLOCK, "meta page is damaged");
}

/* Describe an open index. */
void
ivfflat_open(IvfflatIndex *ix, Relation index)
{
	IvfflatMetaPage meta;

	read_meta(index, &meta);
	ix->rel = index;
	ix->opclass = ivfflat_opclass(index);
	ix->dims = ivfflat_column_dims(index, &ix->opclass);
	ix->lists = meta.lists;
	if (meta.type != ix->opclass.type || meta.metric != ix->opclass.metric || meta.dims != ix->dims)
		ivfflat_corrupted(index, IVFFLAT_META_BLOCK, "meta page does not agree with the indexed column");
	ivfflat_set_layout(ix);
	if (ix->first_entries > RelationGetNumberOfBlocks(index))
		ivfflat_corrupted(index, IVFFLAT_META_BLOCK, "index is shorter than its centers and directory");
}

/*
 * The number of lists, for the planner.  An index that a scan will refuse, as
 * one of pgvector's, is planned like any other: a query that ends up without
 * the index must not fail for its sake.
 */
int
ivfflat_read_lists(Relation index)
{
	Buffer		buffer = ReadBuffer(index, IVFFLAT_META_BLOCK);
	IvfflatMetaPage meta;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(&meta, PageGetContents(BufferGetPage(buffer)), sizeof(IvfflatMetaPage));
	UnlockReleaseBuffer(buffer);
	if (meta.magic != IVFFLAT_MAGIC || meta.version != IVFFLAT_VERSION)
		return 1;
	return Max(1, Min(meta.lists, IVFFLAT_MAX_LISTS));
}

/* A list's slot; the caller has the directory's page locked and checked. */
IvfflatList *
ivfflat_page_list(const IvfflatIndex *ix, Page page, uint32 list)
{
	return (IvfflatList *) ivfflat_page_slots(page) + list % ix->lists_per_page;
}

/* A copy of a list's slot, whose extents can be relied on to end within the index. */
void
ivfflat_read_list(const IvfflatIndex *ix, uint32 list, IvfflatList *result)
{
	BlockNumber block = ivfflat_directory_block(ix, list);
	Buffer		buffer = ivfflat_read_page(ix->rel, block, IVFFLAT_PAGE_DIRECTORY);
	BlockNumber end;
	uint64		pages = 0;

	memcpy(result, ivfflat_page_list(ix, BufferGetPage(buffer), list), sizeof(IvfflatList));
	UnlockReleaseBuffer(buffer);

	if (result->extent_count > IVFFLAT_MAX_EXTENTS)
		ivfflat_corrupted(ix->rel, block, "list has too many extents");
	if (result->extent_count == 0 && result->pages == 0)
		return;
	end = RelationGetNumberOfBlocks(ix->rel);
	for (uint32 i = 0; i < result->extent_count; i++)
	{
		const IvfflatExtent *extent = &result->extents[i];

		if (extent->start < ix->first_entries || extent->start >= end || extent->pages > end - extent->start)
			ivfflat_corrupted(ix->rel, block, "extent of a list lies outside of the index");
		pages += extent->pages;
	}
	if (pages != result->pages)
		ivfflat_corrupted(ix->rel, block, "number of pages of a list is wrong");
}

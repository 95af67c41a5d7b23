/*
 * ivfflat_build.c
 *		Building an index: sample, cluster, assign, sort, write.
 *
 * Pages are written through the buffer manager without WAL, and the whole
 * index is logged at the end; nobody else sees it before.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xloginsert.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "executor/tuptable.h"
#include "ivfflat/ivfflat.h"
#include "kernel/distance.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"

#define SAMPLES_PER_LIST	50
#define SAMPLES_LEAST		10000

/* Where the pages go: the index itself, or the initial copy of an unlogged one. */
typedef struct Writer
{
	const IvfflatIndex *ix;
	ForkNumber	fork;
	Buffer		buffer;			/* the page being filled, pinned and locked */
	BlockNumber block;
	IvfflatList *lists;
} Writer;

/* Start the next page of the file. */
static Page
start_page(Writer *writer, IvfflatPageKind kind)
{
	Page		page;

	writer->buffer = ReadBufferExtended(writer->ix->rel, writer->fork, P_NEW, RBM_NORMAL, NULL);
	LockBuffer(writer->buffer, BUFFER_LOCK_EXCLUSIVE);
	writer->block = BufferGetBlockNumber(writer->buffer);
	page = BufferGetPage(writer->buffer);
	ivfflat_init_page(page, kind);
	return page;
}

/* The initial copy is logged at once: it has to be there after a crash. */
static void
finish_page(Writer *writer)
{
	START_CRIT_SECTION();
	MarkBufferDirty(writer->buffer);
	if (writer->fork == INIT_FORKNUM)
		log_newpage_buffer(writer->buffer, true);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(writer->buffer);
	writer->buffer = InvalidBuffer;
	CHECK_FOR_INTERRUPTS();
}

static void
write_meta(Writer *writer)
{
	const IvfflatIndex *ix = writer->ix;
	Page		page = start_page(writer, IVFFLAT_PAGE_META);
	IvfflatMetaPage *meta = (IvfflatMetaPage *) PageGetContents(page);

	Assert(writer->block == IVFFLAT_META_BLOCK);
	meta->magic = IVFFLAT_MAGIC;
	meta->version = IVFFLAT_VERSION;
	meta->type = ix->opclass.type;
	meta->metric = ix->opclass.metric;
	meta->dims = ix->dims;
	meta->lists = ix->lists;
	ivfflat_use_page(page, IVFFLAT_PAGE_START + sizeof(IvfflatMetaPage));
	finish_page(writer);
}

static void
write_centers(Writer *writer, const IvfflatPoints *centers)
{
	const IvfflatIndex *ix = writer->ix;

	for (int list = 0; list < centers->count;)
	{
		Page		page = start_page(writer, IVFFLAT_PAGE_CENTERS);
		char	   *slot = ivfflat_page_slots(page);
		int			end = Min(list + ix->centers_per_page, centers->count);

		for (; list < end; list++, slot += ix->center_size)
		{
			const char *center = centers->values + centers->stride * list;

			if (ix->opclass.type == IVFFLAT_HALFVEC)
				kernel_distance.narrow((const float *) center, (kernel_half *) slot, ix->dims);
			else
				memcpy(slot, center, ix->value_size);
		}
		ivfflat_use_page(page, slot - (char *) page);
		finish_page(writer);
	}
}

/* Pages for the directory, of lists without pages. */
static void
write_directory(Writer *writer)
{
	const IvfflatIndex *ix = writer->ix;

	Assert(RelationGetNumberOfBlocksInFork(ix->rel, writer->fork) == ix->first_directory);
	for (int list = 0; list < ix->lists; list += ix->lists_per_page)
	{
		Page		page = start_page(writer, IVFFLAT_PAGE_DIRECTORY);
		int			count = Min(ix->lists_per_page, ix->lists - list);

		memset(ivfflat_page_slots(page), 0, sizeof(IvfflatList) * count);
		ivfflat_use_page(page, IVFFLAT_PAGE_START + sizeof(IvfflatList) * count);
		finish_page(writer);
	}
}

/* Enter the lists' pages into the directory. */
static void
fill_directory(Writer *writer)
{
	const IvfflatIndex *ix = writer->ix;

	for (int list = 0; list < ix->lists; list += ix->lists_per_page)
	{
		Page		page;

		writer->buffer = ReadBuffer(ix->rel, ivfflat_directory_block(ix, list));
		LockBuffer(writer->buffer, BUFFER_LOCK_EXCLUSIVE);
		page = BufferGetPage(writer->buffer);
		memcpy(ivfflat_page_slots(page), writer->lists + list,
			   sizeof(IvfflatList) * Min(ix->lists_per_page, ix->lists - list));
		finish_page(writer);
	}
}

static void
append_entry(Writer *writer, int list, const char *entry)
{
	const IvfflatIndex *ix = writer->ix;
	IvfflatList *slot = &writer->lists[list];
	Page		page;
	Size		end;

	if (writer->buffer != InvalidBuffer)
	{
		page = BufferGetPage(writer->buffer);
		if (ivfflat_page_special(page)->list != list ||
			ivfflat_page_entries(ix, page) == ix->entries_per_page)
			finish_page(writer);
	}
	if (writer->buffer == InvalidBuffer)
	{
		page = start_page(writer, IVFFLAT_PAGE_ENTRIES);
		ivfflat_page_special(page)->list = list;
		ivfflat_page_special(page)->number = slot->pages;
		if (slot->pages == 0)
		{
			slot->extent_count = 1;
			slot->extents[0].start = writer->block;
		}
		slot->insert_page = slot->pages;
		slot->pages++;
		slot->extents[0].pages++;
	}
	page = BufferGetPage(writer->buffer);
	end = ((PageHeader) page)->pd_lower;
	memcpy((char *) page + end, entry, ix->entry_size);
	ivfflat_use_page(page, end + ix->entry_size);
}

/* Write the sorted rows, each list in one piece. */
static void
write_entries(Writer *writer, const IvfflatAssigned *assigned)
{
	TupleTableSlot *slot = ivfflat_sort_slot();
	int64		done = 0;

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, IVFFLAT_PHASE_LOAD);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) assigned->rows);
	while (tuplesort_gettupleslot(assigned->sort, true, false, slot, NULL))
	{
		bool		isnull;
		int32		list = DatumGetInt32(slot_getattr(slot, 1, &isnull));
		Datum		entry = slot_getattr(slot, 3, &isnull);

		append_entry(writer, list, VARDATA_ANY(DatumGetPointer(entry)));
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, ++done);
	}
	if (writer->buffer != InvalidBuffer)
		finish_page(writer);
	ExecDropSingleTupleTableSlot(slot);
}

static void
check_memory(const IvfflatIndex *ix, int samples, int lists)
{
	Size		needed = ivfflat_kmeans_memory(ix, samples, lists);

	if (needed > (Size) maintenance_work_mem * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("memory required is %zu MB, maintenance_work_mem is %d MB",
						needed / (1024 * 1024) + 1, maintenance_work_mem / 1024)));
}

/*
 * The centers of at most "lists" lists, at least one, in the current memory
 * context.  Without rows the only center is zero.
 */
static void
compute_centers(const IvfflatIndex *ix, Relation heap, IndexInfo *info, int lists, IvfflatPoints *centers)
{
	uint64		most = (uint64) RelationGetNumberOfBlocks(heap) * MaxHeapTuplesPerPage;
	int			wanted = (int) Min(most, Max(SAMPLES_LEAST, SAMPLES_PER_LIST * lists));
	IvfflatPoints samples;

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, IVFFLAT_PHASE_KMEANS);
	check_memory(ix, wanted, lists);
	ivfflat_points_init(&samples, ix);
	ivfflat_points_init(centers, ix);
	centers->values = palloc_extended(centers->stride * lists, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	centers->count = 1;
	if (wanted > 0)
	{
		samples.values = palloc_extended(samples.stride * wanted, MCXT_ALLOC_HUGE);
		ivfflat_sample(ix, heap, info, wanted, &samples);
		if (samples.count > 0)
			ivfflat_kmeans(&samples, lists, centers);
		pfree(samples.values);
	}
	if (samples.count < lists)
		ereport(NOTICE,
				(errmsg("ivfflat index created with little data"),
				 errdetail("This will cause low recall."),
				 errhint("Drop the index until the table has more data.")));

	/* Rows must be compared with the centers as they will be stored. */
	if (ix->opclass.type == IVFFLAT_HALFVEC)
	{
		kernel_half *stored = palloc(sizeof(kernel_half) * ix->dims);

		for (int i = 0; i < centers->count; i++)
		{
			float	   *center = (float *) (centers->values + centers->stride * i);

			kernel_distance.narrow(center, stored, ix->dims);
			kernel_distance.widen(stored, center, ix->dims);
		}
		pfree(stored);
	}
}

/* Rows into their lists, by workers where possible; "parallel" is to be ended after the sort was read. */
static void
assign_rows(const IvfflatIndex *ix, Relation heap, IndexInfo *info, const IvfflatPoints *centers,
			IvfflatAssigned *result, IvfflatParallel **parallel)
{
	IvfflatAssigner *assigner;

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, IVFFLAT_PHASE_ASSIGN);
	*parallel = ivfflat_parallel_assign(ix, heap, info, centers, result);
	if (*parallel != NULL)
		return;
	assigner = ivfflat_assigner_create(ix, centers, maintenance_work_mem, NULL);
	ivfflat_assigner_scan(assigner, heap, info, NULL, true);
	result->heap_rows = ivfflat_assigner_heap_rows(assigner);
	result->rows = ivfflat_assigner_rows(assigner);
	result->sort = ivfflat_assigner_sort(assigner);
}

IndexBuildResult *
ivfflat_build(Relation heap, Relation index, IndexInfo *info)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfflat build",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvfflatIndex ix = {.rel = index};
	Writer		writer = {.ix = &ix, .fork = MAIN_FORKNUM, .buffer = InvalidBuffer};
	IvfflatPoints centers;
	IvfflatAssigned assigned = {0};
	IvfflatParallel *parallel;
	IndexBuildResult *result;

	if (RelationGetNumberOfBlocks(index) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));
	ix.opclass = ivfflat_opclass(index);
	ix.dims = ivfflat_column_dims(index, &ix.opclass);
	ix.lists = ivfflat_option_lists(index);
	ivfflat_set_layout(&ix);

	compute_centers(&ix, heap, info, ix.lists, &centers);
	ix.lists = centers.count;
	ivfflat_set_layout(&ix);
	write_meta(&writer);
	write_centers(&writer, &centers);
	write_directory(&writer);

	assign_rows(&ix, heap, info, &centers, &assigned, &parallel);
	writer.lists = palloc_extended(sizeof(IvfflatList) * (Size) ix.lists, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	write_entries(&writer, &assigned);
	fill_directory(&writer);
	tuplesort_end(assigned.sort);
	if (parallel != NULL)
		ivfflat_parallel_end(parallel);
	if (RelationNeedsWAL(index))
		log_newpage_range(index, MAIN_FORKNUM, 0, RelationGetNumberOfBlocks(index), true);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	result = palloc(sizeof(IndexBuildResult));
	result->heap_tuples = assigned.heap_rows;
	result->index_tuples = assigned.rows;
	return result;
}

/* What an unlogged index is reset to after a crash: one list, empty. */
void
ivfflat_buildempty(Relation index)
{
	IvfflatIndex ix = {.rel = index, .lists = 1};
	Writer		writer = {.ix = &ix, .fork = INIT_FORKNUM, .buffer = InvalidBuffer};
	IvfflatPoints centers;

	ix.opclass = ivfflat_opclass(index);
	ix.dims = ivfflat_column_dims(index, &ix.opclass);
	ivfflat_set_layout(&ix);
	ivfflat_points_init(&centers, &ix);
	centers.values = palloc0(centers.stride);
	centers.count = 1;
	write_meta(&writer);
	write_centers(&writer, &centers);
	write_directory(&writer);
	pfree(centers.values);
}

/*
 * ivfflat_assign.c
 *		Rows of the table on their way into a sort by list.
 *
 * Rows are gathered in small batches, since the nearest centers of many are
 * found faster together than one by one.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "ivfflat/ivfflat.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"

#define BATCH_ROWS		64

struct IvfflatAssigner
{
	const IvfflatIndex *ix;
	const IvfflatPoints *centers;
	Tuplesortstate *sort;
	TupleTableSlot *slot;
	MemoryContext row_context;
	double		heap_rows;
	double		rows;

	int			count;			/* of rows in the batch */
	char	   *entries;		/* each as a bytea; stride below */
	Size		entry_stride;
	char	   *points;
};

/* What is sorted: list, row's address, entry. */
static TupleDesc
sort_descriptor(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(3);

	TupleDescInitEntry(desc, 1, "list", INT4OID, -1, 0);
	TupleDescInitEntry(desc, 2, "row", INT8OID, -1, 0);
	TupleDescInitEntry(desc, 3, "entry", BYTEAOID, -1, 0);
	return desc;
}

TupleTableSlot *
ivfflat_sort_slot(void)
{
	return MakeSingleTupleTableSlot(sort_descriptor(), &TTSOpsMinimalTuple);
}

/* The order within a list makes the index independent of who built it, and its rows lie as in the table. */
Tuplesortstate *
ivfflat_begin_sort(int memory, SortCoordinate coordinate)
{
	AttrNumber	columns[] = {1, 2};
	Oid			operators[] = {Int4LessOperator, Int8LessOperator};
	Oid			collations[] = {InvalidOid, InvalidOid};
	bool		nulls_first[] = {false, false};

	return tuplesort_begin_heap(sort_descriptor(), lengthof(columns), columns, operators, collations,
								nulls_first, memory, coordinate, TUPLESORT_NONE);
}

IvfflatAssigner *
ivfflat_assigner_create(const IvfflatIndex *ix, const IvfflatPoints *centers, int sort_memory,
						SortCoordinate coordinate)
{
	IvfflatAssigner *assigner = palloc0(sizeof(IvfflatAssigner));

	assigner->ix = ix;
	assigner->centers = centers;
	assigner->sort = ivfflat_begin_sort(sort_memory, coordinate);
	assigner->slot = MakeSingleTupleTableSlot(sort_descriptor(), &TTSOpsVirtual);
	assigner->row_context = AllocSetContextCreate(CurrentMemoryContext, "ivfflat row",
												  ALLOCSET_DEFAULT_SIZES);
	assigner->entry_stride = MAXALIGN(VARHDRSZ + ix->entry_size);
	assigner->entries = palloc0(assigner->entry_stride * BATCH_ROWS);
	assigner->points = palloc(centers->stride * BATCH_ROWS);
	return assigner;
}

static void
flush_batch(IvfflatAssigner *assigner)
{
	int			nearest[BATCH_ROWS];
	float		distances[BATCH_ROWS];
	TupleTableSlot *slot = assigner->slot;

	ivfflat_nearest(assigner->centers, assigner->points, assigner->count, nearest, distances);
	for (int i = 0; i < assigner->count; i++)
	{
		char	   *bytes = assigner->entries + assigner->entry_stride * i;
		IvfflatEntry *entry = (IvfflatEntry *) VARDATA(bytes);

		ExecClearTuple(slot);
		slot->tts_values[0] = Int32GetDatum(nearest[i]);
		slot->tts_values[1] = Int64GetDatum((int64) ItemPointerGetBlockNumber(&entry->tid) << 16 |
											ItemPointerGetOffsetNumber(&entry->tid));
		slot->tts_values[2] = PointerGetDatum(bytes);
		memset(slot->tts_isnull, false, sizeof(bool) * 3);
		ExecStoreVirtualTuple(slot);
		tuplesort_puttupleslot(assigner->sort, slot);
		ExecClearTuple(slot);
	}
	assigner->rows += assigner->count;
	assigner->count = 0;
}

static void
assign_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *state)
{
	IvfflatAssigner *assigner = state;
	const IvfflatIndex *ix = assigner->ix;
	IvfflatValue value;
	MemoryContext old;

	if (isnull[0])
		return;
	old = MemoryContextSwitchTo(assigner->row_context);
	if (ivfflat_form_value(ix, values[0], &value))
	{
		char	   *bytes = assigner->entries + assigner->entry_stride * assigner->count;
		IvfflatEntry *entry = (IvfflatEntry *) VARDATA(bytes);

		SET_VARSIZE(bytes, VARHDRSZ + ix->entry_size);
		entry->tid = *tid;
		if (ix->opclass.metric == IVFFLAT_COSINE)
			entry->norm = value.norm;
		memcpy((char *) entry + ix->entry_header, value.data, ix->value_size);
		ivfflat_set_point(ix, value.data, assigner->points + assigner->centers->stride * assigner->count);
		assigner->count++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(assigner->row_context);
	if (assigner->count == BATCH_ROWS)
		flush_batch(assigner);
}

/* Take the rows of the table: of the parallel scan, or all when "scan" is NULL. */
void
ivfflat_assigner_scan(IvfflatAssigner *assigner, Relation heap, IndexInfo *info, TableScanDesc scan,
					  bool progress)
{
	assigner->heap_rows = table_index_build_scan(heap, assigner->ix->rel, info, true, progress,
												 assign_row, assigner, scan);
	flush_batch(assigner);
	tuplesort_performsort(assigner->sort);
}

double
ivfflat_assigner_heap_rows(const IvfflatAssigner *assigner)
{
	return assigner->heap_rows;
}

double
ivfflat_assigner_rows(const IvfflatAssigner *assigner)
{
	return assigner->rows;
}

Tuplesortstate *
ivfflat_assigner_sort(IvfflatAssigner *assigner)
{
	return assigner->sort;
}

/*
 * search_all.c
 *		Few rows, or rows without an index: all against all.
 *
 * The vectors wait in a tuplestore, in the order of their rows' keys.  A block of
 * them is taken into memory and compared with itself and, in one pass, with
 * all that come after it; then the next one.  A row's vectors are always in one
 * block.  The distance is the operator's own function, so a score is the one
 * that SQL shows.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "search/embed.h"
#include "search/search_all.h"

/* One vector of a block. */
typedef struct Entry
{
	int			row;			/* number of its row, from 0 */
	Jsonb	   *key;
	Datum		vector;
} Entry;

/* What clusters know of a row. */
typedef struct Member
{
	int			cluster;		/* the first that it is near to, from 1; 0: none yet */
	double		score;
} Member;

struct SearchAll
{
	const SearchMetric *metric;
	FmgrInfo	distance;
	double		threshold;
	Size		memory;			/* a quarter for the tuplestore, half for the block, a quarter for members */
	Tuplestorestate *store;
	TupleTableSlot *slot;
	TupleDesc	desc;
	int			count;			/* vectors */
	int			nrows;
	Jsonb	   *last_key;
	MemoryContext block_context;
	Entry	   *block;
	int			nblock;
	int			block_room;
};

int
search_all_max_rows(Size memory)
{
	return (int) Min(memory / 4 / sizeof(Member), PG_INT32_MAX / 2);
}

/* The function behind the metric's operator, in the schema of the vector type. */
static Oid
distance_function(const SearchMetric *metric)
{
	Oid			type = embed_vector_type()->type;
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			schema;
	Oid			function;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	schema = ((Form_pg_type) GETSTRUCT(tuple))->typnamespace;
	ReleaseSysCache(tuple);
	tuple = SearchSysCache4(OPERNAMENSP, CStringGetDatum(metric->operator), ObjectIdGetDatum(type),
							ObjectIdGetDatum(type), ObjectIdGetDatum(schema));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "there is no operator %s of vectors", metric->operator);
	function = ((Form_pg_operator) GETSTRUCT(tuple))->oprcode;
	ReleaseSysCache(tuple);
	return function;
}

SearchAll *
search_all_begin(SearchSource *source, double threshold, Size memory)
{
	SearchAll  *all = palloc0(sizeof(SearchAll));

	all->metric = source->metric;
	fmgr_info(distance_function(source->metric), &all->distance);
	all->threshold = threshold;
	all->memory = memory;
	all->store = tuplestore_begin_heap(true, false, (int) Max(memory / 4 / 1024, 16));
	all->desc = CreateTemplateTupleDesc(3);
	TupleDescInitEntry(all->desc, 1, "key", JSONBOID, -1, 0);
	TupleDescInitEntry(all->desc, 2, "vector", embed_vector_type()->type, -1, 0);
	TupleDescInitEntry(all->desc, 3, "row", INT4OID, -1, 0);
	all->slot = MakeSingleTupleTableSlot(all->desc, &TTSOpsMinimalTuple);
	all->block_context =
		AllocSetContextCreate(CurrentMemoryContext, "vecsync block", ALLOCSET_DEFAULT_SIZES);
	all->block_room = 64;
	all->block = palloc(sizeof(Entry) * all->block_room);
	return all;
}

void
search_all_end(SearchAll *all)
{
	ExecDropSingleTupleTableSlot(all->slot);
	tuplestore_end(all->store);
	MemoryContextDelete(all->block_context);
	pfree(all->block);
	if (all->last_key != NULL)
		pfree(all->last_key);
	pfree(all);
}

static bool
same_key(Jsonb *a, Jsonb *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

void
search_all_add(SearchAll *all, Jsonb *key, Datum vector)
{
	Datum		values[3] = {JsonbPGetDatum(key), vector};
	bool		nulls[3] = {false, false, false};

	if (all->last_key == NULL || !same_key(all->last_key, key))
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(all));

		if (all->last_key != NULL)
			pfree(all->last_key);
		all->last_key = palloc(VARSIZE(key));
		memcpy(all->last_key, key, VARSIZE(key));
		MemoryContextSwitchTo(old);
		all->nrows++;
	}
	values[2] = Int32GetDatum(all->nrows - 1);
	tuplestore_putvalues(all->store, all->desc, values, nulls);
	all->count++;
}

int
search_all_count(SearchAll *all)
{
	return all->count;
}

/* ---- blocks ------------------------------------------------------------------------------ */

/* The next entry, in the current context; false: there is none. */
static bool
next_entry(SearchAll *all, Entry *entry)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (!tuplestore_gettupleslot(all->store, true, false, all->slot))
		return false;
	entry->key = (Jsonb *) PG_DETOAST_DATUM_COPY(slot_getattr(all->slot, 1, &isnull));
	entry->vector = PointerGetDatum(PG_DETOAST_DATUM_COPY(slot_getattr(all->slot, 2, &isnull)));
	entry->row = DatumGetInt32(slot_getattr(all->slot, 3, &isnull));
	/* a tuple from the file lies in the current context, which is soon reset */
	ExecClearTuple(all->slot);
	return true;
}

static void
go_to(SearchAll *all, int64 position)
{
	tuplestore_rescan(all->store);
	if (position > 0 && !tuplestore_skiptuples(all->store, position, true))
		elog(ERROR, "unexpected end of the vectors to compare");
}

/* What fits of the entries from here on, to the end of a row.  False: these were the last. */
static bool
fill_block(SearchAll *all)
{
	MemoryContext old;
	Entry		entry;
	bool		full = false;

	MemoryContextReset(all->block_context);
	old = MemoryContextSwitchTo(all->block_context);
	all->nblock = 0;
	while (next_entry(all, &entry))
	{
		if (full && entry.row != all->block[all->nblock - 1].row)
		{
			MemoryContextSwitchTo(old);
			return true;
		}
		if (all->nblock == all->block_room)
		{
			all->block_room *= 2;
			all->block = repalloc_huge(all->block, sizeof(Entry) * all->block_room);
		}
		all->block[all->nblock++] = entry;
		full = MemoryContextMemAllocated(all->block_context, false) +
			sizeof(Entry) * all->block_room > all->memory / 2;
	}
	MemoryContextSwitchTo(old);
	return false;
}

/*
 * For each block: 'inside' once, then 'behind' for each entry after it.  Both see
 * the block; the entry is gone after the call.
 */
static void
run_blocks(SearchAll *all, void (*inside) (SearchAll *, void *),
		   void (*behind) (SearchAll *, Entry *, void *), void *arg)
{
	int64		done = 0;
	bool		more = true;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "vecsync entry", ALLOCSET_DEFAULT_SIZES);

	while (more)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Entry		entry;

		go_to(all, done);
		more = fill_block(all);
		done += all->nblock;
		inside(all, arg);
		if (more)
			go_to(all, done);
		while (more && next_entry(all, &entry))
		{
			behind(all, &entry, arg);
			MemoryContextReset(context);
		}
		MemoryContextSwitchTo(old);
	}
	MemoryContextDelete(context);
}

/* NaN, which is no score, is not near. */
static inline bool
is_near(SearchAll *all, Entry *a, Entry *b, double *score)
{
	Datum		distance = FunctionCall2Coll(&all->distance, InvalidOid, a->vector, b->vector);

	*score = search_score(all->metric, DatumGetFloat8(distance));
	return *score >= all->threshold;
}

/* ---- pairs ---------------------------------------------------------------------------------- */

typedef struct Pairs
{
	SearchAllPair put;
	void	   *arg;
} Pairs;

/* The entry against the first n of the block. */
static void
compare(SearchAll *all, int n, Entry *entry, Pairs *pairs)
{
	double		score;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < n; i++)
		if (all->block[i].row != entry->row && is_near(all, &all->block[i], entry, &score))
			pairs->put(pairs->arg, all->block[i].key, entry->key, score);
}

static void
pairs_inside(SearchAll *all, void *arg)
{
	for (int i = 1; i < all->nblock; i++)
		compare(all, i, &all->block[i], arg);
}

static void
pairs_behind(SearchAll *all, Entry *entry, void *arg)
{
	compare(all, all->nblock, entry, arg);
}

/* Of rows with many vectors a pair may come several times. */
void
search_all_pairs(SearchAll *all, SearchAllPair put, void *arg)
{
	Pairs		pairs = {put, arg};

	run_blocks(all, pairs_inside, pairs_behind, &pairs);
}

/* ---- clusters ------------------------------------------------------------------------------- */

/*
 * A row belongs to the first leader that it is near to, and leads when there
 * is none.  When a block comes, all leaders before it are done with; its own
 * leaders are moved to its front, in order.
 */
typedef struct Clusters
{
	Member	   *members;
	int			count;
} Clusters;

/* An entry against the leaders at the front of the block. */
static void
join(SearchAll *all, int nleaders, Entry *entry, Member *members)
{
	Member	   *own = &members[entry->row];
	double		score;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < nleaders; i++)
	{
		int			cluster = members[all->block[i].row].cluster;

		if (own->cluster != 0 && cluster > own->cluster)
			return;
		if (!is_near(all, &all->block[i], entry, &score))
			continue;
		if (cluster != own->cluster)
			own->score = score;
		own->cluster = cluster;
		own->score = Max(own->score, score);
	}
}

static void
clusters_inside(SearchAll *all, void *arg)
{
	Clusters   *clusters = arg;
	int			nleaders = 0;

	for (int i = 0, next; i < all->nblock; i = next)
	{
		int			row = all->block[i].row;
		Member	   *own = &clusters->members[row];

		/* one that an earlier block's leader has is not theirs to lose */
		for (next = i; next < all->nblock && all->block[next].row == row; next++)
			join(all, nleaders, &all->block[next], clusters->members);
		if (own->cluster != 0)
			continue;
		own->cluster = ++clusters->count;
		own->score = 1;
		for (int j = i; j < next; j++)
			all->block[nleaders++] = all->block[j];
	}
	all->nblock = nleaders;
}

static void
clusters_behind(SearchAll *all, Entry *entry, void *arg)
{
	join(all, all->nblock, entry, ((Clusters *) arg)->members);
}

/* Each row once, in the order of the keys. */
void
search_all_clusters(SearchAll *all, SearchAllMember put, void *arg)
{
	Clusters	clusters = {.members = palloc_extended(sizeof(Member) * Max(all->nrows, 1),
													   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO)};
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "vecsync entry", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	int			last = -1;
	Entry		entry;

	run_blocks(all, clusters_inside, clusters_behind, &clusters);
	go_to(all, 0);
	old = MemoryContextSwitchTo(context);
	while (next_entry(all, &entry))
	{
		if (entry.row != last)
			put(arg, clusters.members[entry.row].cluster, entry.key, clusters.members[entry.row].score);
		last = entry.row;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	pfree(clusters.members);
}

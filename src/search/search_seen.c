/*
 * search_seen.c
 *		A map from hashes of keys to numbers, in bounded memory.
 *
 * One table with open addressing, at most half full: an array while it fits
 * into the memory given, a temporary file of the same form from then on.  A
 * place follows from a hash's first bits, so a table twice the size has its
 * entries in the same order, and is filled from front to back.  A look-up in the
 * file costs a read of a block, little beside the search that it stands for.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"

#include "search/search_seen.h"

#define FIRST_BITS 10			/* 1,024 places */
#define LAST_BITS 36			/* a terabyte of file */

typedef struct SeenPlace
{
	uint64		hash;
	uint64		number;			/* 0: free */
} SeenPlace;

struct SearchSeen
{
	MemoryContext context;
	Size		memory;
	int			bits;			/* 2^bits places */
	uint64		count;
	SeenPlace  *places;			/* or NULL: in the file */
	BufFile    *file;
};

static uint64
first_place(const SearchSeen *seen, uint64 hash)
{
	return hash >> (64 - seen->bits);
}

static uint64
next_place(const SearchSeen *seen, uint64 place)
{
	return (place + 1) & (((uint64) 1 << seen->bits) - 1);
}

static void
seek(BufFile *file, uint64 place)
{
	const uint64 per_block = BLCKSZ / sizeof(SeenPlace);

	/* by blocks, since a file may be longer than an offset in one of its segments */
	if (BufFileSeekBlock(file, (long) (place / per_block)) != 0 ||
		(place % per_block != 0 &&
		 BufFileSeek(file, 0, (place % per_block) * sizeof(SeenPlace), SEEK_CUR) != 0))
		ereport(ERROR, errcode_for_file_access(), errmsg("could not seek in a temporary file"));
}

static SeenPlace
get_place(SearchSeen *seen, uint64 place)
{
	SeenPlace	result;

	if (seen->places != NULL)
		return seen->places[place];
	seek(seen->file, place);
	if (BufFileRead(seen->file, &result, sizeof(result)) != sizeof(result))
		ereport(ERROR, errcode_for_file_access(), errmsg("could not read from a temporary file"));
	return result;
}

static void
put_place(SearchSeen *seen, uint64 place, SeenPlace value)
{
	if (seen->places != NULL)
	{
		seen->places[place] = value;
		return;
	}
	seek(seen->file, place);
	BufFileWrite(seen->file, &value, sizeof(value));
}

/* 2^bits free places, in memory or in a file. */
static void
make_table(SearchSeen *seen, int bits)
{
	Size		size = sizeof(SeenPlace) << bits;
	MemoryContext old = MemoryContextSwitchTo(seen->context);

	seen->bits = bits;
	seen->count = 0;
	if (size <= seen->memory || bits == FIRST_BITS)
	{
		seen->file = NULL;
		seen->places = palloc_extended(size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	}
	else
	{
		char	   *zeroes = palloc0(BLCKSZ);

		seen->places = NULL;
		seen->file = BufFileCreateTemp(false);
		for (Size written = 0; written < size; written += BLCKSZ)
		{
			CHECK_FOR_INTERRUPTS();
			BufFileWrite(seen->file, zeroes, BLCKSZ);
		}
		pfree(zeroes);
	}
	MemoryContextSwitchTo(old);
}

static void
insert(SearchSeen *seen, SeenPlace value)
{
	uint64		place = first_place(seen, value.hash);

	while (get_place(seen, place).number != 0)
		place = next_place(seen, place);
	put_place(seen, place, value);
	seen->count++;
}

static void
free_table(SearchSeen *seen)
{
	if (seen->file != NULL)
		BufFileClose(seen->file);
	if (seen->places != NULL)
		pfree(seen->places);
}

static void
grow(SearchSeen *seen)
{
	SearchSeen	old = *seen;

	if (old.bits == LAST_BITS)
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many rows for clusters"));
	make_table(seen, old.bits + 1);
	for (uint64 place = 0; place < (uint64) 1 << old.bits; place++)
	{
		SeenPlace	value = get_place(&old, place);

		if (place % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
		if (value.number != 0)
			insert(seen, value);
	}
	free_table(&old);
}

SearchSeen *
search_seen_create(Size memory)
{
	SearchSeen *seen = palloc0(sizeof(SearchSeen));

	seen->context = CurrentMemoryContext;
	seen->memory = memory;
	make_table(seen, FIRST_BITS);
	return seen;
}

void
search_seen_free(SearchSeen *seen)
{
	free_table(seen);
	pfree(seen);
}

int
search_seen_find(SearchSeen *seen, uint64 hash)
{
	uint64		place = first_place(seen, hash);

	for (;;)
	{
		SeenPlace	value = get_place(seen, place);

		if (value.number == 0 || value.hash == hash)
			return (int) value.number;
		place = next_place(seen, place);
	}
}

void
search_seen_add(SearchSeen *seen, uint64 hash, int number)
{
	SeenPlace	value = {.hash = hash, .number = number};

	if (seen->count >= (uint64) 1 << (seen->bits - 1))
		grow(seen);
	insert(seen, value);
}

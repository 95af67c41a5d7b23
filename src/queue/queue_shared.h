/*
 * queue_shared.h
 *		What the sessions of a database and its worker share about the queue.
 */
#ifndef QUEUE_QUEUE_SHARED_H
#define QUEUE_QUEUE_SHARED_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/block.h"
#include "storage/lwlock.h"

/* Which blocks of vecsync.queue have new entries: bit (block number modulo QUEUE_BLOCK_BITS). */
#ifndef DEBUG_POINTS
#define QUEUE_BLOCK_BITS	16384
#else
#define QUEUE_BLOCK_BITS	64	/* so that tests have tables of many times as many blocks */
#endif
#define QUEUE_BLOCK_WORDS	(QUEUE_BLOCK_BITS / 64)
#define QUEUE_BLOCK_SUMS	((QUEUE_BLOCK_WORDS + 63) / 64) /* words that tell which words are not 0 */

typedef struct QueueDatabase
{
	Oid			database;		/* InvalidOid: the slot is free */
	LWLock	   *lock;			/* of the numbers */
	Oid			sequence;
	int64		next_number;	/* none is left when it is beyond the last */
	int64		last_number;
	pg_atomic_uint64 sums[QUEUE_BLOCK_SUMS];
	pg_atomic_uint64 words[QUEUE_BLOCK_WORDS];
} QueueDatabase;

/* The slot of this database; NULL when the library is not preloaded, or no slot is free. */
extern QueueDatabase *queue_database(void);

/* A block has a new entry.  Before the commit that makes it visible. */
extern void queue_note_block(BlockNumber block);

/* Add what was noted since the last time to the words.  What it stands for is in the table by now. */
extern void queue_take_blocks(uint64 *words);

#endif							/* QUEUE_QUEUE_SHARED_H */

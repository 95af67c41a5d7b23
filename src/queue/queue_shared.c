/*
 * queue_shared.c
 *		What the sessions of a database and its worker share about the queue.
 *
 * A slot belongs to the database that first asked for it, until the launcher
 * says that the database is gone.
 *
 * Blocks with new entries.  A writer sets its block's bit after it has written
 * the entry, the worker clears bits before it reads blocks, both by atomic
 * operations that are full barriers: so a bit that the worker finds clear is
 * of an entry that it has seen, committed or not (queue_read.c).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "storage/ipc.h"

#include "queue/queue.h"
#include "queue/queue_shared.h"

#define NAME	"vecsync queue"
#define SLOTS	128

static QueueDatabase *slots = NULL;
static LWLock *slots_lock;		/* of the slots' databases; taken before a slot's lock */

void
queue_shared_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(QueueDatabase) * SLOTS));
	RequestNamedLWLockTranche(NAME, SLOTS + 1);
}

/* Under AddinShmemInitLock. */
void
queue_shared_startup(void)
{
	LWLockPadded *locks = GetNamedLWLockTranche(NAME);
	bool		found;

	slots = ShmemInitStruct(NAME, sizeof(QueueDatabase) * SLOTS, &found);
	slots_lock = &locks[SLOTS].lock;
	if (found)
		return;
	for (int i = 0; i < SLOTS; i++)
	{
		slots[i].database = slots[i].sequence = InvalidOid;
		slots[i].lock = &locks[i].lock;
		for (int j = 0; j < QUEUE_BLOCK_SUMS; j++)
			pg_atomic_init_u64(&slots[i].sums[j], 0);
		for (int j = 0; j < QUEUE_BLOCK_WORDS; j++)
			pg_atomic_init_u64(&slots[i].words[j], 0);
	}
}

/* Its bits stay: they make the next database's worker read a block in vain. */
static void
give_slot(QueueDatabase *slot, Oid database)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->database = database;
	slot->sequence = InvalidOid;
	LWLockRelease(slot->lock);
}

static QueueDatabase *
find_slot(void)
{
	QueueDatabase *free_slot = NULL;

	for (int i = 0; i < SLOTS; i++)
	{
		if (slots[i].database == MyDatabaseId)
			return &slots[i];
		if (free_slot == NULL && !OidIsValid(slots[i].database))
			free_slot = &slots[i];
	}
	if (free_slot != NULL)
		give_slot(free_slot, MyDatabaseId);
	return free_slot;
}

QueueDatabase *
queue_database(void)
{
	static QueueDatabase *mine = NULL;

	if (slots == NULL || (mine != NULL && mine->database == MyDatabaseId))
		return mine;
	LWLockAcquire(slots_lock, LW_EXCLUSIVE);
	mine = find_slot();
	LWLockRelease(slots_lock);
	return mine;
}

void
queue_database_gone(Oid database)
{
	LWLockAcquire(slots_lock, LW_EXCLUSIVE);
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].database == database)
			give_slot(&slots[i], InvalidOid);
	LWLockRelease(slots_lock);
}

void
queue_note_block(BlockNumber block)
{
	QueueDatabase *db = queue_database();
	int			bit = block % QUEUE_BLOCK_BITS;
	int			word = bit / 64;

	if (db == NULL)
		return;
	/* in this order, or the worker could find the word before it is told of it, and then not look again */
	(void) pg_atomic_fetch_or_u64(&db->words[word], UINT64CONST(1) << (bit % 64));
	(void) pg_atomic_fetch_or_u64(&db->sums[word / 64], UINT64CONST(1) << (word % 64));
}

void
queue_take_blocks(uint64 *words)
{
	QueueDatabase *db = queue_database();

	if (db == NULL)
		return;
	for (int i = 0; i < QUEUE_BLOCK_SUMS; i++)
	{
		uint64		sum = pg_atomic_exchange_u64(&db->sums[i], 0);

		while (sum != 0)
		{
			int			word = i * 64 + pg_rightmost_one_pos64(sum);

			words[word] |= pg_atomic_exchange_u64(&db->words[word], 0);
			sum &= sum - 1;
		}
	}
}

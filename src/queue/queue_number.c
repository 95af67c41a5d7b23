/*
 * queue_number.c
 *		The numbers of entries of vecsync.queue.
 *
 * They come from the sequence vecsync.queue_seq, in blocks that all sessions
 * of a database draw from.  So they are drawn in ascending order, by
 * transactions that have their xids: queue_read.c relies on both.  That is why
 * no session may have numbers of its own in stock (CACHE), and why the
 * sequence is not advanced while a block has numbers left.
 *
 * WAL tells of a block when it is drawn; a crash loses what is left of it.
 *
 * Not by nextval(): that would make ours the sequence of lastval(), by which
 * an application asks for the key that its own INSERT was given.  And it
 * costs as much as inserting the row does.
 *
 * Locks, in this order: the sequence, its page, the slot.  A session that
 * finds a number in the block takes the last of these only.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/rel.h"

#include "queue/queue.h"

#define NAME			"vecsync queue numbers"
#define BLOCK_NUMBERS	32

/*
 * A database has one slot that it may use, which belongs until the server stops
 * to the first one that draws in it.  Others, and all when the library is not
 * preloaded, draw blocks of one number.
 */
#define SLOTS			128

typedef struct NumberSlot
{
	Oid			database;
	Oid			sequence;
	int64		next;			/* nothing is left when it is beyond last */
	int64		last;
} NumberSlot;

static NumberSlot *slots = NULL;
static LWLockPadded *slot_locks = NULL;

void
queue_number_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(NumberSlot) * SLOTS));
	RequestNamedLWLockTranche(NAME, SLOTS);
}

/* Under AddinShmemInitLock. */
void
queue_number_startup(void)
{
	bool		found;

	slots = ShmemInitStruct(NAME, sizeof(NumberSlot) * SLOTS, &found);
	if (!found)
		memset(slots, 0, sizeof(NumberSlot) * SLOTS);
	slot_locks = GetNamedLWLockTranche(NAME);
}

/* The next number of the slot's block, if it has one of this sequence.  The slot is locked. */
static bool
take_number(NumberSlot *slot, Oid sequence, int64 *number)
{
	if (slot->database != MyDatabaseId || slot->sequence != sequence || slot->next > slot->last)
		return false;
	*number = slot->next++;
	return true;
}

/*
 * Advance the sequence by so many numbers; returns the first.  Its page is
 * locked.  The caller has an xid, so that its commit flushes the WAL of this.
 */
static int64
advance_sequence(Relation rel, Buffer buffer, int numbers)
{
	Page		page = BufferGetPage(buffer);
	HeapTupleHeader tuple;
	Form_pg_sequence_data data;
	int64		first;

	if (PageGetMaxOffsetNumber(page) != FirstOffsetNumber)
		ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("sequence \"%s\" has not one row", RelationGetRelationName(rel)));
	tuple = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff);
	first = data->is_called ? data->last_value + 1 : data->last_value;

	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	data->last_value = first + numbers - 1;
	data->is_called = true;
	data->log_cnt = 0;
	if (RelationNeedsWAL(rel))
		log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();
	return first;
}

/* The first number of a new block, unless another session was faster.  The sequence's page is locked. */
static int64
refill_slot(Relation rel, Buffer buffer, NumberSlot *slot)
{
	int64		number;

	if (take_number(slot, RelationGetRelid(rel), &number))
		return number;
	if (OidIsValid(slot->database) && slot->database != MyDatabaseId)
		return advance_sequence(rel, buffer, 1);
	/* what is left of another sequence's block, of an extension that was dropped, is lost */
	number = advance_sequence(rel, buffer, BLOCK_NUMBERS);
	slot->database = MyDatabaseId;
	slot->sequence = RelationGetRelid(rel);
	slot->next = number + 1;
	slot->last = number + BLOCK_NUMBERS - 1;
	return number;
}

static int64
draw_block(Oid sequence, NumberSlot *slot, LWLock *lock)
{
	Relation	rel = relation_open(sequence, RowExclusiveLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	int64		number;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (slot == NULL)
		number = advance_sequence(rel, buffer, 1);
	else
	{
		LWLockAcquire(lock, LW_EXCLUSIVE);
		number = refill_slot(rel, buffer, slot);
		LWLockRelease(lock);
	}
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	return number;
}

int64
queue_number_next(Oid sequence)
{
	NumberSlot *slot;
	LWLock	   *lock;
	int64		number;
	bool		found;

	if (slots == NULL)
		return draw_block(sequence, NULL, NULL);
	slot = &slots[MyDatabaseId % SLOTS];
	lock = &slot_locks[MyDatabaseId % SLOTS].lock;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	found = take_number(slot, sequence, &number);
	LWLockRelease(lock);
	return found ? number : draw_block(sequence, slot, lock);
}

/*
 * queue_number.c
 *		The numbers of entries of vecsync.queue.
 *
 * A number tells an entry from all others of its database, for ever: by it the
 * worker knows what it has read, whatever place the entry has in the table.
 * They come from the sequence vecsync.queue_seq, in blocks that all sessions
 * of a database draw from, so they ascend about as entries are written, which
 * keeps vecsync.wait() from waiting for much that is younger than it.
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
#include "utils/rel.h"

#include "queue/queue.h"
#include "queue/queue_shared.h"

/* Drawn at a time; one by one where the database has no slot. */
#define BLOCK_NUMBERS	32

/* The next number of the slot's block, if it has one of this sequence.  The slot is locked. */
static bool
take_number(QueueDatabase *slot, Oid sequence, int64 *number)
{
	if (slot->database != MyDatabaseId || slot->sequence != sequence || slot->next_number > slot->last_number)
		return false;
	*number = slot->next_number++;
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
refill_slot(Relation rel, Buffer buffer, QueueDatabase *slot)
{
	int64		number;

	if (take_number(slot, RelationGetRelid(rel), &number))
		return number;
	if (slot->database != MyDatabaseId)
		return advance_sequence(rel, buffer, 1);
	/* what is left of another sequence's block, of an extension that was dropped, is lost */
	number = advance_sequence(rel, buffer, BLOCK_NUMBERS);
	slot->sequence = RelationGetRelid(rel);
	slot->next_number = number + 1;
	slot->last_number = number + BLOCK_NUMBERS - 1;
	return number;
}

static int64
draw_block(Oid sequence, QueueDatabase *slot)
{
	Relation	rel = relation_open(sequence, RowExclusiveLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	int64		number;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (slot == NULL)
		number = advance_sequence(rel, buffer, 1);
	else
	{
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		number = refill_slot(rel, buffer, slot);
		LWLockRelease(slot->lock);
	}
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	return number;
}

int64
queue_number_next(Oid sequence)
{
	QueueDatabase *slot = queue_database();
	int64		number;
	bool		found;

	if (slot == NULL)
		return draw_block(sequence, NULL);
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	found = take_number(slot, sequence, &number);
	LWLockRelease(slot->lock);
	return found ? number : draw_block(sequence, slot);
}

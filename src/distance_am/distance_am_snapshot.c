/*
 * distance_am_snapshot.c
 *		Rows that are missing because the snapshot has become too old.
 *
 * With old_snapshot_threshold, rows are removed that old snapshots still see.
 * The server tests the pages of a table for that when it scans all of them,
 * but not when an index leads to a row.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "distance_am/distance_am.h"

/*
 * Test the page on which a row was looked up last: it is still pinned.  To be
 * called when the row was not found, or before the next is looked up; a caller
 * that has had all he wanted has missed none.
 */
void
distance_am_test_fetched(IndexFetchTableData *fetch, Snapshot snapshot)
{
	Buffer		buffer;

	if (!compat_snapshots_age() || fetch->rel->rd_tableam != GetHeapamTableAmRoutine())
		return;
	buffer = ((IndexFetchHeapData *) fetch)->xs_cbuf;
	if (!BufferIsValid(buffer))
		return;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	compat_test_old_snapshot(snapshot, fetch->rel, BufferGetPage(buffer));
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
}

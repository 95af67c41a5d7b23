/*
 * debug_point.c
 *		Named places where a test can stop, fail or crash a process.
 */
#include "postgres.h"

#include "base/debug_point.h"

#ifdef DEBUG_POINTS

#include <unistd.h>

#include "common/hashfn.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define DEBUG_POINT_LOCK_CLASS 0x76656373

/* In the data directory: made by a test; made by the process that waits while the first is there. */
#define DEBUG_HOLD_FILE		"debug_hold"
#define DEBUG_HELD_FILE		"debug_held"

static char *debug_crash = NULL;

/* Define <library>.debug_crash; called once from _PG_init. */
void
debug_point_init(const char *library)
{
	DefineCustomStringVariable(MemoryContextStrdup(TopMemoryContext,
												   psprintf("%s.debug_crash", library)),
							   "Debug point where the process crashes ('name', 'name:error', 'name:hold').",
							   NULL, &debug_crash, "", PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Wait without any lock: so also a process that has no database yet. */
static void
hold(void)
{
	FILE	   *file = AllocateFile(DEBUG_HELD_FILE, "w");

	if (file != NULL)
		FreeFile(file);
	while (access(DEBUG_HOLD_FILE, F_OK) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(10000);
	}
}

void
debug_point_reached(const char *name, bool may_wait)
{
	LOCKTAG		tag;
	size_t		len = strlen(name);
	int			lock_timeout = LockTimeout;

	if (debug_crash != NULL && strncmp(debug_crash, name, len) == 0)
	{
		if (debug_crash[len] == '\0')
			abort();
		if (strcmp(debug_crash + len, ":error") == 0)
			ereport(ERROR, errmsg("debug point \"%s\"", name));
		if (strcmp(debug_crash + len, ":hold") == 0)
			hold();
	}

	/* Outside a transaction there is nothing to wait with. */
	if (!may_wait || !OidIsValid(MyDatabaseId) || !IsTransactionState())
		return;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, DEBUG_POINT_LOCK_CLASS,
						 hash_bytes((const unsigned char *) name, (int) len), 2);
	LockTimeout = 0;			/* a test may take its time */
	PG_TRY();
	{
		(void) LockAcquire(&tag, ShareLock, true, false);
	}
	PG_FINALLY();
	{
		LockTimeout = lock_timeout;
	}
	PG_END_TRY();
	(void) LockRelease(&tag, ShareLock, true);
}

#endif							/* DEBUG_POINTS */

/*
 * worker_activity.c
 *		Who searches what, how much: figures in shared memory.
 *
 * A slot for each role and vectorizer, in sets of eight; where a set is full, the
 * role that has been silent longest is forgotten.  Slots are found under the shared
 * lock and counted in by atomic operations; the lock is exclusive only
 * to give a slot away.  Nothing of a query is kept.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "worker/worker.h"

#define TRANCHE		"vecsync activity"
#define SETS		64
#define WAYS		8

typedef struct ActivityKey
{
	Oid			database;		/* InvalidOid: the slot is free */
	Oid			role;
	int			vectorizer;
} ActivityKey;

typedef struct ActivitySlot
{
	ActivityKey key;
	pg_atomic_uint64 begun;
	pg_atomic_uint64 answered;
	pg_atomic_uint64 rows;
	pg_atomic_uint64 with_values;
	pg_atomic_uint64 largest;	/* rows of one answer */
	pg_atomic_uint64 elapsed_us;
	pg_atomic_uint64 longest_us;
	pg_atomic_uint64 last_at;	/* a TimestampTz */
} ActivitySlot;

typedef struct Activity
{
	LWLock	   *lock;
	ActivitySlot slots[SETS * WAYS];
} Activity;

static Activity *activity = NULL;

PG_FUNCTION_INFO_V1(worker_searches);

/* From the shared memory hooks of worker_shmem.c. */
void
worker_activity_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Activity)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
clear(ActivitySlot *slot)
{
	memset(&slot->key, 0, sizeof(slot->key));
	pg_atomic_write_u64(&slot->begun, 0);
	pg_atomic_write_u64(&slot->answered, 0);
	pg_atomic_write_u64(&slot->rows, 0);
	pg_atomic_write_u64(&slot->with_values, 0);
	pg_atomic_write_u64(&slot->largest, 0);
	pg_atomic_write_u64(&slot->elapsed_us, 0);
	pg_atomic_write_u64(&slot->longest_us, 0);
	pg_atomic_write_u64(&slot->last_at, 0);
}

void
worker_activity_startup(void)
{
	bool		found;

	activity = ShmemInitStruct("vecsync activity", sizeof(Activity), &found);
	if (found)
		return;
	activity->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	for (int i = 0; i < SETS * WAYS; i++)
	{
		ActivitySlot *slot = &activity->slots[i];

		pg_atomic_init_u64(&slot->begun, 0);
		pg_atomic_init_u64(&slot->answered, 0);
		pg_atomic_init_u64(&slot->rows, 0);
		pg_atomic_init_u64(&slot->with_values, 0);
		pg_atomic_init_u64(&slot->largest, 0);
		pg_atomic_init_u64(&slot->elapsed_us, 0);
		pg_atomic_init_u64(&slot->longest_us, 0);
		pg_atomic_init_u64(&slot->last_at, 0);
		slot->key.database = InvalidOid;
	}
}

/* The slot of the key, or NULL.  Under the lock. */
static ActivitySlot *
find(const ActivityKey *key)
{
	ActivitySlot *set =
		&activity->slots[hash_bytes((const unsigned char *) key, sizeof(*key)) % SETS * WAYS];

	for (int i = 0; i < WAYS; i++)
		if (memcmp(&set[i].key, key, sizeof(*key)) == 0)
			return &set[i];
	return NULL;
}

/* A free slot for the key, or the one that was used longest ago.  Under the exclusive lock. */
static ActivitySlot *
take(const ActivityKey *key)
{
	ActivitySlot *set =
		&activity->slots[hash_bytes((const unsigned char *) key, sizeof(*key)) % SETS * WAYS];
	ActivitySlot *victim = find(key);

	if (victim != NULL)
		return victim;			/* somebody was quicker */
	victim = set;
	for (int i = 1; i < WAYS; i++)
		if (pg_atomic_read_u64(&set[i].last_at) < pg_atomic_read_u64(&victim->last_at))
			victim = &set[i];
	clear(victim);
	victim->key = *key;
	return victim;
}

static void
raise_to(pg_atomic_uint64 *counter, uint64 value)
{
	uint64		seen = pg_atomic_read_u64(counter);

	while (seen < value && !pg_atomic_compare_exchange_u64(counter, &seen, value))
		;
}

static void
count(ActivitySlot *slot, const WorkerSearch *search, bool done, TimestampTz now)
{
	uint64		elapsed = Max(now - search->began_at, 0);

	raise_to(&slot->last_at, (uint64) now);
	if (!done)
	{
		pg_atomic_fetch_add_u64(&slot->begun, 1);
		return;
	}
	pg_atomic_fetch_add_u64(&slot->answered, 1);
	pg_atomic_fetch_add_u64(&slot->rows, search->rows);
	pg_atomic_fetch_add_u64(&slot->with_values, search->values ? 1 : 0);
	pg_atomic_fetch_add_u64(&slot->elapsed_us, elapsed);
	raise_to(&slot->largest, search->rows);
	raise_to(&slot->longest_us, elapsed);
}

static void
note(const WorkerSearch *search, bool done, TimestampTz now)
{
	ActivityKey key = {.database = MyDatabaseId, .role = GetUserId(), .vectorizer = search->vectorizer};
	ActivitySlot *slot;

	if (activity == NULL)
		return;
	LWLockAcquire(activity->lock, LW_SHARED);
	slot = find(&key);
	if (slot == NULL)
	{
		LWLockRelease(activity->lock);
		LWLockAcquire(activity->lock, LW_EXCLUSIVE);
		slot = take(&key);
	}
	count(slot, search, done, now);
	LWLockRelease(activity->lock);
}

void
worker_search_begin(WorkerSearch *search, int vectorizer)
{
	search->vectorizer = vectorizer;
	search->began_at = GetCurrentTimestamp();
	note(search, false, search->began_at);
}

void
worker_search_end(WorkerSearch *search, int64 rows, bool values)
{
	search->rows = rows;
	search->values = values;
	note(search, true, GetCurrentTimestamp());
}

/* vecsync._searches(): a row for each role and vectorizer of this database. */
Datum
worker_searches(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (activity == NULL)
		return (Datum) 0;
	for (int i = 0; i < SETS * WAYS; i++)
	{
		ActivitySlot *slot = &activity->slots[i];
		Datum		values[10];
		bool		nulls[10] = {false};
		ActivityKey key;

		LWLockAcquire(activity->lock, LW_SHARED);
		key = slot->key;
		values[0] = ObjectIdGetDatum(key.role);
		values[1] = Int32GetDatum(key.vectorizer);
		values[2] = Int64GetDatum(pg_atomic_read_u64(&slot->begun));
		values[3] = Int64GetDatum(pg_atomic_read_u64(&slot->answered));
		values[4] = Int64GetDatum(pg_atomic_read_u64(&slot->rows));
		values[5] = Int64GetDatum(pg_atomic_read_u64(&slot->largest));
		values[6] = Int64GetDatum(pg_atomic_read_u64(&slot->with_values));
		values[7] = Float8GetDatum(pg_atomic_read_u64(&slot->elapsed_us) / 1000.0);
		values[8] = Float8GetDatum(pg_atomic_read_u64(&slot->longest_us) / 1000.0);
		values[9] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&slot->last_at));
		LWLockRelease(activity->lock);
		if (key.database == MyDatabaseId)
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

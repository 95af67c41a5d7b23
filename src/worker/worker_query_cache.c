/*
 * worker_query_cache.c
 *		Vectors of query texts, shared by all sessions.
 *
 * A table of fixed slots in shared memory, in sets of eight.  The key is a
 * SHA-256 of database, model, purpose and text, so nothing of a text is kept and
 * nobody can make two texts meet.  An entry is valid for the generation of the
 * configuration in which its vector was asked for: any change of models
 * makes all entries old.
 *
 * One lock for a group of sets; it is held for a copy of one vector, and
 * nothing else is taken under it.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/htup_details.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

#include "queue/queue.h"
#include "worker/worker.h"

#define TRANCHE			"vecsync query cache"
#define LOCKS			16
#define WAYS			8
#define MAX_DIMENSIONS	4096	/* longer vectors are not kept */

typedef struct QuerySlot
{
	uint8		key[PG_SHA256_DIGEST_LENGTH];
	uint64		generation;		/* 0: empty */
	uint64		used;			/* the clock at its last use */
	int			dimensions;
	float		values[MAX_DIMENSIONS];
} QuerySlot;

typedef struct QueryCache
{
	LWLockPadded *locks;
	int			sets;
	pg_atomic_uint64 clock;
	pg_atomic_uint64 hits;
	pg_atomic_uint64 misses;
	QuerySlot	slots[FLEXIBLE_ARRAY_MEMBER];
} QueryCache;

int			worker_query_cache_entries = 1024;

static QueryCache *cache = NULL;

static int
set_count(void)
{
	return (worker_query_cache_entries + WAYS - 1) / WAYS;
}

static Size
cache_size(void)
{
	return offsetof(QueryCache, slots) + sizeof(QuerySlot) * (Size) WAYS * set_count();
}

/* From the shared memory hooks of worker_shmem.c. */
void
worker_query_cache_request(void)
{
	if (worker_query_cache_entries == 0)
		return;
	RequestAddinShmemSpace(MAXALIGN(cache_size()));
	RequestNamedLWLockTranche(TRANCHE, LOCKS);
}

void
worker_query_cache_startup(void)
{
	bool		found;

	if (worker_query_cache_entries == 0)
		return;
	cache = ShmemInitStruct("vecsync query cache", cache_size(), &found);
	if (found)
		return;
	/* the slots' memory is touched only as they are used */
	memset(cache, 0, offsetof(QueryCache, slots));
	cache->locks = GetNamedLWLockTranche(TRANCHE);
	cache->sets = set_count();
	pg_atomic_init_u64(&cache->clock, 1);
	pg_atomic_init_u64(&cache->hits, 0);
	pg_atomic_init_u64(&cache->misses, 0);
	for (int i = 0; i < cache->sets * WAYS; i++)
		cache->slots[i].generation = 0;
}

static void
make_key(const char *model, const char *text, bool query, uint8 *key)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	uint8		head[sizeof(Oid) + 1];

	memcpy(head, &MyDatabaseId, sizeof(Oid));
	head[sizeof(Oid)] = query;
	if (pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, head, sizeof(head)) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) model, strlen(model) + 1) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) text, strlen(text)) < 0 ||
		pg_cryptohash_final(context, key, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(context));
	pg_cryptohash_free(context);
}

static QuerySlot *
set_of(const uint8 *key, LWLock **lock)
{
	uint32		hash;

	memcpy(&hash, key, sizeof(hash));
	*lock = &cache->locks[hash % cache->sets % LOCKS].lock;
	return &cache->slots[(Size) (hash % cache->sets) * WAYS];
}

/*
 * A configuration that only this transaction sees must not be mixed with what
 * others see; on a standby sessions have no common count of its changes.
 */
static bool
usable(void)
{
	return cache != NULL && !queue_config_changing() && !RecoveryInProgress();
}

float *
worker_query_cache_get(const char *model, const char *text, bool query, int *dimensions)
{
	uint64		generation = worker_config_generation();
	uint8		key[PG_SHA256_DIGEST_LENGTH];
	float	   *values;
	LWLock	   *lock;
	QuerySlot  *set;

	if (!usable())
		return NULL;
	make_key(model, text, query, key);
	values = palloc(sizeof(float) * MAX_DIMENSIONS);
	*dimensions = 0;
	set = set_of(key, &lock);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < WAYS; i++)
		if (set[i].generation == generation && memcmp(set[i].key, key, sizeof(key)) == 0)
		{
			*dimensions = set[i].dimensions;
			memcpy(values, set[i].values, sizeof(float) * set[i].dimensions);
			set[i].used = pg_atomic_fetch_add_u64(&cache->clock, 1);
			break;
		}
	LWLockRelease(lock);
	pg_atomic_fetch_add_u64(*dimensions > 0 ? &cache->hits : &cache->misses, 1);
	if (*dimensions > 0)
		return values;
	pfree(values);
	return NULL;
}

/* A hit in the session's own cache counts as well. */
void
worker_query_cache_count_hit(void)
{
	if (cache != NULL)
		pg_atomic_fetch_add_u64(&cache->hits, 1);
}

void
worker_query_cache_put(const char *model, const char *text, bool query, uint64 generation,
					   const float *values, int dimensions)
{
	uint8		key[PG_SHA256_DIGEST_LENGTH];
	LWLock	   *lock;
	QuerySlot  *set;
	QuerySlot  *victim;

	if (!usable() || dimensions > MAX_DIMENSIONS || generation != worker_config_generation())
		return;
	make_key(model, text, query, key);
	set = set_of(key, &lock);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	victim = &set[0];
	for (int i = 0; i < WAYS; i++)
	{
		if (set[i].generation != 0 && memcmp(set[i].key, key, sizeof(key)) == 0)
		{
			victim = &set[i];
			break;
		}
		if (set[i].generation != generation ? victim->generation == generation :
			victim->generation == generation && set[i].used < victim->used)
			victim = &set[i];
	}
	memcpy(victim->key, key, sizeof(key));
	memcpy(victim->values, values, sizeof(float) * dimensions);
	victim->dimensions = dimensions;
	victim->generation = generation;
	victim->used = pg_atomic_fetch_add_u64(&cache->clock, 1);
	LWLockRelease(lock);
}

void
worker_query_cache_counts(int *entries, uint64 *hits, uint64 *misses)
{
	*entries = cache ? cache->sets * WAYS : 0;
	*hits = cache ? pg_atomic_read_u64(&cache->hits) : 0;
	*misses = cache ? pg_atomic_read_u64(&cache->misses) : 0;
}

/*
 * capture.c
 *		Change capture: row triggers that note the keys of changed rows.
 *
 * The trigger's job on the user's write path is to append one key to a buffer
 * in memory.  The buffer becomes one entry of vecsync.queue when it is full
 * and before the transaction commits or is prepared, so a statement that
 * changes 50,000 rows writes some fifty queue rows, and a rollback leaves
 * nothing behind.  Buffers are kept per subtransaction level: a rolled-back
 * savepoint forgets its keys, a released one hands them to its parent.
 *
 * Every row that a user changes comes through here, so on the way of a row
 * nothing is allocated, once its buffer has room, and nothing looked up that
 * the row before has brought to light.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/float.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "base/compat.h"
#include "base/debug_point.h"
#include "queue/queue.h"

/* Flush a buffer of keys when it reaches this size, however few rows it has. */
#define CAPTURE_BUFFER_BYTES	(256 * 1024)

/* How to take a key from a row of one table.  Entries stay where they are for as long as the session. */
typedef struct CaptureKey
{
	Oid			relid;			/* hash key */
	bool		valid;
	MemoryContext context;		/* what the output functions keep */
	int			ntriggers;		/* that are known to stand for a vectorizer of this table */
	struct
	{
		Oid			oid;
		int			vectorizer;
	}			triggers[8];
	int			nkeys;
	AttrNumber	attnum[INDEX_MAX_KEYS];
	FmgrInfo	output[INDEX_MAX_KEYS];
} CaptureKey;

/*
 * Keys of one vectorizer and op noted at one level of one transaction; never more than one entry of the
 * queue takes.  The keys are the entry's text[] already, but for its header.
 */
typedef struct CaptureBuffer
{
	struct CaptureBuffer *next;
	int			level;			/* GetCurrentTransactionNestLevel() */
	int			vectorizer;
	char		op;				/* QUEUE_OP_KEYS or QUEUE_OP_FORCED */
	int			rows;
	int			nelems;
	bool		written;		/* by an inner level that is committing: to be emptied when it has */
	Size		used;			/* bytes of keys, its header among them */
	Size		room;
	char	   *keys;
} CaptureBuffer;

/* The first buffer of keys; most transactions change a few rows. */
#define CAPTURE_BUFFER_FIRST	256

#define KEYS_HEADER				ARR_OVERHEAD_NONULLS(1)

queue_commit_hook_type queue_commit_hook = NULL;

uint64		queue_config_changes = 0;

static CaptureBuffer *capture_buffers = NULL;	/* the innermost level first; in TopTransactionContext */
static int	capture_changed = 0;	/* for the commit hook */
static HTAB *capture_keys = NULL;
static CaptureKey *capture_last_key = NULL; /* the one that was asked for last */

PG_FUNCTION_INFO_V1(capture_trigger);
PG_FUNCTION_INFO_V1(capture_differ);

/* ---- how to take the key --------------------------------------------------- */

/* Only mark: the entry may be in use further up the stack. */
static void
capture_forget(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	CaptureKey *entry;

	if (capture_keys == NULL)
		return;
	hash_seq_init(&scan, capture_keys);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (relid == InvalidOid || entry->relid == relid)
			entry->valid = false;
}

static void
capture_read_key(CaptureKey *entry, Relation rel)
{
	Oid			pkey = compat_primary_key_index(rel);
	Relation	index;

	entry->nkeys = 0;
	if (!OidIsValid(pkey))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				errdetail("A vectorizer follows its rows by their primary key."),
				errhint("Restore the primary key, or drop the vectorizer with vecsync.drop_vectorizer()."));

	entry->context = AllocSetContextCreate(CacheMemoryContext, "vecsync captured table",
										   ALLOCSET_SMALL_SIZES);
	index = index_open(pkey, AccessShareLock);
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber	attnum = index->rd_index->indkey.values[i];
		Oid			function;
		bool		varlena;

		getTypeOutputInfo(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid,
						  &function, &varlena);
		entry->attnum[i] = attnum;
		fmgr_info_cxt(function, &entry->output[i], entry->context);
	}
	entry->nkeys = index->rd_index->indnkeyatts;
	index_close(index, AccessShareLock);
}

static CaptureKey *
capture_find_key(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	CaptureKey *entry = capture_last_key;
	bool		found;

	if (entry != NULL && entry->relid == relid && entry->valid)
		return entry;
	if (capture_keys == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(CaptureKey)};

		capture_keys = hash_create("vecsync captured tables", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(capture_keys, &relid, HASH_ENTER, &found);
	if (!found)
	{
		entry->valid = false;
		entry->context = NULL;
	}
	if (!entry->valid)
	{
		CaptureKey	fresh = {.relid = relid, .valid = true};

		/* Reading may run invalidations or fail: the entry changes only when that is over. */
		capture_read_key(&fresh, rel);
		if (entry->context != NULL)
			MemoryContextDelete(entry->context);
		*entry = fresh;
	}
	capture_last_key = entry;
	return entry;
}

/* The table that a vectorizer follows; InvalidOid when it is gone. */
static Oid
vectorizer_source(int vectorizer)
{
	Oid			schema = get_namespace_oid("vecsync", false);
	Relation	rel = table_open(get_relname_relid("vectorizer", schema), AccessShareLock);
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			source = InvalidOid;

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(vectorizer));
	scan = systable_beginscan(rel, get_relname_relid("vectorizer_pkey", schema), true, NULL, 1, &scankey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		source = DatumGetObjectId(heap_getattr(tuple, get_attnum(RelationGetRelid(rel), "source"),
											   RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return source;
}

/*
 * The vectorizer that a trigger notes changes for; 0 if there is none.  Anyone may
 * put a trigger with any number on a table of his own: only the vectorizer's table
 * and its partitions count.
 */
static int
capture_vectorizer(CaptureKey *key, Relation rel, const Trigger *trigger)
{
	int			vectorizer;
	Oid			source;

	for (int i = 0; i < key->ntriggers; i++)
		if (key->triggers[i].oid == trigger->tgoid)
			return key->triggers[i].vectorizer;
	vectorizer = pg_strtoint32(trigger->tgargs[0]);
	source = vectorizer_source(vectorizer);
	if (source != RelationGetRelid(rel) &&
		!(rel->rd_rel->relispartition &&
		  list_member_oid(get_partition_ancestors(RelationGetRelid(rel)), source)))
		return 0;
	if (key->ntriggers < lengthof(key->triggers))
	{
		key->triggers[key->ntriggers].oid = trigger->tgoid;
		key->triggers[key->ntriggers++].vectorizer = vectorizer;
	}
	return vectorizer;
}

/* ---- buffers ---------------------------------------------------------------- */

/* The buffer of one level, or NULL. */
static CaptureBuffer *
find_buffer(int level, int vectorizer, char op)
{
	CaptureBuffer *buffer;

	for (buffer = capture_buffers; buffer != NULL && buffer->level >= level; buffer = buffer->next)
		if (buffer->level == level && buffer->vectorizer == vectorizer && buffer->op == op)
			return buffer;
	return NULL;
}

static void
empty_buffer(CaptureBuffer *buffer)
{
	buffer->rows = buffer->nelems = 0;
	buffer->used = KEYS_HEADER;
	buffer->written = false;
}

static CaptureBuffer *
make_buffer(int level, int vectorizer, char op)
{
	CaptureBuffer *buffer = MemoryContextAlloc(TopTransactionContext, sizeof(CaptureBuffer));

	buffer->level = level;
	buffer->vectorizer = vectorizer;
	buffer->op = op;
	empty_buffer(buffer);
	buffer->room = CAPTURE_BUFFER_FIRST;
	buffer->keys = MemoryContextAlloc(TopTransactionContext, buffer->room);
	buffer->next = capture_buffers;
	capture_buffers = buffer;
	return buffer;
}

/* Room for some more bytes of keys. */
static char *
extend_buffer(CaptureBuffer *buffer, Size more)
{
	char	   *result;

	if (buffer->used + more > buffer->room)
	{
		Size		room = Max(buffer->room * 2, buffer->used + more);

		buffer->keys = repalloc(buffer->keys, room);
		buffer->room = room;
	}
	result = buffer->keys + buffer->used;
	buffer->used += more;
	return result;
}

/* Turn a buffer into an entry of the queue, under the current (sub)transaction. */
static void
write_buffer(CaptureBuffer *buffer)
{
	ArrayType  *keys = (ArrayType *) buffer->keys;

	if (buffer->rows == 0)
		return;
	SET_VARSIZE(keys, buffer->used);
	keys->ndim = 1;
	keys->dataoffset = 0;		/* no nulls */
	keys->elemtype = TEXTOID;
	ARR_DIMS(keys)[0] = buffer->nelems;
	ARR_LBOUND(keys)[0] = 1;
	(void) queue_append(buffer->vectorizer, buffer->op, buffer->rows, keys);
}

/* Is it more than one entry takes? */
static bool
is_full(int rows, Size bytes)
{
	return rows >= QUEUE_ENTRY_ROWS || bytes >= CAPTURE_BUFFER_BYTES;
}

/* Has this transaction noted changes that are not in the queue yet? */
bool
queue_noted(int vectorizer)
{
	for (CaptureBuffer *buffer = capture_buffers; buffer != NULL; buffer = buffer->next)
		if (buffer->vectorizer == vectorizer && buffer->rows > 0)
			return true;
	return false;
}

/* Write what this transaction has noted.  Only at its end, at the top level. */
static void
capture_flush(void)
{
	for (CaptureBuffer *buffer = capture_buffers; buffer != NULL; buffer = buffer->next)
	{
		write_buffer(buffer);
		empty_buffer(buffer);
	}
}

/* ---- keys as texts ------------------------------------------------------------- */

/* The key's text must mean the same to the worker, whatever the session's settings are. */
char *
queue_key_string(FmgrInfo *output, Datum value)
{
	int			date_style = DateStyle;
	int			interval_style = IntervalStyle;
	int			float_digits = extra_float_digits;
	int			bytea_style = bytea_output;
	pg_tz	   *time_zone = session_timezone;
	char	   *volatile result = NULL;

	switch (output->fn_oid)
	{
		case F_INT2OUT:
		case F_INT4OUT:
		case F_INT8OUT:
		case F_UUID_OUT:
		case F_TEXTOUT:
		case F_VARCHAROUT:
			return OutputFunctionCall(output, value);	/* whatever they are */
		default:
			break;
	}
	session_timezone = pg_tzset("UTC");
	DateStyle = USE_ISO_DATES;
	IntervalStyle = INTSTYLE_POSTGRES;
	extra_float_digits = 1;
	bytea_output = BYTEA_OUTPUT_HEX;
	PG_TRY();
	{
		result = OutputFunctionCall(output, value);
	}
	PG_FINALLY();
	{
		DateStyle = date_style;
		IntervalStyle = interval_style;
		extra_float_digits = float_digits;
		bytea_output = bytea_style;
		session_timezone = time_zone;
	}
	PG_END_TRY();
	return result;
}

/* One more element of the buffer's array. */
static void
add_text(CaptureBuffer *buffer, const char *data, Size length)
{
	Size		size = VARHDRSZ + length;
	char	   *element = extend_buffer(buffer, INTALIGN(size));

	SET_VARSIZE(element, size);
	memcpy(VARDATA(element), data, length);
	memset(element + size, 0, INTALIGN(size) - size);
	buffer->nelems++;
}

static void
add_uuid(CaptureBuffer *buffer, const pg_uuid_t *uuid)
{
	static const char hex[] = "0123456789abcdef";
	char		string[2 * UUID_LEN + 4];
	char	   *p = string;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[uuid->data[i] >> 4];
		*p++ = hex[uuid->data[i] & 0xF];
	}
	add_text(buffer, string, sizeof(string));
}

/* A key column's value.  What most keys are made of takes no output function; the texts are its. */
static void
add_value(CaptureBuffer *buffer, FmgrInfo *output, Datum value)
{
	char		number[MAXINT8LEN + 1];

	switch (output->fn_oid)
	{
		case F_INT2OUT:
			add_text(buffer, number, pg_itoa(DatumGetInt16(value), number));
			break;
		case F_INT4OUT:
			add_text(buffer, number, pg_ltoa(DatumGetInt32(value), number));
			break;
		case F_INT8OUT:
			add_text(buffer, number, pg_lltoa(DatumGetInt64(value), number));
			break;
		case F_UUID_OUT:
			add_uuid(buffer, DatumGetUUIDP(value));
			break;
		case F_TEXTOUT:
		case F_VARCHAROUT:
		case F_BPCHAROUT:
			{
				text	   *string = DatumGetTextPP(value);

				add_text(buffer, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
			}
			break;
		default:
			{
				char	   *string = queue_key_string(output, value);

				add_text(buffer, string, strlen(string));
			}
			break;
	}
}

/* Note a row.  The memory of texts on their way is the server's for one call of a trigger. */
static void
capture_add(CaptureKey *key, int vectorizer, char op, TupleTableSlot *slot)
{
	int			level = GetCurrentTransactionNestLevel();
	CaptureBuffer *buffer = find_buffer(level, vectorizer, op);

	if (buffer == NULL)
		buffer = make_buffer(level, vectorizer, op);
	for (int i = 0; i < key->nkeys; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, key->attnum[i], &isnull);

		Assert(!isnull);		/* a primary key's column */
		add_value(buffer, &key->output[i], value);
	}
	buffer->rows++;
	if (is_full(buffer->rows, buffer->used))
	{
		write_buffer(buffer);
		empty_buffer(buffer);
	}
}

/* ---- the trigger -------------------------------------------------------------- */

/*
 * AFTER ROW for INSERT, UPDATE and DELETE, AFTER STATEMENT for TRUNCATE.  Its
 * one argument is the vectorizer's number.  Which updates matter is decided
 * by the trigger's WHEN clause before we are called.
 */
Datum
capture_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CaptureKey *key;
	int			vectorizer;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("vecsync.capture() is a trigger function"),
				errhint("Its triggers are made by vecsync.create_vectorizer()."));
	key = capture_find_key(trigger->tg_relation);
	vectorizer = capture_vectorizer(key, trigger->tg_relation, trigger->tg_trigger);
	if (vectorizer == 0)
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		(void) queue_append(vectorizer, QUEUE_OP_TRUNCATE, 0, construct_empty_array(TEXTOID));
		return PointerGetDatum(NULL);
	}

	/* A row under a new key may have a vector of its own, while the digest is still of the key's last row. */
	capture_add(key, vectorizer, TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? QUEUE_OP_FORCED : QUEUE_OP_KEYS,
				trigger->tg_trigslot);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		/* The slot above is the old row: a changed key is two rows to look at. */
		bool		moved = false;

		for (int i = 0; i < key->nkeys && !moved; i++)
		{
			bool		oldnull,
						newnull;
			Datum		oldvalue = slot_getattr(trigger->tg_trigslot, key->attnum[i], &oldnull);
			Datum		newvalue = slot_getattr(trigger->tg_newslot, key->attnum[i], &newnull);
			Form_pg_attribute att = TupleDescAttr(RelationGetDescr(trigger->tg_relation), key->attnum[i] - 1);

			moved = !datum_image_eq(oldvalue, newvalue, att->attbyval, att->attlen);
		}
		if (moved)
			capture_add(key, vectorizer, QUEUE_OP_FORCED, trigger->tg_newslot);
	}
	return PointerGetDatum(NULL);
}

/*
 * vecsync._differ("any", "any"): the update trigger's WHEN clause, once for each used column and
 * updated row.  A value kept out of line that was not touched is the same pointer, and stays unread.
 */
Datum
capture_differ(PG_FUNCTION_ARGS)
{
	TypeCacheEntry *type = fcinfo->flinfo->fn_extra;
	Datum		a = PG_GETARG_DATUM(0);
	Datum		b = PG_GETARG_DATUM(1);

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(PG_ARGISNULL(0) != PG_ARGISNULL(1));
	if (type == NULL)
	{
		Oid			oid = get_fn_expr_argtype(fcinfo->flinfo, 0);

		if (!OidIsValid(oid) || oid != get_fn_expr_argtype(fcinfo->flinfo, 1))
			ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("values of one type are expected"));
		/* an entry of the type cache is never freed */
		type = fcinfo->flinfo->fn_extra = lookup_type_cache(oid, 0);
	}
	if (type->typlen == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(a)) &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(b)) &&
		memcmp(DatumGetPointer(a), DatumGetPointer(b), VARSIZE_EXTERNAL(DatumGetPointer(a))) == 0)
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(!datum_image_eq(a, b, type->typbyval, type->typlen));
}

/* ---- transaction ends -------------------------------------------------------------- */

/* Remember something to tell the worker when, and only when, this transaction commits. */
void
queue_note_change(int changed)
{
	capture_changed |= changed;
	if (changed & QUEUE_CHANGED_CONFIG)
		queue_config_changes++;
}

/* Has this transaction changed the configuration? */
bool
queue_config_changing(void)
{
	return (capture_changed & QUEUE_CHANGED_CONFIG) != 0;
}

static void
capture_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (event == XACT_EVENT_PRE_PREPARE && (capture_changed & QUEUE_CHANGED_CONFIG))
				ereport(ERROR,
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has changed the configuration of vecsync"));
			capture_flush();
			DEBUG_POINT("capture_flushed");
			break;
		case XACT_EVENT_PREPARE:
			/* of its end nobody tells: the worker has to know of its entries before */
		case XACT_EVENT_COMMIT:
			if (capture_changed != 0 && queue_commit_hook != NULL)
			{
				queue_commit_hook(capture_changed);
				DEBUG_CRASH_POINT("capture_committed");
			}
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
			capture_buffers = NULL; /* their memory goes with the transaction */
			capture_changed = 0;
			break;
		default:
			break;
	}
}

/*
 * A level is about to commit.  Where its keys and the outer level's are too many for one entry, the outer
 * level's become one now, for later we may not write: so a loop of subtransactions neither fills the memory
 * nor makes an entry of each.  Should the commit fail, that entry goes with the level, and the keys stay.
 */
static void
make_room(int level)
{
	for (CaptureBuffer *inner = capture_buffers; inner != NULL && inner->level == level; inner = inner->next)
	{
		CaptureBuffer *outer = find_buffer(level - 1, inner->vectorizer, inner->op);

		if (outer == NULL || !is_full(outer->rows + inner->rows, outer->used + inner->used))
			continue;
		write_buffer(outer);
		outer->written = true;
		DEBUG_POINT("capture_made_room");
	}
}

static void
free_buffer(CaptureBuffer *buffer)
{
	pfree(buffer->keys);
	pfree(buffer);
}

/* A level's keys become the outer level's. */
static void
merge_level(int level)
{
	CaptureBuffer **link = &capture_buffers;

	while (*link != NULL && (*link)->level >= level)
	{
		CaptureBuffer *inner = *link;
		CaptureBuffer *outer = find_buffer(level - 1, inner->vectorizer, inner->op);
		Size		bytes = inner->used - KEYS_HEADER;

		if (outer == NULL)
		{
			inner->level = level - 1;
			link = &inner->next;
			continue;
		}
		if (outer->written)
			empty_buffer(outer);
		memcpy(extend_buffer(outer, bytes), inner->keys + KEYS_HEADER, bytes);
		outer->rows += inner->rows;
		outer->nelems += inner->nelems;
		*link = inner->next;
		free_buffer(inner);
	}
}

static void
forget_level(int level)
{
	while (capture_buffers != NULL && capture_buffers->level >= level)
	{
		CaptureBuffer *buffer = capture_buffers;

		capture_buffers = buffer->next;
		free_buffer(buffer);
	}
	/* of the level below, if it had made room for this one; there may be thousands of others */
	for (CaptureBuffer *buffer = capture_buffers; buffer != NULL && buffer->level >= level - 1;
		 buffer = buffer->next)
		buffer->written = false;
}

static void
capture_subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	switch (event)
	{
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			make_room(level);
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			merge_level(level);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			forget_level(level);
			break;
		default:
			break;
	}
}

void
queue_capture_init(void)
{
	CacheRegisterRelcacheCallback(capture_forget, (Datum) 0);
	RegisterXactCallback(capture_xact_callback, NULL);
	RegisterSubXactCallback(capture_subxact_callback, NULL);
}

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
 * The entry's number is drawn (queue_append.c) while the transaction holds its
 * locks on the changed rows and has its xid.  queue_read.c relies on both.
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

#include "base/compat.h"
#include "base/debug_point.h"
#include "queue/queue.h"

/* Flush a buffer of keys when it reaches this size, however few rows it has. */
#define CAPTURE_BUFFER_BYTES	(256 * 1024)

/* How to take a key from a row of one table. */
typedef struct CaptureKey
{
	Oid			relid;			/* hash key */
	bool		valid;
	MemoryContext context;		/* what the output functions keep */
	int			nvectorizers;	/* known to follow this table */
	int			vectorizers[8];
	int			nkeys;
	AttrNumber	attnum[INDEX_MAX_KEYS];
	FmgrInfo	output[INDEX_MAX_KEYS];
} CaptureKey;

/* Keys of one vectorizer and op noted at one level of one transaction. */
typedef struct CaptureBuffer
{
	struct CaptureBuffer *next;
	int			vectorizer;
	char		op;				/* QUEUE_OP_KEYS or QUEUE_OP_FORCED */
	int			rows;
	int			nelems;
	int			maxelems;
	Size		bytes;
	Datum	   *elems;			/* text, row after row */
} CaptureBuffer;

/* One level of subtransaction that noted something. */
typedef struct CaptureLevel
{
	struct CaptureLevel *outer;
	int			level;			/* GetCurrentTransactionNestLevel() */
	MemoryContext context;		/* buffers and keys */
	CaptureBuffer *buffers;
} CaptureLevel;

queue_commit_hook_type queue_commit_hook = NULL;

static CaptureLevel *capture_top = NULL;
uint64		queue_config_changes = 0;
static int	capture_changed = 0;	/* for the commit hook */
static HTAB *capture_keys = NULL;

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
	CaptureKey *entry;
	bool		found;

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
 * Anyone may put a trigger with any number on a table of his own: only the
 * vectorizer's table and its partitions count.
 */
static bool
captures_for(CaptureKey *key, Relation rel, int vectorizer)
{
	Oid			source;

	for (int i = 0; i < key->nvectorizers; i++)
		if (key->vectorizers[i] == vectorizer)
			return true;
	source = vectorizer_source(vectorizer);
	if (source != RelationGetRelid(rel) &&
		!(rel->rd_rel->relispartition &&
		  list_member_oid(get_partition_ancestors(RelationGetRelid(rel)), source)))
		return false;
	if (key->nvectorizers < lengthof(key->vectorizers))
		key->vectorizers[key->nvectorizers++] = vectorizer;
	return true;
}

/* ---- buffers ---------------------------------------------------------------- */

static CaptureLevel *
capture_level(void)
{
	int			level = GetCurrentTransactionNestLevel();
	CaptureLevel *fresh;
	MemoryContext context;

	if (capture_top != NULL && capture_top->level == level)
		return capture_top;
	context = AllocSetContextCreate(TopTransactionContext, "vecsync capture", ALLOCSET_DEFAULT_SIZES);
	fresh = MemoryContextAllocZero(TopTransactionContext, sizeof(CaptureLevel));
	fresh->outer = capture_top;
	fresh->level = level;
	fresh->context = context;
	capture_top = fresh;
	return fresh;
}

static CaptureBuffer *
capture_buffer(CaptureLevel *level, int vectorizer, char op)
{
	CaptureBuffer *buffer;

	for (buffer = level->buffers; buffer != NULL; buffer = buffer->next)
		if (buffer->vectorizer == vectorizer && buffer->op == op)
			return buffer;

	buffer = MemoryContextAllocZero(level->context, sizeof(CaptureBuffer));
	buffer->vectorizer = vectorizer;
	buffer->op = op;
	buffer->maxelems = 16;
	buffer->elems = MemoryContextAlloc(level->context, buffer->maxelems * sizeof(Datum));
	buffer->next = level->buffers;
	level->buffers = buffer;
	return buffer;
}

/*
 * Turn a buffer into entries of the queue, under the current (sub)transaction.
 * One buffer may have gathered those of many subtransactions.
 */
static void
capture_write(CaptureBuffer *buffer)
{
	int			nkeys = buffer->rows > 0 ? buffer->nelems / buffer->rows : 0;

	for (int row = 0; row < buffer->rows; row += QUEUE_ENTRY_ROWS)
	{
		int			rows = Min(QUEUE_ENTRY_ROWS, buffer->rows - row);
		ArrayType  *keys = construct_array(buffer->elems + row * nkeys, rows * nkeys, TEXTOID, -1, false,
										   TYPALIGN_INT);

		(void) queue_append(buffer->vectorizer, buffer->op, rows, keys);
		pfree(keys);
	}
	for (int i = 0; i < buffer->nelems; i++)
		pfree(DatumGetPointer(buffer->elems[i]));
	buffer->rows = buffer->nelems = 0;
	buffer->bytes = 0;
}

/* Has this transaction noted changes that are not in the queue yet? */
bool
queue_noted(int vectorizer)
{
	for (CaptureLevel *level = capture_top; level != NULL; level = level->outer)
		for (CaptureBuffer *buffer = level->buffers; buffer != NULL; buffer = buffer->next)
			if (buffer->vectorizer == vectorizer && buffer->rows > 0)
				return true;
	return false;
}

/* Write what this transaction has noted.  Only at its end, at the top level. */
static void
capture_flush(void)
{
	for (CaptureLevel *level = capture_top; level != NULL; level = level->outer)
		for (CaptureBuffer *buffer = level->buffers; buffer != NULL; buffer = buffer->next)
			capture_write(buffer);
}

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

static void
capture_add(CaptureKey *key, int vectorizer, char op, TupleTableSlot *slot)
{
	CaptureLevel *level = capture_level();
	CaptureBuffer *buffer = capture_buffer(level, vectorizer, op);
	MemoryContext old = MemoryContextSwitchTo(level->context);

	if (buffer->nelems + key->nkeys > buffer->maxelems)
	{
		buffer->maxelems = Max(buffer->maxelems * 2, buffer->nelems + key->nkeys);
		buffer->elems = repalloc(buffer->elems, buffer->maxelems * sizeof(Datum));
	}
	for (int i = 0; i < key->nkeys; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, key->attnum[i], &isnull);
		char	   *string;
		text	   *element;

		Assert(!isnull);		/* a primary key's column */
		string = queue_key_string(&key->output[i], value);
		element = cstring_to_text(string);
		pfree(string);
		buffer->elems[buffer->nelems++] = PointerGetDatum(element);
		buffer->bytes += VARSIZE(element);
	}
	buffer->rows++;
	MemoryContextSwitchTo(old);

	if (buffer->rows >= QUEUE_ENTRY_ROWS || buffer->bytes >= CAPTURE_BUFFER_BYTES)
		capture_write(buffer);
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
	vectorizer = pg_strtoint32(trigger->tg_trigger->tgargs[0]);

	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		if (!captures_for(capture_find_key(trigger->tg_relation), trigger->tg_relation, vectorizer))
			return PointerGetDatum(NULL);
		(void) queue_append(vectorizer, QUEUE_OP_TRUNCATE, 0, construct_empty_array(TEXTOID));
		return PointerGetDatum(NULL);
	}

	key = capture_find_key(trigger->tg_relation);
	if (!captures_for(key, trigger->tg_relation, vectorizer))
		return PointerGetDatum(NULL);
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
		case XACT_EVENT_COMMIT:
			if (capture_changed != 0 && queue_commit_hook != NULL)
				queue_commit_hook(capture_changed);
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			capture_top = NULL; /* its memory goes with the transaction */
			capture_changed = 0;
			break;
		default:
			break;
	}
}

/* The inner level's keys become the outer level's. */
static void
capture_merge(CaptureLevel *inner, int outer_level)
{
	CaptureLevel *outer = inner->outer;

	if (outer == NULL || outer->level < outer_level)
	{
		inner->level = outer_level;
		return;
	}
	for (CaptureBuffer *from = inner->buffers; from != NULL; from = from->next)
	{
		CaptureBuffer *to;
		MemoryContext old;

		if (from->nelems == 0)
			continue;
		to = capture_buffer(outer, from->vectorizer, from->op);
		old = MemoryContextSwitchTo(outer->context);
		if (to->nelems + from->nelems > to->maxelems)
		{
			to->maxelems = Max(to->maxelems * 2, to->nelems + from->nelems);
			to->elems = repalloc(to->elems, to->maxelems * sizeof(Datum));
		}
		for (int i = 0; i < from->nelems; i++)
			to->elems[to->nelems++] = PointerGetDatum(PG_DETOAST_DATUM_COPY(from->elems[i]));
		to->rows += from->rows;
		to->bytes += from->bytes;
		MemoryContextSwitchTo(old);
	}
	capture_top = outer;
	MemoryContextDelete(inner->context);
	pfree(inner);
}

static void
capture_subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (capture_top == NULL || capture_top->level < level)
		return;
	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			capture_merge(capture_top, level - 1);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			{
				CaptureLevel *gone = capture_top;

				capture_top = gone->outer;
				MemoryContextDelete(gone->context);
				pfree(gone);
			}
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

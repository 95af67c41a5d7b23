/*
 * detoast.c
 *		Reading values stored out of line: no oftener, and with no more locking, than needed.
 *
 * In "ORDER BY v <-> (SELECT v FROM t WHERE id = 1)" the right argument is a
 * pointer to a value out of line, the same one for each row; to fetch it
 * each time would double the cost of the scan.  Each expression therefore
 * keeps, for each argument, the value seen twice in a row.  A pointer names
 * its value for as long as the value is visible, and an expression lives no
 * longer than that.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "vector/detoast.h"

uintptr_t	vector_last_argument[2];

typedef struct KeptValue
{
	struct varatt_external pointer; /* all zero while there is none */
	struct varlena *value;			/* in the function's context; NULL when seen once only */
	Oid			locked;			/* the TOAST relation whose locks are held */
} KeptValue;

typedef struct KeptArguments
{
	KeptValue	argument[2];
} KeptArguments;

/*
 * Take the locks that reading from a TOAST relation takes, and keep them to
 * the end of the transaction, as those of the table and its indexes are.
 * Each value's fetch then finds them held, which saves a tenth of its instructions.
 * Where they are given up before, with a subtransaction, nothing is lost but
 * that: each fetch takes its own.
 */
static void
lock_toast(KeptValue *kept, Oid relid)
{
	Relation	toast = table_open(relid, AccessShareLock);
	List	   *indexes = RelationGetIndexList(toast);
	ListCell   *cell;

	foreach(cell, indexes)
		LockRelationOid(lfirst_oid(cell), AccessShareLock);
	list_free(indexes);
	table_close(toast, NoLock);
	kept->locked = relid;
}

struct varlena *
vector_detoast_argument(FunctionCallInfo fcinfo, int n)
{
	struct varlena *datum = (struct varlena *) PG_GETARG_POINTER(n);
	FmgrInfo   *function = fcinfo->flinfo;
	struct varatt_external pointer;
	KeptArguments *kept;
	KeptValue  *mine;
	struct varlena *value;

	if (!VARATT_IS_EXTERNAL_ONDISK(datum) || function == NULL)
		return detoast_attr(datum);

	kept = (KeptArguments *) function->fn_extra;
	if (kept == NULL)
		function->fn_extra = kept = MemoryContextAllocZero(function->fn_mcxt, sizeof(KeptArguments));
	mine = &kept->argument[n];

	VARATT_EXTERNAL_GET_POINTER(pointer, datum);
	if (pointer.va_toastrelid != mine->locked)
		lock_toast(mine, pointer.va_toastrelid);
	if (memcmp(&pointer, &mine->pointer, sizeof(pointer)) != 0)
	{
		if (mine->value != NULL)
			pfree(mine->value);
		mine->value = NULL;
		mine->pointer = pointer;
		return detoast_attr(datum);
	}
	if (mine->value == NULL)
	{
		value = detoast_attr(datum);
		mine->value = (struct varlena *) MemoryContextAlloc(function->fn_mcxt, VARSIZE(value));
		memcpy(mine->value, value, VARSIZE(value));
		pfree(value);
	}
	return mine->value;
}

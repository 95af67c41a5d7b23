/*
 * detoast.c
 *		Reading values stored out of line, once per query where one side of a distance stays the same.
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
#include "utils/memutils.h"
#include "vector/detoast.h"

typedef struct KeptValue
{
	struct varatt_external pointer; /* all zero while there is none */
	struct varlena *value;			/* in the function's context; NULL when seen once only */
} KeptValue;

typedef struct KeptArguments
{
	KeptValue	argument[2];
} KeptArguments;

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

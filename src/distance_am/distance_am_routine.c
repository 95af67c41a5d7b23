/*
 * distance_am_routine.c
 *		The table of an access method that answers ORDER BY distance and nothing else.
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "distance_am/distance_am.h"

/*
 * The traits; the caller adds the functions.  What is not named here is false,
 * invalid or absent: such an index is not unique, not clusterable, keeps no
 * other columns, has no order among its keys and stores no NULLs, and its one
 * column need not stand in the query's conditions.
 */
IndexAmRoutine *
distance_am_routine(int nprocs)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	am->amsupport = nprocs;
	am->amcanorderbyop = true;
	am->amoptionalkey = true;
	am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
	compat_am_can_build_parallel(am);
	return am;
}

/*
 * ivfflat_handler.c
 *		The table of the access method's functions.
 */
#include "postgres.h"

#include "base/compat.h"
#include "commands/progress.h"
#include "commands/vacuum.h"
#include "ivfflat/ivfflat.h"

static char *
phase_name(int64 phase)
{
	switch (phase)
	{
		case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
			return "initializing";
		case IVFFLAT_PHASE_KMEANS:
			return "performing k-means";
		case IVFFLAT_PHASE_ASSIGN:
			return "assigning tuples";
		case IVFFLAT_PHASE_LOAD:
			return "loading tuples";
		default:
			return NULL;
	}
}

PG_FUNCTION_INFO_V1(ivfflathandler);
Datum
ivfflathandler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	am->amstrategies = 0;
	am->amsupport = IVFFLAT_PROCS;
	am->amoptsprocnum = 0;
	am->amcanorder = false;
	am->amcanorderbyop = true;
	am->amcanbackward = false;
	am->amcanunique = false;
	am->amcanmulticol = false;
	am->amoptionalkey = true;
	am->amsearcharray = false;
	am->amsearchnulls = false;
	am->amstorage = false;
	am->amclusterable = false;
	am->ampredlocks = false;
	am->amcanparallel = false;
	compat_am_can_build_parallel(am);
	am->amcaninclude = false;
	am->amusemaintenanceworkmem = false;
	am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
	am->amkeytype = InvalidOid;

	am->ambuild = ivfflat_build;
	am->ambuildempty = ivfflat_buildempty;
	am->aminsert = ivfflat_insert;
	am->ambulkdelete = ivfflat_bulkdelete;
	am->amvacuumcleanup = ivfflat_vacuumcleanup;
	am->amcanreturn = NULL;
	am->amcostestimate = ivfflat_costestimate;
	am->amoptions = ivfflat_options;
	am->amproperty = NULL;
	am->ambuildphasename = phase_name;
	am->amvalidate = ivfflat_validate;
	am->amadjustmembers = NULL;
	am->ambeginscan = ivfflat_beginscan;
	am->amrescan = ivfflat_rescan;
	am->amgettuple = ivfflat_gettuple;
	am->amgetbitmap = NULL;
	am->amendscan = ivfflat_endscan;
	am->ammarkpos = NULL;
	am->amrestrpos = NULL;
	am->amestimateparallelscan = NULL;
	am->aminitparallelscan = NULL;
	am->amparallelrescan = NULL;
	PG_RETURN_POINTER(am);
}

/* Operator classes name these so that their catalogue entries stay what clients know; nothing calls them. */
#define TYPE_SUPPORT(name) \
	PG_FUNCTION_INFO_V1(name); \
	Datum name(PG_FUNCTION_ARGS) { PG_RETURN_POINTER(NULL); } \
	extern Datum name(PG_FUNCTION_ARGS)

TYPE_SUPPORT(ivfflat_halfvec_support);
TYPE_SUPPORT(ivfflat_bit_support);

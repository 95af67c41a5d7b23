/*
 * ivfflat_handler.c
 *		The table of the access method's functions.
 */
#include "postgres.h"

#include "commands/progress.h"
#include "distance_am/distance_am.h"
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

/* By number, from 1. */
static const DistanceAmProc support[] = {
	[IVFFLAT_DISTANCE_PROC - 1] = DISTANCE_AM_DISTANCE,
	[IVFFLAT_NORM_PROC - 1] = DISTANCE_AM_NORM,
	[IVFFLAT_KMEANS_DISTANCE_PROC - 1] = DISTANCE_AM_DISTANCE,
	[IVFFLAT_KMEANS_NORM_PROC - 1] = DISTANCE_AM_NORM,
	[IVFFLAT_TYPE_PROC - 1] = DISTANCE_AM_NAME,
};

static bool
validate(Oid opclass)
{
	return distance_am_validate(opclass, "ivfflat", support, lengthof(support));
}

PG_FUNCTION_INFO_V1(ivfflathandler);
Datum
ivfflathandler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = distance_am_routine(lengthof(support));

	am->ambuild = ivfflat_build;
	am->ambuildempty = ivfflat_buildempty;
	am->aminsert = ivfflat_insert;
	am->ambulkdelete = ivfflat_bulkdelete;
	am->amvacuumcleanup = ivfflat_vacuumcleanup;
	am->amcostestimate = ivfflat_costestimate;
	am->amoptions = ivfflat_options;
	am->ambuildphasename = phase_name;
	am->amvalidate = validate;
	am->ambeginscan = ivfflat_beginscan;
	am->amrescan = ivfflat_rescan;
	am->amgettuple = ivfflat_gettuple;
	am->amendscan = ivfflat_endscan;
	PG_RETURN_POINTER(am);
}

DISTANCE_AM_NAME_FUNCTION(ivfflat_halfvec_support);
DISTANCE_AM_NAME_FUNCTION(ivfflat_bit_support);

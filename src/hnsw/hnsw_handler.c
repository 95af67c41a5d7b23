/*
 * hnsw_handler.c
 *		The table of the access method's functions.
 */
#include "postgres.h"

#include "commands/progress.h"
#include "distance_am/distance_am.h"
#include "hnsw/hnsw.h"

static char *
phase_name(int64 phase)
{
	switch (phase)
	{
		case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
			return "initializing";
		case HNSW_PHASE_LOAD:
			return "loading tuples";
		case HNSW_PHASE_WRITE:
			return "writing pages";
		default:
			return NULL;
	}
}

/* By number, from 1. */
static const DistanceAmProc support[] = {DISTANCE_AM_DISTANCE, DISTANCE_AM_NORM, DISTANCE_AM_NAME};

static bool
validate(Oid opclass)
{
	return distance_am_validate(opclass, "hnsw", support, lengthof(support));
}

PG_FUNCTION_INFO_V1(hnswhandler);
Datum
hnswhandler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = distance_am_routine(lengthof(support));

	am->ambuild = hnsw_build;
	am->ambuildempty = hnsw_buildempty;
	am->aminsert = hnsw_insert;
	am->ambulkdelete = hnsw_bulkdelete;
	am->amvacuumcleanup = hnsw_vacuumcleanup;
	am->amcostestimate = hnsw_costestimate;
	am->amoptions = hnsw_options;
	am->ambuildphasename = phase_name;
	am->amvalidate = validate;
	am->ambeginscan = hnsw_beginscan;
	am->amrescan = hnsw_rescan;
	am->amgettuple = hnsw_gettuple;
	am->amendscan = hnsw_endscan;
	PG_RETURN_POINTER(am);
}

DISTANCE_AM_NAME_FUNCTION(hnsw_halfvec_support);
DISTANCE_AM_NAME_FUNCTION(hnsw_bit_support);
DISTANCE_AM_NAME_FUNCTION(hnsw_sparsevec_support);

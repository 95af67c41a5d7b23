/*
 * distance_am.h
 *		What access methods have in common whose one service is ORDER BY distance.
 *
 * An operator class of such a method has one ordering operator and support
 * functions of three kinds, told apart by number.
 */
#ifndef DISTANCE_AM_H
#define DISTANCE_AM_H

#include "base/compat.h"

#include "access/amapi.h"
#include "access/tableam.h"
#include "utils/relcache.h"

/* What a support function is called with; its first, number 1, is always a distance. */
typedef enum DistanceAmProc
{
	DISTANCE_AM_DISTANCE,		/* (type, type) returns float8 */
	DISTANCE_AM_NORM,			/* (type) returns float8 */
	DISTANCE_AM_NAME			/* (internal) returns internal: never called, names the type */
} DistanceAmProc;

extern IndexAmRoutine *distance_am_routine(int nprocs);
extern bool distance_am_validate(Oid opclass, const char *am, const DistanceAmProc *procs, int nprocs);
extern void distance_am_test_fetched(IndexFetchTableData *fetch, Snapshot snapshot);

/* Operator classes name such functions so that their catalogue entries stay what clients know. */
#define DISTANCE_AM_NAME_FUNCTION(name) \
	PG_FUNCTION_INFO_V1(name); \
	Datum name(PG_FUNCTION_ARGS) { PG_RETURN_POINTER(NULL); } \
	extern Datum name(PG_FUNCTION_ARGS)

#endif							/* DISTANCE_AM_H */

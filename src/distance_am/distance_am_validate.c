/*
 * distance_am_validate.c
 *		Whether an operator class has what the access method needs.
 */
#include "postgres.h"

#include "access/amvalidate.h"
#include "access/htup_details.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "distance_am/distance_am.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* The operator class under examination. */
typedef struct Examination
{
	const char *am;
	const char *name;
	Oid			family;
	Oid			type;
	bool		sound;
} Examination;

static void
complain(Examination *exam, const char *what)
{
	exam->sound = false;
	ereport(INFO,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("operator class \"%s\" of access method %s %s", exam->name, exam->am, what)));
}

static bool
has_signature(Oid function, DistanceAmProc proc, Oid type)
{
	switch (proc)
	{
		case DISTANCE_AM_DISTANCE:
			return check_amproc_signature(function, FLOAT8OID, false, 2, 2, type, type);
		case DISTANCE_AM_NORM:
			return check_amproc_signature(function, FLOAT8OID, false, 1, 1, type);
		case DISTANCE_AM_NAME:
			return check_amproc_signature(function, INTERNALOID, true, 1, 1, INTERNALOID);
	}
	return false;
}

static void
validate_procedures(Examination *exam, const DistanceAmProc *procs, int nprocs)
{
	CatCList   *list = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(exam->family));
	bool		has_distance = false;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_amproc proc = (Form_pg_amproc) GETSTRUCT(&list->members[i]->tuple);

		if (proc->amproclefttype != exam->type || proc->amprocrighttype != exam->type)
			continue;
		if (proc->amprocnum < 1 || proc->amprocnum > nprocs ||
			!has_signature(proc->amproc, procs[proc->amprocnum - 1], exam->type))
			complain(exam, "has a support function with a wrong number or signature");
		if (proc->amprocnum == 1)
			has_distance = true;
	}
	ReleaseCatCacheList(list);
	if (!has_distance)
		complain(exam, "lacks the distance function");
}

static void
validate_operators(Examination *exam)
{
	CatCList   *list = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(exam->family));
	bool		has_order = false;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_amop op = (Form_pg_amop) GETSTRUCT(&list->members[i]->tuple);

		if (op->amoplefttype != exam->type || op->amoprighttype != exam->type)
			continue;
		if (op->amopstrategy != 1 || op->amoppurpose != AMOP_ORDER ||
			!check_amop_signature(op->amopopr, FLOAT8OID, exam->type, exam->type) ||
			!opfamily_can_sort_type(op->amopsortfamily, FLOAT8OID))
			complain(exam, "has an operator that is not a distance to order by");
		else
			has_order = true;
	}
	ReleaseCatCacheList(list);
	if (!has_order)
		complain(exam, "lacks the operator to order by");
}

/* procs tells the kind of each support function, the first being number 1. */
bool
distance_am_validate(Oid opclass, const char *am, const DistanceAmProc *procs, int nprocs)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Form_pg_opclass form;
	Examination exam;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclass);
	form = (Form_pg_opclass) GETSTRUCT(tuple);
	exam = (Examination) {am, NameStr(form->opcname), form->opcfamily, form->opcintype, true};
	validate_procedures(&exam, procs, nprocs);
	validate_operators(&exam);
	ReleaseSysCache(tuple);
	return exam.sound;
}

/*
 * ivfflat_validate.c
 *		Whether an operator class has what the access method needs.
 */
#include "postgres.h"

#include "access/amvalidate.h"
#include "access/htup_details.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "ivfflat/ivfflat.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static bool
procedure_is_sound(Form_pg_amproc proc)
{
	switch (proc->amprocnum)
	{
		case IVFFLAT_DISTANCE_PROC:
		case IVFFLAT_KMEANS_DISTANCE_PROC:
			return check_amproc_signature(proc->amproc, FLOAT8OID, false, 2, 2,
										  proc->amproclefttype, proc->amproclefttype);
		case IVFFLAT_NORM_PROC:
		case IVFFLAT_KMEANS_NORM_PROC:
			return check_amproc_signature(proc->amproc, FLOAT8OID, false, 1, 1, proc->amproclefttype);
		case IVFFLAT_TYPE_PROC:
			return check_amproc_signature(proc->amproc, INTERNALOID, true, 1, 1, INTERNALOID);
		default:
			return false;
	}
}

static void
complain(bool *sound, const char *opclass, const char *what)
{
	*sound = false;
	ereport(INFO,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("operator class \"%s\" of access method ivfflat %s", opclass, what)));
}

static void
validate_procedures(Oid family, Oid type, const char *name, bool *sound)
{
	CatCList   *list = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(family));
	bool		has_distance = false;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_amproc proc = (Form_pg_amproc) GETSTRUCT(&list->members[i]->tuple);

		if (proc->amproclefttype != type || proc->amprocrighttype != type)
			continue;
		if (!procedure_is_sound(proc))
			complain(sound, name, "has a support function with a wrong number or signature");
		if (proc->amprocnum == IVFFLAT_DISTANCE_PROC)
			has_distance = true;
	}
	ReleaseCatCacheList(list);
	if (!has_distance)
		complain(sound, name, "lacks the distance function");
}

static void
validate_operators(Oid family, Oid type, const char *name, bool *sound)
{
	CatCList   *list = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(family));
	bool		has_order = false;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_amop op = (Form_pg_amop) GETSTRUCT(&list->members[i]->tuple);

		if (op->amoplefttype != type || op->amoprighttype != type)
			continue;
		if (op->amopstrategy != 1 || op->amoppurpose != AMOP_ORDER ||
			!check_amop_signature(op->amopopr, FLOAT8OID, type, type) ||
			!opfamily_can_sort_type(op->amopsortfamily, FLOAT8OID))
			complain(sound, name, "has an operator that is not a distance to order by");
		else
			has_order = true;
	}
	ReleaseCatCacheList(list);
	if (!has_order)
		complain(sound, name, "lacks the operator to order by");
}

bool
ivfflat_validate(Oid opclass)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Form_pg_opclass form;
	bool		sound = true;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclass);
	form = (Form_pg_opclass) GETSTRUCT(tuple);
	validate_procedures(form->opcfamily, form->opcintype, NameStr(form->opcname), &sound);
	validate_operators(form->opcfamily, form->opcintype, NameStr(form->opcname), &sound);
	ReleaseSysCache(tuple);
	return sound;
}

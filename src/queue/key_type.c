/*
 * key_type.c
 *		Which types a key can have.
 *
 * Rows are known by the texts of their keys: in the queue, by their digests,
 * among the dead letters.  So a value must have one text, in all sessions and
 * at all times.  Most types whose text depends on settings are written by
 * settings of our own (queue_key_string), which does not do for those that
 * look things up by their names, nor for money, whose settings the texts of
 * rows need as they are.
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "queue/catalog.h"

/* A type, in this one or what it is made of, whose texts change; or InvalidOid. */
static Oid
changing_type(Oid type)
{
	Oid			found = InvalidOid;
	TupleDesc	desc;

	check_stack_depth();
	type = getBaseType(type);
	switch (type)
	{
		case MONEYOID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGNAMESPACEOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGROLEOID:
		case REGTYPEOID:
			return type;
		default:
			break;
	}
	if (OidIsValid(get_element_type(type)))
		return changing_type(get_element_type(type));
	switch (get_typtype(type))
	{
		case TYPTYPE_RANGE:
			return changing_type(get_range_subtype(type));
		case TYPTYPE_MULTIRANGE:
			return changing_type(get_multirange_range(type));
		case TYPTYPE_COMPOSITE:
			desc = lookup_rowtype_tupdesc(type, -1);
			for (int i = 0; i < desc->natts && !OidIsValid(found); i++)
				if (!TupleDescAttr(desc, i)->attisdropped)
					found = changing_type(TupleDescAttr(desc, i)->atttypid);
			ReleaseTupleDesc(desc);
			return found;
		default:
			return InvalidOid;
	}
}

void
catalog_check_key_types(Oid source, CatalogKeyColumn *keys, int nkeys)
{
	for (int i = 0; i < nkeys; i++)
	{
		Oid			type = changing_type(keys[i].type);

		if (OidIsValid(type))
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("column \"%s\" of the primary key of table \"%s\" cannot be followed",
						   keys[i].name, get_rel_name(source)),
					errdetail("Rows are known by the text of their key, and that of a value of type %s is "
							  "not always the same.", format_type_be(type)),
					errhint("Give the column another type, as numeric or oid."));
	}
}

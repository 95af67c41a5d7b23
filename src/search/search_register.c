/*
 * search_register.c
 *		The privileged part of preparing a vectorizer for text and namespaces.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "queue/catalog.h"

PG_FUNCTION_INFO_V1(search_register);

/*
 * vecsync._set_search(id int, search_view regclass, text_config regconfig):
 * only the owner of both the vectorizer's table and the view.
 */
Datum
search_register(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	Oid			types[3] = {INT4OID, REGCLASSOID, REGCONFIGOID};
	Datum		values[3];
	char		nulls[3];
	bool		isnull = true;
	Oid			source = InvalidOid;

	for (int i = 0; i < 3; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("id and search_view must not be null"));
	catalog_enter(&scope);
	if (SPI_execute_with_args("SELECT source FROM vecsync.vectorizer WHERE id = $1", 1, types, values,
							  nulls, true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
		source = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	catalog_leave(&scope);
	if (!OidIsValid(source) || !compat_relation_owned(source, GetUserId()) ||
		get_rel_relkind(PG_GETARG_OID(1)) != RELKIND_VIEW ||
		!compat_relation_owned(PG_GETARG_OID(1), GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, OidIsValid(source) ? get_rel_name(source) : "?");
	catalog_enter(&scope);
	if (SPI_execute_with_args(
			"UPDATE vecsync.vectorizer SET search_view = $2, text_config = $3::pg_catalog.text"
			" WHERE id = $1", 3, types, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write vecsync.vectorizer");
	catalog_leave(&scope);
	PG_RETURN_VOID();
}

/*
 * chunk_sql.c
 *		vecsync.chunk: the pieces of a text, as a vectorizer would make them.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/chunk_options.h"

PG_FUNCTION_INFO_V1(chunk_sql);
PG_FUNCTION_INFO_V1(chunk_check);

/* vecsync.chunk(input text, method text, size int, overlap int) -> (seq int, chunk text) */
Datum
chunk_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ChunkOptions options;
	char	  **pieces;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	if (PG_ARGISNULL(1) || PG_ARGISNULL(3) || (!PG_ARGISNULL(2) && PG_GETARG_INT32(2) < 1))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid method, size or overlap"));
	options = chunk_options(text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2),
							PG_GETARG_INT32(3));
	pieces = chunk_text(text_to_cstring(PG_GETARG_TEXT_PP(0)), &options, &n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {Int32GetDatum(i), CStringGetTextDatum(pieces[i])};
		bool		nulls[2] = {false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* vecsync._check_chunking(chunking jsonb): an error unless it can be used */
Datum
chunk_check(PG_FUNCTION_ARGS)
{
	chunk_options_check(PG_GETARG_JSONB_P(0));
	PG_RETURN_VOID();
}

/*
 * model_check.c
 *		The parameters of a model, judged when they are given and not when a request is made of them.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "http/embedding.h"
#include "http/http_json.h"

PG_FUNCTION_INFO_V1(model_check_parameters);

/* vecsync._check_parameters(what text, parameters jsonb, embedding boolean) */
Datum
model_check_parameters(PG_FUNCTION_ARGS)
{
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *parameters = PG_GETARG_JSONB_P(1);
	char	   *json = JsonbToCString(NULL, &parameters->root, VARSIZE(parameters));
	JsonMember	headers;

	if (PG_GETARG_BOOL(2))
		embedding_check_parameters(json, what);
	else if (http_json_find((const char *const *) &json, 1, "headers", &headers))
		http_check_headers(pnstrdup(headers.value, headers.value_len));
	PG_RETURN_VOID();
}

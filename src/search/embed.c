/*
 * embed.c
 *		vecsync.embed: vectors of query texts, made while a session waits.
 *
 * A session keeps its connections to services, and the vectors of the last
 * texts: a STABLE function in ORDER BY may be called once for each row of a
 * sequential scan, and must not be a request each time.  Behind that is the
 * cache that all sessions share.  Both are forgotten when models change, and
 * what a transaction asked of a model as it was before goes into neither.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "http/embedding.h"
#include "http/http_url.h"
#include "http/rerank.h"
#include "queue/catalog.h"
#include "queue/queue.h"
#include "search/embed.h"
#include "worker/worker.h"

#define CACHE_ENTRIES		64
#define CACHE_TEXT_BYTES	8192	/* longer texts are not kept */
#define EMBED_BATCH			128		/* texts in one request of the array form */

PG_FUNCTION_INFO_V1(embed_text);
PG_FUNCTION_INFO_V1(embed_texts);
PG_FUNCTION_INFO_V1(embed_for_vectorizer);
PG_FUNCTION_INFO_V1(embed_check_model);
PG_FUNCTION_INFO_V1(embed_check_model_secret);
PG_FUNCTION_INFO_V1(embed_registrar);
PG_FUNCTION_INFO_V1(embed_probe_dimensions);
PG_FUNCTION_INFO_V1(vectorizer_vector_type);

typedef struct CacheEntry
{
	dlist_node	node;			/* most recent first */
	MemoryContext context;
	uint32		hash;
	char	   *model;
	char	   *text;
	bool		query;
	float	   *values;
	int			dimensions;
} CacheEntry;

static HttpClient *client = NULL;
static dlist_head cache = DLIST_STATIC_INIT(cache);
static int	cache_entries = 0;
static uint64 cache_generation = 0;

/* The type is looked up again only when the one known is gone. */
VectorType *
embed_vector_type(void)
{
	static VectorType vector;
	Oid			type;

	if (OidIsValid(vector.type) && SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(vector.type)))
		return &vector;
	type = catalog_vector_type();
	if (!OidIsValid(type))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("type \"vector\" does not exist"));
	if (vector.type != type)
		vector_type_init(&vector, type, TopMemoryContext);
	return &vector;
}

Datum
vectorizer_vector_type(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(embed_vector_type()->type);
}

/* ---- asking the service ---------------------------------------------------------- */

static int
outcome_sqlstate(HttpOutcome outcome)
{
	switch (outcome)
	{
		case HTTP_RETRY:
			return ERRCODE_CONNECTION_FAILURE;
		case HTTP_THROTTLED:
			return ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
		case HTTP_REJECTED:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case HTTP_GARBAGE:
			return ERRCODE_EXTERNAL_ROUTINE_EXCEPTION;
		default:
			return ERRCODE_CONNECTION_EXCEPTION;
	}
}

/* Where and within which limits a model is asked while a session waits.  A missing key is an error. */
HttpTarget
embed_target(CatalogModel *def)
{
	HttpTarget	target = {
		.url = def->url, .secret = def->secret, .ca_file = worker_ca_file[0] ? worker_ca_file : NULL,
		.proxy = worker_proxy[0] ? worker_proxy : NULL,
		.private_addresses = def->private_addresses, .timeout_ms = Min(def->timeout_ms, worker_query_timeout),
		.connect_timeout_ms = Min(worker_connect_timeout, worker_query_timeout),
		.max_response_bytes = worker_max_response_bytes
	};

	worker_guard_secret(def, CurrentMemoryContext);
	target.secret = def->secret;
	if (def->secret_error != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				errmsg("the key of model \"%s\" is missing", def->name),
				errdetail_internal("%s", def->secret_error),
				errhint("Set it with vecsync.set_secret(), or name another with vecsync.alter_model()."));
	return target;
}

/* The session's connections. */
HttpClient *
embed_client(void)
{
	if (client == NULL)
		client = http_client_create(TopMemoryContext, 4);
	return client;
}

/*
 * Ask for the vectors of n texts, in the server's encoding.  The result
 * belongs to the call; free that.  Failure is an error.
 */
static EmbeddingCall *
ask(CatalogModel *def, const char **texts, int n, bool query)
{
	EmbeddingModel model = {
		.target = embed_target(def),
		.provider = def->provider, .model = def->model, .parameters = def->parameters,
		.document_parameters = def->document_parameters, .query_parameters = def->query_parameters,
		.dimensions = def->dimensions
	};
	const char **inputs = palloc(sizeof(char *) * n);
	EmbeddingCall *call;
	const EmbeddingResult *result;

	if (strcmp(def->kind, "embedding") != 0)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("model \"%s\" does not embed: its kind is %s", def->name, def->kind));
	for (int i = 0; i < n; i++)
		inputs[i] = pg_server_to_any(texts[i], strlen(texts[i]), PG_UTF8);

	call = embedding_submit(embed_client(), &model, inputs, n, query, NULL);
	embedding_wait(call, PG_WAIT_EXTENSION);
	result = embedding_result(call);
	if (result->http.outcome != HTTP_OK)
		ereport(ERROR,
				errcode(outcome_sqlstate(result->http.outcome)),
				errmsg("model \"%s\" gave no vector", def->name),
				errdetail_internal("%s", result->http.error));
	return call;
}

/* ---- the session's cache --------------------------------------------------------------- */

static void
cache_drop(CacheEntry *entry)
{
	dlist_delete(&entry->node);
	MemoryContextDelete(entry->context);
	cache_entries--;
}

static uint32
cache_hash(const char *model, const char *text)
{
	return hash_combine(string_hash(model, strlen(model) + 1),
						hash_bytes((const unsigned char *) text, strlen(text)));
}

static CacheEntry *
cache_find(const char *model, const char *text, bool query)
{
	uint64		generation = worker_config_generation();
	uint32		hash = cache_hash(model, text);
	dlist_iter	iter;

	/* nobody would tell us of changes when the library is not preloaded */
	if (generation != cache_generation || generation == 0)
		while (!dlist_is_empty(&cache))
			cache_drop(dlist_head_element(CacheEntry, node, &cache));
	cache_generation = generation;
	if (queue_config_changing())
		return NULL;			/* the entries are of the models as others see them */

	dlist_foreach(iter, &cache)
	{
		CacheEntry *entry = dlist_container(CacheEntry, node, iter.cur);

		if (entry->hash == hash && entry->query == query && strcmp(entry->model, model) == 0 &&
			strcmp(entry->text, text) == 0)
		{
			dlist_move_head(&cache, &entry->node);
			return entry;
		}
	}
	return NULL;
}

static void
cache_keep(const char *model, const char *text, bool query, const float *values, int dimensions)
{
	MemoryContext context;
	MemoryContext old;
	CacheEntry *entry;
	Size		size = sizeof(float) * dimensions;

	if (cache_generation == 0 || strlen(text) > CACHE_TEXT_BYTES)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "vecsync query vector", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	entry = palloc0(sizeof(CacheEntry));
	entry->context = context;
	entry->hash = cache_hash(model, text);
	entry->model = pstrdup(model);
	entry->text = pstrdup(text);
	entry->query = query;
	entry->dimensions = dimensions;
	entry->values = memcpy(palloc(size), values, size);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	dlist_push_head(&cache, &entry->node);
	if (++cache_entries > CACHE_ENTRIES)
		cache_drop(dlist_tail_element(CacheEntry, node, &cache));
}

/* ---- who may have what is kept ---------------------------------------------------------- */

/* Who may use a model: copies, as of a generation of the configuration. */
typedef struct KeptRights
{
	uint64		generation;		/* 0: none */
	MemoryContext context;
	CatalogModel model;			/* name, owner and users alone */
} KeptRights;

static KeptRights kept_rights[8];

static void
keep_rights(KeptRights *kept, const CatalogModel *model, uint64 generation)
{
	Size		size = sizeof(Oid) * model->nusers;

	kept->generation = 0;
	if (kept->context == NULL)
		kept->context = AllocSetContextCreate(TopMemoryContext, "vecsync rights on a model",
											  ALLOCSET_SMALL_SIZES);
	MemoryContextReset(kept->context);
	memset(&kept->model, 0, sizeof(CatalogModel));
	kept->model.name = MemoryContextStrdup(kept->context, model->name);
	kept->model.owner = model->owner;
	kept->model.nusers = model->nusers;
	kept->model.users = MemoryContextAlloc(kept->context, Max(size, 1));
	if (size > 0)
		memcpy(kept->model.users, model->users, size);
	kept->generation = generation;
}

/* Vectors are kept for all roles; the right to have them is the caller's own. */
static void
check_use(const char *name)
{
	uint64		generation = worker_config_generation();
	KeptRights *kept = &kept_rights[string_hash(name, strlen(name) + 1) % lengthof(kept_rights)];
	CatalogModel *model;

	if (generation != 0 && kept->generation == generation && strcmp(kept->model.name, name) == 0 &&
		!queue_config_changing())
	{
		catalog_check_model_use(&kept->model, GetUserId());
		return;
	}
	model = catalog_get_model(name, CurrentMemoryContext);
	if (catalog_model_is_current(name))
		keep_rights(kept, model, generation);
}

/* ---- SQL ------------------------------------------------------------------------------------ */

/* From the session's cache or that of all sessions. */
static bool
known_vector(const char *name, const char *text, bool query, Datum *value)
{
	CacheEntry *entry = cache_find(name, text, query);
	float	   *values;
	int			dimensions;

	if (entry != NULL)
	{
		check_use(name);
		worker_query_cache_count_hit();
		*value = vector_value_make(embed_vector_type(), entry->values, entry->dimensions);
		return true;
	}
	values = worker_query_cache_get(name, text, query, &dimensions);
	if (values == NULL)
		return false;
	check_use(name);
	cache_keep(name, text, query, values, dimensions);
	*value = vector_value_make(embed_vector_type(), values, dimensions);
	pfree(values);
	return true;
}

static Datum
embed(const char *name, const char *text, bool query)
{
	uint64		generation = worker_config_generation();
	EmbeddingCall *call;
	const EmbeddingResult *result;
	Datum		value;
	bool		current;

	if (known_vector(name, text, query, &value))
		return value;
	current = catalog_model_is_current(name);
	call = ask(catalog_get_model(name, CurrentMemoryContext), &text, 1, query);
	result = embedding_result(call);
	value = vector_value_make(embed_vector_type(), result->vectors, result->dimensions);
	if (current)
	{
		cache_keep(name, text, query, result->vectors, result->dimensions);
		worker_query_cache_put(name, text, query, generation, result->vectors, result->dimensions);
	}
	embedding_free(call);
	return value;
}

Datum
embed_query(const char *model, const char *text)
{
	return embed(model, text, true);
}

static bool
purpose_is_query(text *purpose)
{
	char	   *string = text_to_cstring(purpose);

	if (strcmp(string, "query") == 0)
		return true;
	if (strcmp(string, "document") != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown purpose \"%s\"", string),
				errhint("Purposes are query and document."));
	return false;
}

/* vecsync.embed(model text, input text, purpose text) -> vector */
Datum
embed_text(PG_FUNCTION_ARGS)
{
	return embed(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)),
				 purpose_is_query(PG_GETARG_TEXT_PP(2)));
}

/* The model of a vectorizer in the active snapshot, which is a new one.  Valid until the next call. */
static const char *
present_model(const char *vectorizer)
{
	static uint64 known_generation = 0;
	static char *known_name = NULL;
	static char *known_model = NULL;
	uint64		generation = worker_config_generation();
	char	   *model;

	if (generation != 0 && generation == known_generation && !queue_config_changing() &&
		strcmp(known_name, vectorizer) == 0)
		return known_model;
	model = catalog_get_vectorizer(vectorizer, CurrentMemoryContext)->model;
	if (queue_config_changing())
		return model;			/* it may be rolled back */
	known_generation = 0;
	if (known_name != NULL)
	{
		pfree(known_name);
		pfree(known_model);
		known_name = NULL;
	}
	known_model = MemoryContextStrdup(TopMemoryContext, model);
	known_name = MemoryContextStrdup(TopMemoryContext, vectorizer);
	known_generation = generation;
	return known_model;
}

/*
 * vecsync.embed_for(name text, input text) -> vector
 *
 * The query around us has taken the column's name as it is now, whatever its
 * snapshot: so the model is the vectorizer's present one.
 */
Datum
embed_for_vectorizer(PG_FUNCTION_ARGS)
{
	char	   *vectorizer = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *input = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid			catalog = get_relname_relid("vectorizer", get_namespace_oid("vecsync", false));
	Datum		value;

	PushActiveSnapshot(GetCatalogSnapshot(catalog));
	value = embed(present_model(vectorizer), input, true);
	PopActiveSnapshot();
	PG_RETURN_DATUM(value);
}

/* vecsync.embed(model text, inputs text[], purpose text) -> vector[]; NULL elements stay NULL */
Datum
embed_texts(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);
	bool		query = purpose_is_query(PG_GETARG_TEXT_PP(2));
	VectorType *vector = embed_vector_type();
	uint64		generation = worker_config_generation();
	CatalogModel *model;
	bool		keep;
	Datum	   *elems;
	bool	   *nulls;
	Datum	   *values;
	const char *texts[EMBED_BATCH];
	int			where[EMBED_BATCH];
	int			n;
	int			waiting = 0;
	int			limit;
	int			lbound = 1;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, errcode(ERRCODE_DATA_EXCEPTION), errmsg("array must be 1-D"));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(vector->type));
	model = catalog_get_model(name, CurrentMemoryContext);
	keep = query && catalog_model_is_current(name);
	limit = Min(EMBED_BATCH, model->max_batch);
	values = palloc0(sizeof(Datum) * n);
	for (int i = 0; i <= n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i < n && !nulls[i])
		{
			char	   *input = TextDatumGetCString(elems[i]);

			if (!known_vector(name, input, query, &values[i]))
			{
				where[waiting] = i;
				texts[waiting++] = input;
			}
		}
		if (waiting == limit || (i == n && waiting > 0))
		{
			EmbeddingCall *call = ask(model, texts, waiting, query);
			const EmbeddingResult *result = embedding_result(call);

			for (int j = 0; j < waiting; j++)
			{
				const float *v = result->vectors + (Size) j * result->dimensions;

				values[where[j]] = vector_value_make(vector, v, result->dimensions);
				if (keep)
					worker_query_cache_put(name, texts[j], query, generation, v, result->dimensions);
			}
			embedding_free(call);
			waiting = 0;
		}
	}
	PG_RETURN_ARRAYTYPE_P(
		construct_md_array(values, nulls, 1, &n, &lbound, vector->type, -1, false, TYPALIGN_INT));
}

/* NULL gives the empty string: the tables' constraints judge it. */
static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? pstrdup("") : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/*
 * Who calls the functions that change models.  These run as the extension's
 * owner, so it is the role outside of them; but when the server runs code of a
 * table's owner (an index's expression in ANALYZE, a content expression in the
 * worker), that is whoever it runs it for, a superuser perhaps.
 */
static Oid
registrar(void)
{
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("cannot change models or secrets within security-restricted operation"));
	return GetOuterUserId();
}

/*
 * vecsync._check_model(kind text, provider text, url text, secret text)
 *	-> (checked_url text, private_addresses boolean)
 *
 * Called by functions that run as the extension's owner: the caller is the
 * role outside of them.
 */
Datum
embed_check_model(PG_FUNCTION_ARGS)
{
	char	   *kind = text_argument(fcinfo, 0);
	char	   *provider = text_argument(fcinfo, 1);
	char	   *url = text_argument(fcinfo, 2);
	char	   *secret = text_argument(fcinfo, 3);
	bool		privileged = superuser_arg(registrar());
	HttpUrlVerdict verdict;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};

	if (strcmp(kind, "rerank") == 0 ? !rerank_provider_exists(provider) :
		strcmp(kind, "chat") == 0 ? strcmp(provider, "openai") != 0 : !embedding_provider_exists(provider))
		ereport(
			ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("unknown provider \"%s\" of models of kind %s", provider, kind),
			errhint("Providers are openai, ollama, tei and cohere for embedding; "
					"openai, cohere, jina and tei for rerank; openai for chat."));
	if (!privileged && (strncmp(secret, "env:", 4) == 0 || strncmp(secret, "file:", 5) == 0))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to use a secret of the server's environment or files"),
				errhint("Name one that vecsync.set_secret() has set."));
	verdict = http_url_check(url, worker_allowed_urls, privileged);
	if (!verdict.ok)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid URL of a model"),
				errdetail_internal("%s", verdict.problem));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(verdict.url);
	values[1] = BoolGetDatum(verdict.private_addresses);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* vecsync._check_model_secret(model text): may the key go to the URL?  There may be none yet. */
Datum
embed_check_model_secret(PG_FUNCTION_ARGS)
{
	CatalogModel *model = catalog_get_model(text_to_cstring(PG_GETARG_TEXT_PP(0)), CurrentMemoryContext);

	worker_guard_secret(model, CurrentMemoryContext);
	if (model->secret_denied)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to send the secret of model \"%s\" to its URL", model->name),
				errdetail_internal("%s", model->secret_error),
				errhint("Whoever set it can name the URL in vecsync.set_secret()."));
	PG_RETURN_VOID();
}

/* vecsync._registrar() -> regrole */
Datum
embed_registrar(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(registrar());
}

/* vecsync._probe_dimensions(model text) -> int: asks the service for one vector */
Datum
embed_probe_dimensions(PG_FUNCTION_ARGS)
{
	const char *probe = "dimensions";
	EmbeddingCall *call = ask(catalog_get_model(text_to_cstring(PG_GETARG_TEXT_PP(0)), CurrentMemoryContext),
							  &probe, 1, false);
	int			dimensions = embedding_result(call)->dimensions;

	embedding_free(call);
	PG_RETURN_INT32(dimensions);
}

/*
 * search_legs.c
 *		Running the statements of a search, and fusing what they find.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "search/embed.h"
#include "search/search.h"

#define RRF_CONSTANT 60.0
#define CHUNKS_PER_ROW 4		/* chunks to look at for each row wanted, at first */
#define TIES 100				/* rows at the distance of the last one, at most, before all are compared */
#define DEFAULT_EFFORT "40"	/* hnsw.ef_search, unless set */
#define FILTERED_EFFORT "64"
#define FILTERED_MORE_MIN 30	/* rows to ask an index for beyond those wanted, when there are conditions */
#define FILTERED_MORE_MAX 300

/* Larger is nearer; for cosine 1 is identical. */
double
search_score(const SearchMetric *metric, double distance)
{
	switch (metric->operator[1])
	{
		case '=':
			return 1 - distance;
		case '#':
			return -distance;
		default:
			return 1 / (1 + distance);
	}
}

/* In [0, 1], for fusion. */
static double
normalised(const SearchMetric *metric, double score)
{
	if (metric->operator[1] == '#')
		return 1 / (1 + exp(-score));
	return Min(Max(score, 0), 1);
}

/* ---- legs ----------------------------------------------------------------------------- */

static Datum
keep(Datum value, bool isnull, MemoryContext context)
{
	MemoryContext old;

	if (isnull)
		return (Datum) 0;
	old = MemoryContextSwitchTo(context);
	value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	MemoryContextSwitchTo(old);
	return value;
}

/* The rows of the last statement: see begin_statement in search_sql.c. */
static SearchRows
collect(MemoryContext context)
{
	SPITupleTable *table = SPI_tuptable;
	SearchRows	result = {0};

	result.rows = MemoryContextAllocZero(context, sizeof(SearchRow) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SearchRow  *row = &result.rows[result.count];
		Datum		values[7];
		bool		nulls[7];

		for (int c = 0; c < 7; c++)
			values[c] = SPI_getbinval(table->vals[i], table->tupdesc, c + 1, &nulls[c]);
		row->score = DatumGetFloat8(values[1]);
		if (isnan(row->score))
			continue;			/* a vector without direction, under cosine */
		row->key = DatumGetJsonbP(keep(values[0], nulls[0], context));
		row->metadata = keep(values[2], nulls[2], context);
		row->values = keep(values[3], nulls[3], context);
		if (!nulls[4])
			row->content = MemoryContextStrdup(context, TextDatumGetCString(values[4]));
		row->chunk_seq = nulls[5] ? -1 : DatumGetInt32(values[5]);
		if (!nulls[6])
			row->chunk = MemoryContextStrdup(context, TextDatumGetCString(values[6]));
		row->rank = ++result.count;
	}
	SPI_freetuptable(table);
	return result;
}

typedef struct FusedKey
{
	Jsonb	   *key;
	int			index;
} FusedKey;

static uint32
key_hash(const void *entry, Size size)
{
	Jsonb	   *key = *(Jsonb *const *) entry;

	return hash_bytes((const unsigned char *) key, VARSIZE(key));
}

static int
key_compare(const void *a, const void *b, Size size)
{
	Jsonb	   *left = *(Jsonb *const *) a;
	Jsonb	   *right = *(Jsonb *const *) b;

	return VARSIZE(left) != VARSIZE(right) || memcmp(left, right, VARSIZE(left)) != 0;
}

static HTAB *
make_key_table(int size)
{
	HASHCTL		control = {.keysize = sizeof(Jsonb *), .entrysize = sizeof(FusedKey), .hash = key_hash,
						   .match = key_compare, .hcxt = CurrentMemoryContext};

	return hash_create("vecsync keys", size + 1, &control,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/* Of the chunks of one row, the first. */
static void
keep_best_chunks(SearchRows *rows)
{
	HTAB	   *keys = make_key_table(rows->count);
	int			n = 0;

	for (int i = 0; i < rows->count; i++)
	{
		bool		found;

		(void) hash_search(keys, &rows->rows[i].key, HASH_ENTER, &found);
		if (found)
			continue;
		rows->rows[n] = rows->rows[i];
		rows->rows[n].rank = n + 1;
		n++;
	}
	rows->count = n;
	hash_destroy(keys);
}

/*
 * Run the statement with a limit.  *enough: these are the nearest ones, and ties
 * at the end are settled.
 */
static SearchRows
run_vector(SearchSource *source, SearchRequest *request, int limit, bool exact, MemoryContext context,
		   bool *enough)
{
	SPIPlanPtr	plan = search_plan(search_vector_sql(source, request, limit, exact),
								   embed_vector_type()->type);
	int			top_k = request->top_k;
	uint64		found;
	double		farthest;
	SearchRows	rows;

	if (SPI_execute_plan(plan, &request->vector, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not search vectorizer \"%s\"", source->def->name);
	found = SPI_processed;
	rows = collect(context);
	farthest = rows.count > 0 ? rows.rows[rows.count - 1].score : 0;
	if (source->chunked && !request->ungrouped)
		keep_best_chunks(&rows);
	if (exact)
		*enough = true;
	else if (found < limit && (rows.count < top_k || limit > top_k + 1))
		*enough = !search_plan_uses_vector_index(plan);
	else if (rows.count < top_k)
		*enough = false;		/* more chunks than rows */
	else
		*enough = found < limit || rows.rows[top_k - 1].score != farthest;
	rows.count = Min(rows.count, top_k);
	return rows;
}

/* Set a variable of the vector extension in this nest level, where there is that variable. */
static void
set_if_known(const char *name, const char *value)
{
	(void) embed_vector_type(); /* loads the library that has it */
	if (GetConfigOption(name, true, false) != NULL)
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * LLVM takes a time that grows with the square of a long condition, cannot be canceled, and
 * gains little: what a search computes is in functions of the vector type.
 */
static void
do_without_jit(void)
{
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * For the statements that order by distance.  An index may give rows a little
 * out of order rather than hold them back: the statement sorts what it gets.  What
 * it gives goes on until there are enough.
 */
void
search_settings(void)
{
	do_without_jit();
	set_if_known("hnsw.iterative_scan", "relaxed_order");
	set_if_known("ivfflat.iterative_scan", "relaxed_order");
}

/*
 * How many candidates an hnsw index keeps.  A number other than the usual one
 * is somebody's choice, and stays.
 */
void
search_set_effort(const char *effort)
{
	const char *value;

	(void) embed_vector_type(); /* loads the library that has it */
	value = GetConfigOption("hnsw.ef_search", true, false);
	if (value != NULL && strcmp(value, DEFAULT_EFFORT) == 0 &&
		strcmp(GetConfigOptionResetString("hnsw.ef_search"), DEFAULT_EFFORT) == 0)
		set_if_known("hnsw.ef_search", effort);
}

/* Are there rows that are not to be found? */
bool
search_has_conditions(SearchSource *source, SearchRequest *request)
{
	return request->filter != NULL || request->namespace != NULL || list_length(request->exclude) > 1 ||
		check_enable_rls(source->def->source, InvalidOid, true) == RLS_ENABLED;
}

/*
 * How many rows to ask an index for.  It finds the nearest of all rows well,
 * but knows nothing of conditions: of those that satisfy them, the first few
 * that it meets are not always the nearest.  Among some more they are.
 */
static int
rows_to_ask(SearchSource *source, SearchRequest *request)
{
	if (source->chunked && !request->ungrouped)
		return request->top_k * CHUNKS_PER_ROW + TIES;
	if (!search_has_conditions(source, request))
		return request->top_k + 1;
	return request->top_k + Min(Max(3 * request->top_k, FILTERED_MORE_MIN), FILTERED_MORE_MAX);
}

/*
 * The nearest rows.  Rows at the same distance as the last one are looked at,
 * so that the key decides; an approximate index may end before it has found
 * enough, because of a filter or its own limits.  What a little more cannot
 * settle is settled by comparing all rows.
 */
SearchRows
search_vector_leg(SearchSource *source, SearchRequest *request, MemoryContext context)
{
	int			guc_level = NewGUCNestLevel();
	int			limit = rows_to_ask(source, request);
	bool		enough;
	SearchRows	rows;

	search_settings();
	if (limit > request->top_k + 1)
		search_set_effort(FILTERED_EFFORT);
	rows = run_vector(source, request, limit, false, context, &enough);
	if (!enough && limit == request->top_k + 1 && rows.count == request->top_k)
		rows = run_vector(source, request, request->top_k + TIES, false, context, &enough);
	if (!enough)
		rows = run_vector(source, request, request->top_k, true, context, &enough);
	AtEOXact_GUC(false, guc_level);
	for (int i = 0; i < rows.count; i++)
	{
		rows.rows[i].score = search_score(source->metric, rows.rows[i].score);
		rows.rows[i].vector_score = rows.rows[i].score;
		rows.rows[i].has_vector_score = true;
	}
	return rows;
}

/* The quoted schema of pg_trgm, or NULL when it is not installed. */
static char *
trigram_schema(void)
{
	Oid			extension = get_extension_oid("pg_trgm", true);
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *result = NULL;

	if (!OidIsValid(extension))
		return NULL;
	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		result = pstrdup(
			quote_identifier(get_namespace_name(((Form_pg_extension) GETSTRUCT(tuple))->extnamespace)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

SearchRows
search_text_leg(SearchSource *source, SearchRequest *request, int limit, MemoryContext context)
{
	SearchRows	rows;
	char	   *trgm = trigram_schema();
	int			guc_level = NewGUCNestLevel();

	if (source->words == NULL || source->text_config == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("vectorizer \"%s\" has no text search", source->def->name),
				errhint("Create it with text_config => 'simple' or another text search configuration."));
	do_without_jit();
	/* a query of nothing but stop words is no reason to speak */
	if (client_min_messages < WARNING)
		(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	if (trgm != NULL)
	{
		/* the setting exists once the library is loaded */
		(void) SPI_execute(psprintf("SELECT %s.show_limit()", trgm), true, 0);
		(void) set_config_option("pg_trgm.word_similarity_threshold", SEARCH_TRIGRAM_FLOOR,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
	if (SPI_execute(search_text_sql(source, request, limit, trgm), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not search the words of vectorizer \"%s\"", source->def->name);
	rows = collect(context);
	AtEOXact_GUC(false, guc_level);
	for (int i = 0; i < rows.count; i++)
	{
		rows.rows[i].text_score = rows.rows[i].score;
		rows.rows[i].has_text_score = true;
	}
	return rows;
}

/* ---- fusion -------------------------------------------------------------------------------- */

/*
 * The weight of the vectors when none is given.  A leg whose best row is no good
 * is likely to have found nothing: a misspelt word is far from everything, and
 * words that no text has leave texts that look a little like them.  The fourth
 * power makes the better one decide; 0.7, since what is unrelated still has
 * some cosine.  (test/bench/relevance.sh)
 */
static double
default_weight(SearchSource *source, SearchRequest *request, SearchRows vector, SearchRows text)
{
	double		v = vector.count > 0 ? normalised(source->metric, vector.rows[0].vector_score) : 0;
	double		t = text.count > 0 ? text.rows[0].text_score : 0;

	v = 0.7 * pow(v, 4);
	t = pow(t, 4);
	if (!request->weighted || v + t <= 0)
		return 0.5;
	return v / (v + t);
}

static double
fused_score(SearchRequest *request, double w, SearchRow *row, int vector_rank, int text_rank)
{
	if (request->weighted)
		return w * row->vector_score + (1 - w) * row->text_score;
	return (vector_rank > 0 ? 2 * w / (RRF_CONSTANT + vector_rank) : 0) +
		(text_rank > 0 ? 2 * (1 - w) / (RRF_CONSTANT + text_rank) : 0);
}

static int
by_score(const void *a, const void *b)
{
	const SearchRow *left = a;
	const SearchRow *right = b;

	if (left->score != right->score)
		return left->score > right->score ? -1 : 1;
	return compareJsonbContainers(&left->key->root, &right->key->root);
}

/*
 * One list of both: reciprocal ranks, or a weighted sum of scores in [0, 1].  What
 * a leg did not find has the score 0 there.
 */
SearchRows
search_fuse(SearchSource *source, SearchRequest *request, SearchRows vector, SearchRows text)
{
	HTAB	   *keys = make_key_table(vector.count + text.count);
	SearchRows	fused = {0};
	double		weight = request->vector_weight;

	if (weight < 0)
		weight = default_weight(source, request, vector, text);
	fused.rows = palloc0(sizeof(SearchRow) * Max(vector.count + text.count, 1));
	for (int i = 0; i < vector.count; i++)
	{
		SearchRow  *row = &fused.rows[fused.count];
		FusedKey   *entry = hash_search(keys, &vector.rows[i].key, HASH_ENTER, NULL);

		*row = vector.rows[i];
		row->vector_score = normalised(source->metric, row->vector_score);
		row->has_text_score = true;
		row->score = fused_score(request, weight, row, i + 1, 0);
		entry->index = fused.count++;
	}
	for (int i = 0; i < text.count; i++)
	{
		bool		found;
		FusedKey   *entry = hash_search(keys, &text.rows[i].key, HASH_ENTER, &found);
		SearchRow  *row = &fused.rows[found ? entry->index : fused.count];

		if (!found)
		{
			*row = text.rows[i];
			row->has_vector_score = true;
			row->rank = 0;
			entry->index = fused.count++;
		}
		row->text_score = text.rows[i].text_score;
		row->score = fused_score(request, weight, row, row->rank, i + 1);
	}
	hash_destroy(keys);
	qsort(fused.rows, fused.count, sizeof(SearchRow), by_score);
	return fused;
}

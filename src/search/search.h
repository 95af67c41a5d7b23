/*
 * search.h
 *		What the parts of a search share.
 */
#ifndef SEARCH_SEARCH_H
#define SEARCH_SEARCH_H

#include "postgres.h"

#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "queue/catalog.h"

#define SEARCH_MAX_ROWS 10000

/* Word similarity from which a text is like a query. */
#define SEARCH_TRIGRAM_FLOOR "0.35"

typedef struct SearchMetric
{
	const char *name;
	const char *operator;
} SearchMetric;

/*
 * A vectorizer as searches need it: pieces of SQL, quoted and qualified, over
 * the source as "s" and over a subquery of found rows as "r".  Kept by the
 * session until the catalog or the source changes.
 */
typedef struct SearchSource
{
	MemoryContext context;
	CatalogVectorizer *def;
	const SearchMetric *metric;
	int			nkeys;
	CatalogKeyColumn *keys;
	bool		chunked;		/* a row has many vectors, each of a piece of its text */
	char	   *from;			/* schema.table AS s; chunked: joined to its chunks AS c */
	char	   *rows;			/* schema.table AS s */
	char	   *vector;			/* s.embedding or c.embedding */
	char	   *row_vector;		/* one vector of a row: s.embedding, or the mean of its chunks' */
	char	   *row_group;		/* what row_vector needs behind WHERE */
	char	   *vector_schema;
	char	   *key_columns;	/* s.id AS k1, ... */
	char	   *key_order;		/* s.id, ... */
	char	   *key_json;		/* jsonb_build_object('id', r.k1, ...) */
	char	   *content;		/* (SELECT t.content FROM view AS t WHERE t.k1 = r.k1 ...) */
	char	   *namespace;		/* an expression over s, or NULL */
	Oid			namespace_type;
	char	   *words;			/* the text leg's expression over s, or NULL */
	char	   *text_config;	/* a regconfig literal, or NULL */
} SearchSource;

typedef enum SearchMetadata
{
	SEARCH_METADATA_NONE,
	SEARCH_METADATA_INDEXED,
	SEARCH_METADATA_ALL,
} SearchMetadata;

typedef struct SearchRequest
{
	const char *query;			/* text, or NULL */
	bool		has_vector;
	Datum		vector;
	int			top_k;
	bool		has_min_score;
	double		min_score;
	Jsonb	   *filter;			/* or NULL */
	const char *namespace;		/* or NULL */
	List	   *exclude;		/* of Jsonb *: keys */
	bool		hybrid;
	bool		text_only;
	bool		weighted;		/* fusion: else reciprocal ranks */
	double		vector_weight;	/* -1: by how good the best rows of both legs are */
	SearchMetadata metadata;
	bool		values;
	bool		content;		/* the rows' texts are needed */
	bool		ungrouped;		/* chunks, not the best one of each row */
} SearchRequest;

typedef struct SearchRow
{
	Jsonb	   *key;
	double		score;
	bool		has_vector_score;
	bool		has_text_score;
	bool		has_rerank_score;
	double		vector_score;
	double		text_score;
	double		rerank_score;
	char	   *content;		/* NULL: none or not asked */
	int			chunk_seq;		/* -1: none */
	char	   *chunk;
	Datum		metadata;		/* 0: none */
	Datum		values;
	int			rank;			/* in the leg that found it, from 1 */
} SearchRow;

typedef struct SearchRows
{
	int			count;
	SearchRow  *rows;
} SearchRows;

/* ---- search_source.c ---- */

/* Around each search; an error leaves it, too.  The current memory context must outlive the search. */
typedef struct SearchScope SearchScope;
extern SearchScope *search_enter(void);
extern void search_leave(SearchScope *scope);

/* Valid until the search is left. */
extern SearchSource *search_source(const char *name);

/* Inside SPI: the plan of a statement with one parameter, the vector; valid until the next call. */
extern SPIPlanPtr search_plan(const char *sql, Oid vector_type);
extern bool search_plan_uses_vector_index(SPIPlanPtr plan);

/* ---- search_sql.c ---- */
extern char *search_key_condition(SearchSource *source, Jsonb *key);
extern char *search_vector_sql(SearchSource *source, SearchRequest *request, int limit, bool exact);
extern char *
search_text_sql(SearchSource *source, SearchRequest *request, int limit, const char *trgm_schema);
extern void search_append_conditions(StringInfo sql, SearchSource *source, SearchRequest *request);

/* ---- search_legs.c: inside SPI; the rows live in 'context' ---- */
extern SearchRows search_vector_leg(SearchSource *source, SearchRequest *request, MemoryContext context);
extern bool search_has_conditions(SearchSource *source, SearchRequest *request);
extern void search_settings(void);
extern void search_set_effort(const char *effort);
extern SearchRows
search_text_leg(SearchSource *source, SearchRequest *request, int limit, MemoryContext context);
extern SearchRows
search_fuse(SearchSource *source, SearchRequest *request, SearchRows vector, SearchRows text);
extern double search_score(const SearchMetric *metric, double distance);

/* ---- search_rerank.c ---- */
extern void search_rerank(const char *model, const char *query, SearchRows *rows, bool failure_is_error);

#endif							/* SEARCH_SEARCH_H */

/*
 * catalog.h
 *		The extension's own tables, read and written as their owner.
 */
#ifndef QUEUE_CATALOG_H
#define QUEUE_CATALOG_H

#include "postgres.h"

#include "access/attnum.h"
#include "base/chunk.h"
#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"
#include "utils/relcache.h"

/* A stretch of code that runs SQL as the extension's owner with a fixed search_path. */
typedef struct CatalogScope
{
	Oid			save_userid;
	int			save_sec_context;
	int			guc_level;
} CatalogScope;

/*
 * Enter connects SPI, leave disconnects it.  When an error ends the stretch,
 * (sub)transaction abort restores everything.
 */
extern void catalog_enter(CatalogScope *scope);
extern void catalog_leave(CatalogScope *scope);

/* The same as the owner of a user's objects; left by catalog_leave, too. */
extern void catalog_enter_owner(CatalogScope *scope, Oid owner);

/* InvalidOid when the relation is gone. */
extern Oid	catalog_relation_owner(Oid relid);

/* The table of the vectorizer with that number; an error unless the caller owns it. */
extern Oid	catalog_check_owner(int vectorizer);

/* A row of vecsync.model.  Strings live in the context given; missing ones are NULL. */
typedef struct CatalogModel
{
	char	   *name;
	char	   *kind;
	char	   *provider;
	char	   *url;
	char	   *model;
	int			dimensions;		/* 0 = not known */
	char	   *secret;			/* the key itself: never show it */
	char	   *secret_error;	/* why there is no key, or NULL */
	bool		secret_denied;	/* because it is not the owner's to send */
	char	   *secret_urls;	/* comma-separated prefixes of where it may be sent, or NULL */
	char	   *parameters;		/* JSON objects */
	char	   *document_parameters;
	char	   *query_parameters;
	int			max_batch;
	int			max_batch_bytes;
	int			max_inflight;
	int			rate_limit;		/* requests a minute, 0 = none */
	int			token_limit;	/* tokens a minute, 0 = none */
	int			timeout_ms;
	bool		private_addresses;	/* the URL may lead to such */
	Oid			owner;
	Oid		   *users;			/* who may use it beside; InvalidOid is everyone */
	int			nusers;
} CatalogModel;

/* Read one model, or with a NULL name all of them.  Inside a catalog scope. */
extern CatalogModel *catalog_read_models(const char *name, int *count, MemoryContext context);

/* The same for one caller outside a scope; an unknown name, or one the caller may not use, is an error. */
extern CatalogModel *catalog_get_model(const char *name, MemoryContext context);

/* May a role use the model?  The second form reports an error. */
extern bool catalog_model_usable(const CatalogModel *model, Oid role);
extern void catalog_check_model_use(const CatalogModel *model, Oid role);

/* What sessions need of a vectorizer.  Unknown name: an error. */
typedef struct CatalogVectorizer
{
	int			id;
	char	   *name;
	Oid			source;
	char	   *model;
	Oid			content_view;	/* (k1, ..., kn, content, vector) of each row */
	char	   *target_column;	/* not quoted; NULL with a table of chunks */
	Oid			chunk_table;	/* (k1, ..., kn, chunk_seq, chunk, embedding), or InvalidOid */
	ChunkOptions chunking;
	char	   *metric;
	Oid			search_view;	/* (namespace, words) of each row, either may be missing; or InvalidOid */
	Oid			text_config;	/* of the words, or InvalidOid */
	bool		paused;
	int			generation;
	int			successor_of;	/* of the next generation: the serving one; else 0 */
	bool		auto_cutover;
	bool		pending_index;	/* to be made when its rows are there */
	bool		retired;		/* replaced: only read by transactions of before */
} CatalogVectorizer;

extern CatalogVectorizer *catalog_get_vectorizer(const char *name, MemoryContext context);
extern CatalogVectorizer *catalog_read_vectorizers(const char *name, int *count, MemoryContext context);

/* catalog_current.c: does the active snapshot show the row as it is now?  Read the generation first. */
extern bool catalog_model_is_current(const char *name);
extern bool catalog_vectorizer_is_current(const char *name);

/* The key columns of a table, in the order of its primary key. */
typedef struct CatalogKeyColumn
{
	AttrNumber	attnum;
	char	   *name;			/* not quoted */
	Oid			type;
	char	   *type_name;		/* quoted and qualified, with its modifier */
	char	   *equal;			/* OPERATOR(schema.=), the index's own equality */
	char	   *greater;		/* OPERATOR(schema.>) */
	char	   *greater_equal;
} CatalogKeyColumn;

/*
 * catalog_names.c: 'changed' is called when a name in SQL that the process keeps may be another one now: of
 * a schema, an operator, or a type that catalog_key_columns has named.  At any catalog access: it may only
 * take a note.
 */
extern void catalog_watch_names(void (*changed) (void));
extern void catalog_note_type_named(Oid type);

/* Returns NULL (and *nkeys = 0) for a table without a usable primary key. */
extern CatalogKeyColumn *catalog_key_columns(Oid relid, int *nkeys);

/* key_type.c: an error if values of one of these columns' types have not always the same text. */
extern void catalog_check_key_types(Oid source, CatalogKeyColumn *keys, int nkeys);

/* Are the content view's first columns just these?  True for one that is gone. */
extern bool catalog_view_shows_keys(Oid viewid, CatalogKeyColumn *keys, int nkeys);

/* An error unless the source has a primary key, and the one that the content view was made for. */
extern void catalog_check_keys(const CatalogVectorizer *v, CatalogKeyColumn *keys, int nkeys);

/* The condition that a row's key is behind another, as SQL; columns and values as they stand in the query. */
extern char *catalog_key_after(CatalogKeyColumn *keys, int nkeys, const char **columns, const char **values);

/*
 * The query of a view over one table, and the table's place in it; NULL for any other relation.  Owners
 * may define their views anew as they like.
 */
extern Query *catalog_simple_view(Relation view, int *rtindex);
extern char *catalog_target_column(Oid viewid, MemoryContext context);

/* Names for SQL text, quoted and qualified. */
extern char *catalog_relation_name(Oid relid);
extern char *catalog_operator_name(Oid oper);	/* NULL: there is none */

/* The vector type's schema, quoted; an error when the extension is missing. */
extern char *catalog_vector_schema(void);
extern Oid	catalog_vector_type(void);

/* The extension, if it is installed in this database and not being created or dropped; else InvalidOid. */
extern Oid	catalog_extension(void);

#endif							/* QUEUE_CATALOG_H */

/*
 * embed.h
 *		Vectors of query texts, made while a session waits.
 */
#ifndef SEARCH_EMBED_H
#define SEARCH_EMBED_H

#include "base/vector_value.h"
#include "http/http_call.h"
#include "queue/catalog.h"

/* The session's vector type, looked up once. */
extern VectorType *embed_vector_type(void);

/* The text's vector by that model, palloc'd; from the session's cache when it was asked lately. */
extern Datum embed_query(const char *model, const char *text);

/* Where and within which limits a model is asked; a missing key is an error. */
extern HttpTarget embed_target(CatalogModel *def);

/* The session's connections. */
extern HttpClient *embed_client(void);

#endif							/* SEARCH_EMBED_H */

/*
 * embed.h
 *		Vectors of query texts, made while a session waits.
 */
#ifndef SEARCH_EMBED_H
#define SEARCH_EMBED_H

#include "base/vector_value.h"

/* The session's vector type, looked up once. */
extern VectorType *embed_vector_type(void);

/* The text's vector by that model, palloc'd; from the session's cache when it was asked lately. */
extern Datum embed_query(const char *model, const char *text);

#endif							/* SEARCH_EMBED_H */

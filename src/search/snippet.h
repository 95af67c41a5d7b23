/*
 * snippet.h
 *		A short part of a text, around the words of a query.
 */
#ifndef SEARCH_SNIPPET_H
#define SEARCH_SNIPPET_H

#include "postgres.h"

/*
 * At most 'length' characters of the text and an ellipsis at each cut end,
 * palloc'd, in the server's encoding.  A query of NULL gives the beginning.
 */
extern char *snippet_make(const char *text, const char *query, int length);

#endif							/* SEARCH_SNIPPET_H */

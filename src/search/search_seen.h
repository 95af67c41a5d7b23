/*
 * search_seen.h
 *		A map from hashes of keys to numbers, in bounded memory.
 */
#ifndef SEARCH_SEARCH_SEEN_H
#define SEARCH_SEARCH_SEEN_H

#include "postgres.h"

typedef struct SearchSeen SearchSeen;

/* In the current memory context and resource owner; beyond 'memory' bytes it goes to a temporary file. */
extern SearchSeen *search_seen_create(Size memory);
extern void search_seen_free(SearchSeen *seen);

/* The hash's number, which is above 0; 0: not there. */
extern int search_seen_find(SearchSeen *seen, uint64 hash);

/* The hash must not be there yet. */
extern void search_seen_add(SearchSeen *seen, uint64 hash, int number);

#endif							/* SEARCH_SEARCH_SEEN_H */

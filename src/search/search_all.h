/*
 * search_all.h
 *		Few rows, or rows without an index: all against all.
 */
#ifndef SEARCH_SEARCH_ALL_H
#define SEARCH_SEARCH_ALL_H

#include "postgres.h"

#include "search/search.h"

typedef struct SearchAll SearchAll;

/* The answer: two rows that are near to each other, or a row, its cluster and its score. */
typedef void (*SearchAllPair) (void *arg, Jsonb *a, Jsonb *b, double score);
typedef void (*SearchAllMember) (void *arg, int cluster, Jsonb *key, double score);

/* How many rows may be compared with 'memory' bytes. */
extern int	search_all_max_rows(Size memory);

/* Within 'memory' bytes; what does not fit goes to a temporary file.  In the current memory context. */
extern SearchAll *search_all_begin(SearchSource *source, double threshold, Size memory);
extern void search_all_end(SearchAll *all);

/* The vectors come in the order of the keys, those of one row one after the other. */
extern void search_all_add(SearchAll *all, Jsonb *key, Datum vector);
extern int	search_all_count(SearchAll *all);

extern void search_all_pairs(SearchAll *all, SearchAllPair put, void *arg);
extern void search_all_clusters(SearchAll *all, SearchAllMember put, void *arg);

#endif							/* SEARCH_SEARCH_ALL_H */

/*
 * chunk_options.h
 *		How a vectorizer's texts are cut: read from JSON and judged.
 */
#ifndef BASE_CHUNK_OPTIONS_H
#define BASE_CHUNK_OPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "base/chunk.h"

/* Errors (22023) for unknown methods and impossible sizes.  size 0 or less: the method's default. */
extern ChunkOptions chunk_options(const char *method, int size, int overlap);

/* {"method": "words", "size": 512, "overlap": 0}; NULL is no chunking. */
extern ChunkOptions chunk_options_from_json(Jsonb *json);

/* For a new vectorizer: an error, too, when the chunks would have many copies of the text. */
extern void chunk_options_check(Jsonb *json);

#endif							/* BASE_CHUNK_OPTIONS_H */

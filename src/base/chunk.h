/*
 * chunk.h
 *		Splitting a document's text into pieces to embed.
 */
#ifndef BASE_CHUNK_H
#define BASE_CHUNK_H

#include "postgres.h"

#include "utils/jsonb.h"

typedef enum ChunkMethod
{
	CHUNK_NONE,					/* the text as it is */
	CHUNK_WORDS,				/* size words each, joined by one space */
	CHUNK_CHARACTERS,			/* size characters each */
	CHUNK_RECURSIVE,			/* at most size characters, cut at the best place */
} ChunkMethod;

typedef struct ChunkOptions
{
	ChunkMethod method;
	int			size;			/* words or characters */
	int			overlap;		/* of the next piece with the one before; less than size */
} ChunkOptions;

/* Errors (22023) for unknown methods and impossible sizes.  size 0 or less: the method's default. */
extern ChunkOptions chunk_options(const char *method, int size, int overlap);

/* {"method": "words", "size": 512, "overlap": 0}; NULL is no chunking. */
extern ChunkOptions chunk_options_from_json(Jsonb *json);

/*
 * The pieces of a text in the server's encoding, in order, none blank;
 * palloc'd.  A blank text has none.
 */
extern char **chunk_text(const char *text, const ChunkOptions *options, int *count);

#endif							/* BASE_CHUNK_H */

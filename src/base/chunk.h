/*
 * chunk.h
 *		Splitting a document's text into pieces to embed.
 *
 * Needs nothing of a backend but palloc, so that it can be tested and fuzzed in a
 * program of its own (compiled with FRONTEND; texts are UTF-8 then).
 */
#ifndef BASE_CHUNK_H
#define BASE_CHUNK_H

#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

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
	int			most;			/* pieces that are of use; 0: any number */
} ChunkOptions;

/*
 * The pieces of a text in the server's encoding, in order, none blank;
 * palloc'd.  A blank text has none.  Bytes that are no characters do no harm.
 * Of more than options->most, so many and one more are made.
 */
extern char **chunk_text(const char *text, const ChunkOptions *options, int *count);

#endif							/* BASE_CHUNK_H */

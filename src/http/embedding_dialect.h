/*
 * embedding_dialect.h
 *		The table of functions behind which the services differ.
 *
 * A dialect writes the body of a request and reads the body of an answer;
 * both are text in, data out, without a backend (see http_json.h).
 */
#ifndef EMBEDDING_DIALECT_H
#define EMBEDDING_DIALECT_H

#include "http/http_json.h"

/* The type vector holds no more. */
#define EMBEDDING_MAX_DIMENSIONS 16000

typedef struct EmbeddingRequest
{
	const char *model;
	const char *parameters[2];	/* JSON objects or NULL: of the model, and over it of the purpose */
	const char *const *inputs;
	int			ninputs;
	bool		query;			/* a question, not a document */
} EmbeddingRequest;

/*
 * What an answer held.  A dialect's parse function hands over one vector after
 * another with its position; embedding_parse puts them in the order of the
 * inputs.  Memory grows with what has been read, never with what was announced.
 */
typedef struct EmbeddingAnswer
{
	int			ninputs;		/* set by the caller */
	int			dimensions;		/* set by the caller, or 0: then by the first vector */
	float	   *values;			/* nvectors * dimensions, in the order of arrival until finished */
	size_t		nvalues;
	size_t		allocated;
	int			nvectors;
	int		   *positions;		/* of each vector read */
	bool	   *seen;			/* by position */
	bool		indexed;		/* the first vector came with its position */
	int64		total_tokens;	/* -1: not said */
	char	   *problem;		/* why it cannot be used */
} EmbeddingAnswer;

typedef struct EmbeddingDialect
{
	const char *name;
	const char *default_path;	/* completes a URL that stops short of it */

	/* Append the request, all but an optional tail and the closing brace. */
	void		(*write) (StringInfo out, const EmbeddingRequest *request);

	/*
	 * A tail that asks for something not every service knows, or NULL; given
	 * up when the service rejects it.  Not sent if a parameter of the name given by
	 * tail_parameter was set.
	 */
	const char *tail;
	const char *tail_parameter;

	/* Read an answer through embedding_read_vector; problems stick to the reader or the answer. */
	void		(*parse) (JsonReader *reader, EmbeddingAnswer *answer);
} EmbeddingDialect;

extern const EmbeddingDialect embedding_dialect_openai;
extern const EmbeddingDialect embedding_dialect_ollama;
extern const EmbeddingDialect embedding_dialect_tei;
extern const EmbeddingDialect embedding_dialect_cohere;

/* NULL when there is none of that name. */
extern const EmbeddingDialect *embedding_dialect(const char *provider);

/* embedding_answer.c: for both sides of the dialects */

/*
 * Append the parameters, each with a comma before it, but for those in 'own'
 * (ended by NULL): what the dialect writes itself, and EMBEDDING_OWN.
 */
extern void embedding_write_parameters(StringInfo out, const EmbeddingRequest *request,
									   const char *const *own);

/* Parameters that do not go to the service. */
#define EMBEDDING_OWN "prefix", "headers"

/* A JSON array of the inputs, the prefix before each. */
extern void embedding_write_inputs(StringInfo out, const EmbeddingRequest *request);

/*
 * Read one vector, an array of numbers or base64 of little-endian floats; then
 * say which input it is for.  Both fail on what cannot be: values that are no
 * finite floats, other dimensions, more vectors than inputs, two for one input.
 */
extern bool embedding_read_vector(JsonReader *reader, EmbeddingAnswer *answer);
extern bool embedding_place_vector(JsonReader *reader, EmbeddingAnswer *answer, int64 position);

/* Read an array of vectors that come in the order of the inputs. */
extern bool embedding_read_vectors(JsonReader *reader, EmbeddingAnswer *answer);

/* Record the first problem (the text is copied); returns false. */
extern bool embedding_problem(JsonReader *reader, EmbeddingAnswer *answer, const char *problem);

/*
 * Parse a whole answer.  True: values are complete, finite and in order.  False: problem
 * says what is wrong with it.
 */
extern bool embedding_parse(const EmbeddingDialect *dialect, const char *body, size_t len,
							EmbeddingAnswer *answer);

#endif							/* EMBEDDING_DIALECT_H */

/*
 * embedding.h
 *		n texts for a model in, n vectors or one kind of failure out.
 *
 * Who frees what: a call and everything reached from it belong to the memory
 * context that was current at embedding_submit; embedding_free, or a reset of that
 * context, aborts the request if need be and releases all.  So the worker
 * submits in a batch's context, a backend in a function's.
 */
#ifndef EMBEDDING_H
#define EMBEDDING_H

#include "http/http_call.h"

/*
 * A model as the http room sees it.  All strings are UTF-8 and need to live
 * through embedding_submit only.  The parameter objects are merged into the
 * request, later ones over earlier ones: parameters, then those of the
 * purpose.  Two keys are ours: the string "prefix" is put before each text, and
 * the object "headers" takes the place of target.headers if that is NULL.
 */
typedef struct EmbeddingModel
{
	HttpTarget	target;			/* url, secret, headers, limits */
	const char *provider;		/* openai | ollama | tei | cohere */
	const char *model;			/* the service's name of the model */
	const char *parameters;		/* JSON object or NULL */
	const char *document_parameters;
	const char *query_parameters;
	int			dimensions;		/* 0: whatever the service answers, the same for all */
} EmbeddingModel;

typedef struct EmbeddingResult
{
	HttpAnswer	http;			/* without its body */
	int			ninputs;
	int			dimensions;		/* 0 unless outcome is HTTP_OK */
	float	   *vectors;		/* ninputs * dimensions finite values, in the order of the inputs */
	int64		total_tokens;	/* -1: not said */
} EmbeddingResult;

typedef struct EmbeddingCall EmbeddingCall;

/* Is there such a dialect?  For create_model. */
extern bool embedding_provider_exists(const char *provider);

/*
 * An error unless it is a JSON object in which "prefix" is a string and "headers" is an object of headers,
 * where they are there.  'what' names it.
 */
extern void embedding_check_parameters(const char *parameters, const char *what);

/*
 * Queue a request.  Inputs are UTF-8 (invalid bytes are replaced by U+FFFD) and
 * copied.  Raises an error only for a broken model: unknown provider, parameters that
 * are not a JSON object.  owner is the caller's, returned by embedding_owner.
 */
extern EmbeddingCall *embedding_submit(HttpClient *client, const EmbeddingModel *model,
									   const char *const *inputs, int ninputs, bool query, void *owner);

/* The next finished call, each handed out once; NULL when there is none. */
extern EmbeddingCall *embedding_next_done(HttpClient *client);

/* Wait for this one; the client's other calls go on.  May raise an error (cancel). */
extern void embedding_wait(EmbeddingCall *call, uint32 wait_event);

extern void *embedding_owner(EmbeddingCall *call);
extern const EmbeddingResult *embedding_result(EmbeddingCall *call);
extern void embedding_free(EmbeddingCall *call);

#endif							/* EMBEDDING_H */

/*
 * rerank.h
 *		A query and n documents for a reranking service in, n scores out.
 */
#ifndef RERANK_H
#define RERANK_H

#include "http/http_call.h"
#include "http/rerank_answer.h"

typedef struct RerankModel
{
	HttpTarget	target;
	const char *provider;		/* cohere | jina | openai (gateways; the same form) | tei */
	const char *model;
	const char *parameters;		/* JSON object or NULL */
} RerankModel;

/* Scores come best first, ties by index; one per document, or the top_n best. */
typedef struct RerankResult
{
	HttpAnswer	http;			/* without its body */
	int			nscores;
	RerankScore *scores;
} RerankResult;

extern bool rerank_provider_exists(const char *provider);

/*
 * Ask, and wait for the answer; may raise an error (cancel, a broken model).  top_n <= 0: all.
 * The result is in the current context.
 */
extern RerankResult rerank_ask(HttpClient *client, const RerankModel *model, const char *query,
							   const char *const *documents, int ndocuments, int top_n, uint32 wait_event);

#endif							/* RERANK_H */

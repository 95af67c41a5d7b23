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
	HttpOutcome outcome;
	int			nscores;
	RerankScore *scores;
	int			http_status;
	char	   *error;
	int64		retry_after_ms;
	int64		elapsed_us;
} RerankResult;

typedef struct RerankCall RerankCall;

extern bool rerank_provider_exists(const char *provider);

/* Same ownership as embedding_submit.  top_n <= 0: all. */
extern RerankCall *rerank_submit(HttpClient *client, const RerankModel *model, const char *query,
								 const char *const *documents, int ndocuments, int top_n, void *owner);
extern RerankCall *rerank_next_done(HttpClient *client);
extern void rerank_wait(RerankCall *call, uint32 wait_event);
extern void *rerank_owner(RerankCall *call);
extern const RerankResult *rerank_result(RerankCall *call);
extern void rerank_free(RerankCall *call);

#endif							/* RERANK_H */

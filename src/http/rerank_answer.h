/*
 * rerank_answer.h
 *		Reading what reranking services answer; without a backend, as http_json.h.
 */
#ifndef RERANK_ANSWER_H
#define RERANK_ANSWER_H

#include "http/http_json.h"

typedef struct RerankScore
{
	int			index;			/* of the document, from 0 */
	float		score;
} RerankScore;

/*
 * Read [{"index": 0, "score": 0.9}, ...], bare or as "results" or "data" of an object;
 * the score may be called relevance_score.  Scores come best first, ties by
 * index.  NULL and *problem when an index is unknown or comes twice, or
 * anything else is amiss; both are palloc'd.
 */
extern RerankScore *rerank_parse(const char *body, size_t len, int ndocuments, int *nscores,
								 char **problem);

#endif							/* RERANK_ANSWER_H */

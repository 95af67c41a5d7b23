/*
 * rerank_answer.c
 *		Reading what reranking services answer.
 */
#include "http/rerank_answer.h"

static int
compare_scores(const void *a, const void *b)
{
	const RerankScore *x = a;
	const RerankScore *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x->index - y->index;
}

static bool
read_score(JsonReader *reader, RerankScore *score)
{
	JsonText	name;
	int64		index = -1;
	bool		scored = false;

	if (!http_json_object(reader))
		return false;
	while (http_json_member(reader, &name))
	{
		if (http_json_text_is(&name, "index"))
			http_json_integer(reader, &index);
		else if (http_json_text_is(&name, "score") || http_json_text_is(&name, "relevance_score"))
			scored = http_json_float(reader, &score->score);
		else
			http_json_skip(reader);
	}
	if (!scored)
		return http_json_fail(reader, "a document without a score");
	if (index < 0 || index > PG_INT32_MAX)
		return http_json_fail(reader, "a score for no document");
	score->index = (int) index;
	return !reader->failed;
}

static int
read_scores(JsonReader *reader, int ndocuments, RerankScore *scores)
{
	bool	   *seen = palloc0(ndocuments * sizeof(bool));
	RerankScore score;
	int			n = 0;

	if (http_json_array(reader))
	{
		while (http_json_element(reader))
		{
			if (!read_score(reader, &score))
				break;
			if (score.index >= ndocuments)
				http_json_fail(reader, "a score for an unknown document");
			else if (seen[score.index])
				http_json_fail(reader, "two scores for one document");
			else
			{
				seen[score.index] = true;
				scores[n++] = score;
			}
		}
	}
	pfree(seen);
	return n;
}

RerankScore *
rerank_parse(const char *body, size_t len, int ndocuments, int *nscores, char **problem)
{
	RerankScore *scores = palloc(Max(ndocuments, 1) * sizeof(RerankScore));
	JsonReader	reader;
	JsonText	name;
	int			lists = 0;

	*nscores = 0;
	*problem = NULL;
	http_json_open(&reader, body, len);
	if (http_json_peek(&reader) == JSON_TOKEN_ARRAY_START)
	{
		*nscores = read_scores(&reader, ndocuments, scores);
		lists++;
	}
	else if (http_json_object(&reader))
	{
		while (http_json_member(&reader, &name))
		{
			if (!http_json_text_is(&name, "results") && !http_json_text_is(&name, "data"))
				http_json_skip(&reader);
			else if (lists++ == 0)
				*nscores = read_scores(&reader, ndocuments, scores);
			else
				http_json_fail(&reader, "two lists of scores");
		}
		if (lists == 0)
			http_json_fail(&reader, "no list of scores");
	}
	if (!http_json_finish(&reader))
	{
		*problem = pstrdup(reader.problem);
		pfree(scores);
		scores = NULL;
	}
	else
		qsort(scores, *nscores, sizeof(RerankScore), compare_scores);
	http_json_close(&reader);
	return scores;
}

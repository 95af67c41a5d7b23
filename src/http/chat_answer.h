/*
 * chat_answer.h
 *		Reading chat completions; without a backend, as http_json.h.
 */
#ifndef CHAT_ANSWER_H
#define CHAT_ANSWER_H

#include "http/http_json.h"

/*
 * The content of the first choice, which must be one complete JSON object
 * (a Markdown fence around it is taken off); palloc'd.  NULL and *problem
 * otherwise.  *total_tokens is set if the service tells.
 */
extern char *chat_parse(const char *body, size_t len, int64 *total_tokens, char **problem);

/*
 * Integers of the array 'field' of a JSON object, for answers such as
 * {"drop": [2, 5]}; palloc'd.  False when there is no such array of integers.
 */
extern bool chat_integers(const char *content, const char *field, int **values, int *nvalues);

#endif							/* CHAT_ANSWER_H */

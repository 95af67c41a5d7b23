/*
 * http_message.h
 *		From what a service wrote about an error to a line one may show.
 *
 * Like http_json.h, without a backend.
 */
#ifndef HTTP_MESSAGE_H
#define HTTP_MESSAGE_H

#include "http/http_json.h"

/*
 * The service's own words: error.message, error, message, detail or detail[].msg
 * of a JSON object, else the body itself.  One line of valid UTF-8, palloc'd, not clipped.
 */
extern char *http_service_message(const char *body, size_t len);

/* The same, but NULL when the body is not such an object. */
extern char *http_json_message(const char *body, size_t len);

/*
 * Put *** in the place of every part of 'secret' in 'text' that is eight
 * characters or longer (or all of it, if shorter): services like to quote half a key.
 * palloc'd; secret may be NULL.
 */
extern char *http_redact(const char *text, const char *secret);

/* Cut valid UTF-8 in place to at most 'bytes', between characters, with '...' when something is lost. */
extern void http_clip(char *text, size_t bytes);

/*
 * Milliseconds of a Retry-After value given as a number of units, at most a day; -1 if it is
 * not a number.
 */
extern int64 http_parse_delay(const char *text, double unit_ms);

#endif							/* HTTP_MESSAGE_H */

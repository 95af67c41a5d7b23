/*
 * http_curl.h
 *		What the files of this room share about libcurl; not for other rooms.
 */
#ifndef HTTP_CURL_H
#define HTTP_CURL_H

#include "postgres.h"

#include <curl/curl.h>

#if LIBCURL_VERSION_NUM < 0x074c00
#error "libcurl 7.76 or newer is required"
#endif

/* curl_global_init, once per process and never in the postmaster. */
extern void http_global_init(void);

/* The textual form of an address; what cannot be read counts as private. */
extern bool http_ip_is_private(const char *ip);

#endif							/* HTTP_CURL_H */

/*
 * http_url.h
 *		Which URLs and network addresses may be called.
 */
#ifndef HTTP_URL_H
#define HTTP_URL_H

#include "postgres.h"

struct sockaddr;

typedef struct HttpUrlVerdict
{
	bool		ok;
	bool		private_addresses;	/* goes into HttpTarget: the address is checked again when connecting */
	char	   *url;			/* normalised: lower-case scheme and host, no default port,
								 * no fragment; palloc'd */
	char	   *problem;		/* if !ok: a full sentence for errdetail, palloc'd */
} HttpUrlVerdict;

/*
 * May this URL be registered?  http and https only, no credentials, no control
 * characters.  A privileged caller may name any host.  Others may name what
 * 'allowed' lists (comma-separated URL prefixes, compared by scheme, host, port
 * and whole path segments; NULL or empty: no list); without a list, any
 * host whose address is public.
 */
extern HttpUrlVerdict http_url_check(const char *url, const char *allowed, bool privileged);

/* Does a comma-separated list of URL prefixes, compared as above, cover the URL? */
extern bool http_url_listed(const char *url, const char *list);

/* The URL with its path completed: 'http://host' + '/v1/embeddings'; a path of its own is kept. */
extern char *http_url_complete(const char *url, const char *default_path);

/* host:port of a URL, for messages; palloc'd. */
extern char *http_url_host(const char *url);

/* Loopback, link-local, private, multicast, reserved, or an IPv6 form that wraps one of those? */
extern bool http_address_is_private(const struct sockaddr *address);

#endif							/* HTTP_URL_H */

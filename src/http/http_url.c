/*
 * http_url.c
 *		Which URLs and network addresses may be called.
 *
 * URLs are taken apart by libcurl, the same code that will call them, so that
 * what was checked is what is called.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "http/http_curl.h"
#include "http/http_url.h"

/* The parts of a URL that a decision needs; strings are libcurl's until free_parts. */
typedef struct UrlParts
{
	CURLU	   *handle;
	char	   *scheme;
	char	   *host;
	char	   *port;
	char	   *path;
	char	   *user;
	char	   *password;
	char	   *query;
} UrlParts;

static void
free_parts(UrlParts *parts)
{
	curl_free(parts->scheme);
	curl_free(parts->host);
	curl_free(parts->port);
	curl_free(parts->path);
	curl_free(parts->user);
	curl_free(parts->password);
	curl_free(parts->query);
	curl_url_cleanup(parts->handle);
}

/*
 * False when it is no URL; the parts are to be freed in either case.  Nothing
 * between this and free_parts may raise an error, or libcurl's memory leaks.
 */
static bool
split_url(const char *url, UrlParts *parts)
{
	CURLU	   *u = curl_url();

	memset(parts, 0, sizeof(*parts));
	parts->handle = u;
	if (u == NULL || curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		return false;
	(void) curl_url_get(u, CURLUPART_USER, &parts->user, 0);
	(void) curl_url_get(u, CURLUPART_PASSWORD, &parts->password, 0);
	(void) curl_url_get(u, CURLUPART_PORT, &parts->port, CURLU_DEFAULT_PORT);
	(void) curl_url_get(u, CURLUPART_QUERY, &parts->query, 0);
	return curl_url_get(u, CURLUPART_SCHEME, &parts->scheme, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &parts->host, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_PATH, &parts->path, 0) == CURLUE_OK;
}

/* Could a server read another path out of this one?  Plain "." and ".." are gone already. */
static bool
path_is_devious(const char *path)
{
	for (; *path != '\0'; path++)
		if (*path == '\\' || pg_strncasecmp(path, "%2e", 3) == 0 || pg_strncasecmp(path, "%2f", 3) == 0 ||
			pg_strncasecmp(path, "%5c", 3) == 0)
			return true;
	return false;
}

/* Whole segments.  "/v1/" covers "/v1", too, which stands for what is below it. */
static bool
path_covers(const char *prefix, const char *path)
{
	size_t		len = strlen(prefix);

	if (strncmp(prefix, path, len) == 0)
		return prefix[len - 1] == '/' || path[len] == '/' || path[len] == '\0';
	return prefix[len - 1] == '/' && strncmp(prefix, path, len - 1) == 0 && path[len - 1] == '\0';
}

/* Does one entry of the list cover the URL? */
static bool
prefix_covers(const char *prefix, const UrlParts *url)
{
	UrlParts	parts;
	bool		covers = false;

	if (split_url(prefix, &parts) && parts.port != NULL && url->port != NULL)
		covers = pg_strcasecmp(parts.scheme, url->scheme) == 0 &&
			pg_strcasecmp(parts.host, url->host) == 0 &&
			strcmp(parts.port, url->port) == 0 &&
			path_covers(parts.path, url->path) && !path_is_devious(url->path);
	free_parts(&parts);
	return covers;
}

/* A comma-separated list; entries are copied to a fixed buffer, since nothing here may raise an error. */
static bool
list_covers(const char *allowed, const UrlParts *url)
{
	char		entry[2048];

	while (*allowed != '\0')
	{
		size_t		len = strcspn(allowed, ",");
		const char *start = allowed;
		const char *end = allowed + len;

		allowed = *end == ',' ? end + 1 : end;
		while (start < end && isspace((unsigned char) *start))
			start++;
		while (end > start && isspace((unsigned char) end[-1]))
			end--;
		if (start == end || (size_t) (end - start) >= sizeof(entry))
			continue;
		memcpy(entry, start, end - start);
		entry[end - start] = '\0';
		if (prefix_covers(entry, url))
			return true;
	}
	return false;
}

static bool
ipv4_is_private(uint32 a)
{
	return (a >> 24) == 0 || (a >> 24) == 10 || (a >> 24) == 127 ||
		(a >> 22) == (0x64400000 >> 22) ||	/* 100.64/10, carrier networks */
		(a >> 16) == 0xA9FE ||	/* 169.254/16, link-local and cloud metadata */
		(a >> 20) == 0xAC1 ||	/* 172.16/12 */
		(a >> 8) == 0xC00000 || /* 192.0.0/24 */
		(a >> 16) == 0xC0A8 ||	/* 192.168/16 */
		(a >> 17) == (0xC6120000 >> 17) ||	/* 198.18/15, test networks */
		(a >> 28) >= 0xE;		/* multicast and reserved */
}

static bool
ipv6_is_private(const uint8 *a)
{
	static const uint8 zeros[12] = {0};
	static const uint8 nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	uint32		first = ((uint32) a[0] << 24) | (a[1] << 16) | (a[2] << 8) | a[3];
	uint32		last = ((uint32) a[12] << 24) | (a[13] << 16) | (a[14] << 8) | a[15];

	if (memcmp(a, zeros, 12) == 0)
		return true;			/* ::, ::1, IPv4-compatible */
	if (memcmp(a, zeros, 10) == 0 && a[10] == 0xff && a[11] == 0xff)
		return ipv4_is_private(last);
	if (memcmp(a, nat64, 12) == 0)
		return ipv4_is_private(last);
	if ((first >> 16) == 0x2002)	/* 6to4 */
		return ipv4_is_private((first << 16) | (a[4] << 8) | a[5]);
	return first == 0x20010000 ||	/* Teredo */
		first == 0x0064ff9b ||	/* local NAT64 prefixes */
		a[0] == 0xff ||			/* multicast */
		(a[0] & 0xfe) == 0xfc ||	/* unique local */
		(a[0] == 0xfe && a[1] >= 0x80); /* link-local, site-local */
}

bool
http_address_is_private(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return ipv4_is_private(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return ipv6_is_private(((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr);
	return true;
}

bool
http_ip_is_private(const char *ip)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, ip, &v4.sin_addr) == 1)
		return http_address_is_private((struct sockaddr *) &v4);
	if (inet_pton(AF_INET6, ip, &v6.sin6_addr) == 1)
		return http_address_is_private((struct sockaddr *) &v6);
	return true;
}

/* A host that needs no name server to be known as private. */
static bool
host_is_private(const char *host)
{
	size_t		len = strlen(host);
	char		literal[64];

	/* "localhost", "a.localhost", with or without the root's dot */
	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len >= 9 && pg_strncasecmp(host + len - 9, "localhost", 9) == 0 &&
		(len == 9 || host[len - 10] == '.'))
		return true;
	if (host[0] == '[' && len - 2 < sizeof(literal))
	{
		memcpy(literal, host + 1, len - 2);
		literal[len - 2] = '\0';
		return http_ip_is_private(literal);
	}
	return strspn(host, "0123456789.") == strlen(host) && http_ip_is_private(host);
}

/* The first objection, or NULL; a constant. */
static const char *
url_problem(const UrlParts *url, const char *allowed, bool privileged, bool *private_addresses)
{
	bool		listed;

	if (strcmp(url->scheme, "http") != 0 && strcmp(url->scheme, "https") != 0)
		return "Only http and https are allowed.";
	if (url->user != NULL || url->password != NULL)
		return "A URL must not carry credentials; use a secret.";
	if (url->host[0] == '\0')
		return "The URL has no host.";

	listed = allowed != NULL && list_covers(allowed, url);
	*private_addresses = privileged || listed;
	if (privileged || listed)
		return NULL;
	if (allowed != NULL && allowed[strspn(allowed, " ,\t\r\n")] != '\0')
		return "The URL is not covered by vecsync.allowed_urls.";
	if (host_is_private(url->host))
		return "Addresses of this machine and of private networks are allowed to superusers only,"
			" or when vecsync.allowed_urls lists them.";
	return NULL;
}

HttpUrlVerdict
http_url_check(const char *url, const char *allowed, bool privileged)
{
	HttpUrlVerdict verdict = {0};
	UrlParts	parts;
	const char *problem = NULL;
	char	   *text = NULL;
	char		normal[2048];

	http_global_init();
	for (const char *s = url; *s != '\0'; s++)
		if ((unsigned char) *s <= ' ' || *s == 0x7F)
			problem = "The URL contains blanks or control characters.";
	if (strlen(url) >= sizeof(normal))
		problem = "The URL is too long.";
	if (problem == NULL)
	{
		if (!split_url(url, &parts))
			problem = "It is not a URL such as https://host/path.";
		else
			problem = url_problem(&parts, allowed, privileged, &verdict.private_addresses);
		if (problem == NULL)
		{
			for (char *s = parts.host; *s != '\0'; s++)
				*s = pg_ascii_tolower(*s);
			(void) curl_url_set(parts.handle, CURLUPART_HOST, parts.host, 0);
			(void) curl_url_set(parts.handle, CURLUPART_FRAGMENT, NULL, 0);
			if (curl_url_get(parts.handle, CURLUPART_URL, &text, CURLU_NO_DEFAULT_PORT) == CURLUE_OK &&
				strlen(text) < sizeof(normal))
				strlcpy(normal, text, sizeof(normal));
			else
				problem = "The URL cannot be normalised.";
			curl_free(text);
		}
		free_parts(&parts);
	}

	verdict.ok = (problem == NULL);
	if (verdict.ok)
		verdict.url = pstrdup(normal);
	else
		verdict.problem = pstrdup(problem);
	return verdict;
}

bool
http_url_listed(const char *url, const char *list)
{
	UrlParts	parts;
	bool		listed;

	http_global_init();
	listed = split_url(url, &parts) && list_covers(list, &parts);
	free_parts(&parts);
	return listed;
}

char *
http_url_complete(const char *url, const char *default_path)
{
	UrlParts	parts;
	char		path[512] = "";
	bool		bare = false;
	size_t		len;
	size_t		url_len;

	http_global_init();
	if (split_url(url, &parts))
	{
		strlcpy(path, parts.path, sizeof(path));
		bare = parts.query == NULL && strchr(url, '#') == NULL;
	}
	free_parts(&parts);

	/* "", "/", "/v1" and "/v1/" stop short of "/v1/embeddings" at a segment's end. */
	len = strlen(path);
	while (len > 0 && path[len - 1] == '/')
		len--;
	if (!bare || strncmp(path, default_path, len) != 0 || default_path[len] != '/')
		return pstrdup(url);
	url_len = strlen(url);
	while (url_len > 0 && url[url_len - 1] == '/')
		url_len--;
	return psprintf("%.*s%s", (int) url_len, url, default_path + len);
}

char *
http_url_host(const char *url)
{
	UrlParts	parts;
	char		host[300] = "the service";

	http_global_init();
	if (split_url(url, &parts) && parts.host != NULL && parts.port != NULL)
		snprintf(host, sizeof(host), "%s:%s", parts.host, parts.port);
	free_parts(&parts);
	return pstrdup(host);
}

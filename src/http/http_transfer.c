/*
 * http_transfer.c
 *		How libcurl is set up for a call, and the callbacks that bound what it reads.
 *
 * Nothing in this file may raise an error: the callbacks run inside libcurl.
 */
#include "postgres.h"

#include <sys/socket.h>
#include <unistd.h>

#include "http/http_internal.h"
#include "http/http_message.h"
#include "http/http_url.h"

#include "storage/fd.h"
#include "utils/memutils.h"

/* What is read of an answer that reports an error, and of headers in any answer. */
#define ERROR_BODY_BYTES			(16 * 1024)
#define MAX_HEADER_BYTES			(256 * 1024)

/* An answer that after ten seconds has not come at this many bytes per second is given up. */
#define SLOW_AFTER_US				(10 * INT64CONST(1000000))
#define SLOW_BYTES_PER_SECOND		128

/* An announced size is believed, and allocated at once, up to here. */
#define MAX_FIRST_ALLOCATION		(1024 * 1024)

/* ---- reading ---- */

static size_t
refuse(HttpCall *call, HttpAbort reason)
{
	call->abort_reason = reason;
	return 0;
}

/* A header line's value if the line is of that name, copied without blanks around it. */
static bool
header_value(const char *line, size_t len, const char *name, char *value, size_t size)
{
	size_t		name_len = strlen(name);
	const char *start = line + name_len + 1;
	const char *end = line + len;

	if (len <= name_len || line[name_len] != ':' || pg_strncasecmp(line, name, name_len) != 0)
		return false;
	while (start < end && isspace((unsigned char) *start))
		start++;
	while (end > start && isspace((unsigned char) end[-1]))
		end--;
	if ((size_t) (end - start) >= size)
		return false;
	memcpy(value, start, end - start);
	value[end - start] = '\0';
	return true;
}

static size_t
on_header(char *line, size_t size, size_t nitems, void *arg)
{
	HttpCall   *call = arg;
	size_t		len = size * nitems;
	char		value[64];

	call->header_bytes += len;
	if (call->header_bytes > MAX_HEADER_BYTES)
		return refuse(call, HTTP_ABORT_HEADERS);

	/* What an interim answer (100) said does not count. */
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		call->retry_after_ms = -1;
	if (header_value(line, len, "retry-after-ms", value, sizeof(value)))
	{
		call->retry_after_ms = http_parse_delay(value, 1);
	}
	else if (call->retry_after_ms < 0 && header_value(line, len, "retry-after", value, sizeof(value)))
	{
		call->retry_after_ms = http_parse_delay(value, 1000);
		if (call->retry_after_ms < 0)
		{
			time_t		date = curl_getdate(value, NULL);
			time_t		now = time(NULL);

			if (date != (time_t) -1)
				call->retry_after_ms = date <= now ? 0 : Min((int64) (date - now), 86400) * 1000;
		}
	}
	return len;
}

/* Room for len more bytes and a zero byte; false when memory or the limit ends. */
static bool
grow_data(HttpCall *call, size_t len)
{
	size_t		needed = call->data_len + len + 1;
	size_t		size = Max(call->data_allocated, 4096);
	char	   *data;

	if (needed <= call->data_allocated)
		return true;
	while (size < needed)
		size *= 2;
	size = Min(size, call->data_limit + 1);
	data = MemoryContextAllocExtended(call->context, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (data == NULL)
		return false;
	if (call->data != NULL)
	{
		memcpy(data, call->data, call->data_len);
		pfree(call->data);
	}
	call->data = data;
	call->data_allocated = size;
	return true;
}

/* The size of the answer, if it is announced and credible, is allocated at once. */
static bool
begin_data(HttpCall *call)
{
	curl_off_t	announced = -1;
	long		status = 0;

	call->first_byte_us = http_now_us();
	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(call->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
	if (status < 200 || status > 299)
		call->data_limit = Min(call->data_limit, ERROR_BODY_BYTES);
	else if (announced > 0 && (size_t) announced > call->data_limit)
		return refuse(call, HTTP_ABORT_TOO_LARGE);
	else if (announced > 0 && announced <= MAX_FIRST_ALLOCATION && !grow_data(call, announced))
		return refuse(call, HTTP_ABORT_MEMORY);
	return true;
}

static size_t
on_data(char *data, size_t size, size_t nmemb, void *arg)
{
	HttpCall   *call = arg;
	size_t		len = size * nmemb;
	int64		elapsed_us;

	if (len == 0)
		return 0;
	if (call->first_byte_us == 0 && !begin_data(call))
		return 0;
	elapsed_us = http_now_us() - call->first_byte_us;
	if (elapsed_us > SLOW_AFTER_US &&
		(call->data_len + len) / (elapsed_us / 1000000) < SLOW_BYTES_PER_SECOND)
		return refuse(call, HTTP_ABORT_TOO_SLOW);

	if (len > call->data_limit - call->data_len)
	{
		long		status = 0;

		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
		if (status >= 200 && status <= 299)
			return refuse(call, HTTP_ABORT_TOO_LARGE);
		return refuse(call, HTTP_ABORT_ENOUGH);
	}
	if (!grow_data(call, len))
		return refuse(call, HTTP_ABORT_MEMORY);
	memcpy(call->data + call->data_len, data, len);
	call->data_len += len;
	return len;
}

/* ---- sockets ---- */

/* The address a name resolved to is judged before the connection is made. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpCall   *call = arg;
	curl_socket_t fd;

	if (call->public_only && http_address_is_private(&address->addr))
	{
		call->abort_reason = HTTP_ABORT_ADDRESS;
		return CURL_SOCKET_BAD;
	}
	if (!AcquireExternalFD())
		return CURL_SOCKET_BAD;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd == CURL_SOCKET_BAD)
		ReleaseExternalFD();
	return fd;
}

static int
close_socket(void *arg, curl_socket_t fd)
{
	ReleaseExternalFD();
	return closesocket(fd);
}

#if LIBCURL_VERSION_NUM >= 0x075000
/* A connection that is used again was perhaps opened for a call that may do more. */
static int
before_request(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	HttpCall   *call = arg;

	if (call->public_only && http_ip_is_private(remote_ip))
	{
		call->abort_reason = HTTP_ABORT_ADDRESS;
		return CURL_PREREQFUNC_ABORT;
	}
	return CURL_PREREQFUNC_OK;
}
#endif

/* ---- sending ---- */

/* Where to and which way: nothing but what the target says. */
static void
set_route(CURL *easy, HttpCall *call)
{
	const HttpTarget *target = &call->target;

	curl_easy_setopt(easy, CURLOPT_URL, target->url);
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, target->proxy ? target->proxy : "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (target->ca_file != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, target->ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
#if LIBCURL_VERSION_NUM >= 0x075000
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
#else
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, call->public_only ? 1L : 0L);
#endif
}

CURL *
http_call_start(HttpCall *call)
{
	CURL	   *easy = curl_easy_init();

	if (easy == NULL)
		return NULL;
	call->easy = easy;
	set_route(easy, call);

	curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->curl_error);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) call->target.timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) call->target.connect_timeout_ms);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* An aborted call does not wait for a name server; the resolver's thread frees its own memory. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif

	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) call->body.len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body.text);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "vecsync");
	curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
	return easy;
}

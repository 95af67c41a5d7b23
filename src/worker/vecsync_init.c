/*
 * vecsync_init.c
 *		The library's entry point: settings, shared memory, the launcher.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/debug_point.h"
#include "queue/queue.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

bool		worker_enabled = true;
int			worker_max_inflight = 16;
int			worker_poll_interval = 30;
int			worker_max_attempts = 8;
int			worker_backoff_min = 1000;
int			worker_backoff_max = 300000;
int			worker_connect_timeout = 5000;
int			worker_max_response_bytes = 64 * 1024 * 1024;
char	   *worker_ca_file = NULL;
char	   *worker_allowed_urls = NULL;
char	   *worker_proxy = NULL;
int			worker_query_timeout = 10000;

extern PGDLLEXPORT void _PG_init(void);

static void
define_settings(void)
{
	DefineCustomBoolVariable("vecsync.enabled", "Run workers that keep vectors in step.", NULL,
							 &worker_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("vecsync.max_inflight", "Requests that one worker has under way at a time.", NULL,
							&worker_max_inflight, 16, 1, 256, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("vecsync.poll_interval",
							"How often a worker looks at its queue without being woken.", NULL,
							&worker_poll_interval, 30, 1, 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"vecsync.max_attempts", "Failed attempts after which a row is put into vecsync.failed.",
		"Only failures while the service answers other requests are charged to a row.",
		&worker_max_attempts, 8, 1, 100, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"vecsync.backoff_min", "Pause after the first failure of a service; it doubles from there.", NULL,
		&worker_backoff_min, 1000, 1, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("vecsync.backoff_max", "Longest pause after failures of a service.", NULL,
							&worker_backoff_max, 300000, 1, 86400000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL,
							NULL);
	DefineCustomIntVariable("vecsync.connect_timeout", "Time to connect to a service.", NULL,
							&worker_connect_timeout, 5000, 1, 600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL,
							NULL);
	DefineCustomIntVariable("vecsync.max_response_bytes",
							"Largest answer that is accepted from a service.", NULL,
							&worker_max_response_bytes, 64 * 1024 * 1024, 1024, MaxAllocSize / 2,
							PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomStringVariable("vecsync.ca_file",
							   "File of certificates to trust instead of the system's.", NULL,
							   &worker_ca_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("vecsync.proxy", "Proxy for requests to services; empty for none.",
							   "The environment's settings of proxies are not looked at.", &worker_proxy, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("vecsync.allowed_urls",
							   "URL prefixes that roles other than superusers may register.",
							   "Comma-separated; empty allows every host whose address is public.",
							   &worker_allowed_urls, "", PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("vecsync.log_retention",
							"How long vecsync.operation remembers; 0 logs nothing.", NULL,
							&worker_log_retention, 7 * 24 * 3600, 0, INT_MAX / 1000, PGC_SIGHUP,
							GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("vecsync.query_timeout", "Time for embedding the text of a query.", NULL,
							&worker_query_timeout, 10000, 1, 3600000, PGC_USERSET, GUC_UNIT_MS, NULL,
							NULL, NULL);
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("vecsync.query_cache",
								"Vectors of query texts that all sessions share; 0 for none.", NULL,
								&worker_query_cache_entries, 1024, 0, 65536, PGC_POSTMASTER, 0, NULL, NULL,
								NULL);
}

void
_PG_init(void)
{
	define_settings();
	debug_point_init("vecsync");
	MarkGUCPrefixReserved("vecsync");
	queue_append_init();
	queue_capture_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	worker_shmem_init();
	worker_database_init();
	launcher_register();
}

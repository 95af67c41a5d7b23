-- ---------------------------------------------------------------------------
-- The operation log, workers, figures.  Written by the worker; one row stands for all rows of one write-back.
-- ---------------------------------------------------------------------------

CREATE TABLE vecsync.operation_batch (
    id uuid PRIMARY KEY,            -- begins with the time, ends with 16 zero bits: the rows' numbers
    vectorizer integer NOT NULL,
    keys text[] NOT NULL,           -- row after row
    operations text NOT NULL,       -- a letter for each row: u upsert, d delete, f failed
    attempts integer[] NOT NULL,
    error text,
    queued_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    old_digests bigint[],           -- for each row of the text its vector was of, and is of now; NULL: none
    new_digests bigint[]
);
REVOKE ALL ON vecsync.operation_batch FROM PUBLIC;
COMMENT ON TABLE vecsync.operation_batch IS 'what was done to which rows; read it through vecsync.operation and vecsync.batch';

CREATE FUNCTION vecsync._forget_operations() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    DELETE FROM vecsync.operation_batch WHERE vectorizer = OLD.id;
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION vecsync._forget_operations() FROM PUBLIC;
CREATE TRIGGER forget_operations AFTER DELETE ON vecsync.vectorizer
    FOR EACH ROW EXECUTE FUNCTION vecsync._forget_operations();

CREATE VIEW vecsync.batch WITH (security_barrier) AS
SELECT b.id, v.name AS vectorizer, length(b.operations) AS rows,
       length(b.operations) - length(replace(b.operations, 'u', '')) AS upserts,
       length(b.operations) - length(replace(b.operations, 'd', '')) AS deletes,
       length(b.operations) - length(replace(b.operations, 'f', '')) AS failed,
       b.error, b.queued_at, b.finished_at
FROM vecsync.operation_batch b JOIN vecsync.vectorizer v ON v.id = b.vectorizer JOIN pg_class c ON c.oid = v.source
WHERE pg_has_role(current_user, c.relowner, 'USAGE') OR pg_has_role(current_user, 'pg_monitor', 'USAGE');
GRANT SELECT ON vecsync.batch TO PUBLIC;
COMMENT ON VIEW vecsync.batch IS
'Write-backs to the caller''s tables (all for pg_monitor) within vecsync.log_retention: number, vectorizer, how many rows got vectors, lost them or failed, the error, when the oldest of the rows was queued and when all were done. The numbers grow with time.';

-- The union stands inside: as the view itself it would be flattened, and the barrier with it.
CREATE VIEW vecsync.operation WITH (security_barrier) AS
SELECT * FROM (SELECT overlay(b.id::text placing lpad(to_hex(o.n), 4, '0') FROM 33)::uuid AS id, b.id AS batch, v.name AS vectorizer,
       vecsync._key_json(v.source, b.keys[1 + (o.n - 1) * k.n:o.n * k.n]) AS key,
       CASE substr(b.operations, o.n, 1) WHEN 'd' THEN 'delete' ELSE 'upsert' END AS operation,
       CASE substr(b.operations, o.n, 1) WHEN 'f' THEN 'failed' ELSE 'success' END AS status,
       b.attempts[o.n] AS attempts, b.error, b.queued_at, b.finished_at,
       lpad(to_hex(b.old_digests[o.n]), 16, '0') AS old_hash, lpad(to_hex(b.new_digests[o.n]), 16, '0') AS new_hash
FROM vecsync.operation_batch b JOIN vecsync.vectorizer v ON v.id = b.vectorizer JOIN pg_class c ON c.oid = v.source,
     LATERAL (SELECT cardinality(b.keys) / length(b.operations)) AS k(n),
     LATERAL generate_series(1, length(b.operations)) AS o(n)
WHERE pg_has_role(current_user, c.relowner, 'USAGE') OR pg_has_role(current_user, 'pg_monitor', 'USAGE')
UNION ALL
SELECT NULL, NULL, v.name, vecsync._key_json(v.source, q.keys[1 + (o.n - 1) * k.n:o.n * k.n]), NULL, 'pending', 0, NULL, q.queued_at, NULL, NULL, NULL
FROM vecsync.queue q JOIN vecsync.vectorizer v ON v.id = q.vectorizer JOIN pg_class c ON c.oid = v.source,
     LATERAL (SELECT cardinality(q.keys) / nullif(q.rows, 0)) AS k(n),
     LATERAL generate_series(1, q.rows) AS o(n)
WHERE q.op IN ('k', 'f') AND (pg_has_role(current_user, c.relowner, 'USAGE') OR pg_has_role(current_user, 'pg_monitor', 'USAGE'))) AS o;
GRANT SELECT ON vecsync.operation TO PUBLIC;
COMMENT ON VIEW vecsync.operation IS
'What was done to each row of the caller''s tables (all for pg_monitor) within vecsync.log_retention, and the changes that are pending: number and batch once it is done, the row''s key, upsert (it got its vectors) or delete (it is gone or has no text, and so are its vectors), status (pending, success, failed), attempts, the error, when the oldest row of the batch was queued and when it was done; old_hash and new_hash are the first 16 hexadecimal digits of the SHA-256 of the text that the row''s vector was of before, and is of now.';

CREATE FUNCTION vecsync._workers(OUT database text, OUT state text, OUT pid integer, OUT started_at timestamptz,
        OUT next_start timestamptz, OUT restarts integer)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'worker_list';
REVOKE ALL ON FUNCTION vecsync._workers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vecsync._workers() TO pg_monitor;
CREATE VIEW vecsync.workers AS SELECT * FROM vecsync._workers();
GRANT SELECT ON vecsync.workers TO pg_monitor;
COMMENT ON VIEW vecsync.workers IS
'One row for each database of the server that has a worker or waits for one: its state, process, start, when the next start is due, and restarts in a row. For pg_monitor.';

CREATE FUNCTION vecsync._stats(OUT requests bigint, OUT answers_ok bigint, OUT answers_retried bigint, OUT answers_throttled bigint,
        OUT answers_rejected bigint, OUT answers_refused bigint, OUT answers_garbage bigint,
        OUT latency_p50_ms bigint, OUT latency_p99_ms bigint, OUT tokens bigint, OUT rows_embedded bigint, OUT rows_skipped bigint,
        OUT query_cache_entries integer, OUT query_cache_hits bigint, OUT query_cache_misses bigint)
    LANGUAGE c AS 'MODULE_PATHNAME', 'worker_stats';
REVOKE ALL ON FUNCTION vecsync._stats() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vecsync._stats() TO pg_monitor;
CREATE VIEW vecsync.stats AS
SELECT s.*, (SELECT min(q.queued_at) FROM vecsync.queue q WHERE q.vectorizer IN (SELECT v.id FROM vecsync.vectorizer v)) AS oldest_pending FROM vecsync._stats() s;
GRANT SELECT ON vecsync.stats TO pg_monitor;
COMMENT ON VIEW vecsync.stats IS
'Since the server started: requests of this database''s worker, its answers by class (retried: no connection, timeout, 5xx; throttled: 429, 503; rejected: 400, 413, 422; refused: 401, 403, 404, redirects; garbage: not usable), time of a request (upper bounds), tokens, rows embedded and rows without text; size, hits and misses of the query cache, which all databases share; the time of the oldest change that is pending. For pg_monitor.';

CREATE FUNCTION vecsync._searches(OUT role oid, OUT vectorizer integer, OUT searches bigint, OUT answered bigint, OUT rows bigint,
        OUT most_rows bigint, OUT with_values bigint, OUT total_ms double precision, OUT longest_ms double precision, OUT last_at timestamptz)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'worker_searches';
REVOKE ALL ON FUNCTION vecsync._searches() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vecsync._searches() TO pg_monitor;
CREATE VIEW vecsync.searches AS
SELECT pg_get_userbyid(s.role) AS role, v.name AS vectorizer, s.searches, s.answered, s.rows, s.most_rows, s.with_values, s.total_ms, s.longest_ms, s.last_at
FROM vecsync._searches() s JOIN vecsync.vectorizer v ON v.id = s.vectorizer;
GRANT SELECT ON vecsync.searches TO pg_monitor;
COMMENT ON VIEW vecsync.searches IS
'Who searched what, since the server started: for each role and vectorizer of this database the searches (also those of similar, recommend, context, duplicates and clusters), how many were answered (the others failed, were cancelled or are under way), the rows returned, the most by one search, answers with vectors, the time of all and of the longest, and when the last one was. Nothing of what was asked is kept. The latest 8 to 512 pairs of role and vectorizer are remembered. For pg_monitor.';

-- ---------------------------------------------------------------------------
-- What can be seen of the work
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync._status(OUT vectorizer text, OUT source regclass, OUT model text, OUT state text,
        OUT rows bigint, OUT embedded bigint, OUT pending bigint, OUT in_flight integer, OUT failed bigint,
        OUT oldest_pending timestamptz, OUT lag_p50_ms bigint, OUT lag_p99_ms bigint, OUT last_error text,
        OUT last_error_at timestamptz, OUT paused_until timestamptz, OUT skipped bigint, OUT worker text,
        OUT generation integer)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'worker_status';

CREATE VIEW vecsync.status AS SELECT * FROM vecsync._status();
GRANT SELECT ON vecsync.status TO PUBLIC;
COMMENT ON VIEW vecsync.status IS
'One row for each vectorizer of the caller''s tables (all for pg_monitor): state (in step, embedding, paused, waiting for the service), rows of the table and how many have a vector (estimated above 100,000, and where somebody has the table to himself; NULL if nothing is known), changes pending and in flight, rows that failed, time of the oldest pending change, time from a change to its vector (upper bounds; of the last changes, not of rows that are backfilled), the last error, rows skipped because they have no text, the state of the worker, and the generation. While a vectorizer is being changed its next generation has a row of its own, "generation N of NAME": embedding, complete (ready to cut over), or held up by failed rows; the one that was replaced has one (retired) until its vectors are dropped.';

-- One row's key as JSON under its columns' present names.  Their types may have been others when it was noted.
-- From the catalogs alone: whoever reads of all tables must not wait for one that somebody has to himself.
CREATE FUNCTION vecsync._key_json(source regclass, key text[]) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT jsonb_object_agg(a.attname, CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND key[c.n] ~ '^-?[0-9]{1,19}$'
                                                THEN to_jsonb(key[c.n]::numeric) ELSE to_jsonb(key[c.n]) END)
        FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS c(attnum, n), pg_attribute a
        WHERE i.indrelid = source AND i.indisprimary AND c.n <= i.indnkeyatts AND a.attrelid = source AND a.attnum = c.attnum);

CREATE VIEW vecsync.failed WITH (security_barrier) AS
SELECT v.name AS vectorizer,
       vecsync._key_json(v.source, d.key) AS key,
       d.operation, d.attempts, d.error, d.failed_at
FROM vecsync.dead_letter d JOIN vecsync.vectorizer v ON v.id = d.vectorizer JOIN pg_class c ON c.oid = v.source
WHERE pg_has_role(current_user, c.relowner, 'USAGE') OR pg_has_role(current_user, 'pg_monitor', 'USAGE');
GRANT SELECT ON vecsync.failed TO PUBLIC;
COMMENT ON VIEW vecsync.failed IS
'Rows of the caller''s tables (all for pg_monitor) that could not be embedded, with the service''s or the server''s words; vecsync.resync(name, failed_only => true) tries them again.';

CREATE FUNCTION vecsync.wait(name text, timeout interval DEFAULT '30s') RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'worker_wait';
COMMENT ON FUNCTION vecsync.wait IS
'Waits until every change of the table committed before the call is embedded (or has failed: see vecsync.failed); false when the timeout passes first. Errors: 42704 no such vectorizer, 55000 the current transaction has changed the table itself.';


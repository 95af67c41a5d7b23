-- ---------------------------------------------------------------------------
-- Looking at rows again: resync, verify, and vectors that were there before.
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync._queue_rows(name text, failed_only boolean, force boolean DEFAULT false) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_resync';
CREATE FUNCTION vecsync._enqueue_query(id integer, query text, force boolean) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_enqueue_query';

-- The key columns of a view or table as texts, as the queue has them.
CREATE FUNCTION vecsync._key_texts(source regclass, prefix text, names name[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT string_agg(format('vecsync._key_text(%s.%I)', prefix, names[u.n]), ', ' ORDER BY u.n)
        FROM unnest(vecsync._key_columns(source)) WITH ORDINALITY u(k, n));

CREATE FUNCTION vecsync._check_condition(condition text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_check_condition';

CREATE FUNCTION vecsync._known_vectorizer(name text) RETURNS vecsync.vectorizer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer;
BEGIN
    SELECT * INTO v FROM vecsync.vectorizer x WHERE x.name = name AND x.retired IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('vectorizer "%s" does not exist', name),
            HINT = 'vecsync.create_vectorizer() makes one; vecsync.status lists them.';
    END IF;
    RETURN v;
END
$function$;

-- The same; it serves, whoever would change that, until this transaction ends.
CREATE FUNCTION vecsync._held_vectorizer(name text) RETURNS vecsync.vectorizer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer := vecsync._known_vectorizer(name);
BEGIN
    PERFORM vecsync._hold_vectorizer(v.id);
    RETURN vecsync._known_vectorizer(name);     -- another one may serve since
END
$function$;

CREATE FUNCTION vecsync._resync(name text, condition text, failed_only boolean, force boolean, caller_path text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 1     -- the keys' texts, as everywhere
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer := vecsync._held_vectorizer(name);
    query text;
BEGIN
    IF condition IS NOT NULL THEN
        IF failed_only THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'failed_only takes no condition',
                HINT = 'Resync by condition also tries rows that failed.';
        END IF;
        PERFORM vecsync._check_condition(condition);
        SELECT format('SELECT ARRAY[%s] FROM %s AS %I WHERE (%s)', vecsync._key_texts(v.source, quote_ident(c.relname), vecsync._key_columns(v.source)),
                      v.source, c.relname, E'\n' || condition || E'\n') INTO query
        FROM pg_class c WHERE c.oid = v.source;
        PERFORM set_config('search_path', caller_path, true);   -- the condition's names are the caller's
        RETURN vecsync._enqueue_query(v.id, query, force);
    END IF;
    RETURN vecsync._queue_rows(name, failed_only, force);
END
$function$;

CREATE FUNCTION vecsync.resync(name text, condition text DEFAULT NULL, failed_only boolean DEFAULT false, force boolean DEFAULT false) RETURNS bigint
    LANGUAGE sql    -- as create_vectorizer
BEGIN ATOMIC
    SELECT vecsync._resync(resync.name, resync.condition, coalesce(resync.failed_only, false), coalesce(resync.force, false), current_setting('search_path'));
END;
COMMENT ON FUNCTION vecsync.resync IS
'Has rows of the table looked at again, and returns how many: all, those for which a SQL condition over the table is true, or those in vecsync.failed. A row whose text is the one that its vector was made from is left as it is, and asks the service nothing, unless force is given. Only the owner of the table. Errors: 42704 no such vectorizer, 42501 not the owner, those of the condition.';

-- Whether a row s of the content view waits for a scan of the table, to come or under way, to reach it.
CREATE FUNCTION vecsync._awaits_scan(v vecsync.vectorizer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN format('EXISTS (SELECT FROM vecsync._scans(%s) c WHERE c.op OPERATOR(pg_catalog.<>) ''t'' AND (cardinality(c.after) OPERATOR(pg_catalog.=) 0 OR %s))',
              v.id, vecsync._key_after(v.name));

-- The rows of a column of vectors that are not as they should be: (problem, key).
CREATE FUNCTION vecsync._verify_column(v vecsync.vectorizer, keys text, dimensions integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN format($query$
SELECT p.problem, r.key
FROM (SELECT ARRAY[%1$s] AS key, s.content, s.vector, s.content OPERATOR(pg_catalog.~) E'[^ \t\n\v\f\r]' AS has_text, %6$s AS awaited FROM %2$s AS s) r
LEFT JOIN vecsync._digests(%3$s) d ON d.key OPERATOR(pg_catalog.=) vecsync._key_digest(r.key)
LEFT JOIN vecsync._queued_keys(%3$s) q ON q.key OPERATOR(pg_catalog.=) vecsync._key_digest(r.key)
LEFT JOIN vecsync._failed_keys(%3$s) f ON f.key OPERATOR(pg_catalog.=) r.key,
LATERAL (SELECT CASE WHEN f.key IS NOT NULL THEN 'failed'
                     WHEN has_text IS NOT TRUE THEN CASE WHEN r.vector IS NOT NULL THEN 'orphan' END
                     WHEN r.vector IS NULL THEN 'missing'
                     WHEN %4$s.vector_dims(r.vector) OPERATOR(pg_catalog.<>) %5$s THEN 'dimensions'
                     WHEN d.digest OPERATOR(pg_catalog.<>) vecsync._text_digest(r.content) THEN 'stale' END) p(problem)
WHERE q.key IS NULL AND NOT r.awaited AND p.problem IS NOT NULL$query$, keys, v.content_view, v.id, vecsync._vector_schema(), dimensions,
    vecsync._awaits_scan(v));

-- The same for chunks: each row's are compared with its text, cut anew.
CREATE FUNCTION vecsync._verify_chunks(v vecsync.vectorizer, keys text, dimensions integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN format($query$
SELECT p.problem, coalesce(r.key, c.key) AS key
FROM (SELECT ARRAY[%1$s] AS key, ARRAY(SELECT t.chunk FROM vecsync.chunk(s.content, %2$L, %3$s, %4$s) t ORDER BY t.seq) AS chunks,
             %10$s AS awaited FROM %5$s AS s) r
FULL JOIN (SELECT ARRAY[%1$s] AS key, array_agg(s.chunk ORDER BY s.chunk_seq) AS chunks,
                  bool_or(%6$s.vector_dims(s.embedding) OPERATOR(pg_catalog.<>) %7$s) AS other_dimensions
           FROM %8$s AS s GROUP BY 1) c ON c.key OPERATOR(pg_catalog.=) r.key
LEFT JOIN vecsync._queued_keys(%9$s) q ON q.key OPERATOR(pg_catalog.=) vecsync._key_digest(coalesce(r.key, c.key))
LEFT JOIN vecsync._failed_keys(%9$s) f ON f.key OPERATOR(pg_catalog.=) r.key,
LATERAL (SELECT CASE WHEN f.key IS NOT NULL THEN 'failed'
                     WHEN r.key IS NULL OR cardinality(r.chunks) OPERATOR(pg_catalog.=) 0 THEN CASE WHEN c.key IS NOT NULL THEN 'orphan' END
                     WHEN c.key IS NULL THEN 'missing'
                     WHEN c.other_dimensions THEN 'dimensions'
                     WHEN c.chunks OPERATOR(pg_catalog.<>) r.chunks THEN 'stale' END) p(problem)
WHERE q.key IS NULL AND r.awaited IS NOT TRUE AND p.problem IS NOT NULL
  AND (r.key IS NOT NULL OR NOT EXISTS (SELECT FROM vecsync._scans(%9$s) t WHERE t.op OPERATOR(pg_catalog.=) 't'))$query$, keys,
    -- as chunk_options_from_json() reads them
    CASE WHEN v.chunking IS NULL THEN 'none' ELSE coalesce(v.chunking->>'method', 'words') END,
    CASE WHEN v.chunking ? 'size' THEN greatest(1, (v.chunking->>'size')::numeric::integer)::text ELSE 'NULL' END,
    coalesce((v.chunking->>'overlap')::numeric::integer, 0), v.content_view, vecsync._vector_schema(), dimensions,
    v.chunk_table, v.id, vecsync._awaits_scan(v));

CREATE FUNCTION vecsync._verify(name text, repair boolean, caller_path text) RETURNS TABLE (problem text, key jsonb)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET timezone = 'UTC'
AS $function$
#variable_conflict use_column
DECLARE
    v vecsync.vectorizer := CASE WHEN repair THEN vecsync._held_vectorizer(_verify.name) ELSE vecsync._known_vectorizer(_verify.name) END;
    dimensions integer := (SELECT m.dimensions FROM vecsync.model m WHERE m.name = v.model);
    columns text := vecsync._key_texts(v.source, 's', (SELECT array_agg(('k' || n)::name ORDER BY n) FROM generate_subscripts(vecsync._key_columns(v.source), 1) n));
    query text := CASE WHEN v.chunk_table IS NULL THEN vecsync._verify_column(v, columns, dimensions)
                       ELSE vecsync._verify_chunks(v, columns, dimensions) END;
    r record;
    queued text[] := '{}';
    n integer := 0;
    any_failed boolean := false;
BEGIN
    IF EXISTS (SELECT FROM vecsync._scans(v.id) s WHERE s.op <> 't') THEN
        RAISE NOTICE USING MESSAGE = format('vectorizer "%s" is looking at all rows', v.name),
            DETAIL = 'Rows that it has not reached yet are pending, and not verified.',
            HINT = 'vecsync.wait() waits until it is through.';
    END IF;
    -- the content's functions may need the caller's path; nothing below does
    -- and texts are those that the worker sees: by the time zone that sessions begin with
    PERFORM set_config('timezone', (SELECT s.reset_val FROM pg_settings s WHERE s.name = 'TimeZone'), true);
    PERFORM set_config('search_path', caller_path, true);
    FOR r IN SELECT f.* FROM vecsync._rows_as_owner(v.id, query) AS f(problem pg_catalog.text, key pg_catalog.text[]) LOOP
        problem := r.problem;
        key := vecsync._key_json(v.source, r.key);
        RETURN NEXT;
        IF r.problem OPERATOR(pg_catalog.=) 'failed' THEN
            any_failed := true;
        ELSE
            queued := pg_catalog.array_cat(queued, r.key);
            n := n OPERATOR(pg_catalog.+) 1;
            IF repair AND n OPERATOR(pg_catalog.=) 512 THEN
                PERFORM vecsync._enqueue(v.id, queued, n, true);
            END IF;
            IF n OPERATOR(pg_catalog.=) 512 THEN
                queued := '{}';
                n := 0;
            END IF;
        END IF;
    END LOOP;
    IF repair AND n OPERATOR(pg_catalog.>) 0 THEN
        PERFORM vecsync._enqueue(v.id, queued, n, true);
    END IF;
    IF repair AND any_failed THEN
        PERFORM vecsync._queue_rows(_verify.name, true);
    END IF;
END
$function$;

CREATE FUNCTION vecsync.verify(name text, repair boolean DEFAULT false) RETURNS TABLE (problem text, key jsonb)
    LANGUAGE sql    -- as create_vectorizer
BEGIN ATOMIC
    SELECT f.problem, f.key FROM vecsync._verify(verify.name, verify.repair, current_setting('search_path')) f;
END;
COMMENT ON FUNCTION vecsync.verify IS
'Compares every row of the table with its vector, and returns those that are not as they should be, but for changes that are pending and for rows that a scan of all rows (backfill, resync) has still to reach: missing (no vector), stale (made from another text), dimensions (not the model''s), orphan (chunks without a row, or a vector of a row without text), failed (in vecsync.failed). With repair all of these are queued, and mended in the background. Vectors that were imported into a column without keep_existing are taken for right. Only the owner of the table. Errors: 42704 no such vectorizer, 42501 not the owner.';

-- Vectors that a column has already are those of its rows' present texts; the other rows are queued.
CREATE FUNCTION vecsync._keep_existing(id integer, caller_path text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET timezone = 'UTC'
AS $function$
#variable_conflict use_column
DECLARE
    v vecsync.vectorizer;
    columns text;
    dimensions integer;
    fits text;
    r record;
BEGIN
    SELECT * INTO STRICT v FROM vecsync.vectorizer x WHERE x.id = _keep_existing.id;
    columns := vecsync._key_texts(v.source, 's', (SELECT array_agg(('k' || n)::name ORDER BY n) FROM generate_subscripts(vecsync._key_columns(v.source), 1) n));
    dimensions := (SELECT m.dimensions FROM vecsync.model m WHERE m.name = v.model);
    fits := format('(s.vector IS NOT NULL AND %s.vector_dims(s.vector) OPERATOR(pg_catalog.=) %s)', vecsync._vector_schema(), dimensions);
    -- and texts are those that the worker sees: by the time zone that sessions begin with
    PERFORM set_config('timezone', (SELECT s.reset_val FROM pg_settings s WHERE s.name = 'TimeZone'), true);
    PERFORM set_config('search_path', caller_path, true);
    FOR r IN SELECT f.* FROM vecsync._rows_as_owner(v.id, format($query$
        SELECT array_agg(vecsync._key_digest(w.key)) AS keys, array_agg(vecsync._text_digest(w.content)) AS digests
        FROM (SELECT ARRAY[%s] AS key, s.content, (row_number() OVER () OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog./) 1000 AS part FROM %s AS s
              WHERE %s AND s.content OPERATOR(pg_catalog.~) E'[^ \t\n\v\f\r]') w GROUP BY w.part$query$, columns, v.content_view, fits)) AS f(keys pg_catalog.uuid[], digests pg_catalog.int8[])
    LOOP
        PERFORM vecsync._note_digests(v.id, r.keys, r.digests);
    END LOOP;
    PERFORM vecsync._enqueue_query(v.id, format('SELECT ARRAY[%s] FROM %s AS s WHERE NOT %s', columns, v.content_view, fits), false);
END
$function$;

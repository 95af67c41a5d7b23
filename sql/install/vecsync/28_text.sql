
-- ---------------------------------------------------------------------------
-- What hybrid search and namespaces need beside a vectorizer: a view whose expressions searches use, and the
-- indexes of the text leg.  Called by create_vectorizer as the owner of the table.
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync._set_search(id integer, search_view regclass, text_config regconfig) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'search_register';

-- A value as words.  Immutable for the types that _prepare_search gives it: their JSON form depends on no setting.
CREATE FUNCTION vecsync.words(value anyelement) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
AS $$SELECT pg_catalog.to_jsonb($1) OPERATOR(pg_catalog.#>>) '{}'$$;
COMMENT ON FUNCTION vecsync.words IS 'a value as the text leg of hybrid search sees it, whatever the session''s settings';

CREATE FUNCTION vecsync._prepare_search(id integer, name text, source regclass, content_columns name[], namespace name,
        text_config regconfig) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    object text := format('vecsync_%s_%%s_%s', id, name);
    schema name;
    words text;
    search_view text;
    trgm name;
BEGIN
    IF namespace IS NULL AND text_config IS NULL THEN
        RETURN;
    END IF;
    SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    IF namespace IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = source AND a.attname = namespace AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of table "%s" does not exist', namespace, source),
            HINT = 'namespace names the column whose value separates the rows.';
    END IF;
    IF text_config IS NOT NULL THEN
        -- the values, not the template's labels; timestamps with a time zone look different in each session, and no
        -- one searches for them by their words
        SELECT string_agg(CASE WHEN a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
                                 THEN format('COALESCE(%I::text, '''')', a.attname)
                               ELSE format('COALESCE(vecsync.words(%I), '''')', a.attname) END,
                          ' || '' '' || ' ORDER BY u.n) INTO words
        FROM unnest(content_columns) WITH ORDINALITY AS u(c, n)
        JOIN pg_attribute a ON a.attrelid = source AND a.attname = u.c
        WHERE a.atttypid <> ALL (ARRAY['timestamptz'::regtype, 'timetz'::regtype]);
        -- a tsvector holds less than a megabyte
        words := format('pg_catalog."left"(%s, 200000)', coalesce(words, ''''''));
    END IF;
    search_view := format('%I.%I', schema, format(object, 'search')::name);
    EXECUTE format('CREATE VIEW %s WITH (security_invoker) AS SELECT %s FROM %s', search_view,
                   concat_ws(', ', quote_ident(namespace) || ' AS namespace', words || ' AS words'), source);
    PERFORM vecsync._set_search(id, search_view::regclass, text_config);
    IF text_config IS NOT NULL THEN
        EXECUTE format('CREATE INDEX %I ON %s USING gin (to_tsvector(%L::regconfig, %s))',
                       format(object, 'text')::name, source, text_config, words);
        SELECT n.nspname INTO trgm FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm';
        IF FOUND THEN
            EXECUTE format('CREATE INDEX %I ON %s USING gin ((%s) %I.gin_trgm_ops)',
                           format(object, 'trgm')::name, source, words, trgm);
        END IF;
    END IF;
END
$function$;

CREATE FUNCTION vecsync._drop_search(id integer, name text, source regclass, search_view regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    i regclass;
BEGIN
    IF EXISTS (SELECT FROM pg_class WHERE oid = search_view) THEN
        EXECUTE format('DROP VIEW %s', search_view);
    END IF;
    FOR i IN SELECT x.indexrelid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
             WHERE x.indrelid = source AND c.relname ~ format('^vecsync_%s_(text|trgm)_', id)
    LOOP
        EXECUTE format('DROP INDEX %s', i);
    END LOOP;
END
$function$;

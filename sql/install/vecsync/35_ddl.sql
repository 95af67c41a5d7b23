-- ---------------------------------------------------------------------------
-- Commands on tables that vectorizers follow: new types of columns, partitions that come and go.
-- ---------------------------------------------------------------------------

-- What was taken away for the time of an ALTER TABLE, and is made again when it is through.
CREATE TABLE vecsync.suspended (
    vectorizer integer PRIMARY KEY REFERENCES vecsync.vectorizer (id) ON DELETE CASCADE,
    digest text,                    -- of the keys and texts before; NULL: only the view of the chunks is away
    content_view text,
    search_view text,
    statements text[] NOT NULL,
    moves text[],                   -- of views that are made again in a schema of their own
    equals text[],                  -- how chunks' keys were compared with the table's
    columns name[]                  -- that the texts are made of
);
REVOKE ALL ON vecsync.suspended FROM PUBLIC;
COMMENT ON TABLE vecsync.suspended IS 'empty but within ALTER TABLE ... ALTER COLUMN ... TYPE or DROP COLUMN';

-- As the table's owner, in a security-restricted context.
CREATE FUNCTION vecsync._run_as_owner(source regclass, statement text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'ddl_run_as_owner';
REVOKE ALL ON FUNCTION vecsync._run_as_owner(regclass, text) FROM PUBLIC;

-- Statements that make a view again as it is, with its owner and who may do what with it; in another schema if one is given.
CREATE FUNCTION vecsync._view_statements(view regclass, schema name) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH v AS (SELECT c.*, CASE WHEN schema IS NULL THEN c.oid::regclass::text ELSE format('%I.%I', schema, c.relname) END AS name
               FROM pg_class c WHERE c.oid = view)
    SELECT format('CREATE VIEW %s %s AS %s', v.name, 'WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid)) FROM v
    UNION ALL
    SELECT format('ALTER VIEW %s OWNER TO %I', v.name, pg_get_userbyid(v.relowner)) FROM v
    UNION ALL
    SELECT format('GRANT %s ON %s TO %s%s', a.privilege_type, v.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM v, aclexplode(v.relacl) a WHERE a.grantee <> v.relowner;
END;
REVOKE ALL ON FUNCTION vecsync._view_statements FROM PUBLIC;

CREATE FUNCTION vecsync._scratch_schema(id integer) RETURNS name
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN format('vecsync_%s_scratch', id)::name;

-- For new types.  A dropped column is in the way of the view of the chunks only (digest NULL), or of the vectorizer.
CREATE FUNCTION vecsync._suspend(id integer, digest text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v record;
    views regclass[];
    view regclass;
    made text[];
    moves text[];
    scratch name;
    dropped text[] := '{}';
    statement text;
BEGIN
    SELECT * INTO STRICT v FROM vecsync.vectorizer x WHERE x.id = _suspend.id;
    IF digest IS NULL THEN
        view := vecsync._own_chunks_view(v.chunk_table, v.name);
        IF view IS NOT NULL THEN
            INSERT INTO vecsync.suspended (vectorizer, statements) SELECT id, array_agg(w.s) FROM (SELECT vecsync._view_statements(view, NULL) OFFSET 1) w(s);
            EXECUTE format('DROP VIEW %s', view);
        END IF;
        RETURN;
    END IF;
    views := array_remove(ARRAY[v.content_view, v.search_view, vecsync._own_chunks_view(v.chunk_table, v.name)], NULL);
    -- the owner makes them, and need not have the right to make something where they are
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY (views) AND NOT has_schema_privilege(c.relowner, c.relnamespace, 'CREATE')) THEN
        scratch := vecsync._scratch_schema(id);
        moves := ARRAY(SELECT format('ALTER VIEW %I.%I SET SCHEMA %s', scratch, c.relname, c.relnamespace::regnamespace) FROM pg_class c WHERE c.oid = ANY (views));
    END IF;
    FOREACH view IN ARRAY views LOOP
        made := made || ARRAY(SELECT vecsync._view_statements(view, scratch));
        dropped := dropped || format('DROP VIEW %s', view);
    END LOOP;
    FOR statement IN
        SELECT format('CREATE POLICY %I ON %s FOR SELECT USING (%s)', p.polname, p.polrelid::regclass, pg_get_expr(p.polqual, p.polrelid))
        FROM pg_policy p WHERE p.polrelid = v.chunk_table AND p.polname = 'as_the_source'
    LOOP
        made := made || statement;
        dropped := dropped || format('DROP POLICY as_the_source ON %s', v.chunk_table);
    END LOOP;
    FOR statement IN
        SELECT unnest(ARRAY[pg_get_triggerdef(t.oid),
                            format('ALTER TABLE %s %s TRIGGER %I', t.tgrelid::regclass,
                                   CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END, t.tgname)])
        FROM pg_trigger t WHERE t.tgrelid = v.source AND t.tgname = vecsync._object_name(v.id, 'update', v.name)
    LOOP
        made := made || statement;
    END LOOP;
    dropped := dropped || format('DROP TRIGGER IF EXISTS %I ON %s', vecsync._object_name(v.id, 'update', v.name), v.source);
    INSERT INTO vecsync.suspended VALUES (id, digest, v.content_view::text, v.search_view::text, made, moves, vecsync._key_equals(v.source),
        ARRAY(SELECT DISTINCT a.attname FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
              JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
              WHERE r.ev_class = v.content_view AND d.refclassid = 'pg_class'::regclass AND d.refobjid = v.source AND d.refobjsubid > 0));
    -- so that _on_drop takes none of it for the user's wish
    UPDATE vecsync.vectorizer x SET content_view = 0, search_view = NULL WHERE x.id = _suspend.id;
    FOREACH statement IN ARRAY dropped LOOP
        EXECUTE statement;
    END LOOP;
END
$function$;
REVOKE ALL ON FUNCTION vecsync._suspend FROM PUBLIC;

-- The digest that _suspend was given.
CREATE FUNCTION vecsync._resume(id integer) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    s record;
    v record;
    statement text;
    chunks_view text;
    dimensions integer;
BEGIN
    DELETE FROM vecsync.suspended x WHERE x.vectorizer = _resume.id RETURNING * INTO s;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO STRICT v FROM vecsync.vectorizer x WHERE x.id = _resume.id;
    IF s.digest IS NULL THEN
        PERFORM vecsync._create_chunks_view(v.source, v.chunk_table, v.name);
        FOREACH statement IN ARRAY s.statements LOOP
            EXECUTE statement;
        END LOOP;
        RETURN NULL;
    END IF;
    chunks_view := CASE WHEN s.moves IS NULL THEN vecsync._chunks_view(v.chunk_table, v.name)
                        ELSE format('%I.%I', vecsync._scratch_schema(id), (v.name || '_chunks')::name) END;
    FOR statement IN    -- the chunks' keys have the source's types
        SELECT format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %2$I::%3$s', v.chunk_table, c.attname, format_type(k.atttypid, k.atttypmod))
        FROM unnest(vecsync._key_columns(v.source)) WITH ORDINALITY u(name, n)
        JOIN pg_attribute k ON k.attrelid = v.source AND k.attname = u.name
        JOIN pg_attribute c ON c.attrelid = v.chunk_table AND c.attname = 'k' || u.n
        WHERE (c.atttypid, c.atttypmod) <> (k.atttypid, k.atttypmod)
    LOOP
        BEGIN
            PERFORM vecsync._run_as_owner(v.source, statement);
        EXCEPTION WHEN OTHERS THEN
            RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = format('the type of a key column of table "%s" cannot be changed', v.source::regclass),
                DETAIL = format('The chunks of vectorizer "%s" are known by the key''s old values: %s.', v.name, SQLERRM),
                HINT = 'Drop the vectorizer and make it again after the change.';
        END;
    END LOOP;
    IF s.moves IS NOT NULL THEN
        EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', vecsync._scratch_schema(id),
                       (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = v.source));
    END IF;
    FOREACH statement IN ARRAY s.statements LOOP
        -- of the new types the equality may be another operator
        IF s.equals <> vecsync._key_equals(v.source) AND v.chunk_table IS NOT NULL THEN
            IF starts_with(statement, format('CREATE VIEW %s ', chunks_view)) THEN
                statement := vecsync._chunks_view_sql(v.source, v.chunk_table, chunks_view);
            ELSIF starts_with(statement, format('CREATE POLICY as_the_source ON %s ', v.chunk_table)) THEN
                statement := vecsync._chunks_policy_sql(v.source, v.chunk_table, s.columns);
            END IF;
        END IF;
        PERFORM vecsync._run_as_owner(v.source, statement);
    END LOOP;
    IF s.moves IS NOT NULL THEN
        FOREACH statement IN ARRAY s.moves LOOP
            EXECUTE statement;
        END LOOP;
        EXECUTE format('DROP SCHEMA %I', vecsync._scratch_schema(id));
    END IF;
    UPDATE vecsync.vectorizer x SET content_view = s.content_view::regclass, search_view = s.search_view::regclass WHERE x.id = _resume.id;
    IF v.chunk_table IS NULL THEN
        SELECT m.dimensions INTO dimensions FROM vecsync.model m WHERE m.name = v.model;
        PERFORM vecsync._ensure_column(v.source, vecsync._target_column(s.content_view::regclass), dimensions);
    END IF;
    RETURN s.digest;
END
$function$;
REVOKE ALL ON FUNCTION vecsync._resume FROM PUBLIC;

-- TRUNCATE of a partition fires no trigger of the partitioned table: each partition has one of its own, while it is one.
CREATE FUNCTION vecsync._tend_partitions(id integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v record;
    partition regclass;
    trigger_name name;
BEGIN
    SELECT * INTO STRICT v FROM vecsync.vectorizer x WHERE x.id = _tend_partitions.id;
    trigger_name := vecsync._object_name(v.id, 'truncate', v.name);
    FOR partition IN SELECT t.relid FROM pg_partition_tree(v.source) t
                     WHERE t.level > 0 AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.relid AND g.tgname = trigger_name)
    LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION vecsync.capture(%s)', trigger_name, partition, v.id);
        IF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = v.source AND g.tgname = trigger_name AND g.tgenabled = 'A') THEN
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', partition, trigger_name);
        END IF;
    END LOOP;
    FOR partition IN SELECT g.tgrelid FROM pg_trigger g
                     WHERE g.tgname = trigger_name AND g.tgfoid = 'vecsync.capture()'::regprocedure AND g.tgrelid <> v.source
                       AND g.tgrelid NOT IN (SELECT t.relid FROM pg_partition_tree(v.source) t)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, partition);
    END LOOP;
END
$function$;

CREATE FUNCTION vecsync._drop_partition_triggers(id integer, name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    t record;
BEGIN
    FOR t IN SELECT g.tgname, g.tgrelid::regclass AS rel FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
             WHERE g.tgname = vecsync._object_name(id, 'truncate', name) AND g.tgfoid = 'vecsync.capture()'::regprocedure AND c.relispartition
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.rel);
    END LOOP;
END
$function$;
REVOKE ALL ON FUNCTION vecsync._drop_partition_triggers FROM PUBLIC;

CREATE FUNCTION vecsync._ddl_begins() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'ddl_begins';
REVOKE ALL ON FUNCTION vecsync._ddl_begins() FROM PUBLIC;
CREATE FUNCTION vecsync._ddl_ended() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'ddl_ended';
REVOKE ALL ON FUNCTION vecsync._ddl_ended() FROM PUBLIC;
CREATE EVENT TRIGGER vecsync_ddl_begins ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION vecsync._ddl_begins();
CREATE EVENT TRIGGER vecsync_ddl_ended ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE') EXECUTE FUNCTION vecsync._ddl_ended();

-- ---------------------------------------------------------------------------
-- Generations: a vectorizer changes its model, content or chunking while it goes on serving.  The next generation
-- is a vectorizer of its own, with a predecessor; it takes the name when it is complete.
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync._content_expression(content_view regclass) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'generation_content_expression';
CREATE FUNCTION vecsync._view_column(view regclass, name name) RETURNS name
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'generation_view_column';
CREATE FUNCTION vecsync._index_predicate(index regclass, old_column name, new_column name) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'generation_index_predicate';
CREATE FUNCTION vecsync._lock_vectorizer(id integer, alone boolean) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'generation_lock';
CREATE FUNCTION vecsync._hold_vectorizer(id integer) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'generation_hold';
CREATE FUNCTION vecsync._begin_generation(id integer, predecessor integer, generation integer, cutover text,
        pending_index jsonb) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'generation_begin';
CREATE FUNCTION vecsync._index_built(id integer) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'generation_index_built';
CREATE FUNCTION vecsync._set_metric(id integer, metric text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'generation_set_metric';
CREATE FUNCTION vecsync._unfinished(old integer, new integer) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'generation_unfinished';
CREATE FUNCTION vecsync._switch_generations(old integer, new integer, takes_search boolean) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'generation_switch';
CREATE FUNCTION vecsync._unseen(retired xid8) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'generation_unseen';

-- The indexes on a vector column alone, of single partitions, too: those that a new generation has again.  Others, with
-- expressions or several columns, count as dependents.
CREATE FUNCTION vecsync._vector_indexes(target regclass, target_column name, OUT rel regclass, OUT index regclass, OUT index_name name,
        OUT method name, OUT opclass name, OUT opclass_schema name, OUT options text) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
SELECT x.indrelid, c.oid, c.relname, m.amname, o.opcname, n.nspname,
       (SELECT string_agg(format('%I = %L', option_name, option_value), ', ') FROM pg_options_to_table(c.reloptions))
FROM pg_attribute a
JOIN pg_index x ON x.indrelid = a.attrelid AND x.indkey::text = a.attnum::text AND NOT x.indisunique
JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = x.indclass[0] JOIN pg_namespace n ON n.oid = o.opcnamespace
WHERE a.attname = target_column AND NOT a.attisdropped
  AND (a.attrelid = target OR a.attrelid IN (SELECT t.relid FROM pg_partition_tree(target) t))
  AND NOT c.relispartition
ORDER BY c.oid
$function$;

-- What such an index is called before the cut-over, and after it, while the other one has its name.
CREATE FUNCTION vecsync._index_alias(id integer, index_name name) RETURNS name
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN format('vecsync_%s_index_%s', id, md5(index_name))::name;

-- Makes one of them again, on another column or for another metric.
CREATE FUNCTION vecsync._repeat_index(i record, name name, target regclass, old_column name, new_column name,
        old_metric text, metric text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE format('CREATE INDEX %I ON %s USING %I (%I %I.%I)%s%s', name, target, i.method, new_column, i.opclass_schema,
                   CASE i.opclass WHEN 'vector_' || old_metric || '_ops' THEN 'vector_' || metric || '_ops' ELSE i.opclass END,
                   ' WITH (' || i.options || ')', ' WHERE ' || vecsync._index_predicate(i.index, old_column, new_column));
END
$function$;

-- What a query names must be able to change its meaning: objects that hold on to the old column, or to the view of
-- the chunks, by more than its name would go on with the old vectors.
CREATE FUNCTION vecsync._refuse_dependents(source regclass, content_view regclass, chunks_view regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    target name := CASE WHEN chunks_view IS NULL THEN vecsync._target_column(content_view) END;
    dependents text;
BEGIN
    WITH target_column AS MATERIALIZED (    -- of each partition, too
        SELECT a.attrelid, a.attnum FROM pg_attribute a
        WHERE a.attname = target AND NOT a.attisdropped
          AND (a.attrelid = source OR a.attrelid IN (SELECT t.relid FROM pg_partition_tree(source) t)))
    SELECT string_agg(DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
                                    ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END, ', ') INTO dependents
    FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    WHERE d.refclassid = 'pg_class'::regclass
      AND CASE WHEN chunks_view IS NULL THEN (d.refobjid, d.refobjsubid) IN (SELECT c.attrelid, c.attnum FROM target_column c)
               ELSE d.refobjid = chunks_view END
      AND d.deptype NOT IN ('i', 'P', 'S')
      AND (r.oid IS NULL OR r.ev_class <> content_view AND r.ev_class IS DISTINCT FROM chunks_view)
      AND NOT (d.classid = 'pg_attrdef'::regclass
               AND d.objid IN (SELECT f.oid FROM pg_attrdef f JOIN target_column c ON f.adrelid = c.attrelid AND f.adnum = c.attnum))
      AND NOT (d.classid = 'pg_class'::regclass
               AND d.objid IN (SELECT i.index FROM vecsync._vector_indexes(source, target) i
                               UNION ALL SELECT c.oid FROM pg_class c WHERE c.relkind = 'i' AND c.relispartition));
    IF dependents IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot change what %s means',
                             CASE WHEN chunks_view IS NULL THEN format('column "%s" of table %s', target, source)
                                  ELSE format('view %s', chunks_view) END),
            DETAIL = format('It is used by %s, which would go on with the old vectors.', dependents),
            HINT = 'Drop these first and make them again after the cut-over.';
    END IF;
    IF chunks_view IS NULL AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = target AND a.attinhcount > 0) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('column "%s" of table %s is inherited and cannot be changed here', target, source),
            HINT = 'Make a vectorizer for the parent table.';
    END IF;
END
$function$;

-- Who may read or write the old column or view may do so with the new one.
CREATE FUNCTION vecsync._copy_grants(from_relation regclass, from_column name, to_relation regclass, to_column name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    g record;
BEGIN
    FOR g IN SELECT x.* FROM pg_class c
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = from_column,
             LATERAL aclexplode(CASE WHEN from_column IS NULL THEN c.relacl ELSE a.attacl END) x
             WHERE c.oid = from_relation AND x.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s%s ON %s TO %s%s', g.privilege_type, ' (' || quote_ident(to_column) || ')', to_relation,
                       CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                       CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END
$function$;

-- How the column is stored, counted and described.
CREATE FUNCTION vecsync._copy_column_options(source regclass, from_column name, to_column name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    a record;
    options text;
    change text := format('ALTER TABLE %s ALTER COLUMN %I SET ', source, to_column);
BEGIN
    SELECT x.* INTO STRICT a FROM pg_attribute x WHERE x.attrelid = source AND x.attname = from_column;
    EXECUTE change || 'STORAGE ' || CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END;
    IF a.attcompression IN ('p', 'l') THEN
        EXECUTE change || 'COMPRESSION ' || CASE a.attcompression WHEN 'p' THEN 'pglz' ELSE 'lz4' END;
    END IF;
    IF a.attstattarget >= 0 THEN
        EXECUTE change || 'STATISTICS ' || a.attstattarget;
    END IF;
    SELECT string_agg(format('%I = %L', o.option_name, o.option_value), ', ') INTO options FROM pg_options_to_table(a.attoptions) o
    WHERE o.option_name IN ('n_distinct', 'n_distinct_inherited');
    IF options IS NOT NULL THEN
        EXECUTE change || '(' || options || ')';
    END IF;
    IF col_description(source, a.attnum) IS NOT NULL THEN
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', source, to_column, col_description(source, a.attnum));
    END IF;
END
$function$;

-- The columns of the table that a vectorizer's content uses: those of the view, and those that its update trigger
-- compares, since content that is the whole row names none.
CREATE FUNCTION vecsync._content_columns(v vecsync.vectorizer, target name) RETURNS name[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT array_agg(DISTINCT a.attname)
        FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE (d.classid = 'pg_rewrite'::regclass AND d.objid IN (SELECT r.oid FROM pg_rewrite r WHERE r.ev_class = (v).content_view)
               OR d.classid = 'pg_trigger'::regclass
                  AND d.objid IN (SELECT t.oid FROM pg_trigger t
                                  WHERE t.tgrelid = (v).source AND t.tgname = vecsync._object_name((v).id, 'update', (v).name)))
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = (v).source
          AND d.refobjsubid > 0 AND a.attname IS DISTINCT FROM target);

-- Index or metric alone: the vectors stay, so this is done at once.
CREATE FUNCTION vecsync._alter_index(v vecsync.vectorizer, metric text, index jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    target regclass := coalesce(v.chunk_table, v.source);
    target_column name := CASE WHEN v.chunk_table IS NULL THEN vecsync._target_column(v.content_view) ELSE 'embedding' END;
    i record;
BEGIN
    PERFORM vecsync._set_metric(v.id, metric);
    FOR i IN SELECT * FROM vecsync._vector_indexes(target, target_column) LOOP
        EXECUTE format('ALTER INDEX %s RENAME TO %I', i.index, vecsync._index_alias(v.id, i.index_name));
        IF index IS NULL THEN
            PERFORM vecsync._repeat_index(i, i.index_name, i.rel, target_column, target_column, v.metric, metric);
        END IF;
        EXECUTE format('DROP INDEX %s', i.index);
    END LOOP;
    PERFORM vecsync._create_index(target, target_column, metric, index);
END
$function$;

-- An index that has to wait for its rows is tried on an empty table, so that what is wrong with it is told now.
CREATE FUNCTION vecsync._try_index(id integer, target regclass, target_column name, metric text, index jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $function$
#variable_conflict use_variable
DECLARE
    trial text;
BEGIN
    SELECT format('%I.%I', n.nspname, vecsync._object_name(id, 'trial', c.relname)) INTO trial
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target;
    EXECUTE format('CREATE TABLE %s (%I %s)', trial, target_column,
                   (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = target AND a.attname = target_column));
    PERFORM vecsync._create_index(trial::regclass, target_column, metric, index);
    EXECUTE format('DROP TABLE %s', trial);
END
$function$;

-- The indexes of the next generation.  An empty hnsw index costs nothing and grows with the rows; an ivfflat index
-- needs rows to learn from and is made when they are there: that is what is returned.
CREATE FUNCTION vecsync._prepare_indexes(v vecsync.vectorizer, id integer, target regclass, target_column name, metric text,
        index jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    old_column name := CASE WHEN v.chunk_table IS NULL THEN vecsync._target_column(v.content_view) ELSE 'embedding' END;
    pending jsonb;
    i record;
BEGIN
    IF index IS NOT NULL THEN
        IF index->>'method' = 'ivfflat' THEN
            PERFORM vecsync._try_index(id, target, target_column, metric, index);
            RETURN index;
        END IF;
        PERFORM vecsync._create_index(target, target_column, metric, index);
        RETURN NULL;
    END IF;
    FOR i IN SELECT * FROM vecsync._vector_indexes(coalesce(v.chunk_table, v.source), old_column) LOOP
        IF i.method = 'ivfflat' THEN
            IF i.opclass = 'vector_' || v.metric || '_ops' THEN
                PERFORM vecsync._try_index(id, target, target_column, metric, '{"method": "ivfflat"}');
            END IF;
            pending := '{"method": "as before"}';
        ELSE
            PERFORM vecsync._repeat_index(i, vecsync._index_alias(id, i.index_name),
                                          CASE WHEN v.chunk_table IS NULL THEN i.rel ELSE target END, old_column, target_column, v.metric, metric);
        END IF;
    END LOOP;
    RETURN pending;
END
$function$;

-- The vectorizer that the caller means, if it can be changed now.
CREATE FUNCTION vecsync._vectorizer_to_change(name text) RETURNS vecsync.vectorizer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer;
BEGIN
    SELECT * INTO v FROM vecsync.vectorizer x WHERE x.name = name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('vectorizer "%s" does not exist', name),
            HINT = 'vecsync.create_vectorizer() makes one; vecsync.status lists them.';
    ELSIF v.successor_of IS NOT NULL OR v.retired IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('"%s" is not the serving generation of its vectorizer', name);
    END IF;
    RETURN v;
END
$function$;

CREATE FUNCTION vecsync._check_alter_options(v vecsync.vectorizer, options jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    unknown text;
BEGIN
    IF options IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'options must not be null';
    END IF;
    SELECT o INTO unknown FROM jsonb_object_keys(options) o
    WHERE o NOT IN ('model', 'content', 'chunking', 'metric', 'index')
       OR jsonb_typeof(options->o) <> ALL (CASE o WHEN 'index' THEN ARRAY['object'] WHEN 'chunking' THEN ARRAY['object', 'null'] ELSE ARRAY['string'] END)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid option "%s"', unknown),
            HINT = 'Options are model, content, metric (strings), chunking and index (objects).';
    ELSIF options = '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'no option is given',
            HINT = 'Options are model, content, chunking, metric and index.';
    ELSIF options->>'metric' NOT IN ('cosine', 'l2', 'ip', 'l1') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown metric "%s"', options->>'metric'),
            HINT = 'Metrics are cosine, l2, ip and l1.';
    ELSIF v.chunk_table IS NULL AND jsonb_typeof(options->'chunking') = 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'chunks cannot live in a column of the table',
            HINT = 'Make another vectorizer with chunking and drop this one when it is in step.';
    END IF;
    IF jsonb_typeof(options->'chunking') = 'object' THEN
        PERFORM vecsync._check_chunking(options->'chunking');
    END IF;
    IF EXISTS (SELECT FROM vecsync.vectorizer s WHERE s.successor_of = v.id) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('vectorizer "%s" is being changed already', v.name),
            HINT = 'Wait for the cut-over, or give the change up with vecsync.abandon().';
    END IF;
END
$function$;

CREATE FUNCTION vecsync._model_dimensions(model text) RETURNS integer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    m record;
BEGIN
    SELECT x.dimensions, x.kind INTO m FROM vecsync.model x WHERE x.name = model;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', model),
            HINT = 'vecsync.create_model() makes one.';
    ELSIF m.kind <> 'embedding' THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('model "%s" does not embed: its kind is %s', model, m.kind);
    END IF;
    RETURN m.dimensions;
END
$function$;

-- The work of alter_vectorizer, with a search_path of its own.
CREATE FUNCTION vecsync._alter_vectorizer(name text, options jsonb, cutover text, caller_path text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer := vecsync._vectorizer_to_change(name);
    id integer;
    next_name text;
    model text;
    content text;
    chunking jsonb;
    metric text;
    old_column name;
    target name;
    keys name[];
    compiled record;
    columns name[];
    expression text;
    content_view regclass;
    chunk_table regclass;
    pending jsonb;
BEGIN
    IF cutover IS NULL OR cutover NOT IN ('auto', 'manual') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid cutover "%s"', cutover),
            HINT = 'Write ''auto'' or ''manual''.';
    END IF;
    -- a column is added for new vectors beside the old ones
    PERFORM vecsync._lock_vectorizer(v.id, v.chunk_table IS NULL AND coalesce(options ?| ARRAY['model', 'content', 'chunking'], false));
    -- Whatever held the table until now may have changed it, or another generation serves.
    v := vecsync._vectorizer_to_change(name);
    next_name := format('generation %s of %s', v.generation + 1, v.name);
    model := coalesce(options->>'model', v.model);
    content := coalesce(options->>'content', v.content);
    chunking := CASE WHEN options ? 'chunking' THEN nullif(options->'chunking', 'null') ELSE v.chunking END;
    metric := coalesce(options->>'metric', v.metric);
    old_column := CASE WHEN v.chunk_table IS NULL THEN vecsync._target_column(v.content_view) END;
    PERFORM vecsync._check_alter_options(v, options);
    id := vecsync._reserve_vectorizer(v.source);    -- also checks whose table it is
    IF NOT options ?| ARRAY['model', 'content', 'chunking'] THEN
        PERFORM vecsync._alter_index(v, metric, options->'index');
        RETURN;
    END IF;
    PERFORM vecsync._refuse_dependents(v.source, v.content_view, vecsync._chunks_view(v.chunk_table, v.name)::regclass);

    keys := vecsync._key_columns(v.source);
    IF options ? 'content' THEN
        compiled := vecsync._compile_content(v.source, content);
        columns := compiled.columns;
        expression := format('vecsync._content(%s)', compiled.expression);
    ELSE
        columns := vecsync._content_columns(v, old_column);
        expression := vecsync._content_expression(v.content_view);
    END IF;
    IF v.chunk_table IS NULL THEN
        IF old_column = ANY (columns || keys) THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('column "%s" cannot be both content and destination', old_column);
        END IF;
        target := vecsync._object_name(id, 'vector', old_column);
        PERFORM vecsync._ensure_column(v.source, target, vecsync._model_dimensions(model));
        PERFORM vecsync._copy_column_options(v.source, old_column, target);
        pending := vecsync._prepare_indexes(v, id, v.source, target, metric, options->'index');
    ELSE
        chunk_table := vecsync._create_chunks(id, next_name, v.source, keys, columns, vecsync._model_dimensions(model));
        pending := vecsync._prepare_indexes(v, id, chunk_table, 'embedding', metric, options->'index');
    END IF;
    content_view := vecsync._create_content_view(id, v.name, v.source, keys, expression, target, caller_path);
    PERFORM vecsync._create_triggers(id, v.name, v.source, columns,
                                     (SELECT t.tgenabled = 'A' FROM pg_trigger t
                                      WHERE t.tgrelid = v.source AND t.tgname = vecsync._object_name(v.id, 'write', v.name)));
    PERFORM vecsync._register_vectorizer(id, next_name, v.source, model, content, content_view, metric,
                                         chunking, chunk_table, true);
    PERFORM vecsync._tend_partitions(id);
    PERFORM vecsync._begin_generation(id, v.id, v.generation + 1, cutover, pending);
    IF v.search_view IS NOT NULL AND options ? 'content' THEN
        PERFORM vecsync._prepare_search(id, v.name, v.source, columns, vecsync._view_column(v.search_view, 'namespace'), v.text_config::regconfig);
    END IF;
    PERFORM vecsync._hand_over(id);
END
$function$;

CREATE FUNCTION vecsync.alter_vectorizer(name text, options jsonb, cutover text DEFAULT 'auto') RETURNS void
    LANGUAGE sql    -- as create_vectorizer
BEGIN ATOMIC
    SELECT vecsync._alter_vectorizer(alter_vectorizer.name, alter_vectorizer.options, alter_vectorizer.cutover, current_setting('search_path'));
END;
COMMENT ON FUNCTION vecsync.alter_vectorizer IS
'Changes a vectorizer: a JSON object of create_vectorizer''s arguments model, content, chunking, metric and index. When the vectors change (model, content, chunking), the next generation is embedded beside the serving one, which goes on to be followed and searched; vecsync.status shows it under the name "generation N of NAME". When no row is missing it takes the place of the old one, in one transaction: by itself (cutover auto) or when vecsync.cutover() says so (manual); vecsync.abandon() gives it up. Indexes are those of the old vectors unless index says otherwise. index and metric alone are changed at once, and writes wait meanwhile. Only the owner of the table. Errors: 42704 no such vectorizer or model, 22023 bad options, 55006 it is being changed already, 2BP01 a view or the like uses the column of the vectors.';

-- Makes the index that had to wait for the rows.  In a transaction of its own, since writers wait for it.
CREATE FUNCTION vecsync._build_pending_index(id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer;
    old vecsync.vectorizer;
    target regclass;
    target_column name;
    old_column name;
    i record;
BEGIN
    SELECT * INTO STRICT v FROM vecsync.vectorizer x WHERE x.id = id;
    target := coalesce(v.chunk_table, v.source);
    target_column := CASE WHEN v.chunk_table IS NULL THEN vecsync._target_column(v.content_view) ELSE 'embedding' END;
    IF v.pending_index->>'method' = 'as before' THEN
        SELECT * INTO STRICT old FROM vecsync.vectorizer x WHERE x.id = v.successor_of;
        old_column := CASE WHEN old.chunk_table IS NULL THEN vecsync._target_column(old.content_view) ELSE 'embedding' END;
        FOR i IN SELECT * FROM vecsync._vector_indexes(coalesce(old.chunk_table, old.source), old_column) WHERE method = 'ivfflat' LOOP
            PERFORM vecsync._repeat_index(i, vecsync._index_alias(id, i.index_name), CASE WHEN v.chunk_table IS NULL THEN i.rel ELSE target END,
                                          old_column, target_column, old.metric, v.metric);
        END LOOP;
    ELSE
        PERFORM vecsync._create_index(target, target_column, v.metric, v.pending_index);
    END IF;
    PERFORM vecsync._index_built(id);
END
$function$;

-- A generation in the making, or one that was; an error for one that was given up.
CREATE FUNCTION vecsync._generation(id integer) RETURNS vecsync.vectorizer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer;
BEGIN
    SELECT * INTO v FROM vecsync.vectorizer x WHERE x.id = id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the next generation was given up meanwhile';
    END IF;
    RETURN v;
END
$function$;

-- The cut-over, if the lock is given and nothing lacks: else what does (see _unfinished).  What queries name,
-- the column or the view NAME_chunks, is renamed and not copied, so this takes a moment whatever the table's size.
CREATE FUNCTION vecsync._cut_over(id integer, force boolean) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    new vecsync.vectorizer;
    old vecsync.vectorizer;
    lack text;
    served name;
    chunks_view text;
    takes_search boolean;
    made record;
BEGIN
    new := vecsync._generation(id);
    lack := vecsync._unfinished(new.successor_of, id);
    IF lack IS NULL OR force THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', new.source);
        -- Whoever held the table until now may have been faster.
        new := vecsync._generation(id);
        IF new.successor_of IS NULL THEN
            RETURN NULL;
        END IF;
        lack := vecsync._unfinished(new.successor_of, id);
    END IF;
    IF lack IS NOT NULL AND NOT force THEN
        RETURN lack;
    END IF;
    SELECT * INTO STRICT old FROM vecsync.vectorizer x WHERE x.id = new.successor_of;
    chunks_view := vecsync._chunks_view(old.chunk_table, old.name);
    PERFORM vecsync._refuse_dependents(old.source, old.content_view, chunks_view::regclass);
    IF old.chunk_table IS NULL THEN
        served := vecsync._target_column(old.content_view);
        PERFORM vecsync._copy_grants(t.rel, served, t.rel, vecsync._target_column(new.content_view))
        FROM (SELECT old.source AS rel UNION SELECT p.relid FROM pg_partition_tree(old.source) p) t;
        FOR made IN SELECT i.index, i.index_name, x.oid::regclass AS successor
                    FROM vecsync._vector_indexes(old.source, served) i JOIN pg_class c ON c.oid = i.index
                    JOIN pg_class x ON x.relnamespace = c.relnamespace AND x.relname = vecsync._index_alias(new.id, i.index_name)
        LOOP
            EXECUTE format('ALTER INDEX %s RENAME TO %I', made.index, vecsync._index_alias(old.id, made.index_name));
            EXECUTE format('ALTER INDEX %s RENAME TO %I', made.successor, made.index_name);
        END LOOP;
        EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', old.source, served, vecsync._object_name(old.id, 'vector', served));
        EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', old.source, vecsync._target_column(new.content_view), served);
    ELSE
        PERFORM vecsync._copy_grants(chunks_view::regclass, NULL, vecsync._chunks_view(new.chunk_table, new.name)::regclass, NULL);
        EXECUTE format('ALTER VIEW %s RENAME TO %I', chunks_view, (format('generation %s of %s', old.generation, old.name) || '_chunks')::name);
        EXECUTE format('ALTER VIEW %s RENAME TO %I', vecsync._chunks_view(new.chunk_table, new.name), (old.name || '_chunks')::name);
    END IF;
    takes_search := old.search_view IS NOT NULL AND new.search_view IS NULL;
    IF takes_search THEN
        FOR made IN SELECT c.oid::regclass AS object, c.relname FROM pg_class c
                    WHERE c.relname ~ format('^vecsync_%s_(search|text|trgm)_', old.id)
                      AND (c.oid = old.search_view OR c.oid IN (SELECT x.indexrelid FROM pg_index x WHERE x.indrelid = old.source))
        LOOP
            EXECUTE format('ALTER TABLE %s RENAME TO %I', made.object, regexp_replace(made.relname, '^vecsync_[0-9]+_', format('vecsync_%s_', new.id)));
        END LOOP;
    END IF;
    PERFORM vecsync._drop_triggers(old.id, old.source);
    PERFORM vecsync._switch_generations(old.id, new.id, takes_search);
    RETURN NULL;
END
$function$;

CREATE FUNCTION vecsync._successor(name text) RETURNS vecsync.vectorizer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer := vecsync._vectorizer_to_change(name);
    successor vecsync.vectorizer;
BEGIN
    SELECT * INTO successor FROM vecsync.vectorizer x WHERE x.successor_of = v.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('vectorizer "%s" is not being changed', name),
            HINT = 'vecsync.alter_vectorizer() begins a change.';
    END IF;
    RETURN successor;
END
$function$;

CREATE FUNCTION vecsync.cutover(name text, force boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $function$
#variable_conflict use_variable
DECLARE
    successor vecsync.vectorizer := vecsync._successor(name);
    lack text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'cutover must see the present state of the queue',
            HINT = 'Call it in a READ COMMITTED transaction.';
    END IF;
    FOR attempt IN 1..10 LOOP
        BEGIN
            lack := vecsync._cut_over(successor.id, force);
            IF lack IS NULL THEN
                RETURN;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'VS001', MESSAGE = 'not complete';    -- gives the lock back
        EXCEPTION
            WHEN SQLSTATE 'VS001' THEN
                EXIT WHEN lack <> 'pending';
            WHEN lock_not_available THEN
                -- nobody queues behind our request for longer than lock_timeout
                IF attempt = 10 THEN
                    RAISE;
                END IF;
        END;
        PERFORM pg_sleep(0.05 * attempt);
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('generation %s of vectorizer "%s" is not complete', successor.generation, name),
        DETAIL = CASE lack WHEN 'pending' THEN 'Rows are still to be embedded.'
                           WHEN 'index' THEN 'Its index is not built yet.'
                           ELSE 'Rows failed in it that the serving generation has.' END,
        HINT = CASE lack WHEN 'failed' THEN format('Try them again with vecsync.resync(%L, failed_only => true), or say force => true.', successor.name)
                         ELSE 'vecsync.status shows how far it is; force => true cuts over as it is.' END;
END
$function$;
COMMENT ON FUNCTION vecsync.cutover IS
'Puts the next generation of a vectorizer into use, when no row that the serving one has is missing in it: from this transaction''s commit on, the name, the column of the vectors (or the view NAME_chunks) and every search are the new generation''s. With force also an incomplete one. The old vectors are dropped when no transaction can see them any more. Only the owner of the table. Errors: 55000 nothing to cut over to, or not complete; 55P03 the table was in use for too long; 2BP01 a view or the like uses the column of the vectors.';

CREATE FUNCTION vecsync.abandon(name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    successor vecsync.vectorizer := vecsync._successor(name);
BEGIN
    PERFORM vecsync.drop_vectorizer(successor.name, keep_data => false);
END
$function$;
COMMENT ON FUNCTION vecsync.abandon IS
'Gives up the change of a vectorizer: the next generation''s vectors are dropped, and the serving one is as if nothing had happened. Only the owner of the table. Errors: 42704 no such vectorizer, 55000 it is not being changed.';

CREATE FUNCTION vecsync.embed_for(name text, input text) RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_for_vectorizer';
COMMENT ON FUNCTION vecsync.embed_for IS
'The vector of a question by the model whose vectors the vectorizer''s column holds now: for queries of one''s own, ORDER BY embedding <=> vecsync.embed_for(name, text), that go on when the model changes. Errors: 42704 no such vectorizer, and those of vecsync.embed.';

-- The worker's: drops a retired generation that nobody can see any more; false while somebody can.
CREATE FUNCTION vecsync._drop_retired(id integer) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v vecsync.vectorizer;
BEGIN
    SELECT * INTO v FROM vecsync.vectorizer x WHERE x.id = id AND x.retired IS NOT NULL;
    IF FOUND THEN
        IF NOT vecsync._unseen(v.retired) THEN
            RETURN false;
        END IF;
        PERFORM vecsync.drop_vectorizer(v.name, keep_data => false);
    END IF;
    RETURN true;
END
$function$;

-- ---------------------------------------------------------------------------
-- Vectorizers.  The functions run as their caller, who must own the table, and make ordinary objects of the
-- caller's next to it: a column, a view that renders the rows' texts, triggers.  The _functions check
-- ownership and write the catalog.
-- ---------------------------------------------------------------------------

GRANT SELECT ON vecsync.vectorizer TO PUBLIC;

CREATE FUNCTION vecsync.capture() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'capture_trigger';
COMMENT ON FUNCTION vecsync.capture() IS 'trigger that queues the keys of changed rows; made by vecsync.create_vectorizer()';

CREATE FUNCTION vecsync._differ("any", "any") RETURNS boolean
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'capture_differ';
COMMENT ON FUNCTION vecsync._differ("any", "any") IS 'whether the stored bytes of two values of one type differ: knows every type, and sees what = calls equal but prints differently';

CREATE FUNCTION vecsync._compile_content(source regclass, content text, OUT expression text, OUT columns name[])
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'template_compile';
CREATE FUNCTION vecsync._key_columns(source regclass) RETURNS name[]
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'vectorizer_key_columns';
CREATE FUNCTION vecsync._target_column(content_view regclass) RETURNS name
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'catalog_target_column_sql';
CREATE FUNCTION vecsync._reserve_vectorizer(source regclass) RETURNS integer
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_reserve';
CREATE FUNCTION vecsync._register_vectorizer(id integer, name text, source regclass, model text, content text,
        content_view regclass, metric text, chunking jsonb, chunk_table regclass,
        enqueue boolean) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'vectorizer_register';
CREATE FUNCTION vecsync._forget_vectorizer(name text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_forget';
CREATE FUNCTION vecsync._set_paused(name text, paused boolean) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_set_paused';
CREATE FUNCTION vecsync._vector_type() RETURNS regtype
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'vectorizer_vector_type';
CREATE FUNCTION vecsync._worker_problem() RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'worker_problem';

-- Marks the text in a vectorizer's view; through it the view depends on the extension.
CREATE FUNCTION vecsync._content(text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN $1;
-- The same when the column's type becomes another one than text.
CREATE FUNCTION vecsync._content(anyelement) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1::pg_catalog.text';

-- What is made for a table belongs to the table's owner, whoever makes it: the worker acts as that role.
CREATE FUNCTION vecsync._give_to_owner(kind text, object text, source regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = source);
BEGIN
    IF owner <> current_user THEN
        EXECUTE format('ALTER %s %s OWNER TO %I', kind, object, owner);
    END IF;
END
$function$;

-- Makes sure that the table has a column for vectors of that many dimensions.
CREATE FUNCTION vecsync._ensure_column(source regclass, target name, dimensions integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    found_type oid;
    found_typmod integer;
    vector regtype := vecsync._vector_type();
BEGIN
    SELECT a.atttypid, a.atttypmod INTO found_type, found_typmod
    FROM pg_attribute a WHERE a.attrelid = source AND a.attname = target AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s(%s)', source, target, vector, dimensions);
    ELSIF found_type <> vector OR found_typmod NOT IN (-1, dimensions) THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of table "%s" has type %s, but the model''s vectors have %s dimensions',
                             target, source, format_type(found_type, found_typmod), dimensions),
            HINT = 'Name another column with destination => ''column:NAME'', or change this one''s type.';
    END IF;
END
$function$;

-- The names of a vectorizer's view and triggers carry its number first: names are cut at 63 bytes.  They are the same
-- whether it serves, is going to (see 32_generation.sql), or did.
CREATE FUNCTION vecsync._object_name(id integer, what text, name text) RETURNS name
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN format('vecsync_%s_%s_%s', id, what, regexp_replace(name, '^generation [0-9]+ of ', ''))::name;

CREATE FUNCTION vecsync._create_triggers(id integer, name text, source regclass, columns name[], replica boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    changed text;
BEGIN
    SELECT string_agg(format('vecsync._differ(OLD.%1$I, NEW.%1$I)', c), ' OR ') INTO changed
    FROM (SELECT DISTINCT unnest(columns || vecsync._key_columns(source)) AS c) u;
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION vecsync.capture(%s)',
                   vecsync._object_name(id, 'write', name), source, id);
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION vecsync.capture(%s)',
                   vecsync._object_name(id, 'update', name), source, changed, id);
    EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION vecsync.capture(%s)',
                   vecsync._object_name(id, 'truncate', name), source, id);
    IF replica THEN     -- they fire for what a subscription applies and under session_replication_role = replica, too
        EXECUTE (SELECT format('ALTER TABLE %s ', source) || string_agg(format('ENABLE ALWAYS TRIGGER %I', vecsync._object_name(id, what, name)), ', ')
                 FROM unnest(ARRAY['write', 'update', 'truncate']) what);
    END IF;
END
$function$;

CREATE FUNCTION vecsync._drop_triggers(id integer, source regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    t name;
BEGIN
    FOR t IN SELECT tgname FROM pg_trigger
             WHERE tgrelid = source AND NOT tgisinternal AND tgparentid = 0
               AND tgname ~ format('^vecsync_%s_(write|update|truncate)_', id)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t, source);
    END LOOP;
END
$function$;

CREATE FUNCTION vecsync._chunks_view(chunk_table regclass, name text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT format('%I.%I', n.nspname, (name || '_chunks')::name)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = chunk_table);

-- That view, if it belongs to the owner of the chunks: others may have views of such a name.
CREATE FUNCTION vecsync._own_chunks_view(chunk_table regclass, name text) RETURNS regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT c.oid::regclass FROM pg_class c JOIN pg_class t ON t.relowner = c.relowner
        WHERE t.oid = chunk_table AND c.oid = to_regclass(vecsync._chunks_view(chunk_table, name)) AND c.relkind = 'v');

-- The equality of each column of the primary key, as its index has it: that of an extension's type is not in the search_path.
CREATE FUNCTION vecsync._key_equals(source regclass) RETURNS text[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT array_agg(format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY k.n)
        FROM pg_index i, unnest(i.indclass::oid[]) WITH ORDINALITY AS k(class, n), pg_opclass c, pg_amop m, pg_operator o, pg_namespace n
        WHERE i.indrelid = source AND i.indisprimary AND k.n <= i.indnkeyatts AND c.oid = k.class AND m.amopfamily = c.opcfamily
          AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3 AND o.oid = m.amopopr AND n.oid = o.oprnamespace);

-- The view that joins a source with its chunks.
CREATE FUNCTION vecsync._chunks_view_sql(source regclass, chunk_table regclass, view text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN format('CREATE VIEW %s WITH (security_invoker) AS SELECT %s, c.chunk_seq, vecsync._content(c.chunk) AS chunk, c.embedding FROM %s AS s JOIN %s AS c ON %s',
              view,
              (SELECT string_agg(format('s.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
               WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND a.attname NOT IN ('chunk_seq', 'chunk', 'embedding')),
              source, chunk_table,
              (SELECT string_agg(format('s.%I %s c.k%s', u.k, u.equal, u.n), ' AND ' ORDER BY u.n)
               FROM unnest(vecsync._key_columns(source), vecsync._key_equals(source)) WITH ORDINALITY u(k, equal, n)));

CREATE FUNCTION vecsync._create_chunks_view(source regclass, chunk_table regclass, name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE vecsync._chunks_view_sql(source, chunk_table, vecsync._chunks_view(chunk_table, name));
END
$function$;

-- Who may read a row's columns that the chunks are made of may read its chunks: the policy's query runs with the
-- reader's rights on the source.
CREATE FUNCTION vecsync._chunks_policy_sql(source regclass, chunk_table regclass, columns name[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN format('CREATE POLICY as_the_source ON %s FOR SELECT USING (EXISTS (SELECT %s FROM %s AS s WHERE %s))', chunk_table,
              (SELECT string_agg(format('s.%I', u), ', ') FROM unnest(columns) u), source,
              (SELECT string_agg(format('s.%I %s %s.k%s', u.k, u.equal, chunk_table, u.n), ' AND ')
               FROM unnest(vecsync._key_columns(source), vecsync._key_equals(source)) WITH ORDINALITY u(k, equal, n)));

-- The table of chunks, its key columns of the source's types, and that view.
CREATE FUNCTION vecsync._create_chunks(id integer, name text, source regclass, keys name[], columns name[], dimensions integer)
    RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    schema name;
    chunks text;
    key_columns text;
BEGIN
    SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    chunks := format('%I.%I', schema, vecsync._object_name(id, 'chunks', name));
    SELECT string_agg(format('k%s %s NOT NULL', u.n, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY u.n) INTO key_columns
    FROM unnest(keys) WITH ORDINALITY u(k, n) JOIN pg_attribute a ON a.attrelid = source AND a.attname = u.k;
    EXECUTE format('CREATE TABLE %s (%s, chunk_seq integer NOT NULL, chunk text NOT NULL, embedding %s(%s) NOT NULL, PRIMARY KEY (%s, chunk_seq))',
                   chunks, key_columns, vecsync._vector_type(), dimensions,
                   (SELECT string_agg('k' || n, ', ' ORDER BY n) FROM generate_subscripts(keys, 1) n));
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', chunks);
    EXECUTE vecsync._chunks_policy_sql(source, chunks::regclass, columns);
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', chunks);
    PERFORM vecsync._create_chunks_view(source, chunks::regclass, name);
    PERFORM vecsync._give_to_owner('TABLE', chunks, source);
    PERFORM vecsync._give_to_owner('VIEW', format('%I.%I', schema, name || '_chunks'), source);
    RETURN chunks::regclass;
END
$function$;

-- The vector index of a table's column, as CREATE INDEX makes it; NULL or method none: none.
CREATE FUNCTION vecsync._create_index(target regclass, target_column name, metric text, index jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    method text := coalesce(index->>'method', 'none');
    unknown text;
    options text;
    vector_schema name := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector');
BEGIN
    IF method = 'none' THEN
        RETURN;
    ELSIF method NOT IN ('hnsw', 'ivfflat') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown index method "%s"', method),
            HINT = 'Methods are hnsw, ivfflat and none.';
    END IF;
    SELECT k INTO unknown FROM jsonb_object_keys(index) k
    WHERE k NOT IN ('method', 'm', 'ef_construction', 'lists') OR jsonb_typeof(index->k) <> CASE k WHEN 'method' THEN 'string' ELSE 'number' END
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid member "%s" of index', unknown),
            HINT = 'Members are method, and the method''s options: m and ef_construction, or lists.';
    END IF;
    SELECT string_agg(format('%I = %L', key, value), ', ') INTO options FROM jsonb_each_text(index) WHERE key <> 'method';
    EXECUTE format('CREATE INDEX ON %s USING %I (%I %I.%I)%s', target, method, target_column, vector_schema,
                   'vector_' || metric || '_ops', ' WITH (' || options || ')');
END
$function$;

-- The view that renders the rows' texts.  Columns of the table stand in the expression under its name, or bare.
CREATE FUNCTION vecsync._create_content_view(id integer, name text, source regclass, keys name[], expression text, target name,
        caller_path text) RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    relname name;
    content_view text;
    statement text;
BEGIN
    SELECT c.relname, format('%I.%I', n.nspname, vecsync._object_name(id, 'content', name)) INTO relname, content_view
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    statement := format('CREATE VIEW %s (%s, content%s) WITH (security_invoker) AS SELECT %s, %s%s FROM %s', content_view,
                   (SELECT string_agg('k' || n, ', ' ORDER BY n) FROM generate_subscripts(keys, 1) n),
                   CASE WHEN target IS NOT NULL THEN ', vector' ELSE '' END,
                   (SELECT string_agg(format('%I.%I', relname, k), ', ' ORDER BY n) FROM unnest(keys) WITH ORDINALITY u(k, n)),
                   expression, CASE WHEN target IS NOT NULL THEN format(', %I.%I', relname, target) ELSE '' END, source);
    -- an expression's names are the caller's
    PERFORM set_config('search_path', caller_path, true);
    EXECUTE statement;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM vecsync._give_to_owner('VIEW', content_view, source);
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', content_view);   -- it shows what the caller may see of the table
    RETURN content_view::regclass;
END
$function$;

-- The work of create_vectorizer, with a search_path of its own.
CREATE FUNCTION vecsync._create_vectorizer(
    source regclass,
    model text,
    content text,
    name text,
    chunking jsonb,
    destination text,
    metric text,
    index jsonb,
    namespace name,
    text_config regconfig,
    enqueue_existing boolean,
    if_not_exists boolean,
    replica boolean,
    keep_existing boolean,
    caller_path text
) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    id integer;
    dimensions integer;
    kind text;
    target name;
    compiled record;
    keys name[];
    content_view regclass;
    chunk_table regclass;
    problem text;
BEGIN
    IF source IS NULL OR model IS NULL OR content IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'source, model and content must not be null',
            HINT = 'content is a column, a template such as ''{name} by {artist}'', or ''='' and a SQL expression.';
    END IF;
    name := coalesce(name, (SELECT c.relname FROM pg_class c WHERE c.oid = source));
    IF EXISTS (SELECT FROM vecsync.vectorizer v WHERE v.name = _create_vectorizer.name) THEN
        IF if_not_exists THEN
            RAISE NOTICE 'vectorizer "%" already exists, skipping', name;
            RETURN name;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('vectorizer "%s" already exists', name),
            HINT = 'Choose another name, or drop it with vecsync.drop_vectorizer().';
    END IF;
    SELECT m.dimensions, m.kind INTO dimensions, kind FROM vecsync.model m WHERE m.name = _create_vectorizer.model;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', model),
            HINT = 'vecsync.create_model() makes one.';
    ELSIF kind <> 'embedding' THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('model "%s" does not embed: its kind is %s', model, kind);
    END IF;
    IF metric NOT IN ('cosine', 'l2', 'ip', 'l1') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown metric "%s"', metric),
            HINT = 'Metrics are cosine, l2, ip and l1.';
    END IF;
    PERFORM vecsync._check_chunking(chunking);
    destination := coalesce(destination, CASE WHEN chunking IS NULL THEN 'column:embedding' ELSE 'table' END);
    target := substring(destination FROM '^column:(.+)$');
    IF target IS NULL AND destination <> 'table' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid destination "%s"', destination),
            HINT = 'Write ''column:NAME'' (the column is added if the table has none of that name) or ''table''.';
    ELSIF target IS NOT NULL AND chunking IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'chunks cannot live in a column of the table',
            HINT = 'Leave out destination, or write ''table''.';
    ELSIF target IS NULL AND keep_existing THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a new table of chunks has nothing to keep',
            HINT = 'Say enqueue_existing => false, insert the chunks into the vectorizer''s chunk_table, and call vecsync.verify(name, repair => true).';
    END IF;

    id := vecsync._reserve_vectorizer(source);
    keys := vecsync._key_columns(source);
    -- before: content that shows rows whole would show it
    IF target IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = target) THEN
        PERFORM vecsync._ensure_column(source, target, dimensions);
    END IF;
    compiled := vecsync._compile_content(source, content);
    IF target = ANY (compiled.columns || keys) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('column "%s" cannot be both content and destination', target);
    END IF;
    IF target IS NOT NULL THEN
        PERFORM vecsync._ensure_column(source, target, dimensions);
        PERFORM vecsync._create_index(source, target, metric, index);
    ELSE
        chunk_table := vecsync._create_chunks(id, name, source, keys, compiled.columns, dimensions);
        PERFORM vecsync._create_index(chunk_table, 'embedding', metric, index);
    END IF;
    content_view := vecsync._create_content_view(id, name, source, keys, format('vecsync._content(%s)', compiled.expression), target, caller_path);
    PERFORM vecsync._create_triggers(id, name, source, compiled.columns, replica);
    PERFORM vecsync._register_vectorizer(id, name, source, model, content, content_view, metric,
                                         chunking, chunk_table, enqueue_existing AND NOT keep_existing);
    PERFORM vecsync._tend_partitions(id);
    PERFORM vecsync._prepare_search(id, name, source, compiled.columns, namespace, text_config);
    PERFORM vecsync._hand_over(id);
    IF keep_existing AND enqueue_existing THEN
        PERFORM vecsync._keep_existing(id, caller_path);
    END IF;

    problem := vecsync._worker_problem();
    IF problem IS NOT NULL THEN
        RAISE WARNING USING MESSAGE = problem,
            DETAIL = 'Changes are queued, but no vectors are made until a worker runs.',
            HINT = 'Set shared_preload_libraries = ''vecsync'' and restart the server.';
    END IF;
    RETURN name;
END
$function$;

CREATE FUNCTION vecsync.create_vectorizer(
    source regclass,
    model text,
    content text,
    name text DEFAULT NULL,
    chunking jsonb DEFAULT NULL,
    destination text DEFAULT NULL,
    metric text DEFAULT 'cosine',
    index jsonb DEFAULT '{"method": "hnsw"}',
    namespace name DEFAULT NULL,
    text_config regconfig DEFAULT NULL,
    enqueue_existing boolean DEFAULT true,
    if_not_exists boolean DEFAULT false,
    replica boolean DEFAULT false,
    keep_existing boolean DEFAULT false
) RETURNS text
    LANGUAGE sql    -- the body's names are bound here and now, whatever the caller's search_path is
BEGIN ATOMIC
    SELECT vecsync._create_vectorizer(create_vectorizer.source, create_vectorizer.model, create_vectorizer.content, create_vectorizer.name, create_vectorizer.chunking, create_vectorizer.destination, create_vectorizer.metric, create_vectorizer.index, create_vectorizer.namespace, create_vectorizer.text_config, create_vectorizer.enqueue_existing, create_vectorizer.if_not_exists, create_vectorizer.replica, create_vectorizer.keep_existing,
                                      current_setting('search_path'));
END;
COMMENT ON FUNCTION vecsync.create_vectorizer IS
'Keeps a column of the table in step with the text of its rows and returns the vectorizer''s name (by default the table''s). content: a column, a template such as ''{name} by {artist}'' ({{ and }} for braces, NULL gives nothing), or ''='' and a SQL expression; chunking: for long texts, {"method": "words", "size": 512, "overlap": 0} as in vecsync.chunk, the overlap at most nine tenths of the size; destination: ''column:NAME'', added if missing, or ''table'': a table of chunks of its own, which the view NAME_chunks joins with the source. index: {"method": "hnsw", "m": 16, "ef_construction": 64}, {"method": "ivfflat", "lists": 100} or {"method": "none"}. namespace: a column whose value separates rows, so that every search names one; text_config: a text search configuration for hybrid search, whose indexes are made at once (one more for misspelt words where pg_trgm is installed). Existing rows are embedded in the background unless enqueue_existing is false; with keep_existing those that have a vector in the column keep it, as made from their present text. replica: also follow changes that logical replication applies, and those under session_replication_role = replica. Only the owner of the table. Errors: 42501 not the owner, 42703 unknown column, 55000 no primary key, 42804 the column has another type, 42704 unknown model, 42710 the name is taken.';

-- The worker works as the table's owner: what another role, a superuser say, has made for him becomes his, and so does
-- what was the former owner's.  By whoever may do that.
CREATE FUNCTION vecsync._hand_over(id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    owner oid;
    made regclass;
BEGIN
    SELECT c.relowner INTO owner FROM vecsync.vectorizer v JOIN pg_class c ON c.oid = v.source WHERE v.id = _hand_over.id;
    FOR made IN
        SELECT m FROM vecsync.vectorizer v, unnest(ARRAY[v.content_view, v.search_view, v.chunk_table,
                                                         vecsync._own_chunks_view(v.chunk_table, v.name)]) m
        WHERE v.id = _hand_over.id
          AND EXISTS (SELECT FROM pg_class c WHERE c.oid = m AND c.relowner <> owner AND pg_has_role(current_user, c.relowner, 'USAGE'))
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', made, pg_get_userbyid(owner));
    END LOOP;
END
$function$;

CREATE FUNCTION vecsync.drop_vectorizer(name text, keep_data boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v record;
    next text;
BEGIN
    SELECT * INTO v FROM vecsync.vectorizer x WHERE x.name = drop_vectorizer.name;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = v.source) THEN
        PERFORM vecsync._lock_vectorizer(v.id, true);   -- nobody begins to change it now
    END IF;
    -- A cut-over that held the table until now has given the name to another generation.
    SELECT *, CASE WHEN x.chunk_table IS NULL THEN vecsync._target_column(x.content_view) END AS target_column INTO v
    FROM vecsync.vectorizer x WHERE x.name = drop_vectorizer.name;
    SELECT x.name INTO next FROM vecsync.vectorizer x WHERE x.successor_of = v.id;
    IF FOUND THEN
        PERFORM vecsync.drop_vectorizer(next, keep_data => false);
    END IF;
    PERFORM vecsync._forget_vectorizer(name);   -- checks that it exists and whose it is
    PERFORM vecsync._drop_triggers(v.id, v.source);
    EXECUTE format('DROP VIEW IF EXISTS %s', v.content_view);
    PERFORM vecsync._drop_search(v.id, name, v.source, v.search_view);
    IF v.chunk_table IS NOT NULL THEN
        IF vecsync._own_chunks_view(v.chunk_table, name) IS NOT NULL THEN
            EXECUTE format('DROP VIEW %s', vecsync._own_chunks_view(v.chunk_table, name));
        END IF;
        IF NOT keep_data THEN
            EXECUTE format('DROP TABLE IF EXISTS %s', v.chunk_table);
        END IF;
    ELSIF NOT keep_data THEN
        EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', v.source, v.target_column);
    END IF;
END
$function$;
COMMENT ON FUNCTION vecsync.drop_vectorizer IS
'Stops following the table and drops what create_vectorizer made; the column of vectors too when keep_data is false. Only the owner of the table. Errors: 42704 no such vectorizer, 42501 not the owner.';

CREATE FUNCTION vecsync.pause(name text) RETURNS void
    LANGUAGE sql BEGIN ATOMIC SELECT vecsync._set_paused(name, true); END;
COMMENT ON FUNCTION vecsync.pause IS 'Stops embedding the rows of a vectorizer; changes go on being queued. Only the owner of the table.';
CREATE FUNCTION vecsync.resume(name text) RETURNS void
    LANGUAGE sql BEGIN ATOMIC SELECT vecsync._set_paused(name, false); END;
COMMENT ON FUNCTION vecsync.resume IS 'Embeds again after pause, beginning with what was queued meanwhile. Only the owner of the table.';

CREATE FUNCTION vecsync._sweep(id integer) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_sweep';
REVOKE ALL ON FUNCTION vecsync._sweep(integer) FROM PUBLIC;

-- When the table, a used column or the rendering view is dropped with CASCADE, the vectorizer goes too.
CREATE FUNCTION vecsync._on_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    v record;
    vectors name;
BEGIN
    -- a partition goes with its triggers: the rows it had may have left chunks behind
    PERFORM vecsync._sweep(x.id) FROM vecsync.vectorizer x
    WHERE EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                  WHERE d.object_type = 'trigger' AND d.address_names[3] = vecsync._object_name(x.id, 'write', x.name));
    -- a generation in the making goes with the one it follows, and before it
    FOR v IN
        SELECT x.* FROM vecsync.vectorizer x LEFT JOIN vecsync.vectorizer p ON p.id = x.successor_of
        WHERE EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                      WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
                        AND d.objid IN (x.source, x.content_view, x.search_view, x.chunk_table,
                                        p.source, p.content_view, p.search_view, p.chunk_table))
        ORDER BY x.successor_of IS NULL
    LOOP
        DELETE FROM vecsync.vectorizer x WHERE x.id = v.id;
        DELETE FROM vecsync.queue q WHERE q.vectorizer = v.id;
        PERFORM vecsync._drop_triggers(v.id, v.source);
        PERFORM vecsync._drop_partition_triggers(v.id, v.name);
        IF EXISTS (SELECT FROM pg_class WHERE oid = v.content_view) THEN
            EXECUTE format('DROP VIEW %s', v.content_view);
        END IF;
        PERFORM vecsync._drop_search(v.id, v.name, v.source, v.search_view);
        SELECT a.attname INTO vectors FROM pg_attribute a
        WHERE a.attrelid = v.source AND NOT a.attisdropped AND a.attname ~ format('^vecsync_%s_vector_', v.id);
        IF FOUND THEN   -- of a generation in the making, or a replaced one
            EXECUTE format('ALTER TABLE %s DROP COLUMN %I', v.source, vectors);
        END IF;
        IF EXISTS (SELECT FROM pg_class WHERE oid = v.chunk_table) THEN
            EXECUTE format('DROP TABLE %s CASCADE', v.chunk_table);
        END IF;
        RAISE NOTICE 'vectorizer "%" is dropped with what it depends on', v.name;
    END LOOP;
END
$function$;
REVOKE ALL ON FUNCTION vecsync._on_drop() FROM PUBLIC;
CREATE EVENT TRIGGER vecsync_on_drop ON sql_drop EXECUTE FUNCTION vecsync._on_drop();


\echo Use "CREATE EXTENSION vecsync CASCADE" to load this file. \quit

GRANT USAGE ON SCHEMA vecsync TO PUBLIC;

-- ---------------------------------------------------------------------------
-- Catalog: models, secrets, vectorizers.  Written by the functions below as the extension's owner.
-- ---------------------------------------------------------------------------

CREATE TABLE vecsync.model (
    name text PRIMARY KEY CHECK (name <> ''),
    kind text NOT NULL CHECK (kind IN ('embedding', 'rerank', 'chat')),
    provider text NOT NULL,
    url text NOT NULL,
    private_addresses boolean NOT NULL,
    model text NOT NULL,
    dimensions integer CHECK (dimensions BETWEEN 1 AND 16000),
    secret text,
    parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object'),
    document_parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(document_parameters) = 'object'),
    query_parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(query_parameters) = 'object'),
    max_batch integer NOT NULL CHECK (max_batch BETWEEN 1 AND 4096),
    max_batch_bytes integer NOT NULL CHECK (max_batch_bytes BETWEEN 1 AND 67108864),
    max_inflight integer NOT NULL CHECK (max_inflight BETWEEN 1 AND 256),
    rate_limit integer CHECK (rate_limit > 0),
    timeout interval NOT NULL CHECK (timeout > interval '0' AND timeout <= interval '1 hour'),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE vecsync.model IS 'services that embed, rerank or chat; see vecsync.create_model';
COMMENT ON COLUMN vecsync.model.private_addresses IS 'whether the URL may lead to loopback, link-local or private addresses: who registered it was a superuser, or vecsync.allowed_urls lists it';
COMMENT ON COLUMN vecsync.model.secret IS 'where the key is: a name in vecsync.secret, env:VARIABLE or file:PATH; never the key itself';

CREATE TABLE vecsync.secret (
    name text PRIMARY KEY CHECK (name <> ''),
    value text NOT NULL
);
COMMENT ON TABLE vecsync.secret IS 'keys of services; nobody may read it and pg_dump leaves it out; see vecsync.set_secret';
REVOKE ALL ON vecsync.secret FROM PUBLIC;

CREATE TABLE vecsync.vectorizer (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    source regclass NOT NULL,
    model text NOT NULL REFERENCES vecsync.model (name),
    content text NOT NULL,
    content_view regclass NOT NULL,
    chunking jsonb,
    chunk_table regclass,
    metric text NOT NULL CHECK (metric IN ('cosine', 'l2', 'ip', 'l1')),
    search_view regclass,
    text_config regconfig,
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE vecsync.vectorizer IS 'tables whose rows are embedded and kept in step; see vecsync.create_vectorizer';
COMMENT ON COLUMN vecsync.vectorizer.search_view IS 'view of the namespace and of the words for text search, where there are such; searches use its expressions';
COMMENT ON COLUMN vecsync.vectorizer.content_view IS 'view of the table''s keys, the text to embed and the vector; the table and the columns it uses cannot be dropped without CASCADE';

COMMENT ON COLUMN vecsync.vectorizer.chunk_table IS 'table of the chunks and their vectors; NULL when the vectors live in a column of the source';

-- ---------------------------------------------------------------------------
-- Durable queue.  Written by the capture triggers inside the user's transaction, append-only; read and
-- emptied by the worker.  One entry holds many keys: the key columns' texts, row after row, in the order of
-- the primary key.
-- ---------------------------------------------------------------------------

CREATE SEQUENCE vecsync.queue_seq AS bigint;
CREATE TABLE vecsync.queue (
    seq bigint PRIMARY KEY,
    vectorizer integer NOT NULL,
    op "char" NOT NULL,             -- k: keys to look at, s: scan of the table from a key on, t: truncated
    rows integer NOT NULL,          -- how many rows the entry stands for; -1 = not counted yet (s)
    keys text[] NOT NULL,
    queued_at timestamptz NOT NULL
);
ALTER SEQUENCE vecsync.queue_seq OWNED BY vecsync.queue.seq;
CREATE INDEX queue_vectorizer_seq ON vecsync.queue (vectorizer, seq);
ALTER TABLE vecsync.queue SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE vecsync.queue IS 'changes that are committed and not yet embedded';

CREATE TABLE vecsync.dead_letter (
    vectorizer integer NOT NULL REFERENCES vecsync.vectorizer (id) ON DELETE CASCADE,
    key text[] NOT NULL,
    operation text NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vectorizer, key)
);
COMMENT ON TABLE vecsync.dead_letter IS 'rows that could not be embedded; read it through vecsync.failed';

SELECT pg_catalog.pg_extension_config_dump('vecsync.model', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.vectorizer', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.vectorizer_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.queue', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.queue_seq', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.dead_letter', '');

-- The worker and the sessions' caches follow the catalog.
CREATE FUNCTION vecsync._config_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'catalog_config_changed';
REVOKE ALL ON FUNCTION vecsync._config_changed() FROM PUBLIC;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vecsync.model
    FOR EACH STATEMENT EXECUTE FUNCTION vecsync._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vecsync.secret
    FOR EACH STATEMENT EXECUTE FUNCTION vecsync._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vecsync.vectorizer
    FOR EACH STATEMENT EXECUTE FUNCTION vecsync._config_changed();

-- ---------------------------------------------------------------------------
-- Models and secrets.  Administrators: revoked from PUBLIC, so that registering a URL that the server will
-- call is a privilege of its own.
-- ---------------------------------------------------------------------------

GRANT SELECT (name, kind, provider, model, dimensions) ON vecsync.model TO PUBLIC;

CREATE FUNCTION vecsync._check_model(kind text, provider text, url text, secret text, OUT checked_url text, OUT private_addresses boolean)
    LANGUAGE c AS 'MODULE_PATHNAME', 'embed_check_model';
REVOKE ALL ON FUNCTION vecsync._check_model(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION vecsync._check_model(text, text, text, text) IS 'the URL, normalised, and whether it may lead to private addresses; an error for an unknown provider, and for a URL or secret that the caller may not name';

CREATE FUNCTION vecsync._probe_dimensions(model text) RETURNS integer
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'embed_probe_dimensions';
REVOKE ALL ON FUNCTION vecsync._probe_dimensions(text) FROM PUBLIC;

CREATE FUNCTION vecsync.create_model(
    name text,
    url text,
    model text,
    kind text DEFAULT 'embedding',
    provider text DEFAULT 'openai',
    dimensions integer DEFAULT NULL,
    secret text DEFAULT NULL,
    parameters jsonb DEFAULT '{}',
    document_parameters jsonb DEFAULT '{}',
    query_parameters jsonb DEFAULT '{}',
    max_batch integer DEFAULT 128,
    max_batch_bytes integer DEFAULT 1048576,
    max_inflight integer DEFAULT 4,
    rate_limit integer DEFAULT NULL,
    timeout interval DEFAULT '30s',
    if_not_exists boolean DEFAULT false
) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    broken text;
BEGIN
    IF EXISTS (SELECT FROM vecsync.model m WHERE m.name = create_model.name) THEN
        IF if_not_exists THEN
            RAISE NOTICE 'model "%" already exists, skipping', name;
            RETURN name;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('model "%s" already exists', name),
            HINT = 'Change it with vecsync.alter_model() or drop it with vecsync.drop_model().';
    END IF;
    INSERT INTO vecsync.model (name, kind, provider, url, private_addresses, model, dimensions, secret, parameters, document_parameters,
                               query_parameters, max_batch, max_batch_bytes, max_inflight, rate_limit, timeout)
    SELECT name, kind, provider, c.checked_url, c.private_addresses, model, dimensions, secret,
           parameters, document_parameters, query_parameters, max_batch, max_batch_bytes, max_inflight,
           rate_limit, timeout
    FROM vecsync._check_model(kind, provider, url, secret) c;
    IF kind = 'embedding' AND dimensions IS NULL THEN
        UPDATE vecsync.model m SET dimensions = vecsync._probe_dimensions(create_model.name)
        WHERE m.name = create_model.name;
    END IF;
    RETURN name;
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
        MESSAGE = format('invalid value of option "%s"', substring(broken FROM '^model_(.*)_check$')),
        DETAIL = (SELECT 'It must satisfy ' || pg_get_expr(c.conbin, c.conrelid) || '.' FROM pg_constraint c
                  WHERE c.conrelid = 'vecsync.model'::regclass AND c.conname = broken);
END
$function$;
REVOKE ALL ON FUNCTION vecsync.create_model FROM PUBLIC;
COMMENT ON FUNCTION vecsync.create_model IS
'Registers a service under a name and returns the name. url: of the service, with or without the path of the request; provider: the form of its requests (openai); dimensions: of its vectors, asked from the service with one request when NULL; secret: the name of a key set by set_secret, env:VARIABLE or file:PATH (these two for superusers only); parameters: JSON members added to each request, the other two to those for documents and for queries; max_batch and max_batch_bytes: texts and bytes of text in one request; max_inflight: requests at a time; rate_limit: requests a minute. Superusers may name any host; others only hosts with public addresses, or what vecsync.allowed_urls lists when it is set. Errors: 42501 a secret of the server''s, 42710 exists already, 22023 bad URL or provider, 08000 and its class when the service cannot be asked.';

CREATE FUNCTION vecsync.alter_model(name text, options jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    unknown text;
    broken text;
BEGIN
    SELECT o INTO unknown FROM jsonb_object_keys(options) o
    WHERE o NOT IN ('url', 'model', 'provider', 'secret', 'parameters', 'document_parameters', 'query_parameters',
                    'max_batch', 'max_batch_bytes', 'max_inflight', 'rate_limit', 'timeout')
    LIMIT 1;
    IF unknown IN ('name', 'kind', 'dimensions') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the %s of a model cannot be changed', unknown),
            HINT = 'Create another model.';
    ELSIF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown option "%s"', unknown),
            HINT = 'Options are url, model, provider, secret, parameters, document_parameters, query_parameters, max_batch, max_batch_bytes, max_inflight, rate_limit and timeout.';
    END IF;
    UPDATE vecsync.model m
    SET (provider, url, private_addresses, model, secret, parameters, document_parameters, query_parameters, max_batch, max_batch_bytes,
         max_inflight, rate_limit, timeout) =
        (SELECT n.provider, c.checked_url, c.private_addresses, n.model, n.secret, n.parameters,
                n.document_parameters, n.query_parameters, n.max_batch, n.max_batch_bytes, n.max_inflight,
                n.rate_limit, n.timeout
         FROM jsonb_populate_record(m, options) n,
              LATERAL (SELECT m.url AS checked_url, m.private_addresses WHERE NOT options ?| ARRAY['url', 'provider', 'secret']
                       UNION ALL
                       SELECT x.* FROM vecsync._check_model(m.kind, n.provider, n.url, n.secret) x
                       WHERE options ?| ARRAY['url', 'provider', 'secret']) c)
    WHERE m.name = alter_model.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', name);
    END IF;
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
        MESSAGE = format('invalid value of option "%s"', substring(broken FROM '^model_(.*)_check$')),
        DETAIL = (SELECT 'It must satisfy ' || pg_get_expr(c.conbin, c.conrelid) || '.' FROM pg_constraint c
                  WHERE c.conrelid = 'vecsync.model'::regclass AND c.conname = broken);
END
$function$;
REVOKE ALL ON FUNCTION vecsync.alter_model FROM PUBLIC;
COMMENT ON FUNCTION vecsync.alter_model IS
'Changes options of a model: a JSON object of create_model''s arguments (not name, kind or dimensions). Takes effect at commit, also for requests that wait. Errors: 42704 no such model, 22023 unknown option or bad URL.';

CREATE FUNCTION vecsync.drop_model(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    user_of_it text;
BEGIN
    SELECT v.name INTO user_of_it FROM vecsync.vectorizer v WHERE v.model = drop_model.name ORDER BY v.name LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop model "%s" because vectorizer "%s" uses it', name, user_of_it),
            HINT = 'Drop the vectorizer first with vecsync.drop_vectorizer().';
    END IF;
    DELETE FROM vecsync.model m WHERE m.name = drop_model.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', name);
    END IF;
END
$function$;
REVOKE ALL ON FUNCTION vecsync.drop_model FROM PUBLIC;
COMMENT ON FUNCTION vecsync.drop_model IS 'Forgets a model that no vectorizer uses. Errors: 42704 no such model, 2BP01 still in use.';

CREATE FUNCTION vecsync.set_secret(name text, value text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM vecsync.secret s WHERE s.name = set_secret.name;
    INSERT INTO vecsync.secret (name, value) SELECT set_secret.name, set_secret.value WHERE set_secret.value IS NOT NULL;
END;
REVOKE ALL ON FUNCTION vecsync.set_secret FROM PUBLIC;
COMMENT ON FUNCTION vecsync.set_secret IS
'Keeps a service''s key under a name; a NULL value forgets it. Nobody can read it back, pg_dump leaves it out, and it appears in no message. The statement itself may be logged by log_statement: prefer env: or file: where that matters.';

-- ---------------------------------------------------------------------------
-- Pieces of documents
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync.chunk(input text, method text DEFAULT 'words', size integer DEFAULT NULL, overlap integer DEFAULT 0)
    RETURNS TABLE (seq integer, chunk text)
    LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'chunk_sql';
COMMENT ON FUNCTION vecsync.chunk IS
'The pieces of a text, numbered from 0, none blank. method words: size words each (512), joined by single spaces; characters: size characters each (2000); recursive: at most size characters, ended at the last paragraph, line, sentence or word of the second half; none: the whole text. Each piece begins overlap words or characters before the one before it ended. Errors: 22023 unknown method, or overlap not less than size.';

CREATE FUNCTION vecsync._check_chunking(chunking jsonb) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'chunk_check';


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
             WHERE x.indrelid = source AND c.relname IN (format('vecsync_%s_text_%s', id, name)::name,
                                                         format('vecsync_%s_trgm_%s', id, name)::name)
    LOOP
        EXECUTE format('DROP INDEX %s', i);
    END LOOP;
END
$function$;
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

-- The names of a vectorizer's view and triggers carry its number first: names are cut at 63 bytes.
CREATE FUNCTION vecsync._object_name(id integer, what text, name text) RETURNS name
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN format('vecsync_%s_%s_%s', id, what, name)::name;

CREATE FUNCTION vecsync._create_triggers(id integer, name text, source regclass, columns name[]) RETURNS void
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
END
$function$;

-- The table of chunks, its key columns of the source's types, and the view that joins it with the source.
CREATE FUNCTION vecsync._create_chunks(id integer, name text, source regclass, keys name[], columns name[], dimensions integer)
    RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    schema name;
    chunks text;
    key_columns text;
    key_join text;
    source_columns text;
BEGIN
    SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    chunks := format('%I.%I', schema, vecsync._object_name(id, 'chunks', name));
    SELECT string_agg(format('k%s %s NOT NULL', u.n, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY u.n),
           string_agg(format('s.%I = c.k%s', u.k, u.n), ' AND ' ORDER BY u.n)
    INTO key_columns, key_join
    FROM unnest(keys) WITH ORDINALITY u(k, n) JOIN pg_attribute a ON a.attrelid = source AND a.attname = u.k;
    EXECUTE format('CREATE TABLE %s (%s, chunk_seq integer NOT NULL, chunk text NOT NULL, embedding %s(%s) NOT NULL, PRIMARY KEY (%s, chunk_seq))',
                   chunks, key_columns, vecsync._vector_type(), dimensions,
                   (SELECT string_agg('k' || n, ', ' ORDER BY n) FROM generate_subscripts(keys, 1) n));
    -- Who may read a row's columns that the chunks are made of may read its chunks: the policy's query runs with
    -- the reader's rights on the source.
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', chunks);
    EXECUTE format('CREATE POLICY as_the_source ON %s FOR SELECT USING (EXISTS (SELECT %s FROM %s AS s WHERE %s))', chunks,
                   (SELECT string_agg(format('s.%I', u), ', ') FROM unnest(columns) u), source,
                   (SELECT string_agg(format('s.%I = %s.k%s', u.k, chunks, u.n), ' AND ') FROM unnest(keys) WITH ORDINALITY u(k, n)));
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', chunks);
    SELECT string_agg(format('s.%I', a.attname), ', ' ORDER BY a.attnum) INTO source_columns
    FROM pg_attribute a WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname NOT IN ('chunk_seq', 'chunk', 'embedding');
    EXECUTE format('CREATE VIEW %I.%I WITH (security_invoker) AS SELECT %s, c.chunk_seq, vecsync._content(c.chunk) AS chunk, c.embedding FROM %s AS s JOIN %s AS c ON %s',
                   schema, name || '_chunks', source_columns, source, chunks, key_join);
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
    relname name;
    content_view text;
    statement text;
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
    END IF;

    id := vecsync._reserve_vectorizer(source);
    keys := vecsync._key_columns(source);
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
    SELECT c.relname, format('%I.%I', n.nspname, vecsync._object_name(id, 'content', name)) INTO relname, content_view
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
    statement := format('CREATE VIEW %s (%s, content%s) WITH (security_invoker) AS SELECT %s, vecsync._content(%s)%s FROM %s', content_view,
                   (SELECT string_agg('k' || n, ', ' ORDER BY n) FROM generate_subscripts(keys, 1) n),
                   CASE WHEN target IS NOT NULL THEN ', vector' ELSE '' END,
                   (SELECT string_agg(format('%I.%I', relname, k), ', ' ORDER BY n) FROM unnest(keys) WITH ORDINALITY u(k, n)),
                   compiled.expression, CASE WHEN target IS NOT NULL THEN format(', %I.%I', relname, target) ELSE '' END, source);
    -- an expression's names are the caller's
    PERFORM set_config('search_path', caller_path, true);
    EXECUTE statement;
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM vecsync._give_to_owner('VIEW', content_view, source);
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', content_view);   -- it shows what the caller may see of the table
    PERFORM vecsync._create_triggers(id, name, source, compiled.columns);
    PERFORM vecsync._register_vectorizer(id, name, source, model, content, content_view::regclass, metric,
                                         chunking, chunk_table, enqueue_existing);
    PERFORM vecsync._prepare_search(id, name, source, compiled.columns, namespace, text_config);
    PERFORM vecsync._hand_over(id);

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
    if_not_exists boolean DEFAULT false
) RETURNS text
    LANGUAGE sql    -- the body's names are bound here and now, whatever the caller's search_path is
BEGIN ATOMIC
    SELECT vecsync._create_vectorizer(create_vectorizer.source, create_vectorizer.model, create_vectorizer.content, create_vectorizer.name, create_vectorizer.chunking, create_vectorizer.destination, create_vectorizer.metric, create_vectorizer.index, create_vectorizer.namespace, create_vectorizer.text_config, create_vectorizer.enqueue_existing, create_vectorizer.if_not_exists,
                                      current_setting('search_path'));
END;
COMMENT ON FUNCTION vecsync.create_vectorizer IS
'Keeps a column of the table in step with the text of its rows and returns the vectorizer''s name (by default the table''s). content: a column, a template such as ''{name} by {artist}'' ({{ and }} for braces, NULL gives nothing), or ''='' and a SQL expression; chunking: for long texts, {"method": "words", "size": 512, "overlap": 0} as in vecsync.chunk; destination: ''column:NAME'', added if missing, or ''table'': a table of chunks of its own, which the view NAME_chunks joins with the source. index: {"method": "hnsw", "m": 16, "ef_construction": 64}, {"method": "ivfflat", "lists": 100} or {"method": "none"}. namespace: a column whose value separates rows, so that every search names one; text_config: a text search configuration for hybrid search, whose indexes are made at once (one more for misspelt words where pg_trgm is installed). Existing rows are embedded in the background unless enqueue_existing is false. Only the owner of the table. Errors: 42501 not the owner, 42703 unknown column, 55000 no primary key, 42804 the column has another type, 42704 unknown model, 42710 the name is taken.';

CREATE FUNCTION vecsync._chunks_view(chunk_table regclass, name text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT format('%I.%I', n.nspname, (name || '_chunks')::name)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = chunk_table);

-- The worker works as the table's owner: what another role, a superuser say, has made for him becomes his.
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
                                                         vecsync._chunks_view(v.chunk_table, v.name)::regclass]) m
        WHERE v.id = _hand_over.id AND EXISTS (SELECT FROM pg_class c WHERE c.oid = m AND c.relowner <> owner)
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
    what text;
BEGIN
    SELECT *, CASE WHEN x.chunk_table IS NULL THEN vecsync._target_column(x.content_view) END AS target_column INTO v
    FROM vecsync.vectorizer x WHERE x.name = drop_vectorizer.name;
    PERFORM vecsync._forget_vectorizer(name);   -- checks that it exists and whose it is
    FOREACH what IN ARRAY ARRAY['write', 'update', 'truncate'] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', vecsync._object_name(v.id, what, name), v.source);
    END LOOP;
    EXECUTE format('DROP VIEW IF EXISTS %s', v.content_view);
    PERFORM vecsync._drop_search(v.id, name, v.source, v.search_view);
    IF v.chunk_table IS NOT NULL THEN
        EXECUTE format('DROP VIEW IF EXISTS %s', vecsync._chunks_view(v.chunk_table, name));
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

CREATE FUNCTION vecsync.resync(name text, failed_only boolean DEFAULT false) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_resync';
COMMENT ON FUNCTION vecsync.resync IS
'Queues every row of the table again, or only those in vecsync.failed, and returns how many. Only the owner of the table.';

-- When the table, a used column or the rendering view is dropped with CASCADE, the vectorizer goes too.
CREATE FUNCTION vecsync._on_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    v record;
    t record;
BEGIN
    FOR v IN
        SELECT x.* FROM vecsync.vectorizer x
        WHERE EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                      WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
                        AND d.objid IN (x.source, x.content_view, x.search_view, x.chunk_table))
    LOOP
        DELETE FROM vecsync.vectorizer x WHERE x.id = v.id;
        DELETE FROM vecsync.queue q WHERE q.vectorizer = v.id;
        FOR t IN SELECT tgname, tgrelid::regclass AS rel FROM pg_trigger
                 WHERE tgrelid = v.source AND NOT tgisinternal AND tgparentid = 0
                   AND tgname IN (vecsync._object_name(v.id, 'write', v.name), vecsync._object_name(v.id, 'update', v.name),
                                  vecsync._object_name(v.id, 'truncate', v.name))
        LOOP
            EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.rel);
        END LOOP;
        IF EXISTS (SELECT FROM pg_class WHERE oid = v.content_view) THEN
            EXECUTE format('DROP VIEW %s', v.content_view);
        END IF;
        PERFORM vecsync._drop_search(v.id, v.name, v.source, v.search_view);
        IF EXISTS (SELECT FROM pg_class WHERE oid = v.chunk_table) THEN
            EXECUTE format('DROP TABLE %s CASCADE', v.chunk_table);
        END IF;
        RAISE NOTICE 'vectorizer "%" is dropped with what it depends on', v.name;
    END LOOP;
END
$function$;
REVOKE ALL ON FUNCTION vecsync._on_drop() FROM PUBLIC;
CREATE EVENT TRIGGER vecsync_on_drop ON sql_drop EXECUTE FUNCTION vecsync._on_drop();

-- ---------------------------------------------------------------------------
-- What can be seen of the work
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync._status(OUT vectorizer text, OUT source regclass, OUT model text, OUT state text,
        OUT rows bigint, OUT embedded bigint, OUT pending bigint, OUT in_flight integer, OUT failed bigint,
        OUT oldest_pending timestamptz, OUT lag_p50_ms bigint, OUT lag_p99_ms bigint, OUT last_error text,
        OUT last_error_at timestamptz, OUT paused_until timestamptz, OUT skipped bigint, OUT worker text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'worker_status';

CREATE VIEW vecsync.status AS SELECT * FROM vecsync._status();
GRANT SELECT ON vecsync.status TO PUBLIC;
COMMENT ON VIEW vecsync.status IS
'One row for each vectorizer of the caller''s tables (all for pg_monitor): state (in step, embedding, paused, waiting for the service), rows of the table and how many have a vector (estimated above 100,000), changes pending and in flight, rows that failed, time of the oldest pending change, time from a change to its vector (upper bounds), the last error, rows skipped because they have no text, and the state of the worker.';

CREATE VIEW vecsync.failed WITH (security_barrier) AS
SELECT v.name AS vectorizer,
       (SELECT jsonb_object_agg(c.name, CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND d.key[c.n] ~ '^-?\d+$'
                                             THEN to_jsonb(d.key[c.n]::bigint) ELSE to_jsonb(d.key[c.n]) END)
        FROM unnest(vecsync._key_columns(v.source)) WITH ORDINALITY AS c(name, n)
        JOIN pg_attribute a ON a.attrelid = v.source AND a.attname = c.name) AS key,
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
    finished_at timestamptz NOT NULL
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

-- One row's key as JSON under its columns' present names.
CREATE FUNCTION vecsync._key_json(source regclass, key text[]) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT jsonb_object_agg(c.name, CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                                             THEN to_jsonb(key[c.n]::bigint) ELSE to_jsonb(key[c.n]) END)
        FROM unnest(vecsync._key_columns(source)) WITH ORDINALITY AS c(name, n)
        JOIN pg_attribute a ON a.attrelid = source AND a.attname = c.name);

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
       b.attempts[o.n] AS attempts, b.error, b.queued_at, b.finished_at
FROM vecsync.operation_batch b JOIN vecsync.vectorizer v ON v.id = b.vectorizer JOIN pg_class c ON c.oid = v.source,
     LATERAL (SELECT cardinality(b.keys) / length(b.operations)) AS k(n),
     LATERAL generate_series(1, length(b.operations)) AS o(n)
WHERE pg_has_role(current_user, c.relowner, 'USAGE') OR pg_has_role(current_user, 'pg_monitor', 'USAGE')
UNION ALL
SELECT NULL, NULL, v.name, vecsync._key_json(v.source, q.keys[1 + (o.n - 1) * k.n:o.n * k.n]), NULL, 'pending', 0, NULL, q.queued_at, NULL
FROM vecsync.queue q JOIN vecsync.vectorizer v ON v.id = q.vectorizer JOIN pg_class c ON c.oid = v.source,
     LATERAL (SELECT cardinality(q.keys) / nullif(q.rows, 0)) AS k(n),
     LATERAL generate_series(1, q.rows) AS o(n)
WHERE q.op = 'k' AND (pg_has_role(current_user, c.relowner, 'USAGE') OR pg_has_role(current_user, 'pg_monitor', 'USAGE'))) AS o;
GRANT SELECT ON vecsync.operation TO PUBLIC;
COMMENT ON VIEW vecsync.operation IS
'What was done to each row of the caller''s tables (all for pg_monitor) within vecsync.log_retention, and the changes that are pending: number and batch once it is done, the row''s key, upsert (it got its vectors) or delete (it is gone or has no text, and so are its vectors), status (pending, success, failed), attempts, the error, when the oldest row of the batch was queued and when it was done.';

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
SELECT s.*, (SELECT q.queued_at FROM vecsync.queue q ORDER BY q.seq LIMIT 1) AS oldest_pending FROM vecsync._stats() s;
GRANT SELECT ON vecsync.stats TO pg_monitor;
COMMENT ON VIEW vecsync.stats IS
'Since the server started: requests of this database''s worker, its answers by class (retried: no connection, timeout, 5xx; throttled: 429, 503; rejected: 400, 413, 422; refused: 401, 403, 404, redirects; garbage: not usable), time of a request (upper bounds), tokens, rows embedded and rows without text; size, hits and misses of the query cache, which all databases share; the time of the oldest change that is pending. For pg_monitor.';

-- ---------------------------------------------------------------------------
-- Questions
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync.embed(model text, input text, purpose text DEFAULT 'query') RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_text';
COMMENT ON FUNCTION vecsync.embed(text, text, text) IS
'The vector of a text by a model. purpose: query or document, for models that tell them apart. The last vectors are kept, by the session and for all sessions (vecsync.query_cache). Errors: 42704 no such model, 08000 and its class when the service cannot be reached or refuses, 38000 when its answer cannot be used.';

CREATE FUNCTION vecsync.embed(model text, inputs text[], purpose text DEFAULT 'query') RETURNS vector[]
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_texts';
COMMENT ON FUNCTION vecsync.embed(text, text[], text) IS
'The vectors of texts by a model, in their order, in as few requests as the model''s max_batch allows; NULL for NULL.';

CREATE FUNCTION vecsync.search(
    name text,
    query text DEFAULT NULL,
    query_vector vector DEFAULT NULL,
    query_key jsonb DEFAULT NULL,
    top_k integer DEFAULT 10,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    mode text DEFAULT 'vector',
    fusion text DEFAULT 'weighted',
    vector_weight double precision DEFAULT 0.5,
    rerank text DEFAULT NULL,
    rerank_error text DEFAULT 'warning',
    exclude jsonb[] DEFAULT NULL,
    group_by_document boolean DEFAULT true,
    snippet_length integer DEFAULT 0,
    return_metadata text DEFAULT 'none',
    return_values boolean DEFAULT false
) RETURNS TABLE (key jsonb, score double precision, vector_score double precision, text_score double precision,
                 rerank_score double precision, chunk_seq integer, chunk text, snippet text, metadata jsonb, "values" vector)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10 AS 'MODULE_PATHNAME', 'search_vectors';
COMMENT ON FUNCTION vecsync.search IS
'The rows of a vectorizer''s table nearest to a text, to a vector, or to another of its rows: keys and scores, best first, ties by key. score: larger is nearer; for the cosine metric 1 is identical. At most top_k rows (1 to 10,000), none below min_score, and as many as match filter, namespace and exclude. mode: vector, text, or hybrid, which fuses both by a weighted sum of scores (weighted) or by reciprocal ranks (rrf). rerank: a model of kind rerank or chat. Of a chunked vectorizer each row comes once, with its best chunk, unless group_by_document is false (then its chunks come, in vector mode). return_metadata: none, indexed or all columns. Sees what the caller may SELECT. Errors: 42704 no such vectorizer, 22023 a bad argument, 42703 an unknown column in a filter, P0002 no row of that query_key, 55000 no text search, and those of vecsync.embed.';

CREATE FUNCTION vecsync.snippet("text" text, query text, length integer DEFAULT 200) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'snippet_text';
COMMENT ON FUNCTION vecsync.snippet IS
'A part of a text of at most so many characters, from at most 50 before the first word of the query on, cut between words, with ... where something is left out.';

CREATE FUNCTION vecsync.similarity(a vector, b vector) RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'snippet_similarity';
COMMENT ON FUNCTION vecsync.similarity IS 'The cosine of two vectors; NULL when one of them is zero, 22000 when their dimensions differ.';

CREATE FUNCTION vecsync.rerank(model text, query text, documents text[], top_n integer DEFAULT NULL)
    RETURNS TABLE (index integer, score double precision)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10 AS 'MODULE_PATHNAME', 'rerank_documents';
COMMENT ON FUNCTION vecsync.rerank IS
'Documents by their relevance to a query, best first: their positions in the array, from 1, and scores. A model of kind rerank scores them; one of kind chat leaves out those it finds irrelevant, and the others keep their order with score 1. Errors: 42704 no such model, 42809 a model of another kind, 38000 when the service fails.';

-- ---------------------------------------------------------------------------
-- Filters
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync.match("row" jsonb, filter jsonb) RETURNS boolean
    LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'filter_match';
COMMENT ON FUNCTION vecsync.match(jsonb, jsonb) IS
'Does a row, as to_jsonb() shows it, satisfy a filter? Values are compared as JSON shows them; strings that look like ISO dates or times are compared as such. Errors: 22023 for what is no filter.';

CREATE FUNCTION vecsync.match("row" jsonb, filter jsonb, source regclass) RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'filter_match_table';
COMMENT ON FUNCTION vecsync.match(jsonb, jsonb, regclass) IS
'The same by the types of a table''s columns, as vecsync.search compares. Errors: 42703 unknown column, 22023 and the type''s own for a value that does not fit.';

CREATE FUNCTION vecsync.filter_sql(source regclass, filter jsonb) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'filter_condition';
COMMENT ON FUNCTION vecsync.filter_sql IS
'The SQL condition that a filter becomes, for use in a query of one''s own or in EXPLAIN. Names and values in it are quoted.';

-- ---------------------------------------------------------------------------
-- Beyond search: rows like other rows
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync._vectors(name text, keys jsonb[], namespace text, OUT n integer, OUT key jsonb, OUT v vector)
    RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000 ROWS 10 AS 'MODULE_PATHNAME', 'groups_vectors';
CREATE FUNCTION vecsync._weighted_mean(vectors vector[], weights double precision[], normalise boolean) RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'groups_mean';
CREATE FUNCTION vecsync._pairs(name text, threshold double precision, filter jsonb, namespace text,
        OUT a jsonb, OUT b jsonb, OUT score double precision)
    RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'groups_pairs';

-- A vectorizer's metric; an error when there is none of that name.
CREATE FUNCTION vecsync._metric(name text, OUT metric text, OUT model text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
BEGIN
    SELECT v.metric, v.model INTO metric, model FROM vecsync.vectorizer v WHERE v.name = _metric.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('vectorizer "%s" does not exist', name),
            HINT = 'vecsync.create_vectorizer() makes one; vecsync.status lists them.';
    END IF;
END
$function$;

CREATE FUNCTION vecsync.similar(
    name text,
    query_key jsonb,
    top_k integer DEFAULT 10,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    exclude jsonb[] DEFAULT NULL,
    return_metadata text DEFAULT 'none'
) RETURNS TABLE (key jsonb, score double precision, metadata jsonb)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
BEGIN ATOMIC
    SELECT s.key, s.score, s.metadata
    FROM vecsync.search("similar".name, query_key => "similar".query_key, top_k => "similar".top_k, filter => "similar".filter,
                        min_score => "similar".min_score, namespace => "similar".namespace, exclude => "similar".exclude,
                        return_metadata => "similar".return_metadata) s;
END;
COMMENT ON FUNCTION vecsync.similar IS
'The rows nearest to one of the table''s rows, without itself. Errors: P0002 no such row, 55000 it has no vector yet, and those of vecsync.search.';

CREATE FUNCTION vecsync.recommend(
    name text,
    positive jsonb[],
    negative jsonb[] DEFAULT '{}',
    top_k integer DEFAULT 10,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    exclude jsonb[] DEFAULT NULL,
    recency double precision DEFAULT 1,
    fallback text DEFAULT NULL,
    return_metadata text DEFAULT 'none'
) RETURNS TABLE (key jsonb, score double precision, metadata jsonb)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
AS $function$
#variable_conflict use_variable
DECLARE
    unit boolean := (vecsync._metric(name)).metric OPERATOR(pg_catalog.=) 'cosine';
    liked record;
    disliked record;
    v record;
BEGIN
    IF recency IS NULL OR NOT (recency OPERATOR(pg_catalog.>) 0 AND recency OPERATOR(pg_catalog.<=) 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'recency must be above 0 and at most 1',
            HINT = 'It is the weight of each key of positive relative to the one before it.';
    END IF;
    SELECT vecsync._weighted_mean(pg_catalog.array_agg(x.v ORDER BY x.n), pg_catalog.array_agg(x.w OPERATOR(pg_catalog./) x.total ORDER BY x.n), unit) AS mean,
           pg_catalog.array_agg(x.v) AS vectors, pg_catalog.array_agg(x.w OPERATOR(pg_catalog./) x.total) AS weights
    INTO liked
    FROM (SELECT y.*, pg_catalog.sum(y.w) OVER () AS total
          FROM (SELECT p.n, p.v, pg_catalog.power(recency, (p.n OPERATOR(pg_catalog.-) 1)::double precision) AS w
                FROM vecsync._vectors(name, positive, namespace) p) y) x;
    IF liked.mean IS NULL THEN
        -- a new user: nothing is known, and a vector of zeroes would be near to nothing
        IF fallback IS NOT NULL THEN
            RETURN QUERY SELECT s.key, s.score, s.metadata
                FROM vecsync.search(name, fallback, top_k => top_k, filter => filter, min_score => min_score,
                                    namespace => namespace, exclude => exclude, return_metadata => return_metadata) s;
        END IF;
        RETURN;
    END IF;
    SELECT pg_catalog.array_agg(p.v) AS vectors, pg_catalog.array_agg(1.0::double precision OPERATOR(pg_catalog./) p.total) AS weights
    INTO disliked
    FROM (SELECT d.v, pg_catalog.count(*) OVER () AS total FROM vecsync._vectors(name, negative, namespace) d) p;
    -- as far from the disliked as the liked are, on the other side
    SELECT coalesce(vecsync._weighted_mean(liked.vectors OPERATOR(pg_catalog.||) disliked.vectors,
                        (SELECT pg_catalog.array_agg(w OPERATOR(pg_catalog.*) 2.0::double precision) FROM pg_catalog.unnest(liked.weights) w)
                        OPERATOR(pg_catalog.||)
                        (SELECT pg_catalog.array_agg(OPERATOR(pg_catalog.-) w) FROM pg_catalog.unnest(disliked.weights) w), unit),
                    liked.mean) AS target INTO v;
    IF disliked.vectors IS NULL THEN
        v.target := liked.mean;
    END IF;
    RETURN QUERY SELECT s.key, s.score, s.metadata
        FROM vecsync.search(name, query_vector => v.target, top_k => top_k, filter => filter, min_score => min_score,
                            namespace => namespace, exclude => positive OPERATOR(pg_catalog.||) negative OPERATOR(pg_catalog.||) exclude,
                            return_metadata => return_metadata) s;
END
$function$;
COMMENT ON FUNCTION vecsync.recommend IS
'Rows near to those liked and away from those disliked: the weighted mean of the vectors of positive, moved by its distance from the mean of negative. positive is in order, the latest first; recency is each one''s weight relative to the one before (1: all alike). Keys that are gone are ignored; none of both lists is returned. When nothing is known of positive, fallback is searched for instead, and without one there are no rows. Errors: those of vecsync.search.';

CREATE FUNCTION vecsync.duplicates(name text, threshold double precision DEFAULT 0.95, filter jsonb DEFAULT NULL,
        namespace text DEFAULT NULL)
    RETURNS TABLE (a jsonb, b jsonb, score double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000
BEGIN ATOMIC
    SELECT p.a, p.b, max(p.score)
    FROM vecsync._pairs(duplicates.name, duplicates.threshold, duplicates.filter, duplicates.namespace) p
    GROUP BY p.a, p.b ORDER BY 3 DESC, 1, 2;
END;
COMMENT ON FUNCTION vecsync.duplicates IS
'Pairs of rows whose score is at least the threshold, each once, nearest first. Each row is searched for, by the index where there is one; of a row at most 10,000 duplicates are looked at.';

CREATE FUNCTION vecsync.clusters(name text, threshold double precision DEFAULT 0.8, filter jsonb DEFAULT NULL,
        namespace text DEFAULT NULL)
    RETURNS TABLE (cluster integer, key jsonb, score double precision)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'groups_clusters';
COMMENT ON FUNCTION vecsync.clusters IS
'Every row in one cluster: in the order of keys, a row that is in none leads a new one, of all rows in none whose score against it is at least the threshold; score is that against the leader. Needs 48 bytes of work_mem for each row.';

CREATE FUNCTION vecsync.similarity_matrix(name text, keys jsonb[], namespace text DEFAULT NULL)
    RETURNS TABLE (a jsonb, b jsonb, score double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 100
BEGIN ATOMIC
    WITH v AS MATERIALIZED (SELECT * FROM vecsync._vectors(similarity_matrix.name, similarity_matrix.keys, similarity_matrix.namespace))
    SELECT x.key, y.key,
           CASE (vecsync._metric(similarity_matrix.name)).metric
               WHEN 'cosine' THEN vecsync.similarity(x.v, y.v)
               WHEN 'ip' THEN inner_product(x.v, y.v)
               WHEN 'l1' THEN 1 / (1 + l1_distance(x.v, y.v))
               ELSE 1 / (1 + l2_distance(x.v, y.v)) END
    FROM v x, v y ORDER BY x.n, y.n;
END;
COMMENT ON FUNCTION vecsync.similarity_matrix IS
'The scores of rows against each other, in the order of the keys; keys without a row or vector are left out.';

CREATE FUNCTION vecsync.classify(name text, key jsonb, labels text[], namespace text DEFAULT NULL)
    RETURNS TABLE (label text, score double precision)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
AS $function$
#variable_conflict use_variable
DECLARE
    of record := vecsync._metric(name);
    found record;
BEGIN
    SELECT x.v INTO found FROM vecsync._vectors(name, ARRAY[key], namespace) x;
    IF found.v IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found',
            MESSAGE = pg_catalog.format('row %s of vectorizer "%s" not found, or without a vector', key, name);
    END IF;
    RETURN QUERY
        SELECT l.label, vecsync.similarity(found.v, l.v) AS s
        FROM (SELECT u.label, u.v FROM ROWS FROM (pg_catalog.unnest(labels), pg_catalog.unnest(vecsync.embed(of.model, labels))) AS u (label, v)) l
        ORDER BY s DESC, l.label;
END
$function$;
COMMENT ON FUNCTION vecsync.classify IS
'Labels by how near their meaning is to a row: the cosine of the row''s vector and each label''s, best first. The labels'' vectors are kept in the query cache. Errors: P0002 no such row.';

CREATE FUNCTION vecsync.context(
    name text,
    query text,
    max_chars integer DEFAULT 4000,
    top_k integer DEFAULT 20,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    mode text DEFAULT 'vector',
    separator text DEFAULT E'\n\n'
) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    result text := '';
    r record;
    room integer;
BEGIN
    IF max_chars IS NULL OR max_chars < 10 OR max_chars > 10000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'max_chars must be between 10 and 10,000,000';
    END IF;
    FOR r IN SELECT s.snippet FROM vecsync.search(name, query, top_k => top_k, filter => filter, min_score => min_score,
                     namespace => namespace, mode => mode, snippet_length => max_chars - 6) s LOOP
        room := max_chars - length(result) - CASE WHEN result = '' THEN 0 ELSE length(separator) END;
        IF length(r.snippet) <= room THEN
            result := result || CASE WHEN result = '' THEN '' ELSE separator END || r.snippet;
        END IF;
    END LOOP;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION vecsync.context IS
'The texts of the nearest rows, joined, best first: as many whole ones of the first top_k as fit into max_chars; one that is longer than that by itself is cut around the words of the query. What a prompt needs; empty when nothing is found.';

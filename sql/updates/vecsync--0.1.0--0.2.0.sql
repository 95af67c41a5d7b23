\echo Use "ALTER EXTENSION vecsync UPDATE TO '0.2.0'" to load this file. \quit

-- From 0.1.0: drafted by tools/draft_update.py, held to the install script by test/t/023_update.pl.

-- Rights that were granted on functions which get other arguments.
CREATE TEMP TABLE vecsync_rights ON COMMIT DROP AS
SELECT p.proname, a.grantee, a.is_grantable FROM pg_catalog.pg_proc p, pg_catalog.aclexplode(p.proacl) a
WHERE p.pronamespace = 'vecsync'::regnamespace AND a.grantee NOT IN (0, p.proowner);

-- Everyone could use every model, and a named key was sent to whatever model named it: to those URLs it still is.
ALTER TABLE vecsync.model ADD COLUMN token_limit integer CHECK (token_limit > 0);
ALTER TABLE vecsync.model ADD COLUMN owner regrole;
ALTER TABLE vecsync.model ADD COLUMN users regrole[] NOT NULL DEFAULT '{-}';
UPDATE vecsync.model SET owner = (SELECT extowner FROM pg_catalog.pg_extension WHERE extname = 'vecsync');
ALTER TABLE vecsync.model ALTER COLUMN owner SET NOT NULL;
ALTER TABLE vecsync.secret ADD COLUMN owner regrole;
ALTER TABLE vecsync.secret ADD COLUMN urls text[];
UPDATE vecsync.secret s SET owner = (SELECT extowner FROM pg_catalog.pg_extension WHERE extname = 'vecsync'),
    urls = (SELECT pg_catalog.array_agg(DISTINCT m.url) FROM vecsync.model m WHERE m.secret = s.name);
ALTER TABLE vecsync.secret ALTER COLUMN owner SET NOT NULL;

DROP FUNCTION vecsync.create_vectorizer(regclass, text, text, text, jsonb, text, text, jsonb, name, regconfig, boolean, boolean);
DROP FUNCTION vecsync._create_vectorizer(regclass, text, text, text, jsonb, text, text, jsonb, name, regconfig, boolean, boolean, text);
DROP FUNCTION vecsync._create_triggers(integer, text, regclass, name[]);
DROP FUNCTION vecsync.set_secret(text, text);
DROP FUNCTION vecsync.alter_model(text, jsonb);
DROP FUNCTION vecsync.create_model(text, text, text, text, text, integer, text, jsonb, jsonb, jsonb, integer, integer, integer, integer, interval, boolean);

COMMENT ON COLUMN vecsync.model.owner IS 'who registered the URL, or changed it or the secret last';

COMMENT ON COLUMN vecsync.model.users IS 'who may use the model beside its owner; - is everyone; see vecsync.grant_model';

COMMENT ON COLUMN vecsync.secret.urls IS 'prefixes of the URLs it may be sent to; NULL: those of models of its owner and of superusers';

CREATE FUNCTION vecsync._registrar() RETURNS regrole
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'embed_registrar';

COMMENT ON FUNCTION vecsync._registrar() IS 'who calls, also from within the functions that run as the extension''s owner';

CREATE FUNCTION vecsync._check_model_secret(model text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'embed_check_model_secret';

REVOKE ALL ON FUNCTION vecsync._check_model_secret(text) FROM PUBLIC;

COMMENT ON FUNCTION vecsync._check_model_secret(text) IS 'an error when the model names a secret that must not be sent to its URL';

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
    token_limit integer DEFAULT NULL,
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
                               query_parameters, max_batch, max_batch_bytes, max_inflight, rate_limit, token_limit, timeout, owner)
    SELECT name, kind, provider, c.checked_url, c.private_addresses, model, dimensions, secret,
           parameters, document_parameters, query_parameters, max_batch, max_batch_bytes, max_inflight,
           rate_limit, token_limit, timeout, vecsync._registrar()
    FROM vecsync._check_model(kind, provider, url, secret) c;
    PERFORM vecsync._check_model_secret(name);
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
'Registers a service under a name and returns the name. url: of the service, with or without the path of the request; provider: the form of its requests (openai); dimensions: of its vectors, asked from the service with one request when NULL; secret: the name of a key set by set_secret, env:VARIABLE or file:PATH (these two for superusers only); parameters: JSON members added to each request, the other two to those for documents and for queries; max_batch and max_batch_bytes: texts and bytes of text in one request; max_inflight: requests at a time; rate_limit: requests a minute; token_limit: tokens a minute, estimated from the bytes of the texts and corrected by what the service reports. Superusers may name any host; others only hosts with public addresses, or what vecsync.allowed_urls lists when it is set. Errors: 42501 a secret of the server''s, or one that must not be sent to this URL, 42710 exists already, 22023 bad URL or provider, 08000 and its class when the service cannot be asked.';

CREATE FUNCTION vecsync.alter_model(name text, options jsonb, same_vectors boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    unknown text;
    broken text;
    user_of_it text;
BEGIN
    SELECT o INTO unknown FROM jsonb_object_keys(options) o
    WHERE o NOT IN ('url', 'model', 'provider', 'secret', 'parameters', 'document_parameters', 'query_parameters',
                    'max_batch', 'max_batch_bytes', 'max_inflight', 'rate_limit', 'token_limit', 'timeout')
    LIMIT 1;
    IF unknown IN ('name', 'kind', 'dimensions') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the %s of a model cannot be changed', unknown),
            HINT = 'Create another model.';
    ELSIF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown option "%s"', unknown),
            HINT = 'Options are url, model, provider, secret, parameters, document_parameters, query_parameters, max_batch, max_batch_bytes, max_inflight, rate_limit, token_limit and timeout.';
    END IF;
    PERFORM FROM vecsync.model m WHERE m.name = alter_model.name FOR UPDATE;    -- waits for vectorizers being made
    SELECT v.name INTO user_of_it
    FROM vecsync.vectorizer v JOIN vecsync.model m ON m.name = v.model, jsonb_populate_record(m, options) n
    WHERE m.name = alter_model.name AND NOT same_vectors
      AND (n.model, n.parameters - 'headers', n.document_parameters - 'headers')
          IS DISTINCT FROM (m.model, m.parameters - 'headers', m.document_parameters - 'headers')
    ORDER BY v.name LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('cannot change what model "%s" makes of a text: vectorizer "%s" has vectors of it', name, user_of_it),
            HINT = 'Create another model and move the vectorizer to it with vecsync.alter_vectorizer(); or say same_vectors => true if the service goes on answering with the same vectors.';
    END IF;
    UPDATE vecsync.model m
    SET (provider, url, private_addresses, model, secret, parameters, document_parameters, query_parameters, max_batch, max_batch_bytes,
         max_inflight, rate_limit, token_limit, timeout, owner) =
        (SELECT n.provider, c.checked_url, c.private_addresses, n.model, n.secret, n.parameters,
                n.document_parameters, n.query_parameters, n.max_batch, n.max_batch_bytes, n.max_inflight,
                n.rate_limit, n.token_limit, n.timeout,
                CASE WHEN options ?| ARRAY['url', 'provider', 'secret'] THEN vecsync._registrar() ELSE m.owner END
         FROM jsonb_populate_record(m, options) n,
              LATERAL (SELECT m.url AS checked_url, m.private_addresses WHERE NOT options ?| ARRAY['url', 'provider', 'secret']
                       UNION ALL
                       SELECT x.* FROM vecsync._check_model(m.kind, n.provider, n.url, n.secret) x
                       WHERE options ?| ARRAY['url', 'provider', 'secret']) c)
    WHERE m.name = alter_model.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', name);
    END IF;
    PERFORM vecsync._check_model_secret(name);
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
'Changes options of a model: a JSON object of create_model''s arguments (not name, kind or dimensions). Takes effect at commit, also for requests that wait. What changes the vectors of a model in use (model, parameters and document_parameters but for their headers) is refused unless same_vectors says that it does not: vecsync.alter_vectorizer() moves a vectorizer to another model. Whoever changes the URL, the provider or the secret becomes the owner of the model. Errors: 42501 the secret must not be sent to the URL, 42704 no such model, 22023 unknown option, bad URL or parameters, 55006 vectorizers have vectors of it.';

CREATE FUNCTION vecsync.set_secret(name text, value text, urls text[] DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
BEGIN
    IF EXISTS (SELECT FROM vecsync.secret s WHERE s.name = set_secret.name AND NOT pg_has_role(vecsync._registrar(), s.owner, 'USAGE')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for secret "%s"', name),
            DETAIL = 'Another role has set it.';
    END IF;
    DELETE FROM vecsync.secret s WHERE s.name = set_secret.name;
    INSERT INTO vecsync.secret (name, value, owner, urls) SELECT name, value, vecsync._registrar(), urls WHERE value IS NOT NULL;
END
$function$;

REVOKE ALL ON FUNCTION vecsync.set_secret FROM PUBLIC;

COMMENT ON FUNCTION vecsync.set_secret IS
'Keeps a service''s key under a name; a NULL value forgets it. It is sent to URLs that begin with one of urls, whoever made the model; when urls is NULL, to those of models that the caller or a superuser has made. Nobody can read it back, pg_dump leaves it out, and it appears in no message. The statement itself may be logged by log_statement: prefer env: or file: where that matters. Errors: 42501 another role has set a secret of that name.';

CREATE FUNCTION vecsync._set_model_user(model text, grantee text, may_use boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    m record;
    role regrole := CASE WHEN lower(grantee) = 'public' THEN 0::oid::regrole ELSE quote_ident(grantee)::regrole END;
BEGIN
    SELECT * INTO m FROM vecsync.model x WHERE x.name = model FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', model);
    ELSIF NOT pg_has_role(vecsync._registrar(), m.owner, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be owner of model "%s"', model);
    END IF;
    UPDATE vecsync.model x SET users = CASE WHEN may_use THEN array_append(array_remove(x.users, role), role) ELSE array_remove(x.users, role) END
    WHERE x.name = model;
END
$function$;

CREATE FUNCTION vecsync.grant_model(name text, grantee text DEFAULT 'public') RETURNS void
    LANGUAGE sql BEGIN ATOMIC SELECT vecsync._set_model_user(name, grantee, true); END;

COMMENT ON FUNCTION vecsync.grant_model IS 'Lets a role, or everyone (public), use a model: embed and rerank with it and make vectorizers. Models are for everyone when they are made. Only the model''s owner. Errors: 42501 not the owner, 42704 no such model or role.';

CREATE FUNCTION vecsync.revoke_model(name text, grantee text DEFAULT 'public') RETURNS void
    LANGUAGE sql BEGIN ATOMIC SELECT vecsync._set_model_user(name, grantee, false); END;

COMMENT ON FUNCTION vecsync.revoke_model IS 'Takes back what grant_model gave. The owner of the model and superusers can always use it; vectorizers of tables whose owner may not use their model any more stop, and their status says so.';

CREATE FUNCTION vecsync._check_parameters(what text, parameters jsonb, embedding boolean) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'model_check_parameters';

REVOKE ALL ON FUNCTION vecsync._check_parameters(text, jsonb, boolean) FROM PUBLIC;

CREATE FUNCTION vecsync._check_model_parameters() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM vecsync._check_parameters(p.name, p.value, NEW.kind = 'embedding')
    FROM (VALUES ('parameters', NEW.parameters), ('document_parameters', NEW.document_parameters),
                 ('query_parameters', NEW.query_parameters)) p(name, value)
    WHERE jsonb_typeof(p.value) = 'object';     -- the table's constraints judge the others
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION vecsync._check_model_parameters() FROM PUBLIC;

CREATE TRIGGER check_parameters BEFORE INSERT OR UPDATE ON vecsync.model
    FOR EACH ROW EXECUTE FUNCTION vecsync._check_model_parameters();

CREATE FUNCTION vecsync._content(anyelement) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1::pg_catalog.text';

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

CREATE FUNCTION vecsync._create_chunks_view(source regclass, chunk_table regclass, name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
BEGIN
    EXECUTE format('CREATE VIEW %s WITH (security_invoker) AS SELECT %s, c.chunk_seq, vecsync._content(c.chunk) AS chunk, c.embedding FROM %s AS s JOIN %s AS c ON %s',
                   vecsync._chunks_view(chunk_table, name),
                   (SELECT string_agg(format('s.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                    WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND a.attname NOT IN ('chunk_seq', 'chunk', 'embedding')),
                   source, chunk_table,
                   (SELECT string_agg(format('s.%I = c.k%s', u.k, u.n), ' AND ' ORDER BY u.n)
                    FROM unnest(vecsync._key_columns(source)) WITH ORDINALITY u(k, n)));
END
$function$;

CREATE OR REPLACE FUNCTION vecsync._create_chunks(id integer, name text, source regclass, keys name[], columns name[], dimensions integer)
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
    -- Who may read a row's columns that the chunks are made of may read its chunks: the policy's query runs with
    -- the reader's rights on the source.
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', chunks);
    EXECUTE format('CREATE POLICY as_the_source ON %s FOR SELECT USING (EXISTS (SELECT %s FROM %s AS s WHERE %s))', chunks,
                   (SELECT string_agg(format('s.%I', u), ', ') FROM unnest(columns) u), source,
                   (SELECT string_agg(format('s.%I = %s.k%s', u.k, chunks, u.n), ' AND ') FROM unnest(keys) WITH ORDINALITY u(k, n)));
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', chunks);
    PERFORM vecsync._create_chunks_view(source, chunks::regclass, name);
    PERFORM vecsync._give_to_owner('TABLE', chunks, source);
    PERFORM vecsync._give_to_owner('VIEW', format('%I.%I', schema, name || '_chunks'), source);
    RETURN chunks::regclass;
END
$function$;

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
    PERFORM vecsync._create_triggers(id, name, source, compiled.columns, replica);
    PERFORM vecsync._register_vectorizer(id, name, source, model, content, content_view::regclass, metric,
                                         chunking, chunk_table, enqueue_existing);
    PERFORM vecsync._tend_partitions(id);
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
    if_not_exists boolean DEFAULT false,
    replica boolean DEFAULT false
) RETURNS text
    LANGUAGE sql    -- the body's names are bound here and now, whatever the caller's search_path is
BEGIN ATOMIC
    SELECT vecsync._create_vectorizer(create_vectorizer.source, create_vectorizer.model, create_vectorizer.content, create_vectorizer.name, create_vectorizer.chunking, create_vectorizer.destination, create_vectorizer.metric, create_vectorizer.index, create_vectorizer.namespace, create_vectorizer.text_config, create_vectorizer.enqueue_existing, create_vectorizer.if_not_exists, create_vectorizer.replica,
                                      current_setting('search_path'));
END;

COMMENT ON FUNCTION vecsync.create_vectorizer IS
'Keeps a column of the table in step with the text of its rows and returns the vectorizer''s name (by default the table''s). content: a column, a template such as ''{name} by {artist}'' ({{ and }} for braces, NULL gives nothing), or ''='' and a SQL expression; chunking: for long texts, {"method": "words", "size": 512, "overlap": 0} as in vecsync.chunk; destination: ''column:NAME'', added if missing, or ''table'': a table of chunks of its own, which the view NAME_chunks joins with the source. index: {"method": "hnsw", "m": 16, "ef_construction": 64}, {"method": "ivfflat", "lists": 100} or {"method": "none"}. namespace: a column whose value separates rows, so that every search names one; text_config: a text search configuration for hybrid search, whose indexes are made at once (one more for misspelt words where pg_trgm is installed). Existing rows are embedded in the background unless enqueue_existing is false. replica: also follow changes that logical replication applies, and those under session_replication_role = replica. Only the owner of the table. Errors: 42501 not the owner, 42703 unknown column, 55000 no primary key, 42804 the column has another type, 42704 unknown model, 42710 the name is taken.';

CREATE FUNCTION vecsync._sweep(id integer) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_sweep';

REVOKE ALL ON FUNCTION vecsync._sweep(integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION vecsync._on_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    v record;
    t record;
BEGIN
    -- a partition goes with its triggers: the rows it had may have left chunks behind
    PERFORM vecsync._sweep(x.id) FROM vecsync.vectorizer x
    WHERE EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                  WHERE d.object_type = 'trigger' AND d.address_names[3] = vecsync._object_name(x.id, 'write', x.name));
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

CREATE TABLE vecsync.suspended (
    vectorizer integer PRIMARY KEY REFERENCES vecsync.vectorizer (id) ON DELETE CASCADE,
    digest text,                    -- of the keys and texts before; NULL: only the view of the chunks is away
    content_view text,
    search_view text,
    statements text[] NOT NULL
);

REVOKE ALL ON vecsync.suspended FROM PUBLIC;

COMMENT ON TABLE vecsync.suspended IS 'empty but within ALTER TABLE ... ALTER COLUMN ... TYPE or DROP COLUMN';

CREATE FUNCTION vecsync._view_statements(view regclass) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT format('CREATE VIEW %s %s AS %s', c.oid::regclass, 'WITH (' || array_to_string(c.reloptions, ', ') || ')',
                  pg_get_viewdef(c.oid))
    FROM pg_class c WHERE c.oid = _view_statements.view
    UNION ALL
    SELECT format('ALTER VIEW %s OWNER TO %I', c.oid::regclass, pg_get_userbyid(c.relowner)) FROM pg_class c WHERE c.oid = _view_statements.view
    UNION ALL
    SELECT format('GRANT %s ON %s TO %s%s', a.privilege_type, c.oid::regclass, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = _view_statements.view AND a.grantee <> c.relowner;
END;

REVOKE ALL ON FUNCTION vecsync._view_statements FROM PUBLIC;

CREATE FUNCTION vecsync._suspend(id integer, digest text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    v record;
    views regclass[];
    view regclass;
    made text[];
    dropped text[] := '{}';
    statement text;
BEGIN
    SELECT * INTO STRICT v FROM vecsync.vectorizer x WHERE x.id = _suspend.id;
    IF digest IS NULL THEN
        view := to_regclass(vecsync._chunks_view(v.chunk_table, v.name));
        IF view IS NOT NULL THEN
            INSERT INTO vecsync.suspended (vectorizer, statements) SELECT id, array_agg(w.s) FROM (SELECT vecsync._view_statements(view) OFFSET 1) w(s);
            EXECUTE format('DROP VIEW %s', view);
        END IF;
        RETURN;
    END IF;
    views := array_remove(ARRAY[v.content_view, v.search_view, to_regclass(vecsync._chunks_view(v.chunk_table, v.name))], NULL);
    FOREACH view IN ARRAY views LOOP
        made := made || ARRAY(SELECT vecsync._view_statements(view));
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
    INSERT INTO vecsync.suspended VALUES (id, digest, v.content_view::text, v.search_view::text, made);
    -- so that _on_drop takes none of it for the user's wish
    UPDATE vecsync.vectorizer x SET content_view = 0, search_view = NULL WHERE x.id = _suspend.id;
    FOREACH statement IN ARRAY dropped LOOP
        EXECUTE statement;
    END LOOP;
END
$function$;

REVOKE ALL ON FUNCTION vecsync._suspend FROM PUBLIC;

CREATE FUNCTION vecsync._resume(id integer) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    s record;
    v record;
    statement text;
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
    FOR statement IN    -- the chunks' keys have the source's types
        SELECT format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %2$I::%3$s', v.chunk_table, c.attname, format_type(k.atttypid, k.atttypmod))
        FROM unnest(vecsync._key_columns(v.source)) WITH ORDINALITY u(name, n)
        JOIN pg_attribute k ON k.attrelid = v.source AND k.attname = u.name
        JOIN pg_attribute c ON c.attrelid = v.chunk_table AND c.attname = 'k' || u.n
        WHERE (c.atttypid, c.atttypmod) <> (k.atttypid, k.atttypmod)
    LOOP
        EXECUTE statement;
    END LOOP;
    FOREACH statement IN ARRAY s.statements LOOP
        EXECUTE statement;
    END LOOP;
    UPDATE vecsync.vectorizer x SET content_view = s.content_view::regclass, search_view = s.search_view::regclass WHERE x.id = _resume.id;
    IF v.chunk_table IS NULL THEN
        SELECT m.dimensions INTO dimensions FROM vecsync.model m WHERE m.name = v.model;
        PERFORM vecsync._ensure_column(v.source, vecsync._target_column(s.content_view::regclass), dimensions);
    END IF;
    RETURN s.digest;
END
$function$;

REVOKE ALL ON FUNCTION vecsync._resume FROM PUBLIC;

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

DO $do$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT x.*, p.oid::regprocedure AS function FROM vecsync_rights x JOIN pg_catalog.pg_proc p USING (proname)
             WHERE p.pronamespace = 'vecsync'::regnamespace
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I%s', r.function, pg_catalog.pg_get_userbyid(r.grantee),
                                  CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    PERFORM vecsync._tend_partitions(v.id) FROM vecsync.vectorizer v;
END
$do$;
DROP TABLE vecsync_rights;

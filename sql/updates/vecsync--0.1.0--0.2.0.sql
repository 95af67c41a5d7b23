\echo Use "ALTER EXTENSION vecsync UPDATE TO '0.2.0'" to load this file. \quit

-- From 0.1.0: drafted by tools/draft_update.py, held to the install script by test/t/023_update.pl.

-- Rights on functions that get other arguments, and so are made anew.
CREATE TEMP TABLE vecsync_rights ON COMMIT DROP AS
SELECT p.oid AS former, p.proname, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) AS acl
FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'vecsync'::regnamespace;

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

ALTER TABLE vecsync.vectorizer ADD COLUMN generation integer NOT NULL DEFAULT 1,
    ADD COLUMN successor_of integer UNIQUE,
    ADD COLUMN cutover text CHECK (cutover IN ('auto', 'manual')),
    ADD COLUMN pending_index jsonb,
    ADD COLUMN retired xid8;
-- no index for writers to keep
ALTER TABLE vecsync.queue DROP CONSTRAINT queue_pkey;
ALTER TABLE vecsync.queue REPLICA IDENTITY FULL;
DROP INDEX vecsync.queue_vectorizer_seq;
-- pg_restore -j loads tables in any order
ALTER TABLE vecsync.vectorizer DROP CONSTRAINT vectorizer_model_fkey;
ALTER TABLE vecsync.dead_letter DROP CONSTRAINT dead_letter_vectorizer_fkey;
-- regconfig in a table stops pg_upgrade
ALTER TABLE vecsync.vectorizer ALTER COLUMN text_config TYPE text USING text_config::text;

DROP VIEW vecsync.status;
DROP FUNCTION vecsync._status();
DROP FUNCTION vecsync.create_vectorizer(regclass, text, text, text, jsonb, text, text, jsonb, name, regconfig, boolean, boolean);
DROP FUNCTION vecsync._create_vectorizer(regclass, text, text, text, jsonb, text, text, jsonb, name, regconfig, boolean, boolean, text);
DROP FUNCTION vecsync._create_triggers(integer, text, regclass, name[]);
DROP FUNCTION vecsync.set_secret(text, text);
DROP FUNCTION vecsync.alter_model(text, jsonb);
DROP FUNCTION vecsync.create_model(text, text, text, text, text, integer, text, jsonb, jsonb, jsonb, integer, integer, integer, integer, interval, boolean);

COMMENT ON COLUMN vecsync.model.owner IS 'who registered the URL, or changed it or the secret last';

COMMENT ON COLUMN vecsync.model.users IS 'who may use the model beside its owner; - is everyone; see vecsync.grant_model';

COMMENT ON COLUMN vecsync.secret.urls IS 'prefixes of the URLs it may be sent to; NULL: those of models of its owner and of superusers';

COMMENT ON COLUMN vecsync.vectorizer.successor_of IS 'of a generation that is being made: the vectorizer whose name it will take; see vecsync.alter_vectorizer';

COMMENT ON COLUMN vecsync.vectorizer.cutover IS 'when it takes it: auto, as soon as nothing is missing, or manual, by vecsync.cutover';

COMMENT ON COLUMN vecsync.vectorizer.pending_index IS 'the index to make once its rows are there';

COMMENT ON COLUMN vecsync.vectorizer.retired IS 'the transaction that put the next generation into its place; its vectors go when nobody can see what was before';

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

CREATE FUNCTION vecsync._check_model_owner(model text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    owner regrole;
BEGIN
    SELECT m.owner INTO owner FROM vecsync.model m WHERE m.name = model FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', model);
    ELSIF NOT pg_has_role(vecsync._registrar(), owner, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be owner of model "%s"', model);
    END IF;
END
$function$;

REVOKE ALL ON FUNCTION vecsync._check_model_owner FROM PUBLIC;

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
    PERFORM vecsync._check_model_owner(name);   -- waits for vectorizers being made
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
'Changes options of a model: a JSON object of create_model''s arguments (not name, kind or dimensions). Takes effect at commit, also for requests that wait. What changes the vectors of a model in use (model, parameters and document_parameters but for their headers) is refused unless same_vectors says that it does not: vecsync.alter_vectorizer() moves a vectorizer to another model. Whoever changes the URL, the provider or the secret becomes the owner of the model. Only the model''s owner, its members and superusers. Errors: 42501 not the owner, or the secret must not be sent to the URL, 42704 no such model, 22023 unknown option, bad URL or parameters, 55006 vectorizers have vectors of it.';

CREATE FUNCTION vecsync.set_secret(name text, value text, urls text[] DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
BEGIN
    IF name IS NULL OR name = '' THEN   -- the table's own words would show the value
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the name of a secret must not be empty';
    END IF;
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
'Keeps a service''s key under a name; a NULL value forgets it. It is sent to URLs that begin with one of urls, whoever made the model; when urls is NULL, to those of models that the caller or a superuser has made. Nobody can read it back, pg_dump leaves it out, and it appears in no message. The statement itself may be logged by log_statement: prefer env: or file: where that matters. Errors: 42501 another role has set a secret of that name, 22023 the name is empty.';

CREATE FUNCTION vecsync._model_user(model text) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'catalog_model_user';
REVOKE ALL ON FUNCTION vecsync._model_user FROM PUBLIC;

CREATE OR REPLACE FUNCTION vecsync.drop_model(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    user_of_it text;
BEGIN
    PERFORM vecsync._check_model_owner(name);   -- and who makes a vectorizer now waits
    user_of_it := vecsync._model_user(name);
    IF user_of_it IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop model "%s" because vectorizer "%s" uses it', name, user_of_it),
            HINT = 'Drop the vectorizer first with vecsync.drop_vectorizer().';
    END IF;
    DELETE FROM vecsync.model m WHERE m.name = drop_model.name;
END
$function$;

COMMENT ON FUNCTION vecsync.drop_model IS 'Forgets a model that no vectorizer uses. Only the model''s owner. Errors: 42501 not the owner, 42704 no such model, 2BP01 still in use.';

CREATE FUNCTION vecsync._set_model_user(model text, grantee text, may_use boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    role regrole := CASE WHEN lower(grantee COLLATE "C") = 'public' THEN 0::oid::regrole ELSE quote_ident(grantee)::regrole END;
BEGIN
    PERFORM vecsync._check_model_owner(model);
    -- without those that were dropped: in a dump their numbers might be others
    UPDATE vecsync.model x
    SET users = ARRAY(SELECT u FROM unnest(x.users) u WHERE u <> role AND (u = 0 OR EXISTS (SELECT FROM pg_roles r WHERE r.oid = u)))
                || CASE WHEN may_use THEN ARRAY[role] ELSE '{}' END
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

CREATE OR REPLACE FUNCTION vecsync._drop_search(id integer, name text, source regclass, search_view regclass) RETURNS void
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

CREATE FUNCTION vecsync._content(anyelement) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1::pg_catalog.text';

CREATE OR REPLACE FUNCTION vecsync._object_name(id integer, what text, name text) RETURNS name
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
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', chunks);
    EXECUTE vecsync._chunks_policy_sql(source, chunks::regclass, columns);
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', chunks);
    PERFORM vecsync._create_chunks_view(source, chunks::regclass, name);
    PERFORM vecsync._give_to_owner('TABLE', chunks, source);
    PERFORM vecsync._give_to_owner('VIEW', format('%I.%I', schema, name || '_chunks'), source);
    RETURN chunks::regclass;
END
$function$;

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

-- The worker works as the table's owner: what another role, a superuser say, has made for him becomes his, and so does
-- what was the former owner's.  By whoever may do that.
CREATE OR REPLACE FUNCTION vecsync._hand_over(id integer) RETURNS void
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

CREATE OR REPLACE FUNCTION vecsync.drop_vectorizer(name text, keep_data boolean DEFAULT true) RETURNS void
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

CREATE FUNCTION vecsync._sweep(id integer) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_sweep';

REVOKE ALL ON FUNCTION vecsync._sweep(integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION vecsync._on_drop() RETURNS event_trigger
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

CREATE FUNCTION vecsync._index_alias(id integer, index_name name) RETURNS name
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN format('vecsync_%s_index_%s', id, md5(index_name))::name;

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

CREATE FUNCTION vecsync._run_as_owner(source regclass, statement text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'ddl_run_as_owner';

REVOKE ALL ON FUNCTION vecsync._run_as_owner(regclass, text) FROM PUBLIC;

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

CREATE FUNCTION vecsync._clusters(name text, threshold double precision, filter jsonb, namespace text,
        OUT cluster integer, OUT key jsonb, OUT score double precision)
    RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'groups_clusters';

COMMENT ON FUNCTION vecsync.duplicates IS
'Pairs of rows whose score is at least the threshold, each once, nearest first. Few rows are compared with each other; of many each is searched for by the index, and then of a row at most 10,000 duplicates are looked at. Of a chunked vectorizer the best of all pairs of chunks counts: rows that have a piece in common.';

CREATE OR REPLACE FUNCTION vecsync.recommend(
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
    reach double precision := 'Infinity';
    liked record;
    disliked record;
    v record;
BEGIN
    IF recency IS NULL OR NOT (recency OPERATOR(pg_catalog.>) 0 AND recency OPERATOR(pg_catalog.<=) 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'recency must be above 0 and at most 1',
            HINT = 'It is the weight of each key of positive relative to the one before it.';
    END IF;
    IF recency OPERATOR(pg_catalog.<) 1 THEN
        -- further down the list weights would be less than any number
        reach := (-300)::double precision OPERATOR(pg_catalog./) pg_catalog.log(recency);
    END IF;
    SELECT vecsync._weighted_mean(pg_catalog.array_agg(x.v ORDER BY x.n), pg_catalog.array_agg(x.w OPERATOR(pg_catalog./) x.total ORDER BY x.n), unit) AS mean,
           pg_catalog.array_agg(x.v) AS vectors, pg_catalog.array_agg(x.w OPERATOR(pg_catalog./) x.total) AS weights
    INTO liked
    FROM (SELECT y.*, pg_catalog.sum(y.w) OVER () AS total
          FROM (SELECT p.n, p.v, pg_catalog.power(recency, least((p.n OPERATOR(pg_catalog.-) 1)::double precision, reach)) AS w
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

CREATE OR REPLACE FUNCTION vecsync.classify(name text, key jsonb, labels text[], namespace text DEFAULT NULL)
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
        ORDER BY s DESC NULLS LAST, l.label;
END
$function$;

CREATE OR REPLACE FUNCTION vecsync.context(
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
        room := max_chars - length(result) - CASE WHEN result = '' THEN 0 ELSE coalesce(length(separator), 0) END;
        IF length(r.snippet) <= room THEN
            result := concat(result, CASE WHEN result = '' THEN '' ELSE separator END, r.snippet);
        END IF;
    END LOOP;
    RETURN result;
END
$function$;

CREATE OR REPLACE FUNCTION vecsync.clusters(name text, threshold double precision DEFAULT 0.8, filter jsonb DEFAULT NULL,
        namespace text DEFAULT NULL)
    RETURNS TABLE (cluster integer, key jsonb, score double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000
BEGIN ATOMIC
    SELECT c.cluster, c.key, max(c.score)
    FROM vecsync._clusters(clusters.name, clusters.threshold, clusters.filter, clusters.namespace) c
    GROUP BY c.cluster, c.key ORDER BY 1, 3 DESC, 2;
END;

COMMENT ON FUNCTION vecsync.clusters IS
'Every row in one cluster: in the order of keys, a row that is in none leads a new one, of all rows in none whose score against it is at least the threshold; score is that against the leader, and 1 for the leader itself. Of a chunked vectorizer the best of all pairs of chunks counts.';

DROP FUNCTION vecsync.resync(text, boolean);

CREATE TABLE vecsync.digest (
    vectorizer integer NOT NULL,
    key uuid NOT NULL,              -- digest of the key columns' texts
    digest bigint NOT NULL,         -- of the text that was embedded
    PRIMARY KEY (vectorizer, key)
);

REVOKE ALL ON vecsync.digest FROM PUBLIC;

COMMENT ON TABLE vecsync.digest IS 'digests of the texts that vectors were made from; see vecsync.verify';

SELECT pg_catalog.pg_extension_config_dump('vecsync.digest', '');

CREATE FUNCTION vecsync._key_digest(key text[]) RETURNS uuid
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'digest_key_sql';

CREATE FUNCTION vecsync._key_text(value "any") RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'digest_key_text';
CREATE FUNCTION vecsync._rows_as_owner(id integer, query text) RETURNS SETOF record
    LANGUAGE c STRICT ROWS 1000 AS 'MODULE_PATHNAME', 'digest_rows_as_owner';
CREATE FUNCTION vecsync._text_digest(content text) RETURNS bigint
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'digest_text_sql';

CREATE FUNCTION vecsync._digests(id integer, OUT key uuid, OUT digest bigint) RETURNS SETOF record
    LANGUAGE c STRICT ROWS 100000 AS 'MODULE_PATHNAME', 'digest_list';

CREATE FUNCTION vecsync._queued_keys(id integer) RETURNS TABLE (key uuid)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_list_queued';

CREATE FUNCTION vecsync._failed_keys(id integer) RETURNS TABLE (key text[])
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_list_failed';

CREATE FUNCTION vecsync._scans(id integer) RETURNS TABLE (op "char", after text[])
    LANGUAGE c STRICT ROWS 1 AS 'MODULE_PATHNAME', 'digest_list_scans';

CREATE FUNCTION vecsync._key_after(name text) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'digest_key_after';

CREATE FUNCTION vecsync._note_digests(id integer, keys uuid[], digests bigint[]) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_note';

CREATE FUNCTION vecsync._enqueue(id integer, keys text[], rows integer, force boolean) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_enqueue';

CREATE FUNCTION vecsync._drop_digests() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    DELETE FROM vecsync.digest WHERE vectorizer = OLD.id;
    DELETE FROM vecsync.dead_letter WHERE vectorizer = OLD.id;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION vecsync._drop_digests() FROM PUBLIC;

CREATE TRIGGER drop_digests AFTER DELETE ON vecsync.vectorizer
    FOR EACH ROW EXECUTE FUNCTION vecsync._drop_digests();

CREATE FUNCTION vecsync._vector_schema() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector');

CREATE FUNCTION vecsync._queue_rows(name text, failed_only boolean, force boolean DEFAULT false) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'vectorizer_resync';

CREATE FUNCTION vecsync._enqueue_query(id integer, query text, force boolean) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_enqueue_query';

CREATE FUNCTION vecsync._key_texts(source regclass, prefix text, names name[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT string_agg(format('vecsync._key_text(%s.%I)', prefix, names[u.n]), ', ' ORDER BY u.n)
        FROM unnest(vecsync._key_columns(source)) WITH ORDINALITY u(k, n));

CREATE FUNCTION vecsync._check_condition(condition text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'digest_check_condition';

CREATE OR REPLACE FUNCTION vecsync._key_json(source regclass, key text[]) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT jsonb_object_agg(a.attname, CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND key[c.n] ~ '^-?[0-9]{1,19}$'
                                                THEN to_jsonb(key[c.n]::numeric) ELSE to_jsonb(key[c.n]) END)
        FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS c(attnum, n), pg_attribute a
        WHERE i.indrelid = source AND i.indisprimary AND c.n <= i.indnkeyatts AND a.attrelid = source AND a.attnum = c.attnum);

CREATE OR REPLACE VIEW vecsync.failed WITH (security_barrier) AS
SELECT v.name AS vectorizer,
       vecsync._key_json(v.source, d.key) AS key,
       d.operation, d.attempts, d.error, d.failed_at
FROM vecsync.dead_letter d JOIN vecsync.vectorizer v ON v.id = d.vectorizer JOIN pg_class c ON c.oid = v.source
WHERE pg_has_role(current_user, c.relowner, 'USAGE') OR pg_has_role(current_user, 'pg_monitor', 'USAGE');

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

CREATE FUNCTION vecsync._awaits_scan(v vecsync.vectorizer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN format('EXISTS (SELECT FROM vecsync._scans(%s) c WHERE c.op OPERATOR(pg_catalog.<>) ''t'' AND (cardinality(c.after) OPERATOR(pg_catalog.=) 0 OR %s))',
              v.id, vecsync._key_after(v.name));

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

DO $do$
DECLARE
    r record;
    g record;
BEGIN
    FOR r IN SELECT p.oid, p.oid::regprocedure AS function, p.proowner, p.proacl AS fresh, x.acl
             FROM vecsync_rights x JOIN pg_catalog.pg_proc p USING (proname)
             WHERE p.pronamespace = 'vecsync'::regnamespace AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc f WHERE f.oid = x.former)
               AND (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(x.acl) a)
                   <> (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(p.proacl, acldefault('f', p.proowner))) a)
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', r.function);
        FOR g IN SELECT a.* FROM aclexplode(r.acl) a WHERE a.grantee <> r.proowner LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s%s', r.function,
                           CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                           CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
        -- these are not what the extension gives: pg_dump has to tell them
        DELETE FROM pg_init_privs i WHERE i.objoid = r.oid AND i.classoid = 'pg_proc'::regclass;
        INSERT INTO pg_init_privs (objoid, classoid, objsubid, privtype, initprivs)
        SELECT r.oid, 'pg_proc'::regclass, 0, 'e', r.fresh WHERE r.fresh IS NOT NULL;
    END LOOP;
    PERFORM vecsync._tend_partitions(v.id) FROM vecsync.vectorizer v;
END
$do$;
DROP TABLE vecsync_rights;

-- Who searches what.
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

-- The weight of the vectors is the search's choice, unless one is given.
CREATE OR REPLACE FUNCTION vecsync.search(
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
    vector_weight double precision DEFAULT NULL,
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
'The rows of a vectorizer''s table nearest to a text, to a vector, or to another of its rows: keys and scores, best first, ties by key. score: larger is nearer; for the cosine metric 1 is identical. At most top_k rows (1 to 10,000), none below min_score, and as many as match filter, namespace and exclude. mode: vector, text, or hybrid, which fuses both by a weighted sum of scores (weighted; without vector_weight the leg with the better best row weighs more) or by reciprocal ranks (rrf). rerank: a model of kind rerank or chat. Of a chunked vectorizer each row comes once, with its best chunk, unless group_by_document is false (then its chunks come, in vector mode). return_metadata: none, indexed or all columns. Sees what the caller may SELECT. Errors: 42704 no such vectorizer, 22023 a bad argument, 42703 an unknown column in a filter, P0002 no row of that query_key, 55000 no text search, and those of vecsync.embed.';

-- Pending changes have two kinds of entries; the texts' digests are logged.
ALTER TABLE vecsync.operation_batch ADD old_digests bigint[], ADD new_digests bigint[];
CREATE OR REPLACE VIEW vecsync.operation WITH (security_barrier) AS
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
COMMENT ON VIEW vecsync.operation IS
'What was done to each row of the caller''s tables (all for pg_monitor) within vecsync.log_retention, and the changes that are pending: number and batch once it is done, the row''s key, upsert (it got its vectors) or delete (it is gone or has no text, and so are its vectors), status (pending, success, failed), attempts, the error, when the oldest row of the batch was queued and when it was done; old_hash and new_hash are the first 16 hexadecimal digits of the SHA-256 of the text that the row''s vector was of before, and is of now.';

CREATE OR REPLACE VIEW vecsync.stats AS
SELECT s.*, (SELECT min(q.queued_at) FROM vecsync.queue q WHERE q.vectorizer IN (SELECT v.id FROM vecsync.vectorizer v)) AS oldest_pending FROM vecsync._stats() s;

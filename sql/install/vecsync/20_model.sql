-- ---------------------------------------------------------------------------
-- Models and secrets.  Administrators: revoked from PUBLIC, so that registering a URL that the server will
-- call is a privilege of its own.
-- ---------------------------------------------------------------------------

GRANT SELECT (name, kind, provider, model, dimensions) ON vecsync.model TO PUBLIC;

CREATE FUNCTION vecsync._check_model(kind text, provider text, url text, secret text, OUT checked_url text, OUT private_addresses boolean)
    LANGUAGE c AS 'MODULE_PATHNAME', 'embed_check_model';
REVOKE ALL ON FUNCTION vecsync._check_model(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION vecsync._check_model(text, text, text, text) IS 'the URL, normalised, and whether it may lead to private addresses; an error for an unknown provider, and for a URL or secret that the caller may not name';

CREATE FUNCTION vecsync._registrar() RETURNS regrole
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'embed_registrar';
COMMENT ON FUNCTION vecsync._registrar() IS 'who calls, also from within the functions that run as the extension''s owner';

CREATE FUNCTION vecsync._check_model_secret(model text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'embed_check_model_secret';
REVOKE ALL ON FUNCTION vecsync._check_model_secret(text) FROM PUBLIC;
COMMENT ON FUNCTION vecsync._check_model_secret(text) IS 'an error when the model names a secret that must not be sent to its URL';

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

-- Texts of everyone's tables go to a model's URL, so it is not for everyone who may make models of his own to change.
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

-- By what is committed now, whatever the transaction's snapshot shows.
CREATE FUNCTION vecsync._model_user(model text) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'catalog_model_user';
REVOKE ALL ON FUNCTION vecsync._model_user FROM PUBLIC;

CREATE FUNCTION vecsync.drop_model(name text) RETURNS void
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
REVOKE ALL ON FUNCTION vecsync.drop_model FROM PUBLIC;
COMMENT ON FUNCTION vecsync.drop_model IS 'Forgets a model that no vectorizer uses. Only the model''s owner. Errors: 42501 not the owner, 42704 no such model, 2BP01 still in use.';

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

-- A model is for everyone until it is revoked from public.
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

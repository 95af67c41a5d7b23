-- ---------------------------------------------------------------------------
-- What text each vector was made from: written by the worker together with the vector.
-- ---------------------------------------------------------------------------

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

-- ---------------------------------------------------------------------------
-- A model's parameters are judged when they are written, not by the first request made of them.
-- ---------------------------------------------------------------------------

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


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

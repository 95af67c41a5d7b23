-- No call of a function that the extensions bring, with whatever arguments, ends in a crash or an internal error.
-- Each is called with values that are out of place: numbers of no relation, of views and indexes, empty and
-- multi-dimensional arrays, infinities, NULL.  A server that died says so in the differences.
\set SHOW_CONTEXT never
SET client_min_messages = error;
SELECT setseed(0.25);	-- the same draw for everybody; another one looks further
CREATE EXTENSION IF NOT EXISTS vecsync CASCADE;
CREATE TABLE odd (id int PRIMARY KEY, body text, v vector(3));
INSERT INTO odd SELECT i, 'row ' || i, ARRAY[i, 1, 2]::vector FROM generate_series(1, 20) i;
CREATE VIEW odd_view AS SELECT * FROM odd;
CREATE INDEX odd_hnsw ON odd USING hnsw (v vector_l2_ops);
SELECT vecsync.create_model('odd', url => 'http://127.0.0.1:9/v1/embeddings', model => 'none', dimensions => 3);
SELECT vecsync.create_vectorizer('odd', 'odd', 'body', enqueue_existing => false);
SELECT vecsync.pause('odd');
CREATE TABLE odd_value (type text, value text);
INSERT INTO odd_value VALUES
	('regclass', '0'), ('regclass', '99999'), ('regclass', 'pg_class'), ('regclass', 'odd'), ('regclass', 'odd_view'), ('regclass', 'odd_hnsw'), ('regclass', 'odd_pkey'),
	('oid', '0'), ('oid', '99999'), ('oid', '1259'),
	('regconfig', '0'), ('regconfig', 'simple'), ('regconfig', '99999'),
	('integer', '0'), ('integer', '-1'), ('integer', '1'), ('integer', '2147483647'), ('integer', '-2147483648'),
	('bigint', '0'), ('bigint', '-1'), ('bigint', '9223372036854775807'),
	('smallint', '0'), ('smallint', '-1'),
	('text', ''), ('text', 'odd'), ('text', 'nobody'), ('text', 'é"''{}$1'), ('text', '[1,2,3]'), ('text', repeat('x', 3000)),
	('name', ''), ('name', 'odd'), ('name', 'body'), ('name', 'v'), ('name', 'pg_catalog'),
	('jsonb', 'null'), ('jsonb', '{}'), ('jsonb', '[]'), ('jsonb', '"x"'), ('jsonb', '1'), ('jsonb', '{"body": 1}'), ('jsonb', '{"a": {"$in": [null, {}]}}'), ('jsonb', '[{"id": 1}, 2, null]'),
	('boolean', 'true'), ('boolean', 'false'),
	('double precision', '0'), ('double precision', '-1'), ('double precision', 'NaN'), ('double precision', 'Infinity'), ('double precision', '1e300'),
	('real', 'NaN'), ('real', '-1'), ('real', '3e38'), ('numeric', 'NaN'), ('numeric', '-1e100'), ('numeric', '7'),
	('interval', '1 ms'), ('interval', '-1 day'), ('interval', '0'),
	('timestamp with time zone', 'infinity'), ('timestamp with time zone', '-infinity'), ('timestamp with time zone', 'epoch'),
	('text[]', '{}'), ('text[]', '{NULL}'), ('text[]', '{{a,b},{c,d}}'), ('text[]', '{1}'), ('text[]', '[5:6]={a,b}'),
	('name[]', '{}'), ('name[]', '{body}'), ('name[]', '{NULL}'), ('name[]', '{{a,b},{c,d}}'), ('name[]', '{id,nobody}'),
	('integer[]', '{}'), ('integer[]', '{NULL}'), ('integer[]', '{{1,2},{3,4}}'), ('integer[]', '{1,2,3}'), ('integer[]', '{-2147483648}'),
	('bigint[]', '{}'), ('bigint[]', '{NULL}'), ('bigint[]', '{{1,2},{3,4}}'),
	('real[]', '{}'), ('real[]', '{NULL}'), ('real[]', '{NaN}'), ('real[]', '{{1,2},{3,4}}'), ('real[]', '{1,2,3}'),
	('double precision[]', '{}'), ('double precision[]', '{NULL}'), ('double precision[]', '{1e300,0,0}'), ('double precision[]', '{{1,2},{3,4}}'), ('double precision[]', '{4,1,2,3}'),
	('numeric[]', '{}'), ('numeric[]', '{NULL}'), ('numeric[]', '{NaN}'), ('numeric[]', '{1e200}'),
	('bytea', ''), ('bytea', '\x00'), ('bytea', '\xffffffff'), ('"char"', ''), ('"char"', 'k'), ('"char"', 'Z'),
	('bit', '0'), ('bit', '1'), ('bit varying', ''), ('bit varying', '101'), ('xid8', '0'), ('xid8', '18446744073709551615'),
	('regtype', '0'), ('regtype', '99999'), ('regrole', '0'), ('regrole', '99999'), ('regprocedure', '0'), ('regproc', '0'), ('regnamespace', '0'),
	('cstring', ''), ('cstring', 'x'), ('cstring[]', '{}'), ('cstring[]', '{-1}'), ('cstring[]', '{NULL}'),
	('vector', '[1,2,3]'), ('vector', '[0]'), ('vector', '[3e38,3e38,3e38]'), ('halfvec', '[1,2,3]'), ('halfvec', '[65504,0,0]'),
	('sparsevec', '{1:1}/3'), ('sparsevec', '{}/3'), ('sparsevec', '{}/1000000000'), ('jsonb[]', '{}'), ('jsonb[]', '{NULL}'),
	('jsonpath', '$.a'), ('anyelement', 'x'), ('"any"', 'x');

-- One list of arguments: a value of each type, taken at random, now and then NULL.
CREATE FUNCTION odd_arguments(types oid[], variadic_type oid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	wanted text;
	literal text;
	list text := '';
BEGIN
	FOR i IN array_lower(types, 1)..array_upper(types, 1) LOOP
		wanted := substring(format_type(types[i], NULL) FROM '[^.]*$');	-- vector may be in any schema
		SELECT quote_literal(v.value) INTO literal FROM odd_value v WHERE v.type = wanted ORDER BY random() LIMIT 1;
		IF literal IS NULL OR random() < 0.08 THEN
			literal := 'NULL';
		END IF;
		wanted := CASE wanted WHEN 'anyelement' THEN 'text' WHEN '"any"' THEN 'text' WHEN 'anyarray' THEN 'text[]' WHEN 'bit' THEN 'bit(1)' ELSE wanted END;
		list := concat_ws(', ', nullif(list, ''), CASE WHEN variadic_type <> 0 AND i = array_upper(types, 1) THEN 'VARIADIC ' ELSE '' END || literal || '::' || wanted);
	END LOOP;
	RETURN list;
END $$;
-- Call each of them so often, and undo it.  What came of it: an answer, a refusal, or the words of an internal error.
CREATE FUNCTION odd_calls(rounds int) RETURNS TABLE (function text, outcome text) LANGUAGE plpgsql AS $$
DECLARE
	f record;
BEGIN
	FOR f IN SELECT p.oid::regprocedure::text AS signature, format('%I.%I', p.pronamespace::regnamespace, p.proname) AS name, p.proargtypes::oid[] AS types, p.provariadic
		FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
		WHERE e.extname IN ('vecsync', 'vector') AND p.prokind = 'f' AND NOT 'internal'::regtype = ANY (p.proargtypes::oid[])
			AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'index_am_handler'::regtype)
		ORDER BY 1
	LOOP
		function := f.signature;
		FOR i IN 1..CASE WHEN cardinality(f.types) = 0 THEN 1 ELSE rounds END LOOP
			BEGIN
				EXECUTE format('SELECT count(*) FROM %s(%s) x', f.name, CASE WHEN cardinality(f.types) > 0 THEN odd_arguments(f.types, f.provariadic) END);
				RAISE EXCEPTION USING ERRCODE = 'ODDOK';
			EXCEPTION WHEN OTHERS THEN
				outcome := CASE WHEN sqlstate = 'ODDOK' THEN 'answered' WHEN sqlstate LIKE 'XX%' THEN sqlerrm ELSE 'refused' END;
				RETURN NEXT;
			END;
		END LOOP;
	END LOOP;
END $$;
-- Left out: the server's own words for the number of no relation, and for an aggregate's function that is called by hand.
CREATE TABLE odd_outcome AS SELECT * FROM odd_calls(12)
WHERE outcome !~ '^could not open relation with OID|expected state array';
SELECT count(*) FILTER (WHERE outcome = 'answered') > 300 AS answered, count(*) FILTER (WHERE outcome = 'refused') > 300 AS refused,
	count(DISTINCT function) > 150 AS functions FROM odd_outcome;
SELECT DISTINCT function, outcome FROM odd_outcome WHERE outcome NOT IN ('answered', 'refused') ORDER BY 1, 2;
-- of no relation at all, whatever the draw
SELECT vecsync.filter_sql(0, '{"a": 1}');
SELECT vecsync.filter_sql(4000000000, '{}');
SELECT vecsync.drop_vectorizer('odd', keep_data => false);
SELECT vecsync.drop_model('odd');
DROP TABLE odd CASCADE;
DROP TABLE odd_value, odd_outcome;
DROP FUNCTION odd_calls, odd_arguments;
DROP EXTENSION vecsync;
DROP EXTENSION vector;

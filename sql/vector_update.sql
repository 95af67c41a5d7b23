-- ALTER EXTENSION vector UPDATE from pgvector's catalog gives what CREATE EXTENSION gives.
--
-- The catalog of pgvector 0.8 is made here by the update back to it, that of 0.7 by taking away from it what the
-- next update adds.
CREATE DATABASE regression_vector_update;
\c regression_vector_update
SET client_min_messages = warning;
CREATE EXTENSION vector;
RESET client_min_messages;

CREATE VIEW state AS
	WITH member AS (SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vector'))
	SELECT pg_describe_object(classid, objid, 0) AS object, obj_description(objid, classid::regclass::name) AS comment, NULL AS definition FROM member
	UNION ALL SELECT pg_describe_object(classid, objid, 0), 'subscript', typsubscript::text FROM pg_type t JOIN member ON objid = t.oid AND classid = 'pg_type'::regclass
	UNION ALL SELECT pg_describe_object(classid, objid, 0), 'flags', format('%s %s %s %s', oprcanmerge, oprcanhash, oprrest, oprjoin)
		FROM pg_operator o JOIN member ON objid = o.oid AND classid = 'pg_operator'::regclass
	UNION ALL SELECT pg_describe_object(classid, objid, 0), 'aggregate', format('%s %s %s %s %s', aggtransfn, aggfinalfn, aggcombinefn, aggtranstype::regtype, agginitval)
		FROM pg_aggregate a JOIN member ON objid = aggfnoid::oid AND classid = 'pg_proc'::regclass
	UNION ALL SELECT pg_describe_object(classid, objid, 0), 'function', format('%s %s %s %s %s', prosrc, probin, provolatile, proisstrict, proparallel)
		FROM pg_proc p JOIN member ON objid = p.oid AND classid = 'pg_proc'::regclass
	UNION ALL SELECT pg_describe_object('pg_amop'::regclass, a.oid, 0), 'class', NULL FROM pg_amop a JOIN member ON objid = amopfamily AND classid = 'pg_opfamily'::regclass
	UNION ALL SELECT pg_describe_object('pg_amproc'::regclass, a.oid, 0), 'class', NULL FROM pg_amproc a JOIN member ON objid = amprocfamily AND classid = 'pg_opfamily'::regclass;
CREATE TABLE installed AS SELECT * FROM state;

-- back to pgvector's catalog
ALTER EXTENSION vector UPDATE TO '0.8.6';
\getenv dir PG_ABS_SRCDIR
\setenv dir :dir
\set funcs `cat "$dir/test/compat/catalog_funcs.txt"`
SELECT count(*) - count(DISTINCT proname || pg_get_function_identity_arguments(p.oid)) AS twice,
	count(*) - (SELECT count(*) FROM string_to_table(:'funcs', E'\n')) AS differs,
	count(*) FILTER (WHERE strpos(:'funcs', format('%s(%s) |', proname, pg_get_function_identity_arguments(p.oid))) = 0) AS others
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vector') AND d.deptype = 'e';
SELECT count(*) AS operators FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_operator'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vector');

-- and of 0.7
DO $$
DECLARE
	source text;
BEGIN
	FOREACH source IN ARRAY ARRAY['int4', 'float4', 'float8', 'numeric'] LOOP
		EXECUTE format('ALTER EXTENSION vector DROP CAST (%1$s[] AS sparsevec)', source);
		EXECUTE format('ALTER EXTENSION vector DROP FUNCTION array_to_sparsevec(%1$s[], int4, boolean)', source);
		EXECUTE format('DROP CAST (%1$s[] AS sparsevec)', source);
		EXECUTE format('DROP FUNCTION array_to_sparsevec(%1$s[], int4, boolean)', source);
	END LOOP;
	DELETE FROM pg_description WHERE (classoid, objoid) IN (SELECT classid, objid FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vector'));
	UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector';
END $$;
SELECT count(*) > 0 AS differs FROM (TABLE installed EXCEPT ALL TABLE state) t;
CREATE TABLE items (id int, v vector(3), h halfvec(3), s sparsevec(3));
INSERT INTO items VALUES (1, '[1,2,3]', '[1,2,3]', '{1:1}/3'), (2, '[1,2,3]', '[4,5,6]', '{1:1}/3'), (3, '[-0,0,0]', NULL, NULL), (4, '[0,0,0]', NULL, NULL);
CREATE INDEX items_v ON items (v);
SELECT v[1] FROM items;
SELECT count(*) FROM (SELECT DISTINCT v FROM items) d;

-- every version of 0.7 and 0.8 has a path
SELECT source, path FROM pg_extension_update_paths('vector') WHERE target = '1.0.0' AND source <> '1.0.0' ORDER BY source;
ALTER EXTENSION vector UPDATE;
SELECT extversion = (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS current FROM pg_extension WHERE extname = 'vector';
TABLE installed EXCEPT ALL TABLE state;
TABLE state EXCEPT ALL TABLE installed;

-- values and indexes of before serve as they are
SELECT id, v[1], h[2:3], s + s FROM items ORDER BY id;
SET enable_seqscan = off;
SELECT id FROM items WHERE v = '[1,2,3]' ORDER BY id;
RESET enable_seqscan;
SET enable_sort = off;
SELECT sum(v), count(*) FROM items GROUP BY v ORDER BY 2, 1;
EXPLAIN (COSTS OFF) SELECT h, count(*) FROM items GROUP BY h;

\c postgres
DROP DATABASE regression_vector_update;

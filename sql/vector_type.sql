-- The type vector: text form, errors, casts, operators, functions, aggregates.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

-- text form
SELECT '[1,2,3]'::vector;
SELECT '[-1,+2,.5,1.,1e2,-0,0x10]'::vector;
SELECT E' \t\n\r\x0b\f[ 1 , 2 \n, 3 ] \t'::vector;
SELECT '[1.23456789,1234567890,1e-46,-1e-46,1.17549435e-38,1.4e-45,3.4028235e38]'::vector;
SELECT '[hello,1]'::vector;
SELECT '[NaN,1]'::vector;
SELECT '[Infinity,1]'::vector;
SELECT '[-Infinity,1]'::vector;
SELECT '[4e38,1]'::vector;
SELECT '[1,-4e38]'::vector;
SELECT '[1,2,3'::vector;
SELECT '[1,2,3]9'::vector;
SELECT '1,2,3'::vector;
SELECT ''::vector;
SELECT '['::vector;
SELECT '[ '::vector;
SELECT '[,'::vector;
SELECT '[]'::vector;
SELECT '[ ]'::vector;
SELECT '[,]'::vector;
SELECT '[1,]'::vector;
SELECT '[1a]'::vector;
SELECT '[1e]'::vector;
SELECT '[1,,3]'::vector;
SELECT '[1, ,3]'::vector;
SELECT '[1 2]'::vector;
SELECT '[[1]]'::vector;
SELECT vector_dims(('[' || repeat('1,', 15999) || '1]')::vector);
SELECT ('[' || repeat('1,', 16000) || '1]')::vector;

-- dimensions
SELECT '[1,2,3]'::vector(3);
SELECT '[1,2,3]'::vector(2);
SELECT '[1,2,3]'::vector(3, 2);
SELECT '[1,2,3]'::vector('a');
SELECT '[1,2,3]'::vector(0);
SELECT '[1,2,3]'::vector(16001);
SELECT unnest('{"[1,2,3]","[4,5,6]"}'::vector[]);
SELECT '{"[1,2,3]"}'::vector(2)[];
CREATE TEMPORARY TABLE dims (v vector(3), free vector);
INSERT INTO dims VALUES ('[1,2,3]', '[1]'), ('[4,5,6]', '[1,2]');
INSERT INTO dims VALUES ('[1,2]', '[1]');
INSERT INTO dims (v) SELECT free FROM dims;
SELECT format_type(atttypid, atttypmod), attstorage FROM pg_attribute WHERE attrelid = 'dims'::regclass AND attnum > 0;

-- comparison
SELECT '[1,2,3]'::vector = '[1,2,3]', '[0]'::vector = '[-0]', '[1,2]'::vector = '[1,2,3]', '[1]'::vector <> '[2]';
SELECT '[1,2,3]'::vector < '[1,2,3]', '[1,2]'::vector < '[1,2,3]', '[1,9]'::vector < '[2]', '[-1]'::vector < '[0]';
SELECT '[1,2,3]'::vector <= '[1,2,3]', '[1,2,3]'::vector >= '[1,2,3]', '[2]'::vector > '[1,2]', '[1]'::vector > '[1]';
SELECT vector_cmp('[1,2,3]', '[1,2,3]'), vector_cmp('[1,2,3]', '[1,2]'), vector_cmp('[1,2]', '[1,3]'), vector_cmp('[]', '[1]');
SELECT vector_cmp('[1,2,3]', '[1,2,3]'), vector_cmp('[1,2,3]', '[1,2]'), vector_cmp('[1,2]', '[1,3]'), vector_cmp('[0]', '[-0]');

-- arithmetic
SELECT '[1,2,3]'::vector + '[4,5,6]', '[1,2,3]'::vector - '[4,5,6]', '[1,2,3]'::vector * '[4,5,6]', '[1,2]'::vector || '[3]';
SELECT '[3e38]'::vector + '[3e38]';
SELECT '[-3e38]'::vector - '[3e38]';
SELECT '[1e37]'::vector * '[1e37]';
SELECT '[1e-37]'::vector * '[1e-37]';
SELECT '[0,1]'::vector * '[1e-37,0]';
SELECT '[1,2]'::vector + '[3]';
SELECT '[1,2]'::vector - '[3]';
SELECT '[1,2]'::vector * '[3]';
SELECT vector_dims(v || v) FROM (SELECT array_fill(0, ARRAY[8000])::vector AS v) t;
SELECT array_fill(0, ARRAY[16000])::vector || '[1]';

-- functions
SELECT vector_dims('[1,2,3]'::vector);
SELECT round(vector_norm('[1,1]')::numeric, 5), vector_norm('[3,4]'), vector_norm('[0,1]'), vector_norm('[0]');
SELECT vector_norm('[3e37,4e37]')::real;
SELECT l2_norm('[3,4]'::vector);
SELECT l2_normalize('[3,4]'::vector), l2_normalize('[3,0]'::vector), l2_normalize('[0,0.1]'::vector), l2_normalize('[0,0]'::vector);
SELECT l2_normalize('[3e38]'::vector), l2_normalize('[3e38,1e-37]'::vector), l2_normalize('[2e37,3e37,4e37,5e37]'::vector);
SELECT l2_normalize('[1e-45]'::vector);
SELECT binary_quantize('[1,0,-1]'::vector), binary_quantize('[0,0.1,-0.2,-0.3,0.4,0.5,0.6,-0.7,0.8,-0.9,1]'::vector);
SELECT subvector('[1,2,3,4,5]'::vector, 1, 3), subvector('[1,2,3,4,5]'::vector, 3, 2), subvector('[1,2,3,4,5]'::vector, -1, 3);
SELECT subvector('[1,2,3,4,5]'::vector, 3, 9), subvector('[1,2,3,4,5]'::vector, 1, 2147483647), subvector('[1,2,3,4,5]'::vector, 3, 2147483647);
SELECT subvector('[1,2,3,4,5]'::vector, 3, 0);
SELECT subvector('[1,2,3,4,5]'::vector, 3, -1);
SELECT subvector('[1,2,3,4,5]'::vector, -1, 2);
SELECT subvector('[1,2,3,4,5]'::vector, 2147483647, 10);
SELECT subvector('[1,2,3,4,5]'::vector, 2147483647, 2147483647);
SELECT subvector('[1,2,3,4,5]'::vector, -2147483648, 2147483647);
SELECT subvector('[1,2,3,4,5]'::vector, 6, 1);

-- distances
SELECT l2_distance('[0,0]'::vector, '[3,4]'), '[0,0]'::vector <-> '[0,1]', '[0,0]'::vector <-> '[3,4]';
SELECT '[3e38]'::vector <-> '[-3e38]', '[1,1,1,1,1,1,1,1,1]'::vector <-> '[1,1,1,1,1,1,1,4,5]';
SELECT l2_distance('[1,2]'::vector, '[3]');
SELECT inner_product('[1,2]'::vector, '[3,4]'), '[1,2]'::vector <#> '[3,4]', '[3e38]'::vector <#> '[3e38]';
SELECT inner_product('[1,2]'::vector, '[3]');
SELECT cosine_distance('[1,2]'::vector, '[2,4]'), '[1,2]'::vector <=> '[0,0]', '[1,1]'::vector <=> '[1,1]', '[1,0]'::vector <=> '[0,2]', '[1,1]'::vector <=> '[-1,-1]';
SELECT cosine_distance('[1,1]'::vector, '[1.1,1.1]'), cosine_distance('[1e20,1e20]'::vector, '[1e20,1e20]'), cosine_distance('[3e38]'::vector, '[3e38]');
SELECT cosine_distance('[1,2]'::vector, '[3]');
SELECT l1_distance('[0,0]'::vector, '[3,4]'), '[0,0]'::vector <+> '[0,1]', '[3e38]'::vector <+> '[-3e38]';
SELECT l1_distance('[1,2]'::vector, '[3]');
SELECT vector_l2_squared_distance('[1,2]', '[4,6]'), vector_negative_inner_product('[1,2]', '[3,4]');
SELECT vector_spherical_distance('[1,0]', '[0,1]'), vector_spherical_distance('[1,0]', '[1,0]'), vector_spherical_distance('[1,0]', '[-2,0]');
SELECT vector_spherical_distance('[1,0]', '[1]');

-- casts
SELECT ARRAY[1,2,3]::vector, ARRAY[1.5,2.5]::vector, ARRAY[1.5,2.5]::real[]::vector, ARRAY[1.5,2.5]::float8[]::vector, '{1,2}'::numeric[]::vector(2);
SELECT '[1.5,2,3]'::vector::real[], '[1,2]'::vector::text, ('[1,2]'::vector)::real[][1];
SELECT '{NULL}'::real[]::vector;
SELECT '{1,NULL}'::numeric[]::vector;
SELECT '{NaN}'::real[]::vector;
SELECT '{NaN}'::numeric[]::vector;
SELECT '{Infinity}'::real[]::vector;
SELECT '{-Infinity}'::float8[]::vector;
SELECT '{1e39}'::float8[]::vector;
SELECT '{1e39}'::numeric[]::vector;
SELECT '{}'::real[]::vector;
SELECT '{{1}}'::real[]::vector;
SELECT '{1,2,3}'::real[]::vector(2);
SELECT '[1,2,3]'::vector::vector(2);
SELECT array_fill(0, ARRAY[16001])::vector;
SELECT '{1}'::bigint[]::vector;
SELECT '[1]'::vector::text::vector;

-- ambiguity and missing operators
SELECT '[1]' <-> '[2]';
SELECT '[1]'::vector = '{1}'::real[];
SELECT '[1]'::vector <-> '{1}'::real[];

-- aggregates
SELECT avg(v), sum(v) FROM unnest(ARRAY['[1,2,3]'::vector, '[3,5,7]']) v;
SELECT avg(v), sum(v) FROM unnest(ARRAY['[1,2,3]'::vector, '[3,5,7]', NULL]) v;
SELECT avg(v), sum(v) FROM unnest(ARRAY[]::vector[]) v;
SELECT avg(v), sum(v) FROM unnest(ARRAY[NULL::vector]) v;
SELECT avg(v) FROM unnest(ARRAY['[1,2]'::vector, '[3]']) v;
SELECT sum(v) FROM unnest(ARRAY['[1,2]'::vector, '[3]']) v;
SELECT avg(v) FROM unnest(ARRAY['[3e38]'::vector, '[3e38]']) v;
SELECT sum(v) FROM unnest(ARRAY['[3e38]'::vector, '[3e38]']) v;
SELECT vector_avg(array_agg(n)) FROM generate_series(1, 16002) n;
SELECT vector_avg('{}'), vector_avg('{{1}}');
SELECT vector_avg('{NULL}');
SELECT vector_accum('{0}', '[1,2]'), vector_accum('{1,1,2}', '[1,2]'), vector_combine('{0}', '{0}'), vector_combine('{1,2}', '{0}'), vector_combine('{0}', '{1,2}'), vector_combine('{1,2}', '{2,3}');
SELECT vector_combine('{1,2}', '{1,2,3}');
SELECT vector_combine('{1,1e308}', '{1,1e308}');
-- states outside an aggregate are not changed in place
WITH s(state) AS MATERIALIZED (SELECT '{1,1,2}'::float8[]) SELECT vector_accum(state, '[1,1]'), state FROM s;

-- one side out of line, the same for all rows; then another one, and both sides changing
CREATE TEMPORARY TABLE far (id int, v vector(3000));
INSERT INTO far SELECT i, array_fill(i, ARRAY[3000])::vector FROM generate_series(0, 5) i;
SELECT id, (v <-> (SELECT v FROM far WHERE id = 2)) / sqrt(3000) AS distance FROM far ORDER BY v <-> (SELECT v FROM far WHERE id = 2), id;
SELECT a.id, b.id, round(((a.v <+> b.v) / 3000)::numeric, 6) AS distance FROM far a, far b WHERE (a.id + b.id) % 3 = 0 ORDER BY a.id, b.id;
SELECT a.id, (SELECT array_agg(round(((a.v <+> b.v) / 3000)::numeric) ORDER BY b.id) FROM far b) AS distances FROM far a ORDER BY a.id;
-- the locks of the second table are kept from row to row, and given up with the transaction
BEGIN;
SELECT count(v <-> (SELECT v FROM far WHERE id = 2)) FROM far;
SELECT count(*) FROM pg_locks l JOIN pg_class far ON far.oid = 'far'::regclass
	LEFT JOIN pg_index i ON i.indexrelid = l.relation WHERE far.reltoastrelid IN (l.relation, i.indrelid) AND l.pid = pg_backend_pid();
COMMIT;
SELECT count(*) FROM pg_locks l JOIN pg_class far ON l.relation = far.reltoastrelid WHERE far.oid = 'far'::regclass AND l.pid = pg_backend_pid();
-- in a block that fails they are given up before; values are read all the same
DO $$ BEGIN
	BEGIN
		PERFORM v <-> (SELECT v FROM far WHERE id = 2) FROM far;
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	IF (SELECT count(*) FROM far WHERE v <-> (SELECT v FROM far WHERE id = 2) < 60) <> 3 THEN
		RAISE 'wrong distances';
	END IF;
END $$;
SELECT vector_dims(v) FROM far WHERE id = 1 UNION ALL SELECT vector_dims(v) FROM dims WHERE v = '[1,2,3]';

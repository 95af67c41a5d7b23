-- The type halfvec: text form, errors, casts, operators, functions, aggregates.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

-- text form
SELECT '[1,2,3]'::halfvec;
SELECT '[-1,+2,.5,1.,1e2,-0,0x10]'::halfvec;
SELECT E' \t\n\r\x0b\f[ 1 , 2 \n, 3 ] \t'::halfvec;
SELECT '[1.23456789,1234567890,1e-46,-1e-46,1.17549435e-38,1.4e-45,3.4028235e38]'::halfvec;
SELECT '[hello,1]'::halfvec;
SELECT '[NaN,1]'::halfvec;
SELECT '[Infinity,1]'::halfvec;
SELECT '[-Infinity,1]'::halfvec;
SELECT '[70000,1]'::halfvec;
SELECT '[1,-70000]'::halfvec;
SELECT '[1,2,3'::halfvec;
SELECT '[1,2,3]9'::halfvec;
SELECT '1,2,3'::halfvec;
SELECT ''::halfvec;
SELECT '['::halfvec;
SELECT '[ '::halfvec;
SELECT '[,'::halfvec;
SELECT '[]'::halfvec;
SELECT '[ ]'::halfvec;
SELECT '[,]'::halfvec;
SELECT '[1,]'::halfvec;
SELECT '[1a]'::halfvec;
SELECT '[1e]'::halfvec;
SELECT '[1,,3]'::halfvec;
SELECT '[1, ,3]'::halfvec;
SELECT '[1 2]'::halfvec;
SELECT '[[1]]'::halfvec;
SELECT vector_dims(('[' || repeat('1,', 15999) || '1]')::halfvec);
SELECT ('[' || repeat('1,', 16000) || '1]')::halfvec;

-- rounding: to the nearest half, an even one of two, infinity refused
SELECT '[65504,65519,65519.99,-65519]'::halfvec, '[1e-8,-1e-8,6e-8,3e-8,2.98023223876953125e-8,2.9802325e-8]'::halfvec;
SELECT '[65520]'::halfvec;
SELECT '[1,-65520.0]'::halfvec;
SELECT '[1e400]'::halfvec;
SELECT '[2049,2051,1.00048828125,1.0004882813,0.1]'::halfvec;
SELECT ARRAY[65519.9]::real[]::halfvec, ARRAY[65519]::halfvec;
SELECT ARRAY[65520]::halfvec;
SELECT ARRAY[1e39]::float8[]::halfvec;
SELECT halfvec_send('[1,-2.5,65504,5.9604645e-8]');

-- dimensions
SELECT '[1,2,3]'::halfvec(3);
SELECT '[1,2,3]'::halfvec(2);
SELECT '[1,2,3]'::halfvec(3, 2);
SELECT '[1,2,3]'::halfvec('a');
SELECT '[1,2,3]'::halfvec(0);
SELECT '[1,2,3]'::halfvec(16001);
SELECT unnest('{"[1,2,3]","[4,5,6]"}'::halfvec[]);
SELECT '{"[1,2,3]"}'::halfvec(2)[];
CREATE TEMPORARY TABLE dims (v halfvec(3), free halfvec);
INSERT INTO dims VALUES ('[1,2,3]', '[1]'), ('[4,5,6]', '[1,2]');
INSERT INTO dims VALUES ('[1,2]', '[1]');
INSERT INTO dims (v) SELECT free FROM dims;
SELECT format_type(atttypid, atttypmod), attstorage FROM pg_attribute WHERE attrelid = 'dims'::regclass AND attnum > 0;

-- comparison
SELECT '[1,2,3]'::halfvec = '[1,2,3]', '[0]'::halfvec = '[-0]', '[1,2]'::halfvec = '[1,2,3]', '[1]'::halfvec <> '[2]';
SELECT '[1,2,3]'::halfvec < '[1,2,3]', '[1,2]'::halfvec < '[1,2,3]', '[1,9]'::halfvec < '[2]', '[-1]'::halfvec < '[0]';
SELECT '[1,2,3]'::halfvec <= '[1,2,3]', '[1,2,3]'::halfvec >= '[1,2,3]', '[2]'::halfvec > '[1,2]', '[1]'::halfvec > '[1]';
SELECT halfvec_cmp('[1,2,3]', '[1,2,3]'), halfvec_cmp('[1,2,3]', '[1,2]'), halfvec_cmp('[1,2]', '[1,3]'), halfvec_cmp('[]', '[1]');
SELECT halfvec_cmp('[1,2,3]', '[1,2,3]'), halfvec_cmp('[1,2,3]', '[1,2]'), halfvec_cmp('[1,2]', '[1,3]'), halfvec_cmp('[0]', '[-0]');

-- arithmetic
SELECT '[1,2,3]'::halfvec + '[4,5,6]', '[1,2,3]'::halfvec - '[4,5,6]', '[1,2,3]'::halfvec * '[4,5,6]', '[1,2]'::halfvec || '[3]';
SELECT '[60000]'::halfvec + '[60000]';
SELECT '[-60000]'::halfvec - '[60000]';
SELECT '[1e4]'::halfvec * '[1e4]';
SELECT '[1e-4]'::halfvec * '[1e-4]';
SELECT '[0,1]'::halfvec * '[1e-4,0]';
SELECT '[1,2]'::halfvec + '[3]';
SELECT '[1,2]'::halfvec - '[3]';
SELECT '[1,2]'::halfvec * '[3]';
SELECT vector_dims(v || v) FROM (SELECT array_fill(0, ARRAY[8000])::halfvec AS v) t;
SELECT array_fill(0, ARRAY[16000])::halfvec || '[1]';

-- functions
SELECT vector_dims('[1,2,3]'::halfvec);
SELECT round(l2_norm('[1,1]')::numeric, 5), l2_norm('[3,4]'), l2_norm('[0,1]'), l2_norm('[0]');
SELECT l2_norm('[300,400]')::real;
SELECT l2_norm('[3,4]'::halfvec);
SELECT l2_normalize('[3,4]'::halfvec), l2_normalize('[3,0]'::halfvec), l2_normalize('[0,0.1]'::halfvec), l2_normalize('[0,0]'::halfvec);
SELECT l2_normalize('[60000]'::halfvec), l2_normalize('[60000,1e-4]'::halfvec), l2_normalize('[2e37,300,400,5e37]'::halfvec);
SELECT l2_normalize('[1e-45]'::halfvec);
SELECT binary_quantize('[1,0,-1]'::halfvec), binary_quantize('[0,0.1,-0.2,-0.3,0.4,0.5,0.6,-0.7,0.8,-0.9,1]'::halfvec);
SELECT subvector('[1,2,3,4,5]'::halfvec, 1, 3), subvector('[1,2,3,4,5]'::halfvec, 3, 2), subvector('[1,2,3,4,5]'::halfvec, -1, 3);
SELECT subvector('[1,2,3,4,5]'::halfvec, 3, 9), subvector('[1,2,3,4,5]'::halfvec, 1, 2147483647), subvector('[1,2,3,4,5]'::halfvec, 3, 2147483647);
SELECT subvector('[1,2,3,4,5]'::halfvec, 3, 0);
SELECT subvector('[1,2,3,4,5]'::halfvec, 3, -1);
SELECT subvector('[1,2,3,4,5]'::halfvec, -1, 2);
SELECT subvector('[1,2,3,4,5]'::halfvec, 2147483647, 10);
SELECT subvector('[1,2,3,4,5]'::halfvec, 2147483647, 2147483647);
SELECT subvector('[1,2,3,4,5]'::halfvec, -2147483648, 2147483647);
SELECT subvector('[1,2,3,4,5]'::halfvec, 6, 1);

-- distances
SELECT l2_distance('[0,0]'::halfvec, '[3,4]'), '[0,0]'::halfvec <-> '[0,1]', '[0,0]'::halfvec <-> '[3,4]';
SELECT '[60000]'::halfvec <-> '[-60000]', '[1,1,1,1,1,1,1,1,1]'::halfvec <-> '[1,1,1,1,1,1,1,4,5]';
SELECT l2_distance('[1,2]'::halfvec, '[3]');
SELECT inner_product('[1,2]'::halfvec, '[3,4]'), '[1,2]'::halfvec <#> '[3,4]', '[60000]'::halfvec <#> '[60000]';
SELECT inner_product('[1,2]'::halfvec, '[3]');
SELECT cosine_distance('[1,2]'::halfvec, '[2,4]'), '[1,2]'::halfvec <=> '[0,0]', '[1,1]'::halfvec <=> '[1,1]', '[1,0]'::halfvec <=> '[0,2]', '[1,1]'::halfvec <=> '[-1,-1]';
SELECT cosine_distance('[1,1]'::halfvec, '[1.1,1.1]'), cosine_distance('[1e20,1e20]'::halfvec, '[1e20,1e20]'), cosine_distance('[60000]'::halfvec, '[60000]');
SELECT cosine_distance('[1,2]'::halfvec, '[3]');
SELECT l1_distance('[0,0]'::halfvec, '[3,4]'), '[0,0]'::halfvec <+> '[0,1]', '[60000]'::halfvec <+> '[-60000]';
SELECT l1_distance('[1,2]'::halfvec, '[3]');
SELECT halfvec_l2_squared_distance('[1,2]', '[4,6]'), halfvec_negative_inner_product('[1,2]', '[3,4]');
SELECT halfvec_spherical_distance('[1,0]', '[0,1]'), halfvec_spherical_distance('[1,0]', '[1,0]'), halfvec_spherical_distance('[1,0]', '[-2,0]');
SELECT halfvec_spherical_distance('[1,0]', '[1]');

-- casts
SELECT ARRAY[1,2,3]::halfvec, ARRAY[1.5,2.5]::halfvec, ARRAY[1.5,2.5]::real[]::halfvec, ARRAY[1.5,2.5]::float8[]::halfvec, '{1,2}'::numeric[]::halfvec(2);
SELECT '[1.5,2,3]'::halfvec::real[], '[1,2]'::halfvec::text, ('[1,2]'::halfvec)::real[][1];
SELECT '{NULL}'::real[]::halfvec;
SELECT '{1,NULL}'::numeric[]::halfvec;
SELECT '{NaN}'::real[]::halfvec;
SELECT '{NaN}'::numeric[]::halfvec;
SELECT '{Infinity}'::real[]::halfvec;
SELECT '{-Infinity}'::float8[]::halfvec;
SELECT '{1e39}'::float8[]::halfvec;
SELECT '{1e39}'::numeric[]::halfvec;
SELECT '{}'::real[]::halfvec;
SELECT '{{1}}'::real[]::halfvec;
SELECT '{1,2,3}'::real[]::halfvec(2);
SELECT '[1,2,3]'::halfvec::halfvec(2);
SELECT array_fill(0, ARRAY[16001])::halfvec;
SELECT '{1}'::bigint[]::halfvec;
SELECT '[1]'::halfvec::text::halfvec;

SELECT sum(v) FROM (SELECT '[24576]'::halfvec AS v UNION ALL SELECT '[4]' FROM generate_series(1, 1000)) t;

-- ambiguity and missing operators
SELECT '[1]' <-> '[2]';
SELECT '[1]'::halfvec = '{1}'::real[];
SELECT '[1]'::halfvec <-> '{1}'::real[];

-- aggregates
SELECT avg(v), sum(v) FROM unnest(ARRAY['[1,2,3]'::halfvec, '[3,5,7]']) v;
SELECT avg(v), sum(v) FROM unnest(ARRAY['[1,2,3]'::halfvec, '[3,5,7]', NULL]) v;
SELECT avg(v), sum(v) FROM unnest(ARRAY[]::halfvec[]) v;
SELECT avg(v), sum(v) FROM unnest(ARRAY[NULL::halfvec]) v;
SELECT avg(v) FROM unnest(ARRAY['[1,2]'::halfvec, '[3]']) v;
SELECT sum(v) FROM unnest(ARRAY['[1,2]'::halfvec, '[3]']) v;
SELECT avg(v) FROM unnest(ARRAY['[60000]'::halfvec, '[60000]']) v;
SELECT sum(v) FROM unnest(ARRAY['[60000]'::halfvec, '[60000]']) v;
SELECT halfvec_avg(array_agg(n)) FROM generate_series(1, 16002) n;
SELECT halfvec_avg('{}'), halfvec_avg('{{1}}');
SELECT halfvec_avg('{NULL}');
SELECT halfvec_accum('{0}', '[1,2]'), halfvec_accum('{1,1,2}', '[1,2]'), halfvec_combine('{0}', '{0}'), halfvec_combine('{1,2}', '{0}'), halfvec_combine('{0}', '{1,2}'), halfvec_combine('{1,2}', '{2,3}');
SELECT halfvec_combine('{1,2}', '{1,2,3}');
SELECT halfvec_combine('{1,1e308}', '{1,1e308}');
-- states outside an aggregate are not changed in place
WITH s(state) AS MATERIALIZED (SELECT '{1,1,2}'::float8[]) SELECT halfvec_accum(state, '[1,1]'), state FROM s;

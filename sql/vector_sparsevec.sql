-- The type sparsevec: text and binary form, errors, operators, functions.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

-- text form
SELECT '{1:1.5,3:3.5}/5'::sparsevec, '{5:1,1:-2.5}/5'::sparsevec, '{}/5'::sparsevec, '{1:0,2:-0,3:1}/3'::sparsevec;
SELECT E' \t{ 1 : 1.5 ,\n2 : +2 } \r/ \x0b\f 3 '::sparsevec, '{+1:0x10}/1'::sparsevec;
SELECT '{1:1}/1000000000'::sparsevec, '{1000000000:1}/1000000000'::sparsevec;
SELECT '{1:1}/1000000001'::sparsevec;
SELECT '{1:1}/99999999999999999999'::sparsevec;
SELECT '{}/0'::sparsevec;
SELECT '{}/-1'::sparsevec;
SELECT '{1:1}/0'::sparsevec;
SELECT '{0:1}/5'::sparsevec;
SELECT '{6:1}/5'::sparsevec;
SELECT '{-1:1}/5'::sparsevec;
SELECT '{99999999999999999999:1}/5'::sparsevec;
SELECT '{-99999999999999999999:1}/5'::sparsevec;
SELECT '{1:1,1:2}/5'::sparsevec;
SELECT '{2:1,1:1,2:2}/5'::sparsevec;
SELECT '{1:1,1:0}/5'::sparsevec;
SELECT '{9:0}/5'::sparsevec;
SELECT '{1:NaN}/5'::sparsevec;
SELECT '{1:inf}/5'::sparsevec;
SELECT '{1:-Infinity}/5'::sparsevec;
SELECT '{1:4e38}/5'::sparsevec;
SELECT '{1:1e-46}/5'::sparsevec;
SELECT '{1:1e-45}/5'::sparsevec;
SELECT ''::sparsevec;
SELECT '{'::sparsevec;
SELECT '{ '::sparsevec;
SELECT '{:'::sparsevec;
SELECT '{,'::sparsevec;
SELECT '{}'::sparsevec;
SELECT '{}/'::sparsevec;
SELECT '{}/1a'::sparsevec;
SELECT '{}/ a'::sparsevec;
SELECT '{}/1 2'::sparsevec;
SELECT '{1:1}5'::sparsevec;
SELECT '{1}/1'::sparsevec;
SELECT '{1:}/1'::sparsevec;
SELECT '{:1}/1'::sparsevec;
SELECT '{a:1}/1'::sparsevec;
SELECT '{1:a}/1'::sparsevec;
SELECT '{1:1,}/1'::sparsevec;
SELECT '{,1:1}/1'::sparsevec;
SELECT '{1:1 2:2}/2'::sparsevec;
SELECT '[1,2]'::sparsevec;
SELECT l2_norm(('{' || string_agg(i || ':1', ',') || '}/20000')::sparsevec) FROM generate_series(1, 16000) i;
SELECT l2_norm(('{' || string_agg(i || ':1', ',') || '}/20000')::sparsevec) FROM generate_series(1, 16001) i;
SELECT l2_norm(('{' || string_agg(i || ':0', ',') || '}/20000')::sparsevec) FROM generate_series(1, 16001) i;

-- dimensions
SELECT '{1:1}/5'::sparsevec(5);
SELECT '{1:1}/5'::sparsevec(4);
SELECT '{1:1}/5'::sparsevec(0);
SELECT '{1:1}/5'::sparsevec(1000000001);
SELECT '{1:1}/5'::sparsevec(1, 2);
SELECT '{1:1}/5'::sparsevec::sparsevec(6);
SELECT unnest('{"{1:1}/2","{}/1"}'::sparsevec[]);

-- comparison, as the dense forms compare
SELECT a, b, sparsevec_cmp(a, b), a = b AS eq, a < b AS lt, a <= b AS le, a > b AS gt, a >= b AS ge, a <> b AS ne
FROM (VALUES ('{1:1,3:2}/3'::sparsevec, '{1:1,3:2}/3'::sparsevec), ('{}/1', '{}/2'), ('{1:1}/2', '{2:9}/2'), ('{1:-1}/2', '{2:9}/2'),
	('{6:1}/7', '{}/5'), ('{6:-1}/7', '{}/5'), ('{2:-1}/2', '{}/9'), ('{3:1}/3', '{3:1,4:-1}/4')) t (a, b);
SELECT count(*) FROM (SELECT array_agg(d ORDER BY i)::real[] AS d FROM generate_series(1, 200) v, LATERAL
		(SELECT i, floor(random() * 3) - 1 AS d FROM generate_series(1, 1 + v % 4) i) e GROUP BY v) a (d),
	(SELECT array_agg(d ORDER BY i)::real[] AS d FROM generate_series(1, 200) v, LATERAL
		(SELECT i, floor(random() * 3) - 1 AS d FROM generate_series(1, 1 + v % 3) i) e GROUP BY v) b (d)
WHERE sparsevec_cmp(a.d::sparsevec, b.d::sparsevec) <> btarraycmp(a.d, b.d)
	OR vector_cmp(a.d::vector, b.d::vector) <> btarraycmp(a.d, b.d) OR halfvec_cmp(a.d::halfvec, b.d::halfvec) <> btarraycmp(a.d, b.d);
SELECT sparsevec_hash('{1:1}/2') = sparsevec_hash('{1:1}/2') AS same, sparsevec_hash('{1:1}/2') = sparsevec_hash('{1:1}/3') AS dim,
	sparsevec_hash('{1:1}/2') = sparsevec_hash('{2:1}/2') AS index, sparsevec_hash_extended('{1:1}/2', 1) = sparsevec_hash_extended('{1:1}/2', 2) AS seed;

-- distances
SELECT '{}/2'::sparsevec <-> '{1:3,2:4}/2', '{1:3}/2'::sparsevec <-> '{2:4}/2', '{1:3e38}/1'::sparsevec <-> '{1:-3e38}/1';
SELECT '{1:1}/2'::sparsevec <-> '{1:1}/3';
SELECT inner_product('{1:1,2:2}/2'::sparsevec, '{1:2,2:4}/2'), '{1:1,2:2}/3'::sparsevec <#> '{2:4,3:1}/3';
SELECT inner_product('{1:1}/2'::sparsevec, '{1:1}/3');
SELECT '{1:1,2:2}/2'::sparsevec <=> '{1:2,2:4}/2', '{1:1}/2'::sparsevec <=> '{2:1}/2', '{1:1}/2'::sparsevec <=> '{}/2', '{1:1,2:1}/2'::sparsevec <=> '{1:-1,2:-1}/2', '{1:1e20}/2'::sparsevec <=> '{1:1e20}/2';
SELECT '{1:1}/2'::sparsevec <=> '{1:1}/3';
SELECT '{}/2'::sparsevec <+> '{1:3,2:-4}/2', '{1:3}/2'::sparsevec <+> '{2:4}/2';
SELECT '{1:1}/2'::sparsevec <+> '{1:1}/3';
SELECT sparsevec_l2_squared_distance('{1:3}/2', '{2:4}/2'), sparsevec_negative_inner_product('{1:3}/2', '{1:4}/2');
-- the same as of the dense forms
SELECT count(*) FROM (SELECT array_agg(CASE WHEN random() < 0.3 THEN floor(random() * 9 - 4) ELSE 0 END)::real[] || 1::real AS a,
		array_agg(CASE WHEN random() < 0.6 THEN floor(random() * 9 - 4) ELSE 0 END)::real[] || 1::real AS b
	FROM generate_series(1, 4000) i GROUP BY i % 100) t
WHERE a::sparsevec <-> b::sparsevec <> a::vector <-> b::vector OR a::sparsevec <#> b::sparsevec <> a::vector <#> b::vector
	OR a::sparsevec <+> b::sparsevec <> a::vector <+> b::vector OR a::sparsevec <=> b::sparsevec <> a::vector <=> b::vector
	OR a::halfvec <-> b::halfvec <> a::vector <-> b::vector OR a::halfvec <#> b::halfvec <> a::vector <#> b::vector
	OR a::halfvec <+> b::halfvec <> a::vector <+> b::vector OR a::halfvec <=> b::halfvec <> a::vector <=> b::vector;

-- functions
SELECT l2_norm('{1:3,2:4}/2'::sparsevec), l2_norm('{}/2'::sparsevec), l2_norm('{1:3e37,2:4e37}/2'::sparsevec)::real;
SELECT l2_normalize('{1:3,2:4}/2'::sparsevec), l2_normalize('{}/2'::sparsevec), l2_normalize('{1:3e38,2:1e-37}/2'::sparsevec);

-- binary form
SELECT sparsevec_send('{2:1,4:-2.5}/5'), sparsevec_send('{}/1');

-- casts
SELECT '[0,1,0,-2.5]'::vector::sparsevec, '[0,1,0,-2.5]'::halfvec::sparsevec, '{2:1}/3'::sparsevec::vector, '{2:1}/3'::sparsevec::halfvec;
SELECT ARRAY[1,0,2]::sparsevec, ARRAY[1.5,0]::real[]::sparsevec, ARRAY[1.5,0]::float8[]::sparsevec, ARRAY[1.5,0]::numeric[]::sparsevec(2);
SELECT '[1,2]'::vector::sparsevec(3);
SELECT '[1,2]'::halfvec::sparsevec(3);
SELECT '{2:1}/3'::sparsevec::vector(2);
SELECT '{2:1}/3'::sparsevec::halfvec(2);
SELECT '{2:1}/16001'::sparsevec::vector;
SELECT '{2:1}/16001'::sparsevec::halfvec;
SELECT '{2:100000}/2'::sparsevec::halfvec;
SELECT '{1,NULL}'::real[]::sparsevec;
SELECT '{{1}}'::real[]::sparsevec;
SELECT '{}'::real[]::sparsevec;
SELECT '{NaN}'::real[]::sparsevec;
SELECT '{Infinity}'::real[]::sparsevec;
SELECT '{1e39}'::float8[]::sparsevec;
SELECT '{1e-50}'::float8[]::sparsevec;
SELECT '{1,2}'::int[]::sparsevec(3);
SELECT l2_norm(array_fill(1, ARRAY[16000])::sparsevec);
SELECT l2_norm(array_fill(1, ARRAY[16001])::sparsevec);
SELECT l2_norm((array_fill(0, ARRAY[16001]) || 1)::sparsevec);

-- between types: what resolves, and what does not
SELECT '[1,2]'::vector <-> '[1,3]'::halfvec, '[1,2]'::vector <-> '{1:1}/2'::sparsevec, '[1,2]'::halfvec <-> '{1:1}/2'::sparsevec;
SELECT '[1,2]'::vector <-> '[1,3]', '[1,2]'::halfvec <=> '[1,2]', '{1:1}/2'::sparsevec <+> '{}/2';
SELECT l2_distance('[1]', '[2]');
SELECT l2_norm('[1]'::vector);
SELECT '[1]' <-> '[2]';
SELECT '{1}'::bigint[]::halfvec;
SELECT '[1,2]'::vector + '[1,2]'::halfvec, '[1]'::halfvec || '[2]'::vector;

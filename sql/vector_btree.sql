-- Comparison in use: sorting, unique and btree indexes, hashing, joins.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

CREATE TEMPORARY TABLE t (v vector);
INSERT INTO t VALUES ('[0,0,0]'), ('[1,2,3]'), ('[1,1,1]'), (NULL), ('[1,2]'), ('[1,2,3]'), ('[-0,0,0]'), ('[2]');
SELECT v FROM t ORDER BY v, v::text;
SELECT v FROM t ORDER BY v DESC NULLS LAST, v::text;

-- btree
CREATE INDEX t_v ON t (v);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM t WHERE v = '[1,2,3]';
SELECT * FROM t WHERE v = '[1,2,3]';
SELECT count(*) FROM t WHERE v >= '[1,2]' AND v < '[1,2,4]';
SELECT v FROM t ORDER BY v DESC LIMIT 2;
DROP INDEX t_v;
CREATE UNIQUE INDEX ON t (v);
RESET enable_seqscan;

-- grouping and joins by hash; 0 equals -0 there too
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT v, count(*) FROM t GROUP BY v;
SELECT vector_dims(v) AS dims, count(*) FROM t GROUP BY v HAVING count(*) > 1 ORDER BY 1, 2;
SELECT count(DISTINCT v), (SELECT count(*) FROM (SELECT DISTINCT v FROM t) d) AS with_null FROM t;
RESET enable_sort;
SET enable_mergejoin = off;
SET enable_nestloop = off;
EXPLAIN (COSTS OFF) SELECT * FROM t a JOIN t b USING (v);
SELECT count(*) FROM t a JOIN t b USING (v);
RESET enable_mergejoin;
RESET enable_nestloop;

-- the hash functions agree with equality, and with each other as core's do
SELECT vector_hash('[0,1]') = vector_hash('[-0,1]') AS zero, vector_hash('[1,2]') = vector_hash('[2,1]') AS order_ignored,
	vector_hash_extended('[0,1]', 7) = vector_hash_extended('[-0,1]', 7) AS zero_extended,
	vector_hash_extended('[1,2]', 0) = vector_hash_extended('[1,2]', 1) AS seed_ignored,
	vector_hash('[1,2]') = vector_hash_extended('[1,2]', 0)::bit(64)::bit(32)::int AS wrong_half,
	vector_hash('[1,2]') = (vector_hash_extended('[1,2]', 0)::bit(64) << 32)::bit(32)::int AS right_half;

-- partitions by hash
CREATE TEMPORARY TABLE p (v vector(2)) PARTITION BY HASH (v);
CREATE TEMPORARY TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TEMPORARY TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO p SELECT ARRAY[i, -i]::vector FROM generate_series(1, 100) i;
SELECT (SELECT count(*) FROM p) AS rows, (SELECT count(*) FROM p0) BETWEEN 20 AND 80 AS spread;
SELECT count(*) FROM p WHERE v = '[7,-7]';

-- The ivfflat access method on halfvec and bit.
CREATE EXTENSION vector;
SET enable_seqscan = off;

CREATE TABLE t (h halfvec(3), b bit(4), one halfvec(1), n varbit(4), big halfvec(4001), bits bit(64001));
INSERT INTO t (h, b) VALUES ('[0,0,0]', '0000'), ('[1,2,3]', '0110'), ('[1,1,1]', '1111'), (NULL, NULL);
CREATE INDEX t_l2 ON t USING ivfflat (h halfvec_l2_ops) WITH (lists = 1);
CREATE INDEX t_ip ON t USING ivfflat (h halfvec_ip_ops) WITH (lists = 1);
CREATE INDEX t_cosine ON t USING ivfflat (h halfvec_cosine_ops) WITH (lists = 1);
CREATE INDEX t_hamming ON t USING ivfflat (b bit_hamming_ops) WITH (lists = 1);
INSERT INTO t (h, b) VALUES ('[1,2,4]', '0111'), ('[0,0,0]', '1000');
EXPLAIN (COSTS OFF) SELECT h FROM t ORDER BY h <=> '[3,3,3]' LIMIT 2;
SELECT h, h <-> '[3,3,3]' AS distance FROM t ORDER BY h <-> '[3,3,3]';
SELECT h, h <#> '[3,3,3]' AS distance FROM t ORDER BY h <#> '[3,3,3]';
SELECT h, h <=> '[3,3,3]' AS distance FROM t ORDER BY h <=> '[3,3,3]';
SELECT b, b <~> B'0111' AS distance FROM t ORDER BY b <~> B'0111';
SELECT count(*) FROM (SELECT * FROM t ORDER BY b <~> (SELECT NULL::bit(4))) x;
SELECT b FROM t ORDER BY b <~> B'011';
SELECT h FROM t ORDER BY h <-> '[3,3]'::halfvec;
CREATE INDEX ON t USING ivfflat (one halfvec_cosine_ops);
CREATE INDEX ON t USING ivfflat (n bit_hamming_ops);
CREATE INDEX ON t USING ivfflat (big halfvec_l2_ops);
CREATE INDEX ON t USING ivfflat (bits bit_hamming_ops);
CREATE INDEX ON t USING ivfflat ((b::bit(8)) bit_hamming_ops) WITH (lists = 1);
CREATE INDEX ON t USING ivfflat (((h::vector)::sparsevec(3)) vector_l2_ops);
DROP TABLE t;

-- with all lists looked at, the answer is that without the index
CREATE TABLE many (id int, h halfvec(8), b bit(40));
INSERT INTO many SELECT i, ARRAY(SELECT sin(i * d) FROM generate_series(1, 8) d)::halfvec(8), ('x' || substr(md5(i::text), 1, 10))::bit(40)
FROM generate_series(1, 3000) i;
CREATE INDEX many_l2 ON many USING ivfflat (h halfvec_l2_ops) WITH (lists = 30);
CREATE INDEX many_ip ON many USING ivfflat (h halfvec_ip_ops) WITH (lists = 30);
CREATE INDEX many_cosine ON many USING ivfflat (h halfvec_cosine_ops) WITH (lists = 30);
CREATE INDEX many_hamming ON many USING ivfflat (b bit_hamming_ops) WITH (lists = 30);
INSERT INTO many SELECT i, ARRAY(SELECT sin(i * d) FROM generate_series(1, 8) d)::halfvec(8), ('x' || substr(md5(i::text), 1, 10))::bit(40)
FROM generate_series(3001, 4000) i;
SET ivfflat.probes = 30;
SELECT op, (SELECT count(*) FROM unnest(with_index, without) AS u(a, b) WHERE a IS DISTINCT FROM b) AS differ, cardinality(with_index) AS rows
FROM (
	SELECT '<->' AS op, ARRAY(SELECT h <-> q FROM many ORDER BY h <-> q) AS with_index, ARRAY(SELECT h <-> q FROM many ORDER BY (h <-> q) + 0) AS without
	FROM (SELECT h AS q FROM many WHERE id = 5 OFFSET 0) q
	UNION ALL SELECT '<#>', ARRAY(SELECT h <#> q FROM many ORDER BY h <#> q), ARRAY(SELECT h <#> q FROM many ORDER BY (h <#> q) + 0)
	FROM (SELECT h AS q FROM many WHERE id = 5 OFFSET 0) q
	UNION ALL SELECT '<=>', ARRAY(SELECT h <=> q FROM many ORDER BY h <=> q), ARRAY(SELECT h <=> q FROM many ORDER BY (h <=> q) + 0)
	FROM (SELECT h AS q FROM many WHERE id = 5 OFFSET 0) q
	UNION ALL SELECT '<~>', ARRAY(SELECT b <~> q FROM many ORDER BY b <~> q), ARRAY(SELECT b <~> q FROM many ORDER BY (b <~> q) + 0)
	FROM (SELECT b AS q FROM many WHERE id = 5 OFFSET 0) q) x;
SET ivfflat.probes = 1;
SELECT id FROM many ORDER BY h <-> (SELECT h FROM many WHERE id = 3500) LIMIT 1;
SELECT id FROM many ORDER BY h <=> (SELECT h FROM many WHERE id = 35) LIMIT 1;
SELECT id FROM many ORDER BY b <~> (SELECT b FROM many WHERE id = 3500) LIMIT 1;
DELETE FROM many WHERE id % 2 = 0;
VACUUM many;
SET ivfflat.probes = 30;
SELECT count(*) FROM (SELECT id FROM many ORDER BY b <~> (SELECT b FROM many WHERE id = 1)) x;
SELECT count(*) FROM (SELECT id FROM many ORDER BY h <=> (SELECT h FROM many WHERE id = 1)) x;
DROP TABLE many;
DROP EXTENSION vector;

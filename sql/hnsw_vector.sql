-- The hnsw access method on vectors: order, settings, errors.
CREATE EXTENSION vector;
SET enable_seqscan = off;

-- every operator class: exact order, NULL left out
CREATE TABLE t (v vector(3));
INSERT INTO t VALUES ('[0,0,0]'), ('[1,2,3]'), ('[1,1,1]'), (NULL);
CREATE INDEX ON t USING hnsw (v vector_l2_ops);
INSERT INTO t VALUES ('[1,2,4]');
SELECT v, v <-> '[3,3,3]' AS distance FROM t ORDER BY v <-> '[3,3,3]';
SELECT count(*) FROM (SELECT * FROM t ORDER BY v <-> (SELECT NULL::vector)) x;
EXPLAIN (COSTS OFF) SELECT v FROM t ORDER BY v <-> '[3,3,3]' LIMIT 2;
DROP INDEX t_v_idx;

CREATE INDEX ON t USING hnsw (v vector_ip_ops);
SELECT v, v <#> '[3,3,3]' AS distance FROM t ORDER BY v <#> '[3,3,3]';
DROP INDEX t_v_idx;

-- a vector without direction is not in a cosine index
CREATE INDEX ON t USING hnsw (v vector_cosine_ops);
INSERT INTO t VALUES ('[0,0,0]'), ('[1,2,4]');
SELECT v FROM t ORDER BY v <=> '[3,3,3]';
SELECT count(*) FROM (SELECT * FROM t ORDER BY v <=> '[0,0,0]') x;
DROP INDEX t_v_idx;

CREATE INDEX ON t USING hnsw (v vector_l1_ops);
SELECT v, v <+> '[3,3,3]' AS distance FROM t ORDER BY v <+> '[3,3,3]';
DROP TABLE t;

-- a query gets as many rows as it asks for
CREATE TABLE many (id int, v vector(4));
INSERT INTO many SELECT i, ARRAY[sin(i), cos(i), sin(i * 2), cos(i * 3)]::vector(4) FROM generate_series(1, 2000) i;
CREATE INDEX many_idx ON many USING hnsw (v vector_l2_ops) WITH (m = 8, ef_construction = 40);
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]' LIMIT 700) x;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
SELECT count(*) FROM (SELECT id FROM many WHERE id % 100 = 7 ORDER BY v <-> '[1,0,0,0]' LIMIT 20) x;
SET hnsw.ef_search = 1;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]' LIMIT 70) x;
SET hnsw.iterative_scan = off;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]' LIMIT 70) x;
SET hnsw.ef_search = 50;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]' LIMIT 70) x;
SET hnsw.iterative_scan = relaxed_order;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]' LIMIT 700) x;
SET hnsw.max_scan_tuples = 1;
SELECT count(*) BETWEEN 50 AND 1000 FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]' LIMIT 1500) x;
RESET hnsw.max_scan_tuples;

-- in order to the last bit, where distances differ by less than a float tells, and where they overflow
CREATE TABLE tight AS SELECT i AS id,
    ARRAY[0.3 + sin(i) / 60000, 0.9 + sin(i * 2.3) / 60000, 0.5 + sin(i * 7.7) / 60000]::vector(3) AS v FROM generate_series(1, 900) i;
CREATE INDEX ON tight USING hnsw (v vector_cosine_ops);
SET hnsw.ef_search = 1000;
SELECT count(*), count(*) FILTER (WHERE d < before) AS out_of_order FROM (SELECT d, lag(d) OVER () AS before
    FROM (SELECT v <=> '[0.3,-0.9,0.5]' AS d FROM tight ORDER BY v <=> '[0.3,-0.9,0.5]') x) y;
TRUNCATE tight;
INSERT INTO tight SELECT i, ARRAY[(sin(i) * 3e38)::real, cos(i), i]::vector(3) FROM generate_series(1, 150) i;
-- each links to all: where distances overflow, there is nothing to choose by
CREATE INDEX ON tight USING hnsw (v vector_ip_ops) WITH (m = 100, ef_construction = 200);
SELECT count(*), count(*) FILTER (WHERE d < before) AS out_of_order, min(d), max(d) FROM (SELECT d, lag(d) OVER () AS before
    FROM (SELECT v <#> '[3e38,0,0]' AS d FROM tight ORDER BY v <#> '[3e38,0,0]') x) y;
RESET hnsw.ef_search;
DROP TABLE tight;

-- a scan that is begun again and again, and meets no row, does not keep what it was asked for
CREATE TABLE nothing (id int, v halfvec(2000));
CREATE INDEX ON nothing USING hnsw (v halfvec_l2_ops);
BEGIN;
DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 1000) i LEFT JOIN LATERAL
    (SELECT id FROM nothing ORDER BY v <-> array_fill(i::real, ARRAY[2000])::halfvec(2000) LIMIT 1) x ON true;
MOVE 500 IN c;
SELECT name, total_bytes < 100000 AS small FROM pg_backend_memory_contexts WHERE name = 'hnsw row';
COMMIT;
DROP TABLE nothing;

-- a single search gives as many rows as it keeps, also where none of them is surely the nearest, or all are equally near
CREATE TABLE wide AS
    SELECT i AS id, ARRAY(SELECT sin(i * j) FROM generate_series(1, 128) j)::vector(128) AS v FROM generate_series(1, 1000) i;
CREATE INDEX ON wide USING hnsw (v vector_l2_ops);
SET hnsw.iterative_scan = off;
SET hnsw.ef_search = 1;
SELECT count(*) FROM (SELECT * FROM wide LIMIT 100) q, LATERAL (SELECT id FROM wide ORDER BY v <-> q.v + q.v LIMIT 5) x;
SET hnsw.ef_search = 3;
SELECT count(*) FROM (SELECT * FROM wide LIMIT 100) q, LATERAL (SELECT id FROM wide ORDER BY v <-> q.v + q.v LIMIT 5) x;
SELECT count(*) FROM (SELECT id FROM wide ORDER BY v <-> (SELECT NULL::vector) LIMIT 5) x;
DROP TABLE wide;
RESET hnsw.iterative_scan;
RESET hnsw.ef_search;

-- little memory: passes over everything take over
SET work_mem = '64kB';
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
RESET work_mem;

-- the same order as without the index
SELECT count(*) FROM (
    (SELECT id FROM many ORDER BY v <-> '[0.3,0.2,0.1,0]' LIMIT 20)
    EXCEPT (SELECT id FROM many ORDER BY (v <-> '[0.3,0.2,0.1,0]') + 0 LIMIT 20)) x;

-- changes: DELETE, UPDATE in place and not, VACUUM, numbers used again
DELETE FROM many WHERE id % 2 = 0;
UPDATE many SET id = id + 10000 WHERE id % 10 = 1;
UPDATE many SET v = v + '[10,0,0,0]' WHERE id % 10 = 3;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
VACUUM many;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
SELECT id FROM many ORDER BY v <-> '[12,0,0,0]' LIMIT 1;
SELECT pg_relation_size('many_idx') AS before \gset
INSERT INTO many SELECT i, ARRAY[sin(i), cos(i), sin(i * 2), cos(i * 3)]::vector(4) FROM generate_series(2001, 2500) i;
SELECT pg_relation_size('many_idx') = :before AS reused;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
DELETE FROM many;
VACUUM many;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
INSERT INTO many VALUES (1, '[1,1,1,1]');
SELECT id FROM many ORDER BY v <-> '[0,0,0,0]';
TRUNCATE many;
SELECT id FROM many ORDER BY v <-> '[0,0,0,0]';
INSERT INTO many VALUES (2, '[1,1,1,1]');
SELECT id FROM many ORDER BY v <-> '[0,0,0,0]';
REINDEX INDEX many_idx;
REINDEX INDEX CONCURRENTLY many_idx;
SELECT id FROM many ORDER BY v <-> '[0,0,0,0]';
DROP TABLE many;

-- equal values
CREATE TABLE same (id int, v vector(40));
CREATE INDEX same_idx ON same USING hnsw (v vector_cosine_ops);
INSERT INTO same SELECT i, array_fill(1, ARRAY[40])::vector(40) FROM generate_series(1, 500) i;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM same ORDER BY v <=> array_fill(1, ARRAY[40])::vector(40)) x;
DELETE FROM same WHERE id < 400;
VACUUM same;
SELECT count(*), min(id) FROM (SELECT id FROM same ORDER BY v <=> array_fill(1, ARRAY[40])::vector(40)) x;
INSERT INTO same SELECT i, array_fill(1, ARRAY[40])::vector(40) FROM generate_series(1, 100) i;
SELECT count(*), min(id) FROM (SELECT id FROM same ORDER BY v <=> array_fill(1, ARRAY[40])::vector(40)) x;
REINDEX TABLE same;
SELECT count(*), min(id) FROM (SELECT id FROM same ORDER BY v <=> array_fill(1, ARRAY[40])::vector(40)) x;
DROP TABLE same;

-- unlogged and temporary tables, partitions, expressions, conditions, concurrently
CREATE UNLOGGED TABLE u (v vector(3));
CREATE INDEX ON u USING hnsw (v vector_l2_ops);
INSERT INTO u VALUES ('[1,1,1]'), ('[2,2,2]');
SELECT v FROM u ORDER BY v <-> '[2,2,2]';
CREATE TEMP TABLE tmp (v vector(3));
CREATE INDEX ON tmp USING hnsw (v vector_l2_ops);
INSERT INTO tmp VALUES ('[1,1,1]'), ('[2,2,2]');
SELECT v FROM tmp ORDER BY v <-> '[2,2,2]';
CREATE TABLE p (id int, v vector(3)) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
INSERT INTO p SELECT i, ARRAY[i, 0, 0]::vector(3) FROM generate_series(0, 199) i;
CREATE INDEX ON p USING hnsw (v vector_l2_ops);
EXPLAIN (COSTS OFF) SELECT id FROM p ORDER BY v <-> '[98.6,0,0]' LIMIT 3;
SELECT id FROM p ORDER BY v <-> '[99.4,0,0]' LIMIT 3;
CREATE TABLE e (id int, a real[]);
INSERT INTO e SELECT i, ARRAY[i, 1] FROM generate_series(1, 100) i;
CREATE INDEX ON e USING hnsw ((a::vector(2)) vector_l2_ops) WHERE id > 10;
SELECT id FROM e WHERE id > 10 ORDER BY a::vector(2) <-> '[0,1]' LIMIT 3;
CREATE INDEX CONCURRENTLY ON e USING hnsw ((a::vector(2)) vector_l1_ops);
SELECT id FROM e ORDER BY a::vector(2) <+> '[0,1]' LIMIT 3;
DROP TABLE u, tmp, p, e;

-- lateral and cursor
CREATE TABLE l (id int, v vector(2));
INSERT INTO l SELECT i, ARRAY[i, i]::vector(2) FROM generate_series(1, 300) i;
CREATE INDEX ON l USING hnsw (v vector_l2_ops);
SELECT q.i, n.id FROM generate_series(100, 300, 100) q(i)
    CROSS JOIN LATERAL (SELECT id FROM l ORDER BY v <-> ARRAY[q.i, q.i]::vector(2) LIMIT 2) n ORDER BY 1, abs(q.i - n.id), 2;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM l ORDER BY v <-> '[0,0]';
FETCH 3 FROM c;
DELETE FROM l WHERE id < 10;
FETCH 2 FROM c;
COMMIT;
SELECT id FROM l ORDER BY v <-> '[0,0]' LIMIT 1;
DROP TABLE l;

-- many dimensions
CREATE TABLE wide (v vector(16000));
INSERT INTO wide SELECT array_fill(i, ARRAY[16000])::vector(16000) FROM generate_series(1, 5) i;
CREATE INDEX ON wide USING hnsw (v vector_l2_ops);
SELECT subvector(v, 1, 1) FROM wide ORDER BY v <-> array_fill(4.4, ARRAY[16000])::vector(16000) LIMIT 2;
DROP TABLE wide;

-- almost everything deleted, and filled up again
CREATE TABLE refill (id int, v vector(4));
INSERT INTO refill SELECT i, ARRAY[sin(i), cos(i), sin(i * 2), cos(i * 3)]::vector(4) FROM generate_series(1, 3000) i;
CREATE INDEX refill_idx ON refill USING hnsw (v vector_l2_ops);
DELETE FROM refill;
VACUUM refill;
INSERT INTO refill SELECT i, ARRAY[sin(i), cos(i), sin(i * 2), cos(i * 3)]::vector(4) FROM generate_series(1, 3000) i;
SELECT live, dead, free, without_edges, unreachable FROM vector_index_stats('refill_idx');
SELECT count(*) FROM (SELECT id FROM refill ORDER BY v <-> '[0,0,0,0]' LIMIT 10) x;
SELECT sweeps FROM vector_index_last_scan();
DELETE FROM refill WHERE id % 1000 <> 7;
VACUUM refill;
DELETE FROM refill WHERE id = 1007;
VACUUM refill;
SELECT id FROM refill ORDER BY v <-> '[0,0,0,0]' LIMIT 10;
SELECT live, without_edges, unreachable FROM vector_index_stats('refill_idx');
SELECT * FROM vector_index_check('refill_idx');
-- a query without direction gives rows in any order; two orders are sorted
SELECT count(*) FROM (SELECT id FROM refill ORDER BY v <-> '[1,0,0,0]', v <-> '[0,1,0,0]' LIMIT 5) x;
DROP TABLE refill;

-- workers, few rows
CREATE TABLE few (id int, note text, v vector(3));
INSERT INTO few SELECT i, repeat('x', 900), CASE WHEN i % 1000 = 0 THEN ARRAY[i, 0, 0]::vector(3) END FROM generate_series(1, 12000) i;
SET min_parallel_table_scan_size = 0;
CREATE INDEX few_idx ON few USING hnsw (v vector_l2_ops);
RESET min_parallel_table_scan_size;
SELECT live FROM vector_index_stats('few_idx');
DROP TABLE few;

-- errors
CREATE TABLE bad (v vector, w vector(3));
CREATE INDEX ON bad USING hnsw (v vector_l2_ops);
CREATE INDEX ON bad USING hnsw (w);
CREATE INDEX ON bad USING hnsw (w vector_l2_ops) WITH (m = 1);
CREATE INDEX ON bad USING hnsw (w vector_l2_ops) WITH (m = 101);
CREATE INDEX ON bad USING hnsw (w vector_l2_ops) WITH (ef_construction = 3);
CREATE INDEX ON bad USING hnsw (w vector_l2_ops) WITH (ef_construction = 1001);
CREATE INDEX ON bad USING hnsw (w vector_l2_ops) WITH (m = 16, ef_construction = 31);
CREATE INDEX ON bad USING hnsw (w vector_l2_ops, w vector_l2_ops);
CREATE UNIQUE INDEX ON bad USING hnsw (w vector_l2_ops);
CREATE INDEX ON bad USING hnsw (w vector_l2_ops);
SELECT w FROM bad ORDER BY w <-> '[1,2]';
SET hnsw.ef_search = 0;
SET hnsw.ef_search = 1001;
SET hnsw.iterative_scan = on;
SET hnsw.max_scan_tuples = 0;
SET hnsw.scan_mem_multiplier = 0;
SET hnsw.nonsense = 1;
SHOW hnsw.ef_search;
DROP TABLE bad;
DROP EXTENSION vector;

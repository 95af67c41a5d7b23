-- The ivfflat access method on vectors: order, lists, settings, errors.
CREATE EXTENSION vector;
SET enable_seqscan = off;

-- every operator class: exact order, NULL left out
CREATE TABLE t (v vector(3));
INSERT INTO t VALUES ('[0,0,0]'), ('[1,2,3]'), ('[1,1,1]'), (NULL);
CREATE INDEX ON t USING ivfflat (v) WITH (lists = 1);
INSERT INTO t VALUES ('[1,2,4]'), (NULL);
SELECT v, v <-> '[3,3,3]' AS distance FROM t ORDER BY v <-> '[3,3,3]';
SELECT count(*) FROM (SELECT * FROM t ORDER BY v <-> (SELECT NULL::vector)) x;
EXPLAIN (COSTS OFF) SELECT v FROM t ORDER BY v <-> '[3,3,3]' LIMIT 2;
SELECT pg_get_indexdef('t_v_idx'::regclass);
TRUNCATE t;
SELECT v FROM t ORDER BY v <-> '[3,3,3]';
INSERT INTO t VALUES ('[0,0,0]'), ('[1,2,3]'), ('[1,1,1]'), ('[1,2,4]'), (NULL);
SELECT v FROM t ORDER BY v <-> '[3,3,3]';
DROP INDEX t_v_idx;

CREATE INDEX ON t USING ivfflat (v vector_ip_ops) WITH (lists = 1);
SELECT v, v <#> '[3,3,3]' AS distance FROM t ORDER BY v <#> '[3,3,3]';
DROP INDEX t_v_idx;

-- a vector without direction is not in a cosine index, but may be asked for
CREATE INDEX ON t USING ivfflat (v vector_cosine_ops) WITH (lists = 1);
INSERT INTO t VALUES ('[0,0,0]'), ('[2,4,8]');
SELECT v, v <=> '[3,3,3]' AS distance FROM t ORDER BY v <=> '[3,3,3]';
SELECT count(*) FROM (SELECT * FROM t ORDER BY v <=> '[0,0,0]') x;
SELECT count(*) FROM (SELECT * FROM t ORDER BY v <=> (SELECT NULL::vector)) x;
DROP INDEX t_v_idx;

-- huge, tiny and unequal lengths
CREATE TABLE extreme (v vector(2));
INSERT INTO extreme VALUES ('[3e38,3e38]'), ('[-3e38,3e38]'), ('[1e-38,1e-38]'), ('[0,0]'), ('[1e30,0]'), ('[1e-45,0]');
CREATE INDEX extreme_l2 ON extreme USING ivfflat (v vector_l2_ops) WITH (lists = 2);
CREATE INDEX extreme_ip ON extreme USING ivfflat (v vector_ip_ops) WITH (lists = 2);
CREATE INDEX extreme_cosine ON extreme USING ivfflat (v vector_cosine_ops) WITH (lists = 2);
SET ivfflat.probes = 2;
SELECT count(*) FROM (SELECT * FROM extreme ORDER BY v <-> '[1,1]') x;
SELECT count(*) FROM (SELECT * FROM extreme ORDER BY v <#> '[1,1]') x;
SELECT count(*) FROM (SELECT * FROM extreme ORDER BY v <=> '[1,1]') x;
RESET ivfflat.probes;
DROP TABLE extreme;

-- as many lists as there are different values, at most; probes and iterative scans
CREATE TABLE many (id int, v vector(4));
CREATE FUNCTION point(i int) RETURNS vector(4) IMMUTABLE LANGUAGE SQL AS
	'SELECT ARRAY[sin(i), cos(i), sin(i * 2), cos(i * 3)]::vector(4)';
INSERT INTO many SELECT i, point(i) FROM generate_series(1, 2000) i;
CREATE INDEX many_idx ON many USING ivfflat (v) WITH (lists = 20);
SELECT count(*) BETWEEN 1 AND 1000 FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
SET ivfflat.probes = 20;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
SELECT count(*) FROM (
	(SELECT id FROM many ORDER BY v <-> '[0.3,0.2,0.1,0]' LIMIT 200)
	EXCEPT (SELECT id FROM many ORDER BY (v <-> '[0.3,0.2,0.1,0]') + 0 LIMIT 200)) x;
SET ivfflat.probes = 100;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;

-- of two distances the index can give neither; that the other scan is disabled, only some versions say
CREATE FUNCTION scans(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ 'Scan' THEN
			RETURN NEXT ltrim(line, ' ->');
		END IF;
	END LOOP;
END
$$;
SELECT scans($$SELECT id FROM many ORDER BY v <-> '[1,0,0,0]', v <-> '[0,1,0,0]' LIMIT 3$$);
DROP FUNCTION scans(text);
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[1,0,0,0]', v <-> '[0,1,0,0]' LIMIT 3) x;
RESET ivfflat.probes;

SET ivfflat.iterative_scan = relaxed_order;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
SELECT count(*) FROM (SELECT id FROM many WHERE id % 100 = 7 ORDER BY v <-> '[1,0,0,0]' LIMIT 20) x;
SET ivfflat.max_probes = 1;
CREATE TEMPORARY TABLE one AS SELECT count(*) AS rows FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
SET ivfflat.max_probes = 3;
CREATE TEMPORARY TABLE three AS SELECT count(*) AS rows FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
SET ivfflat.probes = 3;
SET ivfflat.max_probes = 1;
SELECT one.rows < three.rows AS more, three.rows < 2000 AS not_all, three.rows = more.rows AS probes_first
FROM one, three, (SELECT count(*) AS rows FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x) more;
RESET ivfflat.max_probes;

-- within a batch, rows come in exact order
SET ivfflat.probes = 5;
WITH found AS MATERIALIZED (SELECT id, v <-> '[0.1,0.2,0.3,0]' AS distance FROM many ORDER BY v <-> '[0.1,0.2,0.3,0]'),
numbered AS (SELECT distance, row_number() OVER () AS place FROM found),
steps AS (SELECT distance < lag(distance) OVER (ORDER BY place) AS back FROM numbered)
SELECT count(*) FILTER (WHERE back) <= 3 AS at_most_between_batches, count(*) FROM steps;
RESET ivfflat.probes;
RESET ivfflat.iterative_scan;

-- more rows than work_mem holds: several passes, the same answer
INSERT INTO many SELECT i, point(i) FROM generate_series(2001, 12000) i;
SET ivfflat.probes = 20;
CREATE TEMPORARY TABLE roomy AS SELECT id, row_number() OVER () AS place FROM (SELECT id FROM many ORDER BY v <-> '[0,0.5,0,0]') x;
SET work_mem = '64kB';
CREATE TEMPORARY TABLE narrow AS SELECT id, row_number() OVER () AS place FROM (SELECT id FROM many ORDER BY v <-> '[0,0.5,0,0]') x;
RESET work_mem;
SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE roomy.id <> narrow.id) AS differ FROM roomy JOIN narrow USING (place, id);

-- equal vectors
INSERT INTO many SELECT 20000 + i, '[9,9,9,9]' FROM generate_series(1, 3000) i;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[9,9,9,9]' LIMIT 3000) x WHERE id > 20000;
DELETE FROM many WHERE id > 20000;

-- what VACUUM frees is used again
VACUUM many;
SELECT pg_relation_size('many_idx') AS before \gset
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[9,9,9,9]') x;
DELETE FROM many WHERE id <> 77;
VACUUM many;
SELECT id FROM many ORDER BY v <-> '[0,0,0,0]';
INSERT INTO many SELECT i, point(i) FROM generate_series(1, 12000) i WHERE i <> 77;
SELECT pg_relation_size('many_idx') <= :before AS used_again;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;

-- UPDATE, rollback, subtransactions, a cursor, a rescan
BEGIN;
UPDATE many SET v = '[5,5,5,5]' WHERE id <= 10;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[5,5,5,5]' LIMIT 10) x WHERE id <= 10;
ROLLBACK;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[5,5,5,5]' LIMIT 10) x WHERE id <= 10;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM many ORDER BY v <-> (SELECT point(33));
FETCH 1 FROM c;
SELECT id FROM many ORDER BY v <-> (SELECT point(34)) LIMIT 1;
COMMIT;
SELECT count(*) FROM generate_series(1, 50) i, LATERAL (SELECT id FROM many ORDER BY v <-> point(i) LIMIT 1) n WHERE n.id = i;

-- rebuilt
REINDEX INDEX many_idx;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
REINDEX INDEX CONCURRENTLY many_idx;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <-> '[0,0,0,0]') x;
DROP INDEX many_idx;
CREATE INDEX CONCURRENTLY many_idx ON many USING ivfflat (v vector_cosine_ops) WITH (lists = 20);
SELECT count(*) FROM (
	(SELECT id FROM many ORDER BY v <=> '[0.3,0.2,0.1,0]' LIMIT 50)
	EXCEPT (SELECT id FROM many ORDER BY (v <=> '[0.3,0.2,0.1,0]') + 0 LIMIT 50)) x;
ALTER INDEX many_idx SET (lists = 5);
REINDEX INDEX many_idx;
SET ivfflat.probes = 5;
SELECT count(*) FROM (SELECT id FROM many ORDER BY v <=> '[1,0,0,0]') x;
RESET ivfflat.probes;

-- parallel workers assign the rows alike
CREATE TABLE wide (id int, v vector(4)) WITH (parallel_workers = 2);
INSERT INTO wide SELECT * FROM many;
CREATE INDEX wide_idx ON wide USING ivfflat (v) WITH (lists = 30);
SET ivfflat.probes = 30;
CREATE TEMPORARY TABLE by_workers AS SELECT id, row_number() OVER () AS place FROM (SELECT id FROM wide ORDER BY v <-> '[0,0.5,0,0]') x;
SET max_parallel_maintenance_workers = 0;
REINDEX INDEX wide_idx;
CREATE TEMPORARY TABLE alone AS SELECT id, row_number() OVER () AS place FROM (SELECT id FROM wide ORDER BY v <-> '[0,0.5,0,0]') x;
SELECT count(*) FROM by_workers JOIN alone USING (id, place);
RESET max_parallel_maintenance_workers;
RESET ivfflat.probes;
DROP TABLE wide;

-- unlogged and temporary tables, expressions, partial indexes, partitions
CREATE UNLOGGED TABLE u (v vector(3));
CREATE INDEX ON u USING ivfflat (v) WITH (lists = 1);
INSERT INTO u SELECT ARRAY[i, i, i]::vector(3) FROM generate_series(1, 100) i;
SELECT v FROM u ORDER BY v <-> '[7,7,7]' LIMIT 2;
CREATE TEMPORARY TABLE tt (v vector(3));
CREATE INDEX ON tt USING ivfflat (v) WITH (lists = 1);
INSERT INTO tt SELECT ARRAY[i, i, i]::vector(3) FROM generate_series(1, 1000) i;
SELECT v FROM tt ORDER BY v <-> '[7,7,7]' LIMIT 2;
CREATE TABLE e (a real[], kind int);
INSERT INTO e SELECT ARRAY[i, i, i]::real[], i % 2 FROM generate_series(1, 100) i;
CREATE INDEX ON e USING ivfflat ((a::vector(3)) vector_l2_ops) WITH (lists = 1);
EXPLAIN (COSTS OFF) SELECT a FROM e ORDER BY a::vector(3) <-> '[7,7,7]' LIMIT 2;
SELECT a FROM e ORDER BY a::vector(3) <-> '[7,7,7]' LIMIT 2;
CREATE INDEX e_partial ON e USING ivfflat ((a::vector(3)) vector_l2_ops) WITH (lists = 1) WHERE kind = 0;
SELECT a FROM e WHERE kind = 0 ORDER BY a::vector(3) <-> '[7,7,7]' LIMIT 2;
CREATE TABLE p (id int, v vector(2)) PARTITION BY LIST (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
INSERT INTO p SELECT 1 + i % 2, ARRAY[i, 0]::vector(2) FROM generate_series(1, 100) i;
CREATE INDEX ON p USING ivfflat (v) WITH (lists = 1);
SELECT v FROM p ORDER BY v <-> '[7,0]' LIMIT 2;
DROP TABLE u, tt, e, p;

-- what cannot be indexed
CREATE TABLE bad (v vector, one vector(1), big vector(2001), edge vector(2000));
CREATE INDEX ON bad USING ivfflat (v);
CREATE INDEX ON bad USING ivfflat (big);
CREATE INDEX ON bad USING ivfflat (one vector_cosine_ops);
CREATE INDEX ON bad USING ivfflat (one vector_ip_ops);
CREATE INDEX ON bad USING ivfflat (one vector_l2_ops) WITH (lists = 1);
CREATE INDEX ON bad USING ivfflat (edge vector_cosine_ops) WITH (lists = 1);
INSERT INTO bad (edge) SELECT array_fill(i, ARRAY[2000])::vector FROM generate_series(1, 10) i;
SELECT count(*) FROM (SELECT edge FROM bad ORDER BY edge <=> (SELECT edge FROM bad LIMIT 1)) x;
CREATE INDEX ON bad USING ivfflat (one) WITH (lists = 0);
CREATE INDEX ON bad USING ivfflat (one) WITH (lists = 32769);
CREATE INDEX ON bad USING ivfflat (one) WITH (m = 5);
CREATE INDEX ON bad USING ivfflat (one, edge);
CREATE UNIQUE INDEX ON bad USING ivfflat (one);
CREATE INDEX ON bad USING ivfflat (one) INCLUDE (v);
SET maintenance_work_mem = '1MB';
CREATE INDEX ON many USING ivfflat (v vector_ip_ops) WITH (lists = 32768);
RESET maintenance_work_mem;
SELECT v FROM t ORDER BY v <-> '[3,3]';
INSERT INTO many VALUES (0, '[1,2,3]');
CREATE INDEX ON t USING ivfflat (v) WITH (lists = 1);
SELECT v FROM t ORDER BY v <-> '[3,3]';

-- settings
SHOW ivfflat.probes;
SHOW ivfflat.iterative_scan;
SHOW ivfflat.max_probes;
SET ivfflat.probes = 0;
SET ivfflat.probes = 32769;
SET ivfflat.iterative_scan = strict_order;
SET ivfflat.max_probes = 0;
SET ivfflat.no_such = 1;

-- an operator class that is not sound
CREATE OPERATOR CLASS no_distance FOR TYPE vector USING ivfflat AS
	OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 3 l2_distance(vector, vector);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'no_distance';
SELECT count(*) FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod WHERE amname = 'ivfflat' AND opcname <> 'no_distance' AND amvalidate(c.oid);
DROP OPERATOR FAMILY no_distance USING ivfflat;

DROP TABLE t, many, bad;
DROP FUNCTION point(int);
DROP EXTENSION vector;

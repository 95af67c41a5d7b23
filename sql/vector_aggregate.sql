-- avg and sum over many rows, alone and in parallel.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

CREATE TABLE aggregated (g int, v vector(3));
INSERT INTO aggregated SELECT i % 3, ARRAY[i, -i, 1.0 / i]::vector FROM generate_series(1, 20000) i;
INSERT INTO aggregated VALUES (0, NULL), (9, NULL);
ALTER TABLE aggregated SET (parallel_workers = 2);

SELECT avg(v) = ARRAY[avg((v::real[])[1]), avg((v::real[])[2]), avg((v::real[])[3])]::vector AS avg_exact,
	sum(v) = ARRAY[sum((v::real[])[1]::float8), sum((v::real[])[2]::float8), sum((v::real[])[3]::float8)]::vector AS sum_exact
FROM aggregated;
SELECT avg(v), sum(v) FROM aggregated;
SELECT g, count(*), vector_dims(sum(v)), avg(v) FROM aggregated GROUP BY g ORDER BY g;
SELECT avg(v) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), sum(v) OVER (ORDER BY i)
FROM (VALUES (1, '[1,1]'::vector), (2, '[3,5]'), (3, '[8,9]')) t (i, v);

-- a sum far beyond the digits of float4
SELECT sum(v) FROM (SELECT '[16777216]'::vector AS v UNION ALL SELECT '[1]' FROM generate_series(1, 1000)) t;

SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT avg(v), sum(v) FROM aggregated;
SELECT avg(v), sum(v) FROM aggregated;
-- workers that see no row
SELECT avg(v), sum(v) FROM aggregated WHERE g = 9;
SELECT avg(v), sum(v) FROM aggregated WHERE g > 9;
DROP TABLE aggregated;

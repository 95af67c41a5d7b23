-- Subscripts of vector and halfvec.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

CREATE TEMPORARY TABLE t (id int, v vector, h halfvec);
INSERT INTO t VALUES (1, '[1.5,2.5,3.5]', '[1.5,2.5,3.5]'), (2, NULL, NULL), (3, '[7]', '[7]');
SELECT id, v[1], v[3], h[1], h[3], v[id], pg_typeof(v[1]), pg_typeof(h[1]) FROM t ORDER BY id;
-- outside is NULL, as of an array
SELECT v[0], v[-1], v[4], v[NULL], v[2147483647], v[-2147483648], h[0], h[4] FROM t WHERE id = 1;
-- slices
SELECT v[2:3], v[:2], v[2:], v[:], v[-5:1], v[3:99], h[2:2], pg_typeof(v[1:2]) FROM t WHERE id = 1;
SELECT v[3:2], v[4:5], v[-3:0], v[NULL:1], v[1:NULL], h[9:] FROM t WHERE id = 1;
SELECT ('[1,2,3]'::vector)[2], (v + v)[1], v['2'], v[1.6] FROM t WHERE id = 1;
-- out of line
CREATE TEMPORARY TABLE long (v vector(3000), h halfvec(3000));
INSERT INTO long SELECT a::vector, a::halfvec FROM (SELECT array_agg(i ORDER BY i) AS a FROM generate_series(1, 3000) i) t;
SELECT v[1], v[2000], v[3000], v[3001], h[1], h[2000], h[3000], h[3001], v[2999:3000], h[2:3] FROM long;
-- in an index and a view
CREATE INDEX t_first ON t ((v[1]));
CREATE TEMPORARY VIEW firsts AS SELECT v[1] AS first, v[2:] AS rest FROM t;
SELECT pg_get_indexdef('t_first'::regclass, 1, true);
SELECT * FROM firsts ORDER BY 1;
-- errors
SELECT v['x'] FROM t;
SELECT v[1][1] FROM t;
SELECT v[now()] FROM t;
UPDATE t SET v[1] = 3;
INSERT INTO t (v[1]) VALUES (3);
SELECT ('{1:1}/2'::sparsevec)[1];

-- Arithmetic of sparse vectors, which pgvector does not have.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

SELECT '{1:1,2:2}/3'::sparsevec + '{2:-2,3:4}/3', '{1:1,2:2}/3'::sparsevec - '{2:2,3:4}/3', '{1:1,2:2}/3'::sparsevec * '{2:2,3:4}/3', '{}/1'::sparsevec + '{}/1';
SELECT '{1:1}/3'::sparsevec + '{1:1}/4';
SELECT '{1:1}/3'::sparsevec - '{1:1}/4';
SELECT '{1:1}/3'::sparsevec * '{1:1}/4';
SELECT '{1:3e38}/3'::sparsevec + '{1:3e38}/3';
SELECT '{1:-3e38}/3'::sparsevec - '{1:3e38}/3';
SELECT '{1:3e38}/3'::sparsevec * '{1:3e38}/3';
SELECT '{1:1e-30}/3'::sparsevec * '{1:1e-30}/3';
WITH v AS (SELECT ('{' || string_agg((2 * i) || ':1', ',') || '}/40000')::sparsevec AS a, ('{' || string_agg((2 * i - 1) || ':1', ',') || '}/40000')::sparsevec AS b
	FROM generate_series(1, 16000) i)
SELECT a + b FROM v;
-- the same as of the dense forms
SELECT count(*) FROM (SELECT array_agg(CASE WHEN random() < 0.3 THEN floor(random() * 9 - 4) ELSE 0 END)::real[] AS a,
		array_agg(CASE WHEN random() < 0.6 THEN floor(random() * 9 - 4) ELSE 0 END)::real[] AS b
	FROM generate_series(1, 4000) i GROUP BY i % 100) t
WHERE (a::sparsevec + b::sparsevec)::vector <> a::vector + b::vector OR (a::sparsevec - b::sparsevec)::vector <> a::vector - b::vector
	OR (a::sparsevec * b::sparsevec)::vector <> a::vector * b::vector;

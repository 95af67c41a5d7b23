-- The hnsw access method on halfvec, bit and sparsevec.
CREATE EXTENSION vector;
SET enable_seqscan = off;

CREATE TABLE h (v halfvec(3));
INSERT INTO h VALUES ('[0,0,0]'), ('[1,2,3]'), ('[1,1,1]'), (NULL);
CREATE INDEX ON h USING hnsw (v halfvec_l2_ops);
INSERT INTO h VALUES ('[1,2,4]');
SELECT v FROM h ORDER BY v <-> '[3,3,3]';
DROP INDEX h_v_idx;
CREATE INDEX ON h USING hnsw (v halfvec_ip_ops);
SELECT v FROM h ORDER BY v <#> '[3,3,3]';
DROP INDEX h_v_idx;
CREATE INDEX ON h USING hnsw (v halfvec_cosine_ops);
SELECT v FROM h ORDER BY v <=> '[3,3,3]';
DROP INDEX h_v_idx;
CREATE INDEX ON h USING hnsw (v halfvec_l1_ops);
SELECT v FROM h ORDER BY v <+> '[3,3,3]';
DROP TABLE h;

CREATE TABLE b (v bit(3));
INSERT INTO b VALUES (B'000'), (B'100'), (B'111'), (NULL);
CREATE INDEX ON b USING hnsw (v bit_hamming_ops);
INSERT INTO b VALUES (B'110');
SELECT v FROM b ORDER BY v <~> B'111';
SELECT v FROM b ORDER BY v <~> B'1111';
DROP INDEX b_v_idx;
CREATE INDEX ON b USING hnsw (v bit_jaccard_ops);
SELECT v FROM b ORDER BY v <%> B'111';
DROP TABLE b;
CREATE TABLE b (v bit varying(3), w bit(64000), x bit(66000));
CREATE INDEX ON b USING hnsw (v bit_hamming_ops);
CREATE INDEX ON b USING hnsw (w bit_hamming_ops);
CREATE INDEX ON b USING hnsw (x bit_hamming_ops);
DROP TABLE b;

CREATE TABLE s (v sparsevec(3));
INSERT INTO s VALUES ('{}/3'), ('{1:1,2:2,3:3}/3'), ('{1:1,2:1,3:1}/3'), (NULL);
CREATE INDEX ON s USING hnsw (v sparsevec_l2_ops);
INSERT INTO s VALUES ('{1:1,2:2,3:4}/3');
SELECT v FROM s ORDER BY v <-> '{1:3,2:3,3:3}/3';
DROP INDEX s_v_idx;
CREATE INDEX ON s USING hnsw (v sparsevec_ip_ops);
SELECT v FROM s ORDER BY v <#> '{1:3,2:3,3:3}/3';
DROP INDEX s_v_idx;
CREATE INDEX ON s USING hnsw (v sparsevec_cosine_ops);
SELECT v FROM s ORDER BY v <=> '{1:3,2:3,3:3}/3';
DROP INDEX s_v_idx;
CREATE INDEX ON s USING hnsw (v sparsevec_l1_ops);
SELECT v FROM s ORDER BY v <+> '{1:3,2:3,3:3}/3';
DROP TABLE s;

-- more dimensions than the index keeps apart
CREATE TABLE s (id int, v sparsevec(100000));
INSERT INTO s SELECT i, format('{%s:%s,%s:1}/100000', i, i, 50000 + i)::sparsevec FROM generate_series(1, 300) i;
CREATE INDEX ON s USING hnsw (v sparsevec_l2_ops);
SELECT id FROM s ORDER BY v <-> '{7:7,50007:1}/100000' LIMIT 3;
DROP INDEX s_v_idx;
-- values whose folded parts cancel are indexed all the same
INSERT INTO s SELECT 1000 + i, format('{%s:1,%s:1}/100000', i, i + j)::sparsevec FROM generate_series(1, 100) i, generate_series(1, 100) j;
CREATE INDEX ON s USING hnsw (v sparsevec_cosine_ops);
SELECT live FROM vector_index_stats('s_v_idx');
DROP TABLE s;
DROP EXTENSION vector;

-- Distances of bit strings.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

SELECT hamming_distance('111', '111'), hamming_distance('111', '110'), hamming_distance('111', '100'), hamming_distance('111', '000'), hamming_distance('', '');
SELECT hamming_distance('111', '00');
SELECT jaccard_distance('1111', '1111'), jaccard_distance('1111', '1110'), jaccard_distance('1111', '1000'), jaccard_distance('1111', '0000'), jaccard_distance('0000', '0000'), jaccard_distance('1100', '0011'), jaccard_distance('', '');
SELECT jaccard_distance('1111', '000');
SELECT B'10101' <~> B'11111', B'10101' <%> B'11111', '111'::varbit <~> '000'::varbit;
SELECT repeat('10', 9999)::bit(19998) <~> repeat('11', 9999)::bit(19998), repeat('10', 9999)::bit(19998) <%> repeat('11', 9999)::bit(19998);
SELECT count(*) FROM (SELECT string_agg(round(random())::text, '') AS a, string_agg(round(random())::text, '') AS b FROM generate_series(1, 20000) i GROUP BY i % 130, i % 7) t
WHERE a::varbit <~> b::varbit <> bit_count(a::varbit # b::varbit)
	OR abs((a::varbit <%> b::varbit) - (1 - bit_count(a::varbit & b::varbit)::float8 / bit_count(a::varbit | b::varbit))) > 1e-15;
-- from rows: with one-byte header, with four-byte header, out of line
CREATE TEMPORARY TABLE bits (n int, a varbit, b varbit);
INSERT INTO bits SELECT n, repeat('10', n / 2)::varbit, repeat('11', n / 2)::varbit FROM (VALUES (0), (2), (10), (384), (1536), (100000)) t (n);
ALTER TABLE bits ALTER a SET STORAGE external, ALTER b SET STORAGE external;
INSERT INTO bits SELECT n, a || B'0', b || B'1' FROM bits;
SELECT n, length(a), a <~> b AS hamming, a <%> b AS jaccard, b <~> a = a <~> b AS symmetric FROM bits ORDER BY n, 2;
SELECT a.n FROM bits a, bits b WHERE a.n = 384 AND b.n = 1536 AND a.a <~> b.b > 0;

-- A database as its users make them with pgvector 0.8: every type in every place where a type can stand.
--
-- test/t/040_takeover.pl runs this on a server with pgvector and then asks for the same answers of this extension;
-- pgvector_0.8.6_dump.sql beside this file is pg_dump's output of it there.  Numbers are multiples of 1/8 and small:
-- their sums do not depend on the order of addition.
CREATE EXTENSION vector;
CREATE SCHEMA app;
SET search_path = app, public;

CREATE FUNCTION number(i int, j int) RETURNS float4 LANGUAGE sql IMMUTABLE
	AS $$ SELECT ((((i * 7919 + j * 10473 + i * j % 1009 * 31) % 257 + 257) % 257 - 128) / 8.0)::float4 $$;
CREATE FUNCTION list(i int, n int) RETURNS float4[] LANGUAGE sql IMMUTABLE
	AS $$ SELECT array_agg(app.number(i, j)) FROM generate_series(1, n) j $$;
CREATE FUNCTION thin(i int, n int) RETURNS float4[] LANGUAGE sql IMMUTABLE
	AS $$ SELECT array_agg(CASE WHEN (i + j) % 7 = 0 THEN app.number(i, j) ELSE 0 END) FROM generate_series(1, n) j $$;

CREATE TABLE items (
	id int PRIMARY KEY,
	embedding vector(24) NOT NULL DEFAULT array_fill(1, ARRAY[24])::vector CHECK (vector_dims(embedding) = 24),
	half halfvec(24),
	sparse sparsevec(60),
	bits bit(24),
	length float8 GENERATED ALWAYS AS (round(vector_norm(embedding)::numeric, 6)) STORED,
	any_vector vector,
	parts vector[]
);
INSERT INTO items (id, embedding, half, sparse, bits, any_vector, parts)
	SELECT i, list(i, 24), list(i + 500, 24), thin(i, 60)::vector::sparsevec, binary_quantize(list(i, 24)::vector),
		list(i, 1 + i % 5), ARRAY[list(i, 2)::vector, list(i, 3)::vector]
	FROM generate_series(1, 80) i;
INSERT INTO items (id) VALUES (81);
DELETE FROM items WHERE id % 10 = 0;

-- out of line, and at the types' limits
CREATE TABLE large (id int PRIMARY KEY, v vector(3000), w vector(16000), h halfvec(16000), s sparsevec(1000000000));
INSERT INTO large SELECT i, list(i, 3000), list(i, 16000), list(i, 16000)::real[]::halfvec,
	(SELECT '{' || string_agg(j * 60000 || ':' || number(i, j) + 17, ',') || '}/1000000000' FROM generate_series(1, 9000) j)::sparsevec
	FROM generate_series(1, 3) i;

CREATE DOMAIN direction AS vector(3) CHECK (vector_norm(VALUE) < 30);
CREATE TYPE place AS (name text, position vector(2), weight halfvec(2));
CREATE TABLE places (id int, towards direction, here place, there place[]);
INSERT INTO places SELECT i, list(i, 3)::vector, ROW('p' || i, list(i, 2)::vector, list(i, 2)::halfvec)::place, ARRAY[ROW('q', list(i, 2)::vector, NULL)::place]
	FROM generate_series(1, 20) i;

CREATE TABLE parted (id int, kind text, embedding vector(8)) PARTITION BY LIST (kind);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('b');
INSERT INTO parted SELECT i, chr(97 + i % 2), list(i, 8) FROM generate_series(1, 60) i;
CREATE INDEX parted_hnsw ON parted USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 40);

CREATE INDEX items_l2 ON items USING hnsw (embedding vector_l2_ops);
CREATE INDEX items_ip ON items USING hnsw (embedding vector_ip_ops) WITH (m = 8);
CREATE INDEX items_cosine ON items USING hnsw (embedding vector_cosine_ops) WITH (ef_construction = 100);
CREATE INDEX items_l1 ON items USING hnsw (embedding vector_l1_ops);
CREATE INDEX items_half ON items USING hnsw (half halfvec_l2_ops);
CREATE INDEX items_sparse ON items USING hnsw (sparse sparsevec_cosine_ops);
CREATE INDEX items_hamming ON items USING hnsw (bits bit_hamming_ops);
CREATE INDEX items_jaccard ON items USING hnsw (bits bit_jaccard_ops);
CREATE INDEX items_quantized ON items USING hnsw ((binary_quantize(embedding)::bit(24)) bit_hamming_ops);
CREATE INDEX items_halved ON items USING hnsw ((embedding::halfvec(24)) halfvec_ip_ops);
CREATE INDEX items_front ON items USING hnsw ((subvector(embedding, 1, 8)::vector(8)) vector_l2_ops) WHERE id < 100;
CREATE INDEX items_lists ON items USING ivfflat (embedding vector_l2_ops) WITH (lists = 5);
CREATE INDEX items_half_lists ON items USING ivfflat (half halfvec_cosine_ops) WITH (lists = 4);
CREATE INDEX items_bit_lists ON items USING ivfflat (bits bit_hamming_ops) WITH (lists = 3);
CREATE UNIQUE INDEX items_unique ON items (embedding);
CREATE INDEX items_half_order ON items (half DESC NULLS LAST);
CREATE INDEX items_sparse_order ON items (sparse, id);
CREATE UNLOGGED TABLE fleeting (id int, embedding vector(3));
CREATE INDEX fleeting_hnsw ON fleeting USING hnsw (embedding vector_l2_ops);
INSERT INTO fleeting SELECT i, list(i, 3) FROM generate_series(1, 50) i;

CREATE VIEW nearest AS SELECT id, embedding <-> (SELECT embedding FROM items WHERE id = 1) AS distance FROM items ORDER BY 2, 1 LIMIT 20;
CREATE MATERIALIZED VIEW means AS SELECT id % 3 AS part, avg(embedding) AS mean, sum(half) AS total FROM items WHERE id < 40 GROUP BY 1;
CREATE FUNCTION closest(query vector, n int DEFAULT 3) RETURNS SETOF int LANGUAGE sql STABLE
	AS $$ SELECT id FROM app.items ORDER BY embedding <=> query, id LIMIT n $$;
CREATE FUNCTION shorten() RETURNS trigger LANGUAGE plpgsql
	AS $$ BEGIN NEW.any_vector := subvector(NEW.embedding, 1, 4); RETURN NEW; END $$;
CREATE TRIGGER shorten BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION shorten();

CREATE VIEW answers AS
	SELECT 'items' AS name, md5(string_agg(concat_ws('|', id, encode(vector_send(embedding), 'hex'), encode(halfvec_send(half), 'hex'),
		encode(sparsevec_send(sparse), 'hex'), bits, length, any_vector, parts), E'\n' ORDER BY id)) AS value FROM items
	UNION ALL SELECT 'large ' || id, md5(vector_send(v) || vector_send(w) || halfvec_send(h) || sparsevec_send(s)) FROM large
	UNION ALL SELECT 'places', md5(string_agg(places::text, E'\n' ORDER BY id)) FROM places
	UNION ALL SELECT 'parted', md5(string_agg(parted::text, E'\n' ORDER BY id)) FROM parted
	UNION ALL SELECT 'means', string_agg(means::text, E'\n' ORDER BY part) FROM means
	UNION ALL SELECT 'order of embedding', string_agg(id::text, ' ' ORDER BY embedding) FROM items
	UNION ALL SELECT 'order of half', string_agg(id::text, ' ' ORDER BY half DESC NULLS LAST) FROM items
	UNION ALL SELECT 'order of sparse', string_agg(id::text, ' ' ORDER BY sparse, id) FROM items
	UNION ALL SELECT 'nearest', string_agg(id || ':' || round(distance::numeric, 3), ' ' ORDER BY distance, id) FROM nearest
	UNION ALL SELECT 'closest', string_agg(id::text, ' ') FROM (SELECT closest(embedding, 8) AS id FROM items WHERE id = 77) c
	UNION ALL SELECT 'distances', string_agg(concat_ws(' ', a.id, round((a.embedding <-> b.embedding)::numeric, 3), round((a.embedding <#> b.embedding)::numeric, 3),
		round((a.embedding <=> b.embedding)::numeric, 4), round((a.embedding <+> b.embedding)::numeric, 3),
		round((a.half <-> b.half)::numeric, 3), round((a.half <=> b.half)::numeric, 4), round((a.sparse <+> b.sparse)::numeric, 3),
		round((a.sparse <=> b.sparse)::numeric, 4), a.bits <~> b.bits, round((a.bits <%> b.bits)::numeric, 4)), E'\n' ORDER BY a.id)
		FROM items a, items b WHERE b.id = 42 AND a.id < 60
	UNION ALL SELECT 'large distances', string_agg(concat_ws(' ', a.id, b.id, round((subvector(a.w, 15501, 500) <=> subvector(b.w, 15501, 500))::numeric, 4),
		round((subvector(a.h, 15501, 500) <-> subvector(b.h, 15501, 500))::numeric, 3), round((a.s <+> b.s)::numeric, 3)), E'\n' ORDER BY a.id, b.id)
		FROM large a, large b;
SET enable_indexscan = off;
CREATE TABLE expected AS TABLE answers;
RESET enable_indexscan;

-- Files of indexes for the tests that have no pgvector at hand: small, and of known names.
CREATE TABLE small AS SELECT i AS id, list(i, 3)::vector(3) AS embedding FROM generate_series(1, 12) i;
CREATE INDEX small_hnsw ON small USING hnsw (embedding vector_l2_ops) WITH (m = 4, ef_construction = 8);
CREATE TABLE few AS TABLE small;
CREATE INDEX few_ivfflat ON few USING ivfflat (embedding vector_l2_ops) WITH (lists = 1);

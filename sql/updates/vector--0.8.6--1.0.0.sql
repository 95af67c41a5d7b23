-- From pgvector 0.8 to this extension: what it has in addition.  The types keep their layout, and pgvector's
-- functions their C names, so nothing else changes and no value is rewritten.
\echo Use "ALTER EXTENSION vector UPDATE TO '1.0.0'" to load this file. \quit

-- subscripts

CREATE FUNCTION vector_subscript(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION halfvec_subscript(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

ALTER TYPE vector SET (SUBSCRIPT = vector_subscript);
ALTER TYPE halfvec SET (SUBSCRIPT = halfvec_subscript);

-- hash: equal values hash alike, so 0 as -0

CREATE FUNCTION vector_hash(vector) RETURNS int4
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION vector_hash(vector) IS 'hash';
CREATE FUNCTION vector_hash_extended(vector, int8) RETURNS int8
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION vector_hash_extended(vector, int8) IS 'hash with a seed';
CREATE FUNCTION halfvec_hash(halfvec) RETURNS int4
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION halfvec_hash(halfvec) IS 'hash';
CREATE FUNCTION halfvec_hash_extended(halfvec, int8) RETURNS int8
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION halfvec_hash_extended(halfvec, int8) IS 'hash with a seed';
CREATE FUNCTION sparsevec_hash(sparsevec) RETURNS int4
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sparsevec_hash(sparsevec) IS 'hash';
CREATE FUNCTION sparsevec_hash_extended(sparsevec, int8) RETURNS int8
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sparsevec_hash_extended(sparsevec, int8) IS 'hash with a seed';

-- Servers before 17 have no command for this.
UPDATE pg_catalog.pg_operator SET oprcanhash = true
WHERE oid IN ('=(vector,vector)'::pg_catalog.regoperator, '=(halfvec,halfvec)'::pg_catalog.regoperator,
    '=(sparsevec,sparsevec)'::pg_catalog.regoperator);

CREATE OPERATOR CLASS vector_ops
    DEFAULT FOR TYPE vector USING hash AS
    OPERATOR 1 =,
    FUNCTION 1 vector_hash(vector),
    FUNCTION 2 vector_hash_extended(vector, int8);

CREATE OPERATOR CLASS halfvec_ops
    DEFAULT FOR TYPE halfvec USING hash AS
    OPERATOR 1 =,
    FUNCTION 1 halfvec_hash(halfvec),
    FUNCTION 2 halfvec_hash_extended(halfvec, int8);

CREATE OPERATOR CLASS sparsevec_ops
    DEFAULT FOR TYPE sparsevec USING hash AS
    OPERATOR 1 =,
    FUNCTION 1 sparsevec_hash(sparsevec),
    FUNCTION 2 sparsevec_hash_extended(sparsevec, int8);

-- sum(vector) with a state in double precision

CREATE FUNCTION vector_sum_accum(float8[], vector) RETURNS float8[]
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION vector_sum(float8[]) RETURNS vector
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OR REPLACE AGGREGATE sum(vector) (
    SFUNC = vector_sum_accum,
    STYPE = float8[],
    FINALFUNC = vector_sum,
    COMBINEFUNC = vector_combine,
    INITCOND = '{0}',
    PARALLEL = SAFE
);

-- arithmetic of sparse vectors

CREATE FUNCTION sparsevec_add(sparsevec, sparsevec) RETURNS sparsevec
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sparsevec_sub(sparsevec, sparsevec) RETURNS sparsevec
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sparsevec_mul(sparsevec, sparsevec) RETURNS sparsevec
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR + (
    LEFTARG = sparsevec, RIGHTARG = sparsevec, FUNCTION = sparsevec_add,
    COMMUTATOR = +
);
CREATE OPERATOR - (
    LEFTARG = sparsevec, RIGHTARG = sparsevec, FUNCTION = sparsevec_sub
);
CREATE OPERATOR * (
    LEFTARG = sparsevec, RIGHTARG = sparsevec, FUNCTION = sparsevec_mul,
    COMMUTATOR = *
);

-- comments

COMMENT ON TYPE vector IS 'list of single-precision numbers';
COMMENT ON FUNCTION l2_distance(vector, vector) IS 'Euclidean distance';
COMMENT ON FUNCTION inner_product(vector, vector) IS 'inner product';
COMMENT ON FUNCTION cosine_distance(vector, vector) IS 'cosine distance: 1 minus the cosine of the angle; NaN for a zero vector';
COMMENT ON FUNCTION l1_distance(vector, vector) IS 'taxicab distance';
COMMENT ON OPERATOR <-> (vector, vector) IS 'Euclidean distance';
COMMENT ON OPERATOR <#> (vector, vector) IS 'negative inner product';
COMMENT ON OPERATOR <=> (vector, vector) IS 'cosine distance';
COMMENT ON OPERATOR <+> (vector, vector) IS 'taxicab distance';
COMMENT ON FUNCTION vector_dims(vector) IS 'number of dimensions';
COMMENT ON FUNCTION vector_norm(vector) IS 'Euclidean norm';
COMMENT ON FUNCTION l2_normalize(vector) IS 'the vector scaled to Euclidean norm 1; a zero vector stays as it is';
COMMENT ON FUNCTION binary_quantize(vector) IS 'one bit per element, set where it is positive';
COMMENT ON FUNCTION subvector(vector, int4, int4) IS 'part of the vector: first element, counted from 1, and number of elements';
COMMENT ON OPERATOR + (vector, vector) IS 'sum of the elements';
COMMENT ON OPERATOR - (vector, vector) IS 'difference of the elements';
COMMENT ON OPERATOR * (vector, vector) IS 'product of the elements';
COMMENT ON OPERATOR || (vector, vector) IS 'concatenate';
COMMENT ON OPERATOR < (vector, vector) IS 'less than';
COMMENT ON OPERATOR <= (vector, vector) IS 'less than or equal';
COMMENT ON OPERATOR = (vector, vector) IS 'equal';
COMMENT ON OPERATOR <> (vector, vector) IS 'not equal';
COMMENT ON OPERATOR >= (vector, vector) IS 'greater than or equal';
COMMENT ON OPERATOR > (vector, vector) IS 'greater than';
COMMENT ON AGGREGATE avg(vector) IS 'the average of each dimension';
COMMENT ON AGGREGATE sum(vector) IS 'the sum of each dimension';
COMMENT ON TYPE halfvec IS 'list of half-precision numbers';
COMMENT ON FUNCTION l2_distance(halfvec, halfvec) IS 'Euclidean distance';
COMMENT ON FUNCTION inner_product(halfvec, halfvec) IS 'inner product';
COMMENT ON FUNCTION cosine_distance(halfvec, halfvec) IS 'cosine distance: 1 minus the cosine of the angle; NaN for a zero vector';
COMMENT ON FUNCTION l1_distance(halfvec, halfvec) IS 'taxicab distance';
COMMENT ON OPERATOR <-> (halfvec, halfvec) IS 'Euclidean distance';
COMMENT ON OPERATOR <#> (halfvec, halfvec) IS 'negative inner product';
COMMENT ON OPERATOR <=> (halfvec, halfvec) IS 'cosine distance';
COMMENT ON OPERATOR <+> (halfvec, halfvec) IS 'taxicab distance';
COMMENT ON FUNCTION vector_dims(halfvec) IS 'number of dimensions';
COMMENT ON FUNCTION l2_norm(halfvec) IS 'Euclidean norm';
COMMENT ON FUNCTION l2_normalize(halfvec) IS 'the vector scaled to Euclidean norm 1; a zero vector stays as it is';
COMMENT ON FUNCTION binary_quantize(halfvec) IS 'one bit per element, set where it is positive';
COMMENT ON FUNCTION subvector(halfvec, int4, int4) IS 'part of the vector: first element, counted from 1, and number of elements';
COMMENT ON OPERATOR + (halfvec, halfvec) IS 'sum of the elements';
COMMENT ON OPERATOR - (halfvec, halfvec) IS 'difference of the elements';
COMMENT ON OPERATOR * (halfvec, halfvec) IS 'product of the elements';
COMMENT ON OPERATOR || (halfvec, halfvec) IS 'concatenate';
COMMENT ON OPERATOR < (halfvec, halfvec) IS 'less than';
COMMENT ON OPERATOR <= (halfvec, halfvec) IS 'less than or equal';
COMMENT ON OPERATOR = (halfvec, halfvec) IS 'equal';
COMMENT ON OPERATOR <> (halfvec, halfvec) IS 'not equal';
COMMENT ON OPERATOR >= (halfvec, halfvec) IS 'greater than or equal';
COMMENT ON OPERATOR > (halfvec, halfvec) IS 'greater than';
COMMENT ON AGGREGATE avg(halfvec) IS 'the average of each dimension';
COMMENT ON AGGREGATE sum(halfvec) IS 'the sum of each dimension';
COMMENT ON FUNCTION hamming_distance(bit, bit) IS 'number of bits that differ';
COMMENT ON FUNCTION jaccard_distance(bit, bit) IS '1 minus the share of the bits set in either that are set in both';
COMMENT ON OPERATOR <~> (bit, bit) IS 'Hamming distance';
COMMENT ON OPERATOR <%> (bit, bit) IS 'Jaccard distance';
COMMENT ON TYPE sparsevec IS 'list of single-precision numbers of which most are zero';
COMMENT ON FUNCTION l2_distance(sparsevec, sparsevec) IS 'Euclidean distance';
COMMENT ON FUNCTION inner_product(sparsevec, sparsevec) IS 'inner product';
COMMENT ON FUNCTION cosine_distance(sparsevec, sparsevec) IS 'cosine distance: 1 minus the cosine of the angle; NaN for a zero vector';
COMMENT ON FUNCTION l1_distance(sparsevec, sparsevec) IS 'taxicab distance';
COMMENT ON OPERATOR <-> (sparsevec, sparsevec) IS 'Euclidean distance';
COMMENT ON OPERATOR <#> (sparsevec, sparsevec) IS 'negative inner product';
COMMENT ON OPERATOR <=> (sparsevec, sparsevec) IS 'cosine distance';
COMMENT ON OPERATOR <+> (sparsevec, sparsevec) IS 'taxicab distance';
COMMENT ON FUNCTION l2_norm(sparsevec) IS 'Euclidean norm';
COMMENT ON FUNCTION l2_normalize(sparsevec) IS 'the vector scaled to Euclidean norm 1; a zero vector stays as it is';
COMMENT ON OPERATOR + (sparsevec, sparsevec) IS 'sum of the elements';
COMMENT ON OPERATOR - (sparsevec, sparsevec) IS 'difference of the elements';
COMMENT ON OPERATOR * (sparsevec, sparsevec) IS 'product of the elements';
COMMENT ON OPERATOR < (sparsevec, sparsevec) IS 'less than';
COMMENT ON OPERATOR <= (sparsevec, sparsevec) IS 'less than or equal';
COMMENT ON OPERATOR = (sparsevec, sparsevec) IS 'equal';
COMMENT ON OPERATOR <> (sparsevec, sparsevec) IS 'not equal';
COMMENT ON OPERATOR >= (sparsevec, sparsevec) IS 'greater than or equal';
COMMENT ON OPERATOR > (sparsevec, sparsevec) IS 'greater than';

-- the access method hnsw: the same objects, other code behind them; indexes must be rebuilt
COMMENT ON ACCESS METHOD hnsw IS 'graph of nearest neighbors';
COMMENT ON FUNCTION hnswhandler(internal) IS 'hnsw access method handler';
COMMENT ON FUNCTION hnsw_halfvec_support(internal) IS 'names the type of an operator class';
COMMENT ON FUNCTION hnsw_bit_support(internal) IS 'names the type of an operator class';
COMMENT ON FUNCTION hnsw_sparsevec_support(internal) IS 'names the type of an operator class';

-- the access method ivfflat: likewise
COMMENT ON ACCESS METHOD ivfflat IS 'nearest neighbors by lists around centers';
COMMENT ON FUNCTION ivfflathandler(internal) IS 'ivfflat access method handler';
COMMENT ON FUNCTION ivfflat_halfvec_support(internal) IS 'names the type of an operator class';
COMMENT ON FUNCTION ivfflat_bit_support(internal) IS 'names the type of an operator class';

-- looking into an index

CREATE FUNCTION vector_index_check(index regclass) RETURNS SETOF text
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION vector_index_check(regclass) IS 'problems of an hnsw index, one a row; none when it is sound';

CREATE FUNCTION vector_index_stats(index regclass,
    OUT dimensions int4, OUT m int4, OUT ef_construction int4, OUT sketch_bits int4, OUT code_bits int4,
    OUT sketch_bytes int4, OUT node_bytes int4, OUT live int8, OUT dead int8, OUT free int8, OUT aliases int8,
    OUT average_degree float8, OUT max_degree int4, OUT without_edges int8, OUT edges_to_free int8,
    OUT unreachable int8, OUT bytes int8)
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION vector_index_stats(regclass) IS 'layout, rows and edges of an hnsw index';

CREATE FUNCTION vector_index_last_scan(OUT hops int8, OUT estimates int8, OUT reranks int8, OUT sweeps int8)
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION vector_index_last_scan() IS 'work of the last hnsw index scan of this session';

-- Indexes that pgvector wrote refuse to serve until they are rebuilt: say so now, by name.
DO $$
DECLARE
    old text;
BEGIN
    SELECT pg_catalog.string_agg(c.oid::pg_catalog.regclass::text, ', ' ORDER BY c.oid::pg_catalog.regclass::text) INTO old
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
    WHERE a.amname IN ('hnsw', 'ivfflat') AND c.relkind = 'i';
    IF old IS NOT NULL THEN
        RAISE WARNING 'indexes built by pgvector must be rebuilt'
            USING DETAIL = pg_catalog.format('Refused until then: %s.', old), HINT = 'Rebuild each with REINDEX INDEX.';
    END IF;
END
$$;

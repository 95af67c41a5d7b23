-- Back to the catalog of pgvector 0.8.6, for a database that is to return to it: doc/migration.md.  What depends on an
-- addition of this extension, as a hash index does, stops this script with the name of what is in the way.
\echo Use "ALTER EXTENSION vector UPDATE TO '0.8.6'" to load this file. \quit

DROP FUNCTION vector_index_check(regclass);
DROP FUNCTION vector_index_stats(regclass);
DROP FUNCTION vector_index_last_scan();

DROP OPERATOR + (sparsevec, sparsevec);
DROP OPERATOR - (sparsevec, sparsevec);
DROP OPERATOR * (sparsevec, sparsevec);
DROP FUNCTION sparsevec_add(sparsevec, sparsevec);
DROP FUNCTION sparsevec_sub(sparsevec, sparsevec);
DROP FUNCTION sparsevec_mul(sparsevec, sparsevec);

CREATE OR REPLACE AGGREGATE sum(vector) (
    SFUNC = vector_add,
    STYPE = vector,
    COMBINEFUNC = vector_add,
    PARALLEL = SAFE
);
DROP FUNCTION vector_sum_accum(float8[], vector);
DROP FUNCTION vector_sum(float8[]);

-- A family goes with the class that was made with it.
DROP OPERATOR FAMILY vector_ops USING hash;
DROP OPERATOR FAMILY halfvec_ops USING hash;
DROP OPERATOR FAMILY sparsevec_ops USING hash;
UPDATE pg_catalog.pg_operator SET oprcanhash = false
WHERE oid IN ('=(vector,vector)'::pg_catalog.regoperator, '=(halfvec,halfvec)'::pg_catalog.regoperator,
    '=(sparsevec,sparsevec)'::pg_catalog.regoperator);
DROP FUNCTION vector_hash(vector);
DROP FUNCTION vector_hash_extended(vector, int8);
DROP FUNCTION halfvec_hash(halfvec);
DROP FUNCTION halfvec_hash_extended(halfvec, int8);
DROP FUNCTION sparsevec_hash(sparsevec);
DROP FUNCTION sparsevec_hash_extended(sparsevec, int8);

ALTER TYPE vector SET (SUBSCRIPT = NONE);
ALTER TYPE halfvec SET (SUBSCRIPT = NONE);
DROP FUNCTION vector_subscript(internal);
DROP FUNCTION halfvec_subscript(internal);

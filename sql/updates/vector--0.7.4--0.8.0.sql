-- What pgvector 0.8 has in addition to 0.7: casts from arrays to sparsevec.  A step on the way to 1.0.0.
\echo Use "ALTER EXTENSION vector UPDATE" to load this file. \quit

CREATE FUNCTION array_to_sparsevec(int4[], int4, boolean) RETURNS sparsevec
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION array_to_sparsevec(float4[], int4, boolean) RETURNS sparsevec
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION array_to_sparsevec(float8[], int4, boolean) RETURNS sparsevec
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION array_to_sparsevec(numeric[], int4, boolean) RETURNS sparsevec
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE CAST (int4[] AS sparsevec) WITH FUNCTION array_to_sparsevec(int4[], int4, boolean) AS ASSIGNMENT;
CREATE CAST (float4[] AS sparsevec) WITH FUNCTION array_to_sparsevec(float4[], int4, boolean) AS ASSIGNMENT;
CREATE CAST (float8[] AS sparsevec) WITH FUNCTION array_to_sparsevec(float8[], int4, boolean) AS ASSIGNMENT;
CREATE CAST (numeric[] AS sparsevec) WITH FUNCTION array_to_sparsevec(numeric[], int4, boolean) AS ASSIGNMENT;

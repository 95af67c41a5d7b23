-- The SQLSTATE of every error about a bad value: clients look at it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;
\set VERBOSITY sqlstate

-- syntax
SELECT 'x'::vector;
SELECT '[1'::vector;
SELECT '[1]x'::vector;
SELECT 'x'::halfvec;
SELECT '[1]x'::halfvec;
SELECT 'x'::sparsevec;
SELECT '{}'::sparsevec;
SELECT '{}/1x'::sparsevec;
-- range of a number
SELECT '[1e39]'::vector;
SELECT '[65520]'::halfvec;
SELECT '{1:1e39}/1'::sparsevec;
SELECT '{1:1e-46}/1'::sparsevec;
SELECT '[65520]'::vector::halfvec;
-- NaN and infinity
SELECT '[NaN]'::vector;
SELECT '[inf]'::halfvec;
SELECT '{1:NaN}/1'::sparsevec;
SELECT '{inf}'::real[]::vector;
-- dimensions
SELECT '[]'::vector;
SELECT '[]'::halfvec;
SELECT '{}/0'::sparsevec;
SELECT ('[0' || repeat(',0', 16000) || ']')::vector;
SELECT ('[0' || repeat(',0', 16000) || ']')::halfvec;
SELECT '{}/1000000001'::sparsevec;
SELECT ('{' || repeat(',', 16000) || '}/1')::sparsevec;
-- type modifiers
SELECT '[1]'::vector(0);
SELECT '[1]'::vector(16001);
SELECT '[1]'::vector(1, 1);
SELECT '[1]'::halfvec(0);
SELECT '{}/1'::sparsevec(0);
SELECT '[1]'::vector(2);
SELECT '[1]'::vector::vector(2);
SELECT '{}/1'::sparsevec(2);
-- operands
SELECT '[1]'::vector <-> '[1,2]';
SELECT '[1]'::halfvec + '[1,2]';
SELECT '{}/1'::sparsevec <#> '{}/2';
SELECT B'1' <~> B'11';
-- indices
SELECT '{2:1}/1'::sparsevec;
SELECT '{1:1,1:2}/1'::sparsevec;
-- arithmetic
SELECT '[3e38]'::vector + '[3e38]';
SELECT '[1e-30]'::vector * '[1e-30]';
SELECT '[60000]'::halfvec * '[60000]';
-- arrays
SELECT '{{1}}'::real[]::vector;
SELECT '{NULL}'::real[]::vector;
SELECT '{}'::real[]::vector;
SELECT '{1}'::bigint[]::vector;
-- states of aggregates
SELECT vector_accum('{}', '[1]');
SELECT halfvec_avg('{NULL}');
SELECT sum(v) FROM (VALUES ('[1]'::vector), ('[1,2]')) t (v);
SELECT avg(v) FROM (VALUES ('[1]'::vector), ('[1,2]')) t (v);
-- servers from 16 on can ask whether a value is valid; this is what they answer
SELECT current_setting('server_version_num')::int >= 160000 AS soft \gset
\if :soft
\set validity 'pg_input_is_valid(literal, type)'
\set info '(pg_input_error_info(literal, type)).message'
\else
\set validity 'literal = ''[1,2]'''
\set info 'CASE type WHEN ''halfvec'' THEN ''"65520" is out of range for type halfvec'' WHEN ''vector(3)'' THEN ''expected 3 dimensions, not 2'' END'
\endif
SELECT literal, type, :validity AS valid
FROM (VALUES ('[1,2]', 'vector(2)'), ('[1,x]', 'vector'), ('[1,2] ]', 'vector'), ('[NaN]', 'vector'), ('{2:1}/1', 'sparsevec')) t (literal, type);
SELECT literal, type, :info AS message FROM (VALUES ('[65520]', 'halfvec'), ('[1,2]', 'vector(3)')) t (literal, type);

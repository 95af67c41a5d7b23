
-- ---------------------------------------------------------------------------
-- Questions
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync.embed(model text, input text, purpose text DEFAULT 'query') RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_text';
COMMENT ON FUNCTION vecsync.embed(text, text, text) IS
'The vector of a text by a model. purpose: query or document, for models that tell them apart. The last vectors are kept, by the session and for all sessions (vecsync.query_cache). Errors: 42704 no such model, 08000 and its class when the service cannot be reached or refuses, 38000 when its answer cannot be used.';

CREATE FUNCTION vecsync.embed(model text, inputs text[], purpose text DEFAULT 'query') RETURNS vector[]
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_texts';
COMMENT ON FUNCTION vecsync.embed(text, text[], text) IS
'The vectors of texts by a model, in their order, in as few requests as the model''s max_batch allows; NULL for NULL.';

CREATE FUNCTION vecsync.search(
    name text,
    query text DEFAULT NULL,
    query_vector vector DEFAULT NULL,
    query_key jsonb DEFAULT NULL,
    top_k integer DEFAULT 10,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    mode text DEFAULT 'vector',
    fusion text DEFAULT 'weighted',
    vector_weight double precision DEFAULT NULL,
    rerank text DEFAULT NULL,
    rerank_error text DEFAULT 'warning',
    exclude jsonb[] DEFAULT NULL,
    group_by_document boolean DEFAULT true,
    snippet_length integer DEFAULT 0,
    return_metadata text DEFAULT 'none',
    return_values boolean DEFAULT false
) RETURNS TABLE (key jsonb, score double precision, vector_score double precision, text_score double precision,
                 rerank_score double precision, chunk_seq integer, chunk text, snippet text, metadata jsonb, "values" vector)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10 AS 'MODULE_PATHNAME', 'search_vectors';
COMMENT ON FUNCTION vecsync.search IS
'The rows of a vectorizer''s table nearest to a text, to a vector, or to another of its rows: keys and scores, best first, ties by key. score: larger is nearer; for the cosine metric 1 is identical. At most top_k rows (1 to 10,000), none below min_score, and as many as match filter, namespace and exclude. mode: vector, text, or hybrid, which fuses both by a weighted sum of scores (weighted; without vector_weight the leg with the better best row weighs more) or by reciprocal ranks (rrf). rerank: a model of kind rerank or chat. Of a chunked vectorizer each row comes once, with its best chunk, unless group_by_document is false (then its chunks come, in vector mode). return_metadata: none, indexed or all columns. Sees what the caller may SELECT. Errors: 42704 no such vectorizer, 22023 a bad argument, 42703 an unknown column in a filter, P0002 no row of that query_key, 55000 no text search, and those of vecsync.embed.';

CREATE FUNCTION vecsync.snippet("text" text, query text, length integer DEFAULT 200) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'snippet_text';
COMMENT ON FUNCTION vecsync.snippet IS
'A part of a text of at most so many characters, from at most 50 before the first word of the query on, cut between words, with ... where something is left out.';

CREATE FUNCTION vecsync.similarity(a vector, b vector) RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'snippet_similarity';
COMMENT ON FUNCTION vecsync.similarity IS 'The cosine of two vectors; NULL when one of them is zero, 22000 when their dimensions differ.';

CREATE FUNCTION vecsync.rerank(model text, query text, documents text[], top_n integer DEFAULT NULL)
    RETURNS TABLE (index integer, score double precision)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10 AS 'MODULE_PATHNAME', 'rerank_documents';
COMMENT ON FUNCTION vecsync.rerank IS
'Documents by their relevance to a query, best first: their positions in the array, from 1, and scores. A model of kind rerank scores them; one of kind chat leaves out those it finds irrelevant, and the others keep their order with score 1. Errors: 42704 no such model, 42809 a model of another kind, 38000 when the service fails.';

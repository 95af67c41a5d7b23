-- ---------------------------------------------------------------------------
-- Questions
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync.embed(model text, input text, purpose text DEFAULT 'query') RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_text';
COMMENT ON FUNCTION vecsync.embed(text, text, text) IS
'The vector of a text by a model. purpose: query or document, for models that tell them apart. The session keeps the last vectors and its connection. Errors: 42704 no such model, 08000 and its class when the service cannot be reached or refuses, 38000 when its answer cannot be used.';

CREATE FUNCTION vecsync.embed(model text, inputs text[], purpose text DEFAULT 'query') RETURNS vector[]
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'embed_texts';
COMMENT ON FUNCTION vecsync.embed(text, text[], text) IS
'The vectors of texts by a model, in their order, in as few requests as the model''s max_batch allows; NULL for NULL.';

CREATE FUNCTION vecsync.search(
    name text,
    query text DEFAULT NULL,
    query_vector vector DEFAULT NULL,
    top_k integer DEFAULT 10,
    min_score double precision DEFAULT NULL
) RETURNS TABLE (key jsonb, score double precision)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10 AS 'MODULE_PATHNAME', 'search_vectors';
COMMENT ON FUNCTION vecsync.search IS
'The rows of a vectorizer''s table nearest to a text or to a vector: their keys and scores, best first, ties by key. score: larger is nearer; for the cosine metric 1 is identical. At most top_k rows (1 to 10,000), none below min_score. Sees what the caller may SELECT. Errors: 42704 no such vectorizer, 22023 neither or both of query and query_vector, and those of vecsync.embed.';

-- The worker of this database starts when the transaction that creates the extension commits.
CREATE FUNCTION vecsync._worker_wanted() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'worker_wanted';
REVOKE ALL ON FUNCTION vecsync._worker_wanted() FROM PUBLIC;
SELECT vecsync._worker_wanted();

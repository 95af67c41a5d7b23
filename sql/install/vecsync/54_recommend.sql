
-- ---------------------------------------------------------------------------
-- Beyond search: rows like other rows
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync._vectors(name text, keys jsonb[], namespace text, OUT n integer, OUT key jsonb, OUT v vector)
    RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000 ROWS 10 AS 'MODULE_PATHNAME', 'groups_vectors';
CREATE FUNCTION vecsync._weighted_mean(vectors vector[], weights double precision[], normalise boolean) RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'groups_mean';
CREATE FUNCTION vecsync._pairs(name text, threshold double precision, filter jsonb, namespace text,
        OUT a jsonb, OUT b jsonb, OUT score double precision)
    RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'groups_pairs';
CREATE FUNCTION vecsync._clusters(name text, threshold double precision, filter jsonb, namespace text,
        OUT cluster integer, OUT key jsonb, OUT score double precision)
    RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'groups_clusters';

-- A vectorizer's metric; an error when there is none of that name.
CREATE FUNCTION vecsync._metric(name text, OUT metric text, OUT model text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
BEGIN
    SELECT v.metric, v.model INTO metric, model FROM vecsync.vectorizer v WHERE v.name = _metric.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('vectorizer "%s" does not exist', name),
            HINT = 'vecsync.create_vectorizer() makes one; vecsync.status lists them.';
    END IF;
END
$function$;

CREATE FUNCTION vecsync.similar(
    name text,
    query_key jsonb,
    top_k integer DEFAULT 10,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    exclude jsonb[] DEFAULT NULL,
    return_metadata text DEFAULT 'none'
) RETURNS TABLE (key jsonb, score double precision, metadata jsonb)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
BEGIN ATOMIC
    SELECT s.key, s.score, s.metadata
    FROM vecsync.search("similar".name, query_key => "similar".query_key, top_k => "similar".top_k, filter => "similar".filter,
                        min_score => "similar".min_score, namespace => "similar".namespace, exclude => "similar".exclude,
                        return_metadata => "similar".return_metadata) s;
END;
COMMENT ON FUNCTION vecsync.similar IS
'The rows nearest to one of the table''s rows, without itself. Errors: P0002 no such row, 55000 it has no vector yet, and those of vecsync.search.';

CREATE FUNCTION vecsync.recommend(
    name text,
    positive jsonb[],
    negative jsonb[] DEFAULT '{}',
    top_k integer DEFAULT 10,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    exclude jsonb[] DEFAULT NULL,
    recency double precision DEFAULT 1,
    fallback text DEFAULT NULL,
    return_metadata text DEFAULT 'none'
) RETURNS TABLE (key jsonb, score double precision, metadata jsonb)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
AS $function$
#variable_conflict use_variable
DECLARE
    unit boolean := (vecsync._metric(name)).metric OPERATOR(pg_catalog.=) 'cosine';
    reach double precision := 'Infinity';
    liked record;
    disliked record;
    v record;
BEGIN
    IF recency IS NULL OR NOT (recency OPERATOR(pg_catalog.>) 0 AND recency OPERATOR(pg_catalog.<=) 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'recency must be above 0 and at most 1',
            HINT = 'It is the weight of each key of positive relative to the one before it.';
    END IF;
    IF recency OPERATOR(pg_catalog.<) 1 THEN
        -- further down the list weights would be less than any number
        reach := (-300)::double precision OPERATOR(pg_catalog./) pg_catalog.log(recency);
    END IF;
    SELECT vecsync._weighted_mean(pg_catalog.array_agg(x.v ORDER BY x.n), pg_catalog.array_agg(x.w OPERATOR(pg_catalog./) x.total ORDER BY x.n), unit) AS mean,
           pg_catalog.array_agg(x.v) AS vectors, pg_catalog.array_agg(x.w OPERATOR(pg_catalog./) x.total) AS weights
    INTO liked
    FROM (SELECT y.*, pg_catalog.sum(y.w) OVER () AS total
          FROM (SELECT p.n, p.v, pg_catalog.power(recency, least((p.n OPERATOR(pg_catalog.-) 1)::double precision, reach)) AS w
                FROM vecsync._vectors(name, positive, namespace) p) y) x;
    IF liked.mean IS NULL THEN
        -- a new user: nothing is known, and a vector of zeroes would be near to nothing
        IF fallback IS NOT NULL THEN
            RETURN QUERY SELECT s.key, s.score, s.metadata
                FROM vecsync.search(name, fallback, top_k => top_k, filter => filter, min_score => min_score,
                                    namespace => namespace, exclude => exclude, return_metadata => return_metadata) s;
        END IF;
        RETURN;
    END IF;
    SELECT pg_catalog.array_agg(p.v) AS vectors, pg_catalog.array_agg(1.0::double precision OPERATOR(pg_catalog./) p.total) AS weights
    INTO disliked
    FROM (SELECT d.v, pg_catalog.count(*) OVER () AS total FROM vecsync._vectors(name, negative, namespace) d) p;
    -- as far from the disliked as the liked are, on the other side
    SELECT coalesce(vecsync._weighted_mean(liked.vectors OPERATOR(pg_catalog.||) disliked.vectors,
                        (SELECT pg_catalog.array_agg(w OPERATOR(pg_catalog.*) 2.0::double precision) FROM pg_catalog.unnest(liked.weights) w)
                        OPERATOR(pg_catalog.||)
                        (SELECT pg_catalog.array_agg(OPERATOR(pg_catalog.-) w) FROM pg_catalog.unnest(disliked.weights) w), unit),
                    liked.mean) AS target INTO v;
    IF disliked.vectors IS NULL THEN
        v.target := liked.mean;
    END IF;
    RETURN QUERY SELECT s.key, s.score, s.metadata
        FROM vecsync.search(name, query_vector => v.target, top_k => top_k, filter => filter, min_score => min_score,
                            namespace => namespace, exclude => positive OPERATOR(pg_catalog.||) negative OPERATOR(pg_catalog.||) exclude,
                            return_metadata => return_metadata) s;
END
$function$;
COMMENT ON FUNCTION vecsync.recommend IS
'Rows near to those liked and away from those disliked: the weighted mean of the vectors of positive, moved by its distance from the mean of negative. positive is in order, the latest first; recency is each one''s weight relative to the one before (1: all alike). Keys that are gone are ignored; none of both lists is returned. When nothing is known of positive, fallback is searched for instead, and without one there are no rows. Errors: those of vecsync.search.';

CREATE FUNCTION vecsync.duplicates(name text, threshold double precision DEFAULT 0.95, filter jsonb DEFAULT NULL,
        namespace text DEFAULT NULL)
    RETURNS TABLE (a jsonb, b jsonb, score double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000
BEGIN ATOMIC
    SELECT p.a, p.b, max(p.score)
    FROM vecsync._pairs(duplicates.name, duplicates.threshold, duplicates.filter, duplicates.namespace) p
    GROUP BY p.a, p.b ORDER BY 3 DESC, 1, 2;
END;
COMMENT ON FUNCTION vecsync.duplicates IS
'Pairs of rows whose score is at least the threshold, each once, nearest first. Few rows are compared with each other; of many each is searched for by the index, and then of a row at most 10,000 duplicates are looked at. Of a chunked vectorizer the best of all pairs of chunks counts: rows that have a piece in common.';

CREATE FUNCTION vecsync.clusters(name text, threshold double precision DEFAULT 0.8, filter jsonb DEFAULT NULL,
        namespace text DEFAULT NULL)
    RETURNS TABLE (cluster integer, key jsonb, score double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000
BEGIN ATOMIC
    SELECT c.cluster, c.key, max(c.score)
    FROM vecsync._clusters(clusters.name, clusters.threshold, clusters.filter, clusters.namespace) c
    GROUP BY c.cluster, c.key ORDER BY 1, 3 DESC, 2;
END;
COMMENT ON FUNCTION vecsync.clusters IS
'Every row in one cluster: in the order of keys, a row that is in none leads a new one, of all rows in none whose score against it is at least the threshold; score is that against the leader, and 1 for the leader itself. Of a chunked vectorizer the best of all pairs of chunks counts.';

CREATE FUNCTION vecsync.similarity_matrix(name text, keys jsonb[], namespace text DEFAULT NULL)
    RETURNS TABLE (a jsonb, b jsonb, score double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 100
BEGIN ATOMIC
    WITH v AS MATERIALIZED (SELECT * FROM vecsync._vectors(similarity_matrix.name, similarity_matrix.keys, similarity_matrix.namespace))
    SELECT x.key, y.key,
           CASE (vecsync._metric(similarity_matrix.name)).metric
               WHEN 'cosine' THEN vecsync.similarity(x.v, y.v)
               WHEN 'ip' THEN inner_product(x.v, y.v)
               WHEN 'l1' THEN 1 / (1 + l1_distance(x.v, y.v))
               ELSE 1 / (1 + l2_distance(x.v, y.v)) END
    FROM v x, v y ORDER BY x.n, y.n;
END;
COMMENT ON FUNCTION vecsync.similarity_matrix IS
'The scores of rows against each other, in the order of the keys; keys without a row or vector are left out.';

CREATE FUNCTION vecsync.classify(name text, key jsonb, labels text[], namespace text DEFAULT NULL)
    RETURNS TABLE (label text, score double precision)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
AS $function$
#variable_conflict use_variable
DECLARE
    of record := vecsync._metric(name);
    found record;
BEGIN
    SELECT x.v INTO found FROM vecsync._vectors(name, ARRAY[key], namespace) x;
    IF found.v IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found',
            MESSAGE = pg_catalog.format('row %s of vectorizer "%s" not found, or without a vector', key, name);
    END IF;
    RETURN QUERY
        SELECT l.label, vecsync.similarity(found.v, l.v) AS s
        FROM (SELECT u.label, u.v FROM ROWS FROM (pg_catalog.unnest(labels), pg_catalog.unnest(vecsync.embed(of.model, labels))) AS u (label, v)) l
        ORDER BY s DESC NULLS LAST, l.label;
END
$function$;
COMMENT ON FUNCTION vecsync.classify IS
'Labels by how near their meaning is to a row: the cosine of the row''s vector and each label''s, best first. The labels'' vectors are kept in the query cache. Errors: P0002 no such row.';

CREATE FUNCTION vecsync.context(
    name text,
    query text,
    max_chars integer DEFAULT 4000,
    top_k integer DEFAULT 20,
    filter jsonb DEFAULT NULL,
    min_score double precision DEFAULT NULL,
    namespace text DEFAULT NULL,
    mode text DEFAULT 'vector',
    separator text DEFAULT E'\n\n'
) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    result text := '';
    r record;
    room integer;
BEGIN
    IF max_chars IS NULL OR max_chars < 10 OR max_chars > 10000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'max_chars must be between 10 and 10,000,000';
    END IF;
    FOR r IN SELECT s.snippet FROM vecsync.search(name, query, top_k => top_k, filter => filter, min_score => min_score,
                     namespace => namespace, mode => mode, snippet_length => max_chars - 6) s LOOP
        room := max_chars - length(result) - CASE WHEN result = '' THEN 0 ELSE coalesce(length(separator), 0) END;
        IF length(r.snippet) <= room THEN
            result := concat(result, CASE WHEN result = '' THEN '' ELSE separator END, r.snippet);
        END IF;
    END LOOP;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION vecsync.context IS
'The texts of the nearest rows, joined, best first: as many whole ones of the first top_k as fit into max_chars; one that is longer than that by itself is cut around the words of the query. What a prompt needs; empty when nothing is found.';

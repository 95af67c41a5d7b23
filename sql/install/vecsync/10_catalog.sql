-- ---------------------------------------------------------------------------
-- Catalog: models, secrets, vectorizers.  Written by the functions below as the extension's owner.
-- No foreign keys among the tables that are dumped: pg_restore -j loads them in any order.
-- ---------------------------------------------------------------------------

CREATE TABLE vecsync.model (
    name text PRIMARY KEY CHECK (name <> ''),
    kind text NOT NULL CHECK (kind IN ('embedding', 'rerank', 'chat')),
    provider text NOT NULL,
    url text NOT NULL,
    private_addresses boolean NOT NULL,
    model text NOT NULL,
    dimensions integer CHECK (dimensions BETWEEN 1 AND 16000),
    secret text,
    parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object'),
    document_parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(document_parameters) = 'object'),
    query_parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(query_parameters) = 'object'),
    max_batch integer NOT NULL CHECK (max_batch BETWEEN 1 AND 4096),
    max_batch_bytes integer NOT NULL CHECK (max_batch_bytes BETWEEN 1 AND 67108864),
    max_inflight integer NOT NULL CHECK (max_inflight BETWEEN 1 AND 256),
    rate_limit integer CHECK (rate_limit > 0),
    timeout interval NOT NULL CHECK (timeout > interval '0' AND timeout <= interval '1 hour'),
    created_at timestamptz NOT NULL DEFAULT now(),
    token_limit integer CHECK (token_limit > 0),
    owner regrole NOT NULL,
    users regrole[] NOT NULL DEFAULT '{-}'
);
COMMENT ON TABLE vecsync.model IS 'services that embed, rerank or chat; see vecsync.create_model';
COMMENT ON COLUMN vecsync.model.private_addresses IS 'whether the URL may lead to loopback, link-local or private addresses: who registered it was a superuser, or vecsync.allowed_urls lists it';
COMMENT ON COLUMN vecsync.model.owner IS 'who registered the URL, or changed it or the secret last';
COMMENT ON COLUMN vecsync.model.users IS 'who may use the model beside its owner; - is everyone; see vecsync.grant_model';
COMMENT ON COLUMN vecsync.model.secret IS 'where the key is: a name in vecsync.secret, env:VARIABLE or file:PATH; never the key itself';

CREATE TABLE vecsync.secret (
    name text PRIMARY KEY CHECK (name <> ''),
    value text NOT NULL,
    owner regrole NOT NULL,
    urls text[]
);
COMMENT ON TABLE vecsync.secret IS 'keys of services; nobody may read it and pg_dump leaves it out; see vecsync.set_secret';
COMMENT ON COLUMN vecsync.secret.urls IS 'prefixes of the URLs it may be sent to; NULL: those of models of its owner and of superusers';
REVOKE ALL ON vecsync.secret FROM PUBLIC;

CREATE TABLE vecsync.vectorizer (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    source regclass NOT NULL,
    model text NOT NULL,            -- locked while one is made: see vectorizer_register
    content text NOT NULL,
    content_view regclass NOT NULL,
    chunking jsonb,
    chunk_table regclass,
    metric text NOT NULL CHECK (metric IN ('cosine', 'l2', 'ip', 'l1')),
    search_view regclass,
    text_config text,               -- a regconfig as text: that type in a table would stop pg_upgrade
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    generation integer NOT NULL DEFAULT 1,
    successor_of integer UNIQUE,    -- pg_dump warns of a table that refers to itself
    cutover text CHECK (cutover IN ('auto', 'manual')),
    pending_index jsonb,
    retired xid8
);
COMMENT ON TABLE vecsync.vectorizer IS 'tables whose rows are embedded and kept in step; see vecsync.create_vectorizer';
COMMENT ON COLUMN vecsync.vectorizer.successor_of IS 'of a generation that is being made: the vectorizer whose name it will take; see vecsync.alter_vectorizer';
COMMENT ON COLUMN vecsync.vectorizer.cutover IS 'when it takes it: auto, as soon as nothing is missing, or manual, by vecsync.cutover';
COMMENT ON COLUMN vecsync.vectorizer.pending_index IS 'the index to make once its rows are there';
COMMENT ON COLUMN vecsync.vectorizer.retired IS 'the transaction that put the next generation into its place; its vectors go when nobody can see what was before';
COMMENT ON COLUMN vecsync.vectorizer.search_view IS 'view of the namespace and of the words for text search, where there are such; searches use its expressions';
COMMENT ON COLUMN vecsync.vectorizer.content_view IS 'view of the table''s keys, the text to embed and the vector; the table and the columns it uses cannot be dropped without CASCADE';

COMMENT ON COLUMN vecsync.vectorizer.chunk_table IS 'table of the chunks and their vectors; NULL when the vectors live in a column of the source';

-- ---------------------------------------------------------------------------
-- Durable queue.  Written by the capture triggers inside the user's transaction, append-only; read and
-- emptied by the worker.  One entry holds many keys: the key columns' texts, row after row, in the order of
-- the primary key.  No index: one is as dear to a writer as the row.
-- ---------------------------------------------------------------------------

CREATE SEQUENCE vecsync.queue_seq AS bigint;
CREATE TABLE vecsync.queue (
    seq bigint NOT NULL,
    vectorizer integer NOT NULL,
    op "char" NOT NULL,             -- k: keys to look at, f: to embed whatever their digests say, s: scan of the table from a key on, a: the same as f, t: truncated
    rows integer NOT NULL,          -- how many rows the entry stands for; -1 = not counted yet (s)
    keys text[] NOT NULL,
    queued_at timestamptz NOT NULL
);
ALTER SEQUENCE vecsync.queue_seq OWNED BY vecsync.queue.seq;
-- UPDATE and DELETE need one where all tables are published
ALTER TABLE vecsync.queue REPLICA IDENTITY FULL;
ALTER TABLE vecsync.queue SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE vecsync.queue IS 'changes that are committed and not yet embedded';

CREATE TABLE vecsync.dead_letter (
    vectorizer integer NOT NULL,    -- goes with it: see _drop_digests
    key text[] NOT NULL,
    operation text NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vectorizer, key)
);
COMMENT ON TABLE vecsync.dead_letter IS 'rows that could not be embedded; read it through vecsync.failed';

SELECT pg_catalog.pg_extension_config_dump('vecsync.model', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.vectorizer', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.vectorizer_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.queue', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.queue_seq', '');
SELECT pg_catalog.pg_extension_config_dump('vecsync.dead_letter', '');

-- The worker and the sessions' caches follow the catalog.
CREATE FUNCTION vecsync._config_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'catalog_config_changed';
REVOKE ALL ON FUNCTION vecsync._config_changed() FROM PUBLIC;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vecsync.model
    FOR EACH STATEMENT EXECUTE FUNCTION vecsync._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vecsync.secret
    FOR EACH STATEMENT EXECUTE FUNCTION vecsync._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vecsync.vectorizer
    FOR EACH STATEMENT EXECUTE FUNCTION vecsync._config_changed();


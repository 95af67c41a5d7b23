-- What the extension offers, to whom, and how its definitions behave.  No service is asked.
\set SHOW_CONTEXT never
CREATE EXTENSION vecsync CASCADE;

-- no type that would stop pg_upgrade
SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'vecsync'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    AND format_type(a.atttypid, NULL) ~ '^reg(collation|config|dictionary|namespace|oper|operator|proc|procedure)';
-- every public function has a comment; the names that begin with _ are not public
SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'vecsync' AND p.proname NOT LIKE '\_%' AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'vecsync' AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
-- administrators only
SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'vecsync' AND p.proname NOT LIKE '\_%' AND NOT has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY 1;
-- no function that runs as its owner trusts the caller's search_path
SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'vecsync' AND p.prosecdef AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%');

SELECT vecsync.create_model('m', url => 'HTTP://Example.COM:80/v1/embeddings', model => 'none', dimensions => 4);
SELECT name, kind, provider, url, model, dimensions, max_batch, max_inflight, timeout FROM vecsync.model;
SELECT vecsync.create_model('m', url => 'http://example.com/', model => 'none', if_not_exists => true);
SELECT vecsync.alter_model('m', '{"max_batch": 16, "timeout": "5s", "rate_limit": 60}');
SELECT max_batch, timeout, rate_limit FROM vecsync.model;
SELECT vecsync.alter_model('m', '{"max_batch": 0}');

CREATE TABLE doc (id int, "Part" text, title text, body text, PRIMARY KEY (id, "Part"));
SELECT expression, columns FROM vecsync._compile_content('doc', 'title');
SELECT expression, columns FROM vecsync._compile_content('doc', '{title}: {{{body}}} it''s {Part}{title}');
SELECT expression, columns FROM vecsync._compile_content('doc', '=upper(doc.title) || coalesce(body, '''')');
SELECT columns FROM vecsync._compile_content('doc', '=doc::text');
SELECT vecsync.create_vectorizer('doc', 'm', '{title}: {body}', enqueue_existing => false);
SELECT vecsync.pause('doc');
SELECT vecsync.create_vectorizer('doc', 'm', '{title}: {body}', if_not_exists => true);
SELECT vecsync.create_vectorizer('doc', 'm', '{title}: {body}');
SELECT name, source, model, content, content_view, metric, paused FROM vecsync.vectorizer;
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'doc'::regclass AND NOT tgisinternal ORDER BY tgname;
INSERT INTO doc VALUES (1, 'a', 'T', NULL), (2, 'b{c,"', '{title}', 'B');
TABLE vecsync_1_content_doc;
SELECT op, rows, keys FROM vecsync.queue ORDER BY seq;

-- what is used cannot be dropped, what is not can; renames are followed
ALTER TABLE doc DROP COLUMN body;
ALTER TABLE doc DROP COLUMN embedding;
DROP TABLE doc;
SELECT vecsync.drop_model('m');
ALTER TABLE doc ADD COLUMN extra int DEFAULT 1;
ALTER TABLE doc DROP COLUMN extra;
ALTER TABLE doc RENAME COLUMN embedding TO vec;
ALTER TABLE doc RENAME TO docs;
SELECT source, vecsync._target_column(content_view) FROM vecsync.vectorizer;

-- the owner's rights
CREATE ROLE regress_vecsync_owner;
CREATE ROLE regress_vecsync_other;
GRANT SELECT ON docs TO regress_vecsync_other;
ALTER TABLE docs OWNER TO regress_vecsync_owner;
GRANT CREATE ON SCHEMA public TO regress_vecsync_owner;
SET ROLE regress_vecsync_other;
SELECT vecsync.pause('doc');
SELECT vecsync.drop_vectorizer('doc');
SELECT vecsync.resync('doc');
SELECT count(*) FROM vecsync.status;
SELECT count(*) FROM vecsync.failed;
TABLE vecsync.queue;
TABLE vecsync.secret;
SELECT url FROM vecsync.model;
SELECT key, score FROM vecsync.search('doc', query_vector => '[1,2,3,4]');
SET ROLE regress_vecsync_owner;
SELECT vectorizer, state, pending FROM vecsync.status;
CREATE TABLE mine (id int PRIMARY KEY, body text);
SELECT vecsync.create_vectorizer('mine', 'm', 'body', enqueue_existing => false);
SELECT vecsync.pause('mine');
INSERT INTO mine VALUES (1, 'x');
SELECT vecsync.drop_vectorizer('mine', keep_data => false);
\d mine
RESET ROLE;
DROP TABLE docs CASCADE;
SELECT name FROM vecsync.vectorizer;
SELECT count(*) FROM vecsync.queue;
SELECT vecsync.drop_model('m');
DROP EXTENSION vecsync;
DROP TABLE mine;
REVOKE CREATE ON SCHEMA public FROM regress_vecsync_owner;
DROP ROLE regress_vecsync_owner, regress_vecsync_other;
DROP EXTENSION vector;

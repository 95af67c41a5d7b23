#!/bin/bash
# test/bench/relevance.sh: MRR@10 of vector, text and hybrid search on misspelt, keyword and paraphrased queries, with the real model.
#
#   DATA=/path/to/wordnet-minilm DOCUMENTS=3000 QUERIES=100 SEED=1
#
# The defaults of mode => 'hybrid' were chosen by this table.
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"
data=${DATA:?the folder with texts.tsv} documents=${DOCUMENTS:-3000} queries=${QUERIES:-100} seed=${SEED:-1}

need_server; choose_work; private_pg
venv "$tree/demo/requirements.txt"
[ -n "${NO_BUILD:-}" ] || build_install
cluster relevance "shared_preload_libraries = 'vecsync'" "shared_buffers = 256MB" "fsync = off"
service=
trap '[ -z "$service" ] || kill "$service" 2>/dev/null || true; stop_cluster relevance' EXIT
rm -f "$work/relevance.port"
"$work/venv/bin/python" "$tree/demo/model_server.py" --port 0 --port-file "$work/relevance.port" >"$work/relevance.log" 2>&1 &
service=$!
python3 "$tree/test/bench/relevance.py" "$data" "$documents" "$queries" "$seed" >"$work/relevance_queries.tsv" 3>"$work/relevance_documents.tsv"
while [ ! -s "$work/relevance.port" ]; do sleep 0.2; done
url=http://127.0.0.1:$(head -1 "$work/relevance.port")/v1/embeddings

psql() { "$bin/psql" -Xq -v ON_ERROR_STOP=1 "$@"; }
psql <<SQL
SET client_min_messages = warning;
CREATE EXTENSION vecsync CASCADE;
CREATE EXTENSION pg_trgm;
CREATE TABLE glosses (id integer PRIMARY KEY, lemmas text, gloss text);
\copy glosses FROM '$work/relevance_documents.tsv'
CREATE TABLE queries (kind text, id integer, query text);
\copy queries FROM '$work/relevance_queries.tsv'
SELECT vecsync.create_model('minilm', url => '$url', model => 'all-MiniLM-L6-v2', timeout => '5min');
SELECT vecsync.create_vectorizer('glosses', model => 'minilm', content => '{lemmas}: {gloss}', text_config => 'simple');
SELECT vecsync.wait('glosses', '20min') AS embedded;
\pset format aligned
\pset footer off
CREATE TABLE settings (n serial, name text, mode text, fusion text, weight double precision);
INSERT INTO settings (name, mode, fusion, weight) VALUES ('vector', 'vector', 'rrf', NULL), ('text', 'text', 'rrf', NULL),
	('rrf .5', 'hybrid', 'rrf', 0.5), ('rrf .7', 'hybrid', 'rrf', 0.7), ('weighted .3', 'hybrid', 'weighted', 0.3),
	('weighted .4', 'hybrid', 'weighted', 0.4), ('weighted .5', 'hybrid', 'weighted', 0.5), ('weighted .6', 'hybrid', 'weighted', 0.6),
	('weighted .7', 'hybrid', 'weighted', 0.7), ('weighted .8', 'hybrid', 'weighted', 0.8);
CREATE TABLE found AS
SELECT s.n, s.name, q.kind, coalesce((SELECT 1.0 / r FROM (SELECT row_number() OVER () AS r, key FROM
		vecsync.search('glosses', q.query, mode => s.mode, fusion => s.fusion, vector_weight => s.weight)) f
	WHERE (key->>'id')::integer = q.id), 0) AS rr
FROM queries q CROSS JOIN settings s;
SELECT name AS "MRR@10", round(avg(rr) FILTER (WHERE kind = 'misspelt'), 3) AS misspelt, round(avg(rr) FILTER (WHERE kind = 'keyword'), 3) AS keyword,
	round(avg(rr) FILTER (WHERE kind = 'paraphrase'), 3) AS paraphrase, round(avg(rr), 3) AS "the mix"
FROM found GROUP BY n, name ORDER BY n;
SQL

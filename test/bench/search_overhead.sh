#!/bin/bash
# test/bench/search_overhead.sh: what vecsync.search(text) costs above the bare ORDER BY, when the text's vector is cached.
#
#   ROWS=20000 DIMS=384 SECONDS_EACH=4 ROUNDS=5
#
# One client, one table with an hnsw index, interleaved rounds; prints the median latency of each and the difference, and the
# processor time of the session for each, which other work on the machine changes less.
# Exit status 1 when the difference is more than 0.3 ms.
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"
rows=${ROWS:-20000} dims=${DIMS:-384} each=${SECONDS_EACH:-4} rounds=${ROUNDS:-5}

need_server; choose_work; private_pg
venv "$tree/demo/requirements.txt"
build_install
cluster overhead "shared_preload_libraries = 'vecsync'" "shared_buffers = 512MB" "fsync = off"
service=
trap '[ -z "$service" ] || kill "$service" 2>/dev/null || true; stop_cluster overhead' EXIT
echo "{\"dims\": $dims}" >"$work/overhead.json"
rm -f "$work/overhead.port"
"$work/venv/bin/python" "$tree/test/server/fake_service.py" --port-file "$work/overhead.port" --scenario "$work/overhead.json" --parent $$ >/dev/null 2>&1 &
service=$!
while [ ! -s "$work/overhead.port" ]; do sleep 0.1; done
url=http://127.0.0.1:$(cut -d' ' -f1 "$work/overhead.port")/v1/embeddings

psql() { "$bin/psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }
psql <<SQL
CREATE EXTENSION vecsync CASCADE;
SELECT setseed(0.5);
CREATE TABLE items (id integer PRIMARY KEY, body text, embedding vector($dims));
INSERT INTO items SELECT g, 'body ' || g, (SELECT array_agg(random() - 0.5) FROM generate_series(1, $dims) WHERE g > 0)::vector FROM generate_series(1, $rows) g;
CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops);
VACUUM ANALYZE items;
SELECT vecsync.create_model('m', url => '$url', model => 'fake', dimensions => $dims);
SELECT vecsync.create_vectorizer('items', model => 'm', content => 'body', enqueue_existing => false);
SELECT count(*) FROM vecsync.search('items', 'a question');
SQL
vector=$(psql -c "SELECT vecsync.embed('m', 'a question')")
echo "SELECT id, 1 - (embedding <=> '$vector'::vector) FROM items ORDER BY embedding <=> '$vector'::vector LIMIT 10;" >"$work/overhead_bare.sql"
echo "SELECT key, score FROM vecsync.search('items', 'a question', top_k => 10);" >"$work/overhead_search.sql"
echo "SELECT key, score FROM vecsync.search('items', 'a question', top_k => 10, filter => '{\"id\": {\"\$gt\": 0}}');" >"$work/overhead_filter.sql"

latency() { "$bin/pgbench" -n -M prepared -T "$each" -f "$work/overhead_$1.sql" 2>/dev/null | sed -n 's/^latency average = \([0-9.]*\) ms/\1/p'; }
for kind in bare search filter; do : >"$work/overhead_$kind.out"; done
for ((i = 0; i < rounds; i++)); do
	for kind in bare search filter; do latency $kind >>"$work/overhead_$kind.out"; done
done
# Milliseconds of processor time of one session for each of 3,000 statements, after as many to warm up.
cpu() {
	local clock="SELECT split_part(stat, ' ', 14)::int + split_part(stat, ' ', 15)::int FROM pg_read_file('/proc/self/stat') AS stat;"
	{
		echo "PREPARE q AS $(cat "$work/overhead_$1.sql")"
		echo '\o /dev/null'
		yes 'EXECUTE q;' | head -n 3000
		printf '\\o\n%s\n\\o /dev/null\n' "$clock"
		yes 'EXECUTE q;' | head -n 3000
		printf '\\o\n%s\n' "$clock"
	} | psql | awk -v tick="$(getconf CLK_TCK)" 'NR == 1 { a = $1 } END { print ($1 - a) * 1000 / tick / 3000 }'
}
median() { sort -n "$work/overhead_$1.out" | sed -n "$(((rounds + 1) / 2))p"; }
awk -v b="$(median bare)" -v s="$(median search)" -v f="$(median filter)" -v cb="$(cpu bare)" -v cs="$(cpu search)" -v cf="$(cpu filter)" -v r="$rows" -v d="$dims" 'BEGIN {
	printf "%d rows, %d dimensions, LIMIT 10, hnsw; median latency of one client, processor time of its session\n", r, d
	printf "  bare ORDER BY ... LIMIT        %.3f ms            %.3f ms\n", b, cb
	printf "  search(text), vector cached    %.3f ms  (+%.3f)  %.3f ms  (+%.3f)\n", s, s - b, cs, cs - cb
	printf "  search(text) with a filter     %.3f ms  (+%.3f)  %.3f ms  (+%.3f)\n", f, f - b, cf, cf - cb
	exit (s - b > 0.3) }'

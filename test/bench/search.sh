#!/bin/bash
# test/bench/search.sh: recall, fill and time of vecsync.search under filters of many selectivities, against exact search; duplicates, clusters.
#
#   make bench-search BENCH_DATA=folder [ROWS=10000,30000,100000] [QUERIES=50]
#
# BENCH_DATA holds base.npy and queries.npy.  Exit status 1 when a cell of the matrix has recall below 0.99 or an answer is short.
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"

[ -n "${BENCH_DATA:-}" ] || die "make bench-search needs a dataset: BENCH_DATA=folder (base.npy, queries.npy)"
need_server; choose_work; private_pg
[ -n "${NO_BUILD:-}" ] || build_install
venv "$tree/test/bench/requirements.txt"
trap 'stop_cluster search' EXIT
cluster search "shared_preload_libraries = 'vecsync'" "shared_buffers = 1GB" "maintenance_work_mem = 1GB" "fsync = off" "autovacuum = off"
psql() { "$bin/psql" -Xq -v ON_ERROR_STOP=1 "$@"; }
psql -c 'SET client_min_messages = warning; CREATE EXTENSION vecsync CASCADE' \
	-c "SELECT FROM vecsync.create_model('m', url => 'http://127.0.0.1:9/', model => 'none', dimensions => ${DIMS:-384})"
"$python" "$tree/test/bench/search_matrix.py" "host=$PGHOST port=$PGPORT user=postgres dbname=postgres" "$BENCH_DATA" \
	"${ROWS:-10000,30000,100000}" "${QUERIES:-50}"

#!/bin/bash
# test/bench/types.sh LIBRARY: the types beside another vector extension, exact search and COPY.
#
# LIBRARY is the vector.so of the other extension, built for this server.  In one private cluster the functions of ours
# are looked up along dynamic_library_path, so that sessions differ in the library and in nothing else: the tables, the
# pages in memory and the plans are the same (type_costs.py).  ROUNDS (60) runs of each; ROWS (20000) rows of 384 dimensions
# and half as many of 1536 for searches; COPY_ROWS (100000) rows of 384 for COPY, in COPY_ROUNDS (3).  ONLY=pattern:
# what to compare, as a regular expression over the names.  Server processes must be visible in /proc.
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"
peer=$(realpath "${1:?the vector.so of the peer}")
rows=${ROWS:-20000} copy_rows=${COPY_ROWS:-100000}

need_server
choose_work
private_pg
build_install
venv "$tree/test/bench/requirements.txt"
cluster bench 'shared_buffers = 1GB' 'max_wal_size = 8GB' 'checkpoint_timeout = 30min' 'jit = off' 'autovacuum = off'
files=$(as_pg mktemp -d /tmp/vecsync.XXXXXX)
trap 'rm -rf "$files"; stop_cluster bench' EXIT
mkdir "$files/peer"
cp "$peer" "$files/peer/vector.so"

load() {
	local d n
	psql -qX -c 'CREATE EXTENSION vector'
	for d in 384 1536; do
		n=$((rows * 384 / (d > 384 ? 768 : 384)))
		psql -qX <<-SQL
			CREATE TABLE v$d AS SELECT i AS id, (SELECT array_agg(random() - 0.5) FROM generate_series(1, $d) WHERE i > 0)::vector($d) AS x
				FROM generate_series(1, $n) i;
			CREATE TABLE h$d AS SELECT id, x::halfvec($d) AS x FROM v$d;
			CREATE TABLE b$d AS SELECT id, binary_quantize(x)::bit($d) AS x FROM v$d;
			CREATE TABLE s$d AS SELECT i AS id, (SELECT array_agg(CASE WHEN random() < 0.15 THEN random() ELSE 0 END)
				FROM generate_series(1, $d) WHERE i > 0)::sparsevec($d) AS x FROM generate_series(1, $n) i;
			VACUUM ANALYZE v$d, h$d, b$d, s$d;
		SQL
	done
	# a number of rows is copied over and over: text and binary forms of all are there to be read
	psql -qX -c "CREATE UNLOGGED TABLE copied AS SELECT v384.x FROM v384, generate_series(1, 1 + $copy_rows / $rows) LIMIT $copy_rows" \
		-c "COPY copied TO '$files/text'" -c "COPY copied TO '$files/binary' WITH (FORMAT binary)"
	# as clients write doubles: 16 or 17 digits
	psql -qAtX -c 'SELECT (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384) WHERE i > 0) FROM generate_series(1, 2000) i' |
		tr '{}' '[]' >"$files/some"
	for ((d = 0; d < copy_rows; d += 2000)); do cat "$files/some"; done >"$files/digits"
	psql -qX -c "UPDATE pg_proc SET probin = 'vector' WHERE probin = '\$libdir/vector'"
	chmod -R a+rX "$files"
}

say "Loading"
load
"$python" "$tree/test/bench/type_costs.py" --dsn "host=$sock port=$port user=postgres dbname=postgres" --ours "$("$PG_CONFIG" --pkglibdir)" \
	--peer "$files/peer" --files "$files" --rounds "${ROUNDS:-60}" --copy-rounds "${COPY_ROUNDS:-3}" --only "${ONLY:-}"

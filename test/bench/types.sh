#!/bin/bash
# test/bench/types.sh PEER: the types beside another vector extension, exact search and COPY.
#
# PEER is the connection string of a server on this machine in whose database the other extension can be created.
# Ours runs in a private cluster.  Both are asked in turn, ROUNDS times (9); shown is the least CPU time of the server
# process, which other load on the machine changes least.  ROWS (20000) rows of 384 dimensions and half as many of
# 1536 for searches; COPY_ROWS (100000) rows of 384 for COPY, in three rounds.  ONLY=pattern: what to compare, as a
# regular expression over the names.  Server processes must be visible in /proc.
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"
peer=${1:?connection string of the peer}
rounds=${ROUNDS:-9} rows=${ROWS:-20000} copy_rows=${COPY_ROWS:-100000} repeats=5

need_server
choose_work
private_pg
build_install
cluster bench 'shared_buffers = 1GB' 'max_wal_size = 8GB' 'checkpoint_timeout = 30min' 'jit = off' 'autovacuum = off'
trap 'stop_cluster bench' EXIT
ours="host=$sock port=$port user=postgres dbname=postgres"
files=$(as_pg mktemp -d /tmp/vecsync.XXXXXX)
trap 'rm -rf "$files"; stop_cluster bench' EXIT

# The same data on both: made by ours, copied as text, which both read alike.
load() {
	local d n
	psql -qX "$ours" -c 'CREATE EXTENSION vector'
	for d in 384 1536; do
		n=$((rows * 384 / (d > 384 ? 768 : 384)))
		psql -qX "$ours" <<-SQL
			CREATE TABLE v$d AS SELECT i AS id, (SELECT array_agg(random() - 0.5) FROM generate_series(1, $d) WHERE i > 0)::vector($d) AS x
				FROM generate_series(1, $n) i;
			CREATE TABLE h$d AS SELECT id, x::halfvec($d) AS x FROM v$d;
			CREATE TABLE b$d AS SELECT id, binary_quantize(x)::bit($d) AS x FROM v$d;
			CREATE TABLE s$d AS SELECT i AS id, (SELECT array_agg(CASE WHEN random() < 0.15 THEN random() ELSE 0 END)
				FROM generate_series(1, $d) WHERE i > 0)::sparsevec($d) AS x FROM generate_series(1, $n) i;
			VACUUM ANALYZE v$d, h$d, b$d, s$d;
		SQL
	done
	psql -qX "$peer" -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS vector' \
		-c 'DROP SCHEMA IF EXISTS types_bench CASCADE' -c 'CREATE SCHEMA types_bench'
	for d in 384 1536; do
		for t in "v vector" "h halfvec" "b bit" "s sparsevec"; do
			psql -qX "$peer" -c "CREATE TABLE types_bench.${t% *}$d (id int, x ${t#* }($d))"
			psql -qX "$ours" -c "COPY ${t% *}$d TO STDOUT" | psql -qX "$peer" -c "COPY types_bench.${t% *}$d FROM STDIN"
			psql -qX "$peer" -c "VACUUM ANALYZE types_bench.${t% *}$d"
		done
	done
	# a number of rows is copied over and over: text and binary forms of all are there to be read
	psql -qX "$ours" -c "CREATE UNLOGGED TABLE copied AS SELECT v384.x FROM v384, generate_series(1, 1 + $copy_rows / $rows) LIMIT $copy_rows" \
		-c "COPY copied TO '$files/text'" -c "COPY copied TO '$files/binary' WITH (FORMAT binary)"
	# as clients write doubles: 16 or 17 digits
	psql -qAtX "$ours" -c 'SELECT (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384) WHERE i > 0) FROM generate_series(1, 2000) i' |
		tr '{}' '[]' >"$files/some"
	for ((d = 0; d < copy_rows; d += 2000)); do cat "$files/some"; done >"$files/digits"
	chmod -R a+rX "$files"
	psql -qX "$peer" -c 'SET search_path = types_bench, public' -c 'CREATE UNLOGGED TABLE copied (x vector(384))' -c "COPY copied FROM '$files/binary' WITH (FORMAT binary)"
}

# once DSN STATEMENT: CPU time of the server process in microseconds: the least of "repeats" runs after a first one.
once() {
	local i
	{
		printf '%s\n' 'SELECT pg_backend_pid() AS pid \gset' '\setenv PID :pid' 'SET search_path = types_bench, public;' \
			'SET max_parallel_workers_per_gather = 0;'
		for ((i = 0; i <= repeats; i++)); do printf '%s;\n' "$2" "\\! echo cpu \$(cut -d' ' -f1 /proc/\$PID/schedstat)"; done
	} | sed 's/^\(\\!.*\);$/\1/' | psql -qAtX "$1" | awk '/^cpu / { if (last && (!least || $2 - last < least)) least = $2 - last; last = $2 }
		END { printf "%d\n", least / 1000 }'
}

least() { printf '%s\n' "$@" | sort -n | head -n 1; }

# compare NAME STATEMENT
compare() {
	local a=() b=() i
	[[ $1 =~ ${ONLY:-} ]] || return 0
	for ((i = 0; i < rounds; i++)); do
		a+=("$(once "$ours" "$2")")
		b+=("$(once "$peer" "$2")")
	done
	i=$(least "${a[@]}")
	printf '%-44s %9d %9d  %s\n' "$1" "$i" "$(least "${b[@]}")" "$(echo "scale=2; $(least "${b[@]}") / $i" | bc)"
}

say "Loading"
load
printf '%-44s %9s %9s  %s\n' "microseconds of CPU" ours peer "peer / ours"
for d in 384 1536; do
	for t in "v <=> <-> <#> <+>" "h <=> <-> <#> <+>" "b <~> <%>" "s <=> <-> <#> <+>"; do
		table=${t%% *}$d
		query=$(psql -qAtX "$ours" -c "SELECT quote_literal(x) || '::' || (SELECT format_type(atttypid, atttypmod)
			FROM pg_attribute WHERE attrelid = '$table'::regclass AND attname = 'x') FROM $table WHERE id = 7")
		set -f
		for operator in ${t#* }; do
			compare "scan $table ORDER BY x $operator ..." "SELECT id FROM $table ORDER BY x $operator $query LIMIT 10"
		done
		set +f
	done
done
compare "avg" "SELECT avg(x) FROM v384"
compare "sum" "SELECT sum(x) FROM v384"
rounds=$((rounds < 3 ? rounds : 3)) repeats=1
compare "COPY TO, text" "COPY copied TO '/dev/null'"
compare "COPY TO, binary" "COPY copied TO '/dev/null' WITH (FORMAT binary)"
compare "COPY FROM, text, 8 digits" "TRUNCATE copied; COPY copied FROM '$files/text'"
compare "COPY FROM, text, 17 digits" "TRUNCATE copied; COPY copied FROM '$files/digits'"
compare "COPY FROM, binary" "TRUNCATE copied; COPY copied FROM '$files/binary' WITH (FORMAT binary)"

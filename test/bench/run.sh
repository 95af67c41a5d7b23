#!/bin/bash
# test/bench/run.sh: the hnsw index side by side with pgvector's, in private servers of the same installation.
#
#   make bench BENCH_DATA=folder [PGVECTOR=pgvector-0.8.6.tar.gz]
#
# BENCH_DATA holds base.npy [rows, dimensions], queries.npy and gt.npy (row numbers of each query's exact nearest by cosine,
# nearest first).  PGVECTOR is a source archive; without it only this extension is measured.
#
#   ROWS=20000         only the first rows (the true nearest are then computed again)
#   BENCH=churn        rows replaced by tenths instead (test/bench/churn.py; ROUNDS=10); BENCH=planner: the planner's choice
#                      against every plan's time (test/bench/planner.py; ours alone)
#   QUERIES=1000 ROUNDS=3 INSERTS=500 SHARED_BUFFERS=1GB
#
# With PGVECTOR there follow the types: searches without an index, COPY of 100000 rows (test/bench/types.sh, types.txt).
#
# Cores are kept from halting meanwhile, as root (stay_awake in tools/private.sh); HALT=1 leaves them as they are.
#
# Results: a table on the screen and in tmp/bench/table.md, the curve of recall and speed in tmp/bench/curve.svg.
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"

[ -n "${BENCH_DATA:-}" ] || die "make bench needs a dataset: make bench BENCH_DATA=folder (base.npy, queries.npy, gt.npy; see test/bench/run.sh)"
for f in base queries gt; do [ -r "$BENCH_DATA/$f.npy" ] || die "make bench: no $f.npy in $BENCH_DATA"; done

need_server
choose_work
private_pg
build_install
venv "$tree/test/bench/requirements.txt"
out=$work/bench
rm -rf "$out"
as_pg mkdir -p "$out"
settings=("shared_buffers = ${SHARED_BUFFERS:-1GB}" 'maintenance_work_mem = 2GB' 'max_wal_size = 8GB' 'checkpoint_timeout = 30min'
	'jit = off' 'autovacuum = off' 'min_parallel_table_scan_size = 0')
[ -n "${HALT:-}" ] || stay_awake
started=()
stop_all() { local name; for name in ${started[@]+"${started[@]}"}; do bin=${bins[$name]} stop_cluster "$name" || true; done; }
declare -A bins
trap stop_all EXIT

servers=()
our_pg=$pg our_bin=$bin
if [ -n "${PGVECTOR:-}" ]; then
	say "Building the peer from ${PGVECTOR##*/}"
	rm -rf "$work/peer" "$work/peer-src"
	cp -a "$pg" "$work/peer"
	mkdir "$work/peer-src"
	tar -C "$work/peer-src" --strip-components=1 -xzf "$PGVECTOR"
	peer_bin=$work/peer${bin#"$pg"}
	rm -f "$("$peer_bin/pg_config" --sharedir)"/extension/vector* "$("$peer_bin/pg_config" --pkglibdir)"/vector.so
	make -s -C "$work/peer-src" PG_CONFIG="$peer_bin/pg_config" with_llvm=no install >"$out/peer-build.log" 2>&1 ||
		{ tail -n 20 "$out/peer-build.log" >&2; die "the peer does not build"; }
	bin=$peer_bin pg=$work/peer
	bins[bench_peer]=$bin
	cluster bench_peer "${settings[@]}"
	started+=(bench_peer)
	peer="host=$sock port=$port user=postgres dbname=postgres"
	servers+=(--server "pgvector=host=$sock port=$port user=postgres dbname=postgres" --restart "pgvector=$bin/pg_ctl -D $work/bench_peer")
	bin=$our_bin pg=$our_pg
fi
bins[bench_ours]=$bin
cluster bench_ours "${settings[@]}"
started+=(bench_ours)
servers+=(--server "ours=host=$sock port=$port user=postgres dbname=postgres" --restart "ours=$bin/pg_ctl -D $work/bench_ours")

"$python" "$tree/test/bench/${BENCH:-bench}.py" --data "$BENCH_DATA" --out "$out" --rows "${ROWS:-0}" --queries "${QUERIES:-1000}" \
	--rounds "${ROUNDS:-3}" --inserts "${INSERTS:-500}" "${servers[@]}"
[ -z "${PGVECTOR:-}" ] || env -u ROWS -u ONLY "$tree/test/bench/types.sh" "$("$peer_bin/pg_config" --pkglibdir)/vector.so" | tee "$out/types.txt"

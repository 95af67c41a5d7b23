#!/bin/bash
# test/bench/sync.sh: the figures of the sync, in a private copy of the server's installation.
#
#   ONLY='T1 T2 ...'   some of them (T1 T2 T2d T3 T3b T3c T4 T4b T5 T7 T8 T10)
#   BACKLOG=rows       of T4 (1,000,000)
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"

need_server
choose_work
private_pg
for requirements in "$tree"/demo/requirements.txt "$tree"/test/soak/requirements.txt; do venv "$requirements"; done
build_install
as_pg mkdir -p "$work/bench"
stay_awake
cd "$work/bench"
as_pg env PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 "$python" "$tree/test/bench/sync_bench.py" --bindir "$bin" --folder "$work/bench/sync.$$" \
	${ONLY:+--only "$ONLY"} ${BACKLOG:+--backlog "$BACKLOG"}

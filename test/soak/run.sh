#!/bin/bash
# test/soak/run.sh: a soak in a private copy of the server's installation.
#
#   DURATION=seconds (600)  SEED=n (random)  SESSIONS=n (4)  GENERATIONS=1 (change models and verify, too)
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"

need_server
choose_work
private_pg
for requirements in "$tree"/demo/requirements.txt "$tree"/test/soak/requirements.txt; do venv "$requirements"; done
build_install
as_pg mkdir -p "$work/soak"
cd "$work/soak"
as_pg env PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 "$python" "$tree/test/soak/soak.py" --bindir "$bin" --folder "$work/soak/$(date +%s).$$" \
	--duration "${DURATION:-600}" --sessions "${SESSIONS:-4}" ${SEED:+--seed "$SEED"}

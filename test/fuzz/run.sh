#!/bin/bash
# test/fuzz/run.sh TARGET [SECONDS]: build test/fuzz/TARGET_fuzz.c with clang and run it (60 s); what it finds and
# the corpus it grows are in tmp/fuzz/TARGET.  Exit status 1 when it found something.
set -euo pipefail
. "$(dirname "$0")/../../tools/private.sh"

target=$1 seconds=${2:-60}
need_server
need clang libclang-rt-14-dev
dir=$tree/tmp/fuzz/$target
mkdir -p "$dir/corpus"
sources=()
for f in $(sed -n 's/.*fuzz-frontend: *\([a-z_ ]*\).*/\1/p' "$tree/test/fuzz/${target}_fuzz.c"); do
	sources+=("$tree"/src/*/"$f.c")
done
clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wno-ignored-attributes -DFRONTEND -DUSE_PRIVATE_ENCODING_FUNCS -I"$tree/src" \
	-I"$("$pg_config" --includedir-server)" -o "$dir/fuzz" "$tree/test/fuzz/${target}_fuzz.c" "${sources[@]}" \
	-L"$("$pg_config" --pkglibdir)" -lpgcommon -lpgport -lm
cd "$dir"
if nice "$dir/fuzz" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=1024 -timeout=5 \
	-dict="$tree/test/fuzz/$target.dict" corpus >log 2>&1; then
	tail -n 1 log
else
	tail -n 40 log >&2
	die "fuzz $target: failed; the input is in tmp/fuzz/$target"
fi

#!/bin/bash
# test/run.sh: every test of the tree, in a private copy of the server's installation and private clusters.
#
#   ONLY='regress tap/010'   run only what begins with one of these words
#                            (style, libraries, install, unit, python, regress, isolation, clients, tap)
#   KEEP=1                   keep the clusters of tests that passed
#   PGVECTOR=archive         pgvector's sources, to take over a data directory that it wrote (else the distribution's package)
#
# Logs: tmp/test/.  The closing line reads "N passed, N failed"; exit status 1 when anything failed.
set -uo pipefail
. "$(dirname "$0")/../tools/private.sh"
. "$tree/test/clients/run.sh"

passed=0 failed=0
started=$SECONDS

wanted() {
	local w
	[ -z "${ONLY:-}" ] && return 0
	for w in $ONLY; do
		case $1 in "$w"*) return 0 ;; esac
	done
	return 1
}

# failure LOG: what went wrong first, then the end of the log; a reader may see no more than the first lines.
failure() {
	grep -nE '^not ok|^#  |^# (Failed|Looks|Died|[Tt]imed out)|died|timed out|(ERROR|FATAL|PANIC|error):' "$1" | cut -c1-400 | head -n 15
	echo '...'
	tail -n 40 "$1"
}

# result NAME PASSED FAILED [LOG]
result() {
	passed=$((passed + $2)) failed=$((failed + $3))
	if [ "$3" = 0 ]; then
		printf 'ok      %-52s %5d\n' "$1" "$2"
	else
		printf 'FAILED  %-52s %5d of %d\n' "$1" "$3" $(($2 + $3))
		[ -z "${4:-}" ] || failure "$4" | sed 's/^/    | /'
	fi
}

# tap_result NAME LOG STATUS: count a TAP stream.
tap_result() {
	local good bad
	good=$(grep -c '^ok ' "$2") bad=$(grep -c '^not ok ' "$2")
	[ "$3" = 0 ] || [ "$bad" -gt 0 ] || bad=1
	[ $((good + bad)) -gt 0 ] || bad=1
	result "$1" "$good" "$bad" "$2"
}

check_style() {
	wanted style || return 0
	if "$tree/tools/check_style.py" >"$logs/style.log" 2>&1; then result style 1 0; else result style 0 1 "$logs/style.log"; fi
}

# vector.so must be usable where libcurl is not installed.
check_libraries() {
	wanted libraries || return 0
	if readelf -d "$tree/vector.so" | grep -q 'NEEDED.*curl'; then result libraries 0 1; else result libraries 1 0; fi
}

# "make install" must not overwrite another project's vector extension unless told to.
check_install() {
	local root=$logs/root share good=0
	wanted install || return 0
	share=$root$("$PG_CONFIG" --sharedir)/extension
	mkdir -p "$share"
	echo "comment = 'another vector extension'" >"$share/vector.control"
	if (cd "$tree" && make -s PG_CONFIG="$PG_CONFIG" COPT=-Werror DEBUG_POINTS=1 DESTDIR="$root" install) >"$logs/install.log" 2>&1; then
		echo "installed over another extension" >>"$logs/install.log"
	elif [ "$(ls "$share")" = vector.control ] && grep -q REPLACE_PGVECTOR=1 "$logs/install.log"; then
		good=1
	fi
	(cd "$tree" && make -s PG_CONFIG="$PG_CONFIG" COPT=-Werror DEBUG_POINTS=1 DESTDIR="$root" install REPLACE_PGVECTOR=1) >>"$logs/install.log" 2>&1 &&
		grep -q '^# vecsync:' "$share/vector.control" && [ -e "$share/vecsync.control" ] && good=$((good + 1))
	result install "$good" $((2 - good)) "$logs/install.log"
	rm -rf "$root"
}

# unit_plain_avx512 NAME: the AVX-512 kernels where the processor has AVX2 only, each instruction made of plain ones.
unit_plain_avx512() {
	local log=$logs/$1.avx512.log kernel=$tree/src/kernel
	grep -qsw avx2 /proc/cpuinfo || return 0
	gcc -O2 -Wall -Wextra -Werror -Wno-psabi -mavx2 -mfma -mf16c -mpopcnt '-D__builtin_cpu_supports(feature)=1' \
		-include "$tree/test/unit/avx512_plain.h" -I"$tree/src" -o "$logs/$1.avx512" "$tree/test/unit/$1.c" \
		"$kernel/choose.c" "$kernel"/*_avx512.c $(ls "$kernel"/*.o | grep -v -e choose.o -e _avx512.o) -lm >"$log" 2>&1 &&
		as_pg "$logs/$1.avx512" >>"$log" 2>&1
	tap_result "unit/$1 (avx512 in plain code)" "$log" $?
}

# A unit test names the rooms whose objects it links ("unit-objects: ROOM...") and, where it also runs on
# another processor, "unit-cross: aarch64", or with AVX-512, "unit-plain: avx512".  One that runs code of the
# library without a server names its sources ("unit-frontend: FILE..."); they are compiled with FRONTEND and the
# sanitizers; from 17 on libpgcommon has the encoding functions under their private names.
unit_tests() {
	local source name rooms frontend f libraries
	# the static libraries: with the modules in Debian's packages, in the folder of libpq where PostgreSQL is built from source
	libraries=$("$PG_CONFIG" --libdir)
	libraries=${libraries#"$pg"}
	for source in "$tree"/test/unit/*.c; do
		name=$(basename "$source" .c)
		{ [ -e "$source" ] && wanted "unit/$name"; } || continue
		rooms=$(sed -n 's/.*unit-objects: *\([a-z ]*\).*/\1/p' "$source")
		frontend=()
		for f in $(sed -n 's/.*unit-frontend: *\([a-z_ ]*\).*/\1/p' "$source"); do
			frontend+=("$tree"/src/*/"$f.c")
		done
		[ ${#frontend[@]} = 0 ] || frontend=(-DFRONTEND -DUSE_PRIVATE_ENCODING_FUNCS -fsanitize=address,undefined -fno-sanitize-recover=all
			-I"$("$PG_CONFIG" --includedir-server)" "${frontend[@]}" -L"$("$PG_CONFIG" --pkglibdir)" -L"$libraries" -lpgcommon -lpgport)
		gcc -O2 -g -Wall -Wextra -Werror -I"$tree/src" -o "$logs/$name" "$source" ${frontend[@]+"${frontend[@]}"} \
			$(for r in $rooms; do ls "$tree/src/$r"/*.o; done) -lm >"$logs/$name.log" 2>&1 &&
			as_pg env ASAN_OPTIONS=detect_leaks=0 "$logs/$name" >>"$logs/$name.log" 2>&1
		tap_result "unit/$name" "$logs/$name.log" $?
		grep -q 'unit-plain: avx512' "$source" && unit_plain_avx512 "$name"
		grep -q 'unit-cross: aarch64' "$source" || continue
		aarch64-linux-gnu-gcc -O2 -static -I"$tree/src" -o "$logs/$name.aarch64" "$source" \
			$(for r in $rooms; do ls "$tree/src/$r"/*.c; done) -lm >"$logs/$name.aarch64.log" 2>&1 &&
			as_pg qemu-aarch64 "$logs/$name.aarch64" >>"$logs/$name.aarch64.log" 2>&1
		tap_result "unit/$name (aarch64)" "$logs/$name.aarch64.log" $?
	done
}

# regress SUITE PROGRAM INPUTDIR TEST...
regress() {
	local suite=$1 program=$2 input=$3 out good bad; shift 3
	[ $# -gt 0 ] || return 0
	out=$logs/$suite
	as_pg mkdir -p "$out"
	as_pg env PATH="$bin:$PATH" "$pgxs_dir/src/test/$program" --temp-instance="$out/instance" --temp-config="$logs/regress.conf" \
		--bindir="$bin" --inputdir="$input" --outputdir="$out" --encoding=UTF8 --no-locale "$@" >"$out.log" 2>&1
	# "test NAME ... ok" up to 15, "ok N - NAME" since 16
	good=$(grep -cE '^(test .*\.\.\. ok|ok )' "$out.log") bad=$(grep -cE '^(test .*\.\.\. FAILED|not ok )' "$out.log")
	[ $((good + bad)) = $# ] || bad=$((bad + 1))
	[ ! -s "$out/regression.diffs" ] || cat "$out/regression.diffs" >>"$out.log"
	result "$suite" "$good" "$bad" "$out.log"
	[ "$bad" != 0 ] || [ -n "${KEEP:-}" ] || rm -rf "$out/instance"
}

regress_tests() {
	local names=() f
	for f in "$tree"/sql/*.sql; do
		[ -e "$f" ] && wanted "regress/$(basename "$f" .sql)" && names+=("$(basename "$f" .sql)")
	done
	regress regress regress/pg_regress "$tree" ${names[@]+"${names[@]}"}
	names=()
	for f in "$tree"/test/isolation/specs/*.spec; do
		[ -e "$f" ] && wanted "isolation/$(basename "$f" .spec)" && names+=("$(basename "$f" .spec)")
	done
	regress isolation isolation/pg_isolation_regress "$tree/test/isolation" ${names[@]+"${names[@]}"}
}

# tap/040_takeover takes a data directory of pgvector's over: a second copy of the installation, with pgvector in it,
# from the source archive PGVECTOR or from the distribution's package.  Without either "peer" stays empty.
peer_installation() {
	local version package folder share library
	peer=
	wanted tap/040_takeover || return 0
	version=$("$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
	package=postgresql-$version-pgvector
	folder=$work/takeover
	# where the server looks for extensions, below either root
	share=$("$PG_CONFIG" --sharedir) library=$("$PG_CONFIG" --pkglibdir)
	share=${share#"$pg"}/extension library=${library#"$pg"}
	rm -rf "$folder" && mkdir -p "$folder/files"
	[ "$(id -u)" != 0 ] || chown -R postgres "$folder"
	if [ -n "${PGVECTOR:-}" ]; then
		mkdir "$folder/source"
		tar -C "$folder/source" --strip-components=1 -xzf "$PGVECTOR" &&
			make -s -C "$folder/source" PG_CONFIG="$PG_CONFIG" OPTFLAGS= with_llvm=no DESTDIR="$folder/files" install >"$folder/log" 2>&1 ||
			{ tail -n 20 "$folder/log"; say "skipped in tap/040_takeover: $PGVECTOR does not build"; return 0; }
		cp -a "$folder/files$pg/." "$folder/files/"
	else
		(cd "$folder" && timeout 60 apt-get download -q "$package" >"$folder/log" 2>&1 && dpkg -x ./*.deb files) 2>/dev/null ||
			{ say "skipped in tap/040_takeover: a data directory of pgvector's (pass PGVECTOR=archive; there is no package $package)"; return 0; }
	fi
	# older ones lack the types that the database has, and a path of updates
	version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$folder/files$share/vector.control")
	[ "$(printf '%s\n' 0.7.0 "$version" | sort -V | head -n 1)" = 0.7.0 ] ||
		{ say "skipped in tap/040_takeover: a data directory of pgvector's (it is $version here; pass PGVECTOR=archive of 0.7.0 or later)"; return 0; }
	cp -a "$pg" "$folder/pg"
	rm -f "$folder/pg$share"/vector[-.]* "$folder/pg$library/vector.so"
	cp "$folder/files$share"/vector[-.]* "$folder/pg$share/" && cp "$folder/files$library/vector.so" "$folder/pg$library/" || return 0
	chmod -R a+rX "$folder"
	[ "$(id -u)" != 0 ] || chown -R postgres "$folder/pg"
	peer=$folder/pg$(dirname "${bin#"$pg"}")
}

# One TAP file: run by xargs, so that two of them share the machine.
one_tap() {
	local name
	name=$(basename "$1" .pl)
	as_pg mkdir -p "$logs/tap/$name"
	(cd "$logs/tap/$name" && as_pg env PATH="$bin:$PATH" PERL5LIB="$pgxs_dir/src/test/perl:$tree/test/t/lib" \
		PG_REGRESS="$pgxs_dir/src/test/regress/pg_regress" TESTDIR="$logs/tap/$name" TESTDATADIR="$logs/tap/$name/data" \
		TESTLOGDIR="$logs/tap/$name/log" VECSYNC_PYTHON="$python" VECSYNC_TREE="$tree" VECSYNC_PEER="$peer" LC_ALL=C.UTF-8 \
		timeout 1800 perl "$1" >"$logs/tap/$name.log" 2>&1)
	echo $? >"$logs/tap/$name.status"
}

tap_tests() {
	local f list=() name status
	for f in "$tree"/test/t/*.pl; do
		[ -e "$f" ] && wanted "tap/$(basename "$f" .pl)" && list+=("$f")
	done
	[ ${#list[@]} -gt 0 ] || return 0
	mkdir -p "$logs/tap"
	[ "$(id -u)" != 0 ] || chown postgres "$logs/tap"
	export -f one_tap as_pg
	peer_installation
	export logs bin pgxs_dir tree python peer
	printf '%s\0' "${list[@]}" | xargs -0 -n1 -P2 bash -c 'one_tap "$0"'
	for f in "${list[@]}"; do
		name=$(basename "$f" .pl)
		status=$(cat "$logs/tap/$name.status")
		tap_result "tap/$name" "$logs/tap/$name.log" "$status"
		[ "$status" != 0 ] || [ -n "${KEEP:-}" ] || rm -rf "$logs/tap/$name/data" "$logs/tap/$name/tmp_check"
	done
}

# Tests of the Python services: each prints TAP.
python_tests() {
	local f name
	for f in "$tree"/test/server/test_*.py "$tree"/demo/test_*.py; do
		name=$(basename "$f" .py)
		{ [ -e "$f" ] && wanted "python/$name"; } || continue
		(cd "$logs" && as_pg env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$tree/test/server:$tree/demo" "$python" "$f") >"$logs/$name.log" 2>&1
		tap_result "python/$name" "$logs/$name.log" $?
	done
}

need_server
# The server user has to read the tests: a tree that it cannot enter is tested from a copy.
if [ "$(id -u)" = 0 ] && ! as_pg test -r "$tree/test/run.sh" 2>/dev/null; then
	copy=/tmp/vecsync-$(printf %s "$tree" | cksum | cut -d' ' -f1)/tree
	say "The server user cannot enter $tree: testing a copy in $copy"
	rm -rf "$copy" && mkdir -p "$copy"
	(cd "$tree" && git ls-files -coz --exclude-standard | tar --null -T - -cf -) | tar -C "$copy" -xf -
	chmod -R a+rX "$(dirname "$copy")"
	[ ! -d "$tree/.git" ] || (cd "$copy" && git init -q && git add -A)
	status=0
	(cd "$copy" && "$copy/test/run.sh") || status=$?
	rm -rf "$(dirname "$copy")"
	exit "$status"
fi
need libipc-run-perl binutils libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user openssl
choose_work
private_pg
pgxs_dir=$(dirname "$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")")
logs=$work/test
rm -rf "$logs" && mkdir -p "$logs"
[ "$(id -u)" != 0 ] || chown postgres "$logs"
printf '%s\n' "shared_preload_libraries = 'vecsync'" "fsync = off" "timezone = 'UTC'" "max_prepared_transactions = 5" >"$logs/regress.conf"
for requirements in "$tree"/demo/requirements.txt "$tree"/test/server/requirements.txt "$tree"/test/soak/requirements.txt; do
	[ ! -e "$requirements" ] || venv "$requirements"
done
python=$work/venv/bin/python
build_install COPT=-Werror DEBUG_POINTS=1
cp "$tree"/test/update/*.sql "$("$PG_CONFIG" --sharedir)/extension/"

check_style
check_libraries
check_install
unit_tests
python_tests
regress_tests
client_tests
tap_tests
say "$((SECONDS - started)) s"
say "$passed passed, $failed failed"
[ "$failed" = 0 ]

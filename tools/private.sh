# Shell functions shared by demo/run.sh, test/run.sh and test/bench/run.sh: the packages that are needed, a
# private copy of the PostgreSQL installation, and private clusters in it.  Sourced, not run.
#
# Nothing outside the tree is changed but packages, and those only by root.  Everything made lives in tmp/ of
# the tree: tmp/pg (the installation), tmp/venv (Python), tmp/<cluster>.  When the tree lies where the
# unprivileged server user cannot reach it, a folder under /tmp takes tmp's place, and a line says so.

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$tree/tmp
say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# The user that runs the servers: PostgreSQL refuses to run as root.
as_pg() {
	if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# need PACKAGE... : install what is missing (root), or say what to install (others).
need() {
	local missing=() p
	for p in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} = 0 ] && return
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
		die "Missing packages. Install them first: apt-get install ${missing[*]}"
	say "Installing packages: ${missing[*]}"
	mkdir -p "$tree/tmp"
	# The server package would otherwise create and start a cluster of its own.
	if ! command -v pg_ctlcluster >/dev/null && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		mkdir -p /etc/postgresql-common
		echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$tree/tmp/apt.log" 2>&1 ||
		{ tail -n 15 "$tree/tmp/apt.log" >&2; die "Installing packages failed; the whole log: tmp/apt.log"; }
}

need_server() {
	need gcc make perl postgresql postgresql-server-dev-all libcurl4-openssl-dev python3 python3-venv procps util-linux
	pg_config=${PG_CONFIG:-$(command -v pg_config || true)}
	[ -n "$pg_config" ] && "$pg_config" --pgxs >/dev/null 2>&1 || die "pg_config not found; pass PG_CONFIG=/path/to/pg_config"
}

# Choose the work folder: the tree's tmp/, or a folder of our own when the server user cannot enter the tree.
choose_work() {
	mkdir -p "$tree/tmp"
	if [ "$(id -u)" = 0 ]; then
		chown postgres "$tree/tmp"
		if ! as_pg test -x "$tree" 2>/dev/null || ! as_pg test -w "$tree/tmp"; then
			work=/tmp/vecsync-$(printf %s "$tree" | cksum | cut -d' ' -f1)
			mkdir -p "$work" && chown postgres "$work"
			say "The server user cannot enter $tree: working in $work instead"
		fi
	fi
}

# A copy of the server's installation, so that "make install" and other extensions' files stay untouched.
private_pg() {
	local d real
	# a script that another one calls is given the copy's
	pg_config=${pg_config#"$work/pg"}
	real=$("$pg_config" --bindir)
	pg=$work/pg
	bin=$pg$real
	if [ ! -x "$bin/postgres" ] || [ "$("$real/postgres" --version)" != "$("$bin/postgres" --version)" ]; then
		say "Copying $("$pg_config" --version) to a private installation"
		rm -rf "$pg"
		for d in bindir sharedir pkglibdir includedir-server pkgincludedir includedir; do
			d=$("$pg_config" --$d)
			mkdir -p "$pg$d"
			case $d in
				/usr/include) cp -a /usr/include/postgresql "$pg$d/" 2>/dev/null || true ;;
				*) tar -C "$d" --exclude=./bitcode --exclude=./pgxs/.. -cf - . | tar -C "$pg$d" -xf - ;;
			esac
		done
		rm -f "$pg$("$pg_config" --sharedir)"/extension/{vector,vecsync}[-.]* "$pg$("$pg_config" --pkglibdir)"/{vector,vecsync}.so
	fi
	export PG_CONFIG=$bin/pg_config
	"$PG_CONFIG" --version >/dev/null || die "the private PostgreSQL in $pg does not run"
}

# build_install [make arguments]: build the tree and install into the private copy.
build_install() {
	say "Building"
	(cd "$tree" && make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" "$@" all && make -s PG_CONFIG="$PG_CONFIG" "$@" install) >"$work/build.log" 2>&1 ||
		{ cat "$work/build.log" >&2; die "The build failed"; }
}

# cluster NAME [line of postgresql.conf]... : make and start a fresh private cluster; sets sock and port.
# Sockets live in a short path: the kernel allows them 107 bytes.
cluster() {
	local dir=$work/$1; shift
	sock=$(as_pg mktemp -d /tmp/vecsync.XXXXXX)
	port=5432
	rm -rf "$dir"
	as_pg "$bin/initdb" -D "$dir" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$work/initdb.log" 2>&1 ||
		{ cat "$work/initdb.log" >&2; die "initdb failed"; }
	as_pg tee -a "$dir/postgresql.conf" >/dev/null <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$sock'
		port = $port
		$(printf '%s\n' "$@")
	CONF
	as_pg "$bin/pg_ctl" -D "$dir" -l "$dir/log" -w -t 60 start >/dev/null || { tail -n 20 "$dir/log" >&2; die "the private cluster did not start"; }
	export PGHOST=$sock PGPORT=$port PGUSER=postgres PGDATABASE=postgres
}

stop_cluster() {
	[ -s "$work/$1/postmaster.pid" ] && as_pg "$bin/pg_ctl" -D "$work/$1" -m fast -w stop >/dev/null
	rm -rf "$sock"
}

# venv REQUIREMENTS : Python packages in tmp/venv, installed once for each version of the requirements file.
venv() {
	local req=$1 stamp system
	stamp=$work/venv/$(basename "$req").$(cksum <"$req" | cut -d' ' -f1)
	python=$work/venv/bin/python
	[ -e "$stamp" ] && as_pg test -x "$python" && return
	say "Installing Python packages of ${req#"$tree"/} into ${work#"$tree"/}/venv"
	# The system's own interpreter: the server user may have no access to another one that comes first in PATH.
	system=$(PATH=/usr/bin:/bin:$PATH command -v python3)
	"$system" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or later is needed; $system is $("$system" --version)"
	as_pg test -x "$python" 2>/dev/null || { rm -rf "$work/venv"; "$system" -m venv "$work/venv"; }
	{ "$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps -r "$req"; } >"$work/pip.log" 2>&1 ||
		{ tail -n 5 "$work/pip.log" >&2; die "pip failed; the whole log: $work/pip.log"; }
	chmod -R a+rX "$work/venv"
	touch "$stamp"
}

# stay_awake : for benchmarks.  A core with nothing to do halts, and in a virtual machine takes up to 0.1 ms to come
# back: half a query, or not, as the host likes.  Linux keeps the cores awake for root while this file is open.
stay_awake() {
	if [ -w /dev/cpu_dma_latency ]; then
		exec 9>/dev/cpu_dma_latency
		printf '\0\0\0\0' >&9
	else
		say "Cores may halt between queries: /dev/cpu_dma_latency cannot be written"
	fi
}

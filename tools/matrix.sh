#!/bin/bash
# tools/matrix.sh [VERSION]... : the whole test/run.sh on other major versions of PostgreSQL (16 17 18), one after the other.
#
# Each version runs in a chroot of a distribution that packages it, made on first use and kept in MATRIX (tmp/matrix;
# about 2 GB each).  Needs root, debootstrap and the distributions' archives.  ONLY and KEEP are handed on to
# test/run.sh.  A run has its own mounts and process numbers: nothing outlives it.  Prints the failures and one
# line for each version; the whole output stays in MATRIX/VERSION.log.  Exit status: how many versions failed.
#
#   REVISION=name      test this commit instead of the files as they are
#   PGVECTOR=archive   pgvector's sources, for test/run.sh (the distribution of 16 packages one that is too old)
#   DEBIAN=url         Debian's archive; otherwise the one that apt uses here
#   UBUNTU=url         Ubuntu's archive, needed to make the chroot of 16
set -uo pipefail
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
matrix=${MATRIX:-$tree/tmp/matrix}
debian=${DEBIAN:-$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 2>/dev/null | head -n 1)} ubuntu=${UBUNTU:-}
die() { printf '%s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "tools/matrix.sh makes chroots: run it as root"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
mkdir -p "$matrix"

# inside ROOT COMMAND... : in the chroot, with /proc, /dev and shared memory of its own.
inside() {
	unshare --mount --pid --fork --kill-child bash -c '
		root=$1; shift
		mount --make-rprivate / && mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
		mount -t tmpfs -o mode=1777 shm "$root/dev/shm" &&
		exec chroot "$root" /usr/bin/env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
			DEBIAN_FRONTEND=noninteractive "$@"' inside "$@"
}

# make_root VERSION ROOT
make_root() {
	local version=$1 root=$2 suite archive options=()
	case $version in
	15) suite=bookworm archive=$debian ;;
	16) suite=noble archive=$ubuntu options=(--components=main,universe) ;;
	17) suite=trixie archive=$debian ;;
	18) suite=sid archive=$debian ;;
	*) die "PostgreSQL $version: no distribution known that packages it" ;;
	esac
	[ -n "$archive" ] || die "PostgreSQL $version: pass the archive of $suite's distribution as $([ "$suite" = noble ] && echo UBUNTU || echo DEBIAN)=url"
	# Ubuntu's key is rarely at hand here; its archive is asked over TLS, and apt inside checks signatures.
	[ "$suite" != noble ] || [ -e /usr/share/keyrings/ubuntu-archive-keyring.gpg ] || options+=(--no-check-gpg)
	rm -rf "$root" && mkdir -p "$root"
	debootstrap --variant=minbase ${options[@]+"${options[@]}"} "$suite" "$root" "$archive" \
		"$(ls "/usr/share/debootstrap/scripts/$suite" 2>/dev/null || echo /usr/share/debootstrap/scripts/gutsy)" || return 1
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod +x "$root/usr/sbin/policy-rc.d"
	mkdir -p "$root/etc/postgresql-common" "$root/etc/ssl/certs"
	echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	# this machine's clock may be past a suite's Valid-Until
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99valid-until"
	printf 'path-exclude /usr/share/%s/*\n' doc man locale >"$root/etc/dpkg/dpkg.cfg.d/slim"
	echo force-unsafe-io >>"$root/etc/dpkg/dpkg.cfg.d/slim"
	sed -i 's/https:/http:/' "$root/etc/apt/sources.list"
	inside "$root" apt-get update -q &&
		inside "$root" apt-get install -y -q --no-install-recommends "postgresql-$version" "postgresql-server-dev-$version" \
			libcurl4-openssl-dev gcc make git libc6-dev libipc-run-perl ca-certificates || return 1
	inside "$root" apt-get clean
	touch "$root/.ready"
}

# One compound command, which the shell reads whole: the file may change during a run, which takes long.
{
	failed=0
	[ $# -gt 0 ] || set -- 16 17 18
	for version; do
		root=$matrix/pg$version log=$matrix/$version.log
		# one run at a time in a chroot, whichever tree it is of
		exec 8>"$matrix/$version.lock"
		flock -n 8 || { echo "PostgreSQL $version: waiting for another run"; flock 8; }
		started=$SECONDS
		if [ ! -e "$root/.ready" ]; then
			echo "PostgreSQL $version: making $root"
			(make_root "$version" "$root") >"$log" 2>&1 || { tail -n 15 "$log" >&2; echo "PostgreSQL $version: no chroot"; failed=$((failed + 1)); continue; }
		fi
		# tmp/ stays: the copy of the server and the Python packages serve the next run, too
		copy=$root/srv/vecsync
		mkdir -p "$copy" && find "$copy" -mindepth 1 -maxdepth 1 ! -name tmp -exec rm -rf {} +
		if [ -n "${REVISION:-}" ]; then
			git -C "$tree" archive "$REVISION" | tar -C "$copy" -xf -
		else
			(cd "$tree" && git ls-files -coz --exclude-standard | tar --null -T - -cf -) | tar -C "$copy" -xf -
		fi
		peer=
		[ -z "${PGVECTOR:-}" ] || { mkdir -p "$copy/tmp" && cp "$PGVECTOR" "$copy/tmp/pgvector.tar.gz" && peer=/srv/vecsync/tmp/pgvector.tar.gz; }
		# what this machine trusts, for pip
		cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null
		inside "$root" sh -c 'cd /srv/vecsync && chmod -R a+rX . && git init -q && git add -A' >/dev/null
		if inside "$root" env ONLY="${ONLY:-}" KEEP="${KEEP:-}" PGVECTOR="$peer" PG_CONFIG="/usr/lib/postgresql/$version/bin/pg_config" \
			/srv/vecsync/test/run.sh >"$log" 2>&1; then
			verdict=ok
		else
			verdict=FAILED failed=$((failed + 1))
			grep '^FAILED' "$log" || tail -n 15 "$log"
		fi
		printf '%-7s PostgreSQL %s: %s, %d s (%s)\n' "$verdict" "$version" "$(tail -n 1 "$log")" $((SECONDS - started)) "$log"
	done
	exit "$failed"
}

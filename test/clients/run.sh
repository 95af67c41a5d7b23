# Client libraries of other languages against the extension; sourced by test/run.sh.
#
# A client is a program in the folder of its language: it finds its database and the cases (CASES, made by cases.py)
# in the environment and prints TAP.  After it this file looks at the database: each hnsw index must have been searched.
# Libraries come, in pinned versions, from each language's package registry and are kept in tmp/clients.  Where a
# language's tools are missing or its registry does not answer, one line says so and nothing of it is run;
# CLIENTS=all (make test-clients) installs the tools first, and then a language that cannot run is a failure.

# run_in SECONDS LOG COMMAND... : with a limit, so that a registry that never answers cannot hold up the tests.
run_in() {
	local seconds=$1 log=$2; shift 2
	timeout -k 10 "$seconds" "$@" >"$log" 2>&1
}

# With CLIENTS=all: the tools of those languages that have none here.
client_tools() {
	local packages=()
	command -v node >/dev/null && command -v npm >/dev/null || packages+=(nodejs npm)
	command -v go >/dev/null || packages+=(golang-go)
	command -v javac >/dev/null && command -v mvn >/dev/null || packages+=(default-jdk-headless maven)
	[ ${#packages[@]} = 0 ] || need "${packages[@]}"
}

# Prepare a language: sets "why" and fails where it cannot run.  kept: the folder that later runs use again.
prepare_python() {
	(PIP_DEFAULT_TIMEOUT=20 PIP_RETRIES=1 venv "$tree/test/clients/python/requirements.txt") >"$logs/clients-python.log" 2>&1 && return
	why="pip could not install the packages"
	return 1
}

prepare_node() {
	local stamp
	why="node 18 or later and npm are needed"
	command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null || return
	cp "$tree"/test/clients/node/* "$kept/"
	stamp=$kept/node_modules/.installed.$(cksum <"$kept/package-lock.json" | cut -d' ' -f1)
	[ -e "$stamp" ] && return
	why="npm could not install the packages"
	(cd "$kept" && run_in 180 "$logs/clients-node.log" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
		--fetch-retries=1 --fetch-timeout=20000 --cache="$kept/cache") && touch "$stamp"
}

prepare_go() {
	why="go 1.25 or later is needed"
	command -v go >/dev/null || return
	cp "$tree"/test/clients/go/* "$kept/"
	(cd "$kept" && GOTOOLCHAIN=local go list -m) >"$logs/clients-go.log" 2>&1 || return
	export GOTOOLCHAIN=local GOFLAGS=-modcacherw GOPATH=$kept/path GOCACHE=$kept/cache
	why="go could not fetch the modules"
	(cd "$kept" && run_in 180 "$logs/clients-go.log" go mod download) || return
	why="the programs do not compile"
	(cd "$kept" && run_in 900 "$logs/clients-go.log" go build -o client .)
}

prepare_java() {
	local stamp
	why="a JDK 17 or later and mvn are needed"
	command -v javac >/dev/null && command -v mvn >/dev/null && javac --release 17 --version >/dev/null 2>&1 || return
	cp "$tree"/test/clients/java/* "$kept/"
	stamp=$kept/lib/.installed.$(cksum <"$kept/pom.xml" | cut -d' ' -f1)
	if [ ! -e "$stamp" ]; then
		why="mvn could not fetch the packages"
		rm -rf "$kept/lib"
		(cd "$kept" && run_in 240 "$logs/clients-java.log" mvn -q -B -Dmaven.repo.local="$kept/repository" \
			-Dmaven.wagon.http.retryHandler.count=1 -Daether.connector.connectTimeout=20000 -Daether.connector.requestTimeout=20000 \
			dependency:copy-dependencies -DoutputDirectory=lib) && touch "$stamp" || return
	fi
	why="the programs do not compile"
	(cd "$kept" && rm -rf classes && run_in 120 "$logs/clients-java.log" javac --release 17 -Xlint:all -d classes -cp 'lib/*' ./*.java)
}

# command_LANGUAGE CLIENT
command_python() { "$work/venv/bin/python" "$tree/test/clients/python/test_$1.py"; }
command_node() { (cd "$kept" && node --no-deprecation "$1.mjs"); }
command_go() { "$kept/client" "$1"; }
command_java() { (cd "$kept" && java -cp 'classes:lib/*' "$1"); }

# A cluster that clients reach as they usually do: by TCP and with a password.
client_cluster() {
	local free password
	free=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	cluster client_server 'fsync = off' "listen_addresses = '127.0.0.1'" "port = $free" 'max_connections = 50'
	PGPORT=$free
	printf '%s\n' 'local all all trust' 'host all all 127.0.0.1/32 scram-sha-256' | as_pg tee "$work/client_server/pg_hba.conf" >/dev/null
	"$bin/psql" -qX -c "ALTER USER postgres PASSWORD '$password'" -c 'SELECT pg_reload_conf()' >/dev/null
	export PGPASSWORD=$password PGCONNECT_TIMEOUT=30
}

# one_client LANGUAGE CLIENT
one_client() {
	local language=$1 client=$2 name=clients-$1-$2 status
	local log=$logs/$name.log
	"$bin/psql" -qX -c "CREATE DATABASE \"$name\"" -c "ALTER DATABASE \"$name\" SET enable_seqscan = off" \
		-c "ALTER DATABASE \"$name\" SET hnsw.ef_search = 400" >"$log" 2>&1
	(export PGHOST=127.0.0.1 PGDATABASE=$name PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$tree/test/server CASES=$logs/cases.json
		export -f "command_$language"
		export work tree kept
		timeout -k 10 600 bash -c "command_$language $client") >>"$log" 2>&1
	status=$?
	# statistics of a session that has ended arrive at once from 15 on, but not before the session has ended
	"$bin/psql" -qAtX -d "$name" -v ON_ERROR_STOP=1 >>"$log" 2>&1 <<-'SQL' || status=1
		DO $$ BEGIN
			FOR i IN 1 .. 600 LOOP
				EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid());
				PERFORM pg_sleep(0.1);
				PERFORM pg_stat_clear_snapshot();
			END LOOP;
		END $$;
		SELECT CASE WHEN count(*) >= 11 AND min(pg_stat_get_numscans(c.oid)) > 0 THEN 'ok' ELSE 'not ok' END
			|| ' - each hnsw index was searched: ' || string_agg(c.relname || ' ' || pg_stat_get_numscans(c.oid), ', ' ORDER BY c.relname)
		FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw';
	SQL
	tap_result "clients/$language/$client" "$log" "$status"
}

client_tests() {
	local entry language client why kept started_server=
	[ "${CLIENTS:-}" != all ] || client_tools
	for entry in "python psycopg asyncpg sqlalchemy django" "node pg drizzle typeorm sequelize" "go pgx gorm" "java Jdbc HibernateOrm"; do
		language=${entry%% *}
		for client in ${entry#* }; do
			wanted "clients/$language/$client" && break
			client=
		done
		[ -n "$client" ] || continue
		kept=$work/clients/$language
		mkdir -p "$kept"
		if ! "prepare_$language"; then
			if [ "${CLIENTS:-}" = all ]; then
				result "clients/$language" 0 1 "$logs/clients-$language.log"
				say "        $why"
			else
				say "skipped clients/$language: $why (make test-clients installs tools and insists)"
			fi
			continue
		fi
		if [ -z "$started_server" ]; then
			client_cluster
			started_server=yes
			python3 "$tree/test/clients/cases.py" >"$logs/cases.json"
		fi
		for client in ${entry#* }; do
			wanted "clients/$language/$client" && one_client "$language" "$client"
		done
	done
	[ -z "$started_server" ] || stop_cluster client_server
	unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGCONNECT_TIMEOUT
}

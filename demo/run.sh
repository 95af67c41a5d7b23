#!/bin/bash
# demo/run.sh: from a fresh clone to a table that is searched by meaning and stays true while it changes.
#
#   make demo            run it and stop everything
#   make demo KEEP=1     leave it running to play with
#   demo/run.sh stop     stop what KEEP=1 left running
#
# Everything lives in tmp/ of the tree: a private copy of PostgreSQL, a cluster of its own without a TCP port,
# a Python environment, and the model server on a free port of 127.0.0.1.
set -euo pipefail
. "$(dirname "$0")/../tools/private.sh"

sock='' model_pid='' cluster_made='' kept=''

stop_model() {
	{ [ -n "$model_pid" ] && tr '\0' ' ' <"/proc/$model_pid/cmdline" | grep -q model_server.py; } 2>/dev/null || return 0
	kill "$model_pid" 2>/dev/null || return 0
	for _ in {1..100}; do
		kill -0 "$model_pid" 2>/dev/null || return 0
		sleep 0.05
	done
	kill -KILL "$model_pid" 2>/dev/null || true
}

stop_all() {
	[ -z "$cluster_made" ] || stop_cluster demo || true
	stop_model
	rm -f "$work/demo.running"
}

leave() {
	local status=$?
	trap '' INT TERM HUP
	if [ -z "$kept" ]; then
		[ -z "$cluster_made$model_pid" ] || { stop_all; say "Stopped the server and the model."; }
	fi
	exit "$status"
}

# What an earlier run with KEEP=1 left.
stop_earlier() {
	[ -s "$work/demo.running" ] || return 1
	{ read -r sock; read -r model_pid; read -r bin; } <"$work/demo.running"
	cluster_made=1
	stop_all
	sock='' model_pid='' cluster_made=''
}

step() { printf '\n%s\n' "--- $*"; }

# On a terminal each screenful waits to be read.
pause() {
	[ -t 0 ] && [ -t 1 ] || return 0
	read -r -t 60 -p '[Enter] ' || echo
}

start_model() {
	local i
	# A copy: the server user may not be able to read the tree.
	mkdir -p "$work/model"
	cp "$tree"/demo/{minilm,model_server}.py "$work/model/"
	rm -f "$work/model/port"
	[ "$(id -u)" != 0 ] || chown -R postgres "$work/model"
	local become=()
	[ "$(id -u)" != 0 ] || become=(setpriv --reuid=postgres --regid=postgres --init-groups --)
	(cd "$work/model" && exec setsid ${become[@]+"${become[@]}"} env HOME="$work/model" PYTHONDONTWRITEBYTECODE=1 \
		"$python" model_server.py --port 0 --port-file port </dev/null >log 2>&1) &
	model_pid=$!
	for i in {1..600}; do
		[ ! -s "$work/model/port" ] || break
		kill -0 "$model_pid" 2>/dev/null || { cat "$work/model/log" >&2; die "The model server did not start"; }
		sleep 0.1
	done
	[ -s "$work/model/port" ] || die "The model server is not ready after 60 s; its log: $work/model/log"
	model_port=$(cat "$work/model/port")
	tail -n 1 "$work/model/log"
}

sql() { PGOPTIONS='-c client_min_messages=warning' "$bin/psql" -X -q -v ON_ERROR_STOP=1 -P footer=off -d demo "$@"; }

# tell SQL: show the statement, then what it gives.
tell() {
	local answer
	printf '\n%s\n' "    ${1//$'\n'/$'\n'    }"
	answer=$(sql -P format=wrapped -P columns=110 -c "$1")
	[ -z "$answer" ] || printf '\n%s\n' "$answer"
}

# ask QUESTION: the five nearest albums.
ask() {
	sql -v question="$1" <<-'SQL' | sed '/^$/d'
		SELECT round(s.score::numeric, 3) AS score, a.name, a.artist, a.year, a.genre
		FROM vecsync.search('albums', :'question', top_k => 5) s
		JOIN albums a ON a.id = (s.key->>'id')::int
		ORDER BY s.score DESC
	SQL
}

# changed STATEMENT QUESTION: run it; say after how long its row is found, and show it.
changed() {
	printf '\n    %s\n\n' "$1"
	sql -At -v statement="$1" <<-'SQL'
		:statement;
		SELECT clock_timestamp() AS committed \gset
		SELECT vecsync.wait('albums', '30 s') AS found \gset
		SELECT CASE WHEN :'found' THEN 'Searchable ' || round(1000 * extract(epoch FROM clock_timestamp() - :'committed')) || ' ms after the commit.'
			ELSE 'Not searchable after 30 s.' END;
	SQL
	printf '%s\n\n' "\"$2\":"
	ask "$2"
}

prepare() {
	step "1 of 7: packages, build, a private PostgreSQL and the model (a few minutes the first time, seconds later)"
	need_server
	choose_work
	cd "$work" # the server user can be there
	stop_earlier && say "Stopped the earlier demo" || true
	private_pg
	venv "$tree/demo/requirements.txt"
	build_install
	cluster_made=1
	cluster demo "shared_preload_libraries = 'vecsync'" "log_min_messages = warning"
	start_model
	"$bin/psql" -X -q -d postgres -c 'CREATE DATABASE demo'
}

# watch_status VECTORIZER: its counts in vecsync.status until every row has its vector; a line for each change.
watch_status() {
	local now last='' start rows embedded pending flight failed
	start=$(date +%s%N)
	for _ in {1..6000}; do
		now=$(sql -At -F ' ' -c "SELECT rows, embedded, pending, in_flight, failed FROM vecsync.status WHERE vectorizer = '$1'")
		if [ "$now" != "$last" ]; then
			read -r rows embedded pending flight failed <<<"$now"
			printf '%6d ms: %3d rows, %3d embedded, %3d pending, %3d in flight, %d failed\n' \
				$((($(date +%s%N) - start) / 1000000)) "$rows" "$embedded" "$pending" "$flight" "$failed"
			last=$now
		fi
		[ "$embedded" != "$rows" ] || return 0
		sleep 0.05
	done
	die "The $1 were not embedded in time: $(sql -At -c "SELECT last_error FROM vecsync.status")"
}

embed_albums() {
	step "2 of 7: a table of 50 albums becomes searchable"
	sql -c "CREATE TABLE albums (id int PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, name text, artist text, year int, genre text)" \
		-c "\\copy albums FROM '$tree/demo/albums.csv' CSV HEADER" -c "ALTER TABLE albums ALTER id RESTART 51"
	tell "CREATE EXTENSION vecsync CASCADE;"
	tell "SELECT vecsync.create_model('minilm', url => 'http://127.0.0.1:$model_port/v1/embeddings', model => 'all-MiniLM-L6-v2', max_batch => 32);"
	tell "SELECT vecsync.create_vectorizer('albums', model => 'minilm', content =>
  'type: albums | id: {id} | name: {name} | artist: {artist} | year: {year} | genre: {genre}');"
	echo
	watch_status albums
	pause
}

questions() {
	step "3 of 7: five questions. Each is one statement:"
	cat <<-'SQL'

		    SELECT s.score, a.name, a.artist, a.year, a.genre
		    FROM vecsync.search('albums', 'nirvanna nevermnd', top_k => 5) s
		    JOIN albums a ON a.id = (s.key->>'id')::int ORDER BY s.score DESC;
	SQL
	printf '\n%s\n\n' 'Misspelt: "nirvanna nevermnd"'
	ask 'nirvanna nevermnd'
	printf '\n%s\n\n' 'A city: "grunge from Seattle"'
	ask 'grunge from Seattle'
	pause
	printf '\n%s\n\n' 'A mood: "relaxing background music"'
	ask 'relaxing background music'
	printf '\n%s\n\n' 'A decade: "punk rock of the seventies"'
	ask 'punk rock of the seventies'
	pause
	printf '\n%s\n\n' 'A roundabout one: "songs recorded in a prison"'
	ask 'songs recorded in a prison'
	pause
}

changes() {
	step "4 of 7: the table changes, the answers follow"
	changed "UPDATE albums SET genre = 'South African Pop' WHERE name = 'Graceland'" 'music from South Africa'
	changed "INSERT INTO albums (name, artist, year, genre) VALUES ('Homework', 'Daft Punk', 1997, 'Electronic')" \
		'electronic dance music from the nineties'
	pause
	printf '\n    %s\n\n%s\n\n' "DELETE FROM albums WHERE name = 'Nevermind'" 'Gone from the very next search ("nirvanna nevermnd"):'
	sql -c "DELETE FROM albums WHERE name = 'Nevermind'"
	ask 'nirvanna nevermnd'
	pause
}

# look OPTIONS QUESTION: documents with a snippet.
look() {
	sql -v question="$2" <<-SQL | sed '/^$/d'
		SELECT key->>'name' AS package, round(score::numeric, 3) AS score, translate(snippet, E'\n', ' ') AS snippet
		FROM vecsync.search('packages', :'question', $1, top_k => 3, snippet_length => 90) s
		ORDER BY s.score DESC, key
	SQL
}

documents() {
	step "5 of 7: a second table, of documents: longer texts, cut into pieces, searched by words and by meaning"
	sql -c "CREATE EXTENSION pg_trgm" \
		-c "CREATE TABLE packages (name text PRIMARY KEY, section text, size int, summary text, description text)" \
		-c "\\copy packages FROM '$tree/demo/packages.csv' CSV HEADER"
	tell "SELECT vecsync.create_vectorizer('packages', model => 'minilm', content => '{name}: {summary}. {description}',
  chunking => '{\"method\": \"words\", \"size\": 80, \"overlap\": 10}', text_config => 'english');"
	echo
	watch_status packages
	tell "SELECT count(DISTINCT name) AS packages, count(*) AS chunks, round(avg(length(chunk))) AS characters FROM packages_chunks;"
	pause
}

document_questions() {
	step "6 of 7: hybrid search, filters, snippets. Each is one statement:"
	cat <<-'SQL'

		    SELECT key, score, snippet FROM vecsync.search('packages', 'a programm to look at the nite sky', mode => 'hybrid',
		      top_k => 3, snippet_length => 90);
	SQL
	printf '\n%s\n\n' 'Misspelt, by words and meaning: "a programm to look at the nite sky"'
	look "mode => 'hybrid'" 'a programm to look at the nite sky'
	printf '\n%s\n\n' 'A name that is misspelt: "imagemagik"'
	look "mode => 'hybrid'" 'imagemagik'
	pause
	printf '\n%s\n\n' "With a filter, {\"section\": \"games\"}: \"conquer the ancient world\""
	look "filter => '{\"section\": \"games\"}'" 'conquer the ancient world'
	printf '\n%s\n\n' "Small ones, {\"size\": {\"\$lt\": 3000}}: \"keep an encrypted copy of my files on another machine\""
	look "mode => 'hybrid', filter => '{\"size\": {\"\$lt\": 3000}}'" 'keep an encrypted copy of my files on another machine'
	pause
	tell "SELECT vecsync.context('packages', 'Which tool finds memory errors of C programs?', max_chars => 700) AS \"for a prompt\";"
	tell "SELECT s.key->>'name' AS \"like gimp\", round(score::numeric, 3) AS score FROM vecsync.similar('packages', '\"gimp\"', top_k => 3) s;"
	pause
}

finish() {
	step "7 of 7: where it stands"
	tell "SELECT vectorizer, state, rows, embedded, pending, failed FROM vecsync.status;"
	echo
	[ -n "${KEEP:-}" ] || return 0
	kept=1
	printf '%s\n' "$sock" "$model_pid" "$bin" >"$work/demo.running"
	say "It keeps running. Play with it, and stop it:"
	say "    $bin/psql -h $sock -p $port -U postgres demo"
	say "    demo/run.sh stop"
}

if [ "${1:-}" = stop ]; then
	choose_work
	cd "$work"
	stop_earlier && say "Stopped the server and the model." || say "No demo is running."
	exit 0
fi
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
prepare
embed_albums
questions
changes
documents
document_questions
finish

# The operation log, and what is told of workers and requests: right, to the right people, for the right time.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub as
{
	my ($role, $query) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SET ROLE $role; SET client_min_messages = 'notice'; $query");
	return $status == 0 ? "$out$err" : "ERROR $err";
}

sql(q{CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE watcher IN ROLE pg_monitor; GRANT CREATE ON SCHEMA public TO PUBLIC;
	SET ROLE alice;
	CREATE TABLE docs (region text, id int, body text, PRIMARY KEY (region, id));
	INSERT INTO docs SELECT 'r' || i % 3, i, CASE WHEN i = 13 THEN 'poison' WHEN i = 14 THEN NULL ELSE 'text ' || i END FROM generate_series(1, 300) i});
$service->scenario(dims => 8, rules => [ { when => { text => 'poison' }, status => 400, message => 'not allowed' } ]);
VecsyncNode::vectorizer($node, $service, 'docs', 'body');
ok(VecsyncNode::settle($node, 'docs'), 'worked off');

is(sql(q{SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname LIKE 'vecsync%content%'}), 'alice',
	'what a superuser makes for a table belongs to the table\'s owner');

# ---- what was done --------------------------------------------------------------------
is(sql(q{SELECT operation, status, count(*), count(error), min(attempts) FROM vecsync.operation GROUP BY 1, 2 ORDER BY 1, 2}),
	"delete|success|1|0|1\nupsert|failed|1|1|1\nupsert|success|298|0|1", 'every row once, by what was done to it');
is(sql(q{SELECT key->>'region', key->'id', error ~ 'not allowed' FROM vecsync.operation WHERE status = 'failed'}), 'r1|13|t', 'key and error of a failure');
is(sql(q{SELECT count(*) FROM docs d JOIN vecsync.operation o ON o.key = jsonb_build_object('region', d.region, 'id', d.id)}), '300', 'keys are those of the table');
is(sql(q{SELECT count(DISTINCT id), count(*) FILTER (WHERE finished_at < queued_at), count(*) FILTER (WHERE substr(id::text, 15, 1) <> '7') FROM vecsync.operation}),
	'300|0|0', 'numbers are unique, of version 7, and time goes forward');
is(sql(q{SELECT sum(rows), sum(upserts), sum(deletes), sum(failed), bool_and(b.rows = (SELECT count(*) FROM vecsync.operation o WHERE o.batch = b.id)) FROM vecsync.batch b}),
	'300|298|1|1|t', 'batches add up');
sql(q{DELETE FROM docs WHERE id = 7; UPDATE docs SET body = 'text' WHERE id = 13});
ok(VecsyncNode::settle($node, 'docs'), 'a delete and an update');
is(sql(q{SELECT string_agg(operation || ' ' || (key->>'id') || ' ' || status, ', ' ORDER BY (key->>'id')::int) FROM (SELECT * FROM vecsync.operation ORDER BY id DESC LIMIT 2) s}),
	'delete 7 success, upsert 13 success', 'the newest numbers are the newest operations');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE o.old_hash IS NULL AND o.new_hash = left(encode(sha256(convert_to(d.body, 'UTF8')), 'hex'), 16)) FROM docs d JOIN vecsync.operation o ON o.key = jsonb_build_object('region', d.region, 'id', d.id)
	WHERE d.id NOT IN (7, 13, 14)}), '297|297', 'the hash of a row\'s text; there was none before');
is(sql(q{SELECT DISTINCT ON (key) key->>'id', operation, old_hash = left(encode(sha256('text 7'), 'hex'), 16), old_hash IS NULL, new_hash = left(encode(sha256('text'), 'hex'), 16), new_hash IS NULL FROM vecsync.operation WHERE key->>'id' IN ('7', '13', '14') ORDER BY key, id DESC}),
	"7|delete|t|f||t\n13|upsert||t|t|f\n14|delete||t||t", 'hashes before and after: of a row that went, of one that got its first vector, of one without text');
sql(q{SELECT vecsync.pause('docs'); UPDATE docs SET body = 'waits' WHERE id IN (1, 2)});
is(sql(q{SELECT string_agg(key->>'id', ',' ORDER BY key->>'id') FROM vecsync.operation WHERE status = 'pending'}), '1,2', 'pending changes');
sql(q{SELECT vecsync.resume('docs')});
ok(VecsyncNode::settle($node, 'docs'), 'resumed');

# ---- who sees what -----------------------------------------------------------------------
sql(q{CREATE FUNCTION leak(jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$});
for my $view (qw(operation failed))
{
	is(as('bob', "SELECT count(*) FROM vecsync.$view WHERE leak(key)"), '0', "$view: another role sees nothing, and no function of its own does");
}
is(as('bob', 'SELECT count(*) FROM vecsync.batch'), '0', 'batch: nothing either');
cmp_ok(as('alice', 'SELECT count(*) FROM vecsync.operation'), '>=', 304, 'the owner sees it');
cmp_ok(as('watcher', 'SELECT count(*) FROM vecsync.operation'), '>=', 304, 'pg_monitor sees it');
for my $what ('vecsync.operation_batch', 'vecsync.queue', 'vecsync.dead_letter', 'vecsync.secret', 'vecsync.stats', 'vecsync.workers')
{
	like(as('alice', "SELECT * FROM $what"), qr/^ERROR.*permission denied/s, "$what is not for users");
}

# ---- workers and figures ---------------------------------------------------------------------
is(as('watcher', q{SELECT database, state, pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'), started_at < now(), restarts FROM vecsync.workers WHERE database = 'postgres'}),
	'postgres|running|t|t|0', 'the worker');
is(as('watcher', q{SELECT requests >= 4, answers_ok >= 3, answers_rejected >= 2, answers_ok + answers_rejected <= requests, latency_p50_ms <= latency_p99_ms, rows_embedded >= 300, rows_skipped >= 1, tokens > 0, oldest_pending IS NULL FROM vecsync.stats}),
	't|t|t|t|t|t|t|t|t', 'figures');
$service->scenario(dims => 8, rules => [ { when => { times => 2 }, status => 500 } ]);
sql(q{UPDATE docs SET body = body || '!'});
ok(VecsyncNode::settle($node, 'docs'), 'after errors');
is(as('watcher', 'SELECT answers_retried FROM vecsync.stats'), '2', 'answers by class');
is(sql(q{SELECT max(attempts) > 1 FROM vecsync.operation WHERE status = 'success'}), 't', 'attempts are counted');

# ---- what an owner does to his tables is his own affair -------------------------------------------
sql(q{SET ROLE bob;
	CREATE FUNCTION bob_switch() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN IF EXISTS (SELECT FROM public.bob_trap) THEN RAISE 'bob raises'; END IF; RETURN true; END $$;
	CREATE FUNCTION bob_index(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.bob_switch(); RETURN $1; END $$;
	CREATE TABLE bob_trap (); GRANT SELECT ON bob_trap TO PUBLIC;
	CREATE TABLE forced (id int PRIMARY KEY, body text); INSERT INTO forced SELECT i, 'text ' || i FROM generate_series(1, 5) i;
	CREATE INDEX ON forced (bob_index(1)); CREATE STATISTICS forced_stats ON (bob_index(2)), (bob_index(3)) FROM forced;
	CREATE TABLE renamed (id int PRIMARY KEY, body text); INSERT INTO renamed SELECT i, 'some words of text ' || i FROM generate_series(1, 5) i;
	CREATE TABLE retyped (LIKE renamed INCLUDING INDEXES); INSERT INTO retyped TABLE renamed;
	CREATE TABLE dropped (LIKE renamed INCLUDING INDEXES); INSERT INTO dropped TABLE renamed;
	CREATE TABLE given (LIKE renamed INCLUDING INDEXES); INSERT INTO given TABLE renamed;
	CREATE TABLE parted (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (3);
	CREATE TABLE parted_2 (body text, gone int, id int NOT NULL); ALTER TABLE parted_2 DROP gone; ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (3) TO (9);
	INSERT INTO parted TABLE renamed});
VecsyncNode::vectorizer($node, $service, $_, 'body') for qw(forced parted);
VecsyncNode::vectorizer($node, $service, $_, 'body', q{chunking => '{"size": 2}'}) for qw(renamed retyped dropped given);
ok(VecsyncNode::settle($node, $_), "$_ is worked off") for qw(forced parted renamed retyped dropped given);
my $counts = sub { return as($_[0], q{SET statement_timeout = '60s'; SELECT string_agg(concat_ws(' ', vectorizer, rows, embedded), ', ' ORDER BY vectorizer) FROM vecsync.status WHERE vectorizer <> 'docs'}) };
is($counts->('watcher'), 'dropped 5 5, forced 5 5, given 5 5, parted 5 5, renamed 5 5, retyped 5 5', 'rows, and those with vectors');
sql(q{SELECT vecsync.pause(vectorizer) FROM vecsync.status WHERE vectorizer <> 'docs'});
my %chunks = split /[|\n]/, sql(q{SELECT name, chunk_table FROM vecsync.vectorizer WHERE chunk_table IS NOT NULL});
sql(qq{SET ROLE bob; ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY raises ON forced USING (bob_switch());
	INSERT INTO bob_trap DEFAULT VALUES;
	ALTER TABLE $chunks{renamed} RENAME chunk_seq TO seq_of_chunk; DROP VIEW retyped_chunks; ALTER TABLE $chunks{retyped} ALTER chunk_seq TYPE text;
	ALTER TABLE $chunks{dropped} DROP chunk_seq CASCADE; RESET ROLE; ALTER TABLE $chunks{given} OWNER TO alice; REVOKE ALL ON $chunks{given} FROM PUBLIC});
is($counts->($_), 'dropped 5 0, forced 5 5, given 5 5, parted 5 5, renamed 5 0, retyped 5 0', "whatever is wrong with some is no matter of the others: $_") for qw(watcher bob);
sql(q{TRUNCATE bob_trap; INSERT INTO vecsync.dead_letter (vectorizer, key, operation, attempts, error)
	SELECT id, key, 'upsert', 1, 'made up' FROM vecsync.vectorizer, (VALUES (ARRAY['3']), (ARRAY[repeat('9', 200000)]), (ARRAY['3', 'more']), (ARRAY[]::text[])) k(key) WHERE name = 'forced'});
is(as('watcher', q{SELECT string_agg(left(key::text, 20), ', ' ORDER BY length(key::text), key) FROM vecsync.failed WHERE vectorizer = 'forced'}), '{"id": 3}, {"id": 3}, {"id": null}, {"id": "999999999999', 'keys of whatever form');
sql(q{UPDATE forced SET body = 'waits'});
my $busy = VecsyncNode::session($node);
my @asked = map { "SELECT count(*) > 0 FROM vecsync.$_" } qw(status failed operation batch stats);
for my $change ('ALTER TABLE forced ADD note text', 'REINDEX INDEX forced_pkey', 'LOCK TABLE parted_2', "REINDEX TABLE $chunks{given}")
{
	$busy->query_safe("BEGIN; $change");
	is(as('watcher', "SET statement_timeout = '60s'; $_"), 't', "does not wait for $change: $_") for @asked;
	$busy->query_safe('ROLLBACK');
}
$busy->query_safe(q{SET ROLE bob; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1});
sql(q{DROP TABLE renamed CASCADE});
is($busy->query('SELECT count(*) FROM vecsync.status'), '5', 'nor is a table that another session has dropped the matter of others');
like($busy->query(q{SELECT count(*) FROM vecsync.failed}), qr/^\d+$/, 'or of failed');
$busy->query_safe('ROLLBACK');
$busy->quit;
sql(q{SELECT vecsync.drop_vectorizer(name) FROM vecsync.vectorizer WHERE name <> 'docs'});

# ---- how long it is kept -------------------------------------------------------------------------
VecsyncNode::set($node, 'vecsync.log_retention', '2s');
sql(q{SELECT pg_sleep(2.5); UPDATE docs SET body = 'wakes' WHERE id = 1});
VecsyncNode::settle($node, 'docs');
ok(VecsyncNode::poll($node, q{SELECT count(*) <= 1 FROM vecsync.batch}, 't'), 'what is older than the retention goes');
VecsyncNode::set($node, 'vecsync.log_retention', 0);
sql(q{UPDATE docs SET body = 'unseen'});
VecsyncNode::settle($node, 'docs');
ok(VecsyncNode::poll($node, 'SELECT count(*) FROM vecsync.batch', '0'), '0 logs nothing and forgets what was there');
VecsyncNode::set($node, 'vecsync.log_retention', undef);
sql(q{UPDATE docs SET body = 'seen'});
VecsyncNode::settle($node, 'docs');
is(sql('SELECT sum(upserts) FROM vecsync.batch'), '299', 'logging again');
sql(q{SELECT vecsync.drop_vectorizer('docs')});
is(sql('SELECT count(*) FROM vecsync.operation_batch'), '0', 'the log goes with the vectorizer');

$service->stop;
$node->stop;
done_testing();

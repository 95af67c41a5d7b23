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

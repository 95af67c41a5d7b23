# While a service hangs, nobody else does.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use JSON::PP;
use Time::HiRes qw(time);
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);
# Who waits for a request that hangs waits for an hour; seconds that the statements themselves take prove nothing.
my $soon = 20;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Milliseconds that a statement takes, measured by the server.
sub ms
{
	my ($statement) = @_;
	my $out = $node->safe_psql('postgres', "\\timing on\n$statement");
	my ($ms) = $out =~ /Time: ([\d.]+) ms/;
	return $ms;
}

sql(q{CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 500) i;
	CREATE TABLE other (id int PRIMARY KEY, body text)});
VecsyncNode::model($node, $service, 'm', q{timeout => '1h'});
VecsyncNode::vectorizer($node, $service, 't', 'body');
ok(VecsyncNode::settle($node, 't'), 'embedded');

# ---- a request hangs -------------------------------------------------------------------
sub hang
{
	$service->scenario(dims => 8, rules => [ { when => { path => 'embeddings' }, hang => JSON::PP::true } ]);
	sql(q{UPDATE t SET body = body || '!'});
	return ok($service->wait_for(sub { $_[0]{hanging} > 0 }), 'a request hangs');
}

hang();
is(sql(q{SELECT backend_xmin IS NULL AND xact_start IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}),
	't', 'the worker has no transaction and no snapshot');
is(sql(q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'vecsync worker'}), '0', 'and holds no lock');
cmp_ok(ms('UPDATE t SET body = body || id WHERE id = 1'), '<', $soon * 1000, 'UPDATE does not wait');
cmp_ok(ms('DELETE FROM t WHERE id = 2'), '<', $soon * 1000, 'DELETE does not wait');
cmp_ok(ms('ALTER TABLE t ADD COLUMN extra int'), '<', $soon * 1000, 'ALTER TABLE does not wait');
cmp_ok(ms('SELECT count(*) FROM vecsync.status'), '<', $soon * 1000, 'the status does not wait');
is(sql('SELECT in_flight > 0 FROM vecsync.status'), 't', 'and shows what is in flight');
cmp_ok(ms('TRUNCATE t'), '<', $soon * 1000, 'TRUNCATE does not wait');
sql(q{INSERT INTO t SELECT i, 'new ' || i FROM generate_series(1, 200) i});

# Another model goes on meanwhile.
my $well = FakeService->new(dims => 8);
sql("SELECT vecsync.create_model('well', url => '" . $well->url . "', model => 'fake')");
sql(q{SELECT vecsync.create_vectorizer('other', 'well', 'body'); INSERT INTO other SELECT i, 'other ' || i FROM generate_series(1, 300) i});
ok(VecsyncNode::settle($node, 'other'), 'another model is not held up');
is(sql('SELECT count(embedding) FROM other'), '300', 'its rows are embedded');

$service->scenario(dims => 8);
$service->release;
ok(VecsyncNode::settle($node, 't'), 'released');
VecsyncNode::in_step($node, 't', 'body', 'what came late did not overwrite what is newer');

# ---- a user holds rows and tables --------------------------------------------------------
my $holder = VecsyncNode::session($node);
$holder->query_safe(q{BEGIN; SELECT body FROM t WHERE id = 50 FOR UPDATE});
sql(q{UPDATE t SET body = 'locked neighbour ' || id WHERE id <> 50});
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM t WHERE embedding = expected_vector(body, 8)}, '200'), 'a locked row does not hold up its neighbours');
$holder->query_safe(q{UPDATE t SET body = 'from the holder' WHERE id = 50; COMMIT});
$holder->query_safe(q{BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE});
sql(q{UPDATE other SET body = 'while the other table is locked ' || id});
ok(VecsyncNode::settle($node, 'other'), 'a locked table does not hold up other tables');
is(sql(q{SET statement_timeout = '60s'; SELECT count(*) FROM vecsync.status}), '2', 'nor the status');
$holder->query_safe('COMMIT');
$holder->quit;
ok(VecsyncNode::settle($node, 't'), 'unlocked');
VecsyncNode::in_step($node, 't', 'body', 'in step after locks');

# ---- ends -------------------------------------------------------------------------------------
hang();
is(sql(qq{SELECT pg_terminate_backend(pid, $soon * 1000) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), 't', 'pg_terminate_backend takes effect at once');
ok($service->wait_for(sub { $_[0]{hanging} > 0 }, 30), 'the next worker hangs in its turn');
my $asker = VecsyncNode::session($node, on_error_stop => 0);
$asker->query_until(qr/asking/, "\\echo asking\nSELECT vecsync.embed('m', 'a question');\n");
my $asking = q{FROM pg_stat_activity WHERE query LIKE '%a question%' AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND state = 'active'};
VecsyncNode::poll($node, "SELECT count(*) $asking AND wait_event_type = 'Extension'", '1');
sql(q{SELECT pg_cancel_backend(pid) } . $asking);
ok(VecsyncNode::poll($node, "SELECT count(*) $asking", '0'), 'embed ends');
$asker->query('SELECT 1');
like($asker->{stderr}, qr/canceling statement due to user request/, 'as it was told to');
$asker->quit;
is($node->psql('postgres', q{SET vecsync.query_timeout = '200ms'; SELECT vecsync.embed('m', 'timeout')}), 3, 'query_timeout ends a question');
my $start = time;
sql('DROP EXTENSION vecsync CASCADE');
cmp_ok(time - $start, '<', $soon, 'DROP EXTENSION does not wait');
sql('CREATE EXTENSION vecsync');
VecsyncNode::model($node, $service, 'm', q{timeout => '1h'});
sql(q{SELECT vecsync.create_vectorizer('t', 'm', 'body')});
ok($service->wait_for(sub { $_[0]{hanging} > 0 }, 30), 'hangs again');
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', $soon, 'a fast shutdown is fast');

$service->stop;
$well->stop;
done_testing();

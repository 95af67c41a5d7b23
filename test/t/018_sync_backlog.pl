# More changes than fit into the worker's memory are worked off without a pause, and without anybody waking the worker.

use strict;
use warnings FATAL => 'all';

use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 2, conf => [ 'vecsync.poll_interval = 1h', 'fsync = off' ]);

$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, body text)');
VecsyncNode::vectorizer($node, $service, 't', 'body');
VecsyncNode::settle($node, 't');
$node->safe_psql('postgres', q{SELECT vecsync.pause('t'); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 20000) i});
$node->safe_psql('postgres', q{INSERT INTO t SELECT i, 'row ' || i FROM generate_series(20001, 40000) i});
is($node->safe_psql('postgres', 'SELECT rows, embedded, pending, state FROM vecsync.status'), '40000|0|40000|paused', 'status counts a large backlog as it is');
$node->safe_psql('postgres', q{SELECT vecsync.resume('t')});
ok(VecsyncNode::settle($node, 't', 900), 'worked off');
VecsyncNode::in_step($node, 't', 'body', 'all of it');
cmp_ok($service->stats->{requests}, '<=', 340, 'in full batches');

# Two tables have more entries than are read at once, and among their numbers are some of a transaction that is still open.
$node->safe_psql('postgres', 'CREATE TABLE u (id int PRIMARY KEY, body text); CREATE TABLE v (id int PRIMARY KEY, body text)');
VecsyncNode::vectorizer($node, $service, $_, 'body') for qw(u v);
VecsyncNode::settle($node, $_) for qw(u v);
my $worker = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
my $entries = q{DO $$ BEGIN FOR i IN %d..%d LOOP INSERT INTO u VALUES (i, 'u' || i); IF i %% 3 = 0 THEN INSERT INTO v VALUES (i, 'v' || i); END IF; COMMIT; END LOOP; END $$};
my $late = VecsyncNode::session($node);
kill STOP => $worker;
$node->safe_psql('postgres', sprintf $entries, 1, 400);
$late->query_safe(q{BEGIN; INSERT INTO v SELECT i, 'late ' || i FROM generate_series(10001, 12500) i});
$node->safe_psql('postgres', sprintf $entries, 401, 1000);
kill CONT => $worker;
ok(VecsyncNode::settle($node, $_), "$_: worked off beside an open transaction") for qw(u v);
VecsyncNode::in_step($node, 'u', 'body', 'u: all of it');
$late->query_safe('COMMIT');
$late->quit;
ok(VecsyncNode::settle($node, 'v', 120), 'the numbers that were missing are found');
VecsyncNode::in_step($node, 'v', 'body', 'v: all of it');
# A large table's rows are estimated, whether it was ever analyzed or not; its backfill ends with the last of them.
$node->safe_psql('postgres', q{CREATE TABLE w (id int PRIMARY KEY, body text);
	INSERT INTO w SELECT i, CASE WHEN i % 1000 = 0 THEN 'w' || i END FROM generate_series(1, 150000) i});
kill STOP => $worker;
VecsyncNode::vectorizer($node, $service, 'w', 'body');
is($node->safe_psql('postgres', q{SELECT state, pending BETWEEN 75000 AND 300000, rows BETWEEN 75000 AND 300000, embedded FROM vecsync.status WHERE vectorizer = 'w'}),
	'embedding|t|t|0', 'status of a large table at once');
kill CONT => $worker;
ok(VecsyncNode::settle($node, 'w'), 'w: worked off');
VecsyncNode::in_step($node, 'w', 'body', 'w: all of it');
is($node->safe_psql('postgres', q{SELECT state, pending FROM vecsync.status WHERE vectorizer = 'w'}), 'in step|0', 'nothing is left of it');
is($node->safe_psql('postgres', 'SELECT oldest_pending IS NULL FROM vecsync.stats'), 't', 'nothing is pending');

# A service that takes one request at a time has 200 of one table before it: another table's change is not the last.
$node->safe_psql('postgres', q{SELECT vecsync.alter_model('m', '{"max_inflight": 1, "max_batch": 10}')});
$service->scenario(dims => 2, rules => [ { hang => 1 } ]);
$node->safe_psql('postgres', q{UPDATE t SET body = 'again ' || id WHERE id <= 2000});
ok($service->wait_for(sub { $_[0]->{hanging} == 1 }), 'one request at a time');
$node->safe_psql('postgres', q{INSERT INTO u VALUES (20000, 'the only one')});
my $requests = 0;
while ($requests < 50 && $node->safe_psql('postgres', 'SELECT embedding IS NULL FROM u WHERE id = 20000') eq 't')
{
	$service->release;
	$requests++;
	ok(0, 'the next request') unless $service->wait_for(sub { $_[0]->{hanging} == 1 && $_[0]->{requests} > $requests });
}
cmp_ok($requests, '<=', 10, 'a change of one table does not wait for all those of another');
$service->scenario(dims => 2);
$service->release;
ok(VecsyncNode::settle($node, $_), "$_: worked off") for qw(t u);

$service->stop;
$node->stop;
done_testing();

# More changes than fit into the worker's memory are worked off without a pause, and without anybody waking the worker.

use strict;
use warnings FATAL => 'all';

use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 2, conf => [ 'vecsync.poll_interval = 1h', 'fsync = off' ]);

$node->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, body text)');
VecsyncNode::vectorizer($node, $service, 't', 'body');
$node->safe_psql('postgres', q{SELECT vecsync.pause('t'); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 20000) i});
$node->safe_psql('postgres', q{INSERT INTO t SELECT i, 'row ' || i FROM generate_series(20001, 40000) i});
is($node->safe_psql('postgres', 'SELECT rows, embedded, pending, state FROM vecsync.status'), '40000|0|40000|paused', 'status counts a large backlog as it is');
$node->safe_psql('postgres', q{SELECT vecsync.resume('t')});
ok(VecsyncNode::settle($node, 't', 900), 'worked off');
VecsyncNode::in_step($node, 't', 'body', 'all of it');
cmp_ok($service->stats->{requests}, '<=', 340, 'in full batches');

$service->stop;
$node->stop;
done_testing();

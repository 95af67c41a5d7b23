# max_worker_processes is used up: users notice nothing, the status says it, and it mends itself when a slot is free.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

# Two slots: the launcher's and one for a worker.
my ($node, $service) = VecsyncNode::start(dims => 8, conf => [ 'max_worker_processes = 2', 'max_logical_replication_workers = 0' ]);
my $url = $service->url;

sub sql { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

sql('CREATE TABLE t (id int PRIMARY KEY, body text)');
VecsyncNode::vectorizer($node, $service, 't', 'body');
sql(q{INSERT INTO t VALUES (1, 'the first database')});
ok(VecsyncNode::settle($node, 't'), 'the first database has the only slot');

sql('CREATE DATABASE other');
VecsyncNode::extension($node, 'other');
sql(qq{CREATE TABLE t (id int PRIMARY KEY, body text);
	SELECT vecsync.create_model('m', url => '$url', model => 'fake', dimensions => 8); SELECT vecsync.create_vectorizer('t', 'm', 'body')}, 'other');
sql(q{INSERT INTO t SELECT i, 'the second database ' || i FROM generate_series(1, 100) i}, 'other');
is(sql('SELECT count(*) FROM t', 'other'), '100', 'users of the second write as ever');
ok($node->poll_query_until('other', q{SELECT worker = 'no free background worker slot' FROM vecsync.status}), 'its status says what is missing');
is(sql('SELECT pending, embedded FROM vecsync.status', 'other'), '100|0', 'and what waits');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM vecsync.workers WHERE database = 'other' AND state = 'no free background worker slot' AND next_start > now() - interval '1 min'}), 'vecsync.workers, too, and when it will be tried again');
is(sql(q{SELECT vecsync.wait('t', '300 ms')}, 'other'), 'f', 'wait gives up in time');
sql(q{INSERT INTO t VALUES (2, 'goes on')});
ok(VecsyncNode::settle($node, 't'), 'the first database goes on');

sql('DROP EXTENSION vecsync CASCADE');
ok($node->poll_query_until('other', q{SELECT worker = 'running' FROM vecsync.status}), 'a slot becomes free: the second has its worker by itself');
is(sql(q{SELECT vecsync.wait('t', '60 s')}, 'other'), 't', 'and works off what was queued');
is(sql('SELECT count(*) FROM t WHERE embedding = expected_vector(body, 8)', 'other'), '100', 'all of it');
sql('CREATE EXTENSION vecsync');
sql(qq{SELECT vecsync.create_model('m', url => '$url', model => 'fake', dimensions => 8); SELECT vecsync.create_vectorizer('t', 'm', 'body')});
ok($node->poll_query_until('postgres', q{SELECT worker = 'no free background worker slot' FROM vecsync.status}), 'now the first waits');
sql('DROP DATABASE other');
ok(VecsyncNode::settle($node, 't'), 'until the other database is gone');
VecsyncNode::in_step($node, 't', 'body', 'and is in step again');

$service->stop;
$node->stop;
done_testing();

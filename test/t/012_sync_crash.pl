# Kills at any time: after restart every row has the vector of its current text, nothing is lost.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, conf => ['restart_after_crash = on']);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub worker { return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}) }

# Something is written, and requests are under way: from the third on the service keeps them.
sub keep { return $service->scenario(dims => 8, rules => [ { when => { request => [ 3, 1_000_000 ] }, hang => JSON::PP::true } ]) }
sub in_flight { return ok($service->wait_for(sub { $_[0]{hanging} > 0 }), "$_[0]: requests are under way") }
sub answer { return $service->scenario(dims => 8) }

sub back { return $node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}) }

sql(q{CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 3000) i});
keep();
VecsyncNode::vectorizer($node, $service, 't', 'body');

# ---- kill -9 of the worker: the server restarts everything --------------------------------
in_flight('worker');
kill 9, worker();
answer();
VecsyncNode::alive($node);
ok(back(), 'worker: another one runs');
sql(q{UPDATE t SET body = 'changed ' || id WHERE id % 7 = 0});
ok(VecsyncNode::settle($node, 't'), 'worker killed: worked off');
VecsyncNode::in_step($node, 't', 'body', 'worker killed: in step');

# ---- a worker that is told to end ------------------------------------------------------------
keep();
sql(q{UPDATE t SET body = 'again ' || id});
in_flight('terminate');
answer();
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
ok(VecsyncNode::settle($node, 't'), 'worker terminated: worked off');
VecsyncNode::in_step($node, 't', 'body', 'worker terminated: in step');

# ---- kill -9 of the service -----------------------------------------------------------------
keep();
sql(q{UPDATE t SET body = 'service ' || id});
in_flight('service');
answer();
$service->kill;
sql(q{UPDATE t SET body = 'while it was away ' || id WHERE id % 5 = 0; DELETE FROM t WHERE id % 11 = 0});
ok(VecsyncNode::poll($node, q{SELECT state FROM vecsync.status}, 'waiting for the service'), 'service: its absence is in the status');
$service->start;
ok(VecsyncNode::settle($node, 't'), 'service killed: worked off');
VecsyncNode::in_step($node, 't', 'body', 'service killed: in step');
is(sql('SELECT count(*) FROM vecsync.failed'), '0', 'service killed: no row is given up');

# ---- immediate stop of the server ----------------------------------------------------------------
keep();
sql(q{UPDATE t SET body = 'stop ' || id});
in_flight('immediate stop');
$node->stop('immediate');
answer();
$node->start;
ok(VecsyncNode::settle($node, 't'), 'immediate stop: worked off');
VecsyncNode::in_step($node, 't', 'body', 'immediate stop: in step');

# ---- numbers of entries --------------------------------------------------------------------------
# However a run of the server ends and wherever its last checkpoint was, each number is behind all that were drawn before.
sql(q{SELECT vecsync.pause('t')});
my $inserts = sub { return join('; ', map { "INSERT INTO t VALUES ($_, 'number $_')" } $_[0] .. $_[0] + $_[1] - 1) };
my $next = 100_000;
for my $run ([ 3, 50 ], [ 0, 1 ], [ 1, 30 ], [ 33, 0 ])
{
	my $known = sql('SELECT coalesce(max(seq), 0) || \' \' || count(*) FROM vecsync.queue');
	my ($last, $entries) = split / /, $known;
	my ($before, $behind) = @$run;
	sql($inserts->($next, $before)) if $before;
	sql('CHECKPOINT');
	sql($inserts->($next + $before, $behind)) if $behind;
	$next += $before + $behind;
	is(sql("SELECT count(*) || ' ' || count(DISTINCT seq) FROM vecsync.queue WHERE seq > $last"),
		($before + $behind) . ' ' . ($before + $behind), "numbers: $before before a checkpoint, $behind behind it");
	is(sql('SELECT count(*) FROM vecsync.queue'), $entries + $before + $behind, 'numbers: what was there is there');
	$node->stop('immediate');
	$node->start;
}
sql(q{SELECT vecsync.resume('t')});
ok(VecsyncNode::settle($node, 't'), 'numbers: worked off');
VecsyncNode::in_step($node, 't', 'body', 'numbers: in step');

# ---- the launcher ends -------------------------------------------------------------------------------
# The next one ends the worker that it finds, and nobody else: the number of one that has left may be another process's.
sub launcher { return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync launcher'}) }
for my $leaves (0, 1)
{
	my ($launcher, $worker, $log) = (launcher(), worker(), -s $node->logfile);
	kill 'STOP', $launcher;
	sql("SELECT pg_terminate_backend($worker, 60000)") if $leaves;
	kill 'TERM', $launcher;
	kill 'CONT', $launcher;
	ok(VecsyncNode::poll($node, qq{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'vecsync %' AND pid NOT IN ($launcher, $worker)}, '2'), 'another launcher, and another worker');
	is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'vecsync %'}), '2', 'one of each');
	sql(q{UPDATE t SET body = body || '.' WHERE id % 3 = 0});
	ok(VecsyncNode::settle($node, 't'), 'the launcher ended: worked off');
	is(join(' ', slurp_file($node->logfile, $log) =~ /vecsync launcher ends process (\d+)/g), $leaves ? '' : $worker, $leaves ? 'and it looked for no worker that had left' : 'and it ended the worker that was there');
}
VecsyncNode::in_step($node, 't', 'body', 'the launcher ended: in step');

# ---- crashes at chosen points ----------------------------------------------------------------------
for my $point (qw(worker_answered worker_written worker_waits))
{
	sql("ALTER SYSTEM SET vecsync.debug_crash = '$point'");
	my $log = -s $node->logfile;
	# the crash may end these sessions, too
	VecsyncNode::attempt($node, 'SELECT pg_reload_conf()');
	VecsyncNode::alive($node);
	VecsyncNode::attempt($node, "UPDATE t SET body = '$point ' || id");
	my $crashed = 0;
	for (1 .. 10 * VecsyncNode::patience(10))
	{
		$crashed = slurp_file($node->logfile, $log) =~ /"vecsync worker".*terminated by signal 6/;
		last if $crashed;
		sleep 0.1;
	}
	ok($crashed, "the worker crashes at $point");
	$node->stop('immediate');
	$node->adjust_conf('postgresql.auto.conf', 'vecsync.debug_crash', undef);
	$node->start;
	ok(VecsyncNode::settle($node, 't'), "crash at $point: worked off");
	VecsyncNode::in_step($node, 't', 'body', "crash at $point: in step");
}

$service->stop;
$node->stop;
done_testing();

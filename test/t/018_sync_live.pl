# Changes go before a backfill: in requests, in what is written first, and into the middle of what takes long to write.

use strict;
use warnings FATAL => 'all';

use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 4);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub request_with
{
	my ($text) = @_;
	my ($found) = grep { grep { $_ eq $text } @{ $_->{texts} || [] } } $service->log;
	return $found || {};
}

# Which write-back, of all that there were of a vectorizer, was that of a row?
sub place
{
	my ($vectorizer, $id) = @_;
	return sql(qq{SELECT (SELECT count(*) FROM vecsync.batch b WHERE b.vectorizer = o.vectorizer AND b.id <= o.batch) || ' of '
		|| (SELECT count(*) FROM vecsync.batch b WHERE b.vectorizer = o.vectorizer)
		FROM vecsync.operation o WHERE vectorizer = '$vectorizer' AND key->>'id' = '$id' AND status = 'success'});
}

# The worker stands still in its next write-back until the session ends.
my $held = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted};

sub hold_write
{
	my $holder = VecsyncNode::session($node);
	$holder->query_safe(q{SELECT pg_advisory_lock(x'76656373'::int, hashtext('worker_written'))});
	return $holder;
}

VecsyncNode::model($node, $service, 'm', q{max_batch => 10, max_inflight => 16, timeout => '1h'});
sql(q{CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, 'old ' || i FROM generate_series(1, 120) i});

# ---- answers that are there together ----------------------------------------------------------
$service->scenario(dims => 4, rules => [ { hang => 1 } ]);
VecsyncNode::vectorizer($node, $service, 't', 'body');
ok($service->wait_for(sub { $_[0]->{hanging} == 12 }), 'a backfill under way, all of it');
sql(q{INSERT INTO t VALUES (1000, 'new')});
ok($service->wait_for(sub { $_[0]->{hanging} == 13 }), 'a change behind it');
SKIP:
{
	skip 'needs DEBUG_POINTS=1', 4 unless ($node->psql('postgres', 'SHOW vecsync.debug_crash'))[0] == 0;
	my $holder = hold_write();
	$service->release;
	ok($service->wait_for(sub { $_[0]->{hanging} == 0 && $_[0]->{in_flight} == 0 }), 'all of them are answered');
	ok(VecsyncNode::poll($node, $held, '1'), 'while the worker writes the first');
	$holder->quit;
	ok(VecsyncNode::settle($node, 't'), 'worked off');
	# the one that it was writing, one more if not all answers had come up to it yet
	# (and of a write-back that a slow machine interrupts for it there are two)
	like(place('t', 1000), qr/^[123] of \d\d$/, 'the change is written before the backfill');
}
$service->release;
ok(VecsyncNode::settle($node, 't'), 't: worked off');
VecsyncNode::in_step($node, 't', 'body', 't: in step');

# ---- a change that comes while rows of a backfill wait to be read ---------------------------------
SKIP:
{
	skip 'needs DEBUG_POINTS=1', 5 unless ($node->psql('postgres', 'SHOW vecsync.debug_crash'))[0] == 0;
	$service->scenario(dims => 4);
	my $holder = hold_write();
	sql(q{CREATE TABLE many (id int PRIMARY KEY, body text); INSERT INTO many SELECT i, 'many ' || i FROM generate_series(1, 400) i});
	VecsyncNode::vectorizer($node, $service, 'many', 'body');
	ok(VecsyncNode::poll($node, $held, '1'), 'the worker writes the first batch');
	sql(q{INSERT INTO many VALUES (1000, 'alone')});
	ok($service->wait_for(sub { $_[0]->{in_flight} == 0 }), 'nothing is under way');
	$holder->quit;
	ok(VecsyncNode::settle($node, 'many'), 'many: worked off');
	VecsyncNode::in_step($node, 'many', 'body', 'many: in step');
	is(request_with('alone')->{inputs}, 1, 'the request of a change is its own');
}

# ---- the lag is that of changes --------------------------------------------------------------------
sql(q{CREATE TABLE quiet (id int PRIMARY KEY, body text); INSERT INTO quiet SELECT i, 'quiet ' || i FROM generate_series(1, 5) i});
VecsyncNode::vectorizer($node, $service, 'quiet', 'body');
ok(VecsyncNode::settle($node, 'quiet'), 'quiet: worked off');
my $lag = q{SELECT lag_p50_ms IS NULL, lag_p99_ms IS NULL, embedded FROM vecsync.status WHERE vectorizer = 'quiet'};
is(sql($lag), 't|t|5', 'a backfill has no lag');
sql(q{UPDATE quiet SET body = body || '!' WHERE id = 1});
ok(VecsyncNode::settle($node, 'quiet'), 'a change');
is(sql($lag), 'f|f|5', 'has one');

# a row that changes while the vector of its last change is on its way
sql(q{CREATE TABLE again (id int PRIMARY KEY, body text); INSERT INTO again VALUES (1, 'first')});
VecsyncNode::vectorizer($node, $service, 'again', 'body');
ok(VecsyncNode::settle($node, 'again'), 'again: worked off');
$service->scenario(dims => 4, rules => [ { when => { request => 1 }, hang => 1 } ]);
sql(q{UPDATE again SET body = 'second'});
ok($service->wait_for(sub { $_[0]->{hanging} == 1 }), 'a change under way');
sql(q{BEGIN; DELETE FROM again; INSERT INTO again VALUES (1, 'second'); COMMIT});
sql('SELECT pg_sleep(2)');
$service->release;
ok(VecsyncNode::settle($node, 'again'), 'again: worked off twice');
is($service->stats->{requests}, 2, 'and embedded twice');
is(sql(q{SELECT lag_p50_ms >= 2000 FROM vecsync.status WHERE vectorizer = 'again'}), 't', 'the second change has waited since it came');

# ---- a request at a time --------------------------------------------------------------------------
$service->scenario(dims => 4, rules => [ { hang => 1 } ]);
sql(q{SELECT vecsync.alter_model('m', '{"max_inflight": 1}'); SELECT vecsync.resync('t', force => true)});
ok($service->wait_for(sub { $_[0]->{hanging} == 1 }), 'the first request of a backfill');
sql(q{INSERT INTO t VALUES (1001, 'newer')});
# read, and waiting for its turn: one of its rows is in a batch
ok(VecsyncNode::poll($node, q{SELECT in_flight > 20 FROM vecsync.status WHERE vectorizer = 't'}, 't'), 'a change behind it, read before there is room for its request');
for my $requests (2, 3)
{
	$service->release;
	ok($service->wait_for(sub { $_[0]->{requests} == $requests && $_[0]->{hanging} == 1 }), "request $requests");
}
$service->scenario(dims => 4);
$service->release;
ok(VecsyncNode::settle($node, 't'), 't: worked off again');
VecsyncNode::in_step($node, 't', 'body', 't: in step again');
is(request_with('newer')->{inputs}, 10, 'where requests are few, rows of the backfill travel with a change');
cmp_ok(request_with('newer')->{request}, '<=', 3, 'which is before the others');

# ---- a backfill that takes long to write -----------------------------------------------------------
sql(q{SELECT vecsync.alter_model('m', '{"max_inflight": 16, "max_batch": 100}');
	CREATE TABLE slow (id int PRIMARY KEY, body text); INSERT INTO slow SELECT i, 'slow ' || i FROM generate_series(1, 50) i;
	CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
	CREATE TRIGGER dawdle BEFORE UPDATE ON slow FOR EACH ROW EXECUTE FUNCTION dawdle()});
VecsyncNode::vectorizer($node, $service, 'slow', 'body');
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'vecsync worker' AND wait_event = 'PgSleep'}, '1'), 'a slow write-back');
sql(q{INSERT INTO slow VALUES (1000, 'new')});
ok(VecsyncNode::settle($node, 'slow'), 'slow: worked off');
VecsyncNode::in_step($node, 'slow', 'body', 'slow: in step');
like(place('slow', 1000), qr/^\d+ of ([3-9]|\d\d)$/, 'the write-back was interrupted for the change');
is(sql(q{SELECT count(*) || ' ' || count(DISTINCT key) FROM vecsync.operation WHERE vectorizer = 'slow' AND status = 'success'}), '51 51', 'each row was written once');

# Changes come all the time: each of them interrupts it, and what it does not come to is left alone.
sql(q{CREATE SEQUENCE renders; CREATE TABLE ticks (stop bool);
	CREATE FUNCTION counted(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.renders'); RETURN $1; END $$;
	CREATE TABLE sliced (id int PRIMARY KEY, body text); INSERT INTO sliced SELECT i, 'sliced ' || i FROM generate_series(1, 60) i;
	CREATE TRIGGER dawdle BEFORE UPDATE ON sliced FOR EACH ROW EXECUTE FUNCTION dawdle()});
my $ticker = VecsyncNode::session($node);
$ticker->query_until(qr/ticking/, <<'SQL');
\echo ticking
DO $$ BEGIN
	FOR i IN 1..1000000000 LOOP
		UPDATE quiet SET body = 'tick ' || i WHERE id = 1;
		COMMIT;
		EXIT WHEN EXISTS (SELECT FROM ticks);
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;
SQL
VecsyncNode::vectorizer($node, $service, 'sliced', '=counted(sliced.body)');
ok(VecsyncNode::poll($node, 'SELECT count(*) FROM sliced WHERE embedding IS NULL', '0'), 'a slow write-back beside changes');
sql('INSERT INTO ticks VALUES (true)');
$ticker->query_safe('SELECT 1');
$ticker->quit;
ok(VecsyncNode::settle($node, $_), "$_: worked off") for qw(sliced quiet);
cmp_ok(sql(q{SELECT count(*) FROM vecsync.batch WHERE vectorizer = 'sliced'}), '>=', 10, 'in many slices');
# once to be sent, once to be written, and those that a slice locked and did not come to
cmp_ok(sql('SELECT last_value FROM renders'), '<=', 60 * 6, 'each of which renders about as many rows as it writes');
VecsyncNode::in_step($node, 'sliced', 'body', 'sliced: in step');

# ---- what nobody tells of, during a backfill that leaves the worker no pause ---------------------------
sql(q{SELECT vecsync.alter_model('m', '{"max_batch": 10}');
	CREATE TABLE pace (slow bool); INSERT INTO pace VALUES (true);
	CREATE TABLE steady (id int PRIMARY KEY, body text); INSERT INTO steady SELECT i, 'steady ' || i FROM generate_series(1, 2000) i;
	CREATE FUNCTION plod() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT slow FROM pace) THEN PERFORM pg_sleep(0.05); END IF; RETURN NEW; END $$;
	CREATE TRIGGER plod BEFORE UPDATE ON steady FOR EACH ROW EXECUTE FUNCTION plod()});
VecsyncNode::vectorizer($node, $service, 'steady', 'body');
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'vecsync worker' AND wait_event = 'PgSleep'}, '1'), 'write-backs one after the other');
sql(q{BEGIN; INSERT INTO steady VALUES (10000, 'prepared'); PREPARE TRANSACTION 'p'});
sql(q{INSERT INTO quiet VALUES (10000, 'read with it')});
ok(VecsyncNode::settle($node, 'quiet'), 'the worker has read the queue');
sql(q{COMMIT PREPARED 'p'});
ok(VecsyncNode::poll($node, 'SELECT count(embedding) FROM steady WHERE id = 10000', '1'), 'a transaction that was prepared');
is(sql(q{SELECT count(embedding) < 2001 FROM steady}), 't', 'is found before the backfill is over');
sql('UPDATE pace SET slow = false');
ok(VecsyncNode::settle($node, 'steady'), 'steady: worked off');
VecsyncNode::in_step($node, 'steady', 'body', 'steady: in step');

$service->stop;
$node->stop;
done_testing();

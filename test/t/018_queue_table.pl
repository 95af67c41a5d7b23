# The queue's table has no index, and its worker reads the blocks that writers name: no entry is lost, whenever its
# transaction commits, wherever its row lies, and whatever somebody does to the table meanwhile.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use VecsyncNode;

my $seed = $ENV{SEED} // 18;
srand $seed;
diag("SEED=$seed");

# nothing is found by looking once in a while
my ($node, $service) = VecsyncNode::start(dims => 2, conf => [ 'vecsync.poll_interval = 1h', 'fsync = off', 'autovacuum = off' ]);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub in_step
{
	my ($what, @tables) = @_;
	ok(VecsyncNode::settle($node, $_), "$what: $_ is worked off") for @tables;
	VecsyncNode::in_step($node, $_, 'body', "$what: $_") for @tables;
	return;
}

# one transaction a row
my $singles = q{DO $$ BEGIN FOR i IN %d..%d LOOP INSERT INTO %s VALUES (i, '%1$s ' || i) ON CONFLICT (id) DO UPDATE SET body = excluded.body || '+'; COMMIT; END LOOP; END $$};

sql("CREATE TABLE $_ (id int PRIMARY KEY, body text)") for qw(t u v);
VecsyncNode::vectorizer($node, $service, $_, 'body') for qw(t u v);
VecsyncNode::settle($node, $_) for qw(t u v);
is(sql(q{SELECT count(*) FROM pg_index WHERE indrelid = 'vecsync.queue'::regclass}), '0', 'no index');

# ---- transactions that commit late ---------------------------------------------------------------
# An entry is written before the end of its transaction when it is full: 1,024 rows.
my @sessions = map { VecsyncNode::session($node) } 1 .. 4;
my $id = 0;
for my $round (1 .. 3)
{
	for my $i (0 .. $#sessions)
	{
		$sessions[$i]->query_safe(sprintf q{BEGIN; INSERT INTO t SELECT i, 'late ' || i FROM generate_series(%d, %d) i}, $id + 1, $id + 1100);
		$id += 1100;
		if ($i % 2)
		{
			$sessions[$i]->query_safe(sprintf q{SAVEPOINT one; INSERT INTO u SELECT i, 'gone ' || i FROM generate_series(%d, %d) i}, $id + 1, $id + 1100);
			sql("INSERT INTO v VALUES ($id, 'beside a savepoint')");
			$sessions[$i]->query_safe(sprintf q{ROLLBACK TO one; SAVEPOINT two; INSERT INTO u SELECT i, 'kept ' || i FROM generate_series(%d, %d) i; RELEASE two}, $id + 501, $id + 1600);
			$id += 1600;
		}
	}
	# others read the same blocks, before and in between
	sql(sprintf $singles, $id + 1, $id + 20, 'v');
	ok(VecsyncNode::settle($node, 'v'), "round $round: entries of open transactions are in nobody's way");
	for my $session (sort { rand() <=> 0.5 } @sessions)
	{
		$session->query_safe(rand() < 0.3 ? 'ROLLBACK' : 'COMMIT');
		sql(sprintf $singles, $id + 1, $id + 3, 'v') if rand() < 0.5;
		$id += 30;
	}
	in_step("round $round, late commits", qw(t u v));
}
$_->quit for @sessions;

# ---- prepared transactions -----------------------------------------------------------------------
# of a server where nothing else happens
ok($node->poll_query_until('postgres', q{SELECT state = 'idle' FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), 'the worker rests');
sql(q{BEGIN; INSERT INTO t VALUES (0, 'alone'); PREPARE TRANSACTION 'alone'});
sleep 1;
sql(q{COMMIT PREPARED 'alone'});
in_step('prepared, and nobody else commits', 't');
my $rows = q{INSERT INTO t SELECT i, '%s ' || i FROM generate_series(%d, %d) i};
sql(sprintf "BEGIN; $rows; PREPARE TRANSACTION 'small'", 'small', $id + 1, $id + 3);
sql(sprintf "BEGIN; $rows; SAVEPOINT s; $rows; RELEASE s; PREPARE TRANSACTION 'large'", 'large', $id + 1001, $id + 2100, 'more', $id + 3001, $id + 5100);
sql(sprintf "BEGIN; $rows; PREPARE TRANSACTION 'none'", 'none', $id + 6001, $id + 7100);
sql(sprintf $singles, $id + 8000, $id + 8010, 'v');
in_step('beside prepared transactions', 'v');
sql(q{COMMIT PREPARED 'small'});
in_step('prepared', 't');
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
sql(sprintf $singles, $id + 8011, $id + 8020, 'v');
in_step('after a restart of the worker', 'v');
sql(q{ROLLBACK PREPARED 'none'; COMMIT PREPARED 'large'});
in_step('prepared across it', 't');
$id += 10000;

# ---- a full source, beside others; low blocks are used again ---------------------------------------
sql(q{SELECT vecsync.pause('t'); TRUNCATE t, u, v});
VecsyncNode::settle($node, $_) for qw(u v);
sql(sprintf $singles, 1, 1000, 'u');
sql(q{INSERT INTO t SELECT i, 'many ' || i FROM generate_series(1, 5000) i});
sql(sprintf $singles, 20001, 22000, 't');
ok(VecsyncNode::settle($node, 'u'), 'beside a full source: u goes on');
for my $part (1 .. 3)
{
	sql('VACUUM vecsync.queue');
	sql(sprintf $singles, 20001 + 600 * $part, 21000 + 600 * $part, 't');
	sql(sprintf $singles, 1, 200, 'v');
	sql(q{SELECT vecsync.resume('t')}) if $part == 2;
	ok(VecsyncNode::settle($node, 'v'), "part $part: v goes on");
}
in_step('low blocks', qw(t u v));

# ---- a source fell behind in a table of many times as many blocks as there are bits, and others go on writing ----
sql(q{CREATE TABLE halt (); SELECT vecsync.pause('t'); TRUNCATE t, u, v});
VecsyncNode::settle($node, $_) for qw(u v);
sql(q{INSERT INTO t SELECT i, 'front ' || i FROM generate_series(1, 4200) i});
sql(q{INSERT INTO vecsync.queue SELECT nextval('vecsync.queue_seq'), 999999, 'k', 1, '{1}', now() FROM generate_series(1, 70000)});
sql(q{INSERT INTO t SELECT i, 'back ' || i FROM generate_series(4201, 4700) i});
cmp_ok(sql(q{SELECT pg_relation_size('vecsync.queue') / 8192}), '>', 64 * 11, 'more blocks a bit than are read at a time');
my $writer = VecsyncNode::session($node);
$writer->query_until(qr/writing/, <<'SQL');
\echo writing
DO $$ BEGIN
	FOR i IN 1..1000000000 LOOP
		INSERT INTO u VALUES (i % 100, i) ON CONFLICT (id) DO UPDATE SET body = i;
		COMMIT;
		EXIT WHEN EXISTS (SELECT FROM halt);
	END LOOP;
END $$;
SQL
sql(q{SELECT vecsync.resume('t')});
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM t WHERE embedding IS NULL}, '0'), 'it catches up all the same');
sql(q{INSERT INTO v VALUES (1, 'beside')});
ok(VecsyncNode::settle($node, 'v'), 'and nobody else waits long');
sql(q{INSERT INTO halt DEFAULT VALUES});
$writer->query_safe('DELETE FROM vecsync.queue WHERE vectorizer = 999999');
$writer->quit;
in_step('behind, while others write', qw(t u v));

# ---- the table is rewritten, its rows are moved, under way and while they wait ---------------------------
for my $command ('VACUUM FULL vecsync.queue', 'UPDATE vecsync.queue SET queued_at = queued_at', 'VACUUM vecsync.queue', 'TRUNCATE vecsync.queue')
{
	$service->scenario(dims => 2, rules => [ { hang => JSON::PP::true } ]);
	sql(sprintf $singles, 1, 300, 'u');
	sql(q{UPDATE t SET body = body || '.' WHERE id <= 1000});
	ok($service->wait_for(sub { $_[0]{hanging} > 0 }), "requests are under way");
	sql($command);
	$service->scenario(dims => 2);
	$service->release;
	sql(sprintf $singles, 1, 5, 'v');
	ok(VecsyncNode::settle($node, $_), "$command: $_ is worked off") for qw(t u v);
	# what the worker had not read is lost, and what it had is written, though its entries are gone
	sql(q{SELECT vecsync.resync('t'), vecsync.resync('u')}) if $command =~ /TRUNCATE/;
	in_step($command, qw(t u v));
}
$service->scenario(dims => 2, delay_ms => 20);
sql(q{SELECT vecsync.resync('t', force => true)});
sql('VACUUM FULL vecsync.queue');
sql(q{UPDATE vecsync.queue SET queued_at = queued_at});
sql(q{TRUNCATE u});
sql('VACUUM FULL vecsync.queue');
in_step('a backfill, and rows that went', qw(t u));
$service->scenario(dims => 2);

# ---- what a backfill leaves in the worker's memory -----------------------------------------------
sql(q{CREATE TABLE w (id text PRIMARY KEY, body text); INSERT INTO w SELECT string_agg(md5(i::text), ''), 'long key' FROM generate_series(1, 70) i});
VecsyncNode::vectorizer($node, $service, 'w', 'body');
sql(q{DO $$ BEGIN FOR i IN 1..150 LOOP PERFORM vecsync.resync('w'); COMMIT; END LOOP; END $$});
in_step('many times over', 'w');
my $seen = -s $node->logfile;
sql(q{SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
sql(q{INSERT INTO w VALUES ('wakes the worker', '')});
my $until = time + VecsyncNode::patience();
my $log;
do { sleep 0.1; $log = slurp_file($node->logfile, $seen) } until $log =~ /Grand total/ || time > $until;
my @used = $log =~ /vecsync queue source: .*?(\d+) used/g;
is(scalar(@used), 4, 'a context for each source');
ok(!(grep { $_ > 500_000 } @used), 'backfills leave nothing') or diag("@used");
sql(q{SELECT vecsync.drop_vectorizer('w')});

# ---- all tables are published ---------------------------------------------------------------------
# CREATE PUBLICATION asks whether wal_level is logical, and does not mind
$node->psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
sql(q{UPDATE v SET body = body || '!'; SELECT vecsync.resync('u', force => true)});
in_step('published', qw(u v));
sql(q{INSERT INTO v VALUES (0, 'last'); SELECT vecsync.drop_vectorizer('v'); DROP PUBLICATION everything});
is(sql(q{SELECT count(*) FROM vecsync.queue q WHERE NOT EXISTS (SELECT FROM vecsync.vectorizer x WHERE x.id = q.vectorizer)}), '0', 'published: entries of a dropped vectorizer go');

# ---- what did not come from a trigger -----------------------------------------------------------------
ok(VecsyncNode::set($node, 'vecsync.poll_interval', '1s'), 'a short poll');
sql(q{SET session_replication_role = replica; UPDATE t SET body = 'in secret' WHERE id = 5; RESET session_replication_role;
	INSERT INTO vecsync.queue SELECT nextval('vecsync.queue_seq'), id, 'f', 1, '{5}', now() FROM vecsync.vectorizer WHERE name = 't'});
in_step('an entry of another origin', 't');
VecsyncNode::set($node, 'vecsync.poll_interval', '1h');

# ---- somebody has it to himself for long -------------------------------------------------------------
# As VACUUM FULL or REINDEX of a large table has: longer than the worker waits for any lock.
{
	my $pid = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'};
	my $worker = sql($pid);
	my $holder = VecsyncNode::session($node);
	my $log = -s $node->logfile;
	my $n = 0;
	for my $table (qw(queue digest operation_batch))
	{
		$n++;
		$service->scenario(dims => 2, rules => [ { when => { request => 1 }, hang => 1 } ]);
		sql("INSERT INTO u VALUES (1000000 + $n, 'held up $n')");
		ok($service->wait_for(sub { $_[0]->{hanging} == 1 }), "$table: a change on its way");
		$holder->query_safe("BEGIN; LOCK TABLE vecsync.$table IN ACCESS EXCLUSIVE MODE");
		$service->release;
		# whoever is to write stands in line, now and then
		ok(VecsyncNode::poll($node, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'vecsync.$table'::regclass", '1'), "$table: the worker wants it");
		sql('SELECT pg_sleep(1)');
		$holder->query_safe('COMMIT');
		in_step("$table was locked", 'u');
	}
	$holder->quit;
	is(sql($pid), $worker, 'the worker has waited');
	unlike(substr(slurp_file($node->logfile), $log), qr/lock timeout|exited with|ERROR|FATAL/, 'and said nothing');
}

# ---- without the library --------------------------------------------------------------------------------
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
sql(sprintf $singles, 1, 100, 'u');
is(sql('SELECT count(*) FROM vecsync.queue'), '100', 'not preloaded: entries collect');
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'vecsync'});
$node->restart;
in_step('preloaded again', 'u');

# ---- a crash of the server --------------------------------------------------------------------------------
sql(sprintf $singles, 1, 300, 'u');
$node->stop('immediate');
$node->start;
VecsyncNode::alive($node);
in_step('after a crash', qw(t u));

# ---- a damaged block ------------------------------------------------------------------------------------------
# The worker says so, goes on with all other blocks, and comes back to this one; what it knew is not forgotten.  What
# to do finds again all that the queue knew.
{
	my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'};
	sql(q{CREATE TABLE papers (id int PRIMARY KEY, body text); INSERT INTO papers SELECT i, 'paper ' || i FROM generate_series(1, 10) i});
	VecsyncNode::vectorizer($node, $service, 'papers', 'body', q{chunking => '{"size": 5}', index => '{"method": "none"}'});
	VecsyncNode::settle($node, 'papers');
	my $file = $node->data_dir . '/' . sql(q{SELECT pg_relation_filepath('vecsync.queue')});
	my $header;
	my $damage = sub
	{
		my ($block) = @_;
		$node->stop;
		open my $queue, '+<:raw', $file or die "$file: $!";
		seek $queue, 8192 * $block, 0;
		read $queue, $header, 24;
		seek $queue, 8192 * $block, 0;
		print $queue "\xff" x 24;
		close $queue or die;
		$node->start;
	};
	my $mend = sub
	{
		open my $queue, '+<:raw', $file or die "$file: $!";
		seek $queue, 8192 * $_[0], 0;
		print $queue $header;
		close $queue or die;
	};

	sql(q{SELECT vecsync.pause(name) FROM vecsync.vectorizer});
	sql(sprintf $singles, 3000001, 3000300, 'u');
	sql(q{INSERT INTO t VALUES (3000001, 'behind it')});
	my ($block) = split /\n/, sql(q{SELECT DISTINCT (ctid::text::point)[0]::int FROM vecsync.queue ORDER BY 1});
	VecsyncNode::set($node, 'vecsync.poll_interval', '1s');
	my $log = -s $node->logfile;
	$damage->($block);
	sql(q{SELECT vecsync.resume(name) FROM vecsync.vectorizer});
	ok(VecsyncNode::poll($node, q{SELECT count(*) FROM t WHERE id = 3000001 AND embedding = expected_vector(body, 2)}, '1'), 'a damaged block: what is noted behind it is done');
	my $pid = sql($worker);
	sql(q{INSERT INTO t VALUES (3000002, 'new')});
	ok(VecsyncNode::poll($node, q{SELECT count(*) FROM t WHERE id = 3000002 AND embedding = expected_vector(body, 2)}, '1'), 'and what comes');
	like(sql(q{SELECT string_agg(DISTINCT concat_ws(' ', state, pending, last_error), ', ') FROM vecsync.status}), qr/^the queue is damaged vecsync\.queue: invalid page in block $block of relation [^,]*$/, 'the status says it');
	my ($status, $out, $err) = $node->psql('postgres', q{SELECT vecsync.wait('u', '1s')});
	like($err, qr/invalid page in block $block .*HINT:  TRUNCATE vecsync.queue and call vecsync.resync/s, 'whoever waits is told');
	is(sql('SELECT count(*) > 0 FROM u WHERE id > 3000000 AND embedding IS NULL'), 't', 'nobody knows of its rows');
	sql('SELECT pg_sleep(3)');		# it is tried again
	is(sql($worker), $pid, 'by one worker');
	my @said = substr(slurp_file($node->logfile), $log) =~ /LOG:  vecsync.queue: invalid page in block $block .*?\n.*DETAIL:  Changes that are noted there wait.*\n.*HINT:  TRUNCATE/g;
	is(scalar(@said), 1, 'which says it once');
	$mend->($block);
	in_step('the block can be read again', qw(t u));
	is(sql(q{SELECT count(*) FROM vecsync.status WHERE state <> 'in step'}), '0', 'all is well');

	sql(q{SELECT vecsync.pause(name) FROM vecsync.vectorizer; UPDATE u SET body = 'damaged'; INSERT INTO u VALUES (2000000, 'new'); DELETE FROM u WHERE id = 1000001;
		DELETE FROM papers WHERE id < 3; UPDATE papers SET body = 'other' WHERE id = 3});
	($block) = split /\n/, sql(q{SELECT DISTINCT (ctid::text::point)[0]::int FROM vecsync.queue ORDER BY 1});
	$damage->($block);
	ok(VecsyncNode::poll($node, q{SELECT count(*) FROM vecsync.status WHERE last_error ~ '^vecsync.queue: invalid page'}, '3'), 'damaged again');
	sql(q{TRUNCATE vecsync.queue; SELECT vecsync.resync(name), vecsync.resume(name) FROM vecsync.vectorizer; SELECT vecsync.verify('papers', repair => true)});
	in_step('after that', qw(t u));
	ok(VecsyncNode::settle($node, 'papers'), 'papers, too');
	is(sql(q{SELECT count(*) FROM vecsync.verify('papers')}), '0', 'with their chunks');
	is(sql(q{SELECT string_agg(chunk, ', ' ORDER BY id) FROM papers_chunks WHERE id < 5}), 'other, paper 4', 'of the rows that are there');
}

$service->stop;
$node->stop;
done_testing();

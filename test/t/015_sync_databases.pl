# Databases come, go, are dumped and copied; the extension is dropped and made again; a standby takes over.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, init => { allows_streaming => 1 }, conf => ["wal_keep_size = '256MB'"]);
my $url = $service->url;

sub sql { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

sub workers
{
	my ($n, $what) = @_;
	return ok($node->poll_query_until('postgres', qq{SELECT count(*) = $n FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), $what);
}

sub table
{
	my ($database, $rows) = @_;
	VecsyncNode::extension($node, $database) if $database ne 'postgres';
	sql("CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, '$database ' || i FROM generate_series(1, $rows) i", $database);
	sql("SELECT vecsync.create_model('m', url => '$url', model => 'fake'); SELECT vecsync.create_vectorizer('t', 'm', '{body}')", $database);
	return;
}

sub embedded
{
	my ($database, $rows, $what) = @_;
	return is(sql(q{SELECT vecsync.wait('t', '60s'); SELECT count(*) FROM t WHERE embedding = expected_vector(body, 8)}, $database), "t\n$rows", $what);
}

# ---- several databases -------------------------------------------------------------
sql('CREATE DATABASE one');
sql('CREATE DATABASE two');
sql('CREATE DATABASE plain');
table('postgres', 100);
table('one', 200);
table('two', 300);
embedded('postgres', 100, 'the first database');
embedded('one', 200, 'a second one, without configuration');
embedded('two', 300, 'a third one');
workers(3, 'a worker for each database that has the extension, none for the others');
is(sql(q{SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), 'one,postgres,two', 'and they say where they are');

# Numbers of this one's entries come from the same slot as those of postgres: its number is the same modulo 128.
sql(q{SELECT format('CREATE DATABASE neighbour OID = %s', 128 * 2000 + oid::int % 128) FROM pg_database WHERE datname = 'postgres'} . ' \\gexec');
table('neighbour', 10);
for my $database (qw(postgres neighbour))
{
	sql(q{SELECT vecsync.pause('t')}, $database);
	sql(join('; ', map { "INSERT INTO t VALUES ($_, 'neighbour $_')" } 5001 .. 5040), $_) for qw(postgres neighbour);
	is(sql(q{SELECT count(*) || ' ' || count(DISTINCT seq) || ' ' || (SELECT count(*) FROM (SELECT seq - lag(seq) OVER (ORDER BY keys) AS step FROM vecsync.queue) s WHERE step < 1) FROM vecsync.queue}, $database),
		'40 40 0', "numbers of $database ascend");
	sql(q{SELECT vecsync.resume('t')}, $database);
	embedded('postgres', 140, 'postgres'), embedded('neighbour', 50, 'and its neighbour');
	sql('DELETE FROM t WHERE id > 5000', $_) for qw(postgres neighbour);
	embedded('postgres', 100, 'postgres'), embedded('neighbour', 10, 'and its neighbour, again');
}
sql('DROP DATABASE neighbour WITH (FORCE)');

# ---- drop, rename, copy ---------------------------------------------------------------
is($node->psql('postgres', 'DROP DATABASE two'), 0, 'the worker does not stand in the way of DROP DATABASE');
sql('ALTER DATABASE one RENAME TO uno');
sql(q{INSERT INTO t VALUES (1001, 'renamed')}, 'uno');
embedded('uno', 201, 'a renamed database is followed');
sql('CREATE DATABASE copy TEMPLATE uno');
sql(q{INSERT INTO t VALUES (1002, 'in the copy')}, 'copy');
embedded('copy', 202, 'so is a copy');
sql('DROP DATABASE copy WITH (FORCE)');
my $refused = 0;
for my $pause (0 .. 2)
{
	sql('CREATE DATABASE brief');
	sql(q{CREATE EXTENSION vecsync CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text);
		SELECT vecsync.create_model('m', url => 'http://127.0.0.1:1/', model => 'm', dimensions => 2);
		SELECT vecsync.create_vectorizer('t', model => 'm', content => 'body')}, 'brief');
	select undef, undef, undef, .02 * $pause;
	$refused++ if $node->psql('postgres', 'DROP DATABASE brief') != 0;
}
is($refused, 0, 'nor does a worker that is about to start stand in the way');
SKIP:
{
	skip 'needs DEBUG_POINTS=1', 18 unless ($node->psql('postgres', 'SHOW vecsync.debug_crash'))[0] == 0;
	my ($hold, $held) = map { $node->data_dir . "/debug_$_" } qw(hold held);
	for my $point (qw(worker_starts worker_connects worker_connected))
	{
		my $log = -s $node->logfile;
		append_to_file($hold, '');
		ok(VecsyncNode::set($node, 'vecsync.debug_crash', "$point:hold"), "$point: the next worker waits");
		sql('CREATE DATABASE brief');
		sql("CREATE EXTENSION vecsync CASCADE; SELECT vecsync.create_model('m', url => '$url', model => 'fake', dimensions => 8)", 'brief');
		my $until = time + VecsyncNode::patience();
		select undef, undef, undef, .02 until -e $held || time > $until;
		ok(-e $held, "$point: it does");
		is($node->psql('postgres', 'DROP DATABASE brief'), 0, "$point: does not stand in the way");
		unlink $hold, $held;
		ok(VecsyncNode::set($node, 'vecsync.debug_crash', undef), "$point: goes on");
		sql(q{UPDATE t SET body = body || '.' WHERE id = 1}, 'uno');
		embedded('uno', 201, "$point: the others work");
		unlike(slurp_file($node->logfile, $log), qr/database \d+ does not exist|PANIC|terminated by signal/, "$point: nobody looks for it afterwards");
	}
}

# ---- the extension goes and comes -----------------------------------------------------------
sql('DROP EXTENSION vecsync CASCADE', 'uno');
is(sql(q{SELECT count(*) FROM pg_class WHERE relname LIKE 'vecsync%'}, 'uno') . sql(q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecsync%'}, 'uno'), '00', 'DROP EXTENSION CASCADE leaves nothing behind');
is(sql('SELECT count(embedding) FROM t', 'uno'), '201', 'but the vectors');
sql('UPDATE t SET body = body || 1', 'uno');
sql('CREATE EXTENSION vecsync', 'uno');
sql("SELECT vecsync.create_model('m', url => '$url', model => 'fake'); SELECT vecsync.create_vectorizer('t', 'm', '{body}')", 'uno');
embedded('uno', 201, 'and it works again');
sql(qq{UPDATE t SET body = body || $_ WHERE id = 1}, 'uno') for 1 .. 3;
embedded('uno', 201, 'for a while');
sql('DROP EXTENSION vecsync CASCADE; CREATE EXTENSION vecsync', 'uno');
sql("SELECT vecsync.create_model('m', url => '$url', model => 'fake'); SELECT vecsync.create_vectorizer('t', 'm', '{body}')", 'uno');
sql(q{UPDATE t SET body = 'numbered anew' WHERE id = 2}, 'uno');
embedded('uno', 201, 'also where no worker saw that it was gone');
SKIP:
{
	skip 'needs DEBUG_POINTS=1', 5 unless ($node->psql('postgres', 'SHOW vecsync.debug_crash'))[0] == 0;
	my ($hold, $held) = map { $node->data_dir . "/debug_$_" } qw(hold held);
	append_to_file($hold, '');
	ok(VecsyncNode::set($node, 'vecsync.debug_crash', 'worker_leaves:hold'), 'a worker that waits before it leaves');
	sql(q{UPDATE t SET body = 'it knows' WHERE id = 2}, 'uno');
	embedded('uno', 201, 'and knows of it');
	sql('DROP EXTENSION vecsync CASCADE', 'uno');
	my $until = time + VecsyncNode::patience();
	select undef, undef, undef, .02 until -e $held || time > $until;
	ok(-e $held, 'has found no extension');
	sql("BEGIN; CREATE EXTENSION vecsync; SELECT vecsync.create_model('m', url => '$url', model => 'fake'); SELECT vecsync.create_vectorizer('t', 'm', '{body}'); COMMIT", 'uno');
	unlink $hold, $held;
	ok(VecsyncNode::set($node, 'vecsync.debug_crash', undef), 'it leaves');
	embedded('uno', 201, 'and another one comes for what was made meanwhile');
}

# ---- dump and restore -----------------------------------------------------------------------
$service->scenario(dims => 8);
sql(q{SELECT vecsync.pause('t'); INSERT INTO t VALUES (2001, 'pending at dump time')}, 'uno');
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'uno' ], 'pg_dump');
sql('CREATE DATABASE restored');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'restored', '-f', $dump ], 'restore');
is(sql('SELECT count(*) FROM t WHERE embedding = expected_vector(body, 8)', 'restored'), '201', 'the vectors are in the dump');
sql(q{SELECT vecsync.resume('t'); UPDATE t SET body = 'changed' WHERE id = 5}, 'restored');
embedded('restored', 202, 'a restored database goes on');
is($service->stats->{inputs}, 2, 'and asks only for what was pending or changed');
is(sql(q{SELECT vecsync.create_vectorizer('t', 'm', 'body', name => 'second', destination => 'column:second')}, 'restored'), 'second', 'new vectorizers get new numbers');

# ---- standby and promotion --------------------------------------------------------------------
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'vecsync%'}), '0', 'a standby is idle');
is($standby->safe_psql('postgres', q{SELECT key->>'id' FROM vecsync.search('t', 'postgres 42', top_k => 1)}), '42', 'and answers questions');
$node->stop('fast');
$standby->promote;
$standby->safe_psql('postgres', q{INSERT INTO t VALUES (3001, 'after promotion')});
is($standby->safe_psql('postgres', q{SELECT vecsync.wait('t', '60s')}), 't', 'a promoted standby starts workers');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM t WHERE embedding = expected_vector(body, 8)}), '101', 'and goes on');
$standby->stop;

# ---- not preloaded -------------------------------------------------------------------------------
my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init;
$bare->start;
my ($out, $err);
$bare->psql('postgres', qq{CREATE EXTENSION vecsync CASCADE; CREATE TABLE t (id int PRIMARY KEY, body text);
	SELECT vecsync.create_model('m', url => '$url', model => 'fake'); SELECT vecsync.create_vectorizer('t', 'm', 'body'); INSERT INTO t VALUES (1, 'x')}, stdout => \$out, stderr => \$err);
like($err, qr/WARNING:  vecsync is not in shared_preload_libraries/, 'without preload a warning says what to do');
is($bare->safe_psql('postgres', q{SELECT worker, pending FROM vecsync.status}), 'not preloaded|1', 'and so does the status');
is($bare->safe_psql('postgres', q{SELECT vector_dims(vecsync.embed('m', 'x'))}), '8', 'questions work');
$bare->psql('postgres', q{SELECT vecsync.wait('t')}, stderr => \$err);
like($err, qr/ERROR:  vecsync is not in shared_preload_libraries/, 'wait says so, too');
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'vecsync'");
$bare->restart;
is($bare->safe_psql('postgres', q{SELECT vecsync.wait('t', '60s')}), 't', 'after a restart with preload the queue is worked off');
$bare->stop;

$service->stop;
done_testing();

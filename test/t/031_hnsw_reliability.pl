# The hnsw index under concurrent changes, crashes, replication and damage: every row returned has the distance it
# was returned for, no row is lost, and damaged pages are reported.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1, no_data_checksums => 1);
$node->append_conf('postgresql.conf', qq{
autovacuum = off
wal_consistency_checking = 'generic'
max_wal_size = '2GB'
wal_keep_size = '2GB'
hot_standby_feedback = off
});
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION vector;
CREATE TABLE t (id bigserial PRIMARY KEY, v vector(40), note int);
CREATE FUNCTION sample() RETURNS vector LANGUAGE sql VOLATILE AS
$$ SELECT array_agg(random() - 0.5)::vector(40) FROM generate_series(1, 40) $$;
INSERT INTO t (v) SELECT sample() FROM generate_series(1, 1500) i;
CREATE INDEX i ON t USING hnsw (v vector_l2_ops);
CREATE UNLOGGED TABLE u AS SELECT id, v FROM t;
CREATE INDEX ui ON u USING hnsw (v vector_l2_ops);
});
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 60s\n");
$standby->start;

sub sound
{
	my ($name) = @_;
	is($node->safe_psql('postgres', q{SELECT string_agg(p, ', ') FROM (SELECT vector_index_check('i') p LIMIT 5) x}), '', "$name: sound");
	is($node->safe_psql('postgres', q{SET enable_seqscan = off; SET work_mem = '64MB';
		SELECT count(*) - (SELECT count(*) FROM t WHERE v IS NOT NULL), count(*) - count(DISTINCT id)
		FROM (SELECT id FROM t ORDER BY v <-> (SELECT v FROM t LIMIT 1)) x}), '0|0', "$name: every row, once");
}

# Distances that go down, or differ from the row's own, raise an error in the scanning client.
$node->safe_psql('postgres', q{
CREATE FUNCTION check_scan(q vector) RETURNS int LANGUAGE plpgsql AS $$
DECLARE r record; last float8 := -1; n int := 0;
BEGIN
	SET LOCAL enable_seqscan = off;
	FOR r IN SELECT id, v, v <-> q AS d FROM t ORDER BY v <-> q LIMIT 60 LOOP
		IF r.d < last THEN RAISE EXCEPTION 'order: % after %', r.d, last; END IF;
		IF r.d <> l2_distance(r.v, q) THEN RAISE EXCEPTION 'distance'; END IF;
		last := r.d; n := n + 1;
	END LOOP;
	IF n < 60 THEN RAISE EXCEPTION 'only % rows', n; END IF;
	RETURN n;
END $$;
});
my %script = (
	scan => 'SELECT check_scan(sample());',
	insert => "INSERT INTO t (v) VALUES (sample());\nINSERT INTO t (v) SELECT v FROM t WHERE id = (SELECT max(id) FROM t) - (random() * 50)::int;",
	delete => 'DELETE FROM t WHERE id = (SELECT min(id) FROM t) + (random() * 300)::int AND (SELECT count(*) FROM t) > 500;',
	update => "UPDATE t SET note = 1 WHERE id = (SELECT max(id) FROM t) - (random() * 300)::int;\n"
		. 'UPDATE t SET v = sample() WHERE id = (SELECT max(id) FROM t) - (random() * 300)::int;',
	vacuum => 'VACUUM t;');
my $folder = PostgreSQL::Test::Utils::tempdir();
my @files;
for my $name (sort keys %script)
{
	PostgreSQL::Test::Utils::append_to_file("$folder/$name.sql", "$script{$name}\n");
	push @files, '-f', "$folder/$name.sql@" . { scan => 6, insert => 12, delete => 12, update => 4, vacuum => 1 }->{$name};
}

sub churn
{
	my ($seconds) = @_;
	return ['pgbench', '-n', '-c', '6', '-j', '2', '-T', $seconds, @files, $node->connstr('postgres')];
}
$node->command_ok(churn(12), 'insert, delete, update, vacuum and scan at once');
sound('after churn');
is($node->safe_psql('postgres', 'VACUUM t; VACUUM t; SELECT 1'), '1', 'vacuum');
sound('after vacuum');

# a standby gives the same answers
my @queries = map { $node->safe_psql('postgres', 'SELECT sample()') } 1 .. 5;
sub answers
{
	my ($server, $query) = @_;
	return $server->safe_psql('postgres', "SET enable_seqscan = off; SELECT string_agg(id::text, ' ') FROM (SELECT id FROM t ORDER BY v <-> '$query' LIMIT 30) x");
}
$node->wait_for_catchup($standby);
is(answers($standby, $_), answers($node, $_), 'standby agrees') for @queries;
is($standby->safe_psql('postgres', "SET enable_seqscan = off; SELECT count(*) FROM (SELECT id FROM t ORDER BY v <-> '$queries[0]') x"),
	$node->safe_psql('postgres', 'SELECT count(*) FROM t'), 'standby returns every row');

# crashes in the middle of it all
for my $round (1 .. 3)
{
	my $run = IPC::Run::start(churn(30), '>', '/dev/null', '2>', '/dev/null');
	sleep 2 + $round;
	# once with a standby that lags behind by more than a WAL segment
	my $receiver = $round == 2 ? $standby->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver') : '';
	do { kill STOP => $receiver; sleep 2 } if $receiver;
	$node->stop('immediate');
	IPC::Run::finish($run);
	$node->start;
	kill CONT => $receiver if $receiver;
	sound("crash $round");
	is($node->safe_psql('postgres', 'SELECT check_scan(sample())'), '60', "crash $round: search");
	is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(*) FROM (SELECT id FROM u ORDER BY v <-> sample()) x'), '0',
		"crash $round: unlogged index is empty");
}
$node->safe_psql('postgres', 'VACUUM t');
sound('vacuum after crashes');
$node->wait_for_catchup($standby);
is(answers($standby, $_), answers($node, $_), 'standby agrees after crashes') for @queries;
my $log = PostgreSQL::Test::Utils::slurp_file($standby->logfile);
unlike($log, qr/inconsistent page|PANIC/, 'pages replayed as written');

# cancel: at once, and nothing is left behind
my ($status, $out, $err) = $node->psql('postgres', q{
	CREATE TABLE big AS SELECT sample()::vector(40) v FROM generate_series(1, 20000);
	SET statement_timeout = '300ms'; CREATE INDEX bi ON big USING hnsw (v vector_l2_ops)});
like($err, qr/canceling statement due to statement timeout/, 'build is cancelled');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'bi'}), '0', 'and gone');

# damage: reported by the verifier, an error with a hint in a scan, never a crash
$node->safe_psql('postgres', q{ALTER SYSTEM SET zero_damaged_pages = off; CHECKPOINT});
my $file = $node->data_dir . '/' . $node->safe_psql('postgres', q{SELECT pg_relation_filepath('i')});
my $blocks = $node->safe_psql('postgres', q{SELECT pg_relation_size('i') / 8192});
$node->stop;
my $sane = PostgreSQL::Test::Utils::slurp_file($file);
my %damage = (
	'zeroed pages' => sub { my ($b) = @_; return "\0" x 8192 },
	'numbers out of range' => sub { my ($b) = @_; my $p = $_[1]; substr($p, 24 + 32 + 4 * $_, 4) = pack('V', 0x12345678) for 0 .. 20; return $p },
	'long lists' => sub { my ($b, $p) = @_; substr($p, 24 + 104 * 0, 2) = pack('v', 9999); return $p },
	'noise' => sub { my ($b, $p) = @_; my $n = join '', map { chr(int rand 256) } 1 .. 8000; substr($p, 64, 8000) = $n; return $p });
srand(7);
for my $kind (sort keys %damage)
{
	my $bytes = $sane;
	for my $block (1 .. $blocks - 1)
	{
		next if $block % 2;
		substr($bytes, $block * 8192, 8192) = $damage{$kind}->($block, substr($bytes, $block * 8192, 8192));
	}
	open my $handle, '+<:raw', $file or die;
	print $handle $bytes;
	close $handle;
	$node->start;
	my ($status, $out, $err) = $node->psql('postgres', q{
		SET enable_seqscan = off; SET statement_timeout = '20s'; \set VERBOSITY verbose
		SELECT count(*) FROM (SELECT id FROM t ORDER BY v <-> (SELECT sample()) LIMIT 5000) x});
	like($err, qr/XX002.*\n.*REINDEX INDEX|^$/s, "$kind: an error with a hint, or an answer");
	unlike($err, qr/server closed the connection|timeout/, "$kind: no crash, no loop");
	isnt($node->safe_psql('postgres', q{SELECT count(*) FROM vector_index_check('i')}), '0', "$kind: reported");
	$node->stop;
}

# an index of pgvector is refused
{
	my $bytes = $sane;
	substr($bytes, 24, 4) = pack('V', 0xA953A953);
	substr($bytes, 8184, 8) = pack('VVV', 0xFFFFFFFF, 0xFF90, 0) =~ s/^(.{8}).*/$1/sr;
	open my $handle, '+<:raw', $file or die;
	print $handle $bytes;
	close $handle;
	$node->start;
	for my $statement ('SELECT id FROM t ORDER BY v <-> (SELECT sample()) LIMIT 1', 'INSERT INTO t (v) VALUES (sample())')
	{
		(undef, undef, my $err) = $node->psql('postgres', "SET enable_seqscan = off; $statement");
		like($err, qr/index "i" was built by pgvector.*REINDEX INDEX/s, 'an index of pgvector is refused');
	}
	$node->safe_psql('postgres', 'REINDEX INDEX i');
	sound('rebuilt');
}
$node->stop;
$standby->stop;
done_testing();

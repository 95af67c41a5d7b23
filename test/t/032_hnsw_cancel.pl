# Statements that work on an hnsw index stop soon after they are told to, wherever they are: builds in memory, past
# maintenance_work_mem and by workers, scans, inserts and vacuums, with the largest values and the widest lists.
#
# statement_timeout interrupts each statement again and again, later each time; what it took to stop is the time that
# psql shows, less the timeout.  The aim is 0.1 s on an idle machine; the test allows for a slow and busy one.
# VECSYNC_CANCEL_ROUNDS: interruptions of each statement (5).
use strict;
use warnings;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{VECSYNC_CANCEL_ROUNDS} // 5;
my $allowed = 3000;

my $node = PostgreSQL::Test::Cluster->new('cancel');
$node->init;
$node->append_conf('postgresql.conf', qq{
autovacuum = off
jit = off
maintenance_work_mem = '256MB'
shared_buffers = '256MB'
max_wal_size = '2GB'
min_parallel_table_scan_size = 0
});
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION vector;
-- many: small values; large: one of them is a page, and with it the lists are as long as they can be
CREATE TABLE many (id int, v vector(8));
INSERT INTO many SELECT i, ARRAY[sin(i), sin(i * 1.1), sin(i * 1.3), sin(i * 1.7), sin(i * 1.9), sin(i * 2.3), sin(i * 2.9), sin(i * 3.1)]::vector
	FROM generate_series(1, 30000) i;
CREATE TABLE large (id int, v vector(16000));
INSERT INTO large SELECT i, (SELECT array_agg(sin(i * 7.7 + g * (i % 9 + 1) * 0.01)::real) FROM generate_series(1, 16000) g)::vector
	FROM generate_series(1, 250) i;
CREATE TABLE twins (id int, v vector(3));
INSERT INTO twins SELECT i, '[1,2,3]' FROM generate_series(1, 30000) i;
VACUUM ANALYZE;
});

# The longest that "statement" took to stop, in ms.  "before" undoes and prepares, and is not interrupted.
sub longest
{
	my ($name, $before, $statement, $first, $step) = @_;
	my $script = '';
	for my $round (0 .. $rounds - 1)
	{
		my $timeout = int($first + $step * $round);
		$script .= "SET statement_timeout = 0;\n$before;\nSET statement_timeout = $timeout;\n\\timing on\n\\echo timeout $timeout\n"
			. "$statement;\n\\timing off\n";
	}
	my (undef, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0);
	my @excess;
	while ($out =~ /timeout (\d+)(.*?)Time: ([\d.]+) ms/gs)
	{
		push @excess, $3 - $1;
	}
	my $stopped = () = $err =~ /canceling statement due to statement timeout/g;
	my @others = grep { /ERROR/ && !/statement timeout/ } split /\n/, $err;
	is(scalar @others, 0, "$name: no other error") or diag(join "\n", @others);
	cmp_ok($stopped, '>', 0, "$name: was interrupted");
	my $longest = max(@excess);
	cmp_ok($longest, '<', $allowed, "$name: stopped in time");
	note sprintf('%s: %d times of %d interrupted, stopped after %.1f ms at most', $name, $stopped, $rounds, $longest);
	return;
}

my $many = 'CREATE INDEX i ON many USING hnsw (v vector_l2_ops)';
my $large = 'CREATE INDEX i ON large USING hnsw (v vector_l2_ops) WITH (m = 100, ef_construction = 1000)';
my $serial = 'DROP INDEX IF EXISTS i; SET max_parallel_maintenance_workers = 0';
my $workers = 'DROP INDEX IF EXISTS i; SET max_parallel_maintenance_workers = 2';
my $little = "SET maintenance_work_mem = '1MB'; SET client_min_messages = warning";
longest('build', $serial, $many, 40, 90);
longest('build by workers', $workers, $many, 40, 90);
longest('build past maintenance_work_mem', "$serial; $little", $many, 100, 250);
longest('build by workers past maintenance_work_mem', "$workers; $little", $many, 100, 250);
longest('build of equal values', $serial, $many =~ s/many/twins/r, 5, 10);
longest('build, 16,000 dimensions', $serial, $large, 200, 120);
longest('build by workers, 16,000 dimensions', $workers, $large, 200, 120);
longest('build past maintenance_work_mem, 16,000 dimensions', "$serial; $little", $large, 200, 120);

$node->safe_psql('postgres', "$serial; $many; CREATE INDEX t ON twins USING hnsw (v vector_l2_ops);
	CREATE INDEX l ON large USING hnsw (v vector_l2_ops) WITH (m = 100, ef_construction = 1000)");
my $scan = "SELECT sum(id) FROM (SELECT id FROM %s ORDER BY v <-> (SELECT v FROM %s LIMIT 1) OFFSET 1) x";
my $setup = 'SET enable_seqscan = off; SET hnsw.ef_search = 1000';
longest('scan of all rows', $setup, sprintf($scan, 'many', 'many'), 2, 15);
longest('scan of all rows, much memory', "$setup; SET work_mem = '1GB'", sprintf($scan, 'many', 'many'), 2, 15);
longest('scan of equal values', $setup, sprintf($scan, 'twins', 'twins'), 2, 5);
longest('scan, 16,000 dimensions', $setup, sprintf($scan, 'large', 'large'), 1, 5);
longest('insert', 'SELECT 1', 'INSERT INTO many SELECT id, v * v FROM many', 40, 60);
longest('insert, 16,000 dimensions', 'SELECT 1', 'INSERT INTO large SELECT id, v * v FROM large', 100, 90);
longest('insert of equal values', 'SELECT 1', 'INSERT INTO twins SELECT id, v FROM twins', 5, 30);
$node->safe_psql('postgres', 'DELETE FROM many WHERE id % 3 = 1; DELETE FROM large WHERE id % 3 = 1; DELETE FROM twins WHERE id % 3 <> 1');
longest('vacuum', 'SELECT 1', 'VACUUM many', 1, 15);
longest('vacuum, 16,000 dimensions', 'SELECT 1', 'VACUUM large', 1, 10);
longest('vacuum of equal values', 'SELECT 1', 'VACUUM twins', 1, 5);

# what was interrupted left nothing wrong behind
$node->safe_psql('postgres', 'VACUUM many; VACUUM large; VACUUM twins');
is($node->safe_psql('postgres', "SELECT count(*) FROM vector_index_check('$_')"), '0', "$_: sound") for 'i', 'l', 't';
$node->stop;
done_testing();

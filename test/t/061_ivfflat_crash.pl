# ivfflat: crashes, a standby, changes and scans at the same time, damaged files.

use strict;
use warnings FATAL => 'all';

use Fcntl qw(SEEK_SET);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1, no_data_checksums => 1);
$primary->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\nwal_keep_size = '1GB'\nrestart_after_crash = on\nmax_connections = 30\n");
$primary->start;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

sub sql { return $primary->safe_psql('postgres', $_[0]) }

sql('CREATE EXTENSION vector');
sql(q{CREATE FUNCTION spot(i int) RETURNS vector LANGUAGE sql IMMUTABLE AS
	'SELECT array_agg(sin(i * d) + cos(i * 0.01 * d))::vector(8) FROM generate_series(1, 8) d'});
sql(q{CREATE TABLE t (id int, v vector(8));
	INSERT INTO t SELECT i, spot(i) FROM generate_series(1, 4000) i;
	CREATE INDEX t_cosine ON t USING ivfflat (v vector_cosine_ops) WITH (lists = 20);
	CREATE INDEX t_l2 ON t USING ivfflat (v) WITH (lists = 20);
	CREATE INDEX t_hamming ON t USING ivfflat ((binary_quantize(v)::bit(8)) bit_hamming_ops) WITH (lists = 4);});

# What all lists together give, in order, equals the table.
my $all = "SET enable_seqscan = off; SET ivfflat.probes = 20;";
my @complete = (
	"$all SELECT count(*) = (SELECT count(*) FROM t), count(*) = count(DISTINCT row) FROM (SELECT ctid AS row FROM t ORDER BY v <-> '[1,0,0,0,0,0,0,0]') x",
	"$all SELECT count(*) = (SELECT count(*) FROM t), count(*) = count(DISTINCT row) FROM (SELECT ctid AS row FROM t ORDER BY v <=> '[1,0,0,0,0,0,0,0]') x",
	"$all SELECT count(*) = (SELECT count(*) FROM t), count(*) = count(DISTINCT row) FROM (SELECT ctid AS row FROM t ORDER BY binary_quantize(v)::bit(8) <~> B'10101010') x");

sub complete
{
	my ($what) = @_;
	is(join(' ', map { sql($_) } @complete), 't|t t|t t|t', "$what: every row, once");
	return;
}

# ---- a standby -----------------------------------------------------------------------
sub same_on_standby
{
	my ($what) = @_;
	$primary->wait_for_catchup($standby);
	my $differ = 0;
	for my $probes (1, 5)
	{
		for my $op ('<->', '<=>')
		{
			my $query = "SET enable_seqscan = off; SET ivfflat.probes = $probes;
				SELECT array_agg(id) FROM generate_series(1, 4000, 400) i,
				LATERAL (SELECT id FROM t ORDER BY v $op spot(i) LIMIT 50) n";
			$differ++ if sql($query) ne $standby->safe_psql('postgres', $query);
		}
	}
	is($differ, 0, "$what: the standby answers alike");
	return;
}
same_on_standby('built');
for my $round (1 .. 4)
{
	sql("INSERT INTO t SELECT i, spot(i) FROM generate_series($round * 10000, $round * 10000 + 3000) i");
	same_on_standby("inserted $round") if $round == 1;
	sql("DELETE FROM t WHERE id % 4 = $round - 1");
	sql('VACUUM t');
	same_on_standby("vacuumed $round");
}
complete('after rounds of changes');

# ---- crashes at chosen points ------------------------------------------------------------
my $points = ($primary->psql('postgres', "LOAD 'vector'; SHOW vector.debug_crash"))[0] == 0;

sub crash_at
{
	my ($point, $work) = @_;
  SKIP:
	{
		skip 'built without debug points', 2 unless $points;
		my ($result, $out, $err) = $primary->psql('postgres', "LOAD 'vector'; SET vector.debug_crash = '$point'; $work");
		like($err, qr/server closed the connection|terminat/i, "crash at $point");
		$primary->poll_query_until('postgres', 'SELECT 1', '1') or die 'no restart';
		complete("crash at $point");
	}
	return;
}
crash_at('ivfflat_grow', 'INSERT INTO t SELECT i, spot(77) FROM generate_series(100000, 101000) i');
sql('DELETE FROM t WHERE id % 3 = 0');
crash_at('ivfflat_vacuum_hints', 'VACUUM t');
sql('INSERT INTO t SELECT i, spot(i) FROM generate_series(200000, 202000) i');
sql('VACUUM t');
complete('changed after the crashes');

# ---- everything at the same time, and a stop in the middle of it ---------------------------
my $dir = PostgreSQL::Test::Utils::tempdir;
my %scripts = (
	insert => "\\set i random(1, 1000000)\nINSERT INTO t VALUES (:i + 1000000, spot(:i));\n",
	delete => "\\set i random(1, 1000000)\nDELETE FROM t WHERE ctid IN (SELECT ctid FROM t ORDER BY v <-> spot(:i) LIMIT 1);\n",
	update => "\\set i random(1, 1000000)\nUPDATE t SET v = spot(:i) WHERE ctid IN (SELECT ctid FROM t ORDER BY v <=> spot(:i + 1) LIMIT 1);\n",
	vacuum => "VACUUM t;\n\\sleep 300 ms\n",
	# The order is by what the index holds, the distance by what the row holds: they have to agree.
	scan => "\\set i random(1, 1000000)\nSELECT 1 / (count(*) FILTER (WHERE d < before OR again) = 0)::int FROM (\n"
		. "SELECT d, lag(d) OVER (ORDER BY place) AS before, count(*) OVER (PARTITION BY id, at) > 1 AS again FROM (\n"
		. "SELECT id, ctid AS at, v <-> spot(:i) AS d, row_number() OVER () AS place FROM (SELECT ctid, * FROM t ORDER BY v <-> spot(:i) LIMIT 300) n) x) y;\n",
	cosine => "\\set i random(1, 1000000)\nSELECT 1 / (count(*) FILTER (WHERE d < before) = 0)::int FROM (\n"
		. "SELECT d, lag(d) OVER (ORDER BY place) AS before FROM (\n"
		. "SELECT v <=> spot(:i) AS d, row_number() OVER () AS place FROM (SELECT * FROM t ORDER BY v <=> spot(:i) LIMIT 300) n) x) y;\n");
for (keys %scripts) { append_to_file("$dir/$_.sql", $scripts{$_}) }
my @pgbench = ('pgbench', '-n', '-h', $primary->host, '-p', $primary->port, '-M', 'prepared',
	(map { ('-f', "$dir/$_->[0].sql\@$_->[1]") } ['insert', 6], ['delete', 2], ['update', 3], ['vacuum', 1], ['scan', 4], ['cosine', 2]), 'postgres');
$ENV{PGOPTIONS} = '-c enable_seqscan=off -c ivfflat.probes=4';
my ($out, $err) = ('', '');
IPC::Run::run([@pgbench, '-c', '6', '-T', '8'], '>', \$out, '2>', \$err);
unlike($err, qr/ERROR|abort/, 'inserts, deletes, updates, vacuums and scans at the same time: no error, every distance right')
	or diag(substr($err, 0, 2000));
complete('after everything at the same time');

my $load = IPC::Run::start([@pgbench, '-c', '4', '-T', '30'], '>', \$out, '2>', \$err);
sleep 2;
$primary->stop('immediate');
eval { $load->finish };
delete $ENV{PGOPTIONS};
$primary->start;
complete('after an immediate stop');
sql('INSERT INTO t SELECT i, spot(i) FROM generate_series(300000, 301000) i; VACUUM t');
complete('and changes after it');
same_on_standby('after an immediate stop');
$standby->stop;

# An unlogged index is empty after a crash, and works.
sql(q{CREATE UNLOGGED TABLE u (v vector(3)); INSERT INTO u SELECT ARRAY[i, i, i]::vector(3) FROM generate_series(1, 500) i;
	CREATE INDEX ON u USING ivfflat (v) WITH (lists = 5); CHECKPOINT});
$primary->stop('immediate');
$primary->start;
is(sql('SET enable_seqscan = off; SELECT count(*) FROM (SELECT * FROM u ORDER BY v <-> \'[1,1,1]\') x'), 0, 'an unlogged index is empty after a crash');
sql('INSERT INTO u SELECT ARRAY[i, i, i]::vector(3) FROM generate_series(1, 500) i');
is(sql('SET enable_seqscan = off; SELECT count(*) FROM (SELECT * FROM u ORDER BY v <-> \'[1,1,1]\') x'), 500, 'and takes rows again');

# ---- damaged files ----------------------------------------------------------------------
my $path = $primary->data_dir . '/' . sql("SELECT pg_relation_filepath('t_l2')");
my $size = sql("CHECKPOINT; SELECT pg_relation_size('t_l2')");
my $blocks = $size / 8192;

sub write_at
{
	my ($offset, $bytes) = @_;
	$primary->stop;
	open my $file, '+<:raw', $path or die $!;
	seek $file, $offset, SEEK_SET;
	print $file $bytes;
	close $file;
	$primary->start;
	return;
}

sub original
{
	my $file = slurp_file($path);
	return sub { write_at(0, $file); return };
}
$primary->stop;
my $restore = original();
$primary->start;
my $search = "SET enable_seqscan = off; SET ivfflat.probes = 20; SET statement_timeout = '20s'; SELECT count(*) FROM (SELECT id FROM t ORDER BY v <-> spot(5)) x";

# Each of these has its own error; the second number is the place in the page.
for (['magic of pgvector', 0, 24, pack('V', 0x014FF1A7), qr/55000: .*was built by pgvector.*HINT:  Rebuild it with REINDEX INDEX/s],
	['another format', 0, 28, pack('V', 7), qr/55000: .*newer version.*HINT:  Rebuild/s],
	['magic', 0, 24, pack('V', 5), qr/XX002: .*is corrupted.*HINT:  Rebuild/s],
	['dimensions', 0, 36, pack('V', 9), qr/XX002: .*is corrupted/s],
	['number of lists', 0, 40, pack('V', 30000), qr/XX002: .*is corrupted/s],
	['empty page of centers', 1, 0, "\0" x 8192, qr/XX002: .*page is empty/s],
	['kind of a page', 2, 8190, pack('v', 1), qr/XX002: .*is corrupted/s],
	['extents of a list', 2, 24 + 8, pack('V', 31), qr/XX002: .*too many extents/s],
	['place of an extent', 2, 24 + 16, pack('V', 0x7fffffff), qr/XX002: .*outside/s],
	['pages of a list', 2, 24, pack('V', 1), qr/XX002: .*is wrong/s],
	['end of the entries', 3, 12, pack('v', 8000), qr/XX002: .*is corrupted/s],
	['owner of a page', 3, 8176, pack('V', 7), qr/XX002: .*another list/s])
{
	my ($what, $block, $offset, $bytes, $expected) = @$_;
	write_at($block * 8192 + $offset, $bytes);
	my ($result, $out, $err) = $primary->psql('postgres', "\\set VERBOSITY verbose\n$search");
	like($err, $expected, "damaged: $what");
	$restore->();
}

# A list that is full and has no extent left refuses rows, and the file does not grow for each of them.
my ($pages, undef, $extents) = unpack 'V3', substr(slurp_file($path), 2 * 8192 + 24, 12);
write_at(2 * 8192 + 24 + 4, pack('V V', $pages, 30));
write_at(2 * 8192 + 24 + 16 + 8 * $extents, pack('V V', 3, 0) x (30 - $extents));
is(sql(q{
	CREATE FUNCTION refused(i int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO t VALUES (-1, spot(i));
		RETURN false;
	EXCEPTION WHEN program_limit_exceeded THEN RETURN true;
	END $$;
	CREATE TABLE refused AS SELECT i FROM generate_series(1, 300) i WHERE refused(i) LIMIT 1;
	CREATE TABLE size AS SELECT pg_relation_size('t_l2') AS before;
	SELECT (SELECT bool_and(refused(refused.i)) FROM refused, generate_series(1, 5)), before = pg_relation_size('t_l2') FROM size}),
	't|t', 'a list that cannot grow does not make the file grow');
$restore->();
sql('DELETE FROM t WHERE id = -1; DROP FUNCTION refused; DROP TABLE refused, size');

# Random damage: an error or another answer, never a crash and never without end.
srand 7;
my $unexpected = '';
for my $round (1 .. 12)
{
	my $block = $round % 3 == 0 ? int(rand($blocks)) : int(rand(5));
	my $length = 1 + int(rand(40));
	my $place = $round % 2 ? int(rand(120)) : 8192 - 16 - int(rand(300));
	write_at($block * 8192 + $place, join('', map { chr int rand 256 } 1 .. $length));
	for my $work ($search, "INSERT INTO t SELECT i, spot(i) FROM generate_series(1, 20) i", 'VACUUM t',
		"DELETE FROM t WHERE id % 50 = $round", 'VACUUM t')
	{
		my ($result, $out, $err) = $primary->psql('postgres', $work);
		$unexpected .= "block $block, place $place, length $length, $work: $err\n"
			if $result != 0 && $err !~ /ERROR/ || $err =~ /timeout|closed the connection/;
	}
	$restore->();
}
is($unexpected, '', 'random damage neither crashes nor hangs anything');

sql('REINDEX TABLE t');
complete('rebuilt');

$primary->stop;
done_testing();

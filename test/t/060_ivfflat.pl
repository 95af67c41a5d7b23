# ivfflat: recall against exact search for every operator class, built alone and by workers, before and after changes.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $lists = 40;
my $node = PostgreSQL::Test::Cluster->new('ivfflat');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\nmin_parallel_table_scan_size = 0\n"
	. "max_worker_processes = 8\nmaintenance_work_mem = '128MB'\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Points around 60 places, so that near and far exist.
sql('CREATE EXTENSION vector');
sql(q{CREATE FUNCTION spot(i int) RETURNS float8[] LANGUAGE sql VOLATILE AS
	'SELECT array_agg(sin((i % 60) * d * 1.7) + (random() - 0.5) * 0.9) FROM generate_series(1, 16) d'});
sql(q{CREATE TABLE points (id int PRIMARY KEY, v vector(16), h halfvec(16), b bit(64));
	SELECT setseed(0.5);
	INSERT INTO points SELECT i, s, s::vector(16), (hashint8extended(i % 60, 1)::bit(64)) # (1::bigint << (i % 64))::bit(64)
	FROM (SELECT i, spot(i) AS s FROM generate_series(1, 6000) i OFFSET 0) x;
	VACUUM ANALYZE points;});

# The share of the 10 nearest that an index scan finds; what is as near as the tenth counts.
sql(q{CREATE FUNCTION recall(col text, op text, probes int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	q text; exact float8[]; got float8[]; plan text; hits int := 0; n int := 0;
BEGIN
	PERFORM set_config('ivfflat.probes', probes::text, true);
	FOR q IN EXECUTE format('SELECT %I::text FROM points WHERE id %% 211 = 3 AND %1$I IS NOT NULL', col) LOOP
		SET LOCAL enable_seqscan = off;
		EXECUTE format('EXPLAIN SELECT %I %s %L FROM points ORDER BY %1$I %2$s %3$L LIMIT 10', col, op, q) INTO plan;
		EXECUTE format('SELECT array_agg(d) FROM (SELECT %I %s %L AS d FROM points ORDER BY %1$I %2$s %3$L LIMIT 10) x', col, op, q) INTO got;
		SET LOCAL enable_seqscan = on;
		EXECUTE format('SELECT array_agg(d) FROM (SELECT (%I %s %L) + 0 AS d FROM points ORDER BY 1 LIMIT 10) x', col, op, q) INTO exact;
		hits := hits + (SELECT count(*) FROM unnest(got) d WHERE d <= exact[10]);
		n := n + 10;
	END LOOP;
	RETURN round(hits / n::numeric, 3);
END $$});

my @classes = (['v', 'vector_l2_ops', '<->'], ['v', 'vector_ip_ops', '<#>'], ['v', 'vector_cosine_ops', '<=>'],
	['h', 'halfvec_l2_ops', '<->'], ['h', 'halfvec_ip_ops', '<#>'], ['h', 'halfvec_cosine_ops', '<=>'],
	['b', 'bit_hamming_ops', '<~>']);

sub check_recall
{
	my ($col, $op, $what) = @_;
	my ($one, $ten, $all) = map { sql("SELECT recall('$col', '$op', $_)") } 1, 10, $lists;
	cmp_ok($one, '>=', 0.4, "$what: recall $one with 1 probe");
	cmp_ok($ten, '>=', 0.93, "$what: recall $ten with 10 probes");
	cmp_ok($ten, '>=', $one, "$what: more probes do not find less");
	is($all, '1.000', "$what: exact with all lists");
	return;
}

for (@classes)
{
	my ($col, $class, $op) = @$_;
	for my $workers (0, 2)
	{
		sql("ALTER TABLE points SET (parallel_workers = $workers)");
		my ($result, $out, $err) = $node->psql('postgres',
			"SET client_min_messages = debug1; SET max_parallel_maintenance_workers = $workers;
			CREATE INDEX points_idx ON points USING ivfflat ($col $class) WITH (lists = $lists)");
		is($result, 0, "$class: built");
		if ($workers > 0) { like($err, qr/using [12] parallel workers/, "$class: by workers") }
		else { unlike($err, qr/parallel workers/, "$class: alone") }
		check_recall($col, $op, "$class, $workers workers");
		sql('DROP INDEX points_idx') if $workers == 0;
	}

	# What is inserted, changed and deleted is found as well, or not.
	sql(q{BEGIN; SELECT setseed(0.1);
		INSERT INTO points SELECT i, s, s::vector(16), (hashint8extended(i % 60, 1)::bit(64)) # (1::bigint << (i % 64))::bit(64)
		FROM (SELECT i, spot(i) AS s FROM generate_series(10001, 11000) i OFFSET 0) x;
		UPDATE points SET v = x.v, h = x.h, b = x.b FROM points x WHERE points.id <= 500 AND x.id = points.id + 500;
		DELETE FROM points WHERE id BETWEEN 3000 AND 4000; COMMIT});
	sql('VACUUM points') if $col eq 'v';
	check_recall($col, $op, "$class, changed");
	sql(q{DROP INDEX points_idx; TRUNCATE points; SELECT setseed(0.5);
	INSERT INTO points SELECT i, s, s::vector(16), (hashint8extended(i % 60, 1)::bit(64)) # (1::bigint << (i % 64))::bit(64)
	FROM (SELECT i, spot(i) AS s FROM generate_series(1, 6000) i OFFSET 0) x});
}

# The planner takes the index where it serves, and the phases of a build have names.
sql("CREATE INDEX points_idx ON points USING ivfflat (v) WITH (lists = $lists)");
sql('ANALYZE points');
like(sql("EXPLAIN SELECT id FROM points ORDER BY v <-> (SELECT v FROM points WHERE id = 1) LIMIT 10"), qr/Index Scan using points_idx/, 'chosen for a LIMIT');
unlike(sql("EXPLAIN SELECT id FROM points ORDER BY v <-> (SELECT v FROM points WHERE id = 1)"), qr/points_idx/, 'not for every row');
unlike(sql("EXPLAIN SELECT id FROM points WHERE id = 5 ORDER BY v <-> (SELECT v FROM points WHERE id = 1) LIMIT 1"), qr/points_idx/, 'nor for a selective condition');
unlike(sql("EXPLAIN SELECT count(*) FROM points"), qr/points_idx/, 'nor without an order');
is(sql("SELECT string_agg(pg_indexam_progress_phasename(a.oid, n), ', ' ORDER BY n) FROM pg_am a, generate_series(1, 5) n WHERE amname = 'ivfflat'"),
	'initializing, performing k-means, assigning tuples, loading tuples', 'phases of a build');

# A build can be cancelled, and leaves nothing.
sql("INSERT INTO points SELECT 100000 + i, spot(i) FROM generate_series(1, 30000) i");
my ($result, $out, $err) = $node->psql('postgres', "SET statement_timeout = '100ms'; SET max_parallel_maintenance_workers = 0;
	CREATE INDEX cancelled ON points USING ivfflat (v vector_cosine_ops) WITH (lists = 3000)");
like($err, qr/canceling statement/, 'a build can be cancelled');
is(sql("SELECT count(*) FROM pg_class WHERE relname = 'cancelled'"), 0, 'and leaves nothing');

$node->stop;
done_testing();

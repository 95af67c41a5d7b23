# The hnsw index with what is unlike anything else: a hundred thousand equal rows, lengths next to nothing and next to
# overflow, rows replaced again and again, and shared memory that cannot be had.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('extremes');
$node->init;
$node->append_conf('postgresql.conf', qq{
autovacuum = off
jit = off
maintenance_work_mem = '256MB'
min_parallel_table_scan_size = 0
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION vector');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub sound
{
	my ($name, $index) = @_;
	is(sql("SELECT string_agg(p, ', ') FROM (SELECT vector_index_check('$index') p LIMIT 5) x"), '', "$name: sound");
	return;
}

# A hundred thousand copies among a thousand others are one node, and none of them is in the others' way.
sql(q{
CREATE TABLE t (id int, v vector(3));
INSERT INTO t SELECT i, ARRAY[i % 10, i / 10 % 10, i / 100]::vector FROM generate_series(0, 999) i;
INSERT INTO t SELECT 1000 + i, '[4.5,4.5,4.5]' FROM generate_series(1, 100000) i;
SET max_parallel_maintenance_workers = 0;
CREATE INDEX i ON t USING hnsw (v vector_l2_ops);
});
sound('copies', 'i');
is(sql("SELECT live, aliases, unreachable FROM vector_index_stats('i')"), '101000|99999|0', 'copies: one node');
my $counts = "SET enable_seqscan = off; SET work_mem = '64MB'; SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <-> '%s' LIMIT %d) x";
is(sql(sprintf $counts, '[4.5,4.5,4.5]', 100000), '100000|100000', 'copies: all of them');
is(sql(sprintf $counts, '[9,9,9]', 200000), '101000|101000', 'copies: every row once');
is(sql(q{SET enable_seqscan = off; SELECT string_agg(v::text, ' ') FROM (SELECT v FROM t ORDER BY v <-> '[4.4,4,4]' LIMIT 2) x}), '[4,4,4] [5,4,4]',
	'copies: what is nearer comes first');
sql('DELETE FROM t WHERE id > 1000 AND id <> 50000; VACUUM t');
is(sql("SELECT live, dead, aliases, unreachable FROM vector_index_stats('i')"), '1001|1|1|0', 'copies: the one that is left hangs on a dead one');
is(sql(sprintf $counts, '[9,9,9]', 200000), '1001|1001', 'copies: every row that is left');
sql(q{INSERT INTO t SELECT 1000 + i, '[4.5,4.5,4.5]' FROM generate_series(1, 3000) i});
is(sql(sprintf $counts, '[4.5,4.5,4.5]', 3001), '3001|3001', 'copies: new ones');
sound('copies, vacuumed', 'i');

# From the least to the largest floats: sums of squares vanish or overflow, and no row goes with them.
my %operator = (l2 => '<->', ip => '<#>', cosine => '<=>', l1 => '<+>');
for my $dims (3, 40, 400)
{
	sql(qq{
		DROP TABLE IF EXISTS e;
		CREATE TABLE e (id int, v vector($dims));
		INSERT INTO e SELECT i, (SELECT array_agg((CASE i % 5 WHEN 0 THEN 1e-45 WHEN 1 THEN 1e-38 WHEN 2 THEN 1 WHEN 3 THEN 1e19 ELSE 3e38 END
			* CASE WHEN (i + g) % 3 = 0 THEN -1 ELSE 1 END * CASE WHEN i % 5 = 0 THEN 1 ELSE 0.5 + (i * 7 + g * 13) % 17 / 34.0 END)::float8::real)
			FROM generate_series(1, $dims) g)::vector FROM generate_series(1, 300) i;
		ALTER TABLE e SET (parallel_workers = 0);});
	for my $metric (sort keys %operator)
	{
		sql("CREATE INDEX ei ON e USING hnsw (v vector_${metric}_ops)");
		sound("extreme lengths, $metric, $dims dimensions", 'ei');
		for my $id (5, 1, 2, 3, 4)
		{
			my $found = sql(qq{SET enable_seqscan = off;
				SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM e ORDER BY v $operator{$metric} (SELECT v FROM e WHERE id = $id)) x});
			is($found, '300|300', "extreme lengths, $metric, $dims dimensions: query like row $id");
		}
		sql('INSERT INTO e SELECT id, v FROM e WHERE id <= 20; DELETE FROM e WHERE ctid NOT IN (SELECT min(ctid) FROM e GROUP BY id); VACUUM e');
		sound("extreme lengths, $metric, $dims dimensions, after changes", 'ei');
		sql('DROP INDEX ei');
	}
}

# Replaced by tenths, ten times over, the index answers as well as one built anew.
sql(q{
CREATE TABLE c (id serial, v vector(24));
CREATE FUNCTION sample(seed int) RETURNS vector LANGUAGE sql VOLATILE AS
$$ SELECT array_agg((sin(g * (seed % 40 + 1) * 0.7) + (random() - 0.5) * 0.8)::real)::vector FROM generate_series(1, 24) g $$;
SELECT setseed(0.25);
INSERT INTO c (v) SELECT sample(i) FROM generate_series(1, 3000) i;
CREATE TABLE q AS SELECT i AS id, sample(i) AS v FROM generate_series(1, 200) i;
CREATE INDEX ci ON c USING hnsw (v vector_l2_ops);
CREATE FUNCTION recall(ef int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	found int; total int := 0; query vector; far float8;
BEGIN
	PERFORM set_config('hnsw.ef_search', ef::text, true);
	FOR query IN SELECT v FROM q LOOP
		SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off;
		SELECT max(d) INTO far FROM (SELECT v <-> query AS d FROM c ORDER BY d LIMIT 10) x;
		SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = on;
		SELECT count(*) INTO found FROM (SELECT v <-> query AS d FROM c ORDER BY v <-> query LIMIT 10) x WHERE d <= far;
		total := total + found;
	END LOOP;
	RETURN total / 2000.0;
END $$;
});
for my $round (1 .. 10)
{
	sql("DELETE FROM c WHERE id IN (SELECT id FROM c ORDER BY id * 7919 % 3001 LIMIT 300); VACUUM c;
		INSERT INTO c (v) SELECT sample(i) FROM generate_series(1, 300) i");
}
is(sql('SELECT count(*) FROM c'), '3000', 'churn: as many rows as before');
my @churned = map { sql("SELECT recall($_)") } 10, 40;
sound('churn', 'ci');
sql('REINDEX INDEX ci');
my @fresh = map { sql("SELECT recall($_)") } 10, 40;
cmp_ok($churned[0], '>=', $fresh[0] - 0.02, "churn: recall $churned[0] at ef_search 10, built anew $fresh[0]");
cmp_ok($churned[1], '>=', $fresh[1] - 0.005, "churn: recall $churned[1] at ef_search 40, built anew $fresh[1]");

# Without shared memory for the graph, a build goes on alone.
my (undef, undef, $messages) = $node->psql('postgres', q{
	ALTER TABLE c SET (parallel_workers = 2); SET client_min_messages = debug1;
	SET vector.debug_crash = 'hnsw_build_segment:error'; REINDEX INDEX ci});
like($messages, qr/building without workers/, 'no shared memory: said so');
unlike($messages, qr/using \d+ parallel workers|ERROR/, 'no shared memory: no workers');
sound('no shared memory', 'ci');
cmp_ok(sql('SELECT recall(40)'), '>=', $fresh[1] - 0.005, 'no shared memory: as good');
$node->stop;
done_testing();

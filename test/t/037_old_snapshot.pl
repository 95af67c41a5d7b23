# Rows that a snapshot sees are removed under it, as old_snapshot_threshold allows (15 and 16): a scan of the index gives
# all of them or the error that the snapshot is too old, never fewer.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use ShiftedClock;
use Test::More;
use VecsyncNode;

my $node = PostgreSQL::Test::Cluster->new('old');
if ($node->pg_version >= 17)
{
	SKIP: { skip 'from 17 on the server removes nothing that a snapshot sees', 1 }
	done_testing();
	exit;
}
my $clock = ShiftedClock->new or plan skip_all => 'there is no C compiler';
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\nold_snapshot_threshold = '1min'\nwal_consistency_checking = generic\n");
$clock->start($node);
sub sql { return $node->safe_psql('postgres', $_[0]) }

# Every row has a page of the table to itself: what happens to one does not show on the pages of the others.
sql(q{
CREATE EXTENSION vector;
ALTER DATABASE postgres SET enable_seqscan = off;
ALTER DATABASE postgres SET enable_sort = off;
ALTER DATABASE postgres SET ivfflat.probes = 8;
CREATE FUNCTION make(name text, method text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %I (id int, note text, v vector(3)) WITH (fillfactor = 50)', name);
	EXECUTE format('ALTER TABLE %I ALTER note SET STORAGE plain', name);
	EXECUTE format('INSERT INTO %I SELECT i, repeat(''x'', 3000), ARRAY[i, sin(i), cos(i)]::vector FROM generate_series(1, 300) i', name);
	EXECUTE format('CREATE INDEX ON %I USING %s (v vector_l2_ops) %s', name, method,
		CASE method WHEN 'ivfflat' THEN 'WITH (lists = 8)' END);
END $$;
-- what a statement gives: how many rows and the first, or its SQLSTATE
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT count(*) || '' rows from '' || min(id) FROM (%s) s', statement) INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- the same of what is left of a cursor
CREATE FUNCTION rest(c refcursor) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id int;
	count int := 0;
BEGIN
	LOOP
		FETCH c INTO id;
		EXIT WHEN NOT FOUND;
		count := count + 1;
	END LOOP;
	RETURN count || ' rows';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;});

# So few that VACUUM marks them in the graph and does no more.
my @methods = qw(hnsw ivfflat);
my %change = (
	deleted => 'DELETE FROM %s WHERE id <= 10',
	open => 'DELETE FROM %s WHERE id <= 10',
	last => 'DELETE FROM %s WHERE id > 290',
	pruned => 'DELETE FROM %s WHERE id <= 10',
	updated => q{UPDATE %s SET note = 'new' WHERE id <= 10},
	moved => 'UPDATE %s SET v = v + ARRAY[1000, 0, 0]::vector(3) WHERE id <= 10');
sub tables { return map { my $method = $_; map { "${method}_$_" } @_ } @methods }
sub query { return "SELECT id FROM $_[0] ORDER BY v <-> '[0,0,0]'" }

for my $method (@methods)
{
	sql("SELECT make('${method}_$_', '$method')") for 'still', sort keys %change;
}
sql('CREATE TABLE other (i int)');

my $session = VecsyncNode::session($node);
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
for my $table (tables('still', sort keys %change))
{
	like($session->query('EXPLAIN (COSTS OFF) ' . query($table)), qr/Index Scan using ${table}_v_idx/, "$table: by the index");
	is($session->query("SELECT outcome(\$\$" . query($table) . "\$\$)"), '300 rows from 1', "$table: all rows");
}
for my $method (@methods)
{
	for my $case (sort keys %change)
	{
		sql(sprintf($change{$case}, "${method}_$case"));
	}
}
# Minutes go by; transactions in each of them tell the server how old a snapshot is.
for my $minute (1 .. 4)
{
	$clock->shift(60 * $minute);
	sql('INSERT INTO other VALUES (1)');
}
for my $table (tables('open', 'last'))
{
	$session->query("DECLARE $table CURSOR FOR " . query($table));
	is($session->query("FETCH 5 FROM $table"), join("\n", 1 .. 5), "$table: a scan begins");
}
sql("VACUUM $_") for tables('deleted', 'open', 'last', 'updated', 'moved', 'still');
sql("VACUUM (INDEX_CLEANUP off) $_") for tables('pruned');
for my $table (tables('deleted', 'pruned', 'updated', 'moved'))
{
	is($session->query("SELECT outcome(\$\$" . query($table) . "\$\$)"), '72000', "$table: the snapshot is too old");
	is($session->query("SELECT outcome(\$\$" . query($table) . " LIMIT 5\$\$)"), '72000', "$table: for a few rows, too");
}
# Where the index itself looks at all rows.
$session->query('SET hnsw.iterative_scan = off');
is($session->query('SELECT outcome($$' . query('hnsw_pruned') . ' LIMIT 5$$)'), '72000', 'hnsw_pruned: without going on');
$session->query('RESET hnsw.iterative_scan');
is($session->query("SELECT rest('$_')"), '72000', "$_: a scan does not go on") for tables('open', 'last');
is($session->query("SELECT outcome(\$\$" . query($_) . "\$\$)"), '300 rows from 1', "$_: nothing has changed") for tables('still');

is(sql("SELECT outcome(\$\$" . query($_) . "\$\$)"), '290 rows from 11', "$_: a new snapshot") for tables('deleted', 'open', 'pruned');
$session->query('COMMIT');
$session->quit;

# VACUUM's records, one of which changes nothing but the page's LSN, are replayed.
$node->stop('immediate');
$clock->start($node);
is(sql("SELECT outcome(\$\$" . query($_) . "\$\$)"), '290 rows from 11', "$_: after a crash") for tables('deleted', 'open', 'pruned');
is(sql("SELECT count(*) FROM vector_index_check('hnsw_${_}_v_idx')"), 0, "hnsw_$_: the index is sound") for sort keys %change;
$node->stop;
done_testing();

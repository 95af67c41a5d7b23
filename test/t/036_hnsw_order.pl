# A scan of a whole table gives every visible row once, in order: every operator class, values at random, in clusters,
# next to equal and equal, with rows deleted, replaced and rolled back that nothing has vacuumed.  ORDER_SEED takes
# other values.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{ORDER_SEED} // 0.125;
my $node = PostgreSQL::Test::Cluster->new('order');
$node->init;
$node->append_conf('postgresql.conf', qq{
autovacuum = off
jit = off
fsync = off
max_parallel_maintenance_workers = 0
});
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION vector;
CREATE FUNCTION sample(kind text, dims int, seed int) RETURNS real[] LANGUAGE sql VOLATILE AS $$
	SELECT array_agg(CASE kind
		WHEN 'random' THEN random() - 0.5
		WHEN 'large' THEN 3000 * (random() - 0.5)
		WHEN 'clustered' THEN sin(g * (seed % 5 + 1) * 0.7) + (random() - 0.5) * 0.1
		WHEN 'nearly equal' THEN sin(g) + random() * 1e-5
		ELSE 1 + floor(random() * 3) END::real) FROM generate_series(1, dims) g WHERE seed > 0 $$;

-- What is wrong with a scan of t.  While it goes on, rows that it sees are deleted and others added.  In strict order
-- rows that come too late come after all others, in order once more.
CREATE FUNCTION scan(op text, query text, strict bool) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	expected int[]; found int[] := '{}'; plan text; r record; before float8; falls int[] := '{}';
	scan text := format('SELECT id, v %s %s AS d FROM t ORDER BY v %1$s %2$s', op, query);
BEGIN
	SET LOCAL enable_indexscan = off; SET LOCAL enable_seqscan = on;
	SELECT array_agg(id ORDER BY id) INTO expected FROM t;
	SET LOCAL enable_indexscan = on; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off;
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || scan INTO plan;
	IF plan !~ 'Index Scan' THEN RETURN 'no index scan'; END IF;
	FOR r IN EXECUTE scan LOOP
		found := found || r.id;
		IF r.d < before THEN falls := falls || cardinality(found); END IF;
		before := r.d;
		IF cardinality(found) = 5 THEN
			DELETE FROM t WHERE id % 13 = 1;
			INSERT INTO t SELECT id + 20000, note, v FROM t WHERE id % 17 = 2;
		END IF;
	END LOOP;
	IF (SELECT array_agg(id ORDER BY id) FROM unnest(found) id) IS DISTINCT FROM expected THEN
		RETURN format('%s rows, %s of them different, of %s', cardinality(found),
			(SELECT count(DISTINCT id) FROM unnest(found) id), cardinality(expected));
	END IF;
	IF strict AND cardinality(falls) > 1 THEN
		RETURN format('out of order at %s', falls);
	END IF;
	RETURN NULL;
END $$;
});

# check TYPE, DIMS, EXPRESSION of a real array "a", OPCLASS => OPERATOR...
sub check
{
	my ($type, $dims, $expression, %operator) = @_;
	$expression =~ s/DIMS/$dims/g;
	for my $kind ('random', 'large', 'clustered', 'nearly equal', 'equal')
	{
		for my $opclass (sort keys %operator)
		{
			my $wrong = $node->safe_psql('postgres', qq{
				SET client_min_messages = warning;
				SELECT setseed($seed) \\g /dev/null
				DROP TABLE IF EXISTS t;
				CREATE TABLE t (id int, note int, v $type($dims)) WITH (fillfactor = 70);
				INSERT INTO t SELECT i, 0, $expression FROM generate_series(1, 300) i, sample('$kind', $dims, i) a;
				CREATE INDEX ON t USING hnsw (v $opclass);
				INSERT INTO t SELECT i, 0, $expression FROM generate_series(301, 350) i, sample('$kind', $dims, i) a;
				DELETE FROM t WHERE id % 3 = 0;
				UPDATE t SET note = 1 WHERE id % 7 = 0;
				UPDATE t SET v = x.v FROM (SELECT i, $expression AS v FROM generate_series(1, 350) i,
					sample('$kind', $dims, i) a) x WHERE id = i AND id % 5 = 0;
				BEGIN; INSERT INTO t SELECT id + 1000, note, v FROM t; ROLLBACK;
				INSERT INTO t SELECT id + 10000, note, v FROM t WHERE id % 4 = 0;
				SET hnsw.ef_search = 10;
				SELECT setseed(random() - 0.5) \\g /dev/null
				CREATE TEMP TABLE q AS SELECT i, $expression AS v FROM generate_series(1, 3) i, sample('$kind', $dims, i) a;
				SELECT scan('$operator{$opclass}', format('%L::$type($dims)', v), true) FROM q;
				SET hnsw.iterative_scan = relaxed_order;
				SELECT scan('$operator{$opclass}', format('%L::$type($dims)', v), false) FROM q LIMIT 1;
				SET hnsw.iterative_scan = strict_order; SET work_mem = '64kB'; SET hnsw.scan_mem_multiplier = 1;
				SELECT scan('$operator{$opclass}', format('%L::$type($dims)', v), true) FROM q LIMIT 1;
			});
			is($wrong =~ s/\n//gr, '', "$opclass, $dims dimensions, $kind");
		}
	}
	return;
}

sub opclasses
{
	my ($type) = @_;
	return ("${type}_l2_ops" => '<->', "${type}_ip_ops" => '<#>', "${type}_cosine_ops" => '<=>', "${type}_l1_ops" => '<+>');
}

check('vector', 3, 'a::vector', opclasses('vector'));
check('vector', 64, 'a::vector', opclasses('vector'));
check('vector', 200, 'a::vector', opclasses('vector'));
check('halfvec', 20, 'a::halfvec', opclasses('halfvec'));
check('halfvec', 100, 'a::halfvec', opclasses('halfvec'));
check('sparsevec', 24, 'a::vector::sparsevec', opclasses('sparsevec'));
check('sparsevec', 90, 'a::vector::sparsevec', opclasses('sparsevec'));
check('bit', 64, 'binary_quantize(a::vector)', 'bit_hamming_ops' => '<~>', 'bit_jaccard_ops' => '<%>');

# The last that the graph gives, an alias of whose distance nothing is known yet, keeps nothing back that comes after:
# in little memory, with the nearest deleted, ten rows do not take a look at all of them.
is($node->safe_psql('postgres', q{
	SELECT setseed(0.3) \g /dev/null
	CREATE TABLE twins (id int, v vector(64));
	INSERT INTO twins SELECT i, ARRAY(SELECT random() + 0 * i FROM generate_series(1, 64))::vector FROM generate_series(1, 3000) i;
	INSERT INTO twins SELECT id + 10000, v FROM twins;
	CREATE TABLE q AS SELECT v FROM twins WHERE id = 77;
	CREATE INDEX ON twins USING hnsw (v vector_l2_ops);
	SET enable_seqscan = off; SET work_mem = '64kB'; SET hnsw.scan_mem_multiplier = 1;
	SELECT count(*) FROM (SELECT id FROM twins ORDER BY v <-> (SELECT v FROM q) LIMIT 2000) x;
	DELETE FROM twins WHERE id % 10000 <> 77 AND v <-> (SELECT v FROM q) < 2.9;
	SELECT count(*) FROM (SELECT id FROM twins ORDER BY v <-> (SELECT v FROM q) LIMIT 10) x;
	SELECT reranks < 1000 AND sweeps < 4 FROM vector_index_last_scan();
}), "2000\n10\nt", 'the last alias keeps nothing back');
$node->stop;
done_testing();

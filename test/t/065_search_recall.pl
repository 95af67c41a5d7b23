# Searches under filters that keep from one row in ten thousand to all, related to the vectors or not, through the vector index or as the
# planner likes: never short, and as good as exact search but for one or two rows in a hundred: graphs are built by chance, and few queries
# are asked.  test/bench/search.sh prints the same for larger tables and real texts.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my $dims = 24;
my ($node, $service) = VecsyncNode::start(dims => $dims, conf => [ 'max_parallel_maintenance_workers = 0' ]);
sub sql { return $node->safe_psql('postgres', join('; ', @_)) }

# 10,000 rows around 60 centers.  r has nothing to do with the vectors; c is the row's place in the order of distance from one of them.
sub noise { return "(SELECT array_agg((random() + random() + random() - 1.5) * $_[0] ORDER BY d) FROM generate_series(1, $dims) d WHERE $_[1] IS NOT NULL)::vector" }
sql('SELECT setseed(0.25)', 'CREATE TABLE centers AS SELECT i, ' . noise(1, 'i') . ' AS v FROM generate_series(0, 59) i',
	"CREATE TABLE items (id int PRIMARY KEY, body text, r float8, c float8, embedding vector($dims))",
	"INSERT INTO items SELECT g.i, NULL, NULL, NULL, v + " . noise(0.8, 'g.i') . ' FROM generate_series(1, 10000) g(i) JOIN centers c ON c.i = g.i * 7919 % 60',
	'UPDATE items SET r = p.r, c = p.c FROM (SELECT id, (row_number() OVER (ORDER BY md5(id::text)) - 1) / 10000.0 AS r,
		(row_number() OVER (ORDER BY embedding <=> (SELECT embedding FROM items WHERE id = 1)) - 1) / 10000.0 AS c FROM items) p WHERE p.id = items.id');
VecsyncNode::vectorizer($node, $service, 'items', 'body', 'enqueue_existing => false');
sql('SELECT setseed(0.5)', q{CREATE TABLE queries AS SELECT row_number() OVER (ORDER BY c) AS place, v FROM (SELECT c, embedding + } . noise(0.3, 'id') . q{ AS v FROM items WHERE id % 100 = 50) x},
	'VACUUM ANALYZE items');
is(sql(q{SELECT count(*) FROM pg_indexes WHERE tablename = 'items' AND indexdef ~ 'hnsw'}), 1, 'the index is there');

my %queries = ('unrelated' => 'place % 7 = 0', 'region, near' => 'place <= 14', 'region, far' => 'place > 86');
for my $plan ('the vector index', 'as the planner likes', 'with btree indexes')
{
	my $set = $plan eq 'the vector index' ? 'SET enable_seqscan = off; ' : '';
	sql('CREATE INDEX ON items (r)', 'CREATE INDEX ON items (c)', 'ANALYZE items') if $plan =~ /btree/;
	for my $share (0.0001, 0.001, 0.01, 0.1, 0.5, 1)
	{
		for my $kind (sort keys %queries)
		{
			my $column = $kind eq 'unrelated' ? 'r' : 'c';
			is(sql(<<SQL), 't|t|t', "$plan, " . 100 * $share . " %, $kind");
${set}WITH answers AS (SELECT q.place, (SELECT count(*) FROM (SELECT FROM items WHERE $column < $share LIMIT 10) x) AS wanted,
		(SELECT min(s) FROM (SELECT 1 - (embedding <=> q.v) AS s FROM items WHERE $column < $share ORDER BY (embedding <=> q.v) + 0 LIMIT 10) x) AS last, f.*
	FROM queries q, LATERAL (SELECT array_agg(1 - (i.embedding <=> q.v)) AS scores, count(*) AS found, coalesce(bool_and(i.$column < $share), true) AS qualify
		FROM vecsync.search('items', query_vector => q.v, filter => '{"$column": {"\$lt": $share}}') s JOIN items i ON i.id = (s.key->>'id')::int) f
	WHERE q.$queries{$kind})
SELECT bool_and(found = wanted), bool_and(qualify), sum((SELECT count(*) FROM unnest(scores) s WHERE s >= last - 1e-6)) >= 0.98 * sum(wanted) FROM answers
SQL
		}
	}
}

# Conditions that are no filter: row level security, and keys left out.
sql(q{CREATE ROLE reader; GRANT SELECT ON items, queries TO reader; ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items USING (r >= 0.9)}, 'DROP INDEX items_r_idx', 'DROP INDEX items_c_idx');
for my $rights ('SET ROLE reader;', '')
{
	my ($what, $where, $exclude) = $rights ? ('row level security', 'r >= 0.9', 'NULL::jsonb[]')
		: ('keys left out', 'true', '(SELECT array_agg(to_jsonb(id)) FROM (SELECT id FROM items ORDER BY (embedding <=> q.v) + 0 LIMIT 100) x)');
	is(sql(<<SQL), 't|t', $what);
$rights SET enable_seqscan = off; WITH answers AS (SELECT f.*, ARRAY(SELECT id FROM items WHERE $where AND to_jsonb(id) <> ALL (coalesce($exclude, '{}')) ORDER BY (embedding <=> q.v) + 0, id LIMIT 10) AS wanted
	FROM queries q, LATERAL (SELECT array_agg((key->>'id')::int) AS ids FROM vecsync.search('items', query_vector => q.v, exclude => $exclude)) f WHERE q.place % 4 = 0)
SELECT bool_and(cardinality(ids) = 10), sum((SELECT count(*) FROM unnest(ids) i WHERE i = ANY (wanted))) >= 0.98 * sum(cardinality(wanted)) FROM answers
SQL
}

$node->stop;
done_testing();

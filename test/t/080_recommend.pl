# Rows like other rows: similar, recommend, duplicates, clusters, matrix, classify, context; namespaces and rights in each.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);
sub sql { return $node->safe_psql('postgres', join('; ', @_)) }
sub fails { return VecsyncNode::fails($node, @_) }

sql(q{CREATE TABLE items (id int PRIMARY KEY, title text, cat text, tenant text NOT NULL DEFAULT 'a');
	INSERT INTO items SELECT i, 'item ' || i % 250, 'c' || i % 5 FROM generate_series(1, 500) i});
VecsyncNode::vectorizer($node, $service, 'items', 'title');
ok(VecsyncNode::settle($node, 'items'), 'embedded');

is(sql(q{SELECT key->>'id', score FROM vecsync.similar('items', '7', top_k => 1)}), '257|1', 'similar: the twin, not itself');
is(sql(q{SELECT count(*), bool_and(metadata->>'cat' = 'c3') FROM vecsync.similar('items', '{"id": 7}', top_k => 1000, filter => '{"cat": "c3"}', return_metadata => 'all')}), '100|t', 'with a filter');
fails(q{SELECT * FROM vecsync.similar('items', '9999')}, qr/P0002.*not found/s, 'similar to an unknown row');

# ---- recommend -------------------------------------------------------------------------
my $mean = q{(SELECT sum(l2_normalize(embedding) * array_fill(w::real, ARRAY[8])::vector) FROM items JOIN (VALUES %s) h (id, w) USING (id))};
is(sql(q{SELECT string_agg(key->>'id', ' ' ORDER BY n) FROM (SELECT row_number() OVER () n, * FROM vecsync.recommend('items', ARRAY['1', '2', '3']::jsonb[], top_k => 7)) s}),
	sql(sprintf("SELECT string_agg(id::text, ' ') FROM (SELECT id FROM items WHERE id > 3 ORDER BY embedding <=> $mean, id LIMIT 7) x", '(1, 1), (2, 1), (3, 1)')), 'the mean of the liked');
is(sql(q{SELECT string_agg(key->>'id', ' ' ORDER BY n) FROM (SELECT row_number() OVER () n, * FROM vecsync.recommend('items', ARRAY['1', '2', '3']::jsonb[], recency => 0.5, top_k => 7)) s}),
	sql(sprintf("SELECT string_agg(id::text, ' ') FROM (SELECT id FROM items WHERE id > 3 ORDER BY embedding <=> $mean, id LIMIT 7) x", '(1, 1), (2, 0.5), (3, 0.25)')), 'the latest weigh more');
is(sql(q{SELECT string_agg(key->>'id', ' ' ORDER BY n) FROM (SELECT row_number() OVER () n, * FROM vecsync.recommend('items', ARRAY['1', '2']::jsonb[], ARRAY['10', '11', '12']::jsonb[], top_k => 7, exclude => ARRAY['251']::jsonb[])) s}),
	sql(sprintf("SELECT string_agg(id::text, ' ') FROM (SELECT id FROM items WHERE id NOT IN (1, 2, 10, 11, 12, 251) ORDER BY embedding <=> $mean, id LIMIT 7) x", '(1, 1), (2, 1), (10, -1.0/3), (11, -1.0/3), (12, -1.0/3)')), 'away from the disliked; excluded ones left out');
is(sql(q{SELECT count(*) FROM vecsync.recommend('items', '{}')}), '0', 'a new user without fallback: nothing');
is(sql(q{SELECT count(*), max(score) FROM vecsync.recommend('items', ARRAY['9999']::jsonb[], fallback => 'item 5')}), '10|1', 'only keys that are gone: the fallback');
is(sql(q{SELECT count(*) FROM vecsync.recommend('items', ARRAY['1']::jsonb[], ARRAY['251']::jsonb[])}), '10', 'liked and disliked alike: still an answer');
is(sql(q{SELECT count(*), bool_and(metadata->>'cat' = 'c1') FROM vecsync.recommend('items', ARRAY['1','9999']::jsonb[], filter => '{"cat": {"$in": ["c1"]}}', return_metadata => 'all', top_k => 1000)}), '99|t', 'a filter; a key that is gone is ignored');
is(sql(q{SELECT string_agg(key->>'id', ' ') FROM vecsync.recommend('items', array_fill('1'::jsonb, ARRAY[1]) || array_fill('2'::jsonb, ARRAY[400]), recency => 0.1, exclude => '{}', top_k => 3)}),
	sql(q{SELECT string_agg(key->>'id', ' ') FROM vecsync.recommend('items', '{1,2,2,2,2}', recency => 0.1, top_k => 3)}), 'recency of a long list');
fails(q{SELECT * FROM vecsync.recommend('items', '{1}', recency => 0)}, qr/22023.*recency/s, 'recency 0');
fails(q{SELECT * FROM vecsync.recommend('nothing', '{1}')}, qr/42704/, 'unknown vectorizer');

# ---- duplicates and clusters ---------------------------------------------------------------
my $exact = q{SELECT count(*) FROM items x JOIN items y ON x.id < y.id WHERE 1 - (x.embedding <=> y.embedding) >= %s};
for my $threshold (0.95, 0.8, -1)
{
	is(sql("SELECT count(*), count(DISTINCT (a, b)), bool_and(a < b), min(score) >= $threshold FROM vecsync.duplicates('items', $threshold)"),
		sql(sprintf($exact, $threshold)) =~ s/(.*)/$1|$1|t|t/r, "duplicates at $threshold: what exact search finds, each once");
}
is(sql(q{SELECT count(*) FROM vecsync.duplicates('items', 0.95, filter => '{"cat": "c1", "id": {"$lt": 250}}')}),
	sql(q{SELECT count(*) FROM items x JOIN items y ON x.id < y.id WHERE 1 - (x.embedding <=> y.embedding) >= 0.95 AND x.cat = 'c1' AND y.cat = 'c1' AND x.id < 250 AND y.id < 250}), 'duplicates under a filter');
is(sql(q{SELECT count(*), count(DISTINCT key), min(cluster), max(cluster) = count(DISTINCT cluster), min(score) >= 0.8 FROM vecsync.clusters('items')}), '500|500|1|t|t', 'clusters: every row in one');
is(sql(q{WITH c AS (SELECT * FROM vecsync.clusters('items', 0.9)), l AS (SELECT cluster, min((key->>'id')::int) AS leader FROM c GROUP BY 1)
	SELECT count(*) FROM l a JOIN l b ON a.cluster < b.cluster JOIN items x ON x.id = a.leader JOIN items y ON y.id = b.leader WHERE 1 - (x.embedding <=> y.embedding) >= 0.9}), '0', 'leaders are not near to each other');
# Few rows, or rows without an index, are compared with each other, in blocks of half of work_mem.
sql(q{CREATE TABLE wide (id int PRIMARY KEY, t text, embedding vector(8)); INSERT INTO wide SELECT i, '', ARRAY[cos(i / 10), sin(i / 10), cos(i), sin(i), 0, 0, 0, 0]::vector FROM generate_series(1, 5000) i},
	q{SELECT vecsync.create_vectorizer('wide', model => 'm', content => 't', enqueue_existing => false, index => '{"method": "none"}')});
my $few = q{0.99, filter => '{"id": {"$lte": 900}}'};
my $members = qq{SELECT count(*), md5(string_agg(c::text, ',' ORDER BY c.key, c.cluster)) FROM vecsync.clusters('wide', $few) c};
is(sql("SET work_mem = '64kB'; $members"), sql($members), 'clusters in many blocks or one: the same');
is(sql(qq{SET work_mem = '64kB'; WITH c AS MATERIALIZED (SELECT cluster, (key->>'id')::int AS id, score FROM vecsync.clusters('wide', $few)), l AS (SELECT cluster, min(id) AS id FROM c GROUP BY 1)
	SELECT count(*), count(*) FILTER (WHERE c.cluster = n.cluster AND c.score = CASE WHEN c.id = n.id THEN 1 ELSE n.score END), count(DISTINCT c.cluster) BETWEEN 2 AND 800
	FROM c JOIN wide w USING (id), LATERAL (SELECT l.cluster, l.id, 1 - (x.embedding <=> w.embedding) AS score FROM l JOIN wide x ON x.id = l.id
		WHERE l.id <= w.id AND (l.id = w.id OR 1 - (x.embedding <=> w.embedding) >= 0.99) ORDER BY l.cluster LIMIT 1) n}), '900|900|t', 'each row in the first cluster whose leader it is near to');
my $pairs = q{SELECT count(*) FROM wide x JOIN wide y ON x.id < y.id WHERE x.id <= 900 AND y.id <= 900 AND 1 - (x.embedding <=> y.embedding) >= 0.99};
is(sql("SET work_mem = '64kB'; SELECT count(*), bool_and((a->>'id')::int < (b->>'id')::int) FROM vecsync.duplicates('wide', $few)"), sql($pairs) . '|t', 'duplicates in many blocks: all pairs, each once');
my $some = q{SELECT count(*), count(*) FILTER (WHERE (a->>'id')::int <= 50) FROM vecsync.duplicates('wide', 0.99)};
my ($all, $first) = split /\|/, sql($some);
ok($first > 0 && $first == sql(q{SELECT count(*) FROM wide x JOIN wide y ON x.id < y.id WHERE x.id <= 50 AND 1 - (x.embedding <=> y.embedding) >= 0.99}), 'no index: all pairs of all rows');
# Many rows with an index: each is searched for.  What clusters remember goes to a file beyond work_mem, and they are the same.
sql(q{CREATE INDEX ON wide USING hnsw (embedding vector_cosine_ops); ANALYZE wide});
my ($found) = split /\|/, sql($some);
ok($found <= $all && $found >= 0.99 * $all, 'duplicates by the index: nearly all pairs') or diag("$found of $all");
$members = q{SELECT count(*), md5(string_agg(c::text, ',' ORDER BY c.key, c.cluster)) FROM vecsync.clusters('wide', 0.99) c};
is(sql("SET work_mem = '64kB'; $members"), sql($members), 'clusters beyond work_mem');
# The rows are read by a cursor, which a policy's function does not get to close.
sql(q{CREATE FUNCTION closes() RETURNS bool LANGUAGE plpgsql AS $$BEGIN EXECUTE 'CLOSE ALL'; RETURN true; END$$; CREATE ROLE guest; GRANT SELECT ON wide TO guest;
	ALTER TABLE wide ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON wide USING (id > 1600 OR closes())});
fails(q{SET ROLE guest; SET work_mem = '64kB'; SET enable_seqscan = off; SELECT count(*) FROM vecsync.clusters('wide', 0.99)}, qr/24000.*cannot drop pinned portal/s, 'CLOSE ALL in a policy');
sql('DROP OWNED BY guest; ALTER TABLE wide DISABLE ROW LEVEL SECURITY');

# ---- matrix, classify, context -----------------------------------------------------------------
is(sql(q{SELECT count(*), bool_and(abs(score - (1 - (x.embedding <=> y.embedding))) < 1e-6), count(*) FILTER (WHERE a = b) FROM vecsync.similarity_matrix('items', ARRAY['1', '2', '9999', '251']::jsonb[])
	JOIN items x ON x.id = (a->>'id')::int JOIN items y ON y.id = (b->>'id')::int}), '9|t|3', 'similarity matrix');
$service->scenario(dims => 8);
is(sql(q{SELECT bool_and(abs(score - (1 - (embedding <=> expected_vector(label, 8)))) < 1e-6), count(*), string_agg(label, ' ' ORDER BY score DESC) = string_agg(label, ' ' ORDER BY n)
	FROM (SELECT row_number() OVER () AS n, * FROM vecsync.classify('items', '7', ARRAY['rock', 'jazz', 'pop'])) c, items WHERE id = 7}), 't|3|t', 'classify: labels in order');
sql(q{SELECT * FROM vecsync.classify('items', '8', ARRAY['rock', 'jazz', 'pop'])});
is($service->stats->{requests}, 1, 'the labels\' vectors are kept, and were one request');
is(sql(q{SELECT label IS NULL, score IS NULL FROM vecsync.classify('items', '7', '{rock,NULL}')}), "f|f\nt|t", 'a label of NULL comes last');
is(sql(q{SELECT vecsync.context('items', 'item 5', max_chars => 30, top_k => 3, separator => NULL) = vecsync.context('items', 'item 5', max_chars => 30, top_k => 3, separator => '')}), 't', 'context: no separator');
for my $nan (q{duplicates('items', 'NaN')}, q{clusters('items', 'NaN')}, q{search('items', 'x', min_score => 'NaN')})
{
	fails("SELECT * FROM vecsync.$nan", qr/22023.*must not be NaN/s, $nan);
}
fails(q{SELECT * FROM vecsync.classify('items', '9999', '{a}')}, qr/P0002/, 'classify an unknown row');
is(sql(q{SELECT vecsync.context('items', 'item 5', max_chars => 30, top_k => 3)}) =~ tr/\n//, 4, 'context: as many whole texts as fit');
is(sql(q{SELECT length(vecsync.context('items', 'item 5', max_chars => 10)) <= 10}), 't', 'and no more');
is(sql(q{SELECT vecsync.context('items', 'item 5', filter => '{"id": 0}')}), '', 'nothing found, nothing said');
sql(q{CREATE TABLE long (id int PRIMARY KEY, t text); INSERT INTO long VALUES (1, repeat('word ', 500) || 'needle ' || repeat('word ', 500))});
VecsyncNode::vectorizer($node, $service, 'long', 't');
VecsyncNode::settle($node, 'long');
like(sql(q{SELECT vecsync.context('long', 'needle', max_chars => 100)}), qr/^\.\.\..*needle.*\.\.\.$/, 'a long text is cut around the words of the query');

# ---- documents: the best of all pairs of chunks counts ------------------------------------------
sql(q{CREATE TABLE papers (id int PRIMARY KEY, body text, tenant text); INSERT INTO papers SELECT i, format('a%s b%s. c%s d%s. e%s f%s.', i, i, i % 7, i % 7, i, i), 'n' || i % 2 FROM generate_series(1, 21) i});
VecsyncNode::vectorizer($node, $service, 'papers', 'body', q{chunking => '{"method": "words", "size": 2}', destination => 'table'});
ok(VecsyncNode::settle($node, 'papers'), 'chunks embedded');
my $of_chunks = q{FROM (SELECT x.id AS x, y.id AS y, max(1 - (x.embedding <=> y.embedding)) AS s FROM papers_chunks x JOIN papers_chunks y ON x.id < y.id %s GROUP BY 1, 2) p WHERE s >= %s};
for my $threshold (0.999, 0.6)
{
	is(sql("SELECT string_agg(concat_ws(' ', a->>'id', b->>'id', round(score::numeric, 5)), ',' ORDER BY a, b) FROM vecsync.duplicates('papers', $threshold)"),
		sql('SELECT string_agg(concat_ws(\' \', x, y, round(s::numeric, 5)), \',\' ORDER BY x, y) ' . sprintf($of_chunks, '', $threshold)), "documents with a piece in common, at $threshold");
}
is(sql(q{SELECT count(*), count(DISTINCT key), count(DISTINCT cluster), bool_and((key->>'id')::int % 7 = cluster % 7) FROM vecsync.clusters('papers', 0.999)}), '21|21|7|t', 'clusters of documents');
is(sql(q{WITH c AS (SELECT * FROM vecsync.clusters('papers', 0.6)), l AS (SELECT cluster, min((key->>'id')::int) AS leader FROM c GROUP BY 1)
	SELECT bool_and(abs(c.score - b.s) < 1e-6) FROM c JOIN l USING (cluster), LATERAL (SELECT max(1 - (x.embedding <=> y.embedding)) AS s
	FROM papers_chunks x, papers_chunks y WHERE x.id = l.leader AND y.id = (c.key->>'id')::int) b}), 't', 'with the score of the best pair of chunks');
is(sql(q{SELECT count(*) FROM vecsync.duplicates('papers', 0.999, filter => '{"tenant": "n1"}')}), sql('SELECT count(*) ' . sprintf($of_chunks, q{AND x.id % 2 = 1 AND y.id % 2 = 1}, 0.999)), 'duplicates of documents under a filter');

# With little memory the chunks are too many to be compared with each other, and each is searched for.
sql(q{INSERT INTO papers SELECT i, format('a%s b%s. p%s q%s. e%s f%s.', i, i, i / 2, i / 2, i, i), 'n' FROM generate_series(101, 500) i});
ok(VecsyncNode::settle($node, 'papers'), 'more chunks embedded');
sql('ANALYZE');
my @compared = map { sql("SET work_mem = '$_'; SELECT count(*) FROM vecsync.duplicates('papers', 0.9999)") } qw(4MB 64kB);
ok($compared[1] <= $compared[0] && $compared[1] >= 0.98 * $compared[0], 'duplicates of chunks that are searched for') or diag("@compared");
my @grouped = map { sql("SET work_mem = '$_'; SELECT count(*), count(DISTINCT key), count(DISTINCT cluster) FROM vecsync.clusters('papers', 0.9999)") } qw(4MB 64kB);
my @clusters = map { (split /\|/)[2] } @grouped;
ok("@grouped" =~ /^421\|421\|\d+ 421\|421\|\d+$/ && $clusters[1] >= $clusters[0] && $clusters[1] <= 1.02 * $clusters[0], 'and clusters: every row in one') or diag("@grouped");

# ---- namespaces and rights ----------------------------------------------------------------------
sql(q{CREATE TABLE ours (id int PRIMARY KEY, t text, tenant text); INSERT INTO ours SELECT i, 'same', 'n' || i % 2 FROM generate_series(1, 20) i});
VecsyncNode::vectorizer($node, $service, 'ours', 't', q{namespace => 'tenant'});
VecsyncNode::settle($node, 'ours');
is(sql(q{SELECT count(*) FROM vecsync.duplicates('ours', namespace => 'n1')}), '45', 'duplicates of a namespace');
is(sql(q{SELECT count(*) FROM vecsync.clusters('ours', namespace => 'n0')}), '10', 'clusters of a namespace');
is(sql(q{SELECT count(*) FROM vecsync.similar('ours', '2', namespace => 'n0', top_k => 100)}), '9', 'similar in a namespace');
is(sql(q{SELECT count(*) FROM vecsync.recommend('ours', '{1,2}', namespace => 'n0', top_k => 100)}), '9', 'recommend in a namespace');
is(sql(q{SELECT count(*) FROM vecsync.similarity_matrix('ours', '{1,2,3}', namespace => 'n0')}), '1', 'a matrix of a namespace');
is(sql(q{SELECT length(vecsync.context('ours', 'x', namespace => 'n0', top_k => 3, separator => ''))}), '12', 'the context of a namespace');
for my $call (q{similar('ours', '2')}, q{recommend('ours', '{2}')}, q{duplicates('ours')}, q{clusters('ours')}, q{similarity_matrix('ours', '{2}')}, q{classify('ours', '2', '{a}')}, q{context('ours', 'x')})
{
	fails("SELECT * FROM vecsync.$call", qr/22023.*has namespaces, and none is given/s, "$call must name a namespace");
}
fails(q{SELECT * FROM vecsync.similar('ours', '1', namespace => 'n0')}, qr/P0002/, 'a row of another namespace');
fails(q{SELECT * FROM vecsync.classify('ours', '1', '{a}', namespace => 'n0')}, qr/P0002/, 'nor classify');
sql(q{CREATE ROLE reader; GRANT SELECT ON items TO reader; ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items USING (id <= 10 OR id BETWEEN 251 AND 255)});
is(sql(q{SET ROLE reader; SELECT count(*) FROM vecsync.duplicates('items', 0.999)}), '5', 'duplicates under row level security');
is(sql(q{SET ROLE reader; SELECT count(*) FROM vecsync.clusters('items')}), '15', 'clusters under row level security');
is(sql(q{SET ROLE reader; SELECT count(*) FROM vecsync.similarity_matrix('items', '{1,2,100}')}), '4', 'a matrix under row level security');
is(sql(q{SET ROLE reader; SELECT count(*) FROM vecsync.recommend('items', '{1,100}', top_k => 100)}), '14', 'recommend under row level security');
is(sql(q{SET ROLE reader; SELECT vecsync.context('items', 'x', top_k => 100) ~ 'item 100'}), 'f', 'the context under row level security');
fails(q{SET ROLE reader; SELECT * FROM vecsync.similar('items', '100')}, qr/P0002/, 'similar to a hidden row');
fails(q{SET ROLE reader; SELECT * FROM vecsync.classify('items', '100', '{a}')}, qr/P0002/, 'classify a hidden row');
is(sql(q{SET ROLE reader; SELECT count(*) FROM vecsync.similar('items', '1', top_k => 100)}), '14', 'similar under row level security');
sql(q{ALTER TABLE items DISABLE ROW LEVEL SECURITY; CREATE ROLE narrow; GRANT SELECT (id, embedding) ON items TO narrow});
for my $call (q{similar('items', '1', top_k => 3)}, q{recommend('items', '{1}', top_k => 3)}, q{duplicates('items', 0.999)}, q{clusters('items', 0.999)}, q{similarity_matrix('items', '{1,2}')}, q{classify('items', '1', '{a}')},
	q{search('items', 'x', top_k => 3)})
{
	is(sql("SET ROLE narrow; SELECT count(*) FROM vecsync.$call"), sql("SELECT count(*) FROM vecsync.$call"), "the columns of keys and vectors suffice for $call");
}
is(sql(q{SET ROLE narrow; SELECT metadata FROM vecsync.similar('items', '1', top_k => 1, return_metadata => 'all')}), '{"id": 251}', 'columns that may not be read are left out');
fails(q{SET ROLE narrow; SELECT vecsync.context('items', 'x')}, qr/42501/, 'the context needs the text');
for my $call (q{similar('items', '1', filter => $f$)}, q{recommend('items', '{1}', filter => $f$)}, q{duplicates('items', filter => $f$)}, q{clusters('items', filter => $f$)}, q{search('items', 'x', filter => $f$)})
{
	fails('SET ROLE narrow; SELECT * FROM vecsync.' . $call =~ s/\$f\$/'{"cat": "c1"}'/r, qr/42501/, "no filter on a hidden column: $call");
}
sql(q{GRANT SELECT ON items TO narrow; REVOKE SELECT ON items FROM narrow; REVOKE SELECT (embedding) ON items FROM narrow; GRANT SELECT (id, title, cat) ON items TO narrow});
for my $call (q{similar('items', '1')}, q{recommend('items', '{1}')}, q{duplicates('items')}, q{clusters('items')}, q{similarity_matrix('items', '{1}')}, q{classify('items', '1', '{a}')}, q{context('items', 'x')}, q{search('items', 'x')})
{
	fails("SET ROLE narrow; SELECT * FROM vecsync.$call", qr/42501/, "no search of hidden vectors: $call");
}
sql('ALTER TABLE items ENABLE ROW LEVEL SECURITY');
fails(q{SET ROLE reader; SELECT * FROM vecsync.duplicates('ours', namespace => 'n1')}, qr/42501/, 'no right, no duplicates');

$node->stop;
done_testing();

# Search over chunked vectorizers: each document once with its best chunk, exactly as many as asked for; hybrid, context, rights.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);
sub sql { return $node->safe_psql('postgres', join('; ', @_)) }

sql(q{CREATE TABLE documents (id int PRIMARY KEY, title text, type text, author text, tags text[], published date, body text);
	INSERT INTO documents SELECT d, 'Title ' || d, CASE d % 2 WHEN 0 THEN 'article' ELSE 'note' END, 'author ' || d % 3, ARRAY['t' || d % 4], date '2020-01-01' + d,
		(SELECT string_agg('word' || (d * 7 + w * 13) % 97, ' ' ORDER BY w) FROM generate_series(1, 5 * (1 + d % 9)) w) FROM generate_series(1, 120) d});
VecsyncNode::vectorizer($node, $service, 'documents', 'body', q{chunking => '{"method": "words", "size": 5}', text_config => 'simple'});
ok(VecsyncNode::settle($node, 'documents'), 'embedded');

my $chunks = 'documents_chunks';
for my $case ([ 'true', '' ], [ q{type = 'article'}, q{, filter => '{"type": "article"}'} ],
	[ q{'t1' = ANY (tags) AND published < '2020-02-15'}, q{, filter => '{"tags": {"$in": ["t1"]}, "published": {"$lt": "2020-02-15"}}'} ])
{
	for my $top (1, 7, 120, 500)
	{
		is(sql(<<SQL), '', "top $top where $case->[0]: each document with its best chunk");
WITH found AS (SELECT row_number() OVER () AS n, key, score, chunk_seq, chunk FROM vecsync.search('documents', 'word7 word20', top_k => $top $case->[1])),
     wanted AS (SELECT row_number() OVER () AS n, jsonb_build_object('id', id) AS key, 1 - d AS score, chunk_seq, chunk FROM
                (SELECT * FROM (SELECT DISTINCT ON (id) id, chunk_seq, chunk, embedding <=> vecsync.embed('m', 'word7 word20') AS d FROM $chunks WHERE $case->[0]
                 ORDER BY id, d, chunk_seq) x ORDER BY d, id, chunk_seq LIMIT $top) y)
SELECT * FROM found FULL JOIN wanted USING (n) WHERE (found.key, found.score, found.chunk_seq, found.chunk) IS DISTINCT FROM (wanted.key, wanted.score, wanted.chunk_seq, wanted.chunk) LIMIT 2
SQL
	}
}
is(sql(q{SELECT count(*) FROM vecsync.search('documents', 'x', group_by_document => false, top_k => 10000)}), sql("SELECT count(*) FROM $chunks"), 'every chunk');
is(sql(q{SELECT snippet = left(chunk, 5) || '...' OR snippet ~ '^word' FROM vecsync.search('documents', 'x', top_k => 1, snippet_length => 10)}), 't', 'a snippet of the chunk');
is(sql(q{SELECT metadata->>'title' ~ '^Title', "values" IS NOT NULL FROM vecsync.search('documents', 'x', top_k => 1, return_metadata => 'all', return_values => true)}), 't|t', 'metadata of the document, vector of the chunk');
is(sql(q{SELECT bool_and(text_score > 0), count(*) FROM vecsync.search('documents', 'word7 word20', mode => 'text', top_k => 5)}), 't|5', 'text mode finds documents');
is(sql(q{SELECT count(*), count(DISTINCT key) FROM vecsync.search('documents', 'word7 word20', mode => 'hybrid', top_k => 100, snippet_length => 20)}), '100|100', 'hybrid: each document once');
is(sql(q{SELECT count(*), bool_or(key->>'id' = '9') FROM vecsync.similar('documents', '9', top_k => 10)}), '10|f', 'similar documents');
is(sql(q{SELECT count(*) FROM vecsync.recommend('documents', '{1,2}', top_k => 10)}), '10', 'recommended documents');
is(sql(q{SELECT count(*) FROM vecsync.classify('documents', '9', '{a,b}')}), '2', 'classified');
is(sql(q{SELECT length(vecsync.context('documents', 'word7', max_chars => 300)) BETWEEN 200 AND 300}), 't', 'context of chunks');
is(sql(q{SELECT count(*) FROM vecsync.duplicates('documents', 0.9)}),
	sql(q{SELECT count(*) FROM (SELECT x.id, y.id FROM documents_chunks x JOIN documents_chunks y ON x.id < y.id WHERE 1 - (x.embedding <=> y.embedding) >= 0.9 GROUP BY 1, 2) p}), 'duplicates: documents that have a piece in common');

my $index = $node->psql('postgres', "DO \$\$ BEGIN EXECUTE format('CREATE INDEX ON %s USING hnsw (embedding vector_cosine_ops)', (SELECT chunk_table FROM vecsync.vectorizer)); END \$\$");
SKIP:
{
	skip 'no hnsw', 1 if $index;
	is(sql(q{SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SELECT count(*), count(DISTINCT key) FROM vecsync.search('documents', 'word7', top_k => 100)}), '100|100', 'exactly as many documents behind an index');
	# so many that the index's are not enough and all are compared
	is(sql(q{SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
		SELECT count(*), count(DISTINCT metadata->>'title'), count("values"), count(snippet)
		FROM vecsync.search('documents', 'word7', top_k => 120, filter => '{"id": {"$gt": 10}}', return_metadata => 'all', return_values => true, snippet_length => 10)}),
		'110|110|110|110', 'their metadata, vectors and snippets, too');
}

sql(q{INSERT INTO documents (id, body) VALUES (1000, ' ')});
for my $case ([ 1000, 55000, 'without chunks' ], [ 1001, 'P0002', 'that is not there' ])
{
	VecsyncNode::fails($node, "SELECT * FROM vecsync.similar('documents', '$case->[0]')", qr/$case->[1]: /, "a row $case->[2]");
}
sql('DELETE FROM documents WHERE id = 1000');

# The last of the chunks that are looked at first, 4 for each row and 100 more, may be one of many rows' that are as far.
sql(q{CREATE TABLE ties (id int PRIMARY KEY, body text);
	INSERT INTO ties SELECT i, repeat('same ', CASE i WHEN 9 THEN 19 ELSE 15 END) FROM generate_series(1, 9) i;
	INSERT INTO ties SELECT i, 'other' FROM generate_series(13, 40) i});
VecsyncNode::vectorizer($node, $service, 'ties', 'body', q{chunking => '{"method": "words", "size": 1}', index => '{"method": "none"}'});
ok(VecsyncNode::settle($node, 'ties'), 'embedded');
sql(q{INSERT INTO ties SELECT i, 'other' FROM generate_series(10, 12) i});
ok(VecsyncNode::settle($node, 'ties'), 'some later than others');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE chunk = 'same') FROM ties_chunks}), '170|139', 'as many chunks as the test thinks');
for my $top (9, 10, 11, 12)
{
	is(sql("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_indexscan = off; SELECT string_agg(key->>'id', ' ') FROM vecsync.search('ties', 'same', top_k => $top)"), join(' ', 1 .. $top), "equally far, top $top: the first keys");
}

# ---- change and deletion -------------------------------------------------------------------
sql(q{UPDATE documents SET body = 'short' WHERE id = 9; DELETE FROM documents WHERE id = 10});
is(sql(q{SELECT count(*) FROM vecsync.search('documents', 'x', top_k => 10000) WHERE key->>'id' = '10'}), '0', 'a deleted document is gone from the next search');
ok(VecsyncNode::settle($node, 'documents'), 'in step');
is(sql(q{SELECT string_agg(chunk, '|') FROM vecsync.search('documents', 'x', top_k => 10000, group_by_document => false) WHERE key->>'id' = '9'}), 'short', 'a shrunk document has one chunk');
sql(q{CREATE ROLE reader; GRANT SELECT ON documents TO reader; ALTER TABLE documents ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON documents USING (id < 20)});
is(sql(q{SET ROLE reader; SELECT count(*) FROM vecsync.search('documents', 'x', top_k => 10000)}), '18', 'row level security of the document');
is(sql(q{SET ROLE reader; SELECT count(*) FROM vecsync.search('documents', 'word7', mode => 'hybrid', top_k => 10000, snippet_length => 10)}), '18', 'in hybrid mode, too');

$node->stop;
done_testing();

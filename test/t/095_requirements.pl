# The requirements, row by row: 0.x a manual of a hosted vector database, 1.x a tutorial that makes a table of albums
# searchable.  Each row is one statement and its answer, with exact vectors from the fake service.

use strict;
use warnings FATAL => 'all';

use FakeService;
use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 768);
sub sql { return $node->safe_psql('postgres', join('; ', @_)) }
sub row
{
	my ($row, $query, $wanted, $what) = @_;
	is(sql($query), $wanted, "row $row: $what");
	return;
}
sub refused
{
	my ($row, $query, $pattern, $what) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$query");
	ok($status != 0 && $err =~ $pattern, "row $row: $what") or diag("$status $err");
	return;
}

sql('CREATE EXTENSION pg_trgm');
my ($url, $rerank, $chat) = ($service->url, $service->url('rerank'), $service->url('chat'));

# ---- the albums ------------------------------------------------------------------------------------
# row 1.1: an ordinary table of 50 rows; the application is not changed
sql(q{CREATE TABLE albums (id int PRIMARY KEY, name text, artist text, year int, genre text)});
sql("COPY albums FROM '$ENV{VECSYNC_TREE}/demo/albums.csv' (FORMAT csv, HEADER)");
row('1.1', 'SELECT count(*) FROM albums', 50, 'the table is the truth');
# row 0.3: configuration by two statements; the secret is not dumped
sql(q{SELECT vecsync.set_secret('key', 'S3CRET-VALUE')},
	qq{SELECT vecsync.create_model('bge', url => '$url', model => 'bge-base-en-v1.5', secret => 'key')});
# row 1.2: dimensions come from the model
row('1.2', q{SELECT dimensions FROM vecsync.model}, 768, 'dimensions are the model\'s');
# row 0.2: embeddings, one and many in one request
row('0.2', q{SELECT vector_dims(vecsync.embed('bge', 'text')), vecsync.embed('bge', ARRAY['a', 'b']) = ARRAY[expected_vector('a', 768), expected_vector('b', 768)]}, '768|t', 'embed');
# row 1.5: the template
my $template = 'type: albums | id: {id} | name: {name} | artist: {artist} | year: {year} | genre: {genre}';
row('1.5', qq{SELECT vecsync.create_vectorizer('albums', model => 'bge', content => '$template', text_config => 'simple')}, 'albums', 'a template');
# row 1.6: all rows are embedded by themselves, in batches
row('1.6', q{SELECT vecsync.wait('albums'); SELECT count(*) FROM albums WHERE embedding IS NOT NULL}, "t\n50", 'the backfill');
cmp_ok($service->stats->{requests}, '<', 15, 'row 1.6: in batches');
row('1.5', q{SELECT count(*) FROM albums WHERE embedding = expected_vector(concat('type: albums | id: ', id, ' | name: ', name, ' | artist: ', artist, ' | year: ', year, ' | genre: ', genre), 768)}, 50, 'gives exactly that text');
my $text = q{type: albums | id: 900 | name: {artist} {{x}} | artist:  | year:  | genre: };
# row 1.13: additions and edits are followed
sql(q{INSERT INTO albums (id, name) VALUES (900, '{artist} {{x}}')});
row('1.13', qq{SELECT vecsync.wait('albums'); SELECT embedding = expected_vector('$text', 768) FROM albums WHERE id = 900}, "t\nt", 'an insert is followed; values are not expanded, NULL is nothing');
sql(q{UPDATE albums SET genre = 'Grunge' WHERE id = 900});
row('1.13', qq{SELECT vecsync.wait('albums'); SELECT embedding = expected_vector('${text}Grunge', 768) FROM albums WHERE id = 900}, "t\nt", 'an update is followed');
# row 0.8: deletion; gone from the very next search
row('0.8', q{WITH gone AS (DELETE FROM albums WHERE id = ANY ('{900}') RETURNING id) SELECT count(*) FROM gone}, 1, 'delete by ids');
row('0.8', q{SELECT count(*) FROM vecsync.search('albums', 'x', top_k => 1000) WHERE key->>'id' = '900'}, 0, 'gone from the next search');
# row 0.1: text in, keys, scores and metadata out
my $first = sql("SELECT concat('type: albums | id: ', id, ' | name: ', name, ' | artist: ', artist, ' | year: ', year, ' | genre: ', genre) FROM albums WHERE id = 1") =~ s/'/''/gr;
row('0.1', qq{SELECT key, score, metadata->>'id' FROM vecsync.search('albums', '$first', top_k => 10, return_metadata => 'all') LIMIT 1}, '{"id": 1}|1|1', 'search; 1 is identical');
row('0.1', q{SELECT count(*), bool_and(ordered) FROM (SELECT score <= lag(score, 1, 2) OVER () AS ordered FROM vecsync.search('albums', 'q', top_k => 10)) s}, '10|t', 'ten, in order');
# row 1.7: key and text are kept together
row('1.7', qq{SELECT key, snippet = '$first' FROM vecsync.search('albums', '$first', top_k => 1, snippet_length => 1000)}, '{"id": 1}|t', 'the embedded text can be had');
# row 1.8: one statement; nothing found is no error
row('1.8', q{SELECT count(*) FROM vecsync.search('albums', 'q', top_k => 5, return_metadata => 'all')}, 5, 'five rows with metadata');
row('1.8', q{SELECT count(*) FROM vecsync.search('albums', 'q', filter => '{"year": 1066}')}, 0, 'nothing found is no error');
# row 1.9: the smallest score is part of the search
row('1.9', qq{SELECT count(*), min(score) >= 0.4 FROM vecsync.search('albums', '$first', top_k => 50, min_score => 0.4)}, sql(qq{SELECT count(*) || '|t' FROM albums WHERE 1 - (embedding <=> expected_vector('$first', 768)) >= 0.4}), 'min_score');
# row 1.10: hits joined with the table
row('1.10', qq{SELECT a.name, s.score FROM vecsync.search('albums', '$first', top_k => 1) s JOIN albums a ON a.id = (s.key->>'id')::int ORDER BY s.score DESC}, sql('SELECT name FROM albums WHERE id = 1') . '|1', 'hits as rows');
# row 1.4: any column can be filtered, by its index where there is one
sql('CREATE INDEX albums_year ON albums (year)');
row('1.4', q{SELECT count(*) FROM vecsync.search('albums', 'q', top_k => 100, filter => '{"year": {"$gte": 1990}}')}, sql('SELECT count(*) FROM albums WHERE year >= 1990'), 'a filter on any column');
like(sql(q{SET enable_seqscan = off; EXPLAIN SELECT * FROM albums WHERE } . sql(q{SELECT vecsync.filter_sql('albums', '{"year": 1991}')})), qr/albums_year/, 'row 1.4: its index serves');
# row 1.11: the judge drops what does not fit; unknown numbers are ignored; failure is a warning or an error
sql(qq{SELECT vecsync.create_model('mistral', url => '$chat', model => 'mistral', kind => 'chat')}, qq{SELECT vecsync.create_model('judge', url => '$rerank', model => 'r', kind => 'rerank', provider => 'cohere')});
$service->scenario(dims => 768, chat => { drop => [ 2, 77 ] });
row('1.11', qq{SELECT key->>'id' FROM vecsync.search('albums', '$first', top_k => 50, filter => '{"id": {"\$in": [1, 2]}}', rerank => 'mistral')}, 1, 'a chat model drops ids');
row('1.11', q{SELECT rerank_score > 0 FROM vecsync.search('albums', 'nirvana', top_k => 1, rerank => 'judge')}, 't', 'a reranker scores');
$service->scenario(dims => 768, chat => 'prose');
my ($status, $out, $err) = $node->psql('postgres', q{SET vecsync.query_timeout = '500ms'; SELECT count(*) FROM vecsync.search('albums', 'q', top_k => 3, rerank => 'mistral')});
ok($out eq '3' && $err =~ /WARNING/, 'row 1.11: failure leaves the rows and warns');
refused('1.11', q{SET vecsync.query_timeout = '500ms'; SELECT * FROM vecsync.search('albums', 'q', rerank => 'mistral', rerank_error => 'error')}, qr/ERROR.*did not rerank/, 'or is an error');
# row 1.12: misspelt words are found
row('1.12', q{SELECT metadata->>'artist' FROM vecsync.search('albums', 'nirvanna nevermnd', mode => 'text', return_metadata => 'all') LIMIT 1}, 'Nirvana', 'typing errors');
# row 1.3: an answer of other dimensions writes nothing
$service->scenario(dims => 768, rules => [ { when => { text => 'poison' }, dims => 3 } ]);
sql(q{INSERT INTO albums (id, name) VALUES (901, 'poison')});
ok(VecsyncNode::poll($node, q{SELECT last_error ~ 'dimension' FROM vecsync.status}, 't'), 'row 1.3: other dimensions are an error that is shown');
row('1.3', 'SELECT embedding IS NULL FROM albums WHERE id = 901', 't', 'and nothing is written');
$service->scenario(dims => 768);
sql('DELETE FROM albums WHERE id = 901');
# row 1.14: namespaces
sql(q{CREATE TABLE things (id int PRIMARY KEY, kind text, body text); INSERT INTO things SELECT i, CASE i % 2 WHEN 0 THEN 'album' ELSE 'book' END, 'b' || i FROM generate_series(1, 40) i},
	q{SELECT vecsync.create_vectorizer('things', model => 'bge', content => 'body', namespace => 'kind')}, q{SELECT vecsync.wait('things')});
row('1.14', q{SELECT count(*), bool_and((key->>'id')::int % 2 = 0) FROM vecsync.search('things', 'x', namespace => 'album', top_k => 100)}, '20|t', 'a namespace is a wall');
# row 1.15 and 0.36: rights
sql('CREATE ROLE guest');
refused('1.15', q{SET ROLE guest; SELECT * FROM vecsync.search('albums', 'x')}, qr/42501/, 'ordinary rights');
sql(q{CREATE POLICY p ON albums USING (year < 1980); ALTER TABLE albums ENABLE ROW LEVEL SECURITY; GRANT SELECT ON albums TO guest});
row('0.36', q{SET ROLE guest; SELECT count(*) FROM vecsync.search('albums', 'x', top_k => 100)}, sql('SELECT count(*) FROM albums WHERE year < 1980'), 'row level security holds in a search');
refused('0.36', q{SET ROLE guest; SELECT * FROM vecsync.secret}, qr/42501/, 'secrets cannot be read');
sql('ALTER TABLE albums DISABLE ROW LEVEL SECURITY');
# row 1.16: nothing is copied
row('1.16', q{SELECT metadata FROM vecsync.search('albums', 'x', top_k => 1)}, '', 'metadata only when asked, from the row itself');

# ---- vectors by hand ------------------------------------------------------------------------------------
sql('CREATE TABLE plain (id text PRIMARY KEY, embedding vector(3), price numeric, tags text[], doc jsonb, day date)');
# row 0.4
row('0.4', q{WITH i AS (INSERT INTO plain (id, embedding) VALUES ('a', '[1,0,0]'), ('b', '[0,1,0]') ON CONFLICT DO NOTHING RETURNING id) SELECT count(*) FROM i}, 2, 'insert');
refused('0.4', q{INSERT INTO plain (id, embedding) VALUES ('a', '[1,1,1]')}, qr/23505/, 'a second of the same id is refused');
# row 0.5
row('0.5', q{WITH u AS (INSERT INTO plain (id, embedding) SELECT i::text, '[1,2,3]'::vector FROM generate_series(1, 1000) i UNION ALL SELECT 'a', '[0,0,1]' ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding RETURNING id) SELECT count(*), bool_or(id = 'a') FROM u}, '1001|t', 'upsert in a batch');
row('0.5', q{SELECT embedding FROM plain WHERE id = 'a'}, '[0,0,1]', 'replaces the whole');
# row 0.6
refused('0.6', "INSERT INTO plain VALUES ('x', '$_')", qr/ 22\w{3}:/, "invalid vector $_") for '[1,2]', '[NaN,1,1]', '[Infinity,1,1]', 'hello', '[]';
row('0.6', q{SELECT count(*) FROM plain WHERE id = 'x'}, 0, 'nothing is stored');
sql(q{UPDATE plain SET price = length(id), tags = ARRAY['t' || length(id), 'all'], doc = jsonb_build_object('a', jsonb_build_object('b', length(id))), day = date '2024-01-01' + length(id)});
sql(q{SELECT vecsync.create_model('three', url => 'http://127.0.0.1:9/', model => 'x', dimensions => 3)}, q{SELECT vecsync.create_vectorizer('plain', model => 'three', content => 'id', enqueue_existing => false)}, q{SELECT vecsync.pause('plain')});
# row 0.7
row('0.7', q{SELECT key->>'id', score, metadata ? 'price', "values" FROM vecsync.search('plain', query_vector => '[0,1,0]', top_k => 1, filter => '{"price": {"$lte": 1}}', return_metadata => 'all', return_values => true)}, 'b|1|t|[0,1,0]', 'query by vector');
row('0.7', q{SELECT metadata FROM vecsync.search('plain', query_vector => '[0,1,0]', top_k => 1, return_metadata => 'indexed')}, '{"id": "b"}', 'indexed metadata');
# row 0.9
my %filters = ('{"id": "a"}' => q{id = 'a'}, '{"price": {"$ne": 1}}' => 'price IS DISTINCT FROM 1', '{"price": {"$in": [1, 4]}}' => 'price IN (1, 4)', '{"price": {"$nin": [1, 2]}}' => 'price NOT IN (1, 2)',
	'{"price": {"$gt": 1, "$lt": 3}}' => 'price > 1 AND price < 3', '{"doc.a.b": {"$gte": 3}}' => q{(doc#>>'{a,b}')::int >= 3}, '{"day": {"$gte": "2024-01-03"}}' => q{day >= '2024-01-03'},
	'{"tags": {"$in": ["t1", "t9"]}}' => q{tags && '{t1,t9}'}, '{"price": null}' => 'price IS NULL', '{"$or": [{"id": "a"}, {"price": 4}]}' => q{id = 'a' OR price = 4}, '{"$not": {"price": 1}}' => '(price = 1) IS NOT TRUE');
for my $filter (sort keys %filters)
{
	row('0.9', "SELECT count(*) FROM vecsync.search('plain', query_vector => '[1,2,3]', top_k => 10000, filter => '$filter')", sql("SELECT count(*) FROM plain WHERE $filters{$filter}"), $filter);
}
refused('0.9', q{SELECT * FROM vecsync.search('plain', query_vector => '[1,2,3]', filter => '{"price": {"$near": 1}}')}, qr/22023.*unknown operator/s, 'an unknown operator is an error');
# row 0.13
row('0.13', q{SELECT count(*) FROM vecsync.search('plain', query_vector => '[1,2,3]', top_k => 10000, filter => '{}')}, 1002, 'an empty filter is no condition');
# row 0.24, 0.25
row('0.24', q{SELECT embedding FROM plain WHERE id = ANY ('{a,b}') ORDER BY id}, "[0,0,1]\n[0,1,0]", 'vectors by id');
row('0.25', q{WITH RECURSIVE pages AS (SELECT 0 AS n, '' AS last, NULL::bigint AS size UNION ALL SELECT n + 1, p.last, p.size FROM pages q, LATERAL (SELECT max(id) AS last, count(*) AS size FROM (SELECT id FROM plain WHERE id > q.last ORDER BY id LIMIT 300) x) p WHERE p.size > 0)
	SELECT max(n), sum(size) FROM pages}, '4|1002', 'all vectors, page by page by their keys');
# row 0.26
row('0.26', q{SELECT vecsync.similarity('[1,0]', '[1,1]') = 1 - ('[1,0]'::vector <=> '[1,1]'), vecsync.similarity('[1,2]', '[1,2]')}, 't|1', 'cosine similarity');

# ---- documents ------------------------------------------------------------------------------------------
# row 0.10, 0.11
sql(q{CREATE TABLE documents (id int PRIMARY KEY, title text, type text, author text, tags text[], day date, body text)},
	q{SELECT vecsync.create_vectorizer('documents', model => 'bge', content => 'body', chunking => '{"method": "words", "size": 512}', text_config => 'simple')},
	q{INSERT INTO documents SELECT d, 't' || d, CASE d % 2 WHEN 0 THEN 'faq' ELSE 'guide' END, 'a' || d % 3, ARRAY['x' || d % 2], date '2024-01-01' + d, (SELECT string_agg('w' || d || '_' || w, E' \n') FROM generate_series(1, 300 * d) w) FROM generate_series(1, 6) d});
row('0.10', q{SELECT vecsync.wait('documents'); SELECT count(*), count(DISTINCT id), min(chunk_seq), max(title) FROM documents_chunks}, "t\n15|6|0|t6", 'chunks of documents, metadata joined');
row('0.11', q{SELECT bool_and(c.chunk = p.chunk AND c.embedding = expected_vector(p.chunk, 768)), bool_and(array_length(string_to_array(c.chunk, ' '), 1) <= 512) FROM documents d, vecsync.chunk(d.body, 'words', 512, 0) p, documents_chunks c WHERE c.id = d.id AND c.chunk_seq = p.seq}, 't|t', 'chunks of 512 words');
# row 0.12
row('0.12', q{SELECT count(*), count(DISTINCT key), bool_and(chunk <> '') FROM vecsync.search('documents', 'q', top_k => 2, filter => '{"type": {"$in": ["faq"]}, "author": {"$in": ["a0", "a1", "a2"]}, "tags": {"$in": ["x0"]}, "day": {"$gte": "2024-01-01", "$lte": "2024-12-31"}}')}, '2|2|t', 'exactly as many documents, each with its best chunk');
# row 0.14
row('0.14', q{SELECT vecsync.snippet(repeat('some words ', 50) || 'needle' || repeat(' other words', 50), 'needle', 200) ~ '^\.\.\.(some|words).{1,50}needle.*words\.\.\.$'}, 't', 'a snippet around the first hit');
# row 0.15
sql(q{UPDATE documents SET body = 'short' WHERE id = 6; DELETE FROM documents WHERE id = 5});
row('0.15', q{SELECT vecsync.wait('documents'); SELECT count(*) FILTER (WHERE id = 6), count(*) FILTER (WHERE id = 5) FROM documents_chunks}, "t\n1|0", 'chunks shrink and go with their document');
row('0.15', q{SELECT count(*) FROM vecsync.search('documents', 'q', top_k => 100, group_by_document => false) WHERE key->>'id' IN ('5', '6')}, 1, 'in searches, too');

# ---- items ----------------------------------------------------------------------------------------------
# row 0.16: optional parts by an expression
sql(q{CREATE TABLE items (id int PRIMARY KEY, title text, description text, category text, tags text[], price numeric, rating numeric, popularity int);
	INSERT INTO items SELECT i, 'item ' || i % 20, CASE WHEN i % 2 = 0 THEN 'fine' END, 'c' || i % 3, ARRAY['a', 'b'], CASE WHEN i % 4 > 0 THEN i END, NULL, i FROM generate_series(1, 60) i},
	q{SELECT vecsync.create_vectorizer('items', model => 'bge', content => $$=concat_ws('. ', title, description, 'Category: ' || category, 'Tags: ' || array_to_string(tags, ', '), 'Price: ' || price, 'Rating: ' || rating)$$)});
row('0.16', q{SELECT vecsync.wait('items'); SELECT embedding = expected_vector('item 4. fine. Category: c1. Tags: a, b', 768) FROM items WHERE id = 4}, "t\nt", 'rich text, missing parts left out');
sql(q{CREATE TABLE posts (id int PRIMARY KEY, body text); INSERT INTO posts SELECT i, 'post ' || i % 30 FROM generate_series(1, 60) i}, q{SELECT vecsync.create_vectorizer('posts', model => 'bge', content => 'body')}, q{SELECT vecsync.wait('posts')});
# row 0.17
row('0.17', q{SELECT count(*), bool_and((metadata->>'price')::numeric BETWEEN 5 AND 55 AND metadata->>'category' IN ('c0', 'c1') AND key->>'id' <> ALL ('{1,2,3,9}')) FROM vecsync.recommend('items', '{1,2}', '{3}', filter => '{"category": {"$in": ["c0", "c1"]}, "price": {"$gte": 5, "$lte": 55}}', exclude => '{9}', return_metadata => 'all', top_k => 5)}, '5|t', 'recommendations');
# row 0.18
row('0.18', q{SELECT count(*) FROM vecsync.recommend('items', '{5,4,3,2,1}', recency => 0.8)}, 10, 'a profile of the last actions');
row('0.18', q{SELECT (SELECT count(*) FROM vecsync.recommend('items', '{}')), (SELECT count(*) FROM vecsync.recommend('items', '{}', fallback => 'popular things'))}, '0|10', 'a cold start: none, or the fallback');
# row 0.19
row('0.19', q{SELECT count(*), bool_or(key->>'id' = '7'), bool_and(metadata->>'category' = 'c1') FROM vecsync.similar('items', '7', filter => '{"category": "c1"}', return_metadata => 'all')}, '10|f|t', 'similar items of the category');
refused('0.19', q{SELECT * FROM vecsync.similar('items', '777')}, qr/P0002.*not found/s, 'an unknown key');
# row 0.20
row('0.20', q{SELECT CASE WHEN score > 0.9 THEN 'nearly the same' WHEN score > 0.8 THEN 'very similar' ELSE 'similar' END, metadata->>'body' FROM vecsync.similar('posts', '7', top_k => 1, return_metadata => 'all')}, 'nearly the same|post 7', 'scores and metadata for a reason');
# row 0.21
row('0.21', q{SELECT (SELECT count(*) FROM vecsync.similarity_matrix('posts', '{1,2,31}')), (SELECT score FROM vecsync.similarity_matrix('posts', '{1,2,31}') WHERE a->>'id' = '1' AND b->>'id' = '31'), (SELECT count(DISTINCT cluster) FROM vecsync.clusters('posts', threshold => 0.8))}, '9|1|30', 'matrix and clusters');
# row 0.22
row('0.22', q{SELECT count(*), bool_and((b->>'id')::int - (a->>'id')::int = 30) FROM vecsync.duplicates('posts', 0.95)}, '30|t', 'duplicates, each pair once');
# row 0.23
row('0.23', q{SELECT label, round(score::numeric, 6) FROM vecsync.classify('posts', '7', ARRAY['other', 'post 7']) LIMIT 1}, 'post 7|1.000000', 'zero-shot labels');
# row 0.27
row('0.27', qq{SELECT bool_and(abs(score - (0.7 * vector_score + 0.3 * text_score)) < 1e-9), bool_or(text_score = 0), max(text_score) > 0.5 FROM vecsync.search('albums', 'Miles Davis', mode => 'hybrid', fusion => 'weighted', vector_weight => 0.7)}, 't|t|t', 'hybrid, weighted, with both scores');
row('0.27', q{SELECT count(*) FROM vecsync.search('albums', 'Miles Davis', mode => 'hybrid', fusion => 'rrf')}, 10, 'hybrid by ranks');
# row 0.28: each change that was applied, with number, batch, key, operation, status, attempts, error, hashes and times, for seven days
row('0.28', q{UPDATE posts SET body = 'post changed' WHERE id = 60; SELECT vecsync.wait('posts'); SELECT operation, status, attempts, error IS NULL, queued_at <= finished_at, id <> batch, substr(id::text, 15, 1) = '7' FROM vecsync.operation WHERE vectorizer = 'posts' AND key = '{"id": 60}' ORDER BY id DESC LIMIT 1},
	"t\nupsert|success|1|t|t|t|t", 'the log of an operation');
row('0.28', q{SELECT old_hash = left(encode(sha256('post 0'), 'hex'), 16), new_hash = left(encode(sha256('post changed'), 'hex'), 16) FROM vecsync.operation WHERE vectorizer = 'posts' AND key = '{"id": 60}' ORDER BY id DESC LIMIT 1}, 't|t', 'hashes of the text before and after');
row('0.28', 'SHOW vecsync.log_retention', '7d', 'kept for seven days');
# row 0.29: batches
row('0.29', q{SELECT bool_and(rows = upserts + deletes + failed), sum(rows) >= 61, bool_and(finished_at >= queued_at) FROM vecsync.batch WHERE vectorizer = 'posts'}, 't|t|t', 'batches with their counts');
# row 0.30: the status of an operation and of a batch; an unknown one is not found
my $operation = sql(q{SELECT id || ' ' || batch FROM vecsync.operation WHERE vectorizer = 'posts' AND status = 'success' ORDER BY id DESC LIMIT 1});
my ($id, $batch) = split / /, $operation;
row('0.30', "SELECT (SELECT status FROM vecsync.operation WHERE id = '$id'), (SELECT failed FROM vecsync.batch WHERE id = '$batch')", 'success|0', 'status by number');
row('0.30', "SELECT count(*) FROM vecsync.operation WHERE id = '01234567-0000-7000-8000-000000000000'", 0, 'not found');
# row 0.31 and 0.32
row('0.31', q{SELECT requests > 0, rows_embedded > 0 FROM vecsync.stats}, 't|t', 'counters');
my $before = $service->stats->{requests};
sql(q{SELECT count(*) FROM vecsync.search('posts', 'the same question')}) for 1, 2;
is($service->stats->{requests} - $before, 1, 'row 0.32: a question asked twice is embedded once');
row('0.32', q{SELECT query_cache_hits > 0 FROM vecsync.stats}, 't', 'and the hit is counted');
# row 0.33
row('0.33', q{BEGIN; DECLARE c CURSOR FOR SELECT key FROM vecsync.search('posts', 'q', top_k => 60); MOVE 50 IN c; FETCH 1 FROM c; COMMIT}, sql(q{SELECT key FROM vecsync.search('posts', 'q', top_k => 60) OFFSET 50 LIMIT 1}), 'a cursor over many results; pages do not shift');
row('0.33', q{SELECT count(*), min(pg_relation_size(i.indexrelid)) > 0 FROM vecsync.vectorizer v JOIN pg_index i ON i.indrelid = v.source JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE v.name = 'posts' AND a.amname = 'hnsw'}, '1|t', 'the size of the index on the vectors');
# row 0.34: columns come and go
row('0.34', q{ALTER TABLE items ADD extra text; ALTER TABLE items RENAME description TO summary; ALTER TABLE items DROP popularity; SELECT count(*) FROM vecsync.search('items', 'q', filter => '{"summary": "fine", "extra": null}', top_k => 100)}, 30, 'the schema evolves');
my $other = FakeService->new(dims => 32);
my $other_url = $other->url;
sql(qq{SELECT vecsync.create_model('next', url => '$other_url', model => 'next', dimensions => 32); SELECT vecsync.alter_vectorizer('items', '{"model": "next"}')});
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM vecsync.vectorizer WHERE name = 'items' AND generation = 2 AND retired IS NULL}, 1, 120), 'row 0.34: another model, of other dimensions, is a new generation');
row('0.34', q{SELECT count(*), min(vector_dims("values")) FROM vecsync.search('items', 'q', top_k => 100, return_values => true)}, '60|32', 'which then answers');
# row 0.35: several vectorizers of a table
row('0.35', q{SELECT vecsync.create_vectorizer('posts', model => 'three', content => '={body}', name => 'x', destination => 'column:other') IS NULL} =~ s/=\{body\}/body/r, 'f', 'a second vectorizer of a table');
# row 0.36: who asks for unusually much, or fails unusually often
sql('GRANT USAGE ON SCHEMA vecsync TO guest; GRANT SELECT ON albums TO guest');
sql(q{SET ROLE guest; SELECT count(*) FROM vecsync.search('albums', query_key => '1', top_k => 40, return_values => true)});
sql(q{SET ROLE guest; SELECT count(*) FROM vecsync.duplicates('albums')});
refused('0.36', q{SET ROLE guest; SELECT * FROM vecsync.similar('albums', '4711')}, qr/P0002/, 'a search that fails');
row('0.36', q{SELECT vectorizer, searches - answered >= 1, most_rows >= 40, with_values, rows >= most_rows, total_ms >= longest_ms AND longest_ms > 0, last_at > now() - interval '1 hour' FROM vecsync.searches WHERE role = 'guest' AND vectorizer = 'albums'}, 'albums|t|t|1|t|t|t', 'searches are counted by role');
refused('0.36', q{SET ROLE guest; SELECT * FROM vecsync.searches}, qr/42501/, 'for those who monitor');
# row 0.37
row('0.37', q{SELECT bool_and(rows >= 0), count(lag_p50_ms) > 0 FROM vecsync.status}, 't|t', 'metrics');
sql('CREATE ROLE watcher IN ROLE pg_monitor');
row('0.37', q{SET ROLE watcher; SELECT (SELECT count(*) >= 5 FROM vecsync.status), (SELECT latency_p50_ms IS NOT NULL FROM vecsync.stats), (SELECT state FROM vecsync.workers WHERE database = current_database())}, 't|t|running', 'for a monitoring role');
refused('0.37', q{SET ROLE guest; SELECT * FROM vecsync.workers}, qr/42501/, 'and nobody else');
# row 0.38
row('0.38', q{SELECT vecsync.context('documents', 'w1_5', max_chars => 2000) ~ 'w', length(vecsync.context('documents', 'w1_5', max_chars => 2000)) <= 2000}, 't|t', 'context for a language model');
# row 0.3: what a dump has
my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '--file', $file, '--dbname', $node->connstr('postgres') ], 'row 0.3: pg_dump');
my $dump = slurp_file($file);
ok($dump =~ /COPY vecsync\.vectorizer/ && $dump =~ /bge-base-en-v1\.5/ && $dump !~ /S3CRET/, 'row 0.3: models and vectorizers are dumped, secrets are not');
# row 0.35: a restored database has its vectors, and asks for nothing again
VecsyncNode::settle($node, $_) for split /\n/, sql(q{SELECT name FROM vecsync.vectorizer WHERE model IN ('bge', 'next')});
$node->command_ok([ 'pg_dump', '--file', $file, '--dbname', $node->connstr('postgres') ], 'row 0.35: pg_dump');
my $asked = $service->stats->{requests} + $other->stats->{requests};
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $node->connstr('restored') ], 'row 0.35: restore');
is($node->safe_psql('restored', q{SELECT vecsync.wait('albums', '60s'); SELECT key, score FROM vecsync.search('albums', query_key => '1', top_k => 1)}), "t\n" . sql(q{SELECT key, score FROM vecsync.search('albums', query_key => '1', top_k => 1)}), 'row 0.35: the same answer');
is($service->stats->{requests} + $other->stats->{requests} - $asked, 0, 'row 0.35: without embedding anything again');

$node->stop;
done_testing();

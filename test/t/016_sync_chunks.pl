# Documents: every document's chunks are those of its current text, through growth, shrinking, deletion and faults.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The table of chunks is exactly what chunking the documents gives, each with its vector.
sub chunks_right
{
	my ($what) = @_;
	my $got = sql(<<'SQL');
WITH wanted AS (SELECT d.id, c.seq, c.chunk FROM docs d, LATERAL vecsync.chunk(d.title || ' ' || d.body, 'words', 10, 2) c),
	got AS (SELECT id, chunk_seq AS seq, chunk, embedding FROM docs_chunks)
SELECT count(*) FILTER (WHERE g.id IS NULL) || ' missing, ' || count(*) FILTER (WHERE w.id IS NULL) || ' too many, '
	|| count(*) FILTER (WHERE g.chunk <> w.chunk OR g.embedding <> expected_vector(w.chunk, 8)) || ' wrong, orphans '
	|| (SELECT count(*) FROM vecsync_1_chunks_docs c WHERE NOT EXISTS (SELECT FROM docs d WHERE d.id = c.k1)) || ', queue '
	|| (SELECT count(*) FROM vecsync.queue)
FROM wanted w FULL JOIN got g USING (id, seq)
SQL
	my $ok = is($got, '0 missing, 0 too many, 0 wrong, orphans 0, queue 0', $what);
	VecsyncNode::report($node) unless $ok;
	return;
}

sub settle { return ok(VecsyncNode::settle($node, 'docs'), "$_[0]: worked off") }

# ---- pieces ----------------------------------------------------------------------
is(sql(q{SELECT count(*), min(array_length(string_to_array(chunk, ' '), 1)), max(array_length(string_to_array(chunk, ' '), 1)) FROM vecsync.chunk(repeat(E'word \n\t', 1100))}), '3|76|512', '512 words a chunk');
is(sql(q{SELECT string_agg(chunk, '|' ORDER BY seq) FROM vecsync.chunk('a b c d e f g', 'words', 3, 1)}), 'a b c|c d e|e f g', 'words that overlap');
is(sql(q{SELECT count(*) FROM vecsync.chunk(E' \n\t ')}), '0', 'no blank chunk');
is(sql(q{SELECT string_agg(chunk, '|' ORDER BY seq) FROM vecsync.chunk('äöüß🎵xyz', 'characters', 3)}), 'äöü|ß🎵x|yz', 'characters, not bytes');
is(sql(q{SELECT string_agg(chunk, '|' ORDER BY seq) FROM vecsync.chunk(E'One two. Three four.\n\nFive six seven eight. Nine.', 'recursive', 24)}), "One two. Three four.|Five six seven eight.|Nine.", 'recursive: paragraphs, sentences');
is(sql(q{SELECT bool_and(length(chunk) <= s) AND count(*) > 0 FROM generate_series(1, 40) s, LATERAL vecsync.chunk(repeat(E'Lorem ipsum, dolor. Sit\n\namet ', 20), 'recursive', s, s / 3)}), 't', 'recursive: never longer than asked, and it ends');
isnt($node->psql('postgres', q{SELECT vecsync.chunk('x', 'nothing')}), 0, 'an unknown method is refused');
SKIP:
{
	skip 'no /proc', 1 if !-e '/proc/self/status';
	cmp_ok((split /\n/, sql(q{SELECT count(*) FROM vecsync.chunk(repeat('a ', 1000000), 'words', 1); SELECT (regexp_match(pg_read_file('/proc/self/status'), 'VmHWM:\s+(\d+)'))[1]}))[1],
		'<', 500_000, 'a million small chunks take little memory');
}
isnt($node->psql('postgres', q{SELECT vecsync.chunk('x', 'words', 3, 3)}), 0, 'an overlap as large as the chunk is refused');

# ---- a vectorizer ------------------------------------------------------------------
sql(q{CREATE TABLE docs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text, body text NOT NULL DEFAULT '', n serial);
	INSERT INTO docs (title, body) SELECT 'Document ' || i, (SELECT string_agg('word' || i || '_' || j, ' ') FROM generate_series(1, i * 3) j) FROM generate_series(1, 100) i});
VecsyncNode::vectorizer($node, $service, 'docs', '{title} {body}', q{chunking => '{"method": "words", "size": 10, "overlap": 2}'});
settle('existing documents');
chunks_right('existing documents');
is(sql('SELECT rows, embedded, state FROM vecsync.status'), '100|100|in step', 'status');

sql('CREATE TABLE copies (id int PRIMARY KEY, body text)');
for my $case ([ 'words', 100, 91, 0 ], [ 'characters', 1000000, 999999, 0 ], [ 'words', 5, 4, 1 ], [ 'recursive', 100, 90, 1 ])
{
	my ($method, $size, $overlap, $good) = @$case;
	my ($status, $out, $err) = $node->psql('postgres', qq{SELECT vecsync.create_vectorizer('copies', model => 'm', content => 'body',
		name => 'copies_$size', destination => 'table', chunking => '{"method": "$method", "size": $size, "overlap": $overlap}')});
	like($good ? $out : $err, $good ? qr/copies_$size/ : qr/chunk overlap $overlap is too much for size $size/, "overlap $overlap of $size " . ($good ? 'is no objection' : 'is refused'));
}
sql(q{SELECT vecsync.drop_vectorizer('copies_' || size, keep_data => false) FROM unnest('{5,100}'::int[]) size});

sql(q{UPDATE docs SET body = split_part(body, ' ', 1) WHERE n % 4 = 0});
sql(q{UPDATE docs SET body = body || ' ' || body WHERE n % 4 = 1});
sql(q{UPDATE docs SET title = '', body = ' ' WHERE n = 10});
sql(q{DELETE FROM docs WHERE n % 9 = 0});
sql(q{UPDATE docs SET id = gen_random_uuid() WHERE n % 10 = 3});
is(sql(q{SELECT count(*) FROM docs_chunks v WHERE NOT EXISTS (SELECT FROM docs d WHERE d.id = v.id)}), '0', 'deleted documents are gone from the view at once');
settle('changes');
chunks_right('growth, shrinking, blank, deletion, new keys');

# one document with more chunks than a request takes
sql(q{INSERT INTO docs (title, body) VALUES ('Long', (SELECT string_agg('long' || j, ' ') FROM generate_series(1, 5000) j))});
settle('a long document');
chunks_right('more chunks than one request takes');

# faults in the middle of a document
$service->scenario(dims => 8, rules => [ { when => { every => 2, times => 6 }, status => 500 } ]);
sql(q{UPDATE docs SET title = 'Longer' WHERE title = 'Long'; UPDATE docs SET title = 'x' || title WHERE n < 50});
settle('faults');
chunks_right('faults between the requests of a document');
$service->scenario(dims => 8, rules => [ { when => { text => 'poison' }, status => 400, message => 'no' } ]);
sql(q{INSERT INTO docs (title, body) VALUES ('bad', 'poison'); UPDATE docs SET title = 'y' || title WHERE n BETWEEN 20 AND 60});
settle('a poison document');
is(sql(q{SELECT count(*), min(error) ~ 'no' FROM vecsync.failed}), '1|t', 'a document that the service refuses is alone in failing');
sql(q{DELETE FROM docs WHERE title = 'bad'});
settle('deleted');
chunks_right('the others are right');
is(sql(q{SELECT count(*) FROM vecsync.failed}), '0', 'a deleted document is no failure any more');

# deleted while its request hangs
$service->scenario(dims => 8, rules => [ { when => { path => 'embeddings' }, hang => JSON::PP::true } ]);
sql(q{UPDATE docs SET title = 'hanging ' || title WHERE n < 40});
$service->wait_for(sub { $_[0]{hanging} > 0 });
sql(q{DELETE FROM docs WHERE n < 20; UPDATE docs SET body = 'short' WHERE n BETWEEN 20 AND 30});
$service->scenario(dims => 8);
$service->release;
settle('deleted in flight');
chunks_right('documents deleted and changed in flight');

sql('TRUNCATE docs');
settle('truncate');
chunks_right('truncate leaves no chunk');
sql(q{INSERT INTO docs (title, body) VALUES ('again', 'after truncate')});
sql(q{ALTER TABLE docs RENAME COLUMN id TO doc_id; ALTER TABLE docs RENAME COLUMN doc_id TO id});
settle('renamed');
chunks_right('after renames');

# ---- readers ---------------------------------------------------------------------------------
sql(q{CREATE ROLE reader; CREATE ROLE halfreader; CREATE ROLE stranger;
	ALTER TABLE docs ADD COLUMN tenant text DEFAULT 'other'; INSERT INTO docs (title, body, tenant) VALUES ('mine', 'for the reader', 'reader');
	ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (tenant = current_user);
	GRANT SELECT ON docs TO reader; GRANT SELECT (id) ON docs TO halfreader; GRANT SELECT ON docs_chunks TO reader, halfreader, stranger});
settle('tenants');
is(sql(q{SET ROLE reader; SELECT string_agg(chunk, '|') FROM docs_chunks}), 'mine for the reader', 'a tenant sees its own chunks');
is(sql(q{SET ROLE reader; SELECT string_agg(chunk, '|') FROM vecsync_1_chunks_docs}), 'mine for the reader', 'also in the table behind the view');
isnt($node->psql('postgres', q{SET ROLE halfreader; SELECT chunk FROM vecsync_1_chunks_docs}), 0, 'who may not read the text may not read its chunks');
isnt($node->psql('postgres', q{SET ROLE stranger; SELECT chunk FROM vecsync_1_chunks_docs}), 0, 'a stranger sees nothing');

# ---- keys whose equality is that of another extension ------------------------------------------------
SKIP:
{
	skip 'needs the extension ltree', 41 if sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'ltree'}) eq '0';
	sql(q{CREATE SCHEMA trees; CREATE EXTENSION ltree SCHEMA trees;
		CREATE TABLE pages (n int, path trees.ltree, body text, PRIMARY KEY (path, n)); INSERT INTO pages VALUES (1, 'a.b', 'one two three'), (2, 'c', 'four'), (1, 'c', 'five');
		ALTER TABLE pages ENABLE ROW LEVEL SECURITY; CREATE POLICY most ON pages USING (body !~ 'four|six'); GRANT SELECT ON pages TO reader});
	VecsyncNode::vectorizer($node, $service, 'pages', 'body', q{chunking => '{"size": 2}'});
	ok(VecsyncNode::settle($node, 'pages'), 'documents whose keys are of an extension\'s type');
	my $view = q{SELECT string_agg(concat_ws(' ', path, n, chunk_seq, chunk, embedding = expected_vector(chunk, 8)), ', ' ORDER BY path, n, chunk_seq) FROM pages_chunks};
	is(sql($view), 'a.b 1 0 one two t, a.b 1 1 three t, c 1 0 five t, c 2 0 four t', 'have their chunks');
	my $table = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'pages'});
	is(sql("SET ROLE reader; SELECT string_agg(chunk, ', ' ORDER BY chunk) FROM $table"), 'five, one two, three', 'which are for whom the rows are');
	is(sql(q{SELECT count(*) FROM vecsync.search('pages', 'four')}), '3', 'and are searched');
	sql(q{UPDATE pages SET body = 'six' WHERE n = 2; ALTER TABLE pages ALTER n TYPE bigint; DELETE FROM pages WHERE path::text = 'a.b'});
	ok(VecsyncNode::settle($node, 'pages'), 'also when other columns of the key change');
	sql(q{BEGIN; ALTER EXTENSION ltree SET SCHEMA public; UPDATE pages SET body = 'seven' WHERE n = 1; COMMIT});
	ok(VecsyncNode::settle($node, 'pages'), 'the extension goes to another schema');
	is(sql('SELECT count(*) FROM vecsync.failed'), '0', 'and no change fails for it');
	is(sql($view), 'c 1 0 seven t, c 2 0 six t', 'their chunks follow them, also when the extension goes to another schema');
	is(sql("SET ROLE reader; SELECT string_agg(chunk, ', ') FROM $table"), 'seven', 'and so do rights');
	my ($dump) = run_command([ 'pg_dump', '-s', '-h', $node->host, '-p', $node->port, '-t', 'pages', '-t', 'pages_chunks', '-t', $table, 'postgres' ]);
	is(() = $dump =~ /path OPERATOR\(public\.=\)/g, 2, 'a dump names the equality by its schema');
	sql('GRANT SELECT ON pages_chunks TO reader');
	for my $type ('text', 'ltree', 'varchar(20)', 'ltree')
	{
		sql("ALTER TABLE pages ALTER path TYPE $type USING path::$type; UPDATE pages SET body = body || ' $type' WHERE n = 1; INSERT INTO pages VALUES (3, 'd', 'eight')");
		ok(VecsyncNode::settle($node, 'pages'), "the key's type becomes $type");
		like(sql($view), qr/^c 1 0 seven \S+ t, .*c 2 0 six t, d 3 0 eight t$/, 'chunks follow their rows');
		like(sql('SET ROLE reader; SELECT min(chunk) FROM pages_chunks WHERE n = 1'), qr/^[a-z]+/, 'rights are as before');
		is(sql("SET ROLE reader; SELECT count(*) FROM $table WHERE chunk ~ 'six'"), '0', 'and so is the policy');
		is(sql(q{SELECT count(*) FROM vecsync.search('pages', 'eight', top_k => 1)}), '1', 'and they are searched');
		sql('DELETE FROM pages WHERE n = 3');
		ok(VecsyncNode::settle($node, 'pages'), 'a row goes');
		unlike(sql($view), qr/eight/, 'with its chunks');
	}
	my ($code, $out, $err) = $node->psql('postgres', q{ALTER TABLE pages ALTER n TYPE date USING date '2026-01-01' + n::int});
	isnt($code, 0, 'a type that the old values cannot become');
	like($err, qr/the type of a key column of table "public.pages" cannot be changed.*chunks of vectorizer "pages".*Drop the vectorizer/s, 'is refused in words');
	like(sql($view), qr/^c 1 0 seven .*c 2 0 six t$/, 'and nothing has happened');
	sql('DROP TABLE pages CASCADE');
}

# ---- the end -------------------------------------------------------------------------------
isnt($node->psql('postgres', 'DROP TABLE docs'), 0, 'DROP TABLE is refused');
sql(q{CREATE TABLE notes (a int, b text, body text, PRIMARY KEY (b, a)); INSERT INTO notes VALUES (1, 'x', 'one'), (2, 'y', 'two')});
VecsyncNode::vectorizer($node, $service, 'notes', 'body', q{destination => 'table'});
ok(VecsyncNode::settle($node, 'notes'), 'a table without chunking');
is(sql(q{SELECT string_agg(a || b || chunk_seq || chunk || (embedding = expected_vector(body, 8)), ',' ORDER BY a) FROM notes_chunks}), '1x0onetrue,2y0twotrue', 'one vector for each row, beside the table');
sql(q{SELECT vecsync.drop_vectorizer('notes', keep_data => false)});
sql('DROP TABLE docs CASCADE');
is(sql(q{SELECT count(*) FROM pg_class WHERE relname LIKE 'vecsync%' OR relname LIKE '%_chunks'}), '0', 'nothing is left');

# ---- more than there is memory for --------------------------------------------------------------------
# The worker gets so many MB more, and no others: a row that takes more fails alone, and the worker goes on.
SKIP:
{
	skip 'needs prlimit', 7 unless -r '/proc/self/status' && !system('prlimit --version >/dev/null 2>&1');
	$service->scenario(dims => 8);
	VecsyncNode::set($node, 'vecsync.max_attempts', 3);
	sql(q{CREATE TABLE vast (id int PRIMARY KEY, body text, times int); INSERT INTO vast SELECT i, 'small ' || i, 1 FROM generate_series(1, 20) i});
	VecsyncNode::vectorizer($node, $service, 'vast', '=repeat(body, times)', q{chunking => '{"size": 1000000}', index => '{"method": "none"}'});
	ok(VecsyncNode::settle($node, 'vast'), 'small texts');
	my $worker = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
	my ($size) = slurp_file("/proc/$worker/status") =~ /^VmSize:\s*(\d+) kB/m;
	system_or_bail('prlimit', '--pid', $worker, '--as=' . 1024 * ($size + 1024 * 200) . ':unlimited');
	# the list of 10 million words alone takes more, to read 120 MB does; blank texts take memory one by one, and ask for nothing
	sql(q{INSERT INTO vast VALUES (100, repeat('a ', 1000), 10000), (101, repeat('long ', 1000), 24000); UPDATE vast SET body = 'other ' || id WHERE id <= 20;
		INSERT INTO vast SELECT i, repeat(' ', 1000), 8000 FROM generate_series(200, 211) i});
	ok(VecsyncNode::settle($node, 'vast'), 'vast ones beside them');
	is(sql(q{SELECT string_agg(concat_ws(' ', key->>'id', operation, attempts, error), ', ' ORDER BY key) FROM vecsync.failed WHERE vectorizer = 'vast'}),
		'100 read 3 out of memory, 101 read 3 out of memory', 'what takes too much has failed');
	is(sql(q{SELECT count(*) FROM vast_chunks WHERE chunk = 'other ' || id AND embedding = expected_vector(chunk, 8)}), '20', 'everything else is done');
	is(sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), $worker, 'by the same worker');
	sql(q{UPDATE vast SET times = 1});
	ok(VecsyncNode::settle($node, 'vast'), 'short now');
	is(sql(q{SELECT (SELECT count(*) FROM vecsync.failed) || ' ' || count(*) FROM vecsync.verify('vast')}), '0 0', 'and all of them well');
	system_or_bail('prlimit', '--pid', $worker, '--as=unlimited');
}

$service->stop;
$node->stop;
done_testing();

# A vectorizer changes its model, content and chunks while it is written and searched: nothing is missing, and
# no answer mixes vectors of two models.  VECSYNC_LONG=1: 100,000 rows.

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use VecsyncNode;

my $long = $ENV{VECSYNC_LONG};
my %service = (dims => 8, key => '$model');
my ($node, $service) = VecsyncNode::start(dims => 8, scenario => {%service});

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub fails { return VecsyncNode::fails($node, @_) }

# Every row has the vector of its present text by that model.
sub all_of
{
	my ($model, $table, $text, $what, $dims) = @_;
	$dims ||= 8;
	my $ok = is(sql("SELECT count(*) FILTER (WHERE embedding IS NULL), count(*) FILTER (WHERE embedding <> expected_vector($text, $dims, '$model')) FROM $table"),
		'0|0', $what);
	VecsyncNode::report($node) unless $ok;
	return;
}

sub generation { return VecsyncNode::poll($node, "SELECT generation FROM vecsync.vectorizer WHERE name = '$_[0]' AND retired IS NULL", $_[1], 180) }

# The generation that was replaced is dropped, and nothing of it is left.
sub cleaned
{
	my ($table, $what) = @_;
	ok(VecsyncNode::poll($node, 'SELECT count(*) FROM vecsync.vectorizer WHERE retired IS NOT NULL', '0', 60), "$what: the old generation is dropped");
	is(sql("SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = '$table'::regclass AND NOT tgisinternal),
		(SELECT count(*) FROM pg_attribute WHERE attrelid = '$table'::regclass AND attname ~ 'vecsync' AND NOT attisdropped),
		(SELECT count(*) FROM pg_class WHERE relkind = 'v' AND relname ~ '^vecsync_.*content_$table'),
		(SELECT count(*) FROM vecsync.queue)"), '3|0|1|0', "$what: nothing of it is left");
	return;
}

for my $model (qw(one two three))
{
	sql("SELECT vecsync.create_model('$model', url => '" . $service->url . "', model => '$model', dimensions => 8)");
}
sql("SELECT vecsync.create_model('four', url => '" . $service->url . "', model => 'four', dimensions => 4, parameters => '{\"dimensions\": 4}')");
sql(q{CREATE TABLE docs (id int PRIMARY KEY, title text, body text, lang text DEFAULT 'en');
	INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 300) i;
	SELECT vecsync.create_vectorizer('docs', model => 'one', content => 'title', namespace => 'lang', text_config => 'english',
		index => '{"method": "hnsw", "m": 12}');
	CREATE ROLE reader; GRANT SELECT (id, embedding) ON docs TO reader});
VecsyncNode::settle($node, 'docs');
all_of('one', 'docs', 'title', 'the first generation');

# ---- what is refused -----------------------------------------------------------------
fails(q{SELECT vecsync.alter_vectorizer('nobody', '{"model": "two"}')}, qr/42704/, 'no such vectorizer');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "nobody"}')}, qr/42704.*model "nobody"/s, 'no such model');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"modell": "two"}')}, qr/22023.*invalid option "modell"/s, 'no such option');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{}')}, qr/22023.*no option/s, 'no option');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"chunking": {"method": "words"}}')}, qr/0A000/, 'chunks need a table');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "two"}', cutover => 'soon')}, qr/22023.*invalid cutover/s, 'bad cutover');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "two", "index": {"method": "ivfflat", "lists": 0}}')}, qr/22023.*value 0 out of bounds for option "lists"/s, 'an index that the access method would refuse later');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "two", "metric": "l1", "index": {"method": "ivfflat"}}')}, qr/42704.*vector_l1_ops/s, 'nor knows');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "two", "index": {"method": "ivfflat", "m": 5}}')}, qr/22023.*unrecognized parameter "m"/s, 'nor has such an option');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"content": "{nobody}"}')}, qr/42703/, 'unknown column');
fails(q{SELECT vecsync.cutover('docs')}, qr/55000.*not being changed/s, 'nothing to cut over to');
fails(q{SELECT vecsync.abandon('docs')}, qr/55000.*not being changed/s, 'nothing to abandon');
sql(q{CREATE VIEW near AS SELECT id, embedding FROM docs});
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "two"}')}, qr/2BP01.*view public.near/s, 'a view that would go on with the old vectors');
sql(q{DROP VIEW near; CREATE ROLE stranger});
fails(q{SET ROLE stranger; SELECT vecsync.alter_vectorizer('docs', '{"model": "two"}')}, qr/42501/, 'not the owner');
is(sql('SELECT count(*) FROM vecsync.vectorizer'), '1', 'nothing is left of what was refused');

# ---- by hand: beside the serving one, then in its place ----------------------------------
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "two"}', cutover => 'manual')});
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "three"}')}, qr/55006/, 'one change at a time');
sql(q{UPDATE docs SET title = title || ' new' WHERE id % 10 = 0; DELETE FROM docs WHERE id % 50 = 1; INSERT INTO docs VALUES (1001, 'inserted', 'x')});
VecsyncNode::settle($node, $_) for 'docs', 'generation 2 of docs';
is(sql(q{SELECT vectorizer, model, state, rows, embedded, pending, generation FROM vecsync.status ORDER BY generation}),
	"docs|one|in step|295|295|0|1\ngeneration 2 of docs|two|complete|295|295|0|2", 'status shows both');
all_of('one', 'docs', 'title', 'the serving generation is kept in step');
is(sql(q{SELECT key->>'id' || ' ' || (score > 0.99999) FROM vecsync.search('generation 2 of docs', 'title 20 new', top_k => 1)}), '20 true', 'the next generation can be tried');
my $before = VecsyncNode::session($node);
$before->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM docs');
fails(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT vecsync.cutover('docs')}, qr/55000.*present state/s, 'an old snapshot cannot judge');
fails(q{SELECT vecsync.cutover('docs')}, qr/55P03/, 'a table in use is not waited for long');
$before->query_safe('COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{SELECT vecsync.cutover('docs')});
all_of('two', 'docs', 'title', 'after the cut-over');
my $same = q{SELECT bool_and(abs(score - (1 - ("values" <=> expected_vector('q', 8, '%s')))) < 1e-5), count(*) FROM vecsync.search('docs', 'q', namespace => 'en', return_values => true)};
is($before->query_safe(sprintf $same, 'one'), 't|10', 'a transaction of before goes on with the vectors and the model of before');
is(sql(sprintf $same, 'two'), 't|10', 'others have the new ones');
is(sql(q{SELECT count(*) FROM vecsync.vectorizer WHERE retired IS NOT NULL}), '1', 'what it sees is kept');
$before->query_safe('COMMIT');
is($before->query_safe(sprintf $same, 'two'), 't|10', 'its next transaction has the new ones, too');
$before->quit;
cleaned('docs', 'by hand');
is(sql(q{SELECT count(*) FROM vecsync.search('docs', 'inserted', namespace => 'en', mode => 'hybrid', top_k => 1) WHERE key->>'id' = '1001' AND text_score > 0}), '1', 'hybrid search goes on');
is(sql(q{SET ROLE reader; SELECT count(embedding) FROM docs}), '295', 'grants on the column go on');
is(sql(q{SELECT string_agg(reloptions::text, ' ') FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = 'docs'::regclass AND m.amname = 'hnsw'}), '{m=12}', 'the index is made again as it was');
sql(q{INSERT INTO docs VALUES (1002, 'later', 'y'); UPDATE docs SET title = 'changed' WHERE id = 5});
VecsyncNode::settle($node, 'docs');
all_of('two', 'docs', 'title', 'changes after the cut-over');

# ---- given up -----------------------------------------------------------------------------
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "four", "content": "{title}. {body}", "index": {"method": "none"}}', cutover => 'manual')});
VecsyncNode::poll($node, q{SELECT embedded > 10 FROM vecsync.status WHERE vectorizer = 'generation 3 of docs'}, 't');
sql(q{SELECT vecsync.abandon('docs')});
cleaned('docs', 'abandoned');
all_of('two', 'docs', 'title', 'abandoned: the serving generation is as it was');
$service->scenario(%service, rules => [ { when => { text => 'title 7\b' }, status => 400, message => 'not this' } ]);
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "three"}')});
ok(VecsyncNode::poll($node, q{SELECT state FROM vecsync.status WHERE vectorizer = 'generation 3 of docs'}, 'held up by failed rows'), 'rows that fail hold the cut-over up');
fails(q{SELECT vecsync.cutover('docs')}, qr/55000.*failed.*resync/s, 'and say so');
$service->scenario(%service);
sql(q{SELECT vecsync.resync('generation 3 of docs', failed_only => true)});
ok(generation('docs', 3), 'it goes on when they are mended');
all_of('three', 'docs', 'title', 'and is complete');
cleaned('docs', 'mended');

# ---- other dimensions and content; the index that needs rows ---------------------------------
sql(q{ALTER TABLE docs RENAME COLUMN title TO heading});
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "four", "content": "{heading} | {body}", "metric": "l2", "index": {"method": "ivfflat", "lists": 4}}')});
ok(generation('docs', 4), 'another model, content, metric and index');
all_of('four', 'docs', q{heading || ' | ' || body}, 'with its own dimensions', 4);
cleaned('docs', 'content');
is(sql(q{SELECT metric || ' ' || (SELECT string_agg(m.amname || ' ' || o.opcname, ', ') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam JOIN pg_opclass o ON o.oid = i.indclass[0]
	WHERE i.indrelid = 'docs'::regclass AND m.amname IN ('hnsw', 'ivfflat')) FROM vecsync.vectorizer}), 'l2 ivfflat vector_l2_ops', 'metric and index are the new ones');
is(sql(q{SELECT count(*) FROM vecsync.search('docs', 'body', namespace => 'en', mode => 'hybrid', top_k => 3) WHERE text_score > 0}), '3', 'the text leg knows the new content');
$service->scenario(%service);
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"metric": "cosine", "index": {"method": "hnsw"}}')});
is(sql(q{SELECT metric || ' ' || generation || ' ' || (SELECT string_agg(m.amname || ' ' || o.opcname, ', ') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam JOIN pg_opclass o ON o.oid = i.indclass[0]
	WHERE i.indrelid = 'docs'::regclass AND m.amname IN ('hnsw', 'ivfflat')) FROM vecsync.vectorizer}), 'cosine 4 hnsw vector_cosine_ops', 'index and metric alone: at once');
VecsyncNode::settle($node, 'docs');
is($service->stats->{requests}, 0, 'and without a request');

# ---- chunks -------------------------------------------------------------------------------------
sql(q{CREATE TABLE papers (id int PRIMARY KEY, body text);
	INSERT INTO papers SELECT i, string_agg('word' || j, ' ') FROM generate_series(1, 50) i, generate_series(1, i) j GROUP BY i;
	SELECT vecsync.create_vectorizer('papers', model => 'one', content => 'body', chunking => '{"method": "words", "size": 10}');
	GRANT SELECT ON papers_chunks TO reader; GRANT SELECT ON papers TO reader});
VecsyncNode::settle($node, 'papers');
sql(q{SELECT vecsync.alter_vectorizer('papers', '{"model": "four", "chunking": {"method": "words", "size": 7}}')});
sql(q{DELETE FROM papers WHERE id % 5 = 0; UPDATE papers SET body = 'short' WHERE id = 49});
ok(generation('papers', 2), 'chunks: the next generation serves');
VecsyncNode::settle($node, 'papers');
is(sql(q{SELECT count(*), count(DISTINCT id), bool_and(embedding = expected_vector(chunk, 4, 'four')) FROM papers_chunks}),
	sql(q{SELECT count(*), count(DISTINCT id), true FROM papers, LATERAL vecsync.chunk(body, 'words', 7)}), 'chunks: cut anew, under the old name');
is(sql(q{SET ROLE reader; SELECT count(*) > 0 FROM papers_chunks}), 't', 'chunks: grants on the view go on');
ok(VecsyncNode::poll($node, q{SELECT (SELECT count(*) FROM pg_class WHERE relname ~ '^(vecsync_\d+_chunks_papers|.*papers_chunks)$'), (SELECT count(*) FROM vecsync.vectorizer WHERE retired IS NOT NULL)}, '2|0'), 'chunks: the old ones are dropped');
sql(q{SELECT vecsync.alter_vectorizer('papers', '{"model": "one"}', cutover => 'manual'); DROP TABLE papers CASCADE});
is(sql(q{SELECT (SELECT count(*) FROM vecsync.vectorizer WHERE name ~ 'papers'), (SELECT count(*) FROM pg_class WHERE relname ~ 'papers')}), '0|0', 'DROP TABLE in the middle of a change');

# ---- crash at the worst moments -----------------------------------------------------------------
$service->scenario(%service, rules => [ { when => { request => [ 2, 1_000_000 ] }, hang => JSON::PP::true } ]);
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "one", "content": "heading"}')});
VecsyncNode::poll($node, q{SELECT embedded > 10 FROM vecsync.status WHERE vectorizer = 'generation 5 of docs'}, 't');
$node->stop('immediate');
$service->scenario(%service);
$node->start;
ok(generation('docs', 5), 'a change goes on after a crash');
VecsyncNode::settle($node, 'docs');
all_of('one', 'docs', 'heading', 'and is complete');
cleaned('docs', 'crash');

# ---- under load: changes while the table is written and searched -----------------------------
my $rows = $long ? 100_000 : 1_200;
my $base = $node->basedir;
sql(qq{CREATE TABLE busy (id int PRIMARY KEY, title text);
	INSERT INTO busy SELECT i, 'title ' || i FROM generate_series(1, $rows) i;
	SELECT vecsync.create_vectorizer('busy', model => 'one', content => 'title')});
VecsyncNode::settle($node, 'busy', 600);
append_to_file("$base/write.sql", "\\set id random($rows / 2, $rows * 2)\n\\set r random(1, 1000000)\n" .
	"INSERT INTO busy VALUES (:id, 'title ' || :r::text) ON CONFLICT (id) DO UPDATE SET title = excluded.title;\n" .
	($long ? "\\sleep 100 ms\n" : "\\sleep 50 ms\n"));
# Each vector of an answer, and the question's, are of one model; a full answer each time.  The pauses leave the worker
# its share of a slow machine: what is written faster than it is embedded is never complete.
append_to_file("$base/search.sql", <<'SQL');
\sleep 20 ms
SELECT 1 / (count(*) = 10 AND (bool_and(one) OR bool_and(two) OR bool_and(three)))::int
FROM (SELECT abs(score - (1 - ("values" <=> expected_vector('q', 8, 'one')))) < 1e-5 AS one,
	abs(score - (1 - ("values" <=> expected_vector('q', 8, 'two')))) < 1e-5 AS two,
	abs(score - (1 - ("values" <=> expected_vector('q', 8, 'three')))) < 1e-5 AS three
	FROM vecsync.search('busy', 'q', return_values => true)) s;
SQL
# A query of one's own: the rows below are not written, so their vectors tell their model.
append_to_file("$base/plain.sql", <<'SQL');
\sleep 20 ms
SELECT 1 / (count(*) = 5 AND (bool_and(one) OR bool_and(two) OR bool_and(three)))::int
FROM (SELECT embedding = expected_vector(title, 8, 'one') AND q = expected_vector('q', 8, 'one') AS one,
	embedding = expected_vector(title, 8, 'two') AND q = expected_vector('q', 8, 'two') AS two,
	embedding = expected_vector(title, 8, 'three') AND q = expected_vector('q', 8, 'three') AS three
	FROM (SELECT title, embedding, vecsync.embed_for('busy', 'q') AS q FROM busy WHERE id < 500
		ORDER BY embedding <=> vecsync.embed_for('busy', 'q') LIMIT 5) n) s;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM vecsync.vectorizer;
\sleep 30 ms
SELECT 1 / (count(*) = 10 AND (bool_and(one) OR bool_and(two) OR bool_and(three)))::int
FROM (SELECT abs(score - (1 - ("values" <=> expected_vector('q', 8, 'one')))) < 1e-5 AS one,
	abs(score - (1 - ("values" <=> expected_vector('q', 8, 'two')))) < 1e-5 AS two,
	abs(score - (1 - ("values" <=> expected_vector('q', 8, 'three')))) < 1e-5 AS three
	FROM vecsync.search('busy', 'q', return_values => true)) s;
COMMIT;
SQL
my ($out, $errors) = ('', '');
my $load = IPC::Run::start([ 'pgbench', '-n', '-M', 'prepared', '-c', '4', '-j', '1', '-T', $long ? '20000' : '3000', '--max-tries=1',
	'-f', "$base/write.sql\@5", '-f', "$base/search.sql\@1", '-f', "$base/plain.sql\@1", '-h', $node->host, '-p', $node->port, 'postgres' ],
	'<', \undef, '>', \$out, '2>', \$errors);
my $generation = 1;
for my $model ($long ? qw(two three one) : qw(two one))
{
	sql("SELECT vecsync.alter_vectorizer('busy', '{\"model\": \"$model\"}')");
	ok(VecsyncNode::poll($node, "SELECT generation FROM vecsync.vectorizer WHERE name = 'busy'", ++$generation, $long ? 1800 : 600), "under load: generation $generation serves");
	is(sql(q{SELECT count(*) FROM busy WHERE id < 500 AND embedding IS NULL}), '0', 'with all that was there');
	sleep 0.5;
}
$load->pump_nb;
my $running = $load->pumpable;
$load->signal('TERM');
eval { $load->finish };
ok($running, 'under load: the load ran to the end');
unlike($errors, qr/ERROR|abort|fatal/i, 'under load: no statement failed, no answer was mixed or short') or diag($errors);
VecsyncNode::settle($node, 'busy', 600);
all_of('one', 'busy', 'title', 'under load: every row has the vector of its text by the last model');
cleaned('busy', 'under load');

$node->stop;
done_testing();

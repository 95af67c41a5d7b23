# verify finds what is wrong and mends it; resync by condition, and only what has changed; vectors that were there before.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub fails { return VecsyncNode::fails($node, @_) }

# Behind the triggers' back.
sub behind { return sql("SET session_replication_role = replica; $_[0]") }
sub found { return sql("SELECT coalesce(string_agg(problem || ' ' || (key->>'id'), ', ' ORDER BY (key->>'id')::int), '-') FROM vecsync.verify('$_[0]')") }

# Requests since the last call, when all is worked off.
sub inputs
{
	VecsyncNode::settle($node, $_[0]);
	my $n = $service->stats->{inputs};
	$service->scenario(dims => 8);
	return $n;
}

# ---- a column ------------------------------------------------------------------------
sql(q{CREATE TABLE t (id bigint PRIMARY KEY, body text, day date DEFAULT '2026-01-02', seen int DEFAULT 0);
	INSERT INTO t (id, body) SELECT i, 'row ' || i FROM generate_series(1, 600) i});
VecsyncNode::vectorizer($node, $service, 't', 'body', q{destination => 'column:v', index => '{"method": "none"}'});
is(inputs('t'), 600, 'every row is sent once');
sql('ALTER TABLE t ALTER COLUMN v TYPE vector');
is(inputs('t'), 0, 'a type that changes no text sends nothing');
is(found('t'), '-', 'nothing is wrong');
behind(q{UPDATE t SET v = NULL WHERE id = 3; UPDATE t SET body = 'another' WHERE id = 4; UPDATE t SET body = '' WHERE id = 5;
	UPDATE t SET v = '[1,2]' WHERE id = 6; INSERT INTO t VALUES (1000, 'unseen'); UPDATE t SET seen = 1 WHERE id = 7; DELETE FROM t WHERE id = 8});
$service->scenario(dims => 8, rules => [ { when => { text => 'poison' }, status => 400, message => 'not this' } ]);
sql(q{INSERT INTO t VALUES (1001, 'poison')});
VecsyncNode::settle($node, 't');
is(found('t'), 'missing 3, stale 4, orphan 5, dimensions 6, missing 1000, failed 1001', 'each problem is found');
is(found('t'), 'missing 3, stale 4, orphan 5, dimensions 6, missing 1000, failed 1001', 'looking changes nothing');
sql(q{SELECT vecsync.pause('t'); UPDATE t SET body = 'another one' WHERE id = 4});
is(found('t'), 'missing 3, orphan 5, dimensions 6, missing 1000, failed 1001', 'but for what is pending');
sql(q{SELECT vecsync.resume('t')});
VecsyncNode::settle($node, 't');
$service->scenario(dims => 8);
is(sql(q{SELECT count(*) FROM vecsync.verify('t', repair => true)}), '5', 'repair tells what it found');
is(inputs('t'), 4, 'repair sends the rows that need it');
is(found('t'), '-', 'and mends them');
VecsyncNode::in_step($node, 't', 'body', 'every vector is that of its text', column => 'v');

# ---- resync --------------------------------------------------------------------------------
is(sql(q{SELECT vecsync.resync('t')}), '601', 'resync of all');
is(inputs('t'), 0, 'sends no text that its vector was made from');
behind(q{UPDATE t SET body = 'changed ' || id WHERE id IN (10, 11)});
is(sql(q{SELECT vecsync.resync('t', condition => $$id = 10 OR body = 'row 20' -- or so$$)}), '2', 'resync by condition');
is(inputs('t'), 1, 'sends what has changed');
is(found('t'), 'stale 11', 'and leaves the others');
is(sql(q{SELECT vecsync.resync('t', 'id < 5', force => true)}), '4', 'force, by condition');
is(inputs('t'), 4, 'sends them all');
is(sql(q{SELECT vecsync.resync('t', force => true)}), '601', 'force');
is(inputs('t'), 600, 'sends all that have a text');
is(found('t'), '-', 'nothing is wrong then');
sql(q{BEGIN; UPDATE t SET body = 'there' WHERE id = 12; COMMIT; UPDATE t SET body = 'row 12' WHERE id = 12});
VecsyncNode::settle($node, 't');
fails(q{SELECT vecsync.resync('t', 'nothing = 1')}, qr/42703/, 'unknown column');
fails(q{SELECT vecsync.resync('t', 'true) UNION SELECT (NULL')}, qr/ERROR/, 'a condition is one expression');
fails(q{SELECT vecsync.resync('t', 'true', failed_only => true)}, qr/22023/, 'failed_only takes no condition');
fails(q{SELECT vecsync.resync('nobody')}, qr/42704/, 'no such vectorizer');
sql(q{CREATE ROLE stranger});
for my $call (q{vecsync.resync('t', 'true')}, q{vecsync.resync('t', force => true)}, q{vecsync.verify('t', repair => true)}, q{vecsync._digests(1)}, q{vecsync._enqueue(1, '{1}', 1, true)}, q{vecsync._queue_rows('t', false, true)},
	q{vecsync._queued_keys(1)}, q{vecsync._failed_keys(1)}, q{vecsync._note_digests(1, '{}', '{}')})
{
	fails("GRANT SELECT ON t TO stranger; SET ROLE stranger; SELECT $call", qr/42501/, "$call: only the owner");
}
# A digest speaks of the key's row, whose place another row may take, with a vector of its own.
sql(q{BEGIN; DELETE FROM t WHERE id = 30; UPDATE t SET id = 30, body = 'row 30' WHERE id = 31; COMMIT});
sql(q{BEGIN; DELETE FROM t WHERE id = 32; SAVEPOINT s; INSERT INTO t (id, body, v) SELECT 32, 'row 32', v FROM t WHERE id = 33; RELEASE s; COMMIT});
VecsyncNode::settle($node, 't');
VecsyncNode::in_step($node, 't', 'body', 'a row in the place of another', column => 'v');
# force that is not committed does not hold the worker up
my $session = VecsyncNode::session($node);
$session->query_safe(q{BEGIN; SELECT vecsync.resync('t', 'true', force => true)});
sql(q{UPDATE t SET body = 'meanwhile ' || id WHERE id BETWEEN 40 AND 60});
VecsyncNode::settle($node, 't');
is(found('t'), '-', 'force under way holds nothing up');
$session->query_safe('ROLLBACK');
$session->quit;
# nor does force for all rows, which touches none of them itself
$session = VecsyncNode::session($node);
inputs('t');
$session->query_safe(q{BEGIN; SELECT vecsync.resync('t', force => true)});
is(sql(q{SELECT count(*) FROM vecsync.digest}), '600', 'force for all takes no digest away');
$session->query_safe('COMMIT');
$session->quit;
is(inputs('t'), 599, 'and sends all that have a text');
sql(q{TRUNCATE t});
VecsyncNode::settle($node, 't');
ok(VecsyncNode::poll($node, 'SELECT count(*) FROM vecsync.digest', '0'), 'TRUNCATE leaves no digests');

# ---- while rows have yet to be reached -------------------------------------------------------------
sql(q{CREATE TABLE far (id int PRIMARY KEY, body text); INSERT INTO far SELECT i, 'far ' || i FROM generate_series(1, 3000) i});
$service->scenario(dims => 8, rules => [ { when => { text => 'far 2000\b' }, hang => JSON::PP::true } ]);
sql(q{BEGIN; SELECT vecsync.create_vectorizer('far', model => 'm', content => 'body', index => NULL); SELECT vecsync.pause('far'); COMMIT});
is(found('far'), '-', 'a backfill that has not begun: its rows are pending');
sql(q{SELECT vecsync.resume('far')});
ok(VecsyncNode::poll($node, q{SELECT q.keys FROM vecsync.queue q JOIN vecsync.vectorizer v ON v.id = q.vectorizer WHERE v.name = 'far'}, '{1536}', 120), 'a backfill half way');
behind(q{UPDATE far SET embedding = NULL WHERE id IN (5, 2900)});
my (undef, $told, $notice) = $node->psql('postgres', q{SELECT problem, key FROM vecsync.verify('far', repair => true)});
is($told, 'missing|{"id": 5}', 'rows that it has not reached are not missing');
like($notice, qr/NOTICE:  vectorizer "far" is looking at all rows/, 'and verify tells');
$service->scenario(dims => 8);
$service->release;
VecsyncNode::settle($node, 'far');
sql(q{SELECT vecsync.verify('far', repair => true)});
VecsyncNode::settle($node, 'far');
is(found('far') . sql(q{SELECT count(*) FROM far WHERE embedding IS DISTINCT FROM expected_vector(body, 8)}), '-0', 'the others are found when it is through');
sql(q{DROP TABLE far CASCADE});

# ---- partitions that come with rows --------------------------------------------------------------
sql(q{CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (100);
	INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, 20) i});
VecsyncNode::vectorizer($node, $service, 'parts', 'body', q{destination => 'column:v', index => '{"method": "none"}'});
VecsyncNode::settle($node, 'parts');
sql(q{BEGIN; ALTER TABLE parts DETACH PARTITION parts_1; UPDATE parts_1 SET v = (SELECT v FROM parts_1 WHERE id = 1) WHERE id > 15;
	ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (1) TO (100); COMMIT});
VecsyncNode::settle($node, 'parts');
VecsyncNode::in_step($node, 'parts', 'body', 'vectors that an attached partition brings are not trusted', column => 'v');

# ---- chunks; a key of several columns and types --------------------------------------------------
sql(q{CREATE TABLE d (id int, at timestamptz DEFAULT '2026-03-04 05:06:07+00', body text, PRIMARY KEY (at, id));
	INSERT INTO d (id, body) SELECT i, repeat('word' || i || ' ', i) FROM generate_series(1, 40) i});
VecsyncNode::vectorizer($node, $service, 'd', 'body', q{chunking => '{"method": "words", "size": 10}'});
VecsyncNode::settle($node, 'd');
my $chunks = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'd'});
is(found('d'), '-', 'chunks: nothing is wrong');
behind(qq{DELETE FROM d WHERE id = 30; DELETE FROM $chunks WHERE k2 = 31 AND chunk_seq = 1; DELETE FROM $chunks WHERE k2 = 32;
	UPDATE d SET body = 'shorter' WHERE id = 33; UPDATE d SET body = NULL WHERE id = 34});
is(sql(q{SET datestyle = 'German'; SET timezone = 'Asia/Tokyo'; SELECT string_agg(problem || ' ' || (key->>'id'), ', ' ORDER BY key->>'id') FROM vecsync.verify('d', repair => true)}),
	'orphan 30, stale 31, missing 32, stale 33, orphan 34', 'chunks: each problem is found, whatever the session\'s settings');
VecsyncNode::settle($node, 'd');
is(found('d'), '-', 'chunks: mended');
is(sql(qq{SELECT (SELECT count(*) FROM $chunks WHERE embedding = expected_vector(chunk, 8)) = (SELECT count(*) FROM d, LATERAL vecsync.chunk(body, 'words', 10)), (SELECT count(*) FROM $chunks WHERE k2 = 30)}), 't|0', 'chunks: those of the texts');
$service->scenario(dims => 8);
sql(q{SELECT vecsync.resync('d')});
is(inputs('d'), 0, 'chunks: resync sends nothing');

# ---- keys whose output is not their cast to text ----------------------------------------------------
sql(q{CREATE TABLE odd (flag boolean, code char(4), host inet, at timestamptz, body text, PRIMARY KEY (flag, code, host, at));
	INSERT INTO odd SELECT i % 2 = 0, 'c' || i, '10.0.0.1', CASE i WHEN 3 THEN timestamptz '0044-03-15 12:00:00+00 BC' ELSE '2026-01-02 03:04:05+09' END, 'odd ' || i
	FROM generate_series(1, 10) i});
VecsyncNode::vectorizer($node, $service, 'odd', 'body', q{destination => 'column:v', index => '{"method": "none"}'});
is(inputs('odd'), 10, 'odd keys: backfill');
sql(q{UPDATE odd SET body = body || '.'});
is(inputs('odd'), 10, 'odd keys: a change');
is(sql(q{SELECT count(*) || ' ' || (SELECT count(*) FROM vecsync.verify('odd')) FROM vecsync.digest d JOIN vecsync.vectorizer z ON z.id = d.vectorizer WHERE z.name = 'odd'}),
	'10 0', 'odd keys: one digest a row');
behind(q{UPDATE odd SET body = 'stale' WHERE code = 'c3'});
is(sql(q{SELECT string_agg(problem || ' ' || (key->>'code'), ',') FROM vecsync.verify('odd', repair => true)}), 'stale c3  ', 'odd keys: found');
is(inputs('odd'), 1, 'odd keys: mended');
sql(q{SELECT vecsync.resync('odd'), vecsync.resync('odd', 'true')});
is(inputs('odd'), 0, 'odd keys: nothing is sent again');
fails(q{SELECT * FROM vecsync._rows_as_owner(1, 'SELECT 1') AS f(a text)}, qr/42804|42704/, 'columns are checked');

# ---- what is blank ----------------------------------------------------------------------------------
sql(q{CREATE TABLE spaces (id int PRIMARY KEY, body text); INSERT INTO spaces VALUES (1, U&'\3000'), (2, E' \t\n')});
VecsyncNode::vectorizer($node, $service, 'spaces', 'body');
is(inputs('spaces'), 1, 'a blank of another script is a text');
is(found('spaces'), '-', 'to the worker and to verify');

# ---- vectors that were there before -----------------------------------------------------------------
sql(q{CREATE TABLE old (id int PRIMARY KEY, body text, embedding vector(8));
	INSERT INTO old SELECT i, 'old ' || i, CASE WHEN i % 10 > 0 THEN expected_vector('old ' || i, 8) END FROM generate_series(1, 2000) i;
	SELECT vecsync.create_vectorizer('old', model => 'm', content => 'body', keep_existing => true)});
is(inputs('old'), 200, 'import: only rows without a vector are sent');
is(found('old'), '-', 'import: nothing is wrong');
behind(q{UPDATE old SET body = 'new' WHERE id = 1});
is(found('old'), 'stale 1', 'import: what changes later is seen');
fails(q{SELECT vecsync.create_vectorizer('old', model => 'm', content => 'body', name => 'o', chunking => '{"method": "words"}', keep_existing => true)}, qr/22023.*chunk_table/s, 'import of chunks goes another way');
sql(q{CREATE TABLE papers (id int PRIMARY KEY, body text); INSERT INTO papers SELECT i, repeat('w' || i || ' ', 30) FROM generate_series(1, 20) i;
	SELECT vecsync.create_vectorizer('papers', model => 'm', content => 'body', chunking => '{"method": "words", "size": 10}', enqueue_existing => false)});
$chunks = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'papers'});
sql(qq{INSERT INTO $chunks SELECT p.id, c.seq, c.chunk, expected_vector(c.chunk, 8) FROM papers p, LATERAL vecsync.chunk(p.body, 'words', 10) c WHERE p.id <> 7});
is(sql(q{SELECT string_agg(problem || ' ' || (key->>'id'), ', ') FROM vecsync.verify('papers', repair => true)}), 'missing 7', 'import of chunks: verify embeds the rest');
is(inputs('papers'), 3, 'and only that');
my $number = 0;
for my $chunking ('{}', '{"size": 7}', '{"size": 0}', '{"size": 7.4, "overlap": 2.2}', '{"method": "none"}', '{"method": "recursive", "size": 20}')
{
	$number++;
	sql(qq{SELECT vecsync.create_vectorizer('papers', model => 'm', content => 'body', name => 'pieces$number', chunking => '$chunking', index => '{"method": "none"}')});
	ok(VecsyncNode::settle($node, "pieces$number"), "chunks by $chunking");
	is(found("pieces$number"), '-', 'are what verify expects');
}

# ---- a dump takes what is known along ---------------------------------------------------------------
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
my (undef, $out, $err) = $node->psql('copy', "\\i $dump");
is($err, '', 'restore');
$service->scenario(dims => 8);
is($node->safe_psql('copy', q{SELECT string_agg(problem || (key->>'id'), ',') FROM vecsync.verify('old')}), 'stale1', 'restored: verify knows what it knew');
$node->safe_psql('copy', q{SELECT vecsync.resync('papers'), vecsync.resync('d')});
$node->safe_psql('copy', q{SELECT vecsync.wait('papers', '60s'), vecsync.wait('d', '60s')});
is($node->safe_psql('copy', q{SELECT count(*) FROM vecsync.verify('d')}), '0', 'restored: and is in step');

$node->stop;
done_testing();

# Commands on followed tables: new types, names, schemas, columns; partitions that come, go, are truncated; inheritance.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub step { return VecsyncNode::settle($node, $_[0]) }

sub fails
{
	my ($sql, $state, $message, $what) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return like($err, qr/ERROR:  $state: .*$message/s, $what || $message);
}

# The chunks are those of the rows' present texts and of no other row.
sub chunks_in_step
{
	my ($chunks, $table, $key, $text, $what) = @_;
	return is(sql(qq{WITH wanted AS (SELECT $key AS key, c.seq, c.chunk FROM $table s, LATERAL vecsync.chunk($text, 'words', 3) c)
		SELECT count(*) FILTER (WHERE c.k1 IS NULL) || ' missing, ' || count(*) FILTER (WHERE w.key IS NULL) || ' orphans, '
			|| count(*) FILTER (WHERE c.embedding <> expected_vector(w.chunk, 8)) || ' wrong'
		FROM wanted w FULL JOIN $chunks c ON c.k1 = w.key AND c.chunk_seq = w.seq AND c.chunk = w.chunk}),
		'0 missing, 0 orphans, 0 wrong', $what);
}

# ---- names that change hands ------------------------------------------------------------
# A new version of a schema takes the place of the old one: a table with another's name is not that one.
{
	sql(q{CREATE SCHEMA live; CREATE SCHEMA staging; CREATE TABLE live.docs (id int PRIMARY KEY, body text); CREATE TABLE staging.docs (id int PRIMARY KEY, body text);
		INSERT INTO live.docs SELECT i, 'live ' || i FROM generate_series(1, 3) i; INSERT INTO staging.docs SELECT i, 'staging ' || i FROM generate_series(1, 3) i});
	VecsyncNode::vectorizer($node, $service, "$_.docs", 'body', "name => '$_'") for qw(live staging);
	ok(step('live') && step('staging'), 'two schemas');
	my $session = VecsyncNode::session($node);
	my $found = q{SELECT v || ' ' || s.score FROM unnest('{live,staging}'::text[]) v, vecsync.search(v, v || ' 2', top_k => 1) s};
	is($session->query_safe($found), "live 1\nstaging 1", 'each found in its table');
	sql(q{BEGIN; ALTER SCHEMA live RENAME TO before; ALTER SCHEMA staging RENAME TO live; COMMIT});
	is($session->query_safe($found), "live 1\nstaging 1", 'and after the schemas took each other\'s names');
	$session->quit;
	sql(q{UPDATE before.docs SET body = body || ' changed' WHERE id < 3; UPDATE live.docs SET body = body || ' changed' WHERE id > 1});
	ok(step('live') && step('staging'), 'changes after that');
	is(sql(q{SELECT count(*), bool_and(embedding = expected_vector(body, 8)) FROM (TABLE before.docs UNION ALL TABLE live.docs) d}), '6|t', 'each vector is that of its own row');
	sql(q{SELECT vecsync.drop_vectorizer(v) FROM unnest('{live,staging}'::text[]) v; DROP SCHEMA before CASCADE; DROP SCHEMA live CASCADE});
}

# Just before the worker locks the table that it is about to read.
{
	sql(q{CREATE TABLE signs (id int PRIMARY KEY, body text); CREATE TABLE signs_next (id int PRIMARY KEY, body text);
		INSERT INTO signs SELECT i, 'sign ' || i FROM generate_series(1, 3) i; INSERT INTO signs_next SELECT i, 'next ' || i FROM generate_series(11, 13) i});
	VecsyncNode::vectorizer($node, $service, 'signs', 'body');
	ok(step('signs'), 'a table');
	my $holder = VecsyncNode::session($node);
	$holder->query_safe(q{SELECT pg_advisory_lock(x'76656373'::int, hashtext('worker_locks'))});
	sql(q{UPDATE signs SET embedding = NULL; SELECT vecsync.resync('signs')});
	ok(VecsyncNode::poll($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '1', 30), 'the worker is about to read it');
	sql(q{BEGIN; ALTER TABLE signs RENAME TO signs_before; ALTER TABLE signs_next RENAME TO signs; COMMIT});
	$holder->query_safe('SELECT pg_advisory_unlock_all()');
	$holder->quit;
	ok(step('signs'), 'another table has its name');
	VecsyncNode::in_step($node, 'signs_before', 'body', 'the followed one is read');
}

# ---- a partition that is written anew --------------------------------------------------
# Just before the worker reads the keys of all rows, by a transaction that had begun before.
{
	sql(q{CREATE TABLE years (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
		CREATE TABLE years_1 PARTITION OF years FOR VALUES FROM (0) TO (100); CREATE TABLE years_2 PARTITION OF years FOR VALUES FROM (100) TO (200);
		INSERT INTO years SELECT i, 'year ' || i FROM generate_series(50, 149) i});
	my $holder = VecsyncNode::session($node);
	$holder->query_safe(q{SELECT pg_advisory_lock(x'76656373'::int, hashtext('worker_locks'))});
	VecsyncNode::vectorizer($node, $service, 'years', 'body');
	ok(VecsyncNode::poll($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '1'), 'the worker is about to read partitions');
	sql(q{ALTER TABLE years_2 SET UNLOGGED});
	$holder->query_safe('SELECT pg_advisory_unlock_all()');
	$holder->quit;
	ok(step('years'), 'one of them has other files');
	VecsyncNode::in_step($node, 'years', 'body', 'its rows are not overlooked');
	is(sql('SELECT count(embedding) FROM years'), '100', 'none of them');
}

# ---- names that our SQL is written with -------------------------------------------------------
# Commands that lock nothing of the table.  The rows after each are read by plans that were made before it.
{
	sql(q{CREATE SCHEMA kinds; CREATE SCHEMA house; CREATE TYPE kinds.mood AS ENUM ('glad', 'sad'); CREATE DOMAIN kinds.number AS int;
		CREATE TABLE house.feelings (mood kinds.mood, n kinds.number, body text, PRIMARY KEY (mood, n)); INSERT INTO house.feelings SELECT 'sad', i, 'word word ' || i FROM generate_series(1, 3) i});
	VecsyncNode::vectorizer($node, $service, 'house.feelings', 'body', q{name => 'feelings'});
	VecsyncNode::vectorizer($node, $service, 'house.feelings', 'body', q{name => 'pieces', chunking => '{"method": "words", "size": 3}'});
	my ($view, $table) = split /\|/, sql(q{SELECT content_view, chunk_table FROM vecsync.vectorizer WHERE name = 'pieces'});
	s/^house\.// for $view, $table;
	my $searcher = VecsyncNode::session($node);
	my $n = 0;
	for my $case ([ 'no command', 'SELECT' ], [ 'ALTER TYPE RENAME', 'ALTER TYPE kinds.mood RENAME TO humour' ], [ 'ALTER DOMAIN RENAME', 'ALTER DOMAIN kinds.number RENAME TO counter' ],
		[ 'ALTER TYPE SET SCHEMA', 'ALTER TYPE kinds.humour SET SCHEMA public' ], [ 'ALTER SCHEMA RENAME of a type', 'ALTER SCHEMA kinds RENAME TO sorts' ],
		[ 'ALTER SCHEMA RENAME of the table', 'ALTER SCHEMA house RENAME TO home' ], [ 'the view of the content', "ALTER VIEW home.$view SET SCHEMA sorts" ],
		[ 'the table of the chunks', "ALTER TABLE home.$table SET SCHEMA sorts; ALTER TABLE sorts.$table RENAME TO bits" ])
	{
		$n++;
		my $house = sql(q{SELECT relnamespace::regnamespace FROM pg_class WHERE relname = 'feelings'});
		# one round first, so that every plan has been made
		sql("UPDATE $house.feelings SET body = body || ' before'; DELETE FROM $house.feelings WHERE n = 3; INSERT INTO $house.feelings VALUES ('sad', 3, 'new before $n')");
		step('feelings') && step('pieces') or die;
		is($searcher->query_safe(q{SELECT count(*) FROM vecsync.search('feelings', 'word') a, vecsync.search('pieces', 'word') b}), '9', "$case->[0]: searched before");
		# in one transaction, so that the worker comes after both
		my $after = $n < 6 ? $house : 'home';
		sql("BEGIN; $case->[1]; UPDATE $after.feelings SET body = 'after $n ' || n WHERE n < 3; DELETE FROM $after.feelings WHERE n = 3; INSERT INTO $after.feelings VALUES ('sad', 3, 'new after $n'); COMMIT");
		ok(step('feelings') && step('pieces'), "$case->[0]: settled");
		is(sql('SELECT count(*) FROM vecsync.failed'), '0', 'no change has failed');
		VecsyncNode::in_step($node, "$after.feelings", 'body', 'changes are followed');
		is(sql(q{SELECT string_agg(chunk, ', ' ORDER BY chunk) FROM } . ($n < 8 ? "$after.$table" : 'sorts.bits')), "after $n 1, after $n 2, new after $n", 'in chunks, too');
		is($searcher->query_safe(q{SELECT count(*) FROM vecsync.search('feelings', 'word') a, vecsync.search('pieces', 'word') b}), '9', 'and searched in the same session');
	}
	$searcher->quit;
	sql('DROP TABLE home.feelings CASCADE; DROP SCHEMA sorts, home CASCADE; DROP TYPE humour');
}

# ---- new types ----------------------------------------------------------------------
sql(q{CREATE TABLE t (id int PRIMARY KEY, ns text DEFAULT 'x', body text, price numeric(8, 1), note text);
	INSERT INTO t SELECT i, 'x', 'words of text number ' || i, i + 0.5, 'note' FROM generate_series(1, 200) i});
VecsyncNode::vectorizer($node, $service, 't', '{body} {price}', q{namespace => 'ns', text_config => 'english'});
VecsyncNode::vectorizer($node, $service, 't', 'body', q{name => 'pieces', chunking => '{"method": "words", "size": 3}'});
ok(step('t') && step('pieces'), 'two vectorizers');
my ($chunks) = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'pieces'});
$service->scenario(dims => 8);
sql(q{CREATE ROLE reader; GRANT SELECT ON pieces_chunks TO reader; ALTER TABLE t ALTER body TYPE varchar(300)});
ok(step('t') && step('pieces'), 'text becomes varchar');
is($service->stats->{requests}, 0, 'which changes no text and asks nothing');
is(sql(q{SELECT has_table_privilege('reader', 'pieces_chunks', 'SELECT')}), 't', 'rights on the view of chunks stay');
for my $view (split /\n/, sql(q{SELECT format('%s RESET (%s)', c.oid::regclass, string_agg(o.option_name, ', ')) FROM vecsync.vectorizer v JOIN pg_class c ON c.oid = v.content_view, pg_options_to_table(c.reloptions) o GROUP BY c.oid}))
{
	sql("ALTER VIEW $view");
}
sql(q{ALTER TABLE t ALTER body TYPE varchar(310)});
ok(step('t') && step('pieces'), 'views without options are made again, too');
sql(q{ALTER TABLE t ALTER id TYPE bigint, ALTER price TYPE numeric(8, 3)});
is(sql("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '$chunks'::regclass AND attname = 'k1'"), 'bigint', 'the keys of the chunks follow');
ok(step('t') && step('pieces'), 'a type that prints otherwise');
VecsyncNode::in_step($node, 't', q{body || ' ' || price}, 'embeds the new texts');
sql(q{UPDATE t SET body = 'changed ' || id WHERE id % 2 = 0; INSERT INTO t VALUES (3000000000, 'x', 'beyond four bytes', 1); DELETE FROM t WHERE id < 20});
ok(step('t') && step('pieces'), 'changes after the new types');
VecsyncNode::in_step($node, 't', q{body || ' ' || price}, 'are followed');
chunks_in_step($chunks, 't', 'id', 'body', 'in chunks, too');
is(sql(q{SELECT count(*) FROM vecsync.search('t', 'beyond', namespace => 'x', mode => 'text')}), '1', 'and by text search');
is(sql(q{SELECT count(*) > 0 FROM vecsync.search('pieces', 'beyond four bytes')}), 't', 'and by search in chunks');
sql(q{ALTER TABLE t ALTER note TYPE varchar(10)});
sql(q{BEGIN; ALTER TABLE t ALTER body TYPE text; ROLLBACK});
sql(q{ALTER TABLE t ALTER id TYPE text});
sql(q{INSERT INTO t VALUES ('a key', 'x', 'of letters', 2)});
ok(step('t') && step('pieces'), 'a key becomes text');
VecsyncNode::in_step($node, 't', q{body || ' ' || price}, 'and goes on');
chunks_in_step($chunks, 't', 'id', 'body', 'in chunks, too');
fails(q{ALTER TABLE t ALTER embedding TYPE real[]}, '42804', 'real\[\]', 'the column of vectors keeps its type');
fails(q{ALTER TABLE t ALTER embedding TYPE vector(9) USING NULL}, '42804', 'has type .*vector\(9\)', 'and its dimensions');
sql(q{CREATE VIEW of_mine AS SELECT * FROM pieces_chunks});
fails(q{ALTER TABLE t ALTER body TYPE text}, '2BP01', 'of_mine', 'a view of the user stands in the way as ever');
sql(q{DROP VIEW of_mine});
is(sql(q{SELECT count(*) FROM vecsync.suspended}), '0', 'nothing is left of what was refused');
sql(q{CREATE ROLE other LOGIN});
fails(q{SET ROLE other; ALTER TABLE t ALTER body TYPE text}, '42501', 'must be owner', 'others change nothing');
sql(q{UPDATE t SET body = 'still followed ' || id});
ok(step('t') && step('pieces'), 'after all this');
VecsyncNode::in_step($node, 't', q{body || ' ' || price}, 'all is in step');
chunks_in_step($chunks, 't', 'id', 'body', 'and in chunks');

# the name is another table's when the lock is there
my $swap = VecsyncNode::session($node);
sql(q{CREATE TABLE one (id int PRIMARY KEY, body text); CREATE TABLE two (id int PRIMARY KEY, body text)});
VecsyncNode::vectorizer($node, $service, 'one', 'body');
VecsyncNode::vectorizer($node, $service, 'two', 'body');
$swap->query_safe(q{BEGIN; ALTER TABLE one RENAME TO away; ALTER TABLE two RENAME TO one});
my $alter = VecsyncNode::session($node);
$alter->query_until(qr/waits/, "\\echo waits\nALTER TABLE one ALTER body TYPE varchar(100);\n");
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM pg_locks WHERE relation = 'one'::regclass AND NOT granted}, '1', 60), 'a new type waits for a swap of names');
$swap->query_safe('COMMIT');
$alter->query_safe('SELECT 1');
is(sql(q{SELECT string_agg(attrelid::regclass || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attrelid) FROM pg_attribute WHERE attrelid IN ('one'::regclass, 'away'::regclass) AND attname = 'body'}),
	'away text,one character varying(100)', 'and is for the table that has the name then');
is(sql(q{SELECT count(*) FROM vecsync.suspended}), '0', 'nothing of the other one was taken away');
sql(q{INSERT INTO one VALUES (1, 'a'); INSERT INTO away VALUES (1, 'b'); UPDATE one SET body = 'c'; UPDATE away SET body = 'd'});
ok(step('one') && step('two'), 'both');
VecsyncNode::in_step($node, 'one', 'body', 'go on');
VecsyncNode::in_step($node, 'away', 'body', 'go on');
$_->quit for $swap, $alter;

# the table's owner needs no right to make objects in its schema
sql(q{CREATE SCHEMA shut; CREATE ROLE tenant; GRANT USAGE ON SCHEMA shut TO tenant; CREATE TABLE shut.docs (id int PRIMARY KEY, ns text, body text);
	INSERT INTO shut.docs VALUES (1, 'x', 'a'); ALTER TABLE shut.docs OWNER TO tenant});
VecsyncNode::vectorizer($node, $service, 'shut.docs', 'body', q{name => 'shut', namespace => 'ns'});
VecsyncNode::vectorizer($node, $service, 'shut.docs', 'body', q{name => 'shut_pieces', chunking => '{"method": "words", "size": 3}'});
my $owned = q{SELECT string_agg(c.oid::regclass || ' ' || c.relowner::regrole, ', ' ORDER BY c.relname) FROM pg_class c WHERE c.relnamespace = 'shut'::regnamespace AND c.relkind = 'v'};
my $views = sql($owned);
sql(q{SET ROLE tenant; ALTER TABLE shut.docs ALTER body TYPE varchar(100); UPDATE shut.docs SET body = 'b'});
ok(step('shut') && step('shut_pieces'), 'a new type by an owner who may not make objects in the schema');
VecsyncNode::in_step($node, 'shut.docs', 'body', 'is followed');
is(sql($owned) . sql(q{SELECT count(*) FROM pg_namespace WHERE nspname ~ '^vecsync_'}), $views . '0', 'all is back in its place');

sql(q{CREATE TABLE plain (id int PRIMARY KEY, body text); INSERT INTO plain VALUES (1, '007')});
VecsyncNode::vectorizer($node, $service, 'plain', 'body');
sql(q{ALTER TABLE plain ALTER body TYPE int USING body::int});
ok(step('plain'), 'a text becomes a number');
VecsyncNode::in_step($node, 'plain', 'body::text', 'its text is that of the number');

sql(q{CREATE TABLE back (id text PRIMARY KEY, body text); INSERT INTO back VALUES ('k7', 'seven')});
VecsyncNode::vectorizer($node, $service, 'back', 'body');
ok(step('back'), 'a key of letters');
sql(q{ALTER TABLE back ALTER id TYPE int USING substr(id, 2)::int});
ok(step('back'), 'becomes a number');
is(sql(q{SELECT string_agg(DISTINCT key->>'id', ',') FROM vecsync.operation WHERE vectorizer = 'back'}), '7,k7', 'the log can be read, whatever the type was then');

# ---- another primary key, of the same type -------------------------------------------------------------
sql(q{CREATE TABLE rekey (a int PRIMARY KEY, b int UNIQUE NOT NULL, body text); INSERT INTO rekey SELECT i, 101 - i, 'row ' || i FROM generate_series(1, 100) i});
VecsyncNode::vectorizer($node, $service, 'rekey', 'body');
ok(step('rekey'), 'before the key is changed');
sql(q{ALTER TABLE rekey DROP CONSTRAINT rekey_pkey, ADD PRIMARY KEY (b); UPDATE rekey SET body = body || '!' WHERE a < 10});
ok(VecsyncNode::poll($node, q{SELECT last_error ~ 'primary key of table "rekey" is not the one' FROM vecsync.status WHERE vectorizer = 'rekey'}, 't', 60), 'another primary key: the status says so');
is(sql(q{SELECT count(*) FROM rekey WHERE embedding <> expected_vector(replace(body, '!', ''), 8)}), '0', 'and no row gets the vector of another');
fails(q{SELECT * FROM vecsync.search('rekey', 'row 1')}, '55000', 'primary key of table "rekey"', 'nor is it searched');
fails(q{SELECT * FROM vecsync.verify('rekey')}, '55000', 'primary key of table "rekey"', 'or verified');
sql(q{ALTER TABLE rekey DROP CONSTRAINT rekey_pkey, ADD PRIMARY KEY (a); SELECT vecsync.resync('rekey')});
ok(step('rekey'), 'the key is restored');
VecsyncNode::in_step($node, 'rekey', 'body', 'and all is in step');

# ---- generated columns, domains, enums, composite and array types ----------------------------------
sql(q{CREATE DOMAIN title AS text CHECK (value <> 'bad'); CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE place AS (town text, zip int); CREATE DOMAIN code AS text;
	CREATE TABLE kinds (id code, mood mood, name title, words text[], home place, full_text text GENERATED ALWAYS AS (coalesce(name::text, '') || '!') STORED, PRIMARY KEY (id, mood))});
VecsyncNode::vectorizer($node, $service, 'kinds', '{full_text} {mood} {words} {home}');
sql(q{INSERT INTO kinds VALUES ('a', 'sad', 'one', '{x,y}', '(Ulm,1)'), ('b', 'happy', NULL, NULL, NULL)});
sql(q{UPDATE kinds SET name = 'two' WHERE id = 'a'; UPDATE kinds SET mood = 'happy' WHERE id = 'a'});
sql(q{ALTER TYPE mood RENAME VALUE 'happy' TO 'glad'; UPDATE kinds SET home = '(Bonn,2)'});
ok(step('kinds'), 'generated columns, domains, enums');
VecsyncNode::in_step($node, 'kinds', q{concat(full_text, ' ', mood, ' ', words, ' ', home)}, 'are rendered as they print');
is(sql(q{SELECT string_agg(key->>'mood', ',' ORDER BY key->>'id') FROM vecsync.search('kinds', 'x')}), 'glad,glad', 'and are keys');

# ---- columns and tables go ---------------------------------------------------------------------------
fails(q{ALTER TABLE plain DROP COLUMN body}, '2BP01', 'other objects depend on it', 'a used column is not dropped by accident');
fails(q{DROP TABLE plain}, '2BP01', 'other objects depend on it', 'nor a followed table');
sql(q{ALTER TABLE plain DROP COLUMN body CASCADE});
is(sql(q{SELECT count(*) FROM vecsync.vectorizer WHERE name = 'plain'}), '0', 'with CASCADE the vectorizer goes, too');
sql(q{INSERT INTO plain VALUES (2)});
is(sql(q{ALTER TABLE t DROP COLUMN note; SELECT count(*) FROM pg_attribute WHERE attrelid = 'pieces_chunks'::regclass AND attname = 'note'}), '0', 'an unused column is dropped, also from the view of the chunks');
is(sql(q{SELECT has_table_privilege('reader', 'pieces_chunks', 'SELECT')}), 't', 'which keeps its rights');
sql(q{ALTER TABLE t ADD COLUMN extra int; CREATE SCHEMA apart; ALTER TABLE t SET SCHEMA apart; ALTER TABLE apart.t RENAME TO tt});
sql(q{UPDATE apart.tt SET body = 'moved ' || id});
ok(step('t') && step('pieces'), 'a table moved and renamed');
VecsyncNode::in_step($node, 'apart.tt', q{body || ' ' || price}, 'is followed');
chunks_in_step($chunks, 'apart.tt', 'id', 'body', 'in chunks, too');
sql(q{ALTER TABLE apart.tt ALTER body TYPE varchar(100)});
sql(q{UPDATE apart.tt SET body = 'after both ' || id});
ok(step('t') && step('pieces'), 'a new type after that');
VecsyncNode::in_step($node, 'apart.tt', q{body || ' ' || price}, 'too');
sql(q{DROP TABLE apart.tt CASCADE});
is(sql(qq{SELECT count(*) FROM vecsync.vectorizer WHERE name IN ('t', 'pieces')}) . sql(qq{SELECT to_regclass('$chunks') IS NULL}), '0t', 'DROP TABLE ... CASCADE takes everything along');

# ---- inheritance is refused ----------------------------------------------------------------------------
sql(q{CREATE TABLE parent (id int PRIMARY KEY, body text); CREATE TABLE child () INHERITS (parent); ALTER TABLE child ADD PRIMARY KEY (id)});
fails(q{SELECT vecsync.create_vectorizer('parent', 'm', 'body')}, '0A000', 'table "parent" has inheritance children');
VecsyncNode::vectorizer($node, $service, 'child', 'body');
sql(q{INSERT INTO child VALUES (1, 'of the child'); INSERT INTO parent VALUES (1, 'of the parent'); UPDATE parent SET body = body || '!'});
ok(step('child'), 'a child alone');
VecsyncNode::in_step($node, 'child', 'body', 'is followed, also by commands on the parent');
fails(q{CREATE TABLE grandchild () INHERITS (child)}, '0A000', 'table "child" is followed by a vectorizer and cannot have inheritance children');
fails(q{CREATE TABLE grandchild (LIKE child); ALTER TABLE grandchild INHERIT child}, '0A000', 'cannot have inheritance children', 'nor later');

# ---- partitions ------------------------------------------------------------------------------------------
sql(q{CREATE TABLE p (id int, region text, body text, embedding vector(8), PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a');
	CREATE TABLE p_rest PARTITION OF p DEFAULT PARTITION BY RANGE (id);
	CREATE TABLE p_low PARTITION OF p_rest FOR VALUES FROM (0) TO (1000)});
VecsyncNode::vectorizer($node, $service, 'p', 'body');
VecsyncNode::vectorizer($node, $service, 'p', 'body', q{name => 'p_pieces', chunking => '{"method": "words", "size": 3}'});
my ($p_chunks) = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'p_pieces'});

sub partitions
{
	my ($what) = @_;
	ok(step('p') && step('p_pieces'), $what);
	VecsyncNode::in_step($node, 'p', 'body', "$what: in step");
	is(sql(qq{WITH wanted AS (SELECT s.id, s.region, c.seq, c.chunk FROM p s, LATERAL vecsync.chunk(body, 'words', 3) c)
		SELECT count(*) FILTER (WHERE c.k1 IS NULL) || ' missing, ' || count(*) FILTER (WHERE w.id IS NULL) || ' orphans'
		FROM wanted w FULL JOIN $p_chunks c ON c.k1 = w.id AND c.k2 = w.region AND c.chunk_seq = w.seq AND c.chunk = w.chunk}),
		'0 missing, 0 orphans', "$what: chunks in step");
	my $digests = q{SELECT string_agg(((SELECT count(*) FROM vecsync.digest d WHERE d.vectorizer = v.id) - (SELECT count(*) FROM p))::text, ',') FROM vecsync.vectorizer v WHERE v.source = 'p'::regclass};
	ok(VecsyncNode::poll($node, $digests, '0,0', 60), "$what: a digest for each row and no other");
	return;
}

sql(q{INSERT INTO p SELECT i, CASE i % 3 WHEN 0 THEN 'a' ELSE 'b' || i % 3 END, 'row number of p ' || i FROM generate_series(1, 60) i;
	INSERT INTO p_a VALUES (100, 'a', 'written directly'); UPDATE p_low SET body = 'directly updated ' || id WHERE id < 10; DELETE FROM p_low WHERE id = 20});
partitions('direct writes');
sql(q{CREATE TABLE p_c (region text NOT NULL, embedding vector(8), gone int, body text, id int NOT NULL, PRIMARY KEY (id, region)); ALTER TABLE p_c DROP COLUMN gone;
	INSERT INTO p_c (id, region, body) SELECT i, 'c', 'it came with rows ' || i FROM generate_series(200, 1400) i;
	ALTER TABLE p ATTACH PARTITION p_c FOR VALUES IN ('c')});
partitions('ATTACH PARTITION with rows');
sql(q{UPDATE p_c SET body = 'updated in the partition' WHERE id = 200; UPDATE p SET region = 'a' WHERE id = 201;
	CREATE TABLE p_new PARTITION OF p FOR VALUES IN ('n'); INSERT INTO p_new VALUES (5000, 'n', 'a new partition')});
partitions('writes to attached and new partitions');
sql(q{UPDATE p_c SET body = 'before it leaves ' || id; ALTER TABLE p DETACH PARTITION p_c; UPDATE p_c SET body = 'after it left'; INSERT INTO p_c (id, region, body) VALUES (1, 'c', 'after it left')});
partitions('DETACH PARTITION');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'p_c'::regclass AND tgname LIKE 'vecsync%'}), '0', 'no trigger stays on it');
sql(q{ALTER TABLE p ATTACH PARTITION p_c FOR VALUES IN ('c')});
partitions('and back again');
sql(q{TRUNCATE p_a});
partitions('TRUNCATE of a partition');
sql(q{TRUNCATE p_rest; INSERT INTO p VALUES (7, 'b7', 'after the truncate')});
partitions('TRUNCATE of a partitioned partition');
sql(q{DROP TABLE p_c});
partitions('DROP of a partition');
sql(q{ALTER TABLE p ALTER body TYPE varchar(500); INSERT INTO p VALUES (8, 'b8', 'a new type in all partitions'), (101, 'a', 'here, too'); UPDATE p_low SET body = body || '.'});
partitions('a new type');
is(sql(q{SELECT failed FROM vecsync.status WHERE vectorizer IN ('p', 'p_pieces')}), "0\n0", 'nothing failed in all that');
sql(q{SELECT vecsync.drop_vectorizer('p_pieces'); SELECT vecsync.drop_vectorizer('p')});
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecsync%' AND tgrelid IN (SELECT relid FROM pg_partition_tree('p'))}), '0', 'dropped with its triggers on all partitions');
is(sql('SELECT count(*) FROM vecsync.queue WHERE vectorizer NOT IN (SELECT id FROM vecsync.vectorizer)'), '0', 'and the queue is empty');

sql(q{CREATE TABLE q (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE q_1 PARTITION OF q FOR VALUES FROM (0) TO (100); CREATE TABLE q_2 PARTITION OF q FOR VALUES FROM (100) TO (200);
	INSERT INTO q SELECT i, 'row of q ' || i FROM generate_series(50, 150) i});
VecsyncNode::vectorizer($node, $service, 'q', 'body', q{chunking => '{"method": "words", "size": 3}'});
ok(step('q'), 'another partitioned table');
sql('ALTER TABLE q DETACH PARTITION q_2 CONCURRENTLY');
ok(step('q'), 'DETACH PARTITION ... CONCURRENTLY');
chunks_in_step(sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'q'}), 'q', 'id', 'body', 'leaves no chunk behind');

# ---- a command that is not over holds up nobody else ------------------------------------
sql(q{CREATE TABLE held (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE held_1 PARTITION OF held FOR VALUES FROM (0) TO (100);
	INSERT INTO held SELECT i, 'held ' || i FROM generate_series(1, 10) i});
VecsyncNode::vectorizer($node, $service, 'held', 'body');
sql(q{CREATE TABLE analyzed (id int PRIMARY KEY, body text); INSERT INTO analyzed SELECT i, 'row ' || i FROM generate_series(1, 10) i; ANALYZE analyzed});
VecsyncNode::vectorizer($node, $service, 'analyzed', 'body');
ok(step('held') && step('analyzed'), 'tables');
my $changing = VecsyncNode::session($node);
$changing->query_safe(q{BEGIN; LOCK TABLE analyzed; ALTER TABLE held ALTER body TYPE varchar(300)});
my $begun = sql(q{SELECT pid FROM vecsync.workers});
sql(qq{SELECT pg_terminate_backend($begun)});
sql(q{SET statement_timeout = '90s'; CREATE TABLE beside (id int PRIMARY KEY, body text); INSERT INTO beside VALUES (1, 'beside it')});
VecsyncNode::vectorizer($node, $service, 'beside', 'body');
ok(VecsyncNode::poll($node, 'SELECT count(embedding) FROM beside', '1', 90), 'a worker that begins meanwhile embeds other tables');
is(sql(q{SELECT count(DISTINCT pid) FROM vecsync.workers}), '1', 'and is well');
is(sql(q{SET statement_timeout = '90s'; SELECT string_agg(concat_ws(' ', vectorizer, rows, embedded), ', ' ORDER BY vectorizer) FROM vecsync.status WHERE vectorizer IN ('analyzed', 'beside', 'held')}),
	'analyzed 10 10, beside 1 1, held', 'the status waits for nobody, and tells what is known of a table that it cannot look at');
$changing->query_safe(q{UPDATE held SET body = body || '!'; COMMIT});
$changing->quit;
ok(step('held'), 'the command is over');
VecsyncNode::in_step($node, 'held', 'body', 'and its table in step');

# ---- rows that change while triggers are disabled ---------------------------------------------
# As a restore of data alone has it; when they are enabled again all rows are looked at, and at no other time.
sql(q{CREATE TABLE unseen (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE unseen_1 PARTITION OF unseen FOR VALUES FROM (0) TO (100);
	CREATE TABLE unseen_2 PARTITION OF unseen FOR VALUES FROM (100) TO (200); INSERT INTO unseen SELECT i, 'seen ' || i FROM generate_series(1, 20) i});
VecsyncNode::vectorizer($node, $service, 'unseen', 'body');
VecsyncNode::vectorizer($node, $service, 'unseen', 'body', q{name => 'unseen_pieces', chunking => '{"method": "words", "size": 3}', index => '{"method": "none"}', replica => true});
ok(step($_), "$_: backfill") for qw(unseen unseen_pieces);
my $unseen_chunks = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'unseen_pieces'});
for my $table (qw(unseen unseen_1))
{
	sql(qq{ALTER TABLE $table DISABLE TRIGGER ALL; UPDATE unseen SET body = body || ' $table' WHERE id < 5; DELETE FROM unseen WHERE id = (SELECT max(id) FROM unseen_1);
		INSERT INTO unseen_1 SELECT i, 'new ' || i FROM generate_series(length('$table') + 30, length('$table') + 30) i; ALTER TABLE $table ENABLE TRIGGER ALL});
	ok(step($_), "$table: triggers are enabled again") for qw(unseen unseen_pieces);
	VecsyncNode::in_step($node, 'unseen', 'body', "$table: in step");
	chunks_in_step($unseen_chunks, 'unseen', 's.id', 's.body', "$table: and its chunks");
}
sql(q{SELECT vecsync.pause(v) FROM unnest('{unseen,unseen_pieces}'::text[]) v; ALTER TABLE unseen ENABLE TRIGGER ALL; CREATE TABLE unseen_3 PARTITION OF unseen FOR VALUES FROM (200) TO (300)});
is(sql('SELECT count(*) FROM vecsync.queue'), '0', 'nothing was disabled');
# what nobody follows is to be seen
sql(q{SELECT vecsync.resume(v) FROM unnest('{unseen,unseen_pieces}'::text[]) v});
for my $kind (qw(write update truncate))
{
	my ($name, $trigger) = split /\|/, sql(qq{SELECT v.name, t.tgname FROM vecsync.vectorizer v JOIN pg_trigger t ON t.tgrelid = v.source AND t.tgname ~ ('^vecsync_' || v.id || '_${kind}_') WHERE v.source = 'unseen'::regclass ORDER BY v.id LIMIT 1});
	sql(qq{ALTER TABLE unseen DISABLE TRIGGER $trigger; INSERT INTO beside SELECT max(id) + 1, 'wakes the worker' FROM beside});
	ok(VecsyncNode::poll($node, qq{SELECT last_error ~ '^trigger "vecsync_[0-9]+_${kind}_\\.\\.\\." of table "unseen" is disabled or missing' FROM vecsync.status WHERE vectorizer = '$name'}, 't'), "$kind: a trigger that is disabled is in the status");
	sql(qq{ALTER TABLE unseen ENABLE TRIGGER $trigger});
}
sql(q{SELECT vecsync.drop_vectorizer(v) FROM unnest('{unseen,unseen_pieces}'::text[]) v});
SKIP:
{
	skip 'ALTER COLUMN ... SET EXPRESSION came with 17', 4 if sql('SHOW server_version_num') < 170000;
	sql(q{CREATE TABLE computed (id int PRIMARY KEY, body text, shown text GENERATED ALWAYS AS (body || '!') STORED); INSERT INTO computed SELECT i, 'row ' || i FROM generate_series(1, 10) i});
	VecsyncNode::vectorizer($node, $service, 'computed', 'shown');
	ok(step('computed'), 'a generated column');
	VecsyncNode::in_step($node, 'computed', 'shown', 'in step');
	sql(q{ALTER TABLE computed ALTER COLUMN shown SET EXPRESSION AS (upper(body))});
	ok(step('computed'), 'gets another expression');
	VecsyncNode::in_step($node, 'computed', 'upper(body)', 'and its rows other vectors');
}

# ---- contents that show rows whole ---------------------------------------------------------------
# A new column is in their texts at once, and its changes are; one that goes takes no trigger along for good.
sql(q{CREATE TABLE whole (id int PRIMARY KEY, body text, old text); INSERT INTO whole SELECT i, 'whole ' || i, 'old' FROM generate_series(1, 10) i});
VecsyncNode::vectorizer($node, $service, 'whole', '=whole::text', q{chunking => '{"method": "words", "size": 3}', index => '{"method": "none"}', replica => true});
VecsyncNode::vectorizer($node, $service, 'whole', '=to_json(whole)::text', q{name => 'named', chunking => '{"method": "words", "size": 3}', index => '{"method": "none"}'});
my %whole = map { $_ => sql("SELECT chunk_table FROM vecsync.vectorizer WHERE name = '$_'") } qw(whole named);
my $whole_in_step = sub
{
	my ($what) = @_;
	ok(step($_), "$what: $_") for qw(whole named);
	chunks_in_step($whole{whole}, 'whole', 's.id', 's::text', "$what: the row");
	chunks_in_step($whole{named}, 'whole', 's.id', 'to_json(s)::text', "$what: with its columns' names");
	return;
};
$whole_in_step->('rows');
fails(q{SELECT vecsync.create_vectorizer('whole', 'm', '=whole::text', name => 'itself')}, '22023', 'column "embedding" cannot be both content and destination', 'a vector would be in its own text');
# who may not read a column reads no chunk that it is in
sql(q{CREATE ROLE part; GRANT SELECT (id, body, old) ON whole TO part});
my $read_whole = sub { my $code = $node->psql('postgres', "SET ROLE part; SELECT FROM $whole{whole} LIMIT 1", stderr => \my $err); return $code ? $err =~ /permission denied for table whole/ ? 'denied' : $err : 'read' };
is($read_whole->(), 'read', 'a reader of all columns');
sql(q{ALTER TABLE whole ADD COLUMN extra text DEFAULT 'extra'});
is($read_whole->(), 'denied', 'but not of the new one');
$whole_in_step->('a new column');
sql(q{GRANT SELECT (extra) ON whole TO part});
is($read_whole->(), 'read', 'and then of that, too');
sql(q{UPDATE whole SET extra = 'changed' WHERE id < 4});
$whole_in_step->('changes');
sql(q{ALTER TABLE whole RENAME COLUMN extra TO more});
$whole_in_step->('gets another name');
sql(q{ALTER TABLE whole DROP COLUMN old CASCADE});
$whole_in_step->('another one goes');
is(sql("SET ROLE part; SELECT count(*) > 0 FROM $whole{whole}"), 't', 'chunks are read as before');
sql(q{UPDATE whole SET body = body || '!' WHERE id > 8; SET session_replication_role = replica; UPDATE whole SET more = 'by a replica' WHERE id = 5});
ok(step('whole'), 'what a replica applies');
chunks_in_step($whole{whole}, 'whole', 's.id', 's::text', 'is followed as before');
sql(q{UPDATE whole SET more = 'by itself' WHERE id = 5});
$whole_in_step->('and changes are followed as before');
sql(q{SELECT vecsync.alter_vectorizer('whole', '{"chunking": {"method": "words", "size": 3}}')});
ok(VecsyncNode::poll($node, q{SELECT generation FROM vecsync.vectorizer WHERE name = 'whole'}, '2'), 'another generation');
$whole{whole} = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'whole'});
sql(q{UPDATE whole SET body = body || ' again' WHERE id > 6; UPDATE whole SET more = 'other' WHERE id = 2});
$whole_in_step->('changes are followed in the next generation');
ok($read_whole->() eq 'read', 'and it is read by who may');
sql(q{REVOKE SELECT (more) ON whole FROM part});
is($read_whole->(), 'denied', 'and by nobody else');
sql(q{SELECT vecsync.drop_vectorizer(v) FROM unnest('{whole,named}'::text[]) v; DROP TABLE whole CASCADE; DROP ROLE part});

# a column that is not in the content, where another table's of that name is
sql(q{CREATE TABLE prices (id int PRIMARY KEY, price int); INSERT INTO prices VALUES (1, 10);
	CREATE TABLE priced (id int PRIMARY KEY, body text, price int); INSERT INTO priced SELECT i, 'priced ' || i, i FROM generate_series(1, 5) i});
my $priced = q{body || ' ' || (SELECT p.price FROM prices p WHERE p.id = 1)};
VecsyncNode::vectorizer($node, $service, 'priced', "=$priced");
ok(step('priced'), 'a column of another table');
sql('ALTER TABLE priced DROP COLUMN price CASCADE');
sql(q{UPDATE priced SET body = 'other ' || id WHERE id > 2});
ok(step('priced'), 'one of the same name is dropped');
VecsyncNode::in_step($node, 'priced', $priced, 'and changes are followed');

# ---- rows of a partition that is there since this moment ------------------------------------
sql(q{CREATE TABLE later (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE later_1 PARTITION OF later FOR VALUES FROM (0) TO (100);
	CREATE TABLE later_3 PARTITION OF later FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id);
	INSERT INTO later SELECT i, 'later ' || i FROM generate_series(1, 10) i});
VecsyncNode::vectorizer($node, $service, 'later', 'body');
ok(step('later'), 'a partitioned table');
SKIP:
{
	skip 'needs DEBUG_POINTS=1', 10 unless ($node->psql('postgres', 'SHOW vecsync.debug_crash'))[0] == 0;
	my ($hold, $waits) = map { $node->data_dir . "/debug_$_" } qw(hold held);
	for my $new ([ 'later', 100 ], [ 'later_3', 200 ])
	{
		my ($parent, $from) = @$new;
		append_to_file($hold, '');
		my $maker = VecsyncNode::session($node);
		$maker->query_safe(qq{SET vecsync.debug_crash = 'capture_committed:hold'; BEGIN; CREATE TABLE later_$from (LIKE later INCLUDING INDEXES);
			INSERT INTO later_$from SELECT i, 'later ' || i FROM generate_series($from, $from + 50) i;
			ALTER TABLE $parent ATTACH PARTITION later_$from FOR VALUES FROM ($from) TO ($from + 60)});
		$maker->query_until(qr/going/, "\\echo going\nCOMMIT;\n");
		my $until = time + VecsyncNode::patience();
		select undef, undef, undef, .02 until -e $waits || time > $until;
		ok(-e $waits, "$parent: its commit can be seen, and has not told anybody");
		ok(VecsyncNode::poll($node, q{SELECT in_flight > 0 OR pending = 0 FROM vecsync.status WHERE vectorizer = 'later'}, 't'), "$parent: the worker looks for the rows");
		select undef, undef, undef, .5;		# and would be through with them
		unlink $hold, $waits;
		$maker->query_safe('SELECT 1');
		$maker->quit;
		ok(step('later'), "$parent: it is told");
		VecsyncNode::in_step($node, 'later', 'body', "$parent: no row was taken for gone");
	}
	sql(q{DELETE FROM later WHERE id % 2 = 0});
	ok(step('later'), 'rows that are gone are');
	VecsyncNode::in_step($node, 'later', 'body', 'in step');
}

$service->stop;
$node->stop;
done_testing();

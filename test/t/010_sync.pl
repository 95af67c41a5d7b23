# What is changed is embedded: existing rows, every kind of change, every kind of key and text.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub step { return VecsyncNode::settle($node, $_[0]) }

# ---- existing rows and a template -------------------------------------------------
sql(q{CREATE TABLE albums (id int PRIMARY KEY, name text, artist text, year int, genre text);
	INSERT INTO albums SELECT i, 'name ' || i, 'artist ' || i % 7, 1950 + i % 70, 'genre ' || i % 5 FROM generate_series(1, 1500) i});
my $template = 'type: albums | id: {id} | name: {name} | artist: {artist} | year: {year} | genre: {genre}';
my $text = q{concat('type: albums | id: ', id, ' | name: ', name, ' | artist: ', artist, ' | year: ', year, ' | genre: ', genre)};
VecsyncNode::vectorizer($node, $service, 'albums', $template);
ok(step('albums'), 'existing rows are worked off');
VecsyncNode::in_step($node, 'albums', $text, 'existing rows are embedded');
is(sql('SELECT rows, embedded, pending, in_flight, failed, state, worker FROM vecsync.status'),
	'1500|1500|0|0|0|in step|running', 'status says so');
cmp_ok($service->stats->{requests}, '<=', 20, 'in batches');

# ---- changes ---------------------------------------------------------------------
sql(q{INSERT INTO albums VALUES (2001, 'new', 'someone', 1999, 'rock')});
sql(q{UPDATE albums SET name = name || ' (remaster)' WHERE id % 3 = 0});
sql(q{DELETE FROM albums WHERE id % 10 = 1});
sql(q{UPDATE albums SET id = id + 10000 WHERE id BETWEEN 100 AND 120});
sql(q{INSERT INTO albums VALUES (2, 'upsert', 'x', 1, 'y'), (3002, 'upsert', 'x', 1, 'y') ON CONFLICT (id) DO UPDATE SET name = excluded.name});
sql(q{MERGE INTO albums a USING (VALUES (4), (4004)) v (id) ON a.id = v.id
	WHEN MATCHED THEN UPDATE SET genre = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'merged', '', 0, NULL)});
$node->safe_psql('postgres', "COPY albums (id, name) FROM stdin;\n5001\tcopied\n5002\t{name} {{}}\n5003\t\\N\n\\.\n");
ok(step('albums'), 'changes are worked off');
VecsyncNode::in_step($node, 'albums', $text, 'insert, update, delete, key change, upsert, merge, copy');

# ---- rollback and savepoints --------------------------------------------------------
$service->scenario(dims => 8);
sql(q{BEGIN; UPDATE albums SET name = 'never'; ROLLBACK});
is(sql('SELECT count(*) FROM vecsync.queue'), '0', 'rollback leaves nothing in the queue');
sql(q{BEGIN; UPDATE albums SET name = 'kept' WHERE id = 5; SAVEPOINT a; UPDATE albums SET name = 'lost' WHERE id = 6;
	ROLLBACK TO a; SAVEPOINT b; UPDATE albums SET name = 'kept' WHERE id = 7; SAVEPOINT c; UPDATE albums SET name = 'kept' WHERE id = 8;
	RELEASE c; RELEASE b; COMMIT});
ok(step('albums'), 'savepoints');
VecsyncNode::in_step($node, 'albums', $text, 'savepoints: what was kept is embedded');
is($service->stats->{inputs}, 3, 'and only that');
sql(q{DO $$ BEGIN FOR i IN 1..50 LOOP BEGIN UPDATE albums SET genre = 'sub' WHERE id = i; IF i % 2 = 0 THEN RAISE EXCEPTION 'no'; END IF;
	EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$});
sql(q{BEGIN; UPDATE albums SET genre = 'prepared' WHERE id = 9; PREPARE TRANSACTION 'p1'});
sql(q{UPDATE albums SET genre = 'after' WHERE id = 12});
sql(q{COMMIT PREPARED 'p1'});
ok(step('albums'), 'exceptions and a prepared transaction');
VecsyncNode::in_step($node, 'albums', $text, 'exceptions and a prepared transaction are embedded');

# A transaction that commits late, behind numbers already read.
my $late = VecsyncNode::session($node);
$late->query_safe(q{BEGIN; INSERT INTO albums (id, name) VALUES (7001, 'late'); SAVEPOINT s});
$late->query_safe(q{INSERT INTO albums (id, name) SELECT i, 'late ' || i FROM generate_series(7100, 9500) i});    # beyond one entry: written at once
sql(qq{INSERT INTO albums (id, name) VALUES ($_, 'quick')}) for 7010 .. 7020;
VecsyncNode::poll($node, 'SELECT count(*) FROM albums WHERE id BETWEEN 7010 AND 7020 AND embedding IS NOT NULL', '11');
$late->query_safe('COMMIT');
$late->quit;
ok(step('albums'), 'a late commit');
VecsyncNode::in_step($node, 'albums', $text, 'a late commit is not passed over');

# ---- nothing to do, nothing asked ------------------------------------------------------
$service->scenario(dims => 8);
sql(q{ALTER TABLE albums ADD COLUMN plays int DEFAULT 0});
sql(q{UPDATE albums SET plays = plays + 1});
sql(q{UPDATE albums SET name = name});
ok(step('albums'), 'unrelated updates');
is($service->stats->{requests}, 0, 'an update of an unrelated column, or to the same value, asks nothing');
sql(q{INSERT INTO albums (id, name) VALUES (1, '')});
sql(q{TRUNCATE albums});
ok(step('albums'), 'truncate');
sql(q{INSERT INTO albums (id, name) VALUES (1, 'again')});
ok(step('albums'), 'after truncate');
VecsyncNode::in_step($node, 'albums', $text, 'truncate, then insert');

# ---- texts --------------------------------------------------------------------------------
sql(q{CREATE TABLE "odd ""name" ("Id { }" uuid, part int, "naïve text" text, tags text[], made date, PRIMARY KEY ("Id { }", part))});
VecsyncNode::vectorizer($node, $service, '"odd ""name"', '{{literal}} {naïve text} [{tags}] {made} it\'s {{{part}}}', q{name => 'odd'});
sql(q{INSERT INTO "odd ""name" SELECT gen_random_uuid(), i, 'value with {part} and {{x}} ''quoted'' "double" \ ' || i, ARRAY['a b', '{c}'], '2020-02-29'
	FROM generate_series(1, 200) i});
sql(q{INSERT INTO "odd ""name" VALUES (gen_random_uuid(), 0, NULL, NULL, NULL), (gen_random_uuid(), 0, 'zwölf 🎵' || repeat('x', 3000), NULL, NULL)});
ok(step('odd'), 'odd names');
VecsyncNode::in_step($node, '"odd ""name"', q{concat('{literal} ', "naïve text", ' [', tags, '] ', made, ' it''s {', part, '}')},
	'quoted names, composite key, braces in values, NULLs');
sql(q{ALTER TABLE "odd ""name" RENAME COLUMN "naïve text" TO plain});
sql(q{ALTER TABLE "odd ""name" RENAME COLUMN embedding TO "Vec Tor"});
sql(q{ALTER TABLE "odd ""name" RENAME COLUMN part TO piece});
sql(q{ALTER TABLE "odd ""name" RENAME TO even; CREATE SCHEMA "S p"; ALTER TABLE even SET SCHEMA "S p"});
sql(q{UPDATE "S p".even SET plain = 'renamed ' || piece; INSERT INTO "S p".even VALUES (gen_random_uuid(), 7, 'x', '{}', now())});
ok(step('odd'), 'renamed and moved');
VecsyncNode::in_step($node, '"S p".even', q{concat('{literal} ', plain, ' [', tags, '] ', made, ' it''s {', piece, '}')},
	'columns and table renamed and moved', column => '"Vec Tor"');

sql(q{CREATE TABLE notes (code text PRIMARY KEY, body text)});
VecsyncNode::vectorizer($node, $service, 'notes', 'body');
$service->scenario(dims => 8);
sql(q{INSERT INTO notes VALUES ('a', 'text'), ('b', NULL), ('c', '   '), ('d', E'\n'), ('e''s {1,2}', 'odd key'), ('', 'empty key')});
ok(step('notes'), 'a column');
VecsyncNode::in_step($node, 'notes', 'body', 'a single column; blank texts have no vector');
is($service->stats->{inputs}, 3, 'and cost nothing');
sql(q{UPDATE notes SET body = NULL WHERE code = 'a'});
ok(step('notes'), 'a text becomes NULL');
VecsyncNode::in_step($node, 'notes', 'body', 'then its vector does, too');

sql(q{CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, tags text[], price numeric)});
VecsyncNode::vectorizer($node, $service, 'items', q{= concat_ws('. ', title, 'Tags: ' || array_to_string(tags, ', '), 'Price: ' || price)});
sql(q{INSERT INTO items (title, tags, price) VALUES ('Lamp', '{light,home}', 12.50), ('Chair', NULL, NULL), (NULL, NULL, NULL)});
ok(step('items'), 'an expression');
VecsyncNode::in_step($node, 'items', q{concat_ws('. ', title, 'Tags: ' || array_to_string(tags, ', '), 'Price: ' || price)}, 'a SQL expression');

# ---- partitions ---------------------------------------------------------------------------------
sql(q{CREATE TABLE parted (id int, region text, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
	CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
	CREATE TABLE parted_b (body text, region text NOT NULL, id int NOT NULL, PRIMARY KEY (region, id))});
VecsyncNode::vectorizer($node, $service, 'parted', '{region}: {body}');
sql(q{ALTER TABLE parted_b ADD COLUMN embedding vector(8); ALTER TABLE parted ATTACH PARTITION parted_b FOR VALUES IN ('b')});
sql(q{INSERT INTO parted VALUES (1, 'a', 'one'), (2, 'b', 'two'); INSERT INTO parted_b (id, region, body) VALUES (3, 'b', 'direct');
	UPDATE parted SET region = 'b' WHERE id = 1});
ok(step('parted'), 'partitions');
VecsyncNode::in_step($node, 'parted', q{region || ': ' || body}, 'partitioned table, direct writes, rows that move');

# ---- pause, resume, drop ----------------------------------------------------------------------------
sql(q{SELECT vecsync.pause('notes'); UPDATE notes SET body = 'while paused' WHERE code = 'b'});
is(sql(q{SELECT vecsync.wait('notes', '300 ms')}), 'f', 'wait gives up on a paused vectorizer');
is(sql(q{SELECT state, pending FROM vecsync.status WHERE vectorizer = 'notes'}), 'paused|1', 'paused, and its change is pending');
sql(q{SELECT vecsync.resume('notes')});
ok(step('notes'), 'resumed');
VecsyncNode::in_step($node, 'notes', 'body', 'a change made while paused is embedded after resume');
is(sql(q{SELECT vecsync.resync('items')}), '3', 'resync counts the rows');
sql(q{ALTER TABLE items DISABLE TRIGGER USER; UPDATE items SET title = 'Sofa' WHERE id = 2; ALTER TABLE items ENABLE TRIGGER USER; SELECT vecsync.resync('items')});
ok(step('items'), 'resync');
VecsyncNode::in_step($node, 'items', q{concat_ws('. ', title, 'Tags: ' || array_to_string(tags, ', '), 'Price: ' || price)}, 'resync finds what was changed behind our back');
sql(q{SELECT vecsync.drop_vectorizer('items', keep_data => false)});
is(sql(q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'embedding'}), '0', 'dropped with its data');
sql(q{DROP TABLE notes CASCADE});
is(sql(q{SELECT string_agg(name, ',' ORDER BY name) FROM vecsync.vectorizer}), 'albums,odd,parted', 'DROP TABLE CASCADE drops the vectorizer');
sql(q{ALTER TABLE albums DROP COLUMN genre CASCADE});
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecsync%albums'}), '0', 'DROP COLUMN CASCADE leaves no trigger behind');

$service->stop;
$node->stop;
done_testing();

# replica => true: what logical replication applies is embedded on the subscriber; without it, and with
# session_replication_role = replica, nothing is queued.  Also two-phase commit, COPY, MERGE and ON CONFLICT over there.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);
my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->append_conf('postgresql.conf', "max_prepared_transactions = 5\n");
$publisher->start;

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub there { return $publisher->safe_psql('postgres', $_[0]) }

sub applied
{
	my ($what) = @_;
	$publisher->wait_for_catchup('sub');
	ok(VecsyncNode::settle($node, 'docs') && VecsyncNode::settle($node, 'pieces') && VecsyncNode::settle($node, 'parts'), $what);
	VecsyncNode::in_step($node, 'docs', 'body', "$what: in step");
	VecsyncNode::in_step($node, 'parts', 'body', "$what: partitions in step");
	is(sql(q{WITH wanted AS (SELECT s.id, c.seq, c.chunk FROM docs s, LATERAL vecsync.chunk(body, 'words', 2) c)
		SELECT count(*) FROM wanted w FULL JOIN (SELECT id, chunk_seq AS seq, chunk FROM pieces_chunks) c USING (id, seq, chunk) WHERE w.id IS NULL OR c.id IS NULL}),
		'0', "$what: chunks in step");
	return;
}

there(q{CREATE TABLE docs (id int PRIMARY KEY, body text); CREATE TABLE local (id int PRIMARY KEY, body text);
	CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000); CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
	INSERT INTO docs SELECT i, 'from the start ' || i FROM generate_series(1, 100) i; INSERT INTO parts VALUES (1, 'from the start');
	CREATE PUBLICATION pub FOR TABLE docs, local, parts WITH (publish_via_partition_root = false)});
sql(q{CREATE TABLE docs (id int PRIMARY KEY, body text); CREATE TABLE local (id int PRIMARY KEY, body text);
	CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000); CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000)});
VecsyncNode::vectorizer($node, $service, 'docs', 'body', 'replica => true');
VecsyncNode::vectorizer($node, $service, 'docs', 'body', q{name => 'pieces', chunking => '{"method": "words", "size": 2}', replica => true});
VecsyncNode::vectorizer($node, $service, 'parts', 'body', 'replica => true');
VecsyncNode::vectorizer($node, $service, 'local', 'body');
sql(q{CREATE SUBSCRIPTION sub CONNECTION $$} . $publisher->connstr('postgres') . q{$$ PUBLICATION pub WITH (two_phase = true)});
$node->wait_for_subscription_sync($publisher, 'sub') if $node->can('wait_for_subscription_sync');
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate <> 'r'}) or die 'no initial copy';
applied('the initial copy');
is(sql('SELECT count(*), count(embedding) FROM docs'), '100|100', 'all of it');

there(q{INSERT INTO docs VALUES (200, 'inserted'); UPDATE docs SET body = 'updated ' || id WHERE id <= 10; DELETE FROM docs WHERE id BETWEEN 11 AND 20;
	UPDATE docs SET id = id + 1000 WHERE id BETWEEN 21 AND 30; INSERT INTO local VALUES (1, 'applied, and not followed');
	INSERT INTO parts VALUES (2, 'one'), (1002, 'two'); UPDATE parts SET id = id + 1000 WHERE id = 1});
applied('insert, update, delete, keys');
is(sql('SELECT count(embedding) FROM local') . sql(q{SELECT count(*) FROM vecsync.queue q JOIN vecsync.vectorizer v ON v.id = q.vectorizer WHERE v.name = 'local'}), '00', 'without the option nothing is followed');
there("COPY docs FROM stdin;\n300\tcopied\n301\ttoo\n\\.\n");
there(q{INSERT INTO docs VALUES (300, 'x'), (302, 'y') ON CONFLICT (id) DO UPDATE SET body = 'upserted ' || excluded.body;
	MERGE INTO docs d USING (VALUES (301), (303)) v (id) ON d.id = v.id WHEN MATCHED THEN UPDATE SET body = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'merged in');
	BEGIN; UPDATE docs SET body = 'savepoint' WHERE id = 40; SAVEPOINT s; UPDATE docs SET body = 'never' WHERE id = 41; ROLLBACK TO s; COMMIT});
applied('copy, upsert, merge, savepoints');
there(q{BEGIN; UPDATE docs SET body = 'prepared over there' WHERE id = 50; PREPARE TRANSACTION 'p1'});
there(q{UPDATE docs SET body = 'after it' WHERE id = 51});
$publisher->wait_for_catchup('sub');
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_prepared_xacts') or die 'not prepared';
ok($node->poll_query_until('postgres', q{SELECT embedding = expected_vector(body, 8) AND body = 'after it' FROM docs WHERE id = 51}), 'what came after a prepared transaction does not wait for it');
there(q{COMMIT PREPARED 'p1'});
applied('a transaction prepared and committed over there');
is(sql('SELECT body FROM docs WHERE id = 50'), 'prepared over there', 'is here');
there(q{BEGIN; DELETE FROM docs; PREPARE TRANSACTION 'p2'; ROLLBACK PREPARED 'p2'});
there(q{TRUNCATE docs, parts; INSERT INTO docs VALUES (1, 'after the truncate')});
applied('truncate');

# ---- session_replication_role ------------------------------------------------------------------
sql(q{SET session_replication_role = replica; INSERT INTO docs VALUES (2, 'as a replica'); UPDATE docs SET body = 'as a replica, too' WHERE id = 1; INSERT INTO local VALUES (2, 'not seen')});
applied('session_replication_role = replica');
is(sql('SELECT count(embedding) FROM local'), '0', 'and without the option, as PostgreSQL has it, no trigger fires');
is(sql(q{SELECT vecsync.resync('local')}), '2', 'resync');
ok(VecsyncNode::settle($node, 'local'), 'finds what was missed');
VecsyncNode::in_step($node, 'local', 'body', 'and embeds it');
sql(q{ALTER TABLE docs ALTER body TYPE varchar(100); SET session_replication_role = replica; UPDATE docs SET body = 'after a new type'});
applied('the option outlives a new type');
sql(q{CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (2000) TO (3000); SET session_replication_role = replica; INSERT INTO parts VALUES (2001, 'a new partition')});
applied('and holds for new partitions');
sql(q{SET session_replication_role = replica; TRUNCATE parts_3});
applied('and TRUNCATE of them');

sql('DROP SUBSCRIPTION sub');
$service->stop;
$node->stop;
$publisher->stop;
done_testing();

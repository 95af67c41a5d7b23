# What administrators do: tables change hands, databases have settings of their own, move and are vacuumed; roles go.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, conf => ['fsync = off']);
my $url = $service->url;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---- owners ------------------------------------------------------------------------------
sql(q{CREATE ROLE app; CREATE ROLE heir; GRANT heir TO app; GRANT ALL ON SCHEMA public TO PUBLIC; CREATE TABLE t (id int PRIMARY KEY, body text);
	INSERT INTO t SELECT i, 'body ' || i FROM generate_series(1, 50) i; ALTER TABLE t OWNER TO app});
VecsyncNode::vectorizer($node, $service, 't', 'body', q{text_config => 'simple'});
VecsyncNode::vectorizer($node, $service, 't', 'body', q{name => 'pieces', chunking => '{"method": "words", "size": 1}'});

my $round = 0;

sub goes_on
{
	my ($what) = @_;
	$round++;
	sql("UPDATE t SET body = body || ' $round' WHERE id % 7 = 0; INSERT INTO t VALUES (1000 + $round, 'new $round')");
	ok(VecsyncNode::settle($node, $_), "$what: $_") for qw(t pieces);
	VecsyncNode::in_step($node, 't', 'body', "$what: in step");
	is(sql(q{SELECT count(*) FROM vecsync.vectorizer v, vecsync.verify(v.name)}), '0', "$what: verified");
	return;
}

sub owners
{
	return sql(q{SELECT DISTINCT c.relowner::regrole FROM vecsync.vectorizer v, unnest(ARRAY[v.source, v.content_view, v.search_view, v.chunk_table, to_regclass('pieces_chunks')]) r
		JOIN pg_class c ON c.oid = r ORDER BY 1});
}

goes_on('the first owner');
sql(q{SET ROLE app; ALTER TABLE t OWNER TO heir});
is(owners(), 'heir', 'what was made for a table goes to its new owner');
goes_on('the new owner');
sql(q{SELECT vecsync.pause('t'); ALTER VIEW pieces_chunks RENAME TO something_else; ALTER TABLE t OWNER TO app; ALTER VIEW something_else RENAME TO pieces_chunks});
is(owners(), "app\nheir", 'but what cannot be found');
sql(q{SELECT vecsync.resume('t'); REASSIGN OWNED BY app, heir TO app});
goes_on('all of a role');

# ---- roles that go --------------------------------------------------------------------------
sql(q{CREATE ROLE guest; SELECT vecsync.grant_model('m', 'guest'); DROP ROLE guest; SELECT vecsync.grant_model('m', 'app')});
is(sql(q{SELECT users FROM vecsync.model}), '{-,app}', 'what is granted is not granted to a role that is gone');

# ---- maintenance ----------------------------------------------------------------------------
sql(q{CREATE DATABASE beside});
my $place = $node->basedir . '/place';
mkdir $place or die;
sql("CREATE TABLESPACE place LOCATION '$place'");
$service->scenario(dims => 8, delay_ms => 50);
sql(q{SELECT vecsync.alter_model('m', '{"max_batch": 5}'); UPDATE t SET body = body || '!'});
sql("VACUUM (FULL, FREEZE) $_") for qw(vecsync.queue vecsync.digest vecsync.vectorizer vecsync.model vecsync.operation_batch vecsync.dead_letter t);
sql(q{CLUSTER vecsync.digest USING digest_pkey; REINDEX DATABASE postgres; REINDEX SYSTEM postgres});
$service->scenario(dims => 8);
goes_on('everything rewritten');
is($node->psql('beside', 'ALTER DATABASE postgres SET TABLESPACE place'), 0, 'a database moves');
goes_on('and is followed where it is');
sql(q{CREATE SCHEMA types; GRANT USAGE ON SCHEMA types TO PUBLIC; ALTER FUNCTION expected_vector SET search_path = public, types;
	ALTER DATABASE postgres SET search_path = public, types; ALTER EXTENSION vector SET SCHEMA types});
goes_on('the vector extension moves');
is(sql(q{SELECT key->>'id' FROM vecsync.search('t', 'new 6', top_k => 1)}), '1006', 'and searches find');

# ---- settings of a superuser ---------------------------------------------------------------------
sql(q{CREATE TABLE words AS SELECT 'word'::text AS word; CREATE FUNCTION with_word(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT word FROM words) || $1; END $$;
	CREATE TABLE w (id int PRIMARY KEY, body text)});
VecsyncNode::vectorizer($node, $service, 'w', '= with_word(body)');
sql(q{ALTER ROLE CURRENT_USER SET search_path = nowhere; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
sql(q{INSERT INTO public.w VALUES (1, ' and another')});
ok(VecsyncNode::settle($node, 'w'), 'what the superuser has set for himself');
sql(q{ALTER ROLE CURRENT_USER RESET search_path});
VecsyncNode::in_step($node, 'w', q{'word' || body}, 'is not for the worker');

# ---- settings of a database ---------------------------------------------------------------------
# and Turkish, where "I" is not the capital of "i", if the server can
my $turkish = sql(q{SELECT count(*) FROM pg_collation WHERE collprovider = 'i'}) ? q{TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'} : '';
sql("CREATE DATABASE odd $turkish");
sql("ALTER DATABASE odd SET $_")
  for 'standard_conforming_strings = off', 'exit_on_error = on', 'quote_all_identifiers = on', 'default_transaction_isolation = serializable', 'lock_timeout = 1', 'array_nulls = off';
my $plain = 'SET lock_timeout = 0; SET client_min_messages = error';
$node->safe_psql('odd', "$plain; CREATE EXTENSION vecsync CASCADE; SELECT vecsync.create_model('one', url => '$url', model => 'one'), vecsync.create_model('two', url => '$url', model => 'two'),
		vecsync.revoke_model('two'), vecsync.grant_model('two', 'PUBLIC');
	CREATE TABLE t (id int PRIMARY KEY, body text, CHECK (id <> 13 OR embedding IS NULL), embedding vector(8)); INSERT INTO t SELECT i, 'body ' || i FROM generate_series(1, 50) i;
	SELECT vecsync.create_vectorizer('t', 'one', 'body', text_config => 'simple'); SELECT vecsync.wait('t')");
is($node->safe_psql('odd', "$plain; SELECT key, (SELECT restarts FROM vecsync.workers WHERE database = 'odd') FROM vecsync.failed"), '{"id": 13}|0',
	'a row that fails does not end the worker, even where errors end sessions');
$node->safe_psql('odd', "$plain; DELETE FROM t WHERE id = 13; ALTER TABLE t DROP CONSTRAINT t_check; SELECT vecsync.wait('t'); SELECT vecsync.alter_vectorizer('t', '{\"model\": \"two\"}')");
ok(VecsyncNode::poll_in($node, 'odd', "$plain; SELECT string_agg(name || ' ' || generation, ', ') FROM vecsync.vectorizer", 't 2'), 'a new generation, where backslashes mean something');
is($node->safe_psql('odd', "$plain; INSERT INTO t VALUES (100, E' \\t ');
	SELECT vecsync.wait('t'); SELECT (SELECT count(*) FROM vecsync.verify('t')), (SELECT key FROM vecsync.search('t', 'body 7', top_k => 1))"), "t\n0|{\"id\": 7}", 'is complete');

# ---- a restore in any order -----------------------------------------------------------------------
# as pg_restore -j may have it: the tables that need others first
sql(q{ALTER TABLE t ADD CHECK (id <> 9999 OR embedding IS NULL); INSERT INTO t VALUES (9999, 'cannot be written')});
ok(VecsyncNode::settle($node, 't'), 'a row that fails');
sql(q{SELECT vecsync.pause(name) FROM vecsync.vectorizer; INSERT INTO t VALUES (9998, 'pending')});
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
my ($list) = run_command([ 'pg_restore', '-l', $dump ]);
my @data = grep { /TABLE DATA vecsync/ } split /\n/, $list;
my %place = (dead_letter => 1, queue => 2, digest => 3, vectorizer => 4, model => 5);
my @order = sort { ($place{ ($a =~ /vecsync (\w+)/)[0] } // 9) <=> ($place{ ($b =~ /vecsync (\w+)/)[0] } // 9) } @data;
my $at = 0;
append_to_file("$dump.list", join '', map { /TABLE DATA vecsync/ ? $order[ $at++ ] . "\n" : "$_\n" } split /\n/, $list);
sql(q{CREATE DATABASE restored; ALTER DATABASE restored SET search_path = public, types});
$node->command_ok([ 'pg_restore', '-e', '-h', $node->host, '-p', $node->port, '-d', 'restored', '-L', "$dump.list", $dump ], 'pg_restore, the tables that need others first');
is($node->safe_psql('restored', q{SELECT vectorizer, state, pending, failed FROM vecsync.status ORDER BY 1}), "pieces|paused|1|0\nt|paused|1|1\nw|paused|0|0", 'everything is there');
is($node->safe_psql('restored', q{SELECT vecsync.resume('t'), vecsync.resume('pieces') \gset
	SELECT vecsync.wait('t'), vecsync.wait('pieces'); SELECT count(*) FROM t WHERE embedding IS DISTINCT FROM expected_vector(body, 8)}), "t|t\n1", 'and goes on');
is($node->safe_psql('restored', q{SELECT vecsync.drop_vectorizer('t'); SELECT count(*) FROM vecsync.dead_letter}), "\n0", 'dead letters go with their vectorizer');

# pg_restore -j may make the key of a partitioned table while partitions are loaded: it is none before they have it
my (undef, undef, $keyless) = $node->psql('postgres', q{CREATE TABLE parts (id int NOT NULL, body text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9);
	ALTER TABLE ONLY parts ADD PRIMARY KEY (id); SELECT vecsync.create_vectorizer('parts', 'm', 'body')});
like($keyless, qr/ERROR:  table "parts" has no primary key/, 'half a primary key');
is(sql(q{ALTER TABLE parts_1 ADD CONSTRAINT k PRIMARY KEY (id); ALTER INDEX parts_pkey ATTACH PARTITION k; SELECT vecsync.create_vectorizer('parts', 'm', 'body')}), 'parts', 'a whole one');

$service->stop;
$node->stop;
done_testing();

# Traps: settings of sessions, savepoints, other people's objects, rows that the service cannot stand.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, conf => [ 'vecsync.max_attempts = 4' ]);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub refused
{
	my ($sql, $what) = @_;
	my ($code, $out, $err) = $node->psql('postgres', $sql);
	like($err, qr/ERROR/, $what);
	is($node->safe_psql('postgres', 'SELECT 1'), '1', "$what: the server is there");
	return;
}

# ---- keys mean the same whoever writes them ---------------------------------------------
sql(q{CREATE TABLE days (d date, f float8, i interval, body text, PRIMARY KEY (d, f, i))});
VecsyncNode::vectorizer($node, $service, 'days', 'body');
sql(q{SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = 0;
	INSERT INTO days VALUES ('01/02/2024', 0.1 + 0.2, '1 day 2 hours', 'one'), ('03/04/2024', 1.0 / 3, '-3 mons', 'two')});
ok(VecsyncNode::settle($node, 'days'), 'dates, floats and intervals as keys');
VecsyncNode::in_step($node, 'days', 'body', 'are found whatever the session\'s styles');
sql(q{CREATE TABLE hashes (h bytea PRIMARY KEY, body text); INSERT INTO hashes VALUES ('\x01ff', 'first')});
VecsyncNode::vectorizer($node, $service, 'hashes', 'body');
ok(VecsyncNode::settle($node, 'hashes'), 'bytea as key');
for my $change (q{SET bytea_output = 'escape'; UPDATE hashes SET body = 'second'}, q{UPDATE hashes SET body = 'first'})
{
	sql($change);
	ok(VecsyncNode::settle($node, 'hashes'), $change);
	VecsyncNode::in_step($node, 'hashes', 'body', 'one row has one digest');
}

# ---- lastval() is the application's -----------------------------------------------------------
sql(q{CREATE ROLE lister; CREATE TABLE numbered (id serial PRIMARY KEY, body text); GRANT ALL ON numbered, numbered_id_seq TO lister});
VecsyncNode::vectorizer($node, $service, 'numbered', 'body');
is(sql(q{SET ROLE lister; INSERT INTO numbered (body) VALUES ('one'), ('two'); SELECT lastval(); BEGIN; INSERT INTO numbered (body) VALUES ('three'); COMMIT; SELECT lastval()}),
	"2\n3", 'lastval() tells of the key of the session\'s own INSERT');
ok(VecsyncNode::settle($node, 'numbered'), 'and the rows are embedded');

# ---- a trigger that keeps rows as they are ------------------------------------------------
sql(q{CREATE TABLE closed (id int PRIMARY KEY, body text, open bool DEFAULT true); INSERT INTO closed SELECT i, 'body ' || i FROM generate_series(1, 5) i;
	CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.open THEN RETURN NEW; END IF; RETURN NULL; END $$;
	CREATE TRIGGER keep BEFORE UPDATE ON closed FOR EACH ROW EXECUTE FUNCTION keep()});
VecsyncNode::vectorizer($node, $service, 'closed', 'body');
ok(VecsyncNode::settle($node, 'closed'), 'a trigger that lets the vectors through');
sql(q{UPDATE closed SET body = 'new ' || id, open = id <> 3});
ok(VecsyncNode::settle($node, 'closed'), 'and one that does not');
is(sql('SELECT string_agg(id::text, \',\') FROM closed WHERE embedding IS DISTINCT FROM expected_vector(body, 8)'), '3', 'the others get theirs');
is(sql(q{SELECT key->>'id' || ' ' || operation || ' ' || error FROM vecsync.failed}), '3 write a trigger or rule of the table keeps its vector from being written', 'the row is among those that failed');
sql(q{DROP TRIGGER keep ON closed; SELECT vecsync.resync('closed', failed_only => true)});
ok(VecsyncNode::settle($node, 'closed'), 'tried again');
VecsyncNode::in_step($node, 'closed', 'body', 'in step');

# ---- a question about oneself inside a savepoint -----------------------------------------
sql(q{CREATE TABLE t (id int PRIMARY KEY, body text); GRANT ALL ON SCHEMA public TO PUBLIC});
VecsyncNode::vectorizer($node, $service, 't', 'body');
$node->psql('postgres', qq{\\set ON_ERROR_ROLLBACK on\nBEGIN;\nINSERT INTO t VALUES (1, 'kept');\nSELECT vecsync.wait('t');\nSELECT vecsync.wait('days');\nCOMMIT;}, on_error_stop => 0);
is(sql('SELECT count(*) FROM t'), '1', 'the row is there');
ok(VecsyncNode::settle($node, 't'), 'wait in a savepoint that is rolled back');
VecsyncNode::in_step($node, 't', 'body', 'loses nothing');
sql(q{DO $$ BEGIN FOR i IN 100..3500 LOOP BEGIN INSERT INTO t VALUES (i, 'loop ' || i); EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; END $$});
cmp_ok(sql('SELECT coalesce(max(rows), 0) FROM vecsync.queue'), '<=', 1024, 'no entry of more than 1,024 rows');
ok(VecsyncNode::settle($node, 't'), 'thousands of subtransactions');
VecsyncNode::in_step($node, 't', 'body', 'in step');
SKIP:
{
	skip 'needs DEBUG_POINTS=1', 3 unless ($node->psql('postgres', 'SHOW vecsync.debug_crash'))[0] == 0;
	# it fails as it commits, with the outer level's keys in an entry of its own, as there were too many together
	sql(q{DO $$ BEGIN
		INSERT INTO t SELECT i, 'outer ' || i FROM generate_series(5001, 6000) i;
		BEGIN
			INSERT INTO t SELECT i, 'inner ' || i FROM generate_series(6001, 6100) i;
			PERFORM set_config('vecsync.debug_crash', 'capture_made_room:error', true);
		EXCEPTION WHEN internal_error THEN INSERT INTO t SELECT i, 'instead ' || i FROM generate_series(6201, 6210) i;
		END;
		INSERT INTO t VALUES (6301, 'after it');
	END $$});
	is(sql('SELECT count(*) FROM t WHERE id > 5000'), '1011', 'a subtransaction that fails as it commits');
	ok(VecsyncNode::settle($node, 't'), 'settles');
	VecsyncNode::in_step($node, 't', 'body', 'and takes no other keys along');
}

# ---- a model whose row a superuser deletes while it is asked ------------------------------------
$service->scenario(dims => 8, rules => [ { hang => 1 } ]);
my $worker = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
VecsyncNode::model($node, $service, 'fleeting', q{timeout => '1h'});
sql(q{CREATE TABLE bereft (id int PRIMARY KEY, body text); INSERT INTO bereft SELECT i, 'bereft ' || i FROM generate_series(1, 5) i;
	SELECT vecsync.create_vectorizer('bereft', model => 'fleeting', content => 'body')});
ok($service->wait_for(sub { $_[0]->{hanging} == 1 }), 'a request under way');
sql(q{DELETE FROM vecsync.model WHERE name = 'fleeting'; INSERT INTO bereft VALUES (6, 'bereft of it')});
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM vecsync.status WHERE vectorizer = 'bereft' AND pending = 6}, '1'), 'its model is deleted');
$service->scenario(dims => 8, rules => [ { when => { text => '^bereft' }, hang => 1 } ]);
sql(q{INSERT INTO t VALUES (4000, 'meanwhile')});
ok(VecsyncNode::settle($node, 't'), 'other tables\' vectorizers go on');
is(sql(q{SELECT count(embedding) FROM bereft}), '0', 'this one does not');
VecsyncNode::model($node, $service, 'fleeting', q{max_inflight => 1, max_batch => 1});
ok($service->wait_for(sub { $_[0]->{requests} == 2 }), 'but when there is a model of that name again');
$service->release;
ok($service->wait_for(sub { $_[0]->{requests} >= 3 && $_[0]->{hanging} == 1 }), 'what was asked of the first is answered, too');
sql(q{INSERT INTO t VALUES (4001, 'the worker has come round')});
ok(VecsyncNode::settle($node, 't'), 'others');
is($service->stats->{hanging}, 1, 'the second one takes no more requests at a time for it');
$service->scenario(dims => 8);
$service->release;
ok(VecsyncNode::settle($node, 'bereft'), 'its rows are embedded');
VecsyncNode::in_step($node, 'bereft', 'body', 'in step');
is(sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), $worker, 'the worker is the same');

# ---- functions that are not for everybody ---------------------------------------------------
sql(q{CREATE ROLE mallory LOGIN; SET ROLE mallory;
	CREATE TABLE mine (id int PRIMARY KEY, body text); CREATE VIEW aview AS SELECT 0 AS chunk_seq, 1 / (SELECT count(*) FROM pg_authid WHERE false) AS boom});
refused(q{SET ROLE mallory; SELECT vecsync._register_vectorizer(9999, 'x', 'mine', 'm', 'c', 'aview', 'cosine', NULL, 'aview', false)}, 'a view as a table of chunks');
refused(q{SET ROLE mallory; SELECT vecsync._register_vectorizer(9999, 'x', 'mine', 'm', 'c', 'aview', 'cosine', NULL, 't', false)}, 'another\'s table as a table of chunks');
refused(q{SET ROLE mallory; SELECT vecsync._register_vectorizer(9999, 'x', 'mine', 'm', 'c', 't', 'cosine', NULL, NULL, false)}, 'a table as a view');
refused(q{SET ROLE mallory; SELECT vecsync._forget_vectorizer('t')}, 'another\'s vectorizer');
is(sql(q{SELECT vecsync._target_column('pg_class') IS NULL AND vecsync._target_column('pg_stats') IS NULL}), 't', 'any relation for a view');
sql(q{SET ROLE mallory; CREATE TRIGGER x AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION vecsync.capture('2');
	CREATE TRIGGER y AFTER TRUNCATE ON mine FOR EACH STATEMENT EXECUTE FUNCTION vecsync.capture('2'); INSERT INTO mine VALUES (1, 'x'); TRUNCATE mine});
is(sql('SELECT count(*) FROM vecsync.queue'), '0', 'a trigger on another table queues nothing');

sql(q{SET ROLE mallory; CREATE SCHEMA bad; CREATE FUNCTION bad.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mallory was here'; END $$;
	CREATE FUNCTION bad.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mallory was here'; END $$;
	CREATE FUNCTION bad.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mallory was here'; END $$;
	CREATE FUNCTION bad.shout(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN upper($1); GRANT USAGE ON SCHEMA bad TO PUBLIC}) if sql(q{GRANT CREATE ON DATABASE postgres TO mallory; SELECT true});
sql(q{SET search_path = bad, public, pg_catalog; CREATE TABLE public.shouts (id int PRIMARY KEY, body text); INSERT INTO public.shouts VALUES (1, 'quiet');
	SELECT vecsync.create_vectorizer('shouts', 'm', '= shout(body)')});
ok(VecsyncNode::settle($node, 'shouts'), 'a caller\'s search_path is for the expression');
VecsyncNode::in_step($node, 'shouts', 'upper(body)', 'and for nothing else');
is(sql(q{CREATE DOMAIN bad.text AS pg_catalog.text; CREATE DOMAIN bad.uuid AS pg_catalog.uuid; SET search_path = bad, public, pg_catalog; SELECT count(*) FROM vecsync.verify('shouts')}), '0', 'nor for types');
is(sql(q{CREATE TABLE heard (id int PRIMARY KEY, body text, embedding vector(8)); INSERT INTO heard VALUES (1, 'x', expected_vector('X', 8)); SET search_path = bad, public, pg_catalog;
	SELECT vecsync.create_vectorizer('heard', 'm', '= shout(body)', keep_existing => true)}), 'heard', 'when vectors are kept, too');

# ---- a superuser makes a vectorizer for somebody else's table -------------------------------
sql(q{SET ROLE mallory; CREATE TABLE hers (id int PRIMARY KEY, body text); INSERT INTO hers VALUES (1, 'a b c d e f g h')});
VecsyncNode::vectorizer($node, $service, 'hers', 'body');
VecsyncNode::vectorizer($node, $service, 'hers', 'body', q{name => 'pieces', chunking => '{"method": "words", "size": 3}'});
ok(VecsyncNode::settle($node, 'hers') && VecsyncNode::settle($node, 'pieces'), 'another\'s table');
VecsyncNode::in_step($node, 'hers', 'body', 'is embedded as its owner');
is(sql('SET ROLE mallory; SELECT count(*) FROM pieces_chunks'), '3', 'and the owner sees the chunks');
sql(q{CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ASSERT current_user = 'mallory'; RETURN NEW; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON hers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION who()});
sql(q{SET ROLE mallory; UPDATE hers SET body = 'deferred triggers of hers'});
ok(VecsyncNode::settle($node, 'hers'), 'a deferred trigger');
VecsyncNode::in_step($node, 'hers', 'body', 'runs as the owner of the table');

# ---- a row that makes the service fall over ----------------------------------------------------
$service->scenario(dims => 8, rules => [ { when => { text => 'deadly' }, status => 500, message => 'I fell over' } ]);
sql(q{INSERT INTO t VALUES (9000, 'deadly'); INSERT INTO t SELECT i, 'innocent ' || i FROM generate_series(9001, 9200) i; SELECT vecsync.resync('t', force => true)});
ok(VecsyncNode::settle($node, 't', 120), 'a row that the service answers with 500');
is(sql(q{SELECT string_agg(key->>'id', ',') FROM vecsync.failed WHERE vectorizer = 't'}), '9000', 'is the only one that fails');
is(sql('SELECT count(*) FROM t WHERE embedding IS DISTINCT FROM expected_vector(body, 8)'), '1', 'all others are embedded');
sql(q{INSERT INTO hers VALUES (2, 'deadly')});
ok(VecsyncNode::settle($node, 'hers', 120), 'such a row without any other');
is(sql(q{SELECT string_agg(key->>'id', ',') FROM vecsync.failed WHERE vectorizer = 'hers'}), '2', 'is found, too');
sql(q{DELETE FROM hers WHERE id = 2});
$service->scenario(dims => 8, rules => [ { status => 500 } ]);
sql(q{INSERT INTO hers VALUES (3, 'lone in an outage')});
ok($service->wait_for(sub { $_[0]->{requests} >= 12 }, 120), 'an outage of many attempts');
is(sql(q{SELECT count(*) FROM vecsync.failed WHERE vectorizer = 'hers'}), '0', 'is no row\'s fault');
$service->scenario(dims => 8);
ok(VecsyncNode::settle($node, 'hers'), 'and ends');
VecsyncNode::in_step($node, 'hers', 'body', 'with all rows embedded');
$node->safe_psql('postgres', $_) for q{ALTER SYSTEM SET vecsync.max_attempts = 1}, q{SELECT pg_reload_conf()};
$service->scenario(dims => 8, rules => [ { status => 500 } ]);
sql(q{INSERT INTO hers VALUES (4, 'charged in company'), (5, 'alone in an outage')});
ok($service->wait_for(sub { $_[0]->{requests} >= 8 }, 120), 'an outage that meets rows at their last attempt');
is(sql(q{SELECT count(*) FROM vecsync.failed WHERE key->>'id' IN ('4', '5')}), '0', 'buries none of them');
$service->scenario(dims => 8);
ok(VecsyncNode::settle($node, 'hers'), 'and ends, too');
VecsyncNode::in_step($node, 'hers', 'body', 'with all rows embedded');
$node->safe_psql('postgres', $_) for q{ALTER SYSTEM RESET vecsync.max_attempts}, q{SELECT pg_reload_conf()};

# ---- a text that no request has room for ------------------------------------------------------------
$service->scenario(dims => 8);
sql(q{DELETE FROM t WHERE id = 9000; INSERT INTO t VALUES (9500, repeat('x', 68000000)), (9501, 'in its company')});
ok(VecsyncNode::settle($node, 't', 60), 'a text of 68 MB');
is(sql(q{SELECT key->>'id' || ' ' || error FROM vecsync.failed WHERE vectorizer = 't'}), '9500 the text is too long for a request: 68000000 bytes', 'is a dead letter, and in nobody\'s way');
sql(q{DELETE FROM t WHERE id = 9500});

# ---- a row that cannot be rendered, and one that never stays the same -----------------------------
$service->scenario(dims => 8);
sql(q{CREATE TABLE odd (id int PRIMARY KEY, n int)});
VecsyncNode::vectorizer($node, $service, 'odd', q{= 'value ' || (100 / n)});
sql(q{INSERT INTO odd SELECT i, i % 50 FROM generate_series(1, 100) i});
ok(VecsyncNode::settle($node, 'odd'), 'rows whose text cannot be made');
is(sql(q{SELECT string_agg(key->>'id', ',' ORDER BY key->>'id') FROM vecsync.failed WHERE vectorizer = 'odd' AND operation = 'read'}), '100,50', 'are dead letters');
is(sql('SELECT count(embedding) FROM odd'), '98', 'the others are embedded');
sql(q{CREATE TABLE restless (id int PRIMARY KEY)});
VecsyncNode::vectorizer($node, $service, 'restless', q{= id || ' ' || clock_timestamp()});
sql(q{INSERT INTO restless VALUES (1)});
ok(VecsyncNode::settle($node, 'restless'), 'a text that is never the same');
cmp_ok($service->stats->{requests}, '<', 40, 'is not asked for for ever');

# ---- a table that is locked while the configuration changes --------------------------------------------
my $holder = VecsyncNode::session($node);
$holder->query_safe('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE');
sql(q{SELECT vecsync.alter_model('m', '{"max_batch": 50}')});
sql(q{SET ROLE mallory; UPDATE hers SET body = 'while t is locked'});
ok(VecsyncNode::settle($node, 'hers'), 'others go on');
$holder->query_safe('ROLLBACK');
$holder->quit;
sql(q{UPDATE t SET body = 'after the lock' WHERE id < 200});
ok(VecsyncNode::settle($node, 't'), 'and it goes on after the lock');

# ---- settings of the database ----------------------------------------------------------------------------
sql(q{CREATE ROLE app; CREATE TABLE settings (id int PRIMARY KEY, body text); CREATE POLICY all_rows ON settings USING (true);
	ALTER TABLE settings OWNER TO app; ALTER TABLE settings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY});
VecsyncNode::vectorizer($node, $service, 'settings', q{= body || pg_sleep(0.4)});
sql(q{ALTER DATABASE postgres SET role = 'app'; SET ROLE NONE; ALTER DATABASE postgres SET row_security = off;
	SELECT format('ALTER DATABASE postgres SET %I = %L', name, '200ms') FROM pg_settings WHERE name = 'transaction_timeout' \gexec
	SET client_min_messages = error; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});
sql(q{SET ROLE NONE; INSERT INTO settings VALUES (1, 'for users')});
ok(VecsyncNode::poll($node, q{SET ROLE NONE; SET row_security = on; SELECT count(embedding) FROM settings}, '1', 60), 'a role, a timeout and row_security that are set for the database are not for the worker');
sql(q{SET ROLE NONE; ALTER DATABASE postgres RESET ALL});

$service->stop;
$node->stop;
done_testing();

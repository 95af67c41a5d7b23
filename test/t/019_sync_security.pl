# Who may make the server call which URL; where a key can be seen (nowhere); what names, values, templates and
# the table's own code can do (nothing but what the table's owner can do).

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my $key = 'sk-0123456789-never-to-be-seen';
my ($node, $service) = VecsyncNode::start(dims => 8, scenario => { api_key => $key }, conf => [ 'log_error_verbosity = verbose', 'log_statement = none' ]);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub as
{
	my ($role, $query) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SET ROLE $role; $query");
	return $status == 0 ? "$out$err" : "ERROR $err";
}

# Not by SET ROLE: that could be undone.
sub login
{
	my ($role, $query) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $query, extra_params => [ '-U', $role ]);
	return $status == 0 ? "$out$err" : "ERROR $err";
}

# ---- URLs -------------------------------------------------------------------------------
my $url = $service->url;
sql(q{CREATE ROLE operator; GRANT EXECUTE ON FUNCTION vecsync.create_model, vecsync.alter_model, vecsync.drop_model TO operator});
my $create = sub { return "SELECT vecsync.create_model('$_[0]', url => '$_[1]', model => 'fake', dimensions => 8" . ($_[2] || '') . ')' };
like(as('operator', $create->('o', $url)), qr/ERROR.*superusers only/s, 'a granted role may not name loopback');
for my $private ('http://localhost:1/', 'http://[::1]/', 'http://169.254.169.254/latest', 'http://10.0.0.1/', 'http://0x7f000001/', 'http://2130706433/', 'http://[::ffff:127.0.0.1]/')
{
	like(as('operator', $create->('o', $private)), qr/ERROR.*superusers only/s, "nor $private");
}
is(as('operator', $create->('public', 'https://api.example.com/')), 'public', 'but a public host');
is(sql(q{SELECT private_addresses FROM vecsync.model WHERE name = 'public'}), 'f', 'whose address is judged again at each call');
like(as('operator', $create->('o', 'https://api.example.com/', q{, secret => 'file:/etc/passwd'})), qr/ERROR.*permission denied/s, 'no file of the server as a key');
like(as('operator', q{SELECT vecsync.alter_model('public', '{"secret": "env:PATH"}')}), qr/ERROR.*permission denied/s, 'nor its environment');
like(as('operator', "SET vecsync.allowed_urls = '$url'"), qr/ERROR.*permission denied/s, 'the list is the superuser\'s');
VecsyncNode::set($node, 'vecsync.allowed_urls', "https://other.example.com/, $url");
is(as('operator', $create->('listed', $url, q{, secret => 'k'})), 'listed', 'what is listed may be named, loopback or not');
like(as('operator', $create->('o', 'https://api.example.com/')), qr/ERROR.*not covered/s, 'and then nothing else');
VecsyncNode::set($node, 'vecsync.allowed_urls', undef);
sql($create->('m', $url, q{, secret => 'k'}));
for my $change ('{"url": "https://collector.example.com/"}', '{"max_batch": 7}')
{
	like(as('operator', "SELECT vecsync.alter_model('m', '$change')"), qr/ERROR.*must be owner of model "m"/s, 'another\'s model is not led elsewhere');
}
like(as('operator', q{SELECT vecsync.drop_model('m')}), qr/ERROR.*must be owner of model "m"/s, 'nor dropped');
is(as('operator', q{SELECT vecsync.alter_model('public', '{"max_batch": 7}')}), '', 'one\'s own is changed');
like(as('operator', q{SELECT vecsync.alter_model('public', '{"url": "http://127.0.0.1:1/"}')}), qr/ERROR.*superusers only/s, 'its URL is judged by who changes it');
sql("CREATE FUNCTION boss() RETURNS text LANGUAGE sql SECURITY DEFINER AS \$\$ " . $create->('b', $url) . " \$\$");
like(as('operator', 'SELECT boss()'), qr/ERROR.*superusers only/s, 'also through a function of a superuser');

# ---- the key --------------------------------------------------------------------------------
sql("SELECT vecsync.set_secret('k', '$key')");
sql(q{CREATE ROLE owner LOGIN; CREATE ROLE watcher IN ROLE pg_monitor; GRANT CREATE ON SCHEMA public TO owner;
	SET ROLE owner; CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 20) i});
VecsyncNode::vectorizer($node, $service, 'docs', 'body');
ok(VecsyncNode::settle($node, 'docs'), 'the key is used');
$service->scenario(dims => 8, rules => [ { when => { times => 3 }, status => 401, message => "wrong key $key" }, { when => { text => 'bad' }, status => 400, message => "no $key" } ]);
like(as('owner', q{SELECT vecsync.embed('m', 'a question')}), qr/ERROR.*401/s, 'the service repeats the key to a session');
sql(q{UPDATE docs SET body = body || '!'; UPDATE docs SET body = 'bad' WHERE id = 1});
ok(VecsyncNode::settle($node, 'docs'), 'and to the worker');
is(sql(q{SELECT count(*) FROM vecsync.failed}), '1', 'and in the words kept with a failed row');
my $seen = '';
for my $view (qw(status failed operation batch stats workers vectorizer))
{
	$seen .= as($_, "SELECT * FROM vecsync.$view") for qw(owner watcher);
}
$seen .= sql('SELECT * FROM pg_stat_activity');
$seen .= as($_, "SELECT * FROM vecsync.secret; SELECT secret FROM vecsync.model; SELECT * FROM vecsync.model") for qw(owner watcher operator);
$seen .= sql('TABLE vecsync.model; TABLE vecsync.dead_letter; TABLE vecsync.operation_batch');
my ($dump) = run_command([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-U', getpwuid($<) || 'postgres', 'postgres' ]);
like($dump, qr/vecsync\.model/, 'the dump has the models');
unlike($seen, qr/\Q$key\E/, 'no view shows the key');
unlike($dump, qr/\Q$key\E/, 'nor does a dump');
unlike(slurp_file($node->logfile), qr/\Q$key\E/, 'nor the log');
unlike(join('', ($node->psql('postgres', "SELECT vecsync.set_secret($_, '$key')"))[2]), qr/DETAIL.*\Q$key\E/, "nor what is said of a name that cannot be: $_") for q{''}, 'NULL';

# ---- whose key goes where ---------------------------------------------------------------------
sql(q{GRANT EXECUTE ON FUNCTION vecsync.set_secret TO operator});
like(as('operator', $create->('thief', 'https://collector.example.com/', q{, secret => 'k'})), qr/ERROR.*permission denied to send the secret of model "thief".*set by another role/s, 'a key that a superuser has set goes to no URL of others');
like(as('operator', q{SELECT vecsync.alter_model('public', '{"secret": "k"}')}), qr/ERROR.*permission denied to send/s, 'nor by changing a model');
like(as('operator', q{SELECT vecsync.set_secret('k', 'mine now')}), qr/ERROR.*permission denied for secret "k"/s, 'nor is it replaced by others');
is(as('operator', q{SELECT vecsync.set_secret('own', 'of the operator')} . '; ' . $create->('own', 'https://api.example.com/', q{, secret => 'own'})), "\nown", 'a key of one\'s own does');
sql(q{SELECT vecsync.set_secret('shared', 'for one place', ARRAY['https://api.example.com/v1/'])});
is(as('operator', $create->('shared', 'https://api.example.com/v1/embeddings', q{, secret => 'shared'})), 'shared', 'a key that was set for a URL goes there, whoever names it');
is(as('operator', $create->('short', 'https://api.example.com/v1', q{, secret => 'shared'})), 'short', 'also when the URL is to be completed');
like(as('operator', $create->('o', 'https://api.example.com/v10', q{, secret => 'shared'})), qr/ERROR.*set for other URLs/s, 'but not to a neighbour');
like(as('operator', $create->('o', 'https://api.example.com.evil.org/v1/', q{, secret => 'shared'})), qr/ERROR.*set for other URLs/s, 'and nowhere else');
like(as('operator', q{SELECT vecsync.alter_model('shared', '{"url": "https://api.example.com/v2/"}')}), qr/ERROR.*set for other URLs/s, 'nor afterwards');
is(as('operator', $create->('early', 'https://collector.example.com/', q{, secret => 'later'})), 'early', 'a key that is not set yet');
sql(q{SELECT vecsync.set_secret('later', 'set after the model')});
like(as('operator', q{SELECT vecsync.embed('early', 'x')}), qr/ERROR.*the key of model "early" is missing.*set by another role/s, 'is not sent when somebody else sets it');

# ---- who may use a model ---------------------------------------------------------------------
$service->scenario(dims => 8);
is(as('watcher', q{SELECT vector_dims(vecsync.embed('m', 'anyone'))}), '8', 'a model is for everyone');
is(sql(q{SELECT vecsync.revoke_model('m')}), '', 'until it is revoked');
like(as('watcher', q{SELECT vecsync.embed('m', 'no one')}), qr/ERROR.*permission denied for model "m"/s, 'then it is not');
is(sql(q{SELECT vector_dims(vecsync.embed('m', 'known')) + vector_dims(vecsync.embed('m', 'known'))}), '16', 'but for its owner');
like(as('watcher', q{SELECT vecsync.embed('m', 'known')}), qr/ERROR.*permission denied for model "m"/s, 'also what all sessions keep is not for others');
like(sql(q{SET client_min_messages = error; SELECT vector_dims(vecsync.embed('m', 'known')); SET ROLE watcher;
	DO $$ BEGIN PERFORM vecsync.embed('m', 'known'); EXCEPTION WHEN insufficient_privilege THEN PERFORM set_config('test.said', 'no', false); END $$; SELECT current_setting('test.said', true)}),
	qr/^8\nno$/, 'nor what a session has kept for another role');
like(as('owner', q{SELECT vecsync.search('docs', 'no one')}), qr/ERROR.*permission denied for model "m"/s, 'nor in a search');
like(as('owner', q{SELECT vecsync.create_vectorizer('docs', 'm', 'body', name => 'other', destination => 'column:other')}), qr/ERROR.*permission denied for model "m"/s, 'nor for a vectorizer');
like(as('owner', q{SELECT vecsync.grant_model('m', 'owner')}), qr/ERROR.*must be owner of model "m"/s, 'nobody grants it to himself');
sql(q{UPDATE docs SET body = body || '?'});
ok(VecsyncNode::poll($node, q{SELECT last_error FROM vecsync.status WHERE vectorizer = 'docs'}, 'permission denied for model "m"'), 'vectorizers of others stop, and their status says why');
is(sql(q{SELECT vecsync.wait('docs', '200 ms')}), 'f', 'their changes wait');
sql(q{SELECT vecsync.grant_model('m', 'owner')});
ok(VecsyncNode::settle($node, 'docs'), 'and go on when it is granted');
VecsyncNode::in_step($node, 'docs', 'body', 'to the table\'s owner');
like(as('watcher', q{SELECT vecsync.embed('m', 'still no one')}), qr/ERROR.*permission denied for model "m"/s, 'not to others');
sql(q{SELECT vecsync.grant_model('m')});
$service->scenario(dims => 8, rules => [ { when => { path => 'embeddings' }, hang => JSON::PP::true } ]);
sql(q{UPDATE docs SET body = body || '.'});
ok($service->wait_for(sub { $_[0]{hanging} > 0 }, 60), 'a request of the worker is under way');
my $worker = sql(q{SELECT pid FROM vecsync.workers WHERE database = current_database()});
my $denied = sub { return qq{SELECT last_error = 'permission denied for model "m"' AND last_error_at > '$_[0]' FROM vecsync.status WHERE vectorizer = 'docs'} };
my $since = sql('SELECT clock_timestamp()');
sql(q{SELECT vecsync.revoke_model('m'), vecsync.revoke_model('m', 'owner')});
ok(VecsyncNode::poll($node, $denied->($since), 't', 60), 'when the right is taken');
$service->scenario(dims => 8);
$service->release;
ok($service->wait_for(sub { $_[0]{hanging} == 0 }, 60), 'it is answered');
sql(q{SELECT vecsync.grant_model('m')});
ok(VecsyncNode::settle($node, 'docs'), 'and work goes on');
VecsyncNode::in_step($node, 'docs', 'body', 'in step');
is(sql(q{SELECT pid FROM vecsync.workers WHERE database = current_database()}), $worker, 'with the same worker');
sql(q{SELECT vecsync.revoke_model('m'), vecsync.grant_model('m', 'owner')});
ok(VecsyncNode::settle($node, 'docs'), 'which one role has');
$since = sql('SELECT clock_timestamp()');
sql(q{ALTER TABLE docs OWNER TO watcher; ALTER VIEW vecsync_1_content_docs OWNER TO watcher});
sql(q{UPDATE docs SET body = body || '!'});
ok(VecsyncNode::poll($node, $denied->($since), 't', 60), 'a new owner needs the right, too');
is(sql(q{SELECT vecsync.wait('docs', '200 ms')}), 'f', 'or changes wait');
sql(q{ALTER TABLE docs OWNER TO owner; ALTER VIEW vecsync_1_content_docs OWNER TO owner});
ok(VecsyncNode::settle($node, 'docs'), 'for one who has it');
sql(q{CREATE ROLE embedders; SELECT vecsync.revoke_model('m', 'owner'), vecsync.grant_model('m', 'embedders'); GRANT embedders TO owner; UPDATE docs SET body = body || '!'});
ok(VecsyncNode::settle($node, 'docs'), 'a right that comes with a role');
$since = sql('SELECT clock_timestamp()');
sql(q{REVOKE embedders FROM owner; UPDATE docs SET body = body || '!'});
ok(VecsyncNode::poll($node, $denied->($since), 't', 60), 'goes with it, at once');
is(sql(q{SELECT vecsync.wait('docs', '200 ms')}), 'f', 'for the next change');
sql(q{GRANT embedders TO owner; UPDATE docs SET body = body || '!'});
ok(VecsyncNode::settle($node, 'docs'), 'and comes back with it');
sql(q{SELECT vecsync.grant_model('m')});

# ---- code that the server runs for others ------------------------------------------------------
sql(q{GRANT CREATE ON SCHEMA public TO operator});
like(as('operator', q{CREATE TABLE bait AS SELECT i AS a FROM generate_series(1, 10) i;
	CREATE FUNCTION hook(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF current_setting('test.sprung', true) = 'yes' THEN
		PERFORM vecsync.create_model('sly', url => 'http://127.0.0.1:1/', model => 'x', dimensions => 8, secret => 'env:PATH'); END IF; RETURN $1; END $$;
	CREATE INDEX ON bait (hook(a))}), qr/^$/, 'an index whose expression makes models');
like(join('', ($node->psql('postgres', q{SET test.sprung = 'yes'; ANALYZE bait}))[2]), qr/ERROR:  cannot change models or secrets within security-restricted operation/, 'does so in no superuser\'s name');

# ---- names, values, templates ------------------------------------------------------------------
$service->scenario(dims => 8);
sql(q{CREATE TABLE victim (); SET ROLE owner; CREATE TABLE "t"";DROP TABLE victim;--" ("i'); DROP TABLE victim; --" int PRIMARY KEY, "c{x}"" || (SELECT 1/0) || """ text);
	INSERT INTO "t"";DROP TABLE victim;--" VALUES (1, $$'); DROP TABLE victim; -- {c} {{x}} $1 \$$)});
is(as('owner', q{SELECT vecsync.create_vectorizer('"t"";DROP TABLE victim;--"', model => 'm', content => '= $q$''); DROP TABLE victim; -- %I %s$q$ || "c{x}"" || (SELECT 1/0) || """',
	name => $n$v'"; DROP TABLE victim; --$n$, destination => 'column:e"; DROP TABLE victim; --')}), q{v'"; DROP TABLE victim; --}, 'hostile names and texts');
ok(VecsyncNode::settle($node, q{v''"; DROP TABLE victim; --}), 'are worked with');
VecsyncNode::in_step($node, '"t"";DROP TABLE victim;--"', q{$q$'); DROP TABLE victim; -- %I %s$q$ || "c{x}"" || (SELECT 1/0) || """}, 'as they are', column => '"e""; DROP TABLE victim; --"');
like(as('owner', q{SELECT vecsync.search($n$v'"; DROP TABLE victim; --$n$, $q$'); DROP TABLE victim; --$q$)}), qr/^\("\{/, 'and searched');
is(sql(q{SELECT count(*) FROM pg_class WHERE relname = 'victim'}), '1', 'nothing else ran');

# ---- the table's own code -------------------------------------------------------------------------
sql(q{CREATE ROLE mallory LOGIN; CREATE SCHEMA mallory AUTHORIZATION mallory; GRANT USAGE ON SCHEMA mallory TO PUBLIC;
	ALTER DATABASE postgres SET search_path = mallory, public;
	CREATE TABLE mallory.witness (what text, who text, result text); GRANT ALL ON mallory.witness TO PUBLIC});
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'});    # the new search_path
is(login('mallory', <<'SQL'), 'trap', 'a table full of code');
SET search_path = mallory, public;
CREATE FUNCTION mallory.attempt(what text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE r text := '';
BEGIN
	BEGIN SET ROLE postgres; r := r || 'role '; EXCEPTION WHEN OTHERS THEN END;
	BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN END;
	BEGIN PERFORM pg_read_file('PG_VERSION'); r := r || 'file '; EXCEPTION WHEN OTHERS THEN END;
	BEGIN PERFORM 1 FROM vecsync.secret; r := r || 'secret '; EXCEPTION WHEN OTHERS THEN END;
	INSERT INTO mallory.witness VALUES (what, current_user, r);
END $$;
CREATE FUNCTION mallory.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.attempt(TG_NAME); PERFORM set_config('application_name', 'mallory ' || TG_NAME, false); RETURN NEW; END $$;
CREATE FUNCTION mallory.render(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.attempt('content'); RETURN $1; END $$;
CREATE FUNCTION mallory.same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.attempt('operator'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR mallory.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mallory.same);
CREATE TABLE mallory.queue (seq bigint); CREATE TABLE mallory.trap (id text PRIMARY KEY, body text);
ALTER TABLE mallory.trap ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON mallory.trap USING (mallory.render('p') IS NOT NULL);
CREATE TRIGGER before_row BEFORE UPDATE ON mallory.trap FOR EACH ROW EXECUTE FUNCTION mallory.fire();
CREATE TRIGGER after_row AFTER UPDATE ON mallory.trap FOR EACH ROW EXECUTE FUNCTION mallory.fire();
CREATE CONSTRAINT TRIGGER deferred_row AFTER UPDATE ON mallory.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.fire();
INSERT INTO mallory.trap SELECT i::text, 'body' FROM generate_series(1, 5) i;
TRUNCATE mallory.witness;
SELECT vecsync.create_vectorizer('mallory.trap', model => 'm', content => '= mallory.render(body)');
SQL
is(login('mallory', <<'SQL'), '', 'and functions that stand in the way of the worker\'s');
SET search_path = mallory, public;
CREATE FUNCTION mallory.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.attempt('unnest'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
CREATE FUNCTION mallory.defer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END $$;
CREATE TRIGGER defers AFTER UPDATE ON mallory.trap FOR EACH ROW EXECUTE FUNCTION mallory.defer();
UPDATE mallory.trap SET body = body || '!';
SQL
ok(VecsyncNode::settle($node, 'trap'), 'is worked off');
is(sql('SELECT count(embedding) FROM mallory.trap'), '5', 'row security that is forced does not stop the worker, its policy holds for it');
is(sql(q{SELECT string_agg(DISTINCT who, ',') FROM mallory.witness}), 'mallory', 'all code of the table ran as its owner');
is(sql(q{SELECT string_agg(DISTINCT result, ',') FROM mallory.witness WHERE result <> ''}), '', 'and could do nothing more');
is(sql(q{SELECT string_agg(DISTINCT what, ',' ORDER BY what) FROM mallory.witness WHERE what LIKE '%row'}), 'after_row,before_row,deferred_row', 'all triggers fired');
unlike(sql(q{SELECT application_name FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), qr/mallory/, 'and no setting of theirs stays with the worker');

# ---- code that would have the worker end ---------------------------------------------------------------
my $same = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'};
my $process = sql($same);
is(login('mallory', <<'SQL'), '', 'a trigger that is deferred until the commit');
SET client_min_messages = warning;
CREATE TABLE mallory.bomb (id int PRIMARY KEY, body text); CREATE TABLE mallory.fuse (id int);
CREATE FUNCTION mallory.light() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO mallory.fuse VALUES (1); RETURN NEW; END $$;
CREATE FUNCTION mallory.burn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'bang, as %', current_user; END $$;
CREATE CONSTRAINT TRIGGER light AFTER UPDATE ON mallory.bomb DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.light();
CREATE CONSTRAINT TRIGGER burn AFTER INSERT ON mallory.fuse DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.burn();
INSERT INTO mallory.bomb VALUES (1, 'boom');
DO $$ BEGIN PERFORM vecsync.create_vectorizer('mallory.bomb', model => 'm', content => 'body'); END $$;
SQL
ok(VecsyncNode::settle($node, 'bomb'), 'does not wait for it');
is(sql(q{SELECT operation || ' ' || error FROM vecsync.failed WHERE vectorizer = 'bomb'}), 'write cannot fire deferred trigger within security-restricted operation', 'and its error is the row\'s');
is(login('mallory', <<'SQL'), '', 'errors of a canceled query and of a shutdown');
SET client_min_messages = warning;
CREATE FUNCTION mallory.raise(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
	IF $1 = 'sleep' THEN PERFORM pg_sleep(36000); END IF;
	RAISE EXCEPTION 'as if %', $1 USING ERRCODE = $1;
END $$;
CREATE TABLE mallory.cancels (id int PRIMARY KEY, state text); INSERT INTO mallory.cancels VALUES (1, '57014');
DO $$ BEGIN PERFORM vecsync.create_vectorizer('mallory.cancels', model => 'm', content => '= mallory.raise(state)'); END $$;
SQL
for my $state (qw(57014 57P01))
{
	sql("UPDATE mallory.cancels SET state = '$state'");
	ok(VecsyncNode::poll($node, q{SELECT last_error FROM vecsync.status WHERE vectorizer = 'cancels'}, "as if $state"), "$state: an error of its table");
}
sql(q{UPDATE mallory.cancels SET state = 'sleep'});
ok(VecsyncNode::poll($node, "$same AND wait_event = 'PgSleep'", $process), 'code that does not return');
sql(q{UPDATE mallory.cancels SET state = '57014'});
sql("SELECT pg_cancel_backend($process)");
ok(VecsyncNode::poll($node, q{SELECT last_error FROM vecsync.status WHERE vectorizer = 'cancels'}, 'as if 57014'), 'can be canceled, and is tried again');
sql(q{SELECT vecsync.drop_vectorizer('cancels')});
is(sql($same), $process, 'the worker is the same');

sql(q{TRUNCATE mallory.witness; SELECT count(*) FROM vecsync.verify('trap', repair => true)});
ok(VecsyncNode::settle($node, 'trap'), 'verify by a superuser');
ok(sql(q{SELECT count(*) FROM mallory.witness WHERE what = 'content'}) >= 5, 'makes the texts');
is(sql(q{SELECT string_agg(DISTINCT who || result, ',') FROM mallory.witness}), 'mallory', 'as the owner');

is(login('mallory', <<'SQL'), '', 'new types of a key');
SET client_min_messages = warning;
CREATE FUNCTION mallory.sly(bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.attempt('domain'); RETURN true; END $$;
CREATE DOMAIN mallory.sly_key AS bigint CHECK (mallory.sly(VALUE));
CREATE TYPE mallory.sly_pair AS (a mallory.sly_key);
CREATE TABLE mallory.retyped (id int PRIMARY KEY, body text);
INSERT INTO mallory.retyped VALUES (1, 'one two three');
DO $$ BEGIN PERFORM vecsync.create_vectorizer('mallory.retyped', 'm', $q$= body || ('(5)'::mallory.sly_pair)::text$q$, chunking => '{"method": "words", "size": 2}'); END $$;
SQL
ok(VecsyncNode::settle($node, 'retyped'), 'whose chunks are there');
is(login('mallory', 'TRUNCATE mallory.witness; ALTER TABLE mallory.retyped ALTER id TYPE mallory.sly_key'), '', 'are taken over');
ok(sql(q{SELECT count(*) FROM mallory.witness WHERE what = 'domain'}) >= 4, 'in the table, the chunks and the views');
is(sql(q{SELECT string_agg(DISTINCT who || result, ',') FROM mallory.witness}), 'mallory', 'as the owner');

# ---- views that are not what they were made as -----------------------------------------------------
is(login('mallory', <<'SQL'), '', 'odd views');
SET client_min_messages = warning;
CREATE VIEW mallory.nothing AS SELECT;
CREATE VIEW mallory.constant AS SELECT 1 AS content, 2 AS namespace;
CREATE VIEW mallory.joined AS SELECT a.id AS content, b.id AS namespace FROM mallory.trap a JOIN mallory.trap b USING (id) ORDER BY a.body;
CREATE VIEW mallory.ordered AS SELECT id AS other FROM mallory.trap ORDER BY body;
SQL
for my $relation ('pg_class', 'mallory.trap_pkey', 'mallory.nothing', 'mallory.constant', 'mallory.joined', 'mallory.ordered')
{
	like(login('mallory', "SELECT vecsync._content_expression('$relation')"), qr/ERROR.* is (no view of a vectorizer|an index)/, "are no content: $relation");
	login('mallory', "SELECT vecsync._view_column('$relation', 'namespace'), vecsync._target_column('$relation')");
	login('mallory', "SELECT vecsync._set_search(id, '$relation', NULL) FROM vecsync.vectorizer WHERE name = 'trap'");
	unlike(login('mallory', q{SELECT count(*) FROM vecsync.search('trap', 'body')}), qr/server closed|terminated/, 'and harm no search');
}
is(sql('SELECT 1'), '1', 'nor the server');

# ---- a name that becomes another's within a command ----------------------------------------------------
sql(q{GRANT CREATE ON DATABASE postgres TO mallory});
is(login('mallory', <<'SQL'), '', 'an index whose expression renames schemas');
SET client_min_messages = warning;
CREATE SCHEMA shown; CREATE SCHEMA hidden; TRUNCATE mallory.witness;
CREATE FUNCTION mallory.swap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	IF to_regnamespace('hidden') IS NOT NULL THEN ALTER SCHEMA shown RENAME TO put_away; ALTER SCHEMA hidden RENAME TO shown; END IF; END $$;
CREATE FUNCTION mallory.quiet(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.swap(); RETURN $1; END $$;
CREATE FUNCTION mallory.loud() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.attempt('view'); RETURN 1; END $$;
CREATE TABLE mallory.parted (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
CREATE INDEX ON mallory.parted (mallory.quiet(body));
DO $$ BEGIN PERFORM vecsync.create_vectorizer('mallory.parted', 'm', 'body'); END $$;
CREATE TABLE shown.part (id int PRIMARY KEY, body text, embedding vector(8));
INSERT INTO shown.part VALUES (1, 'a row');
CREATE VIEW hidden.part AS SELECT mallory.loud() AS id;
SQL
like(login('mallory', 'ALTER TABLE mallory.parted ATTACH PARTITION shown.part FOR VALUES FROM (0) TO (9)'), qr/ERROR.*was renamed while it was attached/, 'while a partition is attached');
is(sql('SELECT count(*) FROM mallory.witness'), '0', 'has no view of that name read in its place');
is(login('mallory', q{CREATE TABLE mallory.honest (body text, id int PRIMARY KEY, embedding vector(8)); INSERT INTO mallory.honest SELECT 'row ' || i, i FROM generate_series(1, 1500) i;
	ALTER TABLE mallory.parted ATTACH PARTITION mallory.honest FOR VALUES FROM (0) TO (9999)}), '', 'another partition');
ok(VecsyncNode::settle($node, 'parted'), 'is worked off');
VecsyncNode::in_step($node, 'mallory.parted', 'body', 'with all its rows');

# ---- another's view that is called like one of ours ------------------------------------------------------
is(login('mallory', <<'SQL'), '', 'chunks go where another\'s view has the name of theirs');
SET client_min_messages = warning;
CREATE TABLE mallory.pieces (id int PRIMARY KEY, body text, x int);
DO $$ BEGIN PERFORM vecsync.create_vectorizer('mallory.pieces', 'm', 'body', name => 'pay', chunking => '{"size": 3}', index => '{"method": "none"}'); END $$;
SQL
sql(q{GRANT CREATE ON SCHEMA public TO mallory; SET ROLE owner; CREATE VIEW public.pay_chunks AS SELECT 'mine' AS whose});
my $chunks = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'pay'});
is(login('mallory', "DROP VIEW mallory.pay_chunks; ALTER TABLE $chunks SET SCHEMA public; ALTER TABLE mallory.pieces DROP COLUMN x; ALTER TABLE mallory.pieces ALTER id TYPE bigint"), '', 'commands on the table');
is(sql('SELECT whose FROM public.pay_chunks'), 'mine', 'leave that view alone');
sql('ALTER TABLE mallory.pieces OWNER TO watcher; GRANT CREATE ON SCHEMA mallory TO watcher');
is(sql(q{SELECT relowner::regrole FROM pg_class WHERE oid = 'public.pay_chunks'::regclass}), 'owner', 'also when a superuser gives the table away');
sql(q{SELECT vecsync.drop_vectorizer('pay', keep_data => false)});
is(sql('SELECT whose FROM public.pay_chunks'), 'mine', 'or drops the vectorizer');

# ---- what anyone may write into the catalog -----------------------------------------------------------------
is(login('mallory', q{CREATE VIEW mallory.shows AS SELECT id AS k1, body AS content, embedding AS vector FROM mallory.trap}), '', 'a view like those of vectorizers');
my $register = sub { return login('mallory', "SELECT vecsync._register_vectorizer($_[0], 'odd', 'mallory.trap', 'm', 'body', 'mallory.shows', 'cosine', $_[1], NULL, false)") };
like($register->('vecsync._reserve_vectorizer(\'mallory.trap\')', q{'{"size": "x"}'}), qr/ERROR.*"size" of chunking must be a number/, 'no chunking that nobody can read');
like($register->('vecsync._reserve_vectorizer(\'mallory.trap\')', q{'[]'}), qr/ERROR.*must be a JSON object/, 'of whatever form');
like($register->($_, 'NULL'), qr/ERROR.*has not been reserved/, "nor a number that is not one's own: $_") for -1, 1, 2147483647, sql('SELECT last_value + 1 FROM vecsync.vectorizer_id_seq');
like(login('mallory', "SELECT vecsync._reserve_vectorizer('mallory.trap') AS mine \\gset\nSELECT vecsync._register_vectorizer(:mine, 'odd', 'mallory.trap', 'm', 'body', 'mallory.shows', 'cosine', NULL, NULL, false)"),
	qr/ERROR.*has not been reserved/, 'nor one of an earlier transaction');
cmp_ok(sql('SELECT count(*) FROM vecsync.status'), '>', 3, 'the status is there for all');

$service->stop;
$node->stop;
done_testing();

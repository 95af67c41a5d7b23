# Bad input and bad answers: each its own clear error, and nothing stored.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The statement fails with this SQLSTATE and message.
sub fails
{
	my ($sql, $state, $message, $what) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	like($err, qr/ERROR:  $state: .*$message/s, $what || $message);
	return $err;
}

sub last_error
{
	my ($pattern, $what) = @_;
	return ok(VecsyncNode::poll($node, "SELECT last_error ~ '$pattern' FROM vecsync.status WHERE vectorizer = 't'", 't'), $what);
}

sql(q{CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three');
	CREATE TABLE nokey (id int, body text); CREATE VIEW aview AS SELECT * FROM t; CREATE ROLE someone LOGIN});
VecsyncNode::model($node, $service);

# ---- definitions --------------------------------------------------------------------
fails(q{SELECT vecsync.create_vectorizer('t', 'm', '{nobody}')}, '42703', 'column "nobody" of table "t" does not exist');
fails(q{SELECT vecsync.create_vectorizer('t', 'm', 'nobody')}, '42703', 'column "nobody" of table "t" does not exist', 'unknown single column');
fails(q{SELECT vecsync.create_vectorizer('t', 'm', '= nobody || body')}, '42703', 'column "nobody" does not exist', 'unknown column in an expression');
fails(q{SELECT vecsync.create_vectorizer('t', 'm', '= body), (SELECT 1')}, '42601', 'content is not one SQL expression');
fails(q[SELECT vecsync.create_vectorizer('t', 'm', '{body')], '22023', 'unmatched "\{" in content at character 1');
fails(q[SELECT vecsync.create_vectorizer('t', 'm', 'body}')], '22023', 'unmatched "\}" in content at character 5');
fails(q{SELECT vecsync.create_vectorizer('t', 'm', 'plain {{}}')}, '22023', 'content uses no column of table "t"');
fails(q{SELECT vecsync.create_vectorizer('nokey', 'm', '{body}')}, '55000', 'table "nokey" has no primary key');
fails(q{SELECT vecsync.create_vectorizer('aview', 'm', '{body}')}, '42809', '"aview" is not a table');
fails(q{CREATE TEMP TABLE tt (id int PRIMARY KEY, body text); SELECT vecsync.create_vectorizer('tt', 'm', '{body}')}, '0A000', '"tt" is a temporary table');
fails(q{SELECT vecsync.create_vectorizer('t', 'nomodel', '{body}')}, '42704', 'model "nomodel" does not exist');
fails(q{SELECT vecsync.create_vectorizer('t', 'm', '{body}', metric => 'x')}, '22023', 'unknown metric "x"');
fails(q{SELECT vecsync.create_vectorizer('t', 'm', '{body}', destination => 'x')}, '22023', 'invalid destination "x"');
fails(q{SELECT vecsync.create_vectorizer('t', 'm', '{body}', destination => 'column:body')}, '22023', 'column "body" cannot be both content and destination');
fails(q{ALTER TABLE t ADD COLUMN other vector(3); SELECT vecsync.create_vectorizer('t', 'm', '{body}', destination => 'column:other')}, '42804', 'has type public.vector\(3\), but the model\'s vectors have 8 dimensions');
fails(q{SET ROLE someone; SELECT vecsync.create_vectorizer('t', 'm', '{body}')}, '42501', 'must be owner of table t');
fails(q{SET ROLE someone; SELECT vecsync.create_model('x', 'http://127.0.0.1/', 'x')}, '42501', 'permission denied for function create_model');
fails(q{SET ROLE someone; SELECT * FROM vecsync.secret}, '42501', 'permission denied for table secret');
is(sql(q{SELECT count(*) FROM vecsync.vectorizer}) . sql(q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecsync%'}), '00', 'nothing is left of the refused ones');
sql(q{ALTER TABLE t DROP COLUMN IF EXISTS other});

# ---- models ------------------------------------------------------------------------
my $url = $service->url;
fails(q{SELECT vecsync.create_model('x', 'http://127.0.0.1:1/v1/embeddings', 'x')}, '08\w{3}', 'model "x" gave no vector', 'unreachable service');
fails(q{SELECT vecsync.create_model('x', 'ftp://127.0.0.1/', 'x')}, '22023', 'invalid URL of a model');
fails(q{SELECT vecsync.create_model('x', 'http://user:pw@127.0.0.1/', 'x')}, '22023', 'invalid URL of a model', 'credentials in the URL');
fails(qq{SELECT vecsync.create_model('x', '$url', 'x', provider => 'nobody')}, '22023', 'unknown provider "nobody"');
fails(qq{SELECT vecsync.create_model('m', '$url', 'x')}, '42710', 'model "m" already exists');
fails(qq{SELECT vecsync.create_model('x', '$url', 'x', secret => 'nosuch')}, '28000', 'the key of model "x" is missing');
fails(q{SELECT vecsync.alter_model('m', '{"nobody": 1}')}, '22023', 'unknown option "nobody"');
fails(q{SELECT vecsync.alter_model('m', '{"dimensions": 1}')}, '22023', 'the dimensions of a model cannot be changed');
fails(qq{SELECT vecsync.create_model('x', '$url', 'x', document_parameters => '{"prefix": 1}')}, '22023', '"prefix" in document_parameters must be a string', 'a prefix that is no string');
fails(q{SELECT vecsync.alter_model('m', '{"query_parameters": {"prefix": null}}')}, '22023', '"prefix" in query_parameters must be a string', 'nor by a change');
fails(q{SELECT vecsync.alter_model('m', '{"parameters": {"headers": {"X-A": 1}}}')}, '22023', 'invalid HTTP header "X-A"', 'a header that is no string');
fails(qq{SELECT vecsync.create_model('x', '$url', 'x', kind => 'rerank', parameters => '{"headers": {"Host": "a"}}')}, '22023', 'invalid HTTP header "Host"', 'a header of the protocol');
fails(q{SELECT vecsync.drop_model('nobody')}, '42704', 'model "nobody" does not exist');
is(sql(q{SELECT count(*) FROM vecsync.model}), '1', 'no refused model is stored');

# ---- secrets ------------------------------------------------------------------------
$service->scenario(dims => 8, api_key => 'sEcReT-123');
my $err = fails(qq{SELECT vecsync.create_model('locked', '$url', 'x')}, '08\w{3}', 'model "locked" gave no vector.*401', '401 without a key');
sql(q{SELECT vecsync.set_secret('key', 'sEcReT-123'); SELECT vecsync.set_secret('wrong', 'sEcReT-999')});
fails(qq{SELECT vecsync.create_model('locked', '$url', 'x', secret => 'wrong')}, '08\w{3}', '401', '401 with a wrong key');
sql(qq{SELECT vecsync.create_model('locked', '$url', 'x', secret => 'key')});
is(sql(q{SELECT dimensions FROM vecsync.model WHERE name = 'locked'}), '8', 'dimensions are asked from the service');
PostgreSQL::Test::Utils::append_to_file($node->basedir . '/key', "sEcReT-123\n");
sql(qq{SELECT vecsync.create_model('filekey', '$url', 'x', secret => 'file:} . $node->basedir . q{/key')});
is(sql(q{SELECT vector_dims(vecsync.embed('filekey', 'hello'))}), '8', 'a key from a file');
fails(qq{SELECT vecsync.create_model('envkey', '$url', 'x', secret => 'env:NOSUCHVARIABLE')}, '28000', q{the server's environment has no variable}, 'a missing variable');
unlike(sql(q{SELECT * FROM vecsync.model}) . sql(q{SELECT * FROM vecsync.status}), qr/sEcReT/, 'views do not show the key');
my ($stdout, $stderr) = run_command([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-d', 'postgres' ]);
unlike($stdout, qr/sEcReT/, 'nor does a dump');
like($stdout, qr/locked/, 'which has the models');
sql(q{SELECT vecsync.drop_model('locked'); SELECT vecsync.drop_model('filekey')});

# ---- answers ---------------------------------------------------------------------------
my %answers = (
	dims => [ { dims => 5 }, '5 dimensions, not 8' ],
	null => [ { answer => 'null' }, 'a number expected' ],
	nan => [ { answer => 'nan' }, 'not valid JSON' ],
	few => [ { answer => 'few' }, 'vectors for . input' ],
	unauthorized => [ { status => 401, message => 'who are you' }, 'who are you' ],
	garbage => [ { body => 'garbage' }, 'not valid JSON' ]);

sql(q{SELECT vecsync.create_vectorizer('t', 'm', 'body', enqueue_existing => false)});
for my $name (sort keys %answers)
{
	my ($rule, $pattern) = @{ $answers{$name} };
	$service->scenario(dims => 8, base64 => 'never', rules => [ { when => {}, %$rule } ]);
	sql(q{UPDATE t SET embedding = NULL; UPDATE t SET body = body || '.'});
	last_error($pattern, "$name: the error is in the status");
	is(sql('SELECT count(embedding) FROM t'), '0', "$name: nothing is stored");
	cmp_ok(sql(q{SELECT pending FROM vecsync.status WHERE vectorizer = 't'}), '>', 0, "$name: nothing is lost");
	$service->scenario(dims => 8);
	sql(q{SELECT vecsync.alter_model('m', '{}')});    # a reason to try at once
	ok(VecsyncNode::settle($node, 't'), "$name: mended");
	VecsyncNode::in_step($node, 't', 'body', "$name: in step again");
}

$service->scenario(dims => 8, rules => [ { when => {}, answer => 'shuffled' } ]);
sql(q{INSERT INTO t SELECT i, 'row ' || i FROM generate_series(10, 99) i});
ok(VecsyncNode::settle($node, 't'), 'permuted answers');
VecsyncNode::in_step($node, 't', 'body', 'are assigned by index');

# ---- one poison row ---------------------------------------------------------------------
$service->scenario(dims => 8, rules => [ { when => { text => 'poison' }, status => 400, message => 'that text is not allowed' } ]);
sql(q{INSERT INTO t SELECT i, CASE WHEN i = 577 THEN 'poison' ELSE 'good ' || i END FROM generate_series(501, 628) i});
ok(VecsyncNode::settle($node, 't'), 'a poison row does not hold up the others');
cmp_ok($service->stats->{requests}, '<=', 15, 'it is found in 2 log n + 1 requests');
is(sql(q{SELECT key, operation, error ~ 'that text is not allowed' FROM vecsync.failed}), '{"id": 577}|embed|t', 'it is in vecsync.failed with the words of the service');
is(sql(q{SELECT count(*) FROM t WHERE embedding IS NULL}), '1', 'the others are embedded');
is(sql(q{SELECT failed FROM vecsync.status WHERE vectorizer = 't'}), '1', 'status counts it');
$service->scenario(dims => 8);
is(sql(q{SELECT vecsync.resync('t', failed_only => true)}), '1', 'resync of what failed');
ok(VecsyncNode::settle($node, 't'), 'after the service was mended');
VecsyncNode::in_step($node, 't', 'body', 'it is embedded');
is(sql(q{SELECT count(*) FROM vecsync.failed}), '0', 'and no failure any more');

# ---- a row that cannot be written ------------------------------------------------------------
sql(q{CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this row'; END $$;
	CREATE TRIGGER no BEFORE UPDATE OF embedding ON t FOR EACH ROW WHEN (NEW.id = 15) EXECUTE FUNCTION no()});
sql(q{UPDATE t SET body = 'again ' || id});
ok(VecsyncNode::settle($node, 't'), 'a row that the table refuses');
is(sql(q{SELECT key, operation, error FROM vecsync.failed}), '{"id": 15}|write|not this row', 'is alone in failing');
# a name that is not there may be one of ours that has just changed; not for ever
sql(q{CREATE OR REPLACE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM * FROM nowhere; RETURN NEW; END $$;
	CREATE FUNCTION text_of(id int, body text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN IF id = 16 THEN PERFORM nothing(1); END IF; RETURN body; END $$;
	CREATE TABLE named (id int PRIMARY KEY, body text); INSERT INTO named SELECT i, 'named ' || i FROM generate_series(1, 40) i});
VecsyncNode::vectorizer($node, $service, 'named', '= text_of(id, body)');
sql(q{UPDATE t SET body = 'and again ' || id});
ok(VecsyncNode::settle($node, 't') && VecsyncNode::settle($node, 'named'), 'rows whose own code names what is not there');
is(sql(q{SELECT vectorizer, key, operation, error FROM vecsync.failed ORDER BY 1}),
	qq{named|{"id": 16}|read|function nothing(integer) does not exist\nt|{"id": 15}|write|relation "nowhere" does not exist}, 'are alone in failing, too');
sql(q{DROP TABLE named CASCADE; UPDATE t SET body = 'again ' || id WHERE id <> 15});
ok(VecsyncNode::settle($node, 't'), 'the others go on');

# ---- types -----------------------------------------------------------------------------------
fails(q{INSERT INTO t VALUES (9001, 'x', '[1,2,3]')}, '22000', 'expected 8 dimensions, not 3');
fails(q{INSERT INTO t VALUES (9001, 'x', '[1,2,3,4,5,6,7,NaN]')}, '22000', 'NaN not allowed in vector');
fails(q{INSERT INTO t VALUES (9001, 'x', '[1,2,3,4,5,6,7,infinity]')}, '22000', 'infinite value not allowed in vector');

# ---- questions ----------------------------------------------------------------------------------
fails(q{SELECT * FROM vecsync.search('nobody', 'x')}, '42704', 'vectorizer "nobody" does not exist');
fails(q{SELECT * FROM vecsync.search('t')}, '22023', 'query');
fails(q{SELECT * FROM vecsync.search('t', 'x', top_k => 0)}, '22023', 'top_k must be between 1 and 10000');
fails(q{SELECT vecsync.embed('nobody', 'x')}, '42704', 'model "nobody" does not exist');
fails(q{SELECT vecsync.embed('m', 'x', 'nothing')}, '22023', 'unknown purpose "nothing"');
is(sql(q{SELECT vecsync.embed('m', ARRAY['a', NULL, 'b'])::text = ARRAY[expected_vector('a', 8), NULL, expected_vector('b', 8)]::text}), 't', 'the array form keeps order and NULLs');
is(sql(q{SELECT key->>'id' FROM vecsync.search('t', 'again 33', top_k => 1)}), '33', 'search finds a text by itself');
is(sql(q{SELECT round(score::numeric, 6) FROM vecsync.search('t', 'again 33', top_k => 1)}), '1.000000', 'with score 1');
is(sql(q{SELECT count(*) FROM vecsync.search('t', 'again 33', top_k => 50, min_score => 0.999)}), '1', 'min_score');
is(sql(q{SELECT t.id FROM t ORDER BY embedding <=> vecsync.embed('m', 'again 44') LIMIT 1}), '44', 'the plain way');
$service->scenario(dims => 8);
sql(q{SELECT t.id FROM t ORDER BY embedding <=> vecsync.embed('m', 'asked once') LIMIT 1});
is($service->stats->{requests}, 1, 'asks once, not for every row');
fails(q{BEGIN; INSERT INTO t VALUES (9002, 'x'); SELECT vecsync.wait('t')}, '55000', 'cannot wait for changes of the current transaction');

$service->stop;
$node->stop;
done_testing();

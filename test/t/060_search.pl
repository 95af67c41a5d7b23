# vecsync.search: every argument, against plain SQL over the same vectors; rights; plans that stay true to a changing catalog.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, conf => [ "timezone = 'UTC'", "vecsync.query_timeout = '1min'" ]);
sub sql { return $node->safe_psql('postgres', join('; ', @_)) }
sub fails { return VecsyncNode::fails($node, @_) }

sql(q{CREATE TABLE docs (id int PRIMARY KEY, title text, grp int, tags text[], doc jsonb, secret text);
	INSERT INTO docs SELECT i, 'title ' || i % 700, i % 10, ARRAY['t' || i % 3], jsonb_build_object('n', i % 4), 's' FROM generate_series(1, 1500) i;
	CREATE INDEX docs_grp ON docs (grp)});
VecsyncNode::vectorizer($node, $service, 'docs', 'title');
ok(VecsyncNode::settle($node, 'docs'), 'embedded');

# ---- the same rows as plain SQL, ties by key -------------------------------------------
sub agree
{
	my ($arguments, $where, $limit, $what, $vector) = @_;
	$vector ||= "vecsync.embed('m', 'title 7')";
	is(sql(<<SQL), '', $what);
WITH found AS (SELECT row_number() OVER () AS n, key, score FROM vecsync.search('docs', $arguments)),
     wanted AS (SELECT row_number() OVER () AS n, jsonb_build_object('id', id) AS key, 1 - d AS score FROM
                (SELECT id, embedding <=> $vector AS d FROM docs WHERE embedding IS NOT NULL AND $where ORDER BY 2, 1 LIMIT $limit) x)
SELECT * FROM found FULL JOIN wanted USING (n) WHERE found.key IS DISTINCT FROM wanted.key OR found.score IS DISTINCT FROM wanted.score LIMIT 3
SQL
	return;
}
agree("'title 7'", 'true', 10, 'the default: ten rows');
agree("'title 7', top_k => 1500", 'true', 1500, 'all rows in full');
agree("'title 7', top_k => 10000", 'true', 10000, 'top_k beyond the table');
agree("query_vector => vecsync.embed('m', 'other'), top_k => 5", 'true', 5, 'by vector', "vecsync.embed('m', 'other')");
agree("'title 7', top_k => 40, filter => '{\"grp\": 3}'", 'grp = 3', 40, 'with a filter');
agree("'title 7', top_k => 40, filter => '{\"doc.n\": {\"\$ne\": 2}, \"tags\": {\"\$in\": [\"t1\"]}}'", q{doc->>'n' <> '2' AND 't1' = ANY (tags)}, 40, 'with a nested filter');
agree("'title 7', top_k => 1500, min_score => 0.2", "1 - (embedding <=> vecsync.embed('m', 'title 7')) >= 0.2", 1500, 'min_score');
agree("'title 7', top_k => 20, exclude => '{7,\"{\\\"id\\\": 707}\"}'", 'id NOT IN (7, 707)', 20, 'exclude');
agree("'title 7', top_k => 20, exclude => (SELECT array_agg(to_jsonb(i)) FROM generate_series(7, 3000, 5) i)", 'id % 5 <> 2 OR id < 7', 20, 'exclude many');
agree("query_key => '7', top_k => 20", 'id <> 7', 20, 'by key: the row itself is left out', "(SELECT embedding FROM docs WHERE id = 7)");
agree("'title 7', top_k => 5, filter => '{\"grp\": 99}'", 'false', 5, 'nothing matches: no rows, no error');
is(sql(q{SELECT score FROM vecsync.search('docs', 'title 7', top_k => 1)}), '1', 'identical is 1');
is(sql(q{SELECT count(*) FROM (SELECT key FROM vecsync.search('docs', 'x', top_k => 30) OFFSET 20) a
	JOIN (SELECT key FROM vecsync.search('docs', 'x', top_k => 60) OFFSET 20 LIMIT 10) b USING (key)}), '10', 'pages do not shift');
is(sql(q{SELECT jsonb_object_keys(metadata) FROM vecsync.search('docs', 'x', top_k => 1, return_metadata => 'all') ORDER BY 1}),
	"doc\ngrp\nid\nsecret\ntags\ntitle", 'all metadata');
is(sql(q{SELECT jsonb_object_keys(metadata) FROM vecsync.search('docs', 'x', top_k => 1, return_metadata => 'indexed') ORDER BY 1}),
	"grp\nid", 'indexed metadata');
is(sql(q{SELECT metadata IS NULL, "values" IS NULL, snippet IS NULL FROM vecsync.search('docs', 'x', top_k => 1)}), 't|t|t', 'none unless asked');
is(sql(q{SELECT "values" = embedding, snippet FROM vecsync.search('docs', 'title 7', top_k => 1, return_values => true, snippet_length => 5) s
	JOIN docs ON id = (key->>'id')::int}), 't|title...', 'values and snippet');

sql(q{CREATE TABLE letters (m int PRIMARY KEY, r text, s text, c text, d text, body text); INSERT INTO letters VALUES (1, 'r', 's', 'c', 'd', 'body 1')});
VecsyncNode::vectorizer($node, $service, 'letters', 'body');
ok(VecsyncNode::settle($node, 'letters'), 'embedded');
is(sql(q{SELECT key, metadata FROM vecsync.search('letters', 'body 1', return_metadata => 'all')}),
	'{"m": 1}|{"c": "c", "d": "d", "m": 1, "r": "r", "s": "s", "body": "body 1"}', 'columns called as the statement calls its parts');

is(sql(q{SELECT count(*) FROM vecsync.search('docs', 'x', filter => jsonb_build_object('id', jsonb_build_object('$in', (SELECT jsonb_agg(i) FROM generate_series(1, 5000) i))));
	SELECT count(*) FROM pg_backend_memory_contexts WHERE name LIKE 'CachedPlan%' AND total_bytes > 500000}), "10\n0", 'the plan of a long filter is not kept');

# ---- an index in the way -------------------------------------------------------------------
SKIP:
{
	my ($status) = $node->psql('postgres', 'CREATE INDEX docs_hnsw ON docs USING hnsw (embedding vector_cosine_ops)');
	skip 'no hnsw', 4 if $status;
	for my $top (10, 700)
	{
		is(sql("SET enable_seqscan = off; SET hnsw.ef_search = 10; SET hnsw.iterative_scan = off;
			SELECT count(*), count(DISTINCT key) FROM vecsync.search('docs', 'title 9', top_k => $top, filter => '{\"grp\": 9}')"),
			$top > 150 ? '150|150' : '10|10', "never short behind an index, top $top");
	}
	is(sql(q{SET enable_seqscan = off; SELECT count(*) FROM vecsync.search('docs', 'title 9', top_k => 1000)}), '1000', 'top_k above ef_search');
	is(sql(q{SET enable_seqscan = off; SELECT string_agg(key->>'id', ' ') FROM vecsync.search('docs', 'title 9', top_k => 2)}), '9 709', 'ties by key behind an index');
	sql('DROP INDEX docs_hnsw');
}

# ---- metrics ---------------------------------------------------------------------------------
for my $metric ([ 'l2', '<->', '1 / (1 + d)' ], [ 'ip', '<#>', '-d' ], [ 'l1', '<+>', '1 / (1 + d)' ])
{
	sql(qq{SELECT vecsync.create_vectorizer('docs', model => 'm', content => 'title', name => 'docs_$metric->[0]', destination => 'column:e_$metric->[0]', metric => '$metric->[0]')});
	ok(VecsyncNode::settle($node, "docs_$metric->[0]"), "$metric->[0]: embedded");
	is(sql(qq{SELECT array_agg(key->>'id' || ' ' || score ORDER BY n) = (SELECT array_agg(id || ' ' || score ORDER BY n) FROM (SELECT row_number() OVER () n, id, $metric->[2] AS score FROM
			(SELECT id, e_$metric->[0] $metric->[1] vecsync.embed('m', 'title 7') AS d FROM docs ORDER BY 2, 1 LIMIT 10) x) y)
		FROM (SELECT row_number() OVER () n, * FROM vecsync.search('docs_$metric->[0]', 'title 7')) s}), 't', "metric $metric->[0]");
	sql(qq{SELECT vecsync.drop_vectorizer('docs_$metric->[0]', keep_data => false)});
}

# ---- keys of several columns ---------------------------------------------------------------------
sql(q{CREATE TABLE "odd "" Name" ("a b" text, "c'd" uuid, "from" int, body text, PRIMARY KEY ("a b", "c'd", "from"));
	INSERT INTO "odd "" Name" SELECT 'k' || i % 3, md5(i::text)::uuid, i, 'body ' || i FROM generate_series(1, 50) i});
VecsyncNode::vectorizer($node, $service, '"odd "" Name"', '{body}', q{name => 'odd; "name'''});
ok(VecsyncNode::settle($node, q{odd; "name''}), 'odd names embedded');
is(sql(q{SELECT s.score = 1 AND body = 'body 9' FROM vecsync.search('odd; "name''', 'body 9', top_k => 1) s
	JOIN "odd "" Name" o ON key = jsonb_build_object('a b', "a b", 'c''d', "c'd", 'from', "from")}), 't', 'a key of three columns, odd names');
is(sql(q{SELECT count(*) FROM vecsync.search('odd; "name''', query_key => (SELECT key FROM vecsync.search('odd; "name''', 'body 9', top_k => 1)), top_k => 100)}), '49', 'by that key');
is(sql(q{SELECT count(*) FROM vecsync.search('odd; "name''', 'body 9', top_k => 100, exclude => (SELECT array_agg(key) FROM vecsync.search('odd; "name''', 'body 9', top_k => 40)))}), '10', 'without many of them');

# Keys come back as they were given, whatever their types: as JSON that search returns, and as the text that other functions show.
sql(q{CREATE TYPE place AS (shelf text, n int, at timestamptz); CREATE DOMAIN trail AS int[] CHECK (VALUE <> '{42}')});
for my $case ([ 'int[]', '{1,2}' ], [ 'int[]', '{}' ], [ 'text[]', '{a,NULL,"b \"c\""}' ], [ 'int[]', '{{1,2},{3,4}}' ], [ 'trail', '{7}' ], [ 'place', '("a ""b""",,2026-01-02 03:04:05+00)' ],
	[ 'place[]', '{"(a,1,)","(b,,2026-01-02 03:04:05+00)"}' ], [ 'jsonb', '{"id": [1, "x", null], "b": 1.50}' ], [ 'jsonb', '"text"' ], [ 'jsonb', '[]' ], [ 'jsonb', '1' ], [ 'jsonb', 'null' ],
	[ 'int4range', '[1,5)' ], [ 'bytea', '\x00ff' ], [ 'boolean', 'true' ], [ 'numeric(5,2)', '1.50' ], [ 'interval', '1 day 02:00' ])
{
	my ($type, $value) = @$case;
	my ($literal) = $value =~ s/'/''/gr;
	sql("CREATE TABLE typed (id $type PRIMARY KEY, body text); INSERT INTO typed SELECT '$literal', 'one'");
	VecsyncNode::vectorizer($node, $service, 'typed', 'body', q{index => '{"method": "none"}'});
	ok(VecsyncNode::settle($node, 'typed'), "a key of type $type: $value");
	my $key = sql(q{SELECT key FROM vecsync.search('typed', 'one')});
	isnt($key, '', "is found as $key");
	(my $quoted = $key) =~ s/'/''/g;
	is(sql("SELECT count(*) FROM vecsync.search('typed', 'one', exclude => ARRAY['$quoted'::jsonb])"), '0', 'and excluded by that');
	is(sql("SELECT count(*) FROM vecsync.search('typed', 'one', exclude => array_fill('$quoted'::jsonb, ARRAY[30]))"), '0', 'among many');
	is(sql("SELECT count(*) FROM vecsync._vectors('typed', ARRAY['$quoted'::jsonb], NULL)"), '1', 'its vector is found');
	is($node->psql('postgres', "SELECT vecsync.similar('typed', '$quoted')"), 0, 'what is like it is asked for');
	is(sql(q{SELECT count(*) FROM typed, vecsync.search('typed', 'one', exclude => ARRAY[jsonb_build_object('id', typed.id::text)])}), '0', 'also by its text') if $type ne 'jsonb';
	is(sql(qq{SELECT count(*) FROM vecsync.search('typed', 'one', exclude => ARRAY[('$quoted'::jsonb)->'id'])}), '0', 'also bare') if $type !~ /^(place|jsonb)$/;
	sql('DROP TABLE typed CASCADE');
}
fails(q{SELECT * FROM vecsync.search('docs', query_key => '{"id": [1]}')}, qr/22023.*is no key of table/s, 'an array is no key of another type');

# What is known by its text must not read otherwise tomorrow.
for my $type ('money', 'regclass', 'regtype[]', 'dear', 'bill')
{
	sql(q{CREATE DOMAIN dear AS money; CREATE TYPE bill AS (n int, sum dear)}) if $type eq 'dear';
	sql("CREATE TABLE named (id $type PRIMARY KEY, body text)");
	fails(q{SELECT vecsync.create_vectorizer('named', 'm', 'body')}, qr/0A000.*column "id" of the primary key of table "named" cannot be followed.*(money|regclass|regtype)/s, "a key of type $type");
	sql('DROP TABLE named');
}
sql(q{CREATE TABLE named (id int PRIMARY KEY, body text); INSERT INTO named VALUES (1, 'one')});
VecsyncNode::vectorizer($node, $service, 'named', 'body');
fails(q{ALTER TABLE named ALTER id TYPE money USING id::money}, qr/0A000.*column "id" of the primary key of table "named" cannot be followed/s, 'nor does it become one');
ok(VecsyncNode::settle($node, 'named'), 'and the table is followed as it is');
sql('DROP TABLE named CASCADE; DROP TYPE bill; DROP DOMAIN dear');

# ---- namespaces --------------------------------------------------------------------------------
sql(q{CREATE TABLE tenants (id int PRIMARY KEY, tenant text, body text); INSERT INTO tenants SELECT i, CASE WHEN i % 10 > 0 THEN 'n' || i % 2 END, 'body ' || i FROM generate_series(1, 100) i});
VecsyncNode::vectorizer($node, $service, 'tenants', 'body', q{namespace => 'tenant'});
ok(VecsyncNode::settle($node, 'tenants'), 'namespaces embedded');
is(sql(q{SELECT count(*), bool_and((key->>'id')::int % 2 = 1) FROM vecsync.search('tenants', 'x', namespace => 'n1', top_k => 1000)}), '50|t', 'a namespace is a wall');
is(sql(q{SELECT count(*) FROM vecsync.search('tenants', 'x', namespace => 'n1'' OR ''1''=''1', top_k => 1000)}), '0', 'SQL in a namespace is a name');
fails(q{SELECT * FROM vecsync.search('tenants', 'x')}, qr/22023.*none is given/s, 'a namespace must be named');
fails(q{SELECT * FROM vecsync.search('docs', 'x', namespace => 'a')}, qr/22023.*has no namespaces/s, 'a namespace where there is none');
fails(q{SELECT * FROM vecsync.search('tenants', query_key => '2', namespace => 'n1')}, qr/P0002.*not found/s, 'a key of another namespace');
sql(q{CREATE TABLE codes (code char(5) PRIMARY KEY, tenant char(3), body text); INSERT INTO codes VALUES ('abc', 'a', 'body 1'), ('abcde', 'abc', 'body 2')});
VecsyncNode::vectorizer($node, $service, 'codes', 'body', q{namespace => 'tenant'});
ok(VecsyncNode::settle($node, 'codes'), 'codes embedded');
is(sql(q{SELECT key->>'code' FROM vecsync.search('codes', 'x', namespace => 'abc')}), 'abcde', 'a namespace of type char(n) is not cut to its first character');
is(sql(q{SELECT count(*) FROM vecsync.search('codes', 'x', namespace => 'abcd')}), '0', 'nor to the length of the column');
is(sql(q{SELECT count(*) FROM vecsync.search('codes', query_key => '"abcde"', namespace => 'abc')}), '0', 'a key of type char(n)');
fails(q{SELECT * FROM vecsync.search('codes', query_key => '"abcdefg"', namespace => 'abc')}, qr/P0002.*not found/s, 'a key longer than any');
sql(q{ALTER TABLE tenants RENAME tenant TO "who's"});
is(sql(q{SELECT count(*) FROM vecsync.search('tenants', 'x', namespace => 'n1', top_k => 1000)}), '50', 'a renamed namespace column is followed');

# ---- errors ------------------------------------------------------------------------------------
fails(q{SELECT * FROM vecsync.search('docs')}, qr/22023.*give one of query/s, 'no query');
fails(q{SELECT * FROM vecsync.search('docs', 'x', query_key => '1')}, qr/22023.*give one of query/s, 'two queries');
fails(q{SELECT * FROM vecsync.search('docs', 'x', top_k => 0)}, qr/22023.*top_k/s, 'top_k 0');
fails(q{SELECT * FROM vecsync.search('docs', 'x', top_k => 10001)}, qr/22023.*top_k/s, 'top_k 10001');
fails(q{SELECT * FROM vecsync.search('nothing', 'x')}, qr/42704.*does not exist/s, 'unknown vectorizer');
fails(q{SELECT * FROM vecsync.search('docs', 'x', mode => 'magic')}, qr/22023.*unknown mode "magic".*vector, text and hybrid/s, 'unknown mode');
fails(q{SELECT * FROM vecsync.search('docs', 'x', filter => '{"nope": 1}')}, qr/42703.*"nope"/s, 'unknown column in a filter');
fails(q{SELECT * FROM vecsync.search('docs', query_vector => '[1,2]')}, qr/22000.*different vector dimensions/s, 'other dimensions');
fails(q{SELECT * FROM vecsync.search('docs', query_vector => '[0,0,0,0,0,0,0,0]')}, qr/22023.*zeroes/s, 'no direction');
fails(q{SELECT * FROM vecsync.search('docs', query_key => '{"no": 1}')}, qr/22023.*is no key/s, 'no key');
fails(q{SELECT * FROM vecsync.search('docs', query_key => '99999')}, qr/P0002.*not found/s, 'unknown key');
fails(q{SELECT * FROM vecsync.search('docs', 'x', mode => 'hybrid')}, qr/55000.*has no text search/s, 'hybrid without text');
sql(q{UPDATE docs SET embedding = '[0,0,0,0,0,0,0,0]' WHERE id = 3});
is(sql(q{SELECT count(*) FROM vecsync.search('docs', 'x', top_k => 10000) WHERE (key->>'id')::int = 3}), '0', 'a vector without direction is not found');

# ---- rights ------------------------------------------------------------------------------------
sql(q{CREATE ROLE reader; CREATE ROLE half; CREATE ROLE nobody; GRANT SELECT ON docs TO reader; GRANT SELECT (id, title, grp, embedding) ON docs TO half;
	ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON docs USING (grp = 4)});
is(sql(q{SET ROLE reader; SELECT count(*), bool_and((key->>'id')::int % 10 = 4) FROM vecsync.search('docs', 'x', top_k => 10000)}), '150|t', 'row level security');
is(sql(q{SET ROLE reader; SELECT snippet FROM vecsync.search('docs', 'title 4', top_k => 1, snippet_length => 100)}), 'title 4', 'and a text by the caller\'s rights');
is(sql(q{SET ROLE half; SELECT jsonb_object_keys(metadata) FROM vecsync.search('docs', 'x', top_k => 1, return_metadata => 'all') ORDER BY 1}), "grp\nid\ntitle", 'column privileges: metadata');
fails(q{SET ROLE half; SELECT * FROM vecsync.search('docs', 'x', filter => '{"secret": "s"}')}, qr/42501.*permission denied/s, 'column privileges: filter');
fails(q{SET ROLE nobody; SELECT * FROM vecsync.search('docs', 'x')}, qr/42501.*permission denied/s, 'no right, no search');
fails(q{SET ROLE reader; SELECT * FROM vecsync.search('docs', query_key => '5')}, qr/P0002/s, 'a key the caller may not see');
sql('ALTER TABLE docs DISABLE ROW LEVEL SECURITY');

# ---- a search inside of a search -----------------------------------------------------------------
# For each row the policy fails once, which makes the session look at its catalog anew, and runs a statement of its own.
sql(q{CREATE TABLE guarded (id int PRIMARY KEY, body text); INSERT INTO guarded SELECT i, 'body ' || i FROM generate_series(1, 45) i});
VecsyncNode::vectorizer($node, $service, 'guarded', 'body');
ok(VecsyncNode::settle($node, 'guarded'), 'embedded');
sql(q{CREATE FUNCTION grp_is_found(i int) RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
		RETURN EXISTS (SELECT FROM vecsync.search('docs', 'title 7', filter => jsonb_build_object('id', i)));
	END $$;
	ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (id <= 40 AND grp_is_found(id)); GRANT SELECT ON guarded TO reader});
is(sql(q{SET ROLE reader; SELECT string_agg(key->>'id', ' ') FROM vecsync.search('guarded', 'body 5', top_k => 1);
	SELECT count(*) FROM vecsync.search('guarded', 'body 4', top_k => 45); SELECT count(*) FROM vecsync.clusters('guarded', 0.99);
	SELECT count(*) FROM vecsync.similarity_matrix('guarded', '{1,2,44}')}), "5\n39\n39\n4", 'a policy that searches');
is(sql(q{SET ROLE reader; SELECT b FROM vecsync.search('guarded', 'body 3', top_k => 2) a, LATERAL (SELECT count(*) FROM vecsync.search('docs', query_vector => vecsync.embed('m', 'title 1'), top_k => (a.key->>'id')::int)) b
	ORDER BY 1 LIMIT 1}) =~ /^\(\d+\)$/ ? 'ok' : '', 'ok', 'a search for each row of a search');
sql(q{CREATE FUNCTION endless() RETURNS bool LANGUAGE sql AS $$SELECT EXISTS (SELECT FROM vecsync.search('guarded', 'body 3'))$$; DROP POLICY p ON guarded; CREATE POLICY p ON guarded USING (endless())});
fails(q{SET max_stack_depth = '500kB'; SET ROLE reader; SELECT * FROM vecsync.search('guarded', 'body 3')}, qr/54001.*stack depth/s, 'a policy that searches its own table');
is(($node->psql('postgres', q{SET max_stack_depth = '500kB'; SET ROLE reader;
	SELECT * FROM vecsync.search('guarded', 'body 3');
	SELECT count(*) FROM vecsync.search('docs', 'title 4', top_k => 1);
	RESET ROLE;
	SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'vecsync search source' AND level = (SELECT level + 1 FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext')}, on_error_stop => 0))[1], "1\n1", 'after that error searches keep what they know');

# ---- a changing catalog in one session ------------------------------------------------------------
is(sql(q{SELECT count(*) FROM vecsync.search('docs', 'x'); ALTER TABLE docs RENAME TO papers; ALTER TABLE papers RENAME embedding TO "e v"; ALTER TABLE papers RENAME id TO nr;
	SELECT key ? 'nr' FROM vecsync.search('docs', 'x', top_k => 1);
	ALTER TABLE papers RENAME TO docs; ALTER TABLE docs RENAME "e v" TO embedding; ALTER TABLE docs RENAME nr TO id}), "10\nt", 'renames are followed');
is(sql(q{BEGIN; SELECT vecsync.create_vectorizer('docs', model => 'm', content => 'title', name => 'never', destination => 'column:never');
	SELECT count(*) FROM vecsync.search('never', 'x'); SAVEPOINT a; ROLLBACK}), "never\n0", 'a vectorizer of one\'s own transaction');
fails(q{BEGIN; SELECT vecsync.create_vectorizer('docs', model => 'm', content => 'title', name => 'never', destination => 'column:never');
	SELECT count(*) FROM vecsync.search('never', 'x'); ROLLBACK; SELECT * FROM vecsync.search('never', 'x')}, qr/42704/, 'is gone with it');
my $session = VecsyncNode::session($node);
$session->query_safe(q{SELECT * FROM vecsync.search('tenants', 'x', namespace => 'n1')});
sql(q{SELECT vecsync.drop_vectorizer('tenants')});
sql('CREATE TABLE outcome (what text)');
$session->query_safe(q{DO $$ BEGIN PERFORM vecsync.search('tenants', 'x', namespace => 'n1'); INSERT INTO outcome VALUES ('found');
	EXCEPTION WHEN undefined_object THEN INSERT INTO outcome VALUES ('gone'); END $$});
is(sql('SELECT what FROM outcome'), 'gone', 'another session sees the drop');
$session->quit;

# ---- the query cache ----------------------------------------------------------------------------
$service->scenario(dims => 8);
sql(q{SELECT * FROM vecsync.search('docs', 'a new question')}) for 1 .. 3;
is($service->stats->{requests}, 1, 'three sessions, one request');
is(sql(q{SELECT query_cache_entries, query_cache_hits >= 2, query_cache_misses >= 1 FROM vecsync.stats}), '1024|t|t', 'hits and misses are counted');
sql(q{SELECT vecsync.alter_model('m', '{"query_parameters": {"user": "x"}}')});
sql(q{SELECT * FROM vecsync.search('docs', 'a new question')});
is($service->stats->{requests}, 2, 'another configuration of the model: asked anew');

# what a transaction asks of a model as it was before is not kept for those who see it as it is
$service->scenario(dims => 8, key => '$model');
sql(qq{SELECT vecsync.create_model('changing', '} . $service->url . qq{', 'before', dimensions => 8)});
my $old = VecsyncNode::session($node);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{SELECT vecsync.alter_model('changing', '{"model": "after"}')});
is($old->query_safe(q{SELECT vecsync.embed('changing', 'a') = expected_vector('a', 8, 'before')}), 't', 'a transaction of before sees the model of before');
is($old->query_safe(q{SELECT (vecsync.embed('changing', ARRAY['b']))[1] = expected_vector('b', 8, 'before')}), 't', 'also the array form');
is(sql(q{SELECT vecsync.embed('changing', i) = expected_vector(i, 8, 'after') FROM unnest('{a,b}'::text[]) i}), "t\nt", 'others get the vectors of now');
$old->query_safe('COMMIT');
is($old->query_safe(q{SELECT vecsync.embed('changing', i) = expected_vector(i, 8, 'after') FROM unnest('{a,b}'::text[]) i}), "t\nt", 'and so does the session later');
$old->query_safe(q{BEGIN; SELECT vecsync.alter_model('changing', '{"model": "never"}')});
is($old->query_safe(q{SELECT vecsync.embed('changing', 'a') = expected_vector('a', 8, 'never')}), 't', 'one\'s own change is seen at once');
$old->query_safe('ROLLBACK');
is($old->query_safe(q{SELECT vecsync.embed('changing', 'a') = expected_vector('a', 8, 'after')}), 't', 'and not after a rollback');
$old->quit;
$service->scenario(dims => 8);
fails(q{SELECT vecsync.alter_model('m', '{"document_parameters": {"prefix": "x"}}')}, qr/55006.*vectorizer "/s, 'what a model in use makes of a text cannot be changed');
sql(q{SELECT vecsync.alter_model('m', '{"parameters": {"headers": {"X-Team": "a"}}}'); SELECT vecsync.alter_model('m', '{"model": "fake-2"}', same_vectors => true)});

sql(q{SELECT vecsync.embed('m', 'question ' || i) FROM generate_series(1, 1500) i});
is(sql(q{SELECT bool_and(vecsync.embed('m', 'question ' || i) = expected_vector('question ' || i, 8)) FROM generate_series(1, 1500) i}), 't', 'a full cache mixes nothing');

is(sql(q{SELECT vecsync.similarity('[1,0]', '[1,1]') = 1 - ('[1,0]'::vector <=> '[1,1]'::vector), vecsync.similarity('[0,0]', '[1,1]') IS NULL}), 't|t', 'similarity');

$node->stop;
done_testing();

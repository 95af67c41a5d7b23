# ALTER EXTENSION vecsync UPDATE: the result is what a fresh installation is, and what was followed goes on.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(basename);
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8);
my $url = $service->url;

sub sql { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

# Every member of the extension, one line for each property that an installation gives it.
my $catalogue = <<'SQL';
SET search_path = pg_catalog, pg_temp;
CREATE TEMP TABLE member AS SELECT d.classid, d.objid, i.* FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) i
	WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vecsync') AND d.deptype = 'e';
CREATE FUNCTION pg_temp.acl(aclitem[]) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest($1) a $$;
SELECT line FROM (
	SELECT type || ' ' || identity AS line FROM member
	UNION ALL SELECT 'comment on ' || identity || ': ' || obj_description(objid, classid::regclass::name) FROM member WHERE obj_description(objid, classid::regclass::name) IS NOT NULL
	UNION ALL SELECT identity || ': ' || pg_get_functiondef(objid) FROM member WHERE classid = 'pg_proc'::regclass
	UNION ALL SELECT 'rights on ' || identity || ': ' || coalesce(pg_temp.acl(p.proacl), '') FROM member JOIN pg_proc p ON p.oid = objid WHERE classid = 'pg_proc'::regclass
	UNION ALL SELECT 'rights on ' || identity || ': ' || coalesce(pg_temp.acl(c.relacl), '') || ' ' || c.relrowsecurity || ' ' || coalesce(array_to_string(c.reloptions, ' '), '')
		FROM member JOIN pg_class c ON c.oid = objid WHERE classid = 'pg_class'::regclass
	UNION ALL SELECT identity || ': ' || pg_get_viewdef(objid) FROM member WHERE type = 'view'
	UNION ALL SELECT 'column ' || identity || '.' || a.attname || ': ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attidentity::text || ' ' || coalesce(pg_temp.acl(a.attacl), '')
			|| ' default ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(col_description(objid, a.attnum), '')
		FROM member JOIN pg_attribute a ON a.attrelid = objid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE type IN ('table', 'view')
	UNION ALL SELECT 'constraint on ' || identity || ': ' || c.conname || ' ' || pg_get_constraintdef(c.oid) FROM member JOIN pg_constraint c ON c.conrelid = objid WHERE type = 'table'
	UNION ALL SELECT 'index on ' || identity || ': ' || pg_get_indexdef(x.indexrelid) FROM member JOIN pg_index x ON x.indrelid = objid WHERE type = 'table'
	UNION ALL SELECT 'trigger on ' || identity || ': ' || pg_get_triggerdef(t.oid) FROM member JOIN pg_trigger t ON t.tgrelid = objid AND NOT t.tgisinternal WHERE type = 'table'
	UNION ALL SELECT 'policy on ' || identity || ': ' || p.polname || ' ' || pg_get_expr(p.polqual, p.polrelid) FROM member JOIN pg_policy p ON p.polrelid = objid WHERE type = 'table'
	UNION ALL SELECT 'event trigger ' || identity || ': ' || e.evtevent || ' ' || e.evtfoid::regprocedure || ' ' || e.evtenabled::text || ' ' || coalesce(array_to_string(e.evttags, ' '), '')
		FROM member JOIN pg_event_trigger e ON e.oid = objid WHERE classid = 'pg_event_trigger'::regclass
	UNION ALL SELECT 'dumped: ' || u.oid::regclass || ' ' || u.condition FROM pg_extension x, unnest(x.extconfig, x.extcondition) u(oid, condition) WHERE x.extname = 'vecsync') l
ORDER BY line COLLATE "C"
SQL

my @fresh = split /\n/, sql($catalogue);
my @former = map { basename($_) =~ /^vecsync--([0-9.]+)\.sql$/ ? $1 : () } glob("$ENV{VECSYNC_TREE}/test/update/vecsync--*.sql");
cmp_ok(scalar @former, '>', 0, 'there are former versions');

for my $version (@former)
{
	(my $db = "from_$version") =~ tr/./_/;
	sql("CREATE DATABASE $db");
	sql("CREATE EXTENSION vector; CREATE EXTENSION vecsync VERSION '$version'", $db);
	sql(FakeService->sql, $db);
	sql(FakeService->sql_vector, $db);
	sql(q{CREATE ROLE operator} , $db) if sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'operator'}) eq '0';
	sql(qq{CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, 'row number ' || i FROM generate_series(1, 300) i;
		CREATE TABLE p (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100);
		INSERT INTO p SELECT i, 'row number ' || i FROM generate_series(1, 50) i;
		GRANT EXECUTE ON FUNCTION vecsync.create_model, vecsync.create_vectorizer TO operator;
		REVOKE EXECUTE ON FUNCTION vecsync.create_vectorizer FROM PUBLIC;
		SELECT vecsync.set_secret('k', 'key');
		SELECT vecsync.create_model('m', url => '$url', model => 'fake', dimensions => 8, secret => 'k');
		SELECT vecsync.create_vectorizer('t', 'm', 'body'), vecsync.create_vectorizer('p', 'm', 'body', chunking => '{"method": "words", "size": 2}')}, $db);
	sql(q{UPDATE t SET body = 'written before the update' WHERE id <= 10; DELETE FROM t WHERE id = 300}, $db);
	is(sql('SELECT count(*) FROM t', $db), '299', "$version: tables are written to under the new library");

	ok(VecsyncNode::poll_in($node, $db, 'SELECT count(*) FROM t WHERE embedding IS DISTINCT FROM expected_vector(body, 8)', '0', 120), "$version: and are embedded");
	is(sql(q{SELECT vecsync.wait('t', '120s'), vecsync.wait('p', '120s')}, $db), 't|t', "$version: which can be waited for");
	sql(q{SELECT vecsync.pause('p'); UPDATE p SET body = 'queued before the update' WHERE id < 5}, $db);

	sql('ALTER EXTENSION vecsync UPDATE', $db);
	sql(q{SELECT vecsync.resume('p')}, $db);
	my %fresh = map { $_ => 1 } @fresh;
	my @updated = split /\n/, sql($catalogue, $db);
	my %updated = map { $_ => 1 } @updated;
	my @diff = ((map { "missing: $_" } grep { !$updated{$_} } @fresh), (map { "too much: $_" } grep { !$fresh{$_} } @updated));
	@diff = grep { !/^too much: rights on vecsync\.create_(model|vectorizer)\(.*operator=X/ && !/^missing: rights on vecsync\.create_(model|vectorizer)\(/ } @diff;
	ok(@diff == 0, "$version: updated, it is what a fresh installation is") or diag(join("\n", @diff[0 .. ($#diff < 60 ? $#diff : 60)]));
	is(sql(q{SELECT has_function_privilege('operator', oid, 'EXECUTE') FROM pg_proc WHERE proname = 'create_model'}, $db), 't', "$version: rights that were granted stay");
	is(sql(q{SELECT has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc WHERE proname = 'create_vectorizer'}, $db), 'f', "$version: and those that were taken");
	my $dump = '';
	IPC::Run::run([ 'pg_dump', '-s', '-d', $node->connstr($db) ], '>', \$dump, '2>', \my $said);
	like($dump, qr/GRANT ALL ON FUNCTION vecsync\.create_model\(.* TO operator/, "$version: a dump tells them");
	like($dump, qr/REVOKE ALL ON FUNCTION vecsync\.create_vectorizer\(.* FROM PUBLIC/, "$version: both");

	sql(q{INSERT INTO t VALUES (1001, 'after the update'); UPDATE p SET body = 'after the update ' || id WHERE id < 10; INSERT INTO p VALUES (60, 'a new row')}, $db);
	is(sql(q{SELECT vecsync.wait('t', '120s'), vecsync.wait('p', '120s')}, $db), 't|t', "$version: the queue is worked off");
	is(sql('SELECT count(*) FROM t WHERE embedding IS DISTINCT FROM expected_vector(body, 8)', $db), '0', "$version: what was queued before and after is embedded");
	my ($chunks) = sql(q{SELECT chunk_table FROM vecsync.vectorizer WHERE name = 'p'}, $db);
	is(sql(qq{SELECT (SELECT count(*) FROM $chunks WHERE embedding = expected_vector(chunk, 8)) = (SELECT count(*) FROM p, LATERAL vecsync.chunk(body, 'words', 2))}, $db), 't', "$version: and are in step");
	is(sql(q{SELECT count(*) FROM vecsync.search('t', 'after the update', top_k => 1)}, $db), '1', "$version: search works");
	sql('TRUNCATE p_1', $db);
	is(sql(qq{SELECT vecsync.wait('p', '60s'); SELECT count(*) FROM $chunks}, $db), "t\n0", "$version: what is new holds for what was there");
	sql('ALTER TABLE t ALTER body TYPE varchar(200); ALTER TABLE t ALTER id TYPE bigint', $db);
	sql(q{INSERT INTO t VALUES (4000000000, 'a long key')}, $db);
	is(sql(q{SELECT vecsync.wait('t', '60s'); SELECT count(*) FROM t WHERE embedding IS DISTINCT FROM expected_vector(body, 8)}, $db), "t\n0", "$version: new types, too");
	sql('DROP EXTENSION vecsync CASCADE', $db);
	is(sql(q{SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'vecsync%' AND relkind = 'v') + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecsync%')}, $db), '0', "$version: and it can be dropped");
}

$service->stop;
$node->stop;
done_testing();

# Filters: thousands of random ones, each compiled to SQL, evaluated by vecsync.match, and computed by an
# independent program; wrong ones; which indexes serve them; and that nothing in a filter is ever run.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\njit = off");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION vecsync CASCADE');

$node->safe_psql('postgres', <<'SQL');
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS bigint;
CREATE TABLE items (
    id integer PRIMARY KEY, i integer, b8 positive, n numeric, f4 real, f8 double precision, ok boolean,
    t text, v varchar(40), d date, ts timestamp, tz timestamptz, u uuid, e mood,
    "odd ""Name'" text, "dotted.name" smallint, tags text[], nums integer[], days date[], j jsonb, plain json);
CREATE FUNCTION pick(g integer, salt integer, choices text[]) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT CASE WHEN h % 9 > 0 THEN choices[1 + (h / 9) % cardinality(choices)] END
  FROM (SELECT abs(hashint4(g * 32 + salt)::bigint) AS h) x$$;
-- each cell is NULL now and then; values come from small sets, so that conditions hit
INSERT INTO items
SELECT g, pick(g, 1, '{-7,0,1,2,3,10,100}')::integer, pick(g, 2, '{-7,0,1,2,3,10,100}')::bigint,
    pick(g, 3, '{0,0.5,2.25,10,1.00,NaN}')::numeric, pick(g, 4, '{0,0.1,0.5,2.25,1e10,Infinity,0.123456789012}')::real,
    pick(g, 5, '{0,0.1,0.5,2.25,1e10,-Infinity,NaN,0.123456789012}')::double precision, pick(g, 6, '{t,f}')::boolean,
    pick(g, 7, ARRAY['a','b','B','','Zoë','日本','o''brien','x"y','\','''; DROP TABLE t; --']),
    pick(g, 8, ARRAY['a','b','%','$1','🎵','1) OR (1=1']),
    pick(g, 9, '{1969-07-20,1999-12-31,2000-01-01,2024-02-29}')::date,
    pick(g, 10, '{1969-07-20,1999-12-31T23:59:59,2000-01-01T10:00:00.5,2024-02-29T10:00}')::timestamp,
    pick(g, 11, '{1969-07-20Z,1999-12-31T23:59:59Z,2000-01-01T12:00:00.5+02,2024-02-29T10:00Z}')::timestamptz,
    pick(g, 12, '{00000000-0000-4000-8000-000000000001,00000000-0000-4000-8000-000000000002}')::uuid,
    pick(g, 13, '{sad,ok,happy}')::mood, pick(g, 14, ARRAY['a','b','{}','a.b']), pick(g, 15, '{-7,0,1,2}')::smallint,
    pick(g, 16, ARRAY['{}','{a}','{a,b}','{NULL,b}','{"o''brien",日本}','{{a,b},{B,a}}'])::text[],
    pick(g, 17, ARRAY['{}','{1}','{1,2}','{3,NULL}','{100,1}'])::integer[],
    pick(g, 18, ARRAY['{}','{2000-01-01}','{2000-01-01,2024-02-29}'])::date[],
    pick(g, 19, ARRAY['null','1','"a"','[]','[1,2]','["a",null]','{"k":1}','{"k":"a","list":[1,2,"a"]}','{"k":{"l":2.25}}',
                      '{"k":{"l":null},"list":["b"]}','{"k":true,"o''x":"日本"}','{"k":[1,{"l":1}],"list":"a"}','{"k":null}',
                      '{"list":[[1],{"l":1}]}','{"list":{"0":"a"}}'])::jsonb,
    pick(g, 20, ARRAY['null','{"k": 1}','{"k":"a"}','{"k":[1, 2]}','[1]','true'])::json
FROM generate_series(1, 160) g;
SQL

sub filters_agree
{
	my ($count, $seed) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir;
	$node->safe_psql('postgres', "COPY (SELECT replace(to_jsonb(items)::text, E'\\n', ' ') FROM items) TO PROGRAM 'cat > $folder/rows' (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')");
	my $oracle = "$ENV{VECSYNC_TREE}/test/server/filter_oracle.py";
	system("PYTHONDONTWRITEBYTECODE=1 $ENV{VECSYNC_PYTHON} $oracle $count $seed < $folder/rows > $folder/filters") == 0
		or die 'the oracle failed';
	$node->safe_psql('postgres', <<SQL);
DROP TABLE IF EXISTS expected;
CREATE TABLE expected (filter text, ids integer[], n serial);
COPY expected (filter, ids) FROM '$folder/filters';
SQL
	return $node->safe_psql('postgres', <<'SQL');
DO $$
DECLARE
    e record;
    compiled integer[];
    matched integer[];
    plain integer[];
    wrong integer := 0;
BEGIN
    FOR e IN SELECT * FROM expected ORDER BY n LOOP
        EXECUTE format('SELECT coalesce(array_agg(id ORDER BY id), ''{}'') FROM items WHERE %s',
                       vecsync.filter_sql('items', e.filter::jsonb)) INTO compiled;
        SELECT coalesce(array_agg(id ORDER BY id), '{}') INTO matched
        FROM items WHERE vecsync.match(to_jsonb(items), e.filter::jsonb, 'items');
        IF compiled <> e.ids OR matched <> e.ids THEN
            wrong := wrong + 1;
            RAISE WARNING 'filter %: expected %, compiled %, match %, sql %', e.filter, e.ids, compiled, matched,
                vecsync.filter_sql('items', e.filter::jsonb);
        END IF;
    END LOOP;
    CREATE TEMP TABLE result AS SELECT wrong, (SELECT count(*) FROM expected) AS filters,
        (SELECT count(DISTINCT ids) FROM expected) > 300 AS varied;
END $$;
SELECT * FROM result;
SQL
}

is(filters_agree(3000, 1), '0|3000|t', '3,000 random filters: SQL, match and the oracle agree');

# The untyped form agrees where JSON tells the types.
is($node->safe_psql('postgres', <<'SQL'), '0', 'match without the table agrees but for enums, upper-case UUIDs and arrays of arrays');
SELECT count(*) FROM expected e WHERE filter !~ '"[ue]"|[A-F]' AND n <= 1500 AND
    (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM items WHERE id = ANY (e.ids) AND coalesce(array_ndims(tags), 1) = 1) <>
    (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM items
     WHERE vecsync.match(to_jsonb(items), e.filter::jsonb) AND coalesce(array_ndims(tags), 1) = 1);
SQL

sub fails
{
	my ($filter, $pattern, $what) = @_;
	$filter =~ s/'/''/g;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT vecsync.filter_sql('items', '$filter')");
	ok($status != 0 && $err =~ $pattern && $err =~ /HINT|DETAIL/, "error: $what") or diag("$status $err");
	return;
}
fails('{"i": {"$foo": 1}}', qr/22023.*unknown operator "\$foo"/s, 'unknown operator');
fails('{"$foo": []}', qr/22023.*unknown operator "\$foo"/s, 'unknown operator outside a column');
fails('{"i": {"x": 1}}', qr/22023.*unknown operator "x"/s, 'object that holds no operator');
fails('{"nothing": 1}', qr/42703.*column "nothing"/s, 'unknown column');
fails('{"t.x": 1}', qr/42809.*leads into column "t"/s, 'field of a text');
fails('{"i": "1"}', qr/22023.*"1" does not fit column "i"/s, 'string for a number');
fails('{"i": 1.5}', qr/22023.*1\.5 does not fit/s, 'fraction for an integer');
fails('{"i": 3000000000}', qr/22003.*HINT/s, 'number out of range');
fails('{"t": 1}', qr/22023.*does not fit column "t"/s, 'number for a text');
fails('{"ok": "true"}', qr/22023.*does not fit column "ok"/s, 'string for a boolean');
fails('{"d": "yesteryear"}', qr/22007.*HINT/s, 'no date');
fails('{"u": "x"}', qr/22P02.*HINT/s, 'no uuid');
fails('{"e": "angry"}', qr/22P02.*HINT/s, 'no label of the enum');
fails('{"i": {"$in": 1}}', qr/22023.*needs an array/s, '$in without a list');
fails('{"i": {"$gt": null}}', qr/22023.*needs a number or a string/s, 'range with null');
fails('{"i": {"$exists": 1}}', qr/22023.*needs true or false/s, '$exists with a number');
fails('{"tags": {"$gt": "a"}}', qr/22023.*does not fit column "tags"/s, 'range of an array');
fails('[1]', qr/22023.*must be a JSON object/s, 'a filter that is an array');
for my $call ("filter_sql(99999::oid::regclass, '{}')", "filter_sql(0::oid::regclass, '{\"a\": 1}')", "match('{}', '{\"a\": 1}', 99999::oid::regclass)")
{
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT vecsync.$call");
	like($err, qr/42P01: .*relation with OID \d+ does not exist/, "no table: $call");
}
fails('{"i": {"$contains": 1}}', qr/22023.*\$contains works for/s, '$contains of a number');

# Types whose name without a modifier means one character, or one bit.
$node->safe_psql('postgres', q{CREATE TABLE cut (id integer, c char(5), b bit(3), cs char(5)[], bs bit(3)[]);
	INSERT INTO cut VALUES (1, 'abc', B'101', '{abc}', '{101}'), (2, 'a', B'100', '{a}', '{100}')});
for my $filter ('{"c": "abc"}', '{"c": {"$in": ["abc", "abd"]}}', '{"c": {"$gte": "ab"}}', '{"b": "101"}', '{"b": {"$gt": "100"}}', '{"cs": "abc"}',
	'{"cs": {"$contains": ["abc"]}}', '{"bs": ["101"]}', '{"bs": {"$in": ["101", "111"]}}', '{"c": {"$ne": "a"}}')
{
	my $condition = $node->safe_psql('postgres', "SELECT vecsync.filter_sql('cut', '$filter')");
	is($node->safe_psql('postgres', "SELECT array_agg(id), (SELECT array_agg(id) FROM cut WHERE vecsync.match(to_jsonb(cut), '$filter', 'cut'))
		FROM cut WHERE $condition"), '{1}|{1}', "char(n), bit(n): $filter");
}

# Arrays whose type is not that of their elements' operators.
$node->safe_psql('postgres', q{CREATE DOMAIN label AS text CHECK (value <> 'z'); CREATE DOMAIN labels AS varchar(5)[];
	CREATE TABLE arrays (id integer, v varchar(5)[], l label[], p positive[], ls labels, iv int2vector);
	INSERT INTO arrays VALUES (1, '{ab,c}', '{ab,c}', '{1,2}', '{ab,c}', '1 2'), (2, '{x}', '{x}', '{3}', '{x}', '3'), (3, NULL, NULL, NULL, NULL, NULL);
	CREATE INDEX arrays_v ON arrays USING gin (v)});
for my $column (qw(v l ls p iv))
{
	my ($one, $two, $none) = $column =~ /^[vl]/ ? ('"ab"', '"c"', '"z"') : (1, 2, 9);
	for my $case ([ $one, '{1}' ], [ "[$one, $two]", '{1}' ], [ "{\"\$in\": [$two, $none]}", '{1}' ], [ "{\"\$contains\": [$two, $one]}", '{1}' ],
		[ "{\"\$contains\": [$two, $none]}", '' ], [ "{\"\$ne\": $one}", '{2,3}' ], [ "{\"\$in\": [null, $none]}", '{3}' ])
	{
		my $filter = "{\"$column\": $case->[0]}";
		my $condition = $node->safe_psql('postgres', "SELECT vecsync.filter_sql('arrays', '$filter')");
		is($node->safe_psql('postgres', "SELECT array_agg(id ORDER BY id), (SELECT array_agg(id ORDER BY id) FROM arrays WHERE vecsync.match(to_jsonb(arrays), '$filter', 'arrays'))
			FROM arrays WHERE $condition"), "$case->[1]|$case->[1]", "arrays: $filter");
	}
}
my $in_v = $node->safe_psql('postgres', q{SELECT vecsync.filter_sql('arrays', '{"v": {"$in": ["c"]}}')});
like($node->safe_psql('postgres', "SET enable_seqscan = off; EXPLAIN SELECT * FROM arrays WHERE $in_v"), qr/arrays_v/, 'an index on varchar[]');

# Arrays that do not begin at 1, or whose elements no JSON number can be, look like any others in JSON.
$node->safe_psql('postgres', q{CREATE TABLE bounds (id integer, i integer[], f real[]);
	INSERT INTO bounds VALUES (1, '[0:1]={1,2}', '[5:6]={1,0.1}'), (2, '{1,2}', '{1,0.1}'), (3, '[-2:-2]={NULL}', '{1}'), (4, '{{1,2}}', '{}'), (5, '[2:3][4:4]={{1},{2}}', NULL)});
for my $case ([ '{"i": [1, 2]}', '{1,2}' ], [ '{"i": {"$ne": [1, 2]}}', '{3,4,5}' ], [ '{"i": [null]}', '{3}' ], [ '{"i": [2, 1]}', '' ], [ '{"i": []}', '' ],
	[ '{"f": []}', '{4}' ], [ '{"f": [1, 0.1]}', '{1,2}' ], [ '{"f": [1, 0.1000000001]}', '' ], [ '{"f": [1, 0.123456789012]}', '' ],
	[ '{"f": {"$contains": [1, 0.123456789012]}}', '' ], [ '{"f": {"$in": [0.1, 0.123456789012]}}', '{1,2}' ])
{
	my $condition = $node->safe_psql('postgres', "SELECT vecsync.filter_sql('bounds', '$case->[0]')");
	is($node->safe_psql('postgres', "SELECT array_agg(id ORDER BY id), (SELECT array_agg(id ORDER BY id) FROM bounds WHERE vecsync.match(to_jsonb(bounds), '$case->[0]', 'bounds'))
		FROM bounds WHERE $condition"), "$case->[1]|$case->[1]", "arrays: $case->[0]");
}

# What does not fit is the same error for match as for the SQL, and what fits finds the same rows; long lists, too.
is($node->safe_psql('postgres', <<'SQL'), '', 'each operator with each value for each column: match is true, false or an error as the SQL is');
CREATE FUNCTION outcome(query text, filter jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE query INTO result USING filter;
    RETURN result;
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION by_sql(filter jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT array_agg(id ORDER BY id)::text FROM items WHERE id <= 50 AND %s', vecsync.filter_sql('items', filter)) INTO result;
    RETURN result;
END $$;
CREATE TABLE json_items AS SELECT id, to_jsonb(items) AS j FROM items WHERE id <= 50;
CREATE FUNCTION outcomes(filter jsonb) RETURNS text[] LANGUAGE sql AS $$SELECT ARRAY[outcome('SELECT by_sql($1)', filter),
    outcome('SELECT array_agg(id ORDER BY id)::text FROM json_items WHERE vecsync.match(j, $1, ''items'')', filter)]$$;
WITH columns AS (SELECT attname::text AS c FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 UNION SELECT unnest('{j.k,plain.k,t.x,nothing}'::text[])),
     operators AS (SELECT unnest('{$eq,$ne,$in,$nin,$gt,$gte,$lt,$lte,$exists,$contains,$not}'::text[]) AS op),
     operands AS (SELECT jsonb_array_elements('[1, 0.5, 0.123456789012, 3000000000, 1e400, "a", "", "2000-01-01", "angry", "sad", true, null, [], [1], ["a"], [null],
         [1, "a"], [[1]], {}, {"k": 1}, {"$gt": 1}, {"$gt": true}, ["2000-01-01", "x"], [0.5, 1], ["sad", "angry"], [3000000000], [true], "00000000-0000-4000-8000-000000000001"]') AS v),
     filters AS (SELECT jsonb_build_object(c, jsonb_build_object(op, v)) AS f FROM columns, operators, operands)
SELECT f, o FROM filters, outcomes(f) o WHERE o[1] IS DISTINCT FROM o[2] LIMIT 5;
SQL
is($node->safe_psql('postgres', q{SELECT outcome($$SELECT count(*) FROM items WHERE vecsync.match(to_jsonb(items), $1, 'items')$$, '{"$and": [{"$or": []}, {"i": "1"}]}')}),
	'22023 $eq "1" does not fit column "i" of type integer', 'match refuses a condition that it would not reach');

is($node->safe_psql('postgres', <<'SQL'), '', 'lists of 40 and of 2,000 values find the same rows as match');
WITH lists (c, few) AS (SELECT unnest('{i,b8,n,dotted.name,nums,j,j.k,j.list,plain}'::text[]), '[1, 2, 100, null]'::jsonb
        UNION ALL SELECT unnest('{t,v,tags,j,j.k,j.list,plain.k}'::text[]), '["a", "o''brien", "x\"y", "\\", "", "日本", "NULL"]'
        UNION ALL SELECT unnest('{f4,f8}'::text[]), '[0.1, 0.123456789012, 2.25, null]'
        UNION ALL SELECT unnest('{d,days,ts}'::text[]), '["2000-01-01", "1999-12-31T23:59:59"]'),
     long AS (SELECT c, few || (SELECT jsonb_agg(CASE jsonb_typeof(few -> 0) WHEN 'number' THEN to_jsonb(1000 + g % 20000)
            ELSE to_jsonb(CASE WHEN few ? '2000-01-01' THEN (date '3000-01-01' + g)::text ELSE 'no "' || g END) END) FROM generate_series(1, n) g) AS list
         FROM lists, unnest('{40,2000}'::integer[]) n),
     filters AS (SELECT jsonb_build_object(c, jsonb_build_object(op, list)) AS f FROM long, unnest('{$in,$nin}'::text[]) op)
SELECT left(f::text, 50), o FROM filters, outcomes(f) o WHERE o[1] IS DISTINCT FROM o[2] OR o[1] NOT LIKE '{%';
SQL

# Indexes serve the conditions.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE many (id integer PRIMARY KEY, year integer, genre text, tags text[], doc jsonb, made timestamptz);
INSERT INTO many SELECT g, g % 5000, 'g' || g % 3000, ARRAY['t' || g % 2000], jsonb_build_object('a', jsonb_build_object('b', g % 2500)), now()
FROM generate_series(1, 20000) g;
CREATE INDEX many_year ON many (year); CREATE INDEX many_tags ON many USING gin (tags);
CREATE INDEX many_doc ON many USING gin (doc); CREATE INDEX many_partial ON many (genre) WHERE year = 7;
ANALYZE many;
SQL
my $tags = join ', ', map { "\"t$_\"" } 1 .. 900;
my $numbers = join ', ', 1 .. 100;
for my $case ([ '{"year": 7}', 'many_' ], [ "{\"tags\": {\"\$in\": [$tags]}}", 'many_tags' ], [ "{\"doc.a.b\": {\"\$in\": [$numbers]}}", 'many_doc' ], [ '{"year": {"$in": [1, 2]}}', 'many_year' ], [ '{"year": {"$gte": 4990}}', 'many_year' ],
	[ '{"tags": {"$in": ["t7"]}}', 'many_tags' ], [ '{"tags": ["t7"]}', 'many_tags' ], [ '{"tags": {"$contains": ["t7"]}}', 'many_tags' ], [ '{"tags": "t7"}', 'many_tags' ],
	[ '{"doc.a.b": 7}', 'many_doc' ], [ '{"year": 7, "genre": {"$gt": "g9"}}', 'many_partial' ])
{
	my $sql = $node->safe_psql('postgres', "SELECT vecsync.filter_sql('many', '$case->[0]')");
	like($node->safe_psql('postgres', "SET enable_seqscan = off; EXPLAIN SELECT * FROM many WHERE $sql"), qr/$case->[1]/, "index for " . substr($case->[0], 0, 50));
}

# A filter and its negation split the rows.
is($node->safe_psql('postgres', <<'SQL'), '', 'a filter and its $not split the rows');
SELECT filter FROM expected WHERE n < 300 AND EXISTS (SELECT FROM items
    WHERE vecsync.match(to_jsonb(items), filter::jsonb) = vecsync.match(to_jsonb(items), jsonb_build_object('$not', filter::jsonb)));
SQL

# DateStyle and the search path change nothing.
is($node->safe_psql('postgres', <<'SQL'), 't', 'session settings do not change a condition');
CREATE SCHEMA evil;
CREATE FUNCTION evil.never(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.never);
SET search_path = evil, public, pg_catalog;
SET datestyle = 'German';
SELECT vecsync.filter_sql('items', '{"d": "2000-01-02", "i": 1}') LIKE '%2000-01-02%OPERATOR(pg_catalog.=)%';
SQL

$node->stop;
done_testing();

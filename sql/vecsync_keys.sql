-- The keys in the queue's entries: each row once, as the text that any session and the worker give it, to the byte
-- as ARRAY[...] makes it, and in entries of at most 1,024 rows.  Nobody takes them away: the vectorizers are paused.
\set SHOW_CONTEXT never
SET client_min_messages = error;
SELECT setseed(0.5);	-- the same draw for everybody; another one looks further
CREATE EXTENSION IF NOT EXISTS vecsync CASCADE;
SELECT vecsync.create_model('nowhere', url => 'http://127.0.0.1:9/v1/embeddings', model => 'none', dimensions => 3);

CREATE DOMAIN keep_int AS int CHECK (VALUE <> 42);
CREATE DOMAIN keep_uuid AS uuid;
CREATE DOMAIN keep_text AS text;
CREATE DOMAIN keep_keep AS keep_text CHECK (length(VALUE) < 100000);
CREATE TYPE keep_mood AS ENUM ('well', 'not "well"');
CREATE TYPE keep_range AS RANGE (subtype = timestamptz);

-- Some values of each type, the ends of its range among them; in quotes, so that each can be read by any settings.
CREATE TABLE key_value (type text, value text);
INSERT INTO key_value VALUES
	('smallint', '-32768'), ('smallint', '32767'), ('smallint', '0'), ('smallint', '-1'),
	('int', '-2147483648'), ('int', '2147483647'), ('int', '0'), ('int', '-10'), ('int', '100'),
	('bigint', '-9223372036854775808'), ('bigint', '9223372036854775807'), ('bigint', '0'), ('bigint', '-1'), ('bigint', '4294967296'),
	('keep_int', '-7'), ('keep_int', '2147483647'),
	('uuid', '00000000-0000-0000-0000-000000000000'), ('uuid', 'FFFFFFFF-ffff-ffff-ffff-ffffffffffff'), ('uuid', '0123456789abcdeffedcba9876543210'),
	('keep_uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
	('text', ''), ('text', ' '), ('text', 'é"''{}$1\,NULL'), ('text', repeat('x', 126)), ('text', repeat('y', 127)), ('text', repeat('long ', 3000)),
	('keep_text', 'of a domain'), ('keep_keep', 'of a domain of one'),
	('varchar(5)', 'abcde'), ('varchar(5)', ''), ('char(6)', 'ab'), ('char(6)', ''), ('"char"', 'c'), ('name', 'a name'),
	('boolean', 't'), ('oid', '4294967295'), ('numeric', '-1.50'), ('numeric', 'NaN'), ('numeric', '1e100'),
	('real', '0.1'), ('real', '-Infinity'), ('double precision', '0.1'), ('double precision', '1e-300'), ('double precision', '123456789.123456789'),
	('date', '2026-02-03'), ('date', 'infinity'), ('time', '12:34:56.789'), ('timestamp', '2026-02-03 04:05:06.7'),
	('timestamptz', '2026-02-03 04:05:06+09'), ('timestamptz', '-infinity'), ('interval', '1 year -2 days 03:04'),
	('bytea', '\x00ff5c'), ('bytea', '\x'), ('inet', '::1/64'), ('bit(5)', '10100'), ('keep_mood', 'not "well"'),
	('int[]', '{1,NULL,3}'), ('keep_range', '[2026-02-03 04:05:06+09,)'), ('pg_lsn', '16/B374D848');
INSERT INTO key_value SELECT t, (random() * 2 - 1)::numeric(20, 18) * power(10::numeric, e) FROM unnest('{numeric,double precision}'::text[]) t, generate_series(1, 18) e;
INSERT INTO key_value SELECT 'bigint', trunc((random() * 2 - 1)::numeric * power(10::numeric, e)) FROM generate_series(1, 18) e;
INSERT INTO key_value SELECT 'int', ((random() * 2 - 1) * power(10, e))::int FROM generate_series(1, 9) e;
INSERT INTO key_value SELECT 'uuid', md5(random()::text) FROM generate_series(1, 10);
INSERT INTO key_value SELECT 'text', repeat('é', i) FROM generate_series(1, 9) i;

-- A table whose key is of the type, and of two columns in another order than the table's.
CREATE PROCEDURE follow(type text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE followed (n int, body text, k %s, PRIMARY KEY (k, n))', type);
	PERFORM vecsync.create_vectorizer('followed', 'nowhere', 'body', index => '{"method": "none"}', enqueue_existing => false);
	PERFORM vecsync.pause('followed');
END
$$;
CREATE VIEW entry AS SELECT q.* FROM vecsync.queue q JOIN vecsync.vectorizer v ON v.id = q.vectorizer WHERE v.name = 'followed';

CREATE TABLE setting (name text, usual text, odd text);
INSERT INTO setting VALUES ('datestyle', 'ISO, MDY', 'German, DMY'), ('intervalstyle', 'postgres', 'iso_8601'), ('extra_float_digits', '1', '-5'),
	('bytea_output', 'hex', 'escape'), ('timezone', 'UTC', 'Asia/Tokyo');

CREATE TABLE difference (type text, what text);
DO $$
DECLARE
	t text;
	wrong text;
BEGIN
	FOR t IN SELECT DISTINCT type FROM key_value ORDER BY 1 LOOP
		CALL follow(t);
		PERFORM set_config(name, usual, false) FROM setting;
		EXECUTE format('INSERT INTO followed (n, body, k) SELECT row_number() OVER (), value, value::%s FROM key_value WHERE type = $1', t) USING t;
		COMMIT;
		-- one entry of all keys, by the usual settings; each with an update of the text by the odd ones
		PERFORM set_config(name, odd, false) FROM setting;
		UPDATE followed SET body = body || '!';
		COMMIT;
		PERFORM set_config(name, usual, false) FROM setting;
		EXECUTE $q$ SELECT string_agg(format('%s is %s', keys, rows), '; ') FROM entry
			WHERE NOT record_image_eq(ROW(keys), ROW(ARRAY(SELECT x FROM followed, unnest(ARRAY[format('%s', k), n::text]) WITH ORDINALITY u(x, i) ORDER BY n, i)))
				OR NOT record_image_eq(ROW(keys), ROW(ARRAY(SELECT x FROM followed, unnest(ARRAY[vecsync._key_text(k), n::text]) WITH ORDINALITY u(x, i) ORDER BY n, i)))
				OR rows <> (SELECT count(*) FROM followed) OR op <> CASE seq WHEN (SELECT min(seq) FROM entry) THEN 'f' ELSE 'k' END $q$ INTO wrong;
		INSERT INTO difference SELECT t, wrong WHERE wrong IS NOT NULL
			UNION ALL SELECT t, count(*) || ' entries' FROM entry HAVING count(*) <> 2;
		PERFORM vecsync.drop_vectorizer('followed');
		DROP TABLE followed;
		COMMIT;
	END LOOP;
END
$$;
SELECT * FROM difference;

-- Rows of many levels: each that is left is queued, those of no level that was rolled back, in entries that are neither too large nor too many.
CALL follow('bigint');
CREATE VIEW entries AS SELECT count(*) <= 10 AS few, max(rows) <= 1024 AS small, sum(rows) AS rows,
	sum(rows) = (SELECT count(*) FROM followed) AND NOT EXISTS (
		SELECT k::text FROM followed EXCEPT ALL SELECT keys[i] FROM entry, generate_series(1, 2 * rows, 2) i) AS same,
	bool_and(cardinality(keys) = 2 * rows) AS whole FROM entry;
INSERT INTO followed SELECT 1, 'text', i FROM generate_series(1, 3000) i;
SELECT * FROM entries;
TRUNCATE followed; DELETE FROM vecsync.queue;

BEGIN;
INSERT INTO followed SELECT 1, 'text', i FROM generate_series(1, 600) i;
SAVEPOINT a;
INSERT INTO followed SELECT 2, 'text', i FROM generate_series(601, 1200) i;
SAVEPOINT b;
INSERT INTO followed SELECT 3, 'text', i FROM generate_series(1201, 1800) i;
RELEASE b;
SAVEPOINT c;
INSERT INTO followed SELECT 4, 'text', i FROM generate_series(1801, 4000) i;
ROLLBACK TO c;
RELEASE a;
SAVEPOINT d;
INSERT INTO followed SELECT 5, 'text', i FROM generate_series(1801, 1900) i;
SAVEPOINT e;
INSERT INTO followed SELECT 5, 'text', i FROM generate_series(1901, 2000) i;
COMMIT;
SELECT * FROM entries;
TRUNCATE followed; DELETE FROM vecsync.queue;

-- a loop of subtransactions, some of which fail
DO $$
BEGIN
	FOR i IN 1 .. 2500 LOOP
		BEGIN
			INSERT INTO followed VALUES (1, 'text', i);
			IF i % 5 = 0 THEN
				PERFORM 1 / (i % 5);
			END IF;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END
$$;
SELECT * FROM entries;
TRUNCATE followed; DELETE FROM vecsync.queue;

-- random levels of random numbers of rows
CREATE PROCEDURE nest(depth int, most int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		INSERT INTO followed SELECT depth, 'text', (SELECT coalesce(max(k), 0) FROM followed) + g FROM generate_series(1, (random() * most)::int) g;
		BEGIN
			IF depth > 0 THEN
				CALL nest(depth - 1, most);
			END IF;
			IF random() < 0.3 THEN
				RAISE 'away';
			END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
END
$$;
CALL nest(4, 20);
SELECT few, small, same, whole FROM entries;
TRUNCATE followed; DELETE FROM vecsync.queue;
CALL nest(2, 1500);
SELECT few, small, same, whole FROM (SELECT (SELECT count(*) FROM entry) <= 2 + (rows / 300) AS few, small, same, whole FROM entries) e;
TRUNCATE followed; DELETE FROM vecsync.queue;
DROP VIEW entries;
SELECT vecsync.drop_vectorizer('followed');
DROP TABLE followed;

-- long keys: entries of some 256 KB
CALL follow('text');
INSERT INTO followed SELECT 1, 'text', repeat(md5(i::text), 20) || i FROM generate_series(1, 2000) i;
SELECT sum(rows) AS rows, max(octet_length(array_send(keys))) < 300000 AS small, count(*) <= 6 AS few FROM entry;
SELECT count(*) FROM followed WHERE k NOT IN (SELECT keys[i] FROM entry, generate_series(1, 2 * rows, 2) i);
SELECT vecsync.drop_vectorizer('followed');
SELECT vecsync.drop_model('nowhere');
DROP VIEW entry;
DROP TABLE followed, key_value, setting, difference;
DROP PROCEDURE follow, nest;
DROP DOMAIN keep_int, keep_uuid, keep_keep, keep_text;
DROP TYPE keep_mood, keep_range;

-- The binary form, byte by byte, and what it refuses.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

SELECT vector_send('[1,-2.5]');
SELECT vector_send('[-0,3.4028235e38,1.4e-45]');

-- COPY in binary form, out and in again
CREATE TABLE copied (id int, v vector(3), free vector);
INSERT INTO copied VALUES (1, '[1,2,3]', '[1]'), (2, '[-1.5,1e-45,3e38]', NULL), (3, NULL, '[4,5,6,7]');
SELECT setting || '/vector_binary.copy' AS file FROM pg_settings WHERE name = 'data_directory' \gset
COPY copied TO :'file' WITH (FORMAT binary);
CREATE TABLE copied_back (LIKE copied);
COPY copied_back FROM :'file' WITH (FORMAT binary);
SELECT * FROM copied_back ORDER BY id;
SELECT count(*) FROM copied JOIN copied_back USING (id) WHERE copied IS NOT DISTINCT FROM copied_back;
-- text
COPY copied TO :'file';
TRUNCATE copied_back;
COPY copied_back FROM :'file';
SELECT count(*) FROM copied JOIN copied_back USING (id) WHERE copied IS NOT DISTINCT FROM copied_back;

-- Bad messages: a binary COPY file of one row with one column of these bytes.
CREATE FUNCTION receive(type text, message bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	file text := current_setting('data_directory') || '/vector_binary.one';
	lo oid;
	result text;
BEGIN
	lo := lo_from_bytea(0, '\x5047434f50590aff0d0a0000000000000000000001'::bytea
		|| int4send(length(message)) || message || '\xffff');
	PERFORM lo_export(lo, file);
	PERFORM lo_unlink(lo);
	EXECUTE format('CREATE TEMPORARY TABLE received (v %s)', type);
	BEGIN
		EXECUTE format('COPY received FROM %L WITH (FORMAT binary)', file);
		SELECT v::text INTO result FROM received;
	EXCEPTION WHEN OTHERS THEN
		result := SQLSTATE || ' ' || SQLERRM;
	END;
	DROP TABLE IF EXISTS received;
	RETURN result;
END $$;

SELECT receive('vector', '\x000200003f800000c0200000');
SELECT receive('vector(3)', '\x000200003f800000c0200000');
SELECT receive('vector', '\x00000000');
SELECT receive('vector', '\x3e8100003f800000');
SELECT receive('vector', '\xffff00003f800000');
SELECT receive('vector', '\x000100013f800000');
SELECT receive('vector', '\x0001ffff3f800000');
SELECT receive('vector', '\x000100007fc00000');
SELECT receive('vector', '\x00010000ff800000');
SELECT receive('vector', '\x000200003f800000');
SELECT receive('vector', '\x0001');
SELECT receive('vector', '\x000100003f80000000');
SELECT receive('halfvec', '\x000200003c00c100');
SELECT receive('halfvec(1)', '\x000200003c00c100');
SELECT receive('halfvec', '\x00000000');
SELECT receive('halfvec', '\x000100017c00');
SELECT receive('halfvec', '\x000100007c01');
SELECT receive('halfvec', '\x00010000fc00');
SELECT receive('halfvec', '\x000200003c00');

SELECT receive('sparsevec', '\x00000005000000020000000000000001000000033f800000c0200000');
SELECT receive('sparsevec(4)', '\x00000005000000020000000000000001000000033f800000c0200000');
SELECT receive('sparsevec', '\x000000050000000000000000');
SELECT receive('sparsevec', '\x000000000000000000000000');
SELECT receive('sparsevec', '\x3b9aca010000000000000000');
SELECT receive('sparsevec', '\x00000005ffffffff00000000');
SELECT receive('sparsevec', '\x000000050000000600000000');
SELECT receive('sparsevec', '\x0001000000003e8100000000');
SELECT receive('sparsevec', '\x000000050000000000000001');
SELECT receive('sparsevec', '\x000000050000000100000000000000053f800000');
SELECT receive('sparsevec', '\x000000050000000100000000ffffffff3f800000');
SELECT receive('sparsevec', '\x00000005000000020000000000000001000000013f8000003f800000');
SELECT receive('sparsevec', '\x00000005000000020000000000000002000000013f8000003f800000');
SELECT receive('sparsevec', '\x0000000500000001000000000000000000000000');
SELECT receive('sparsevec', '\x0000000500000001000000000000000080000000');
SELECT receive('sparsevec', '\x000000050000000100000000000000007fc00000');
SELECT receive('sparsevec', '\x000000050000000100000000000000007f800000');
SELECT receive('sparsevec', '\x000000050000000100000000000000003f8000');
SELECT receive('sparsevec', '\x0000000500000001');
DROP TABLE copied, copied_back;
DROP FUNCTION receive;

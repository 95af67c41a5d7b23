-- ---------------------------------------------------------------------------
-- Pieces of documents
-- ---------------------------------------------------------------------------

CREATE FUNCTION vecsync.chunk(input text, method text DEFAULT 'words', size integer DEFAULT NULL, overlap integer DEFAULT 0)
    RETURNS TABLE (seq integer, chunk text)
    LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'chunk_sql';
COMMENT ON FUNCTION vecsync.chunk IS
'The pieces of a text, numbered from 0, none blank. method words: size words each (512), joined by single spaces; characters: size characters each (2000); recursive: at most size characters, ended at the last paragraph, line, sentence or word of the second half; none: the whole text. Each piece begins overlap words or characters before the one before it ended. Errors: 22023 unknown method, or overlap not less than size.';

CREATE FUNCTION vecsync._check_chunking(chunking jsonb) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'chunk_check';


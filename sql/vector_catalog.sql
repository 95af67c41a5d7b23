-- The catalog of the extension beside that of pgvector 0.8.6 (test/compat/catalog_*.txt).  Every difference
-- must be listed in test/compat/differences.txt, with its reason; a listed one that is not there is an error too.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
RESET client_min_messages;

\getenv dir PG_ABS_SRCDIR
\setenv dir :dir
\set funcs `cat "$dir/test/compat/catalog_funcs.txt"`
\set ops `cat "$dir/test/compat/catalog_ops.txt"`
\set casts `cat "$dir/test/compat/catalog_casts.txt"`
\set opclasses `cat "$dir/test/compat/catalog_opc.txt"`
\set differences `cat "$dir/test/compat/differences.txt"`

CREATE TEMPORARY VIEW member AS
	SELECT classid, objid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vector');

CREATE TEMPORARY VIEW ours AS
	SELECT 'function' AS part, format('%s(%s) | %s | %s | %s | %s | %s | %s', proname,
		pg_get_function_identity_arguments(p.oid), format_type(prorettype, NULL), upper(provolatile::text),
		CASE WHEN proisstrict THEN 'strict' ELSE 'NONSTRICT' END, proparallel, procost, prokind) AS entry
	FROM pg_proc p JOIN member ON objid = p.oid AND classid = 'pg_proc'::regclass
UNION ALL
	SELECT 'operator', concat_ws('|', o.oprname, l.typname, r.typname, t.typname, f.proname,
		coalesce(c.oprname, '—'), coalesce(n.oprname, '—'),
		CASE o.oprrest::oid WHEN 0 THEN '—' ELSE o.oprrest::text END, CASE o.oprjoin::oid WHEN 0 THEN '—' ELSE o.oprjoin::text END)
	FROM pg_operator o JOIN member ON objid = o.oid AND classid = 'pg_operator'::regclass
		JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright JOIN pg_type t ON t.oid = o.oprresult
		JOIN pg_proc f ON f.oid = o.oprcode
		LEFT JOIN pg_operator c ON c.oid = o.oprcom LEFT JOIN pg_operator n ON n.oid = o.oprnegate
UNION ALL
	SELECT 'cast', concat_ws('|', format_type(castsource, NULL), format_type(casttarget, NULL),
		(SELECT format('%s(%s)', proname, replace(pg_get_function_identity_arguments(p.oid), ', ', ',')) FROM pg_proc p WHERE p.oid = castfunc),
		CASE castcontext WHEN 'i' THEN 'IMPLICIT' WHEN 'a' THEN 'ASSIGNMENT' ELSE 'EXPLICIT' END)
	FROM pg_cast c JOIN member ON objid = c.oid AND classid = 'pg_cast'::regclass
UNION ALL
	SELECT 'operator class', concat_ws('|', amname, opcname, format_type(opcintype, NULL), opcdefault::text::char(1),
		(SELECT string_agg(amopstrategy || ' ' || oprname || CASE WHEN amopsortfamily <> 0 THEN ' (order by ' || opfname || ')' ELSE '' END,
			', ' ORDER BY amopstrategy)
			FROM pg_amop JOIN pg_operator o ON o.oid = amopopr LEFT JOIN pg_opfamily f ON f.oid = amopsortfamily
			WHERE amopfamily = opcfamily AND amoplefttype = opcintype),
		(SELECT string_agg(amprocnum || '=' || proname, ', ' ORDER BY amprocnum)
			FROM pg_amproc JOIN pg_proc p ON p.oid = amproc WHERE amprocfamily = opcfamily AND amproclefttype = opcintype))
	FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod JOIN member ON objid = c.oid AND classid = 'pg_opclass'::regclass;

CREATE TEMPORARY TABLE theirs AS
	SELECT 'function' AS part, entry FROM string_to_table(:'funcs', E'\n') entry
UNION ALL SELECT 'operator', entry FROM string_to_table(:'ops', E'\n') entry
UNION ALL SELECT 'cast', entry FROM string_to_table(:'casts', E'\n') entry
UNION ALL SELECT 'operator class', entry FROM string_to_table(:'opclasses', E'\n') entry;
SELECT part, count(*) FROM theirs GROUP BY part ORDER BY part;

CREATE TEMPORARY TABLE difference AS
	SELECT 'missing' AS kind, * FROM (TABLE theirs EXCEPT ALL SELECT * FROM ours) t
UNION ALL SELECT 'added', * FROM (SELECT * FROM ours EXCEPT ALL TABLE theirs) t;

-- A reason heads the entries it is given for.
CREATE TEMPORARY TABLE listed AS
	SELECT split_part(line, ': ', 1) AS kind, split_part(line, ': ', 2) AS part,
		substr(line, length(split_part(line, ': ', 1)) + length(split_part(line, ': ', 2)) + 5) AS entry, line
	FROM string_to_table(:'differences', E'\n') line WHERE line <> '' AND line !~ '^#';

SELECT 'not listed: ' || kind || ': ' || part || ': ' || entry AS problem FROM (SELECT kind, part, entry FROM difference EXCEPT ALL SELECT kind, part, entry FROM listed) d
UNION ALL
SELECT 'listed, but not there: ' || line FROM listed WHERE (kind, part, entry) NOT IN (SELECT kind, part, entry FROM difference)
UNION ALL
SELECT 'no reason: ' || min(line) FROM (SELECT line, n, (SELECT count(*) FROM string_to_table(:'differences', E'\n') WITH ORDINALITY r (line, n)
		WHERE r.line ~ '^# \w' AND r.n < l.n) AS reasons FROM string_to_table(:'differences', E'\n') WITH ORDINALITY l (line, n)
	WHERE line <> '' AND line !~ '^#') l WHERE reasons = 0 HAVING count(*) > 0
ORDER BY 1;

-- the types themselves
SELECT typname, typlen, typalign, typstorage, typcategory, typispreferred, typdelim, typmodout <> 0 AS typmodout, typanalyze <> 0 AS typanalyze,
	typcollation <> 0 AS collation, typarray <> 0 AS has_array, typinput, typoutput, typreceive, typsend, typmodin
FROM pg_type JOIN member ON objid = oid AND classid = 'pg_type'::regclass WHERE typelem = 0 ORDER BY typname;

-- everything public has a comment: what a user may call or write, not what only the system calls
SELECT proname, pg_get_function_identity_arguments(p.oid) AS arguments
FROM pg_proc p JOIN member ON objid = p.oid AND classid = 'pg_proc'::regclass
WHERE obj_description(p.oid, 'pg_proc') IS NULL AND proname !~ '^(vector|halfvec|sparsevec)(_|$)' AND proname !~ '^(array_to_|hnsw|ivfflat)'
ORDER BY 1, 2;
SELECT oprname, oprleft::regtype FROM pg_operator o JOIN member ON objid = o.oid AND classid = 'pg_operator'::regclass
WHERE obj_description(o.oid, 'pg_operator') IS NULL ORDER BY 1, 2;

-- C functions are those of this library, and operator classes are sound
SELECT p.oid::regprocedure FROM pg_proc p JOIN member ON objid = p.oid AND classid = 'pg_proc'::regclass
WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND probin <> '$libdir/vector';
SELECT opcname, amname FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod JOIN member ON objid = c.oid AND classid = 'pg_opclass'::regclass
WHERE NOT amvalidate(c.oid);
DROP VIEW ours, member;

"""Random tables and vectorizers, and what the vector of each row has to be."""

import functools

from soak_cluster import expected

DIMS = 8
WORDS = ("amber", "brass", "cedar", "delta", "ember", "fjord", "grün", "{title}", "{{}}", "o'hara", '"quoted"', "\\n", "𝄞", "poison")
REGIONS = ("a", "b", "c")

# Key columns, and the key of row g as SQL expressions.
KEYS = {
    "int": ([("k1", "int")], ["g"]),
    "uuid": ([("k1", "uuid")], ["md5(g::text)::uuid"]),
    "text": ([("k1", "text")], ["'k''' || g || '\"{,}\\ é'"]),
    "composite": ([("k2", "text"), ("k1", "int")], ["chr(97 + g % 3)", "g / 3"]),
    "domain": ([("k1", "soak_number"), ("k2", "date")], ["g", "date '2020-01-01' + g % 50"]),
    "partitioned": ([("k1", "text"), ("k2", "bigint")], ["chr(97 + g % 3)", "g"]),
}

# What create_vectorizer is told, and the same as an expression over the columns' present names.
CONTENTS = (
    ("body", "{body}"),
    ("{title}: {body} ({amount})", "concat({title}, ': ', {body}, ' (', {amount}, ')')"),
    ("id {k1} | {mood} | {{{body}}}", "concat('id ', {k1}, ' | ', {mood}, ' | {{', {body}, '}}')"),
    ("= lower(title) || ' ' || coalesce(body, '')", "lower({title}) || ' ' || coalesce({body}, '')"),
    ("= CASE WHEN flag THEN body END", "CASE WHEN {flag} THEN {body} END"),
)

SETUP = """
CREATE EXTENSION vecsync CASCADE;
CREATE SCHEMA "Other {place}";
CREATE TYPE soak_mood AS ENUM ('calm', 'it''s', 'wild');
CREATE DOMAIN soak_number AS int CHECK (VALUE > -1000000);
CREATE FUNCTION soak_text(seed int) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT (ARRAY[%s])[1 + floor(random() * %d)::int] || ' ' || seed || ' ' || floor(random() * 1e9)::bigint $$;
"""


# Short texts become one chunk or several.
CHUNK_WORDS = 3
CHUNKING = f'{{"method": "words", "size": {CHUNK_WORDS}}}'


class Vectorizer:
    """column: NULL for a table of chunks."""

    def __init__(self, name, content, column, model):
        self.name, self.content, self.column, self.model = name, content, column, model


class Table:
    """A table under its present names; columns are known by what they were created as."""

    def __init__(self, number, kind, rng):
        self.kind = kind
        self.keys, self.key_values = KEYS[kind]
        self.name = f"table {number}" if rng.random() < 0.5 else f"t{number}"
        self.key_names = [k for k, _ in self.keys]
        self.vectorizers = [Vectorizer(f"v{number}", rng.choice(CONTENTS), "embedding", "alpha")]
        if rng.random() < 0.4:
            self.vectorizers.append(Vectorizer(f"w{number}", rng.choice(CONTENTS), "second", "beta"))
        if rng.random() < 0.5:
            self.vectorizers.append(Vectorizer(f"c{number}", rng.choice(CONTENTS), None, rng.choice(("alpha", "beta"))))

    def create(self, c):
        columns = ", ".join(f"{name} {type}" for name, type in self.keys)
        partitioned = " PARTITION BY LIST (k1)" if self.kind == "partitioned" else ""
        c.execute(f'CREATE TABLE "{self.name}" ({columns}, n int, title text, body text, amount numeric(10, 2), mood soak_mood,'
                  f" flag boolean, plays int DEFAULT 0, PRIMARY KEY ({', '.join(self.key_names)})){partitioned}")
        if partitioned:
            for region in REGIONS:
                c.execute(f'CREATE TABLE "{self.name} {region}" PARTITION OF "{self.name}" FOR VALUES IN (\'{region}\')')
        self.oid = c.execute("SELECT %s::regclass::oid", [f'"{self.name}"']).fetchone()[0]
        self.fill(c, 1, 300)
        for v in self.vectorizers:
            c.execute("SELECT vecsync.create_vectorizer(%s, model => %s, content => %s, name => %s, destination => %s,"
                      " chunking => %s, index => NULL)",
                      [f'"{self.name}"', v.model, v.content[0], v.name, f"column:{v.column}" if v.column else "table",
                       None if v.column else CHUNKING])
        self.attnum = dict(c.execute("SELECT attname, attnum FROM pg_attribute WHERE attrelid = %s AND attnum > 0", [self.oid]).fetchall())

    def fill(self, c, first, last):
        c.execute(self.insert(first, last, self.quoted_names(), f'"{self.name}"'))

    def quoted_names(self):
        return {n: n for n in (*self.key_names, "n", "title", "body", "amount", "mood", "flag", "plays")}

    def insert(self, first, last, names, relation, where="true"):
        columns = ", ".join(names[c] for c in (*self.key_names, "n", "title", "body", "amount", "mood", "flag"))
        return (f"INSERT INTO {relation} ({columns}) SELECT {', '.join(self.key_values)}, g, soak_text(g),"
                f" CASE g % 11 WHEN 0 THEN NULL WHEN 1 THEN '  ' ELSE soak_text(g) END, g / 7.0,"
                f" (ARRAY['calm', 'it''s', 'wild']::soak_mood[])[1 + g % 3], g % 5 > 0"
                f" FROM generate_series({first}, {last}) g WHERE {where}")

    def names(self, c):
        """The relation and the columns as they are called now."""
        relation = c.execute("SELECT %s::oid::regclass::text", [self.oid]).fetchone()[0]
        now = dict(c.execute("SELECT attnum, quote_ident(attname) FROM pg_attribute WHERE attrelid = %s", [self.oid]).fetchall())
        names = {name: now[number] for name, number in self.attnum.items()}
        # a change of generations puts another column in the place of the one that was there
        columns = dict(c.execute("SELECT name, quote_ident(vecsync._target_column(content_view)) FROM vecsync.vectorizer"
                                 " WHERE source = %s AND chunk_table IS NULL", [self.oid]).fetchall())
        names.update({v.column: columns[v.name] for v in self.vectorizers if v.column and columns.get(v.name)})
        return relation, names


def create(c, rng, url):
    """Models, and a few tables with one or two vectorizers each."""
    words = ", ".join("'" + w.replace("'", "''") + "'" for w in WORDS)
    c.execute(SETUP % (words, len(WORDS)))
    for model in ("alpha", "beta"):
        c.execute("SELECT vecsync.create_model(%s, url => %s, model => %s, dimensions => %s, max_batch => %s, max_inflight => %s,"
                  " timeout => '1500 ms')", [model, url, model, DIMS, rng.choice((3, 16, 64)), rng.choice((1, 4))])
    kinds = rng.sample(sorted(KEYS), 4)
    tables = [Table(i, kind, rng) for i, kind in enumerate(kinds)]
    for table in tables:
        table.create(c)
    return tables


@functools.cache
def expect(text, model):
    return expected.vector(text, DIMS, model)


def same(vector, text, model):
    return vector == expect(text, model)


def audit_chunks(c, table, v, note):
    """The table of chunks against the texts cut anew."""
    relation, names = table.names(c)
    content = v.content[1].format(**names)
    keys = [names[k] for k in table.key_names]
    chunks = c.execute("SELECT chunk_table::text FROM vecsync.vectorizer WHERE name = %s", [v.name]).fetchone()[0]
    # Key columns of the chunks are in the order of the primary key, as ours are.
    wanted = {(key, n): chunk for key, n, chunk in c.execute(
        f"SELECT ROW({', '.join(keys)})::text, d.seq, d.chunk FROM {relation}, vecsync.chunk(({content})::text, 'words', {CHUNK_WORDS}) d")}
    seen = {}
    rows = 0
    columns = ", ".join(f"k{i + 1}" for i in range(len(keys)))
    for key, n, chunk, vector in c.execute(f"SELECT ROW({columns})::text, chunk_seq, chunk, embedding::real[] FROM {chunks}"):
        rows += 1
        where = f"{v.name} {key} chunk {n}: {chunk!r}"
        if (key, n) in seen:
            note("duplicate", where)
        seen[key, n] = True
        if (key, n) not in wanted:
            note("orphan", where)
        elif not same(vector, chunk, v.model):
            note("wrong", where)
        elif chunk != wanted[key, n]:
            note("stale", f"{where}, not {wanted[key, n]!r}")
    for key, n in wanted.keys() - seen.keys():
        note("lost", f"{v.name} {key} chunk {n}")
    return rows


def audit(c, tables, service):
    """Count what is not as it has to be; the first few of each are described."""
    counts = dict.fromkeys(("lost", "duplicate", "wrong", "orphan", "stale"), 0)
    told = []
    rows = 0

    def note(what, text):
        counts[what] += 1
        if counts[what] <= 5:
            told.append(f"{what}: {text}")

    models = dict(c.execute("SELECT name, model FROM vecsync.vectorizer").fetchall())
    for table in tables:
        relation, names = table.names(c)
        keys = ", ".join(names[k] for k in table.key_names)
        for v in table.vectorizers:
            v.model = models[v.name]
            content = v.content[1].format(**names)
            if v.column is None:
                rows += audit_chunks(c, table, v, note)
                continue
            mismatched = []
            for key, text, vector in c.execute(f"SELECT ROW({keys})::text, ({content})::text, {names[v.column]}::real[] FROM {relation}"):
                rows += 1
                where = f"{v.name} {key}: {text!r}"
                if text is None or not text.strip(" \t\n\r\v\f"):
                    if vector is not None:
                        note("orphan", f"{where} has a vector and no text")
                elif vector is None:
                    note("lost", where)
                elif not same(vector, text, v.model):
                    mismatched.append((where, vector))
            if mismatched:
                asked = {tuple(expect(t, v.model)) for t in service.texts()}
                current = {tuple(expect(t, v.model)) for t, in c.execute(f"SELECT ({content})::text FROM {relation}") if t}
                for where, vector in mismatched:
                    known = tuple(vector) in asked and tuple(vector) not in current
                    note("stale" if known else "wrong", where)
        left = c.execute("SELECT attname FROM pg_attribute WHERE attrelid = %s AND attname LIKE 'vecsync%%' AND NOT attisdropped", [table.oid])
        for row in left.fetchall():
            note("orphan", f"column {row[0]} of {relation}")
    for what, query in (("the queue", "SELECT vectorizer, op, rows, keys FROM vecsync.queue"),
                        ("dead letters", "SELECT vectorizer, operation, key, error FROM vecsync.dead_letter"),
                        ("generations", "SELECT name, generation FROM vecsync.vectorizer WHERE successor_of IS NOT NULL OR retired IS NOT NULL")):
        for row in c.execute(query):
            note("orphan", f"left in {what}: {row}")
    return rows, counts, told


def prove(c, tables, service):
    """Break one row in each way, and see that the audit finds just that; then undo it.  Returns what it overlooked.

    Only a content that can be blank has a row without a vector, whose vector would be an orphan: such a one is preferred.
    """
    columns = [(table, v) for table in tables for v in table.vectorizers if v.column]
    for orphan in (1, 0):
        for table, v in columns:
            told = prove_one(c, tables, service, table, v, orphan)
            if told is not None:
                return told
    return ["no table had rows enough to prove the audit"]


def prove_one(c, tables, service, table, v, orphan):
    """None: this vectorizer has not the rows for it."""
    relation, names = table.names(c)
    vector = names[v.column]
    content = v.content[1].format(**names)
    rows = c.execute(f"SELECT tableoid, ctid::text, {vector}::text FROM {relation} WHERE {vector} IS NOT NULL LIMIT 3").fetchall()
    empty = c.execute(f"SELECT tableoid, ctid::text FROM {relation} WHERE {vector} IS NULL LIMIT 1").fetchone()
    if len(rows) < 3 or (orphan and empty is None):
        return None
    current = {t for t, in c.execute(f"SELECT ({content})::text FROM {relation}")}
    old = next((t for t in service.texts() if t not in current), None)
    if old is None:
        return None
    broken = [(rows[0], None), (rows[1], rows[2][2]), (rows[2], str(expected.vector(old, DIMS, v.model)))]
    if orphan:
        broken.append((empty, rows[2][2]))
    with c.transaction(force_rollback=True):
        c.execute("SET LOCAL session_replication_role = replica")
        for (oid, ctid, *_), value in broken:
            c.execute(f"UPDATE {relation} SET {vector} = %s WHERE tableoid = %s AND ctid = %s", [value, oid, ctid])
        _, counts, _ = audit(c, tables, service)
    wanted = {"lost": 1, "duplicate": 0, "wrong": 1, "orphan": orphan, "stale": 1}
    return [] if counts == wanted else [f"the audit found {counts} where one of each was broken"]

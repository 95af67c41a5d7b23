"""What the sessions do to the tables: everything that an application might, at random."""

import os
import random
import threading
import time

import psycopg

from soak_schema import REGIONS

# What concurrent work is expected to meet: conflicts, locks, names that somebody changed, a server that is gone.
EXPECTED = (psycopg.errors.IntegrityError, psycopg.errors.OperationalError, psycopg.errors.InternalError,
            psycopg.errors.ProgrammingError, psycopg.errors.InterfaceError)
MAX_NUMBER = 4000


class Session(threading.Thread):
    """One connection that runs random transactions until told to stop."""

    def __init__(self, cluster, tables, seed, stop):
        super().__init__(daemon=True)
        self.cluster, self.tables, self.stop = cluster, tables, stop
        self.rng = random.Random(seed)
        self.gid = f"soak {seed}"
        self.prepared = self.changes = 0
        self.failure = None
        self.errors = {}

    def run(self):
        c = None
        try:
            while not self.stop.is_set():
                try:
                    if c is None or c.closed:
                        c = self.cluster.connect(options="-c lock_timeout=2s -c statement_timeout=20s")
                    self.transaction(c) if self.rng.random() < 0.93 else self.definition(c)
                except EXPECTED as e:
                    self.errors[type(e).__name__] = self.errors.get(type(e).__name__, 0) + 1
                    self.reset(c)
        except Exception as e:  # a mistake of ours or of the client: the verdict tells it
            self.failure = e
        finally:
            if c is not None:
                c.close()

    @staticmethod
    def reset(c):
        try:
            if c is not None and not c.closed:
                c.execute("ROLLBACK")
        except psycopg.Error:
            c.close()

    # ---- transactions --------------------------------------------------------------

    def transaction(self, c):
        rng = self.rng
        table = rng.choice(self.tables)
        relation, names = table.names(c)
        isolation = rng.choice(("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"))
        if rng.random() < 0.25:
            self.changes += self.step(c, table, relation, names)  # autocommit
            return
        c.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        changed = 0
        for _ in range(rng.randint(1, 5)):
            if rng.random() < 0.3:
                c.execute("SAVEPOINT s")
                inner = self.step(c, table, relation, names)
                if rng.random() < 0.5:
                    c.execute("ROLLBACK TO s")
                else:
                    c.execute("RELEASE s")
                    changed += inner
            else:
                changed += self.step(c, table, relation, names)
            if rng.random() < 0.1:
                time.sleep(rng.random() * 0.2)
        end = rng.random()
        if end < 0.12:
            c.execute("ROLLBACK")
            return
        if end < 0.2:
            self.prepared += 1
            gid = f"{self.gid} {self.prepared}"
            c.execute(f"PREPARE TRANSACTION '{gid}'")
            if rng.random() < 0.6:  # the others are left for the end
                time.sleep(rng.random() * 0.3)
                c.execute(f"{rng.choice(('COMMIT', 'COMMIT', 'ROLLBACK'))} PREPARED '{gid}'")
        else:
            c.execute("COMMIT")
        self.changes += changed

    def step(self, c, table, relation, names):
        rng = self.rng
        a = rng.randint(1, MAX_NUMBER)
        b = a + rng.choice((0, 0, 1, 5, 40))
        span = f"WHERE {names['n']} BETWEEN {a} AND {b}"
        if table.kind == "partitioned" and rng.random() < 0.3:
            return self.direct(c, table, names, a)
        action = rng.choices(
            (self.insert, self.upsert, self.bulk, self.copy, self.merge, self.update, self.other, self.delete, self.move, self.block, self.truncate),
            (14, 8, 2, 4, 4, 30, 8, 10, 6, 4, 0.4))[0]
        return action(c, table, relation, names, a, b, span)

    def insert(self, c, table, relation, names, a, b, span):
        return c.execute(table.insert(a, b, names, relation)).rowcount

    def upsert(self, c, table, relation, names, a, b, span):
        keys = ", ".join(names[k] for k in table.key_names)
        action = self.rng.choice(("NOTHING", f"UPDATE SET {names['body']} = excluded.{names['body']}"))
        return c.execute(f"{table.insert(a, b, names, relation)} ON CONFLICT ({keys}) DO {action}").rowcount

    def bulk(self, c, table, relation, names, a, b, span):
        return c.execute(table.insert(a, a + 1500, names, relation) + " ON CONFLICT DO NOTHING").rowcount

    def copy(self, c, table, relation, names, a, b, span):
        rows = c.execute(f"SELECT {', '.join(f'({v})::text' for v in table.key_values)}, g, soak_text(g)"
                         f" FROM generate_series({a}, {b}) g").fetchall()
        columns = ", ".join(names[k] for k in (*table.key_names, "n", "body"))
        with c.cursor().copy(f"COPY {relation} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return len(rows)

    def merge(self, c, table, relation, names, a, b, span):
        keys, values = table.key_names, table.key_values
        source = f"SELECT g, {', '.join(f'{v} AS s{i}' for i, v in enumerate(values))} FROM generate_series({a}, {b}) g"
        on = " AND ".join(f"t.{names[k]} = s.s{i}" for i, k in enumerate(keys))
        columns = ", ".join(names[k] for k in (*keys, "n", "title"))
        return c.execute(
            f"MERGE INTO {relation} t USING ({source}) s ON {on}"
            f" WHEN MATCHED AND g % 4 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET {names['title']} = soak_text(g)"
            f" WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({', '.join(f's{i}' for i in range(len(keys)))}, g, soak_text(g))").rowcount

    def update(self, c, table, relation, names, a, b, span):
        value = self.rng.choice(("soak_text({n})", "soak_text({n})", "soak_text({n})", "NULL", "' '", "{body} || '!'"))
        column = self.rng.choice(("body", "body", "title"))
        return c.execute(f"UPDATE {relation} SET {names[column]} = {value.format(**names)} {span}").rowcount

    def other(self, c, table, relation, names, a, b, span):
        change = self.rng.choice(("{plays} = {plays} + 1", "{body} = {body}", "{amount} = {amount} + 0.5", "{flag} = NOT {flag}",
                                  "{mood} = 'wild'"))
        return c.execute(f"UPDATE {relation} SET {change.format(**names)} {span}").rowcount

    def delete(self, c, table, relation, names, a, b, span):
        return c.execute(f"DELETE FROM {relation} {span}").rowcount

    def move(self, c, table, relation, names, a, b, span):
        """Rows get other keys; sometimes ones that are taken."""
        to = f"({names['n']} + {self.rng.choice((1, 3, 5000, -5000))})"
        sets = ", ".join(f"{names[k]} = (SELECT {v} FROM (SELECT {to} AS g) s)" for k, v in zip(table.key_names, table.key_values))
        return c.execute(f"UPDATE {relation} SET {sets}, {names['n']} = {to} {span}").rowcount

    def block(self, c, table, relation, names, a, b, span):
        """Subtransactions, some of which fail."""
        c.execute(f"DO $$ BEGIN FOR i IN {a}..{a + 20} LOOP BEGIN UPDATE {relation} SET {names['body']} = soak_text(i)"
                  f" WHERE {names['n']} = i; IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;"
                  f" EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$")
        return 14

    def truncate(self, c, table, relation, names, a, b, span):
        c.execute(f"TRUNCATE {relation}")
        return 1

    def direct(self, c, table, names, a):
        region = self.rng.choice(REGIONS)
        found = c.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s"
                          " AND pg_get_expr((SELECT relpartbound FROM pg_class WHERE oid = inhrelid), inhrelid) LIKE %s",
                          [table.oid, f"%'{region}'%"]).fetchone()
        if found is None:
            return 0
        insert = table.insert(a, a + 6, names, found[0], where=f"chr(97 + g % 3) = '{region}'")
        change = self.rng.choice((f"{insert} ON CONFLICT DO NOTHING", f"UPDATE {found[0]} SET {names['body']} = soak_text({a})"
                                  f" WHERE {names['n']} BETWEEN {a} AND {a + 20}", f"DELETE FROM {found[0]} WHERE {names['n']} = {a}"))
        return c.execute(change).rowcount

    def partition(self, c, table, relation, names):
        """A partition goes, is changed while it is apart, and comes back; or it is truncated."""
        found = c.execute("SELECT inhrelid::regclass::text, pg_get_expr(p.relpartbound, inhrelid) FROM pg_inherits JOIN pg_class p"
                          " ON p.oid = inhrelid WHERE inhparent = %s AND p.relispartition ORDER BY random() LIMIT 1", [table.oid]).fetchone()
        if found is None:
            return
        name, bound = found
        if self.rng.random() < 0.3:
            c.execute(f"TRUNCATE {name}")
            return
        with c.transaction():
            c.execute(f"ALTER TABLE {relation} DETACH PARTITION {name}")
            c.execute(f"UPDATE {name} SET {names['body']} = soak_text({names['n']} + 1) WHERE {names['n']} % 3 = 0")
            c.execute(f"DELETE FROM {name} WHERE {names['n']} % 7 = 0")
            c.execute(f"ALTER TABLE {relation} ATTACH PARTITION {name} {bound}")

    # ---- definitions ---------------------------------------------------------------------

    def definition(self, c):
        rng = self.rng
        table = rng.choice(self.tables)
        relation, names = table.names(c)
        vectorizer = rng.choice(table.vectorizers).name
        kind = rng.choice(("prepared", "column", "table", "schema", "scratch", "type", "partition", "rewrite", "index", "resync", "pause", "model", "check", "rollback",
                           *(("generation", "generation", "verify") if os.environ.get("GENERATIONS") else ())))
        if kind == "prepared":    # what was left would keep all others from the table
            for gid, in c.execute("SELECT gid FROM pg_prepared_xacts WHERE prepared < now() - interval '20 s'").fetchall():
                c.execute(f"{rng.choice(('COMMIT', 'ROLLBACK'))} PREPARED '{gid}'")
        elif kind == "column":
            column = rng.choice(("title", "body", "amount", "embedding", "k1"))
            c.execute(f'ALTER TABLE {relation} RENAME COLUMN {names[column]} TO "{column} {{{rng.randint(1, 99)}}}"')
        elif kind == "table":
            c.execute(f'ALTER TABLE {relation} RENAME TO "{table.vectorizers[0].name} is {rng.randint(1, 99)}"')
        elif kind == "schema":
            c.execute(f"ALTER TABLE {relation} SET SCHEMA {rng.choice(('public', chr(34) + 'Other {place}' + chr(34)))}")
        elif kind == "scratch":
            c.execute(f"ALTER TABLE {relation} DROP COLUMN IF EXISTS scratch")
            c.execute(f"ALTER TABLE {relation} ADD COLUMN scratch int DEFAULT {rng.randint(0, 9)}")
        elif kind == "type":
            column, types = rng.choice((("body", ("text", "varchar", "varchar(5000)")), ("amount", ("numeric(10, 2)", "numeric(12, 3)"))))
            c.execute(f"ALTER TABLE {relation} ALTER COLUMN {names[column]} TYPE {rng.choice(types)}")
        elif kind == "partition":
            self.partition(c, table, relation, names)
        elif kind == "rewrite":
            c.execute(f"{rng.choice(('VACUUM FULL', 'VACUUM', 'ANALYZE', 'REINDEX TABLE'))} {relation}")
        elif kind == "index":
            c.execute(f"CREATE INDEX ON {relation} ({names['n']})" if rng.random() < 0.3 else "CHECKPOINT")
        elif kind == "resync":
            c.execute("SELECT vecsync.resync(%s, failed_only => %s, force => %s)", [vectorizer, rng.random() < 0.5, rng.random() < 0.3])
        elif kind == "pause":
            c.execute(f"SELECT vecsync.{rng.choice(('pause', 'resume', 'resume'))}(%s)", [vectorizer])
        elif kind == "model":
            c.execute("SELECT vecsync.alter_model(%s, %s)", [rng.choice(("alpha", "beta")),
                      '{"max_batch": %d, "max_inflight": %d}' % (rng.choice((1, 8, 100)), rng.choice((1, 3, 8)))])
        elif kind == "generation":
            if rng.random() < 0.3:
                c.execute("SELECT vecsync.abandon(%s)", [vectorizer])
            else:
                c.execute("SELECT vecsync.alter_vectorizer(%s, %s)", [vectorizer, '{"model": "%s"}' % rng.choice(("alpha", "beta"))])
        elif kind == "verify":
            c.execute("SELECT * FROM vecsync.verify(%s, repair => %s)", [vectorizer, rng.random() < 0.5]).fetchall()
        elif kind == "check":
            c.execute("SELECT * FROM vecsync.status").fetchall()
            c.execute("SELECT * FROM vecsync.failed").fetchall()
        else:
            c.execute("BEGIN")
            c.execute(f'ALTER TABLE {relation} RENAME COLUMN {names["body"]} TO "never"')
            c.execute(f'UPDATE {relation} SET "never" = soak_text(1)')
            c.execute("ROLLBACK")

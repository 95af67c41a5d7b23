#!/usr/bin/env python3
"""The types beside another vector extension: two libraries under the same rows.

Usage: type_costs.py --dsn DSN --ours DIR --peer DIR --files DIR [--rounds N] [--copy-rounds N] [--only REGEX]

Functions of the extension are looked up along dynamic_library_path (types.sh saw to that), so two sessions of one
server run the same plan over the same pages, one with the vector.so of each folder.  Both are asked in turn; shown is
the CPU time of the server process: the least of all runs, and the median of the ratios of neighbouring runs, which a
machine that grows slower or faster meanwhile does not change.
"""
import argparse
import re
import statistics

import psycopg

SCANS = (("v", "vector", "<=> <-> <#> <+>"), ("h", "halfvec", "<=> <-> <#> <+>"), ("b", "bit", "<~> <%>"),
         ("s", "sparsevec", "<=> <-> <#> <+>"))


class Session:
    def __init__(self, dsn, folder):
        self.connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0)
        self.execute(f"SET dynamic_library_path = '{folder}'")
        self.pid = self.connection.info.backend_pid
        self.execute("SET max_parallel_workers_per_gather = 0")
        self.execute("SET jit = off")

    def execute(self, statement):
        return self.connection.execute(statement)

    def cost(self, statements):
        """Microseconds of CPU of the last of the statements."""
        for statement in statements[:-1]:
            self.execute(statement)
        before = self.cpu()
        self.execute(statements[-1])
        return (self.cpu() - before) / 1000

    def cpu(self):
        with open(f"/proc/{self.pid}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[0])


def comparisons(session, files):
    """Name, statements of which the last is measured, whether one run is long."""
    for dim in (384, 1536):
        for letter, kind, operators in SCANS:
            table = f"{letter}{dim}"
            query = session.execute(f"SELECT x::text FROM {table} WHERE id = 7").fetchone()[0]
            name = f"scan {table}, "
            if kind in ("vector", "halfvec"):
                yield name + "vector_dims(x)", [f"SELECT count(vector_dims(x)) FROM {table}"], False
            if kind in ("vector", "sparsevec"):
                norm = {"vector": "vector_norm", "sparsevec": "l2_norm"}[kind]
                yield name + f"{norm}(x)", [f"SELECT count({norm}(x)) FROM {table}"], False
            for operator in operators.split():
                yield (name + "ORDER BY x " + operator,
                       [f"SELECT id FROM {table} ORDER BY x {operator} '{query}'::{kind}({dim}) LIMIT 10"], False)
    yield "avg", ["SELECT avg(x) FROM v384"], False
    yield "COPY TO, text", ["COPY copied TO '/dev/null'"], True
    yield "COPY TO, binary", ["COPY copied TO '/dev/null' WITH (FORMAT binary)"], True
    yield "COPY FROM, text, 8 digits", ["TRUNCATE copied", f"COPY copied FROM '{files}/text'"], True
    yield "COPY FROM, text, 17 digits", ["TRUNCATE copied", f"COPY copied FROM '{files}/digits'"], True
    yield "COPY FROM, binary", ["TRUNCATE copied", f"COPY copied FROM '{files}/binary' WITH (FORMAT binary)"], True


def compare(ours, peer, statements, rounds):
    """Cost of each round, ours and peer; who goes first changes."""
    costs = ([], [])
    for session in (ours, peer):
        session.cost(statements)
    for n in range(rounds):
        for which in ((0, 1), (1, 0))[n % 2]:
            costs[which].append((ours, peer)[which].cost(statements))
    return costs


def main():
    parser = argparse.ArgumentParser()
    for name in ("dsn", "ours", "peer", "files"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--copy-rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    ours, peer = Session(args.dsn, args.ours), Session(args.dsn, args.peer)

    print(f"{'microseconds of CPU':36} {'ours':>9} {'peer':>9}   peer/ours  median of pairs")
    for name, statements, is_long in comparisons(ours, args.files):
        if not re.search(args.only, name):
            continue
        a, b = compare(ours, peer, statements, args.copy_rounds if is_long else args.rounds)
        pairs = statistics.median(y / x for x, y in zip(a, b))
        print(f"{name:36} {min(a):9.0f} {min(b):9.0f}   {min(b) / min(a):9.2f}  {pairs:15.2f}", flush=True)


if __name__ == "__main__":
    main()

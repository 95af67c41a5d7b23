#!/usr/bin/env python3
"""Does the planner choose the index where it is fastest, and leave it elsewhere?

For tables of 100 to 100,000 rows and 3 to 1,536 dimensions, nearest-neighbor queries are asked with filters of several
selectivities, on a column with a btree index and on one without, and with several LIMITs.  Every plan is forced in turn
(the vector index, the btree with a sort, a scan of the table with a sort) and timed; then the planner is asked which one
it would take.  "Regret" is the time of its choice divided by that of the fastest that gives all rows: an ivfflat index
looks at some lists only, and is quick to return less than was asked for.

Times are CPU times of the backend, the fastest of several queries' medians; so other work on the machine hurts little.
Parallel plans are left out: they pay for time with CPU.  Tables are kept, and times too (planner.json), so that another run
after a change of the cost estimate only asks the planner again; --measure measures anew."""

import argparse
import json
import math
import os
import struct
import time

import numpy as np
import psycopg

from bench import Server, encode

LIMITS = [1, 10, 100, 1000, None]
SHARES = [0.001, 0.01, 0.1, 0.5, 1]
PLANS = {
    "vector": ("indexscan", "sort_off"),
    "btree": ("bitmapscan",),
    "table": ("seqscan",),
}
SETTINGS = ["SET jit = off", "SET max_parallel_workers_per_gather = 0", "SET plan_cache_mode = force_custom_plan",
            "SET statement_timeout = '30s'"]


def clustered(random, rows, dims):
    """Rows around centers that lie around centers: what embeddings look like to an index."""
    count = max(4, int(math.sqrt(rows) / 4))
    centers = random.standard_normal((count, dims), dtype="f4")
    return centers[random.integers(0, count, rows)] + 0.6 * random.standard_normal((rows, dims), dtype="f4")


def load(s, table, rows, dims, access_method):
    conn = s.conn
    if conn.execute("SELECT to_regclass(%s)", (table,)).fetchone()[0] is not None:
        return
    conn.execute("SET statement_timeout = 0")
    random = np.random.default_rng(rows + dims)
    conn.execute(f"CREATE TABLE {table} (id int8, indexed float8, plain float8, emb vector({dims}))")
    with s.cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for i, row in enumerate(clustered(random, rows, dims)):
            vector = encode(row)
            copy.write(struct.pack(">hiqididi", 4, 8, i, 8, random.random(), 8, random.random(), len(vector)) + vector)
        copy.write(struct.pack(">h", -1))
    conn.execute(f"CREATE INDEX ON {table} (indexed)")
    conn.execute(f"CREATE INDEX ON {table} USING {access_method} (emb vector_l2_ops)")
    conn.execute(f"VACUUM (ANALYZE) {table}")
    conn.execute(f"SELECT pg_prewarm(indexrelid) FROM pg_index WHERE indrelid = '{table}'::regclass")
    conn.execute("SET statement_timeout = '30s'")


def force(s, plan):
    """Leave the planner one way; None leaves it all of them."""
    for node in ("indexscan", "bitmapscan", "seqscan"):
        s.conn.execute(f"SET enable_{node} = {'on' if plan is None or node in PLANS[plan] else 'off'}")
    s.conn.execute(f"SET enable_sort = {'off' if plan is not None and 'sort_off' in PLANS[plan] else 'on'}")
    s.conn.execute("SET enable_indexonlyscan = off")


def explain(s, sql, query):
    """Which way the planner goes, and what it thinks that costs."""
    node = top = s.cursor.execute("EXPLAIN (FORMAT JSON) " + sql, (query,)).fetchone()[0][0]["Plan"]
    text = json.dumps(top)
    if "emb_idx" in text:
        return "vector", top["Total Cost"]
    return ("btree" if "indexed_idx" in text else "table"), node["Total Cost"]


def cpu_time(s, sql, queries):
    """Median over the queries of each one's best, and the rows returned."""
    best = []
    rows = 0
    for query in queries:
        times = []
        begun = time.perf_counter()
        while len(times) < 3 or (len(times) < 20 and time.perf_counter() - begun < 0.05):
            before = s.cpu()
            try:
                answer = s.cursor.execute(sql, (query,), prepare=True).fetchall()
            except psycopg.errors.QueryCanceled:
                return float("inf"), 0
            times.append(s.cpu() - before)
            if times[-1] > 1:
                break
        best.append(min(times))
        rows += len(answer)
    return float(np.median(best)), rows


def cells(args):
    for dims in args.dims:
        for rows in args.rows:
            for column in ("indexed", "plain"):
                for share in SHARES:
                    if share == 1 and column == "indexed":
                        continue
                    for limit in LIMITS:
                        yield dims, rows, column, share, limit


def statement(table, column, share, limit):
    where = f" WHERE {column} < {share}" if share < 1 else ""
    return f"SELECT id FROM {table}{where} ORDER BY emb <-> %s" + (f" LIMIT {limit}" if limit else "")


def measure(s, args, path):
    known = {}
    if os.path.exists(path) and not args.measure:
        with open(path) as f:
            known = json.load(f)
    for dims, rows, column, share, limit in cells(args):
        table = f"{args.access_method}_{dims}_{rows}"
        key = f"{table} {column} {share} {limit}"
        load(s, table, rows, dims, args.access_method)
        if key in known:
            continue
        queries = [encode(q) for q in clustered(np.random.default_rng(1), 3, dims)]
        sql = statement(table, column, share, limit)
        known[key] = {}
        for plan in PLANS:
            force(s, plan)
            if explain(s, sql, queries[0])[0] == plan:
                known[key][plan] = cpu_time(s, sql, queries)
        with open(path + ".new", "w") as f:
            json.dump(known, f)
        os.replace(path + ".new", path)
    return known


def report(s, args, times):
    regrets = []
    worst = []
    letters = {"vector": "v", "btree": "b", "table": "t"}
    print("\nEach cell: the planner's choice (v: vector index, b: btree, t: table), and its regret where that is over 1.05.")
    for dims in args.dims:
        for rows in args.rows:
            print(f"\n{dims} dimensions, {rows} rows" + "".join(f"{'LIMIT ' + str(limit) if limit else 'no LIMIT':>14}" for limit in LIMITS))
            for column, share in [("plain", 1)] + [(c, x) for c in ("indexed", "plain") for x in SHARES if x < 1]:
                line = "no filter" if share == 1 else f"{100 * share:g} %, {'btree' if column == 'indexed' else 'no btree'}"
                text = f"  {line:26}"
                for limit in LIMITS:
                    table = f"{args.access_method}_{dims}_{rows}"
                    key = f"{table} {column} {share} {limit}"
                    sql = statement(table, column, share, limit)
                    query = encode(clustered(np.random.default_rng(1), 3, dims)[0])
                    force(s, None)
                    choice, _ = explain(s, sql, query)
                    most = max(rows for _, rows in times[key].values())
                    fastest = min(t for t, rows in times[key].values() if rows == most)
                    regret = times[key][choice][0] / fastest
                    costs = {}
                    for plan in times[key]:
                        force(s, plan)
                        costs[plan] = explain(s, sql, query)[1]
                    regrets.append(regret)
                    detail = ", ".join(f"{p} {1e3 * t:.3f} ms (cost {costs[p]:.0f})" for p, (t, _) in times[key].items())
                    worst.append((regret, f"{line}, {f'LIMIT {limit}' if limit else 'no LIMIT'}, {dims} dimensions, {rows} rows: took {choice}; {detail}"))
                    text += f"{letters[choice] + (f' {regret:.2f}' if regret > 1.05 else ''):>14}"
                print(text)
    regrets = np.sort(regrets)
    print(f"\n{len(regrets)} queries: regret median {np.median(regrets):.2f}, 90 % {regrets[int(0.9 * len(regrets))]:.2f}, "
          f"99 % {regrets[int(0.99 * len(regrets))]:.2f}, worst {regrets[-1]:.2f}, over 1.5: {(regrets > 1.5).sum()}, over 3: {(regrets > 3).sum()}")
    for regret, text in sorted(worst, reverse=True)[:args.worst]:
        print(f"  {regret:6.2f}  {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", required=True, help="name=connection string; the last is asked")
    parser.add_argument("--restart", action="append", default=[], help="not used here")
    parser.add_argument("--data", help="not used here")
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows", type=lambda x: [int(i) for i in x.split(",")], default=[0], help="0: 100, 1000, 10000, 100000")
    parser.add_argument("--dims", type=lambda x: [int(i) for i in x.split(",")], default=[3, 128, 384, 1536])
    parser.add_argument("--access-method", default="hnsw")
    parser.add_argument("--measure", action="store_true", help="do not use times of an earlier run")
    parser.add_argument("--worst", type=int, default=20)
    for name in ("queries", "rounds", "inserts"):
        parser.add_argument("--" + name, help="not used here")
    args = parser.parse_args()

    if args.rows == [0]:
        args.rows = [100, 1000, 10000, 100000]
    s = Server(*args.server[-1].split("=", 1), None)
    for setting in SETTINGS:
        s.conn.execute(setting)
    times = measure(s, args, os.path.join(args.out, f"planner-{args.access_method}.json"))
    report(s, args, times)


if __name__ == "__main__":
    main()

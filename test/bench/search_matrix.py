#!/usr/bin/env python3
"""Recall, fill and time of vecsync.search under filters, and of duplicates, against exact search; called by test/bench/search.sh.

    search_matrix.py DSN BENCH_DATA ROWS[,ROWS...] QUERIES

For each number of rows: a table with the vectors and two columns to filter by, both a share in [0, 1).  "r" has nothing to do with the
vectors.  "c" is the row's place in the order of distance from one vector: a filter on it keeps a region, and the queries lie
either near that region or anywhere else, which is the hard case for a graph.  An answer is right when its exact similarity is
not below that of the tenth exact one.  Exit status 1 when a cell has recall below 0.99 or an answer is short."""

import json
import struct
import sys
import time

import numpy as np
import psycopg

SHARES = [0.0001, 0.001, 0.01, 0.1, 0.5, 1]
TOP = 10


def load(conn, base, place, chance):
    conn.execute("DROP TABLE IF EXISTS items CASCADE")
    conn.execute(f"CREATE TABLE items (id int8 PRIMARY KEY, body text, r float8, c float8, embedding vector({base.shape[1]}))")
    with conn.cursor().copy("COPY items (id, r, c, embedding) FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for i, row in enumerate(base):
            vector = struct.pack(">HH", len(row), 0) + row.astype(">f4").tobytes()
            copy.write(struct.pack(">hiqidid", 4, 8, i, 8, chance[i], 8, place[i]) + struct.pack(">i", len(vector)) + vector)
        copy.write(struct.pack(">h", -1))
    conn.execute("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)")
    conn.execute("VACUUM (ANALYZE, FREEZE) items")
    conn.execute("SELECT vecsync.drop_vectorizer(name) FROM vecsync.vectorizer")
    conn.execute("SELECT vecsync.create_vectorizer('items', model => 'm', content => 'body', enqueue_existing => false)")


def cell(conn, base, queries, column, share, qualifies):
    """(recall, fill, median ms, worst ms)"""
    rows = np.flatnonzero(qualifies)
    wanted = min(TOP, len(rows))
    right = found = 0
    times = []
    for query in queries:
        exact = base[rows] @ query
        last = np.partition(exact, -wanted)[-wanted] if wanted else 0
        text = "[" + ",".join(map(str, query)) + "]"
        filter = json.dumps({column: {"$lt": share}})
        start = time.perf_counter()
        answer = conn.execute("SELECT (key->>'id')::int FROM vecsync.search('items', query_vector => %s::vector, top_k => %s, filter => %s)",
                              (text, TOP, filter)).fetchall()
        times.append(time.perf_counter() - start)
        ids = np.array([a[0] for a in answer], dtype=int)
        found += len(set(ids) & set(rows))
        right += int((base[ids] @ query >= last - 1e-6).sum()) if len(ids) else 0
    total = max(wanted * len(queries), 1)
    return right / total, found / total if wanted else 1, np.median(times) * 1000, max(times) * 1000


def duplicates(conn, base, threshold, sample=10000):
    """Of the pairs that exact search finds between rows of a sample, how many are found among all."""
    rows = base[:sample]
    exact = {(i, j) for start in range(0, len(rows), 1000) for i, j in zip(*np.nonzero(rows[start:start + 1000] @ rows.T >= threshold + 1e-6))
             for i in [i + start] if i < j}
    start = time.perf_counter()
    pairs = {tuple(sorted(p)) for p in conn.execute("SELECT (a->>'id')::int, (b->>'id')::int FROM vecsync.duplicates('items', %s)", (threshold,))}
    seconds = time.perf_counter() - start
    recall = len(exact & pairs) / max(len(exact), 1)
    print(f"{len(base):7d} duplicates at {threshold}: {len(pairs)} pairs in {seconds:.1f} s; of {len(exact)} of the first {len(rows)} rows {recall:.4f} found", flush=True)
    return recall >= 0.99


def clusters(conn, base):
    start = time.perf_counter()
    count, rows = conn.execute("SELECT max(cluster), count(DISTINCT key) FROM vecsync.clusters('items')").fetchone()
    print(f"{len(base):7d} clusters at 0.8: {count} of {rows} rows in {time.perf_counter() - start:.1f} s", flush=True)
    return rows == len(base)


def main():
    dsn, data, sizes, nqueries = sys.argv[1], sys.argv[2], [int(x) for x in sys.argv[3].split(",")], int(sys.argv[4])
    everything = np.load(f"{data}/base.npy").astype(np.float32)
    held_out = np.load(f"{data}/queries.npy").astype(np.float32)
    everything /= np.linalg.norm(everything, axis=1, keepdims=True)
    held_out /= np.linalg.norm(held_out, axis=1, keepdims=True)
    rng = np.random.default_rng(1)
    failed = False
    conn = psycopg.connect(dsn, autocommit=True)
    print(f"{'rows':>7} {'share':>8}  {'filter':<13} {'index on it':<11} {'recall':>7} {'fill':>6} {'median ms':>10} {'worst ms':>9}")
    for size in sizes:
        base = everything[rng.choice(len(everything), size, replace=False)]
        anchor = base[0]
        place = np.empty(size)
        place[np.argsort(-(base @ anchor))] = np.arange(size) / size
        chance = rng.permutation(size) / size
        load(conn, base, place, chance)
        by_distance = np.argsort(-(held_out @ anchor))
        failed |= not (duplicates(conn, base, 0.95) & duplicates(conn, base, 0.8) & clusters(conn, base))
        kinds = [("unrelated", "r", chance, held_out[:nqueries]), ("region, near", "c", place, held_out[by_distance[:nqueries]]),
                 ("region, far", "c", place, held_out[by_distance[-nqueries:]])]
        for indexed in (False, True):
            if indexed:
                conn.execute("CREATE INDEX ON items (r)")
                conn.execute("CREATE INDEX ON items (c)")
                conn.execute("ANALYZE items")
            for share in SHARES:
                for kind, column, values, queries in kinds:
                    recall, fill, median, worst = cell(conn, base, queries, column, share, values < share)
                    bad = recall < 0.99 or fill < 1
                    failed |= bad
                    print(f"{size:7d} {share * 100:7.2f}%  {kind:<13} {'btree' if indexed else 'none':<11} {recall:7.4f} {fill:6.4f} {median:10.2f} {worst:9.2f}"
                          + ("  <" if bad else ""), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What becomes of an hnsw index whose rows are replaced: in each round a tenth is deleted, a tenth of others inserted, and
VACUUM run.  Shown are the times of both, the index's size, and the recall afterwards beside that of the same rows indexed anew."""

import argparse
import os
import time

import numpy as np

from bench import INDEX, QUERY, Server, encode, recalls, table

EFS = [10, 20, 40, 100, 200]


def exact(base, live, queries):
    """Ids of each query's 10 nearest by cosine among the live rows."""
    rows = np.asarray(base[live], dtype="f4")
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return np.asarray(live)[np.argsort(-(queries @ rows.T), axis=1)[:, :10]]


def recall(s, params, truth):
    s.conn.execute("SET enable_seqscan = off")
    result = []
    for ef in EFS:
        s.conn.execute(f"SET hnsw.ef_search = {ef}")
        result.append(recalls(s.ask(QUERY, params)[1], truth).mean())
    return result


def churn_round(s, base, gone, new):
    """Replace rows; (seconds, CPU seconds) of the inserts and of VACUUM."""
    s.conn.execute("DELETE FROM items WHERE id = ANY(%s)", ([int(i) for i in gone],))
    times = []
    for work in (lambda: [s.cursor.execute("INSERT INTO items VALUES (%s, %s)", (int(i), encode(base[i])), prepare=True) for i in new],
                 lambda: s.conn.execute("VACUUM items")):
        start, cpu = time.perf_counter(), s.cpu()
        work()
        times += [time.perf_counter() - start, s.cpu() - cpu]
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", required=True, help="name=connection string")
    parser.add_argument("--restart", action="append", default=[], help="not used here")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    for name, default in (("rows", 0), ("queries", 1000), ("rounds", 10), ("inserts", 0)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()

    base = np.load(os.path.join(args.data, "base.npy"), mmap_mode="r")
    queries = np.load(os.path.join(args.data, "queries.npy"))[:args.queries]
    rows = args.rows or len(base) // 2
    params = [encode(q) for q in queries]
    servers = [Server(*s.split("=", 1), None) for s in args.server]
    random = np.random.default_rng(7)
    live = list(range(rows))
    pool = list(range(rows, len(base)))
    lines = []

    def show(title, values, form="{:.3f}", more=False):
        lines.append((title, values, form, more))
        print("  " + title + ": " + ", ".join(f"{s.name} {form.format(v)}" for s, v in zip(servers, values)), flush=True)

    print(f"{rows} rows of {base.shape[1]} dimensions, {args.rounds} rounds", flush=True)
    for s in servers:
        s.load(base[:rows])
        s.conn.execute("SET synchronous_commit = off")
        s.build(0)
    size = [s.one("SELECT pg_relation_size('items_idx') / 1e6::float8") for s in servers]
    truth = exact(base, live, queries)
    before = [recall(s, params, truth) for s in servers]
    times = {s.name: [] for s in servers}
    for round_ in range(args.rounds):
        gone = random.choice(live, rows // 10, replace=False)
        new = random.choice(pool, rows // 10, replace=False)
        for s in servers:
            times[s.name].append(churn_round(s, base, gone, new))
            print(f"  round {round_ + 1} {s.name}: inserts {times[s.name][-1][0]:.2f} s, CPU {times[s.name][-1][1]:.2f}; "
                  f"VACUUM {times[s.name][-1][2]:.2f} s, CPU {times[s.name][-1][3]:.2f}", flush=True)
        live = sorted((set(live) - set(gone)) | set(new))
        pool = sorted((set(pool) - set(new)) | set(gone))
    truth = exact(base, live, queries)
    after = [recall(s, params, truth) for s in servers]
    for s in servers:
        if s.one("SELECT to_regproc('vector_index_stats') IS NOT NULL"):
            print(f"  {s.name}: {s.conn.execute('SELECT * FROM vector_index_stats(%s)', ('items_idx',)).fetchone()}", flush=True)
    new_size = [s.one("SELECT pg_relation_size('items_idx') / 1e6::float8") for s in servers]
    for s in servers:
        s.conn.execute("REINDEX INDEX items_idx")
    fresh = [recall(s, params, truth) for s in servers]

    print(INDEX)
    for i, title in enumerate(("inserts of a round, s", "inserts of a round, CPU s", "VACUUM, s", "VACUUM, CPU s")):
        show(title + ", median", [float(np.median([t[i] for t in times[s.name]])) for s in servers])
    show("index size before, MB", size, "{:.1f}")
    show("index size after, MB", new_size, "{:.1f}")
    for i, ef in enumerate(EFS):
        show(f"recall at ef_search {ef}, first build", [r[i] for r in before], "{:.4f}", True)
        show(f"recall at ef_search {ef}, after the rounds", [r[i] for r in after], "{:.4f}", True)
        show(f"recall at ef_search {ef}, built anew", [r[i] for r in fresh], "{:.4f}", True)
    text = table(servers, lines)
    print("\n" + text)
    with open(os.path.join(args.out, "churn.md"), "w") as f:
        f.write(text + "\n")


if __name__ == "__main__":
    main()

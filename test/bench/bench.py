#!/usr/bin/env python3
"""Side by side: build, size, recall and speed, inserts, vacuum of an hnsw index on several servers.

Everything that is compared is measured in turns, round by round, and each query counts with its fastest round, so
that other work on the machine hurts both alike.  CPU times are those of the backend (Linux)."""

import argparse
import os
import struct
import subprocess
import time

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

INDEX = "CREATE INDEX items_idx ON items USING hnsw (emb vector_cosine_ops) WITH (m = 16, ef_construction = 64)"
QUERY = "SELECT id FROM items ORDER BY emb <=> %s LIMIT 10"
EFS = [10, 20, 40, 80, 120, 200, 400]


class Vector(bytes):
    """A vector in the binary wire format."""


def encode(row):
    return Vector(struct.pack(">HH", len(row), 0) + np.asarray(row, dtype=">f4").tobytes())


class Server:
    def __init__(self, name, dsn, restart):
        self.name, self.dsn, self.restart_command = name, dsn, restart
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("CREATE EXTENSION IF NOT EXISTS vector")
            conn.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
        self.connect()

    def connect(self):
        self.conn = psycopg.connect(self.dsn, autocommit=True)
        info = TypeInfo.fetch(self.conn, "vector")

        class VectorDumper(Dumper):
            format = Format.BINARY
            oid = info.oid

            def dump(self, obj):
                return obj

        self.conn.adapters.register_dumper(Vector, VectorDumper)
        self.cursor = self.conn.cursor(binary=True)

    def restart(self):
        self.conn.close()
        command = self.restart_command.split() + ["-m", "fast", "-w", "-l", "/dev/null", "restart"]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--"] + command
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.connect()

    def one(self, sql, *args):
        return self.conn.execute(sql, args or None).fetchone()[0]

    def cpu(self):
        try:
            with open(f"/proc/{self.conn.info.backend_pid}/schedstat") as f:
                return int(f.read().split()[0]) / 1e9
        except OSError:
            return float("nan")

    def load(self, base):
        self.conn.execute("DROP TABLE IF EXISTS items")
        self.conn.execute(f"CREATE TABLE items (id int8 PRIMARY KEY, emb vector({base.shape[1]}))")
        with self.cursor.copy("COPY items FROM STDIN (FORMAT binary)") as copy:
            copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
            for i, row in enumerate(base):
                vector = encode(row)
                copy.write(struct.pack(">hiqi", 2, 8, i, len(vector)) + vector)
            copy.write(struct.pack(">h", -1))
        self.conn.execute("VACUUM (ANALYZE, FREEZE) items")

    def build(self, workers):
        self.conn.execute("DROP INDEX IF EXISTS items_idx")
        self.conn.execute("CHECKPOINT")
        self.conn.execute(f"SET max_parallel_maintenance_workers = {workers}")
        start = time.perf_counter()
        self.conn.execute(INDEX)
        return time.perf_counter() - start

    def prewarm(self):
        self.conn.execute("SELECT pg_prewarm('items'), pg_prewarm('items_idx'), pg_prewarm('items_pkey')")

    def ask(self, sql, params):
        """Latency of each query, and the rows each returned."""
        latency, rows = [], []
        for p in params:
            start = time.perf_counter()
            answer = self.cursor.execute(sql, (p,), prepare=True).fetchall()
            latency.append(time.perf_counter() - start)
            rows.append([r[0] for r in answer])
        return np.array(latency), rows


def recalls(rows, truth):
    return np.array([len(set(r) & set(map(int, t[:10]))) / 10 for r, t in zip(rows, truth)])


def sweep(servers, params, truth, rounds):
    """{server: [(ef, recall, share of recall 0, QPS, p95 in ms, CPU in ms)]}"""
    result = {s.name: [] for s in servers}
    for ef in EFS:
        best, cpu, rows = {}, {}, {}
        for round_ in range(rounds + 1):            # the first warms up
            for s in servers:
                s.conn.execute(f"SET hnsw.ef_search = {ef}")
                before = s.cpu()
                latency, rows[s.name] = s.ask(QUERY, params)
                used = (s.cpu() - before) / len(params)
                if round_ > 0:
                    best[s.name] = np.minimum(best.get(s.name, latency), latency)
                    cpu[s.name] = min(cpu.get(s.name, used), used)
        for s in servers:
            recall = recalls(rows[s.name], truth)
            lat = np.sort(best[s.name])
            result[s.name].append((ef, recall.mean(), (recall == 0).mean(), 1 / lat.mean(),
                                   1e3 * lat[int(0.95 * len(lat))], 1e3 * cpu[s.name]))
            print(f"  {s.name:10} ef {ef:4}  recall {recall.mean():.4f}  zero {(recall == 0).mean():.4f}  "
                  f"QPS {1 / lat.mean():7.0f}  CPU {1e3 * cpu[s.name]:.3f} ms", flush=True)
    return result


def in_lookups(s, params, rounds):
    """The median query at ef_search 10 divided by the median lookup of a row, each with its fastest round."""
    s.conn.execute("SET hnsw.ef_search = 10")
    query = lookup = np.inf
    for _ in range(rounds + 1):
        query = np.minimum(query, s.ask(QUERY, params)[0])
        lookup = np.minimum(lookup, s.ask("SELECT id FROM items WHERE id = %s", list(range(len(params))))[0])
    return np.median(query) / np.median(lookup)


def at_recall(points, target, column):
    """A value of the sweep, interpolated at a recall; None where it was not reached."""
    points = sorted(points, key=lambda p: p[1])
    for low, high in zip(points, points[1:]):
        if low[1] <= target <= high[1]:
            share = (target - low[1]) / max(high[1] - low[1], 1e-9)
            return low[column] + share * (high[column] - low[column])
    return points[0][column] if points[0][1] >= target else None


def inserts(s, rows, first):
    """Single-row commits: (rows per second, CPU in ms, WAL bytes) per row."""
    s.conn.execute("SET synchronous_commit = off")
    s.conn.execute("CHECKPOINT")
    encoded = [encode(r) for r in rows]
    half = len(rows) // 2
    # The first half pays for full-page images; WAL is counted on the second.
    start, cpu = time.perf_counter(), s.cpu()
    for i, v in enumerate(encoded):
        if i == half:
            wal = s.one("SELECT pg_current_wal_insert_lsn() - '0/0'")
        s.cursor.execute("INSERT INTO items VALUES (%s, %s)", (first + i, v), prepare=True)
    seconds, cpu = time.perf_counter() - start, s.cpu() - cpu
    wal = float(s.one("SELECT pg_current_wal_insert_lsn() - '0/0'") - wal) / (len(rows) - half)
    heap = 4 * rows.shape[1] + 150
    return len(rows) / seconds, 1e3 * cpu / len(rows), wal - heap


def vacuum(s):
    s.conn.execute("DELETE FROM items WHERE id % 10 = 3")
    start = time.perf_counter()
    s.conn.execute("VACUUM items")
    return time.perf_counter() - start


def draw(path, result):
    """Recall against queries per second, as SVG."""
    width, height, left, bottom = 640, 420, 70, 50
    points = [(p[1], p[3]) for ps in result.values() for p in ps]
    low = min(r for r, _ in points) - 0.01
    top = max(q for _, q in points) * 1.05
    x = lambda r: left + (r - low) / (1.0 - low) * (width - left - 20)
    y = lambda q: height - bottom - q / top * (height - bottom - 30)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<path d="M{left} 20V{height - bottom}H{width - 20}" stroke="black" fill="none"/>',
           f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">recall@10</text>',
           f'<text x="16" y="{height / 2}" text-anchor="middle" transform="rotate(-90 16 {height / 2})">queries per second, 1 client</text>']
    for i in range(6):
        r, q = low + (1 - low) * i / 5, top * i / 5
        svg.append(f'<text x="{x(r):.0f}" y="{height - bottom + 16}" text-anchor="middle">{r:.3f}</text>')
        svg.append(f'<text x="{left - 6}" y="{y(q) + 4:.0f}" text-anchor="end">{q:.0f}</text>')
        svg.append(f'<path d="M{left} {y(q):.0f}H{width - 20}" stroke="#ddd"/>')
    for (name, ps), colour in zip(result.items(), ("#c33", "#26c", "#393")):
        line = " ".join(f"{x(p[1]):.1f},{y(p[3]):.1f}" for p in ps)
        svg.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in ps:
            svg.append(f'<circle cx="{x(p[1]):.1f}" cy="{y(p[3]):.1f}" r="3" fill="{colour}"><title>ef {p[0]}</title></circle>')
        svg.append(f'<text x="{x(ps[0][1]) + 8:.0f}" y="{y(ps[0][3]) - 6:.0f}" fill="{colour}">{name}</text>')
    with open(path, "w") as f:
        f.write("\n".join(svg + ["</svg>", ""]))


def table(servers, rows):
    """Markdown; with two servers a last column has the ratio that favours the second."""
    names = [s.name for s in servers]
    head = ["", *names] + (["ratio"] if len(names) == 2 else [])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for title, values, form, more_is_better in rows:
        cells = [form.format(v) if v is not None else "-" for v in values]
        if len(names) == 2:
            a, b = values
            ratio = None if a is None or b is None or not a or not b else (b / a if more_is_better else a / b)
            cells.append(f"{ratio:.2f}x" if ratio is not None else "-")
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", required=True, help="name=connection string")
    parser.add_argument("--restart", action="append", default=[], help="name=pg_ctl command")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    for name, default in (("rows", 0), ("queries", 1000), ("rounds", 3), ("inserts", 500)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()

    base = np.load(os.path.join(args.data, "base.npy"), mmap_mode="r")
    queries = np.load(os.path.join(args.data, "queries.npy"))[:args.queries]
    truth = np.load(os.path.join(args.data, "gt.npy"))[:args.queries]
    if args.rows and args.rows < len(base):
        base = np.asarray(base[:args.rows], dtype="f4")
        unit = base / np.maximum(np.linalg.norm(base, axis=1, keepdims=True), 1e-30)
        truth = np.argsort(-(queries @ unit.T), axis=1)[:, :10]
    params = [encode(q) for q in queries]
    restart = dict(r.split("=", 1) for r in args.restart)
    servers = [Server(*s.split("=", 1), restart.get(s.split("=", 1)[0])) for s in args.server]
    rows = []

    def each(title, function, form, more_is_better=False):
        rows.append((title, [function(s) for s in servers], form, more_is_better))
        print("  " + title + ": " + ", ".join(f"{s.name} {form.format(v)}" for s, v in zip(servers, rows[-1][1])), flush=True)

    print(f"{len(base)} rows of {base.shape[1]} dimensions, {len(queries)} queries", flush=True)
    for s in servers:
        s.load(base)
    each("build, 1 worker, s", lambda s: s.build(1), "{:.1f}")
    each("build, serial, s", lambda s: s.build(0), "{:.1f}")
    each("index size, MB", lambda s: s.one("SELECT pg_relation_size('items_idx')") / 1e6, "{:.1f}")
    for s in servers:
        s.prewarm()
    result = sweep(servers, params, truth, args.rounds)
    for target in (0.9, 0.95, 0.99):
        for title, column, form, more in (("QPS", 3, "{:.0f}", True), ("p95, ms", 4, "{:.3f}", False), ("CPU, ms", 5, "{:.3f}", False)):
            rows.append((f"{title} at recall {target}", [at_recall(result[s.name], target, column) for s in servers], form, more))
    rows.append(("queries of recall 0 at ef_search 10, %", [100 * result[s.name][0][2] for s in servers], "{:.2f}", False))
    rows.append(("best recall up to ef_search 400", [max(p[1] for p in result[s.name]) for s in servers], "{:.4f}", True))
    each("primary key lookup, ms", lambda s: 1e3 * np.median(s.ask("SELECT id FROM items WHERE id = %s", list(range(1000)))[0]), "{:.3f}")
    each("query at ef_search 10, in lookups by primary key", lambda s: in_lookups(s, params, args.rounds), "{:.2f}")
    if all(s.restart_command for s in servers):
        for s in servers:
            s.restart()
            s.conn.execute("SET hnsw.ef_search = 40")
        each("first 100 queries after a restart, mean ms", lambda s: 1e3 * s.ask(QUERY, params[:100])[0].mean(), "{:.2f}")
    extra = np.asarray(queries[:args.inserts], dtype="f4")
    done = {s.name: inserts(s, extra, len(base)) for s in servers}
    for i, (title, form, more) in enumerate((("single-row inserts per second", "{:.0f}", True), ("CPU per insert, ms", "{:.3f}", False),
                                             ("WAL per insert without the table's, bytes", "{:.0f}", False))):
        rows.append((title, [done[s.name][i] for s in servers], form, more))
    each("VACUUM after deleting 10 %, s", vacuum, "{:.2f}")

    text = table(servers, rows)
    print("\n" + text)
    with open(os.path.join(args.out, "table.md"), "w") as f:
        f.write(text + "\n")
    draw(os.path.join(args.out, "curve.svg"), result)
    print(f"\n{args.out}/table.md, {args.out}/curve.svg")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Figures of the sync: one line for each target.

    sync_bench.py --bindir DIR --folder DIR [--only "T1 T2 ..."] [--backlog ROWS]

Times are of this machine and of what else it does meanwhile; comparisons are interleaved and by medians.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "soak"))
from soak_cluster import Cluster, Service  # noqa: E402

DIMS = 384
NO_INDEX = '{"method": "none"}'  # what the index on the vectors costs is measured elsewhere


class FastService:
    """bench_service.py as a process."""

    def __init__(self, folder):
        port = os.path.join(folder, "fast.port")
        self.process = subprocess.Popen([sys.executable, "-OO", "-B", os.path.join(HERE, "bench_service.py"), "--port-file", port,
                                         "--dims", str(DIMS)])
        while not os.path.exists(port):
            time.sleep(0.02)
        with open(port) as f:
            self.base = f"http://127.0.0.1:{f.read()}"

    def get(self, path):
        with urllib.request.urlopen(self.base + path) as answer:
            return json.load(answer)


def cpu(pid):
    """Seconds that a process has computed: what else the machine does shows in them least."""
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0]) / 1e9


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Bench:
    def __init__(self, cluster, fast, fake, args):
        self.cluster, self.fast, self.fake, self.args = cluster, fast, fake, args
        self.c = cluster.connect()
        self.c.execute("CREATE EXTENSION vecsync CASCADE")
        for name, url, options in (("fast", fast.base + "/v1/embeddings", ""), ("single", fast.base + "/v1/embeddings", ", max_batch => 1, max_inflight => 16"),
                                   ("fake", fake.url, "")):
            self.c.execute(f"SELECT vecsync.create_model(%s, url => %s, model => 'm', dimensions => {DIMS}{options})", [name, url])

    def one(self, query, *args):
        return self.c.execute(query, args or None).fetchone()[0]

    def table(self, name, rows=0, model="fast", vectorizer=True):
        self.c.execute(f"DROP TABLE IF EXISTS {name} CASCADE")
        self.c.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, body text, other int DEFAULT 0)")
        if rows:
            self.fill(name, 1, rows)
            self.c.execute(f"VACUUM ANALYZE {name}")
        if vectorizer:
            self.c.execute(f"SELECT vecsync.create_vectorizer(%s, model => %s, content => 'body', index => '{NO_INDEX}')", [name, model])
        else:
            self.c.execute(f"ALTER TABLE {name} ADD COLUMN embedding vector({DIMS})")

    def fill(self, name, first, last):
        self.c.execute(f"INSERT INTO {name} (id, body) SELECT i, 'a text of a usual length, number ' || i FROM generate_series({first}, {last}) i")

    def wait(self, name, seconds=600):
        if not self.one(f"SELECT vecsync.wait('{name}', '{seconds} s')"):
            raise RuntimeError(f"{name} is not in step: {self.c.execute('SELECT * FROM vecsync.status').fetchall()}")

    def delay(self, ms):
        self.fast.get(f"/delay/{ms}")

    def say(self, target, text):
        print(f"{target:4} {text}", flush=True)

    # ---- speed ------------------------------------------------------------------------

    def t1(self):
        self.delay(0)
        self.table("t1")
        reader = self.cluster.connect()
        times = []
        for i in range(200):
            time.sleep(random.random() * 0.1)
            self.c.execute("INSERT INTO t1 VALUES (%s, %s)", [i, f"text {i}"])
            started = time.perf_counter()
            while not reader.execute("SELECT embedding IS NOT NULL FROM t1 WHERE id = %s", [i]).fetchone()[0]:
                time.sleep(0.0005)
            times.append((time.perf_counter() - started) * 1000)
        self.say("T1", f"COMMIT to searchable, 0-ms service, {len(times)} single rows: p50 {percentile(times, 0.5):.1f} ms,"
                       f" p99 {percentile(times, 0.99):.1f} ms (p50 <= 10, p99 <= 50)")

    def drain(self, model, rows, digests=True):
        self.table("t2", rows, model, vectorizer=False)
        self.c.execute(f"SELECT vecsync.create_vectorizer('t2', model => %s, content => 'body', index => '{NO_INDEX}', enqueue_existing => false)", [model])
        self.c.execute("SELECT vecsync.pause('t2')")
        self.c.execute("UPDATE t2 SET body = body || '.'")
        self.c.execute("VACUUM t2")
        if not digests:
            self.c.execute("ALTER TABLE vecsync.digest RENAME TO digest_away")
        before = self.fast.get("/stats")
        worker = self.cluster.worker()
        started, computed = time.perf_counter(), cpu(worker)
        self.c.execute("SELECT vecsync.resume('t2')")
        self.wait("t2")
        seconds, computed = time.perf_counter() - started, cpu(worker) - computed
        after = self.fast.get("/stats")
        if not digests:
            self.c.execute("ALTER TABLE vecsync.digest_away RENAME TO digest")
        self.c.execute("DROP TABLE t2 CASCADE")
        self.worker_us = computed / rows * 1e6
        return rows / seconds, after["requests"] - before["requests"], 100 * (after["cpu"] - before["cpu"]) / seconds

    def t2(self):
        self.delay(20)
        rate, requests, service = max(self.drain("fast", 20000) for _ in range(3))
        self.say("T2", f"drain of 20,000 rows, {DIMS} dimensions, 20-ms service: {rate:,.0f} rows/s (>= 3,000, stretch 6,000);"
                       f" best of 3, {requests} requests, service used {service:.0f} % of a core")
        rate, requests, service = self.drain("single", 4000)
        self.say("T2b", f"one input in a request, 16 in flight: {rate:,.0f} rows/s (>= 400); service used {service:.0f} % of a core")

    def t2d(self):
        """With digests and, their table out of reach, without."""
        self.delay(20)
        rates, times = {True: [], False: []}, {True: [], False: []}
        for _ in range(4):
            for digests in rates:
                rates[digests].append(self.drain("fast", 20000, digests)[0])
                times[digests].append(self.worker_us)
        with_, without = (statistics.median(times[d]) for d in (True, False))
        self.say("T2d", f"the same with and without digests: {max(rates[True]):,.0f} and {max(rates[False]):,.0f} rows/s,"
                        f" {with_:.1f} and {without:.1f} us of the worker a row: {100 * (with_ / without - 1):+.1f} %")

    # ---- what writers pay ----------------------------------------------------------------

    def compare(self, prepare, statement, rounds):
        """Medians of a statement on a table with vectorizer and on one without, in turn."""
        times = {"plain": [], "followed": []}
        for _ in range(rounds):
            for name in times:
                prepare(name)
                started = time.perf_counter()
                statement(name)
                times[name].append(time.perf_counter() - started)
        plain, followed = (statistics.median(times[n]) for n in ("plain", "followed"))
        return plain, followed, 100 * (followed / plain - 1)

    def singles(self, empty, n):
        """Medians in us of single inserts, in turn, ten by ten; and what the backend computed for each."""
        times = {"plain": [], "followed": []}
        computed = {"plain": [], "followed": []}
        backend = self.one("SELECT pg_backend_pid()")
        for name in times:
            empty(name)
        for i in range(0, n, 10):
            for name in times:
                before = cpu(backend)
                for j in range(i, i + 10):
                    statement = f"INSERT INTO {name} (id, body) VALUES ({j}, 'text {j}')"
                    started = time.perf_counter()
                    self.c.execute(statement)
                    times[name].append((time.perf_counter() - started) * 1e6)
                computed[name].append((cpu(backend) - before) / 10 * 1e6)
        plain, followed = (statistics.median(times[n]) for n in ("plain", "followed"))
        return plain, followed, 100 * (followed / plain - 1), *(statistics.median(computed[n]) for n in ("plain", "followed"))

    def pair(self):
        self.delay(0)
        self.table("plain", vectorizer=False)
        self.table("followed")
        self.c.execute("SELECT vecsync.pause('followed')")

    def empty(self, name):
        self.c.execute(f"TRUNCATE {name}")
        self.c.execute("TRUNCATE vecsync.queue")

    def t3(self):
        self.pair()
        plain, followed, more = self.compare(self.empty, lambda name: self.fill(name, 1, 50000), 9)
        self.say("T3", f"INSERT ... SELECT of 50,000 rows: {plain * 1000:.0f} ms plain, {followed * 1000:.0f} ms followed: {more:+.1f} % (<= +25)")

    def t3b(self):
        self.pair()
        for commit, enabled in (("on", "on"), ("on", "off"), ("off", "off")):
            self.c.execute(f"SET synchronous_commit = {commit}")
            self.c.execute(f"ALTER SYSTEM SET vecsync.enabled = {enabled}")
            self.c.execute("SELECT pg_reload_conf()")
            while (self.cluster.worker() is not None) != (enabled == "on"):
                time.sleep(0.1)
            plain, followed, more, plain_cpu, followed_cpu = self.singles(self.empty, 1500)
            self.say("T3b", f"single-row autocommit INSERT, synchronous_commit {commit}, worker {enabled}: {plain:.0f} us plain,"
                            f" {followed:.0f} us followed: {more:+.1f} %, {followed - plain:+.0f} us (<= +5 % or +30 us);"
                            f" the backend computed {plain_cpu:.0f} and {followed_cpu:.0f} us")
        self.c.execute("RESET synchronous_commit")
        self.c.execute("ALTER SYSTEM RESET vecsync.enabled")
        self.c.execute("SELECT pg_reload_conf()")

    def t3c(self):
        self.pair()
        for name in ("plain", "followed"):
            self.fill(name, 1, 20000)
        self.c.execute("SELECT vecsync.resume('followed')")
        self.wait("followed")
        self.c.execute("UPDATE plain SET embedding = f.embedding FROM followed f WHERE f.id = plain.id")
        before = self.fast.get("/stats")["requests"]
        plain, followed, more = self.compare(lambda name: self.c.execute(f"VACUUM {name}"),
                                             lambda name: self.c.execute(f"UPDATE {name} SET other = other + 1"), 9)
        self.wait("followed")
        self.say("T3c", f"UPDATE of an unrelated column, 20,000 rows: {plain * 1000:.0f} ms plain, {followed * 1000:.0f} ms followed: {more:+.1f} % (<= +20),"
                        f" {self.fast.get('/stats')['requests'] - before} requests (0)")

    # ---- memory ----------------------------------------------------------------------------

    def rss(self):
        with open(f"/proc/{self.cluster.worker()}/status") as f:
            fields = dict(line.split(":", 1) for line in f)
        return tuple(int(fields[k].split()[0]) / 1024 for k in ("RssAnon", "RssFile", "RssShmem"))

    def t4(self):
        self.delay(0)
        self.say("T4", "worker idle: %.1f MB of its own, %.1f MB of code, %.1f MB of shared memory touched (<= 32)" % self.rss())
        self.table("t4")
        self.c.execute("SELECT vecsync.pause('t4')")
        backlog = self.args.backlog
        self.fill("t4", 1, backlog)
        self.c.execute("SELECT vecsync.resume('t4')")
        sizes = []
        done = 0
        while done < min(backlog, 200000):
            time.sleep(1)
            done = backlog - self.one("SELECT pending FROM vecsync.status WHERE vectorizer = 't4'")
            sizes.append((done, self.rss()[0]))
        own, code, shared = self.rss()
        slope = (sizes[-1][1] - sizes[len(sizes) // 4][1]) / max(1, sizes[-1][0] - sizes[len(sizes) // 4][0]) * 100000
        self.say("T4", f"with a backlog of {backlog:,} rows, {done:,} of them done: {own:.1f} MB of its own, {code:.1f} MB of code, {shared:.1f} MB of shared memory touched (<= 64);"
                       f" slope {slope:+.2f} MB per 100,000 rows (< 1)")
        self.c.execute("DROP TABLE t4 CASCADE")

    def t4b(self):
        self.table("t4b", 100)
        self.wait("t4b")
        self.c.execute("SET synchronous_commit = off")
        self.c.execute("SELECT vecsync.pause('t4b')")
        parts = []
        for part in range(100):
            started = time.perf_counter()
            for i in range(1000):
                self.c.execute("UPDATE t4b SET body = body WHERE id = 1", prepare=True)
                self.c.execute(f"INSERT INTO t4b (id, body) VALUES ({1000 + i}, 'x') ON CONFLICT (id) DO UPDATE SET body = 'y{part}'") if i % 10 == 0 else None
            parts.append(time.perf_counter() - started)
        self.c.execute("RESET synchronous_commit")
        self.c.execute("DROP TABLE t4b CASCADE")
        first, last = statistics.median(parts[:5]), statistics.median(parts[-5:])
        self.say("T4b", f"100,000 transactions in one session: first thousands {first * 1000:.0f} ms each, last {last * 1000:.0f} ms: x {last / first:.2f} (<= 1.1)")

    # ---- services that are not well ------------------------------------------------------------

    def t5(self):
        self.fake.play({"dims": DIMS})
        self.table("t5", 300, "fake")
        self.wait("t5")
        self.fake.play({"dims": DIMS, "rules": [{"hang": True}]})
        self.c.execute("UPDATE t5 SET body = body || '!'")
        while self.fake.stats()["hanging"] == 0:
            time.sleep(0.01)
        times = []
        for statement in ("UPDATE t5 SET body = body || '?' WHERE id < 20", "DELETE FROM t5 WHERE id = 21",
                          "ALTER TABLE t5 ADD COLUMN more int", "TRUNCATE t5"):
            started = time.perf_counter()
            self.c.execute(statement)
            times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.3)
        row = self.c.execute("SELECT xact_start, backend_xmin FROM pg_stat_activity WHERE backend_type = 'vecsync worker'").fetchone()
        started = time.perf_counter()
        self.c.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'")
        ended = (time.perf_counter() - started) * 1000
        self.fake.play({"dims": DIMS})
        self.say("T5", f"while a request hangs: UPDATE, DELETE, ALTER, TRUNCATE of its rows took at most {max(times):.0f} ms (<= 50);"
                       f" worker's xact_start and xmin: {row}; T6: terminated in {ended:.0f} ms (<= 1000)")
        self.c.execute("DROP TABLE t5 CASCADE")

    def t7(self):
        requests, burst, seconds = 16, 4, 4
        self.table("t7", 128 * requests, "fake", vectorizer=False)
        self.fake.play({"dims": DIMS, "rate": {"requests": burst, "seconds": seconds}})
        started = time.perf_counter()
        self.c.execute("SELECT vecsync.create_vectorizer('t7', model => 'fake', content => 'body')")
        self.wait("t7")
        took = time.perf_counter() - started
        least = (requests - burst) * seconds / burst
        stats = self.fake.stats()
        failed = self.one("SELECT count(*) FROM vecsync.failed")
        self.say("T7", f"{requests} batches against a bucket of {burst} requests a {seconds} s: {took:.1f} s, x {took / least:.2f} of the least possible (<= 1.2),"
                       f" {stats['by_status'].get('429', 0)} answers 429, {failed} rows failed (0)")
        self.c.execute("DROP TABLE t7 CASCADE")

    def t8(self):
        self.fake.play({"dims": DIMS, "rules": [{"when": {"text": "poison"}, "status": 400, "message": "input is not allowed"}]})
        self.table("t8", 0, "fake")
        started = time.perf_counter()
        self.c.execute("INSERT INTO t8 SELECT i, CASE WHEN i = 77 THEN 'poison' ELSE 'text ' || i END FROM generate_series(1, 128) i")
        while self.one("SELECT count(embedding) FROM t8") < 127:
            time.sleep(0.002)
        took = (time.perf_counter() - started) * 1000
        self.wait("t8")
        words = self.one("SELECT string_agg(error, ';') FROM vecsync.failed WHERE vectorizer = 't8'")
        self.say("T8", f"one poison row in 128: the others in {took:.0f} ms (<= 2000), {self.fake.stats()['requests']} requests (<= 15), failed: {words}")
        self.c.execute("DROP TABLE t8 CASCADE")

    # ---- a held snapshot -----------------------------------------------------------------------

    def churn(self, transactions):
        """Rows per second through small transactions, until the last is embedded."""
        started = time.perf_counter()
        for i in range(transactions):
            self.c.execute(f"UPDATE t10 SET body = 'text {i} {started}' WHERE id BETWEEN {i % 2000 * 10 + 1} AND {i % 2000 * 10 + 10}")
        self.wait("t10")
        return transactions * 10 / (time.perf_counter() - started)

    def t10(self):
        self.delay(0)
        self.table("t10", 20000)
        self.wait("t10")
        self.c.execute("SET synchronous_commit = off")
        self.churn(300)
        normal = statistics.median(self.churn(1000) for _ in range(3))
        with self.cluster.connect() as holder:
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT count(*) FROM t10")
            self.churn(5000)
            held = statistics.median(self.churn(1000) for _ in range(3))
        self.c.execute("RESET synchronous_commit")
        self.say("T10", f"held snapshot after 50,000 changes of 20,000 rows: {held:,.0f} rows/s against {normal:,.0f}: {100 * held / normal:.0f} % (>= 70)")
        self.c.execute("DROP TABLE t10 CASCADE")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--only", default="T1 T2 T2d T3 T3b T3c T4 T4b T5 T7 T8 T10")
    parser.add_argument("--backlog", type=int, default=1000000)
    args = parser.parse_args()
    os.makedirs(args.folder)
    fast = FastService(args.folder)
    fake = Service(args.folder, {"dims": DIMS}, log=False)
    cluster = Cluster(args.bindir, args.folder, "shared_buffers = '256MB'\nmax_wal_size = '4GB'\n")
    try:
        bench = Bench(cluster, fast, fake, args)
        for target in args.only.split():
            getattr(bench, target.lower())()
    finally:
        cluster.close()
        fake.close()
        fast.process.kill()
        fast.process.wait()
    shutil.rmtree(args.folder)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Soak: random schemas, concurrent random work, faults of the service and kills; then everything has to be in step.

    soak.py --bindir DIR --folder DIR [--duration SECONDS] [--seed N] [--sessions N] [--pause SECONDS]

The last line tells the verdict, and so does the exit status:

    lost       rows with text and no vector
    duplicate  keys with more than one vector of a kind
    wrong      vectors that are no text's of the row: another row's, or nobody's
    orphan     vectors without text, entries of the queue and dead letters left over
    stale      vectors of a text that the service was asked for and no row has any more
"""

import argparse
import os
import random
import shutil
import sys
import threading
import time

import psycopg

import soak_chaos
import soak_schema
import soak_work
from soak_cluster import Cluster, Service


class Progress:
    """Patience with a slow machine: the time is up when nothing has moved for so long, not when there is much to do."""

    def __init__(self, c, patience):
        self.c, self.patience = c, patience
        self.seen = None

    def stopped(self):
        pending, generations = self.c.execute("SELECT (SELECT coalesce(sum(pending), 0) FROM vecsync.status),"
                                              " (SELECT array_agg((id, successor_of, retired)::text ORDER BY id) FROM vecsync.vectorizer)").fetchone()
        if self.seen is None or pending < self.seen[0] or generations != self.seen[1]:
            self.seen = pending, generations
            self.until = time.monotonic() + self.patience
        return time.monotonic() > self.until


def settle(cluster, tables, patience):
    """Let everything be worked off under a service that is well.  Returns what did not come to rest."""
    with cluster.connect() as c:
        for gid, in c.execute("SELECT gid FROM pg_prepared_xacts ORDER BY gid").fetchall():
            c.execute(f"{'COMMIT' if hash(gid) % 3 else 'ROLLBACK'} PREPARED '{gid}'")
        for model in ("alpha", "beta"):     # one row a request, as it may be now, takes a slow machine long
            c.execute("SELECT vecsync.alter_model(%s, %s)", [model, '{"max_batch": 100, "max_inflight": 4}'])
        names = [v.name for t in tables for v in t.vectorizers]
        for name in names:
            c.execute("SELECT vecsync.resume(%s)", [name])
        problems = []
        for failed_only in (False, True, True):  # a rejection from before may still be under way
            for name in names:
                if failed_only:
                    c.execute("SELECT vecsync.resync(%s, failed_only => true)", [name])
                progress = Progress(c, patience)
                while not c.execute("SELECT vecsync.wait(%s, '5 s')", [name]).fetchone()[0]:
                    if progress.stopped():
                        problems.append(f"{name} is not in step and has not moved for {patience} s: "
                                        + str(c.execute("SELECT * FROM vecsync.status WHERE vectorizer = %s", [name]).fetchone()))
                        break
            if problems:
                break
        return problems or settle_generations(c, patience) or verify(c, names)


def verify(c, names):
    """The product's own check finds nothing where nothing is wrong."""
    found = [(name, c.execute("SELECT problem, key::text FROM vecsync.verify(%s) LIMIT 3", [name]).fetchall()) for name in names]
    return [f"verify of {name} found {rows}" for name, rows in found if rows]


def settle_generations(c, patience):
    """Changes of generations come to their end.  Returns those that did not."""
    progress = Progress(c, patience)
    query = "SELECT name FROM vecsync.vectorizer WHERE successor_of IS NOT NULL OR retired IS NOT NULL"
    while left := c.execute(query).fetchall():
        if progress.stopped():
            return [f"{name} has not come to its end, and nothing has moved for {patience} s" for name, in left]
        for name, in c.execute("SELECT name FROM vecsync.vectorizer WHERE successor_of IS NOT NULL").fetchall():
            c.execute("SELECT vecsync.resync(name, failed_only => true) FROM vecsync.vectorizer WHERE name = %s AND successor_of IS NOT NULL", [name])
        time.sleep(1)
    return []


def work(args, cluster, service, tables):
    """The time of unrest.  Returns changes, kills and problems."""
    stop = threading.Event()
    sessions = [soak_work.Session(cluster, tables, args.seed * 1000 + i, stop) for i in range(args.sessions)]
    chaos = soak_chaos.Chaos(cluster, service, args.seed, stop, args.pause)
    for thread in (*sessions, chaos):
        thread.start()
    until = time.monotonic() + args.duration
    while time.monotonic() < until and not any(t.failure for t in (*sessions, chaos)):
        time.sleep(0.2)
    stop.set()
    chaos.join()
    for session in sessions:
        session.join()
    problems = [f"{type(t).__name__}: {t.failure!r}" for t in (*sessions, chaos) if t.failure]
    errors = {}
    for session in sessions:
        for name, n in session.errors.items():
            errors[name] = errors.get(name, 0) + n
    print("chaos:", chaos.done, "errors of sessions:", errors, flush=True)
    return sum(s.changes for s in sessions), chaos.kills, problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--folder", required=True, help="made for the run and removed after a good one")
    parser.add_argument("--duration", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--pause", type=float, default=3, help="mean seconds between faults or kills")
    args = parser.parse_args()
    if args.seed is None:
        args.seed = random.randrange(10**6)
    print(f"seed {args.seed}, {args.duration:g} s", flush=True)
    os.makedirs(args.folder)
    rng = random.Random(args.seed)
    started = time.monotonic()
    service = Service(args.folder, soak_chaos.CLEAN)
    cluster = Cluster(args.bindir, args.folder, "fsync = off")  # processes are killed here, not the machine
    try:
        with cluster.connect() as c:
            tables = soak_schema.create(c, rng, service.url)
        for t in tables:
            for v in t.vectorizers:
                print(f"{v.name}: {t.kind} key, {v.content[0]}, model {v.model}")
        changes, kills, problems = work(args, cluster, service, tables)
        service.play(soak_chaos.CLEAN)
        problems += settle(cluster, tables, 120)
        print(f"at rest after {time.monotonic() - started:.0f} s", flush=True)
        problems += cluster.crashes()
        with cluster.connect() as c:
            rows, counts, told = soak_schema.audit(c, tables, service)
            if not problems and not any(counts.values()):
                problems += soak_schema.prove(c, tables, service)
    finally:
        cluster.close()
        service.close()
    bad = sum(counts.values()) + len(problems)
    for line in told + problems:
        print(line)
    if bad:
        print(f"Server and service logs: {args.folder}")
    else:
        shutil.rmtree(args.folder)
    print(" ".join(f"{name} {n}" for name, n in counts.items()),
          f"(rows {rows}, changes {changes}, faults {service.faults}, kills {kills})", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except psycopg.Error as e:
        print(f"the soak itself failed: {e}", file=sys.stderr)
        sys.exit(2)

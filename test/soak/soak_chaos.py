"""Faults of the service and kills, from a seed."""

import os
import random
import signal
import threading

import psycopg

from soak_cluster import faults
from soak_schema import DIMS

CLEAN = {"dims": DIMS, "key": "$model"}
POISON = {"when": {"text": "poison"}, "status": 400, "message": "input is not allowed"}
STATUSES = (400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 504)


def random_rule(rng):
    when = {"probability": rng.choice((0.05, 0.2, 0.5))}
    kind = rng.choice(("answer", "answer", "body", "wire", "status", "status", "dims", "hang", "delay", "retry", "poison"))
    if kind == "answer":
        return {"when": when, "answer": rng.choice(sorted(faults.ITEMS))}
    if kind == "body":
        return {"when": when, "body": rng.choice(sorted(faults.BODIES))}
    if kind == "wire":
        return {"when": when, "wire": rng.choice(sorted(faults.WIRES))}
    if kind == "status":
        return {"when": when, "status": rng.choice(STATUSES)}
    if kind == "dims":
        return {"when": when, "dims": DIMS + 1}
    if kind == "hang":
        return {"when": {**when, "times": 2}, "hang": True}
    if kind == "delay":
        return {"delay_ms": rng.choice((1, 50, 300)), "jitter_ms": 100}
    if kind == "retry":
        return {"when": when, "status": 429, "retry_after": 1}
    return POISON


class Chaos(threading.Thread):
    def __init__(self, cluster, service, seed, stop, pause):
        super().__init__(daemon=True)
        self.cluster, self.service, self.stop, self.pause = cluster, service, stop, pause
        self.rng = random.Random(seed)
        self.kills = 0
        self.done = {}
        self.failure = None

    def run(self):
        rng = self.rng
        try:
            while not self.stop.wait(rng.uniform(0.3, 1.7) * self.pause):
                name = rng.choices(("scenario", "terminate", "kill_worker", "kill_service", "immediate", "restart", "sessions"),
                                   (10, 3, 1.5, 2, 1.5, 0.7, 1))[0]
                getattr(self, name)()
                self.done[name] = self.done.get(name, 0) + 1
        except Exception as e:
            self.failure = e

    def scenario(self):
        rules = [random_rule(self.rng) for _ in range(self.rng.randint(0, 2))]
        base64 = self.rng.choice(("asked", "never", "forced", "refused"))
        self.service.play({**CLEAN, "base64": base64, "close_each": self.rng.random() < 0.2,
                           "delay_ms": self.rng.choice((0, 0, 10)), "rules": rules, "seed": self.rng.randint(1, 10**6)})

    def terminate(self):
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'")
        self.kills += 1

    def sessions(self):
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                 " AND pid <> pg_backend_pid() AND random() < 0.5")
        self.kills += 1

    def sql(self, query):
        try:
            with self.cluster.connect() as c:
                c.execute(query)
        except psycopg.Error:
            pass  # the server may be restarting after a kill

    def kill_worker(self):
        pid = self.cluster.worker()
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
                self.kills += 1
            except ProcessLookupError:
                pass

    def kill_service(self):
        self.service.kill()
        self.kills += 1
        self.stop.wait(self.rng.uniform(0, 2))
        self.service.start()

    def immediate(self):
        self.cluster.stop("immediate")
        self.kills += 1
        self.cluster.start()

    def restart(self):
        self.cluster.stop("fast")
        self.kills += 1
        self.cluster.start()

"""A private server and a fake service, to be started, stopped and killed at any time."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import psycopg

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "server")
sys.path.insert(0, SERVER)
import expected  # noqa: E402
import faults  # noqa: E402

CONF = """
listen_addresses = ''
shared_preload_libraries = 'vecsync'
max_prepared_transactions = 20
max_worker_processes = 16
log_line_prefix = '%m [%p] %b '
vecsync.backoff_min = '20ms'
vecsync.backoff_max = '500ms'
vecsync.connect_timeout = '1s'
vecsync.max_response_bytes = '2MB'
"""


class Cluster:
    def __init__(self, bindir, folder, conf=""):
        self.bindir = bindir
        self.data = os.path.join(folder, "data")
        self.log = os.path.join(folder, "server.log")
        self.socket = os.path.join("/tmp", f"soak.{os.getpid()}")  # short: sockets' paths have 107 bytes
        os.makedirs(self.socket, exist_ok=True)
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        with open(os.path.join(self.data, "postgresql.conf"), "a") as f:
            f.write(f"{CONF}unix_socket_directories = '{self.socket}'\n{conf}\n")
        self.start()

    def run(self, program, *args):
        done = subprocess.run([os.path.join(self.bindir, program), *args], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def start(self):
        self.run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "120", "start")

    def stop(self, mode):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "120", "stop")

    def connect(self, patience=60, **options):
        """A connection in autocommit mode; while the server restarts, one waits for it."""
        until = time.monotonic() + patience
        while True:
            try:
                return psycopg.connect(host=self.socket, user="postgres", dbname="postgres", autocommit=True, **options)
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def worker(self):
        """The worker's process, or None while there is none."""
        try:
            with self.connect(patience=0) as c:
                row = c.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'vecsync worker'").fetchone()
        except psycopg.Error:
            return None
        return row and row[0]

    def crashes(self):
        """Lines of the log that tell of a crash that nobody ordered."""
        with open(self.log, errors="replace") as f:
            return [line.strip() for line in f
                    if "TRAP:" in line or "PANIC:" in line or ("was terminated by signal" in line and "signal 9" not in line)]

    def close(self):
        try:
            self.stop("immediate")
        except RuntimeError:
            pass
        for name in os.listdir(self.socket):
            os.unlink(os.path.join(self.socket, name))
        os.rmdir(self.socket)


class Service:
    """test/server/fake_service.py on a port that it keeps."""

    def __init__(self, folder, scenario, log=True):
        self.folder, self.scenario, self.port = folder, scenario, 0
        self.log = log and os.path.join(folder, "service.log")
        self.faults = 0
        self.known = None
        self.start()

    def start(self):
        path = os.path.join(self.folder, "scenario.json")
        port = os.path.join(self.folder, "port")
        with open(path, "w") as f:
            json.dump(self.scenario, f)
        if os.path.exists(port):
            os.unlink(port)
        log = ["--log", self.log] if self.log else []
        self.process = subprocess.Popen(
            [sys.executable, "-B", os.path.join(SERVER, "fake_service.py"), "--port", str(self.port), "--port-file", port,
             "--scenario", path, *log], stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.folder, "service.err"), "a"))
        until = time.monotonic() + 60
        while not os.path.exists(port):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the fake service did not start; see service.err")
            time.sleep(0.02)
        with open(port) as f:
            self.port = int(f.read().split()[0])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1/embeddings"

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=30) as answer:
            return json.load(answer)

    def stats(self):
        return self.call("/stats")

    def count_faults(self):
        """The wrong answers given since the scenario was set; they are forgotten with it."""
        self.faults += sum(self.stats()["by_rule"].values())

    def play(self, scenario):
        self.count_faults()
        self.scenario = scenario
        self.call("/scenario", scenario)
        self.call("/release", {})

    def kill(self):
        self.count_faults()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.process.terminate()
        self.process.wait()

    def texts(self):
        """Every text that was ever asked for, from the log."""
        size = os.path.getsize(self.log)
        if self.known is not None and self.known[0] == size:
            return self.known[1]
        result = set()
        with open(self.log) as f:
            for line in f:
                try:
                    result.update(json.loads(line).get("texts", ()))
                except ValueError:
                    pass  # the last line before a kill
        self.known = size, result
        return result

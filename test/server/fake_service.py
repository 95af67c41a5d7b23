#!/usr/bin/env python3
"""A scriptable fake of the services that vecsync calls: embeddings, rerank, chat.

    fake_service.py [--scenario FILE] [--port N] [--port-file FILE] [--log FILE] [--tls DIR]

Right answers are computed (expected.py); everything else is told by the scenario: README.md has its keys.
It stops when its parent does.
"""

import argparse
import asyncio
import collections
import contextlib
import email.utils
import json
import math
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import time

from aiohttp import web

import expected
from dialects import PATHS, Refused, overlap, tokens
from faults import BODIES, ITEMS, WIRES, mend_missing

SCENARIO_KEYS = {
    "dims": 384, "key": "", "seed": 1, "delay_ms": 0, "jitter_ms": 0, "base64": "asked", "api_key": None,
    "max_inputs": None, "max_tokens": None, "max_body": None, "limit_status": 400, "rate": None,
    "close_each": False, "chat": '{"drop": []}', "rules": [],
}
RULE_KEYS = {
    "when", "delay_ms", "jitter_ms", "hang", "status", "message", "headers", "retry_after", "content_type", "content",
    "dims", "answer", "body", "literal", "wire", "bytes", "interval_ms",
}
WHEN_KEYS = {"request", "every", "text", "path", "inputs", "probability", "times"}


class Scenario:
    """What the service does, and what it has seen since it was told so."""

    def __init__(self, spec):
        unknown = spec.keys() - SCENARIO_KEYS.keys()
        if unknown:
            raise ValueError(f"unknown key in scenario: {', '.join(sorted(unknown))}")
        for name, value in (SCENARIO_KEYS | spec).items():
            setattr(self, name, value)
        for rule in self.rules:
            self.check(rule)
        self.random = random.Random(self.seed)
        self.fired = collections.Counter()
        self.buckets = {kind: float((self.rate or {}).get(kind, 0)) for kind in ("requests", "tokens")}
        self.filled = time.monotonic()
        self.requests = self.inputs = self.embedded = self.tokens = self.max_in_flight = 0
        self.by_status = collections.Counter()
        self.by_rule = collections.Counter()
        self.connections = set()

    @staticmethod
    def check(rule):
        unknown = (rule.keys() - RULE_KEYS) | (rule.get("when", {}).keys() - WHEN_KEYS)
        for name, known in (("answer", ITEMS), ("body", BODIES), ("wire", WIRES)):
            if name in rule and rule[name] not in known:
                unknown.add(f"{name}={rule[name]}")
        if unknown:
            raise ValueError(f"unknown key in rule: {', '.join(sorted(unknown))}")

    def match(self, number, path, texts):
        """The first rule that fits this request, or an empty one."""
        for i, rule in enumerate(self.rules):
            when = rule.get("when", {})
            at = when.get("request")
            if isinstance(at, list):
                if not at[0] <= number <= (at[1] if at[1] is not None else number):
                    continue
            elif at is not None and at != number:
                continue
            if "every" in when and number % when["every"]:
                continue
            if "text" in when and not any(re.search(when["text"], t) for t in texts):
                continue
            if "path" in when and not re.search(when["path"], path):
                continue
            if "inputs" in when and len(texts) < when["inputs"]:
                continue
            if "times" in when and self.fired[i] >= when["times"]:
                continue
            if "probability" in when and self.random.random() >= when["probability"]:
                continue
            self.fired[i] += 1
            self.by_rule[str(i)] += 1
            return rule
        return {}

    def rate_wait(self, wanted):
        """Seconds until the buckets have room for a request of so many tokens; 0 takes the place."""
        if not self.rate:
            return 0.0
        now = time.monotonic()
        wait = 0.0
        for kind, need in (("requests", 1), ("tokens", wanted)):
            if kind in self.rate:
                per_second = self.rate[kind] / self.rate["seconds"]
                self.buckets[kind] = min(self.rate[kind], self.buckets[kind] + (now - self.filled) * per_second)
                wait = max(wait, (min(need, self.rate[kind]) - self.buckets[kind]) / per_second)
        self.filled = now
        if wait <= 0:
            self.buckets["requests"] -= 1
            self.buckets["tokens"] -= wanted
        return max(0.0, wait)

    def refuse(self, call, request):
        """The limits of the service itself."""
        if self.max_body and (request.content_length or 0) > self.max_body:
            raise Refused(413, f"request of {request.content_length} bytes is larger than {self.max_body}")
        if self.max_inputs and len(call.texts) > self.max_inputs:
            raise Refused(self.limit_status, f"batch size {len(call.texts)} > maximum allowed batch size {self.max_inputs}")
        if self.max_tokens:
            for i, text in enumerate(call.texts):
                if tokens(text) > self.max_tokens:
                    raise Refused(self.limit_status, f"input {i} has {tokens(text)} tokens, the maximum is {self.max_tokens}")
        if self.base64 == "refused" and ("encoding_format" in call.body or call.encoded):
            raise Refused(400, "unknown parameter: encoding_format")


class Reply:
    """A finished answer on its way to a wire."""

    def __init__(self, service, status, body, rule, headers):
        self.service, self.status, self.body, self.headers = service, status, body, headers
        self.bytes = rule.get("bytes", 10_000_000)
        self.interval = rule.get("interval_ms", 1000) / 1000

    async def hang(self):
        await self.service.hang()


class Service:
    def __init__(self, scenario, log):
        self.scenario = scenario
        self.log = log
        self.released = asyncio.Event()
        self.in_flight = self.hanging = 0
        self.port = 0

    async def hang(self):
        self.hanging += 1
        try:
            await self.released.wait()
        finally:
            self.hanging -= 1

    # ---- the service -----------------------------------------------------------

    async def serve(self, request):
        scenario = self.scenario
        scenario.requests += 1
        number = scenario.requests
        self.in_flight += 1
        scenario.max_in_flight = max(scenario.max_in_flight, self.in_flight)
        peer = request.transport.get_extra_info("peername") if request.transport else None
        scenario.connections.add(peer)
        entry = {"request": number, "time": time.time(), "path": request.path, "peer": peer and peer[1],
                 "authorization": request.headers.get("Authorization"), "status": None}
        started = time.monotonic()
        try:
            answer = await self.answer(scenario, number, request, entry)
            scenario.by_status[str(entry["status"])] += 1
            return answer
        except (asyncio.CancelledError, ConnectionError):
            entry["status"] = "gone"
            scenario.by_status["gone"] += 1
            raise
        finally:
            self.in_flight -= 1
            entry["ms"] = round((time.monotonic() - started) * 1000, 1)
            if self.log:
                self.log.write(json.dumps(entry) + "\n")
                self.log.flush()

    async def answer(self, scenario, number, request, entry):
        action, read, write, error = PATHS[request.path]
        headers = {"Content-Type": "application/json"}
        if scenario.close_each:
            headers["Connection"] = "close"
        rule = {}
        try:
            raw = await request.read()
            try:
                body = json.loads(raw)
                if not isinstance(body, dict):
                    raise ValueError
            except ValueError:
                raise Refused(400, "the request is not a JSON object") from None
            call = read(body)
            entry |= {"model": call.model, "inputs": len(call.texts), "texts": [t[:200] for t in call.texts],
                      "parameters": {k: v for k, v in body.items() if k not in ("input", "inputs", "texts", "documents")}}
            scenario.inputs += len(call.texts)
            if scenario.api_key and request.headers.get("Authorization") != f"Bearer {scenario.api_key}":
                raise Refused(401, "Incorrect API key provided")
            wait = scenario.rate_wait(sum(map(tokens, call.texts)))
            if wait:
                headers["Retry-After"] = str(math.ceil(wait))
                raise Refused(429, "Rate limit reached")
            rule = scenario.match(number, request.path, call.texts)
            scenario.refuse(call, request)
            await self.delay(scenario, rule)
            if rule.get("status", 200) >= 300:
                raise Refused(rule["status"], rule.get("message", f"the scenario says {rule['status']}"))
            text = self.text(scenario, rule, action, call, write)
            status = rule.get("status", 200)
            scenario.tokens += sum(map(tokens, call.texts))
            if action == "embed":
                scenario.embedded += len(call.texts)
        except Refused as refused:
            status, text = refused.status, error(refused.status, refused.message)
        if "body" in rule:
            text = BODIES[rule["body"]](text)
        entry["status"] = rule.get("wire") or status
        self.headers(rule, headers)
        reply = Reply(self, status, text.encode("utf-8", "surrogatepass"), rule, headers)
        if "wire" in rule:
            return await WIRES[rule["wire"]](request, reply)
        return web.Response(status=status, body=reply.body, headers=headers)

    async def delay(self, scenario, rule):
        delay = rule.get("delay_ms", scenario.delay_ms)
        jitter = rule.get("jitter_ms", scenario.jitter_ms)
        if jitter:
            delay += scenario.random.random() * jitter
        if delay:
            await asyncio.sleep(delay / 1000)
        if rule.get("hang"):
            await self.hang()

    def text(self, scenario, rule, action, call, write):
        """The right answer, changed as the rule says."""
        if "literal" in rule:
            return rule["literal"]
        if action == "chat":
            chat = rule.get("content", scenario.chat)
            return write(call, chat if isinstance(chat, str) else json.dumps(chat))
        if action == "rerank":
            scored = sorted(((i, overlap(call.query, t)) for i, t in enumerate(call.texts)), key=lambda s: (-s[1], s[0]))
            items = [[i, repr(s)] for i, s in scored[: call.body.get("top_n")]]
        else:
            key = call.model if scenario.key == "$model" else scenario.key
            dims = rule.get("dims", call.dimensions or scenario.dims)
            call.encoded = scenario.base64 == "forced" or (scenario.base64 == "asked" and call.encoded)
            if call.encoded:
                items = [[i, f'"{expected.packed(t, dims, key)}"'] for i, t in enumerate(call.texts)]
            else:
                items = [[i, f'[{",".join(expected.decimals(t, dims, key))}]'] for i, t in enumerate(call.texts)]
        if "answer" in rule:
            ITEMS[rule["answer"]](items, scenario.random)
        return mend_missing(write(call, items)) if rule else write(call, items)

    def headers(self, rule, headers):
        if "content_type" in rule:
            headers["Content-Type"] = rule["content_type"]
        after = rule.get("retry_after")
        if isinstance(after, dict):
            headers["Retry-After"] = email.utils.formatdate(time.time() + after["date"], usegmt=True)
        elif after is not None:
            headers["Retry-After"] = str(after)
        for name, value in rule.get("headers", {}).items():
            headers[name] = value.replace("{port}", str(self.port))

    # ---- control -----------------------------------------------------------------

    async def stats(self, request):
        s = self.scenario
        return web.json_response({
            "requests": s.requests, "inputs": s.inputs, "embedded": s.embedded, "tokens": s.tokens,
            "in_flight": self.in_flight, "hanging": self.hanging, "max_in_flight": s.max_in_flight,
            "connections": len(s.connections), "by_status": s.by_status, "by_rule": s.by_rule})

    async def replace(self, request):
        try:
            self.scenario = Scenario(await request.json())
        except ValueError as e:
            return web.json_response({"error": str(e)}, status=400)
        return web.json_response({"ok": True})

    async def release(self, request):
        n = self.hanging
        self.released.set()
        self.released = asyncio.Event()
        return web.json_response({"released": n})

    async def health(self, request):
        return web.json_response({"status": "ok"})


def certificate(folder, host):
    """A CA and a server certificate for host, made once: ca.pem, server.pem, server.key in the folder."""
    os.makedirs(folder, exist_ok=True)
    path = lambda name: os.path.join(folder, name)
    if not os.path.exists(path("server.pem")):
        name = f"IP:{host}" if re.fullmatch(r"[\d.]+", host) else f"DNS:{host}"
        with open(path("extensions"), "w") as f:
            f.write(f"subjectAltName={name}\nbasicConstraints=CA:FALSE\n")
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        for command in (
            ["req", "-x509", *new_key, "-keyout", path("ca.key"), "-out", path("ca.pem"), "-days", "2",
             "-subj", "/CN=fake service CA", "-addext", "keyUsage=critical,keyCertSign"],
            ["req", *new_key, "-keyout", path("server.key"), "-out", path("server.csr"), "-subj", f"/CN={host}"],
            ["x509", "-req", "-in", path("server.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"),
             "-CAcreateserial", "-days", "2", "-extfile", path("extensions"), "-out", path("server.pem")],
        ):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path("server.pem"), path("server.key"))
    return context


async def watch_parent(parent, stop):
    while os.getppid() == parent:
        await asyncio.sleep(0.3)
    stop.set()


def listen(host, port):
    """A socket that listens.  While a service is away, its port may become a client's: that is waited for."""
    until = time.monotonic() + 50
    while True:
        try:
            return socket.create_server((host, port), backlog=1024)
        except OSError:
            if port == 0 or time.monotonic() > until:
                raise
            time.sleep(0.1)


async def run(args):
    spec = {}
    if args.scenario:
        with open(args.scenario) as f:
            spec = json.load(f)
    with open(args.log, "a") if args.log else contextlib.nullcontext() as log:
        service = Service(Scenario(spec), log)
        app = web.Application(client_max_size=1 << 30)
        for path in PATHS:
            app.router.add_post(path, service.serve)
        app.router.add_get("/health", service.health)
        app.router.add_get("/stats", service.stats)
        app.router.add_post("/scenario", service.replace)
        app.router.add_post("/release", service.release)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        plain = web.SockSite(runner, listen(args.host, args.port), backlog=1024)
        await plain.start()
        ports = [runner.addresses[0][1]]
        if args.tls:
            secure = web.TCPSite(runner, args.host, 0, ssl_context=certificate(args.tls, args.tls_host))
            await secure.start()
            ports.append(runner.addresses[1][1])
        service.port = ports[0]
        line = " ".join(map(str, ports))
        if args.port_file:
            with open(args.port_file + ".new", "w") as f:
                f.write(line + "\n")
            os.rename(args.port_file + ".new", args.port_file)
        print(f"ready on port {line}", flush=True)
        stop = asyncio.Event()
        for sig in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sig, stop.set)
        watcher = asyncio.create_task(watch_parent(args.parent, stop))
        await stop.wait()
        watcher.cancel()
        await runner.cleanup()


def main():
    parser = argparse.ArgumentParser(description="A scriptable fake of embedding, rerank and chat services.")
    parser.add_argument("--scenario", help="JSON file; without it every answer is right")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (default) takes a free one")
    parser.add_argument("--port-file", help="the port is written here once it listens")
    parser.add_argument("--log", help="one JSON line for each request is appended here")
    parser.add_argument("--tls", metavar="DIR", help="listen with TLS too, on a second port; DIR gets ca.pem")
    parser.add_argument("--tls-host", default="127.0.0.1", help="the name in the certificate")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="stop when this is no longer the parent")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())

"""The fake service does what its scenarios say: right vectors in every dialect, and each fault as announced."""

import asyncio
import base64
import json
import os
import ssl
import struct
import subprocess
import sys
import tempfile
import time

import aiohttp

import expected
import tap
from faults import BODIES, ITEMS, WIRES

HERE = os.path.dirname(os.path.abspath(__file__))


class Running:
    def __init__(self, folder, *extra):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "fake_service.py"), "--port-file", f"{folder}/port", "--log", f"{folder}/log",
             *extra], stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        with open(f"{folder}/port") as f:
            self.ports = f.read().split()
        self.base = f"http://127.0.0.1:{self.ports[0]}"

    async def __aenter__(self):
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=300))
        return self

    async def __aexit__(self, *_):
        await self.session.close()
        self.process.terminate()
        self.process.wait(120)

    async def post(self, path, body, **options):
        async with self.session.post(self.base + path, json=body, **options) as answer:
            return answer.status, await answer.read(), answer.headers

    async def embed(self, texts, **more):
        return await self.post("/v1/embeddings", {"model": "m", "input": texts} | more)

    async def scenario(self, **spec):
        status, answer, _ = await self.post("/scenario", spec)
        if status != 200:
            raise ValueError(answer)

    async def stats(self):
        async with self.session.get(self.base + "/stats") as answer:
            return await answer.json()


def vectors(body):
    return [d["embedding"] for d in sorted(json.loads(body)["data"], key=lambda d: d["index"])]


async def dialects(service):
    texts = ["one", "zwei ünï", ""]
    want = [expected.vector(t, 40) for t in texts]
    await service.scenario(dims=40)
    _, body, _ = await service.embed(texts)
    tap.equal(vectors(body), want, "openai, numbers")
    _, body, _ = await service.embed(texts, encoding_format="base64")
    tap.equal([list(struct.unpack("<40f", base64.b64decode(v))) for v in vectors(body)], want, "openai, base64")
    _, body, _ = await service.post("/api/embed", {"model": "m", "input": texts})
    tap.equal(json.loads(body)["embeddings"], want, "ollama")
    _, body, _ = await service.post("/embed", {"inputs": texts})
    tap.equal(json.loads(body), want, "tei")
    cohere = {"model": "m", "texts": texts, "input_type": "search_document", "embedding_types": ["float"]}
    _, body, _ = await service.post("/v2/embed", cohere)
    tap.equal(json.loads(body)["embeddings"]["float"], want, "cohere")
    status, _, _ = await service.post("/v2/embed", cohere | {"input_type": None})
    tap.equal(status, 400, "cohere asks for input_type")
    rerank = {"model": "m", "query": "red car", "documents": ["a red bike", "nothing", "red car"], "top_n": 2}
    _, body, _ = await service.post("/v2/rerank", rerank)
    tap.equal([(r["index"], r["relevance_score"]) for r in json.loads(body)["results"]], [(2, 1.0), (0, 0.5)], "rerank")
    _, body, _ = await service.post("/rerank", {"query": "red car", "texts": ["a red bike", "red car"]})
    tap.equal(json.loads(body), [{"index": 1, "score": 1.0}, {"index": 0, "score": 0.5}], "tei rerank")
    await service.scenario(chat={"drop": [3]})
    _, body, _ = await service.post("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]})
    tap.equal(json.loads(body)["choices"][0]["message"]["content"], '{"drop": [3]}', "chat")
    await service.scenario(dims=8, key="$model")
    _, body, _ = await service.embed(["x"])
    tap.equal(vectors(body), [expected.vector("x", 8, "m")], "a key of $model makes models differ")


async def limits(service):
    await service.scenario(max_inputs=1)
    tap.equal([(await service.embed(t))[0] for t in (["a"], ["a", "b"])], [200, 400], "one input for each request")
    await service.scenario(max_tokens=4)
    tap.equal([(await service.embed(t))[0] for t in ("a b", "a b c")], [200, 400], "max_tokens")
    await service.scenario(max_body=100)
    tap.equal([(await service.embed(t))[0] for t in ("a", "a" * 100)], [200, 413], "max_body")
    await service.scenario(base64="refused")
    tap.equal([(await service.embed("a", **m))[0] for m in ({}, {"encoding_format": "float"})], [200, 400], "base64 refused")
    await service.scenario(base64="forced")
    tap.ok(isinstance(vectors((await service.embed("a"))[1])[0], str), "base64 forced")
    await service.scenario(api_key="k")
    tap.equal((await service.embed("a"))[0], 401, "a key is asked for")
    status, _, _ = await service.post("/v1/embeddings", {"model": "m", "input": "a"}, headers={"Authorization": "Bearer k"})
    tap.equal(status, 200, "and taken")
    await service.scenario(rate={"requests": 2, "seconds": 7200})
    answers = [await service.embed("a") for _ in range(3)]
    tap.equal([a[0] for a in answers], [200, 200, 429], "rate limit")
    tap.ok(0 < int(answers[2][2]["Retry-After"]) <= 3600, "with Retry-After")
    await service.scenario(rate={"requests": 1, "seconds": 0.5})
    answers = []
    for _ in range(3):
        answers.append((await service.embed("a"))[0])
        await asyncio.sleep(0.6)
    tap.equal(answers, [200, 200, 200], "and the bucket fills again")
    await service.scenario(dims=4, rules=[{"when": {"text": "poison"}, "status": 400, "message": "no"}])
    tap.equal([(await service.embed(t))[0] for t in (["a", "b"], ["a", "poisonous"])], [200, 400], "a poison text")
    await service.scenario(rules=[{"when": {"request": 2}, "status": 503, "retry_after": 7}, {"when": {"every": 2}, "status": 500}])
    tap.equal([(await service.embed("a"))[0] for _ in range(5)], [200, 503, 200, 500, 200], "rules by request number")
    await service.scenario(seed=7, rules=[{"when": {"probability": 0.5}, "status": 500}])
    first = [(await service.embed("a"))[0] for _ in range(20)]
    await service.scenario(seed=7, rules=[{"when": {"probability": 0.5}, "status": 500}])
    tap.equal([(await service.embed("a"))[0] for _ in range(20)], first, "chance repeats with its seed")
    tap.ok(first.count(500) in range(4, 17), "and is a chance")
    await service.scenario(rules=[{"status": 307, "headers": {"Location": "http://127.0.0.1:{port}/health"}}])
    status, _, headers = await service.post("/v1/embeddings", {"model": "m", "input": "a"}, allow_redirects=False)
    tap.equal((status, headers["Location"]), (307, service.base + "/health"), "redirect to loopback")
    await service.scenario(rules=[{"delay_ms": 200}])
    started = time.monotonic()
    await asyncio.gather(*(service.embed("a") for _ in range(5)))
    tap.ok(time.monotonic() - started >= 0.2, "requests are delayed")
    for wrong in ({"ruels": []}, {"rules": [{"wire": "none"}]}, {"rules": [{"when": {"txt": "a"}}]}):
        status, _, _ = await service.post("/scenario", wrong)
        tap.equal(status, 400, f"a scenario with a slip is refused: {wrong}")


async def faults(service):
    await service.scenario(dims=4)
    texts = ["a", "b", "c"]
    right = vectors((await service.embed(texts))[1])
    for name in ITEMS:
        for encoded in (False, True):
            await service.scenario(dims=4, seed=2, base64="forced" if encoded else "asked", rules=[{"answer": name}])
            status, body, _ = await service.embed(texts)
            try:
                data = json.loads(body)["data"]
                same = [d["embedding"] for d in sorted(data, key=lambda d: d["index"])] == right and \
                    sorted(d["index"] for d in data) == [0, 1, 2]
                moved = [d["index"] for d in data] != [0, 1, 2]
            except (ValueError, KeyError, TypeError):
                same = moved = False
            if encoded:
                tap.ok(status == 200, f"answer {name}, base64")
            elif name in ("reversed", "shuffled"):
                tap.ok(same and moved, f"answer {name}: right, in another order")
            else:
                tap.ok(status == 200 and not same, f"answer {name}: wrong")
    for name in BODIES:
        await service.scenario(dims=4, rules=[{"body": name}])
        status, body, _ = await service.embed(texts)
        try:
            ok = "data" in json.loads(body) and len(json.loads(body)["data"]) == 3
        except (ValueError, TypeError, RecursionError):
            ok = False
        tap.ok(status == 200 and not ok, f"body {name}: no answer in it")
    broken = {"close", "reset", "reset_body", "short_body", "not_http", "bad_chunk", "huge_header"}
    for name in WIRES:
        await service.scenario(dims=4, rules=[{"wire": name, "interval_ms": 1, "bytes": 300000}])
        task = asyncio.create_task(service.embed(texts))
        if name == "hang_body":
            while not (await service.stats())["hanging"]:
                await asyncio.sleep(0.01)
            await service.post("/release", {})
        try:
            got = vectors((await task)[1])
        except (aiohttp.ClientError, ValueError) as e:
            got = type(e).__name__
        if name in broken:
            tap.ok(isinstance(got, str), f"wire {name}: broken ({got})")
        else:
            tap.equal(got, right, f"wire {name}: unusual, and right")


async def control(service, folder):
    await service.scenario(dims=4, rules=[{"hang": True}])
    tasks = [asyncio.create_task(service.embed([f"t{i}"])) for i in range(3)]
    while (await service.stats())["hanging"] < 3:
        await asyncio.sleep(0.01)
    tasks[0].cancel()
    while (await service.stats())["hanging"] > 2:
        await asyncio.sleep(0.01)
    tap.ok(True, "a client that leaves is noticed")
    await service.post("/release", {})
    tap.equal([(await t)[0] for t in tasks[1:]], [200, 200], "released requests are answered")
    stats = await service.stats()
    tap.equal((stats["requests"], stats["inputs"], stats["by_status"]), (3, 3, {"gone": 1, "200": 2}), "stats")
    tap.equal(stats["max_in_flight"], 3, "and max_in_flight saw them at a time")
    with open(f"{folder}/log") as f:
        last = [json.loads(line) for line in f][-3:]
    tap.equal(sorted(e["texts"][0] for e in last), ["t0", "t1", "t2"], "the log has every request")
    await service.scenario(dims=4)
    async with service.session.post(f"https://127.0.0.1:{service.ports[1]}/v1/embeddings", json={"model": "m", "input": "x"},
                                    ssl=ssl.create_default_context(cafile=f"{folder}/tls/ca.pem")) as answer:
        tap.equal(answer.status, 200, "TLS, with the certificate checked against the CA file")


def orphan(folder):
    """A service whose parent is killed stops."""
    script = ("import subprocess, sys, time; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", script, sys.executable, os.path.join(HERE, "fake_service.py"),
                               "--port-file", f"{folder}/orphan"], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    while not os.path.exists(f"{folder}/orphan"):
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 120
    alive = True
    while alive and time.monotonic() < until:
        time.sleep(0.05)
        try:
            with open(f"/proc/{pid}/stat") as f:
                alive = f.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            alive = False
    tap.ok(not alive, "the service ends with its parent")


async def everything():
    with tempfile.TemporaryDirectory() as folder:
        async with Running(folder, "--tls", f"{folder}/tls") as service:
            await dialects(service)
            await limits(service)
            await faults(service)
            await control(service, folder)
        tap.equal(service.process.returncode, 0, "it stops in good order")
        orphan(folder)


tap.run(lambda: asyncio.run(everything()))

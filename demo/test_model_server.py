"""The model's arithmetic and its server: known similarities, no influence of neighbours, limits, errors, encodings."""

import asyncio
import base64
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time

import minilm  # first: it tells numpy's BLAS to use one thread
import aiohttp
import numpy as np

import tap

HERE = os.path.dirname(os.path.abspath(__file__))


def reference(model, text, pad=0):
    """The definition, written plainly for one text, in double precision, with padding and mask; erf from math."""
    ids = model.tokenize([text])[0]
    mask = np.array([1.0] * len(ids) + [0.0] * pad)
    x = (model.words[ids + [0] * pad] + model.positions[: len(ids) + pad]).astype(np.float64)

    def norm(x, weight, bias, epsilon):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight + bias

    x = norm(x, *model.norm)
    for layer in model.layers:
        q, k, v = np.split(x @ layer.qkv[0] + layer.qkv[1], 3, axis=1)
        heads = []
        for h in range(layer.heads):
            part = slice(h * layer.head_size, (h + 1) * layer.head_size)
            scores = np.exp(q[:, part] @ k[:, part].T - 1e9 * (1 - mask))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
        x = norm(x + np.concatenate(heads, 1) @ layer.out[0] + layer.out[1], *layer.out_norm)
        wide = x @ layer.up[0] + layer.up[1]
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + wide @ layer.down[0] + layer.down[1], *layer.down_norm)
    mean = (x * mask[:, None]).sum(0) / mask.sum()
    return mean / np.linalg.norm(mean)


def arithmetic():
    model = minilm.Model()
    pool = minilm.Pool(model)
    x = np.linspace(-9, 9, 500001).astype(np.float32)
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])
    error = np.abs(minilm.gelu(x.copy().reshape(1, -1))[0] - exact)
    tap.below((error / np.maximum(np.abs(exact), 1)).max(), 2e-7, "gelu agrees with erf, but for three roundings")
    # The error function behind it, without float32's own rounding: beyond 0, gelu = x - x / 2 * erfc.
    a = np.linspace(0, 6, 100001)
    u = 1 / (1 + float(minilm.ERFC_P) * a)
    fit = np.exp(-a * a) * sum(float(c) * u ** (i + 1) for i, c in enumerate(minilm.ERFC_C))
    tap.below(np.abs(fit - np.vectorize(math.erfc)(a)).max(), 1e-7, "erfc agrees with math")

    texts = ["That is a happy person", "That is a very happy person", "Today is a sunny day", "", "naïve café, 東京 🎵",
             "word " * 600]
    vectors = pool.embed(texts)
    tap.ok(vectors.shape == (6, 384) and vectors.dtype == np.float32, "384 numbers each")
    tap.below(np.abs(np.linalg.norm(vectors, axis=1) - 1).max(), 1e-6, "of length 1")
    tap.ok(vectors[0] @ vectors[1] > 0.9, f"happy and very happy: {vectors[0] @ vectors[1]:.4f} > 0.9")
    tap.ok(vectors[0] @ vectors[2] < 0.5, f"happy and sunny: {vectors[0] @ vectors[2]:.4f} < 0.5")
    for text, vector in list(zip(texts, vectors))[:5]:
        tap.below(np.abs(reference(model, text) - vector).max(), 1e-5, f"as the definition says: {text!r}")
    tap.below(np.abs(reference(model, texts[0], pad=20) - vectors[0]).max(), 1e-5, "padding and mask would change nothing")

    some = [" ".join(["alpha", "beta", "gamma", "delta"][(i * j) % 4] for j in range(i % 37)) for i in range(120)]
    alone = np.concatenate([pool.embed([t]) for t in some])
    tap.below(np.abs(pool.embed(some) - alone).max(), 1e-5, "a batch changes no vector")
    tap.below(np.abs(pool.embed(some[::-1])[::-1] - alone).max(), 1e-5, "nor does its order")
    tap.below(np.abs(pool.embed(some + texts)[:120] - alone).max(), 1e-5, "nor long neighbours")

    ids = model.tokenize(["word " * 600, "word " * 254, "word " * 253])
    tap.equal([len(i) for i in ids], [256, 256, 255], "256 tokens at most")
    longest = pool.embed(["word " * 600, "word " * 254])
    tap.below(np.abs(longest[0] - longest[1]).max(), 1e-5, "what is beyond them does not count")
    tap.equal(model.tokenize(["HELLO"]), model.tokenize(["hello"]), "case does not matter")
    return pool


def albums(pool):
    """What the demo promises, by exact cosine over its albums."""
    with open(os.path.join(HERE, "albums.csv"), newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    tap.equal(([int(r["id"]) for r in rows], len({r["name"] for r in rows})), (list(range(1, 51)), 50), "50 albums")

    text = "type: albums | id: {id} | name: {name} | artist: {artist} | year: {year} | genre: {genre}"
    later = {"id": 51, "name": "Homework", "artist": "Daft Punk", "year": 1997, "genre": "Electronic"}
    vectors = pool.embed([text.format(**r) for r in rows + [later]])

    def ask(question, count=50):
        return [(rows + [later])[i]["name"] for i in np.argsort(-(vectors[:count] @ pool.embed([question])[0]))]

    tap.equal(ask("nirvanna nevermnd")[0], "Nevermind", "nirvanna nevermnd")
    tap.ok(set(ask("grunge from Seattle")[:2]) <= {"Nevermind", "Ten", "Superunknown", "Dirt"}, "grunge from Seattle")
    tap.equal(ask("miles davies trumpet")[0], "Kind of Blue", "miles davies trumpet")
    tap.ok("Homework" in ask("electronic dance music from the nineties", 51)[:3], "an album that came later")


async def service(base, pool):
    texts = ["first", "second text", "a third one, longer than the others"]
    want = pool.embed(texts)

    async with aiohttp.ClientSession(base) as session:

        async def post(body, **options):
            options = options or {"json": body}
            async with session.post("/v1/embeddings", **options) as answer:
                return answer.status, await answer.json()

        async def embed(texts, **more):
            return await post({"model": minilm.NAME, "input": texts} | more)

        status, body = await embed(texts)
        tap.equal([status, body["object"], body["model"], [d["index"] for d in body["data"]]],
                  [200, "list", minilm.NAME, [0, 1, 2]], "a batch")
        numbers = np.array([d["embedding"] for d in body["data"]], np.float32)
        tap.below(np.abs(numbers - want).max(), 1e-5, "right vectors, in order")
        tokens = sum(map(len, pool.model.tokenize(texts)))
        tap.equal(body["usage"], {"prompt_tokens": tokens, "total_tokens": tokens}, "usage")
        status, body = await embed(texts, encoding_format="base64")
        packed = np.array([np.frombuffer(base64.b64decode(d["embedding"]), "<f4") for d in body["data"]])
        tap.ok((packed == numbers).all(), "base64 gives the same float32 values")
        status, body = await embed("first")
        tap.ok(status == 200 and len(body["data"]) == 1, "a single text")
        status, body = await embed(texts[:1], dimensions=384, encoding_format=None, user="x")
        tap.equal(status, 200, "what does not matter is let through")

        several = await asyncio.gather(*(embed([f"text {i} {j}" for j in range(20)]) for i in range(8)))
        tap.equal([s for s, _ in several], [200] * 8, "several requests at once")
        got = np.array([d["embedding"] for d in several[5][1]["data"]], np.float32)
        tap.below(np.abs(got - pool.embed([f"text 5 {j}" for j in range(20)])).max(), 1e-5, "each with its own answer")

        async with session.get("/health") as answer:
            tap.equal((answer.status, (await answer.json())["dimensions"]), (200, 384), "/health")
        async with session.get("/v1/models") as answer:
            tap.equal([m["id"] for m in (await answer.json())["data"]], [minilm.NAME], "/v1/models")
        async with session.get(f"/v1/models/sentence-transformers/{minilm.NAME}") as answer:
            tap.equal(answer.status, 200, "/v1/models/NAME")

        wrong = [
            ({"input": "x"}, 400, "model"),
            ({"model": "gpt", "input": "x"}, 404, "model"),
            ({"model": minilm.NAME}, 400, "input"),
            ({"model": minilm.NAME, "input": []}, 400, "input"),
            ({"model": minilm.NAME, "input": ["a", 1]}, 400, "input"),
            ({"model": minilm.NAME, "input": [[1, 2]]}, 400, "input"),
            ({"model": minilm.NAME, "input": {"a": "b"}}, 400, "input"),
            ({"model": minilm.NAME, "input": ["x"] * 2049}, 400, "input"),
            ({"model": minilm.NAME, "input": ["fine", "\ud800"]}, 400, "input"),
            ({"model": minilm.NAME, "input": "x", "encoding_format": "int8"}, 400, "encoding_format"),
            ({"model": minilm.NAME, "input": "x", "dimensions": 512}, 400, "dimensions"),
            (["x"], 400, None),
        ]
        for body, want_status, param in wrong:
            status, answer = await post(body)
            error = answer.get("error", {})
            tap.equal((status, error.get("param"), error.get("type")), (want_status, param, "invalid_request_error"),
                      f"{json.dumps(body)[:60]}: {error.get('message')}")
        for data in (b"", b"{", b"\xff\xfe", b"[" * 100000):
            status, answer = await post(None, data=data)
            tap.equal((status, answer["error"]["message"]), (400, "The request is not valid JSON."), f"not JSON: {data[:10]}")
        status, answer = await post(None, data=b" " * (33 << 20))
        tap.equal((status, "error" in answer), (413, True), "too large a request")
        async with session.get("/v1/embeddings") as answer:
            tap.equal((answer.status, "error" in await answer.json()), (405, True), "GET is refused")
        async with session.post("/v1/completions", json={}) as answer:
            tap.equal((answer.status, "error" in await answer.json()), (404, True), "an unknown path")

        async def health():
            async with session.get("/health", timeout=aiohttp.ClientTimeout(30)) as answer:
                return await answer.json()

        slow = asyncio.create_task(embed(["word " * 250] * 400))
        while (await health())["waiting"] == 0:
            await asyncio.sleep(0.02)
        tap.ok(not slow.done(), "a long batch does not block other requests")
        status, _ = await embed("a question")
        tap.ok(status == 200 and not slow.done(), "and a question does not wait for it")
        before = (await health())["waiting"]
        slow.cancel()
        until = time.monotonic() + 30
        while (await health())["waiting"] > 0 and time.monotonic() < until:
            await asyncio.sleep(0.02)
        spent = time.monotonic() - until + 30
        tap.ok(before > 50 and spent < 30, f"the work of a client that left is dropped: {before} batches in {spent:.2f} s")


def everything():
    pool = arithmetic()
    albums(pool)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, os.path.join(HERE, "model_server.py"), "--port", "0", "--port-file", f"{folder}/port"],
                                   stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline()
            tap.ok("ready on http://127.0.0.1:" in line, line.strip())
            with open(f"{folder}/port") as f:
                base = f"http://127.0.0.1:{f.read().strip()}"
            asyncio.run(service(base, pool))
            clash = subprocess.run([sys.executable, os.path.join(HERE, "model_server.py"), "--port", base.rsplit(":", 1)[1]],
                                   capture_output=True, text=True)
            tap.ok(clash.returncode == 1 and clash.stderr.count("\n") == 1, f"a port in use: {clash.stderr.strip()}")
        finally:
            process.terminate()
            process.wait(20)
        tap.equal(process.returncode, 0, "it stops in good order")


tap.run(everything)

#!/usr/bin/env python3
"""An OpenAI-compatible embedding server around all-MiniLM-L6-v2.

    model_server.py [--host 127.0.0.1] [--port 8089] [--port-file FILE]

POST /v1/embeddings, GET /v1/models, GET /v1/models/{model}, GET /health.  Texts longer than the model's 256 tokens are
cut, as the model's definition says.  The model runs in threads; the event loop only reads and writes.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import time

from aiohttp import web

import minilm

MAX_INPUTS = 2048  # of one request, as at OpenAI
MAX_BODY = 32 << 20
NAMES = {minilm.NAME, f"sentence-transformers/{minilm.NAME}"}


class Refused(Exception):
    """An error for the client, in OpenAI's form."""

    def __init__(self, status, message, param=None, code=None):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def response(self):
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return web.json_response({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}},
                                 status=self.status)


@web.middleware
async def errors(request, handler):
    try:
        return await handler(request)
    except Refused as refused:
        return refused.response()
    except web.HTTPRequestEntityTooLarge:
        return Refused(413, f"The request is larger than {MAX_BODY} bytes.").response()
    except web.HTTPException as e:
        if e.status < 400:
            raise
        answer = Refused(e.status, f"{e.reason}: {request.method} {request.path}").response()
        if "Allow" in e.headers:
            answer.headers["Allow"] = e.headers["Allow"]
        return answer


def check(body):
    """The texts and the encoding that a request asks for."""
    if not isinstance(body, dict):
        raise Refused(400, "The request must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Refused(400, "You must provide a model parameter.", "model")
    if model not in NAMES:
        raise Refused(404, f"The model '{model}' does not exist; this server has '{minilm.NAME}'.", "model", "model_not_found")
    if body.get("input") is None:
        raise Refused(400, "You must provide an input parameter.", "input")
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise Refused(400, "'input' must be a string or an array of strings; arrays of token numbers are not supported.", "input")
    if not 1 <= len(texts) <= MAX_INPUTS:
        raise Refused(400, f"'input' must have 1 to {MAX_INPUTS} texts, not {len(texts)}.", "input")
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise Refused(400, "'encoding_format' must be 'float' or 'base64'.", "encoding_format")
    return texts, encoding


def is_clean(text):
    """No lone surrogate: JSON can spell one, UTF-8 cannot."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


class Server:
    def __init__(self, model):
        self.model = model
        self.pool = minilm.Pool(model)
        self.number = "%.9g"  # nine digits name a float32 exactly
        self.array = "[" + ",".join([self.number] * model.dimensions) + "]"
        self.started = int(time.time())

    def tokenize(self, texts):
        for i, text in enumerate(texts):
            if not is_clean(text):
                raise Refused(400, f"Input {i} is not valid Unicode text.", "input")
        return self.model.tokenize(texts)

    def write(self, vectors, encoding, tokens):
        if encoding == "base64":
            values = ['"' + base64.b64encode(v.astype("<f4").tobytes()).decode() + '"' for v in vectors]
        else:
            values = [self.array % tuple(v) for v in vectors.tolist()]
        data = ",".join(f'{{"object":"embedding","index":{i},"embedding":{v}}}' for i, v in enumerate(values))
        return (f'{{"object":"list","data":[{data}],"model":"{minilm.NAME}",'
                f'"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}')

    async def embeddings(self, request):
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            raise Refused(400, "The request is not valid JSON.") from None
        texts, encoding = check(body)
        if body.get("dimensions") not in (None, self.model.dimensions):
            raise Refused(400, f"The model has {self.model.dimensions} dimensions, no others.", "dimensions")
        loop = asyncio.get_running_loop()
        ids = await loop.run_in_executor(None, self.tokenize, texts)
        batches, futures = self.pool.submit(ids)
        # When the client leaves, gather cancels what has not begun.
        results = await asyncio.gather(*map(asyncio.wrap_future, futures))
        vectors = self.pool.gather(ids, batches, results)
        text = await loop.run_in_executor(None, self.write, vectors, encoding, sum(map(len, ids)))
        return web.Response(text=text, content_type="application/json")

    def describe(self):
        return {"id": minilm.NAME, "object": "model", "created": self.started, "owned_by": "sentence-transformers"}

    async def models(self, request):
        return web.json_response({"object": "list", "data": [self.describe()]})

    async def one_model(self, request):
        if request.match_info["model"] not in NAMES:
            raise Refused(404, f"The model '{request.match_info['model']}' does not exist.", "model", "model_not_found")
        return web.json_response(self.describe())

    async def health(self, request):
        return web.json_response({"status": "ok", "model": minilm.NAME, "dimensions": self.model.dimensions,
                                  "max_tokens": self.model.max_tokens, "waiting": self.pool.jobs.qsize()})

    def application(self):
        app = web.Application(middlewares=[errors], client_max_size=MAX_BODY)
        app.router.add_post("/v1/embeddings", self.embeddings)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{model:.+}", self.one_model)
        app.router.add_get("/health", self.health)
        return app


async def serve(args):
    server = Server(await asyncio.get_running_loop().run_in_executor(None, minilm.Model))
    runner = web.AppRunner(server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, args.host, args.port)
    try:
        await site.start()
    except OSError as e:
        raise SystemExit(f"model server: cannot listen on {args.host}:{args.port}: {os.strerror(e.errno)}") from None
    port = runner.addresses[0][1]
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    if args.port_file:
        with open(args.port_file + ".new", "w") as f:
            f.write(f"{port}\n")
        os.rename(args.port_file + ".new", args.port_file)
    print(f"model server: {minilm.NAME} ready on http://{args.host}:{port}", flush=True)
    await stop.wait()
    await runner.cleanup()


def main():
    parser = argparse.ArgumentParser(description="An OpenAI-compatible embedding server around all-MiniLM-L6-v2.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8089, help="0 takes a free one")
    parser.add_argument("--port-file", help="the port is written here once the server is ready")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

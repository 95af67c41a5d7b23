#!/usr/bin/env python3
"""An embedding service that costs next to nothing, so that a benchmark measures the other side.

    bench_service.py --port-file FILE [--delay-ms N] [--dims N]

It counts the inputs of a request and answers, after the delay, with as many vectors (base64, all alike) from a
cache.  GET /stats tells requests, inputs and the processor time spent; GET /delay/N changes the delay.
"""

import argparse
import asyncio
import base64
import json
import os
import resource
import struct


class Service:
    def __init__(self, dims, delay):
        self.delay = delay
        self.requests = self.inputs = 0
        vector = struct.pack(f"<{dims}f", *((i % 17 - 8) / 8 for i in range(dims)))
        self.vector = base64.b64encode(vector).decode()
        self.bodies = {}

    def answer(self, n):
        body = self.bodies.get(n)
        if body is None:
            items = ",".join('{"index":%d,"embedding":"%s"}' % (i, self.vector) for i in range(n))
            body = self.reply('{"data":[%s],"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (items, n, n))
            self.bodies[n] = body
        return body

    @staticmethod
    def reply(text):
        body = text.encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def control(self, path):
        if path.startswith(b"/delay/"):
            self.delay = float(path[7:]) / 1000
        spent = resource.getrusage(resource.RUSAGE_SELF)
        return self.reply(json.dumps({"requests": self.requests, "inputs": self.inputs, "cpu": spent.ru_utime + spent.ru_stime}))


class Connection(asyncio.Protocol):
    def __init__(self, service):
        self.service, self.buffer = service, bytearray()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end])
            if head.startswith(b"GET "):
                del self.buffer[: end + 4]
                self.transport.write(self.service.control(head.split(b" ", 2)[1]))
                continue
            at = head.lower().index(b"content-length:") + 15
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + length:
                return
            inputs = json.loads(bytes(self.buffer[end + 4: end + 4 + length]))["input"]
            del self.buffer[: end + 4 + length]
            n = 1 if isinstance(inputs, str) else len(inputs)
            self.service.requests += 1
            self.service.inputs += n
            body = self.service.answer(n)
            if self.service.delay:
                asyncio.get_running_loop().call_later(self.service.delay, self.transport.write, body)
            else:
                self.transport.write(body)


async def run(args):
    service = Service(args.dims, args.delay_ms / 1000)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", 0)
    with open(args.port_file + ".new", "w") as f:
        f.write(str(server.sockets[0].getsockname()[1]))
    os.rename(args.port_file + ".new", args.port_file)
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", required=True)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--dims", type=int, default=384)
    asyncio.run(run(parser.parse_args()))

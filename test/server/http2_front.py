#!/usr/bin/env python3
"""HTTP/2 over TLS in front of the fake service, which itself speaks HTTP/1.1.

    http2_front.py --upstream PORT --tls DIR --port-file FILE --stats FILE [--goaway-after N]

Every stream is a request to the upstream port; the answer goes back as it is.  FILE of --stats holds, as JSON, the connections,
streams, streams at a time on one connection, and GOAWAYs so far.  With --goaway-after, a connection says GOAWAY at its Nth stream
and answers what it has, as a load balancer does before it goes.  It stops when its parent does.
"""

import argparse
import asyncio
import json
import os
import signal

import aiohttp
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from hyperframe.frame import GoAwayFrame

from fake_service import certificate, watch_parent


class Front:
    def __init__(self, args):
        self.args = args
        self.session = aiohttp.ClientSession()
        self.stats = {"connections": 0, "streams": 0, "at_a_time": 0, "goaways": 0}

    def note(self):
        with open(self.args.stats + ".new", "w") as f:
            json.dump(self.stats, f)
        os.rename(self.args.stats + ".new", self.args.stats)


class Connection(asyncio.Protocol):
    def __init__(self, front):
        self.front = front
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests = {}      # stream: [headers, body]
        self.tasks = {}
        self.room = asyncio.Event()
        self.served = 0
        self.last = None        # after GOAWAY: the last stream that is answered

    def connection_made(self, transport):
        self.transport = transport
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self.front.stats["connections"] += 1
        self.front.note()
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, error):
        for task in self.tasks.values():
            task.cancel()

    def flush(self):
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.requests[event.stream_id] = [dict(event.headers), b""]
            elif isinstance(event, DataReceived):
                self.requests[event.stream_id][1] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.begin(event.stream_id)
            elif isinstance(event, StreamReset):
                if task := self.tasks.pop(event.stream_id, None):
                    task.cancel()
            elif isinstance(event, WindowUpdated):
                self.room.set()
            elif isinstance(event, ConnectionTerminated):
                self.transport.close()
        self.flush()

    def begin(self, stream):
        stats = self.front.stats
        headers, body = self.requests.pop(stream)
        if self.last is not None and stream > self.last:
            return              # the client asks again, elsewhere
        self.served += 1
        stats["streams"] += 1
        self.tasks[stream] = asyncio.create_task(self.forward(stream, headers, body))
        stats["at_a_time"] = max(stats["at_a_time"], len(self.tasks))
        if self.served == self.front.args.goaway_after:
            stats["goaways"] += 1
            self.last = stream
            # by hand: h2 would answer nothing any more
            self.transport.write(GoAwayFrame(0, last_stream_id=stream, error_code=0).serialize())
        self.front.note()

    async def forward(self, stream, headers, body):
        url = f"http://127.0.0.1:{self.front.args.upstream}{headers[':path']}"
        plain = {k: v for k, v in headers.items() if not k.startswith(":")}
        async with self.front.session.request(headers[":method"], url, headers=plain, data=body) as answer:
            content = await answer.read()
            kept = [(k.lower(), v) for k, v in answer.headers.items() if k.lower() not in ("connection", "transfer-encoding", "server", "date")]
            self.h2.send_headers(stream, [(":status", str(answer.status)), *kept])
        while content:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if size <= 0:
                self.room.clear()
                self.flush()
                await self.room.wait()
                continue
            self.h2.send_data(stream, content[:size])
            content = content[size:]
        self.h2.end_stream(stream)
        self.flush()
        del self.tasks[stream]
        if self.last is not None and not self.tasks:
            self.transport.close()


async def run(args):
    front = Front(args)
    context = certificate(args.tls, "127.0.0.1")
    context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(front), "127.0.0.1", 0, ssl=context)
    front.note()
    with open(args.port_file + ".new", "w") as f:
        f.write(str(server.sockets[0].getsockname()[1]))
    os.rename(args.port_file + ".new", args.port_file)
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    watcher = asyncio.create_task(watch_parent(args.parent, stop))
    await stop.wait()
    watcher.cancel()
    server.close()
    await front.session.close()


def main():
    parser = argparse.ArgumentParser(description="HTTP/2 over TLS in front of the fake service.")
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--tls", metavar="DIR", required=True, help="gets ca.pem")
    parser.add_argument("--port-file", required=True, help="the port is written here once it listens")
    parser.add_argument("--stats", required=True)
    parser.add_argument("--goaway-after", type=int, default=0)
    parser.add_argument("--parent", type=int, default=os.getppid(), help="stop when this is no longer the parent")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

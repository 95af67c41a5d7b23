"""The ways the fake service answers wrongly.

ITEMS    change the list of [index, element text] pairs before it is written; most leave valid JSON
BODIES   change the body's text
WIRES    send the body in an unusual way, below HTTP where that is the point
"""

import asyncio
import base64
import gzip
import socket
import struct
import zlib

from aiohttp import web

# ---- items -------------------------------------------------------------------


def indexes(change):
    """A fault that replaces the last item's index by change(number of items)."""

    def fault(items, rng):
        items[-1][0] = change(len(items))

    return fault


def element(token):
    """A fault that puts a JSON token in place of one number of the last item's vector."""

    def fault(items, rng):
        text = items[-1][1]
        if text.startswith("["):
            numbers = text[1:-1].split(",")
            numbers[len(numbers) // 2] = token
            items[-1][1] = "[" + ",".join(numbers) + "]"
        elif text.startswith('"'):
            value = {"NaN": float("nan"), "Infinity": float("inf"), "1e400": float("inf")}.get(token)
            data = bytearray(base64.b64decode(text[1:-1]))
            if value is None:  # base64 has no place for such a token: break the encoding itself
                items[-1][1] = '"*' + text[2:]
                return
            struct.pack_into("<f", data, len(data) // 8 * 4, value)
            items[-1][1] = '"' + base64.b64encode(data).decode() + '"'
        else:
            items[-1][1] = token

    return fault


def whole(token):
    def fault(items, rng):
        items[-1][1] = token

    return fault


def resize(step):
    """A fault that makes the last vector longer or shorter by step numbers."""

    def fault(items, rng):
        text = items[-1][1]
        if text.startswith("["):
            numbers = text[1:-1].split(",")
            numbers = numbers[:step] if step < 0 else numbers + ["0.5"] * step
            items[-1][1] = "[" + ",".join(numbers) + "]"
        else:
            data = base64.b64decode(text[1:-1])
            data = data[: 4 * step] if step < 0 else data + struct.pack("<f", 0.5) * step
            items[-1][1] = '"' + base64.b64encode(data).decode() + '"'

    return fault


def many(items, rng):
    items.append([len(items), items[-1][1]])


def all_dimensions(items, rng):
    for item in items:
        resize(-1)([item], rng)


ITEMS = {
    # right answers in an unusual order
    "reversed": lambda items, rng: items.reverse(),
    "shuffled": lambda items, rng: rng.shuffle(items),
    # wrong indexes
    "index_out_of_range": indexes(lambda n: n),
    "index_negative": indexes(lambda n: -1),
    "index_huge": indexes(lambda n: 2**63),
    "index_duplicate": lambda items, rng: items.append([items[0][0], items.pop()[1]]),
    "index_string": indexes(lambda n: str(n - 1)),
    "index_fraction": indexes(lambda n: n - 0.5),
    "index_null": indexes(lambda n: None),
    "index_missing": indexes(lambda n: "MISSING"),
    # wrong number
    "few": lambda items, rng: items.pop(),
    "many": many,
    "none": lambda items, rng: items.clear(),
    # wrong vectors
    "dimensions_less": resize(-1),
    "dimensions_more": resize(1),
    "dimensions_all": all_dimensions,
    "null": element("null"),
    "nan": element("NaN"),
    "infinity": element("Infinity"),
    "overflow": element("1e400"),
    "string": element('"0.5"'),
    "true": element("true"),
    "nested": element("[0.5]"),
    "vector_null": whole("null"),
    "vector_empty": whole("[]"),
    "vector_object": whole('{"0":0.5}'),
    "vector_text": whole('"not a vector"'),
}

# ---- bodies --------------------------------------------------------------------

BODIES = {
    "empty": lambda body: "",
    "garbage": lambda body: "\x00\x01\x02\xfe\xff} this is not JSON",
    "html": lambda body: "<html><body><h1>502 Bad Gateway</h1></body></html>",
    "truncated": lambda body: body[: len(body) // 2],
    "trailing": lambda body: body + "}",
    "deep": lambda body: "[" * 200000,
    "deep_inside": lambda body: '{"data":' + '{"a":' * 100000 + "1" + "}" * 100000 + "}",
    "null": lambda body: "null",
    "other": lambda body: '{"result":"ok","data":{"embedding":null}}',
    "twice": lambda body: body + body,
}

# ---- wires ---------------------------------------------------------------------


class Raw(web.StreamResponse):
    """Tells aiohttp that the answer has been dealt with on the transport."""

    async def prepare(self, request):
        self.force_close()
        return None

    async def write_eof(self, data=b""):
        pass


def head(status, length, extra=""):
    return (f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n{extra}\r\n").encode()


def reset(request):
    """Close with RST instead of FIN."""
    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def drained(transport):
    """Let the peer take what was written."""
    while transport.get_write_buffer_size() and not transport.is_closing():
        await asyncio.sleep(0.005)


async def close(request, reply):
    request.transport.close()
    return Raw()


async def reset_now(request, reply):
    reset(request)
    return Raw()


async def partial(request, reply):
    """Headers and half of the body have left."""
    request.transport.write(head(reply.status, len(reply.body)) + reply.body[: len(reply.body) // 2])
    await drained(request.transport)


async def reset_body(request, reply):
    await partial(request, reply)
    await asyncio.sleep(0.05)
    reset(request)
    return Raw()


async def short_body(request, reply):
    await partial(request, reply)
    request.transport.close()
    return Raw()


async def hang_body(request, reply):
    await partial(request, reply)
    await reply.hang()
    request.transport.write(reply.body[len(reply.body) // 2 :])
    request.transport.close()
    return Raw()


async def drip(transport, data, interval):
    for i in range(len(data)):
        if transport.is_closing():
            return
        transport.write(data[i : i + 1])
        await asyncio.sleep(interval)


async def slow_headers(request, reply):
    await drip(request.transport, head(reply.status, len(reply.body)) + reply.body, reply.interval)
    request.transport.close()
    return Raw()


async def slow_body(request, reply):
    request.transport.write(head(reply.status, len(reply.body)))
    await drip(request.transport, reply.body, reply.interval)
    request.transport.close()
    return Raw()


async def not_http(request, reply):
    request.transport.write(b"220 smtp.example ESMTP ready\r\n")
    request.transport.close()
    return Raw()


async def huge_header(request, reply):
    request.transport.write(head(reply.status, len(reply.body), "X-Fill: " + "x" * reply.bytes + "\r\n") + reply.body)
    await drained(request.transport)
    request.transport.close()
    return Raw()


async def chunked(request, reply):
    answer = web.StreamResponse(status=reply.status, headers=reply.headers)
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    for i in range(0, len(reply.body), 100):
        await answer.write(reply.body[i : i + 100])
    await answer.write_eof()
    return answer


async def bad_chunk(request, reply):
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                            b"5\r\nabcde\r\nnot a length\r\n")
    await drained(request.transport)
    request.transport.close()
    return Raw()


async def early_close(request, reply):
    """Promises keep-alive and closes after the answer."""
    request.transport.write(head(reply.status, len(reply.body), "Connection: keep-alive\r\n") + reply.body)
    await drained(request.transport)
    request.transport.close()
    return Raw()


async def padded(request, reply):
    """A right answer followed by white space, "bytes" in all, without a Content-Length."""
    answer = web.StreamResponse(status=reply.status, headers=reply.headers)
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    await answer.write(reply.body)
    left, block = reply.bytes - len(reply.body), b" " * 65536
    while left > 0:
        await answer.write(block[: min(left, len(block))])
        left -= len(block)
    await answer.write_eof()
    return answer


async def gzipped(request, reply):
    return web.Response(status=reply.status, body=gzip.compress(reply.body, 1),
                        headers=reply.headers | {"Content-Encoding": "gzip"})


async def gzip_bomb(request, reply):
    """A right answer followed by "bytes" of white space, compressed a thousand to one."""
    answer = web.StreamResponse(status=reply.status, headers=reply.headers | {"Content-Encoding": "gzip"})
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    await answer.write(deflate.compress(reply.body))
    left, block = reply.bytes, b" " * (1 << 20)
    while left > 0:
        await answer.write(deflate.compress(block))
        await asyncio.sleep(0)
        left -= len(block)
    await answer.write(deflate.flush())
    await answer.write_eof()
    return answer


WIRES = {
    "close": close,
    "reset": reset_now,
    "reset_body": reset_body,
    "short_body": short_body,
    "hang_body": hang_body,
    "slow_headers": slow_headers,
    "slow_body": slow_body,
    "not_http": not_http,
    "huge_header": huge_header,
    "chunked": chunked,
    "bad_chunk": bad_chunk,
    "early_close": early_close,
    "padded": padded,
    "gzip": gzipped,
    "gzip_bomb": gzip_bomb,
}


def mend_missing(body):
    """An index of "MISSING" stands for no index at all."""
    return body.replace('"index":"MISSING",', "")


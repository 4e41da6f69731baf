"""A web of many hosts on this machine that fails in every known way, fast enough to measure a downloader against.

    python -m benchmarks.faults.hostile_web PORT     (it prints `ready`, and listens on 127.0.0.0/8 until it is ended)

A path is `/{route}/{number}.jpg`; any address 127.x.y.z is a host of its own. `/-/reset` forgets who asked before.
Connections stay open from one request to the next, as those of common servers do, unless a client asks for their end or
a route is one that ends or spoils them.
"""

import asyncio
import contextlib
import hashlib
import io
import random
import sys
from collections import Counter
from functools import lru_cache

import numpy as np
from PIL import Image

NUM_LOOKS = 400
SIDE_PX = 320
PLACEHOLDER_SIDE_PX = 90
THINKING_S = 0.2
DRIP_S = 0.05
LONGEST_S = 60.0
CHUNK, CHUNKED_BYTES = bytes(1 << 16), 5000

LATE_S = 0.05
FORGED = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 6\r\n\r\nforged"
"""What follows the responses of `trails` at once, of `trails_late` after a while: a response that nobody asked for."""
LAST = frozenset({"hangup", "silent", "endless", "drip", "short", "leaves"})
"""Routes whose answer is the last on its connection; that of `leaves` does not say so."""

SHARES = {
    "ok": 0.66,
    "trails": 0.01,
    "trails_late": 0.01,
    "leaves": 0.01,
    "chunks": 0.01,
    "missing": 0.10,
    "flaky": 0.05,
    "moved": 0.02,
    "thinks": 0.02,
    "page": 0.02,
    "refused": 0.02,
    "placeholder": 0.02,
    "broken": 0.01,
    "gone": 0.01,
    "loop": 0.01,
    "short": 0.0075,
    "drip": 0.005,
    "busy": 0.0025,
    "private": 0.0025,
    "silent": 0.0015,
    "hangup": 0.0015,
    "endless": 0.001,
}
"""Route -> share of the URLs."""
REASONS: dict[str, set[str | None]] = {
    "ok": {None},
    "trails": {None},
    "trails_late": {None},
    "leaves": {None},
    "chunks": {None},
    "missing": {"http_404"},
    "flaky": {None},
    "moved": {None},
    "thinks": {None},
    "page": {None},
    "refused": {"opted_out"},
    "placeholder": {None},
    "broken": {"http_5xx"},
    "gone": {"http_410"},
    "loop": {"redirect_loop"},
    "short": {"truncated_body"},
    "drip": {"too_slow"},
    "busy": {None},
    "private": {"blocked_address"},
    "silent": {"timeout"},
    "hangup": {"connection"},
    "endless": {"too_many_bytes"},
}
"""Route -> what `fetch` must say of it; None where something arrives."""
OWN_PICTURE = frozenset({"ok", "trails", "trails_late", "leaves", "chunks", "flaky", "moved", "thinks", "busy"})
"""Routes that give the picture of their number."""


def urls(port: int, num_urls: int, num_hosts: int, seed: int = 0) -> list[str]:
    """Return the URLs of the web, a seeded mix of all routes over many hosts."""
    chance = random.Random(seed)
    routes = chance.choices(list(SHARES), list(SHARES.values()), k=num_urls)
    hosts = [f"127.{1 + n // 250}.{n % 250}.{1 + n % 200}" for n in range(num_hosts)]
    return [
        f"http://10.{number % 250}.0.1:{port}/private/{number}.jpg"
        if route == "private"
        else f"http://{chance.choice(hosts)}:{port}/{route}/{number}.jpg"
        for number, route in enumerate(routes)
    ]


def sha256_of(url: str) -> str | None:
    """Return the sha256 of what a URL gives where that is one picture of its own, else None."""
    route, number = route_of(url), int(url.rpartition("/")[2].partition(".")[0])
    return hashlib.sha256(picture(number)).hexdigest() if route in OWN_PICTURE else None


def route_of(url: str) -> str:
    """Return the route of a URL."""
    return url.split("/")[3]


@lru_cache(maxsize=NUM_LOOKS)
def _look(number: int) -> bytes:
    """Return a picture; every fourth has no colour."""
    pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 1 if number % 4 == 0 else 3), dtype=np.uint8)
    image = Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


@lru_cache(maxsize=1)
def _placeholder() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (PLACEHOLDER_SIDE_PX, PLACEHOLDER_SIDE_PX), (230, 230, 90)).save(file, "JPEG")
    return file.getvalue()


def picture(number: int) -> bytes:
    """Return a picture of its own bytes: a look with a comment after its first marker."""
    whole, remark = _look(number % NUM_LOOKS), b"%012d" % number
    return whole[:2] + b"\xff\xfe" + (2 + len(remark)).to_bytes(2, "big") + remark + whole[2:]


class Web:
    """The server's state: how often each path was asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until one ends the connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            stays = True
            while stays:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONGEST_S)
                path = head.split(b" ", 2)[1].decode()
                stays = path.split("/")[1] not in LAST and b"\r\nconnection: close\r\n" not in head.lower()
                await self._route(path, writer)
                await writer.drain()
        writer.close()

    async def _route(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/-/reset":
            self.asked.clear()
            return _send(writer, "200 OK", b"reset")
        if path in ("/robots.txt", "/.well-known/tdmrep.json"):
            return _send(writer, "404 Not Found", b"")
        self.asked[path] += 1
        _, route, file = path.split("/")
        number = int(file.partition(".")[0])
        again = self.asked[path] > 1
        if route in ("missing", "gone", "broken") or (route == "flaky" and not again):
            status = {"missing": "404 Not Found", "gone": "410 Gone"}.get(route, "500 Internal Server Error")
            return _send(writer, status, b"no such picture")
        if route == "busy" and not again:
            return _send(writer, "503 Service Unavailable", b"", "Retry-After: 1")
        if route in ("moved", "loop"):
            target = f"/{'ok' if route == 'moved' else route}/{file}"
            return _send(writer, "302 Found", b"", f"Location: {target}")
        return await self._body(route, number, writer)

    async def _body(self, route: str, number: int, writer: asyncio.StreamWriter) -> None:
        if route == "hangup":
            return None
        if route == "silent":
            return await asyncio.sleep(LONGEST_S)
        if route == "thinks":
            await asyncio.sleep(THINKING_S)
        if route in ("endless", "drip"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n")
            while not writer.is_closing():
                writer.write(CHUNK if route == "endless" else b"x")
                await writer.drain()
                await asyncio.sleep(0 if route == "endless" else DRIP_S)
            return None
        sent = _placeholder() if route == "placeholder" else picture(number)
        body = b"<!DOCTYPE html><h1>%d has moved</h1>" % number if route == "page" else sent
        more = ("X-Robots-Tag: noai",) if route == "refused" else ()
        if route == "chunks":
            return _send_chunks(writer, body)
        _send(writer, "200 OK", body, *more, cut=route == "short")
        if route == "trails_late":
            await writer.drain()
            await asyncio.sleep(LATE_S)
        if route in ("trails", "trails_late"):
            writer.write(FORGED)
        return None


def _send_chunks(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(body), CHUNKED_BYTES):
        piece = body[start : start + CHUNKED_BYTES]
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    writer.write(b"0\r\n\r\n")


def _send(writer: asyncio.StreamWriter, status: str, body: bytes, *headers: str, cut: bool = False) -> None:
    lines = (f"HTTP/1.1 {status}", "Content-Type: image/jpeg", f"Content-Length: {len(body)}")
    writer.write("\r\n".join((*lines, *headers, "", "")).encode() + (body[: len(body) // 2] if cut else body))


async def serve(port: int) -> None:
    """Listen until the process ends."""
    for number in range(NUM_LOOKS):
        _look(number)
    server = await asyncio.start_server(Web().answer, "0.0.0.0", port, backlog=1024)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

"""A web server for the demo corpus that behaves as the web does: most pictures arrive, some fail in every known way."""

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LONGEST_WAIT_S = 60.0
CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
PLACEHOLDER = "placeholder.png"
ADDRESS = re.compile(r"/(?P<route>[a-z]+)/(?P<file>[a-z0-9_-]+\.(?P<suffix>jpg|png|webp))")


class Route(StrEnum):
    """First part of a path: what becomes of the request."""

    IMAGES = "images"
    """The file arrives."""
    MOVED = "moved"
    """302 to the file under `images`."""
    FLAKY = "flaky"
    """500 the first time, then the file."""
    LOOP = "loop"
    """302 to itself."""
    MISSING = "missing"
    """404."""
    GONE = "gone"
    """410."""
    BROKEN = "broken"
    """500, always."""
    SHORT = "short"
    """Half of the promised bytes, then the connection closes."""
    REFUSED = "refused"
    """The file, with `X-Robots-Tag: noai`."""
    PAGE = "page"
    """200 with a page of HTML that claims to be a JPEG."""
    REMOVED = "removed"
    """200 with one and the same picture of an "image not found"."""
    EMPTY = "empty"
    """200 without a body."""
    SLOW = "slow"
    """Nothing at all until the client gives up."""


@dataclass(frozen=True)
class DemoServer:
    """A running server: where it listens, and how often each path but /robots.txt and tdmrep.json was asked for."""

    base_url: str
    requests: Counter[str] = field(default_factory=Counter)


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[DemoServer]:
    """Serve the pictures of `folder` on 127.0.0.1 until the block ends; port 0 takes any free one.

    Raises:
        OSError: the port is taken.
    """
    web = _Web(folder, port)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, name="demo-server")
    thread.start()
    try:
        yield DemoServer(f"http://127.0.0.1:{web.server_port}", web.requests)
    finally:
        web.is_closing.set()
        web.shutdown()
        web.server_close()
        thread.join()


class _Web(ThreadingHTTPServer):
    """The server's state: its folder, the requests so far, and whether it is about to close."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.is_closing = threading.Event()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def count(self, path: str) -> int:
        with self._lock:
            self.requests[path] += 1
            return self.requests[path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that hang up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    server: _Web

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Stay silent."""

    def do_GET(self) -> None:
        if self.path in ("/robots.txt", "/.well-known/tdmrep.json"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        num_requests = self.server.count(self.path)
        address = ADDRESS.fullmatch(self.path)
        if address is None or address["route"] not in set(Route):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        route, file = Route(address["route"]), address["file"]
        statuses = {
            Route.MISSING: HTTPStatus.NOT_FOUND,
            Route.GONE: HTTPStatus.GONE,
            Route.BROKEN: HTTPStatus.INTERNAL_SERVER_ERROR,
        }
        if route in statuses or (route is Route.FLAKY and num_requests == 1):
            self.send_error(statuses.get(route, HTTPStatus.INTERNAL_SERVER_ERROR))
        elif route in (Route.MOVED, Route.LOOP):
            self._redirect(f"/{Route.IMAGES if route is Route.MOVED else route}/{file}")
        elif route is Route.SLOW:
            self.server.is_closing.wait(LONGEST_WAIT_S)
        else:
            self._answer(route, file, CONTENT_TYPES[address["suffix"]])

    def _redirect(self, path: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, route: Route, file: str, content_type: str) -> None:
        body = self._body(route, file)
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if route is Route.REFUSED:
            self.send_header("X-Robots-Tag", "noai")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2] if route is Route.SHORT else body)

    def _body(self, route: Route, file: str) -> bytes | None:
        if route is Route.PAGE:
            return b"<!DOCTYPE html><html><body><h1>This picture has moved</h1></body></html>"
        if route is Route.EMPTY:
            return b""
        path = self.server.folder / (PLACEHOLDER if route is Route.REMOVED else file)
        return path.read_bytes() if path.is_file() else None

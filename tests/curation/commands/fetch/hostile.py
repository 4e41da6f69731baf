"""A server whose every byte and pause is written down by the test that needs it."""

import contextlib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from curation.commands.fetch.tdmrep import TDMREP

Script = Callable[["Connection"], None]


class Connection:
    """One request of a client, and what can be sent back."""

    def __init__(self, server: "HostileServer", wire: Any, request: str) -> None:
        self.server = server
        self.request = request
        self._wire = wire

    def send(self, data: bytes) -> None:
        """Send bytes; a client that hung up ends the script."""
        self._wire.write(data)

    def drip(self, data: bytes, pause_s: float) -> None:
        """Send byte by byte, without end if `data` comes round again and again."""
        while not self.server.is_closing.is_set():
            for number in range(len(data)):
                self.send(data[number : number + 1])
                self.wait(pause_s)

    def wait(self, seconds: float) -> None:
        """Pause, but not beyond the server's life."""
        self.server.is_closing.wait(seconds)


@dataclass
class HostileServer:
    """A running server: its address, and what was asked of it when."""

    port: int
    is_closing: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each connection was opened."""

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"


def stays(body: bytes, *headers: str) -> bytes:
    """A whole response with status 200 that leaves its connection open."""
    lines = "\r\n".join(("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""))
    return lines.encode("latin-1") + body


def ok(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A whole response with status 200; `length` is what its header promises."""
    return answer("200 OK", f"Content-Length: {len(body) if length is None else length}", *headers) + body


def answer(status: str, *headers: str) -> bytes:
    """The head of a response."""
    return "\r\n".join((f"HTTP/1.1 {status}", "Connection: close", *headers, "", "")).encode("latin-1")


@contextmanager
def hostile(scripts: Mapping[str, Script], *, keeps: bool = False) -> Iterator[HostileServer]:
    """Serve scripts by path on 127.0.0.1; a reservation that no script speaks of is not there, and not counted.

    A server that `keeps` its connections answers one request after another, until a script raises OSError.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            state.times.append(time.monotonic())
            with contextlib.suppress(OSError):
                while self._answer() and keeps:
                    pass

        def _answer(self) -> bool:
            lines = []
            while (line := self.rfile.readline(8192)).strip():
                lines.append(line.decode("latin-1").strip())
            path = lines[0].split(" ")[1] if lines else ""
            if keeps and not lines:
                return False
            if path == TDMREP.path and path not in scripts:
                self.wfile.write(answer("404 Not Found", "Content-Length: 0"))
                return False
            state.requests.append("\n".join(lines))
            scripts[path.partition("?")[0]](Connection(state, self.wfile, "\n".join(lines)))
            return True

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = keeps  # one that waits for a further request is not waited for
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Stay silent about clients that hang up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        state = HostileServer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.is_closing.set()
            server.shutdown()
            thread.join()

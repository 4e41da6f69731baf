"""Web servers that say nothing when a client hangs up: what they printed then would stand under another test."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any, TypeVar


class Web(ThreadingHTTPServer):
    """A server on a free port of 127.0.0.1; it does not wait for clients that keep a connection open."""

    daemon_threads = True

    def __init__(self, handler: Any) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


W = TypeVar("W", bound=Web)


@contextmanager
def serving(web: W) -> Iterator[W]:
    """Answer until the block ends."""
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        web.shutdown()
        thread.join()
        web.server_close()

"""Serves a page on this machine alone, until it is interrupted."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Any

from curation.errors import UsageError
from curation.serving.guard import App, Secrets

HOST = "127.0.0.1"
MAX_CONNECTIONS = 256


def require_server(command: str) -> None:
    """Make sure that what serves pages is installed.

    Raises:
        UsageError: it is not.
    """
    if not can_serve():
        raise UsageError(f"{command}: no server is installed for its page: pip install 'facecaptionhq[review]'")


def can_serve() -> bool:
    """Whether what serves a page is installed."""
    return all(find_spec(name) is not None for name in ("starlette", "uvicorn"))


@contextmanager
def page_server(command: str, app_of: Callable[[Secrets], App], port: int = 0) -> Iterator[tuple[Any, str]]:
    """Yield a server that answers once its `run` is called, and the address to open; any free port where it is 0.

    Raises:
        UsageError: somebody else listens there.
    """
    import uvicorn

    with closing(_listening(port)) as listener:
        known = Secrets(listener.getsockname()[1], command)
        config = uvicorn.Config(
            app_of(known), log_level="error", access_log=False, server_header=False, lifespan="off",
            limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=30, timeout_graceful_shutdown=1, ws="none",
        )  # fmt: skip
        yield _On(uvicorn.Server(config), listener), known.address


class _On:
    """A server on a socket that listens already."""

    def __init__(self, server: Any, listener: socket.socket) -> None:
        self._server, self._listener = server, listener

    def run(self) -> None:
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        self._server.should_exit = True


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"port {port}: cannot be listened on: {error.strerror}; leave --port out for a free one"
        ) from error
    return listener

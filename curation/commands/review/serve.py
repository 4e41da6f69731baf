"""Serves the page on this machine alone, until it is interrupted."""

import socket
from collections.abc import Callable
from contextlib import closing

from curation.commands.review.app import build_app
from curation.commands.review.desk import Desk
from curation.commands.review.guard import Secrets
from curation.errors import UsageError

HOST = "127.0.0.1"
MAX_CONNECTIONS = 256


def serve(desk: Desk, port: int, on_ready: Callable[[str], None]) -> None:
    """Answer on a port of 127.0.0.1, any free one where it is 0; `on_ready` hears the address to open.

    Raises:
        UsageError: somebody else listens there.
    """
    import uvicorn

    with closing(_listening(port)) as listener:
        known = Secrets(listener.getsockname()[1])
        config = uvicorn.Config(
            build_app(desk, known), log_level="error", access_log=False, server_header=False, lifespan="off",
            limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=30, timeout_graceful_shutdown=1, ws="none",
        )  # fmt: skip
        desk.start()
        on_ready(known.address)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            desk.close()


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

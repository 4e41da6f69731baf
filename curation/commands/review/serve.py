"""Serves the page of a run until it is interrupted."""

from collections.abc import Callable

from curation.commands.review.app import build_app
from curation.commands.review.desk import Desk
from curation.serving.serve import page_server

COMMAND = "review"


def serve(desk: Desk, port: int, on_ready: Callable[[str], None]) -> None:
    """Answer on a port of 127.0.0.1, any free one where it is 0; `on_ready` hears the address to open.

    Raises:
        UsageError: somebody else listens there.
    """
    with page_server(COMMAND, lambda known: build_app(desk, known), port) as (server, address):
        desk.start()
        on_ready(address)
        try:
            server.run()
        finally:
            desk.close()

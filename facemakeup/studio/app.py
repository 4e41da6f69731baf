"""The server's routes: each parses a request, asks the studio, and answers in JSON; pictures go by name alone."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from curation.serving.answers import answers, page_routes, takes, takes_bytes
from curation.serving.guard import Guard, Secrets
from curation.serving.serve import page_server
from facemakeup.studio.asked import Asked
from facemakeup.studio.studio import StudioDesk
from filters.base import Settings

COMMAND = "studio"
MAX_PHOTO_BYTES = 32 << 20


class Removed(Settings):
    """A face that is to be forgotten."""

    face: str


def build_app(studio: StudioDesk, known: Secrets) -> Guard:
    """Return the app behind its guard."""

    def remove(asked: Removed) -> object:
        studio.faces.remove(asked.face)
        return {}

    def face(request: Request) -> Response:
        found = studio.faces.get(request.path_params["face"])
        return _png(None if found is None else found.preview)

    def picture(request: Request) -> Response:
        return _png(studio.picture(request.path_params["name"], request.path_params["file"]))

    routes = [
        *page_routes("facemakeup.studio"),
        Route("/face/{face:str}", face),
        Route("/drawn/{name:str}/{file:str}", picture),
        Route("/api/facts", answers(lambda request: studio.facts | {"csrf": known.csrf})),
        Route("/api/state", answers(lambda request: studio.state())),
        Route(
            "/api/face",
            takes_bytes(lambda request, body: studio.add_face(body, request.query_params.get("name", ""))),
            methods=["POST"],
        ),
        Route("/api/remove", takes(Removed, remove), methods=["POST"]),
        Route("/api/draw", takes(Asked, studio.start), methods=["POST"]),
        Route("/api/stop", takes(Settings, lambda asked: studio.stop()), methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), known, MAX_PHOTO_BYTES)


def serve(studio: StudioDesk, port: int, on_ready: Callable[[str], None]) -> None:
    """Answer on a port of 127.0.0.1, any free one where it is 0; `on_ready` hears the address to open.

    Raises:
        UsageError: somebody else listens there.
    """
    with page_server(COMMAND, lambda known: build_app(studio, known), port) as (server, address):
        on_ready(address)
        try:
            server.run()
        finally:
            studio.close()


def _png(content: bytes | None) -> Response:
    return PlainTextResponse("no such picture", 404) if content is None else Response(content, media_type="image/png")

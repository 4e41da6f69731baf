"""How a page's server answers: files by name, values in JSON, and what is wrong in a sentence."""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from curation.errors import FaceCaptionError

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
HEAD, INDEX = "head.html", "index.html"
Handler = Callable[[Request], Response]


def page_routes(package: str) -> list[Route]:
    """Return the routes of a package's folder `page`, and of what all pages share; no path leads elsewhere.

    A page is the head that all have (`head.html`) and the package's `index.html`, which goes on from there.
    """
    folders = [files(name).joinpath("page") for name in ("curation.serving", package)]
    entries = [entry for folder in folders for entry in folder.iterdir() if _ending(entry.name) in TYPES]
    names = {entry.name: entry.read_bytes() for entry in entries}
    names[INDEX] = names.pop(HEAD) + names[INDEX]

    def page(request: Request) -> Response:
        name = request.path_params.get("name", INDEX)
        if name not in names:
            return PlainTextResponse("no such file", 404)
        return Response(names[name], media_type=TYPES[_ending(name)])

    icon = Route("/favicon.ico", lambda request: Response(status_code=204))
    return [Route("/", page), icon, Route("/page/{name:str}", page)]


def answers(ask: Callable[[Request], Any]) -> Handler:
    """Return a handler that answers in JSON, or says what is wrong."""
    return lambda request: told(lambda: ask(request))


def takes(model: type[Any], act: Callable[[Any], Any]) -> Any:
    """Return a handler of a body in JSON of a model's form."""
    return takes_bytes(lambda request, body: act(model.model_validate_json(body)))


def takes_bytes(act: Callable[[Request, bytes], Any]) -> Any:
    """Return a handler of any body."""

    async def handle(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(lambda: told(lambda: act(request, body)))

    return handle


def told(ask: Callable[[], Any]) -> Response:
    """Return what is answered as JSON; what is wrong with status 400, what is not there with 404."""
    try:
        value = ask()
    except ValidationError as error:
        return JSONResponse({"error": "; ".join(f"{_place(one)}: {one['msg']}" for one in error.errors()[:3])}, 400)
    except FaceCaptionError as error:
        return JSONResponse({"error": str(error)}, 400)
    if value is None:
        return JSONResponse({"error": "no such picture"}, 404)
    return Response(json.dumps(value, allow_nan=False, separators=(",", ":")), media_type="application/json")


def _ending(name: str) -> str:
    return name[name.rfind(".") :]


def _place(fault: Any) -> str:
    return ".".join(str(step) for step in fault["loc"]) or "request"

"""The server's routes: each parses a request, asks the desk, and answers in JSON; pictures go by uid alone."""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from curation.commands.review.desk import Desk
from curation.commands.review.gallery import MAX_UIDS, Query
from curation.commands.review.guard import Guard, Secrets
from curation.commands.review.projection import Basis
from curation.errors import FaceCaptionError
from filters.base import Settings

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
PAGE = files("curation.commands.review").joinpath("page")
Keep = dict[str, dict[str, float | None] | None]


class GiveLabel(Settings):
    """One label of one picture or several."""

    uids: tuple[str, ...] = Field(max_length=1000)
    label: str
    reviewer: str
    from_queue: bool = False


class Undo(Settings):
    """Whose last label is taken back."""

    reviewer: str


class Selection(Settings):
    """A list of pictures to write: by a query, or one by one."""

    name: str
    query: Query | None = None
    uids: tuple[str, ...] = Field(default=(), max_length=MAX_UIDS)


class NewRecipe(Settings):
    """A recipe to write."""

    name: str
    limits: Keep


class WhatIf(Settings):
    """Other limits."""

    limits: Keep = Field(default_factory=dict)


class MapOf(Settings):
    """By what pictures are laid out; None: by features where most have some."""

    by: Basis | None = None


def build_app(desk: Desk, known: Secrets) -> Guard:  # long: every route and what it asks of the desk
    """Return the app behind its guard."""
    names = {entry.name: entry.read_bytes() for entry in PAGE.iterdir() if entry.name[entry.name.rfind(".") :] in TYPES}

    def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in names:
            return PlainTextResponse("no such file", 404)
        return Response(names[name], media_type=TYPES[name[name.rfind(".") :]])

    def picture(request: Request) -> Response:
        found = desk.pictures.picture(request.path_params["uid"])
        if isinstance(found, str):
            return PlainTextResponse(found, 404)
        return Response(found[0], media_type=found[1])

    def about(request: Request) -> Any:
        return desk.picture(request.path_params["uid"])

    def undo(asked: Undo) -> Any:
        undone = desk.labels.undo(asked.reviewer)
        return {"uid": undone and undone.uid, "label": undone and undone.label, **desk.state(asked.reviewer)}

    def give(asked: GiveLabel) -> Any:
        desk.give(asked.uids, asked.label, asked.reviewer, from_queue=asked.from_queue)
        return desk.state(asked.reviewer)

    def select(asked: Selection) -> Any:
        path, num = desk.select(asked.name, asked.query, asked.uids)
        return {"path": str(path), "num": num}

    def write(asked: NewRecipe) -> Any:
        path = desk.write(asked.name, asked.limits)
        return {"path": str(path), "text": path.read_text(encoding="utf-8")}

    uid = "{uid:str}"
    routes = [
        Route("/", page),
        Route("/favicon.ico", lambda request: Response(status_code=204)),
        Route("/page/{name:str}", page),
        Route(f"/picture/{uid}", picture),
        Route("/api/facts", _answers(lambda request: desk.facts | {"csrf": known.csrf})),
        Route("/api/state", _answers(lambda request: desk.state(request.query_params.get("reviewer") or _first(desk)))),
        Route(f"/api/picture/{uid}", _answers(about)),
        Route("/api/agreement", _answers(lambda request: desk.agreement())),
        Route("/api/map", _answers(lambda request: desk.points(_query(request, MapOf).by))),
        Route("/api/gallery", _answers(lambda request: desk.gallery(_query(request, Query)))),
        Route("/api/whatif", _answers(lambda request: desk.what_if(_query(request, WhatIf).limits))),
        Route("/api/label", _takes(GiveLabel, give), methods=["POST"]),
        Route("/api/undo", _takes(Undo, undo), methods=["POST"]),
        Route("/api/selection", _takes(Selection, select), methods=["POST"]),
        Route("/api/gallery", _takes(Query, desk.gallery), methods=["POST"]),
        Route("/api/recipe", _takes(NewRecipe, write), methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), known)


def _first(desk: Desk) -> str:
    return desk.choices.reviewer


def _query(request: Request, model: type[Any]) -> Any:
    return model.model_validate_json(request.query_params.get("q") or "{}")


def _answers(ask: Callable[[Request], Any]) -> Callable[[Request], Response]:
    """Return a handler that answers in JSON, or says what is wrong."""
    return lambda request: _told(lambda: ask(request))


def _takes(model: type[Any], act: Callable[[Any], Any]) -> Any:
    """Return a handler of a body in JSON of a model's form."""

    async def handle(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(lambda: _told(lambda: act(model.model_validate_json(body))))

    return handle


def _told(ask: Callable[[], Any]) -> Response:
    try:
        value = ask()
    except ValidationError as error:
        return JSONResponse({"error": "; ".join(f"{_place(one)}: {one['msg']}" for one in error.errors()[:3])}, 400)
    except FaceCaptionError as error:
        return JSONResponse({"error": str(error)}, 400)
    if value is None:
        return JSONResponse({"error": "no such picture"}, 404)
    return Response(json.dumps(value, allow_nan=False, separators=(",", ":")), media_type="application/json")


def _place(fault: Any) -> str:
    return ".".join(str(step) for step in fault["loc"]) or "request"

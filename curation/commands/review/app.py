"""The server's routes: each parses a request, asks the desk, and answers in JSON; pictures go by uid alone."""

from typing import Any

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from curation.commands.review.desk import Desk
from curation.commands.review.gallery import MAX_UIDS, Query
from curation.commands.review.projection import Basis
from curation.serving.answers import answers, page_routes, takes
from curation.serving.guard import Guard, Secrets
from filters.base import Settings

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
        *page_routes("curation.commands.review"),
        Route(f"/picture/{uid}", picture),
        Route("/api/facts", answers(lambda request: desk.facts | {"csrf": known.csrf})),
        Route("/api/state", answers(lambda request: desk.state(request.query_params.get("reviewer") or _first(desk)))),
        Route(f"/api/picture/{uid}", answers(about)),
        Route("/api/agreement", answers(lambda request: desk.agreement())),
        Route("/api/map", answers(lambda request: desk.points(_query(request, MapOf).by))),
        Route("/api/gallery", answers(lambda request: desk.gallery(_query(request, Query)))),
        Route("/api/whatif", answers(lambda request: desk.what_if(_query(request, WhatIf).limits))),
        Route("/api/label", takes(GiveLabel, give), methods=["POST"]),
        Route("/api/undo", takes(Undo, undo), methods=["POST"]),
        Route("/api/selection", takes(Selection, select), methods=["POST"]),
        Route("/api/gallery", takes(Query, desk.gallery), methods=["POST"]),
        Route("/api/recipe", takes(NewRecipe, write), methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), known)


def _first(desk: Desk) -> str:
    return desk.choices.reviewer


def _query(request: Request, model: type[Any]) -> Any:
    return model.model_validate_json(request.query_params.get("q") or "{}")

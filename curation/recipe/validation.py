"""Tables of a recipe or a configuration, checked: every error names the file, the key, and what could stand there."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from curation.errors import RecipeError
from filters.base import Settings

S = TypeVar("S", bound=Settings)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        RecipeError: it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error


def validated(model: type[S], values: Mapping[str, Any], where: str, place: str) -> S:
    """Return the table that `values` describe; `where` and `place` say in errors which file and table they are of.

    Raises:
        RecipeError: a key does not hold.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError(*(_explain(model, where, place, fault) for fault in error.errors())) from None


def _explain(model: type[Settings], where: str, place: str, fault: Mapping[str, Any]) -> str:
    path = list(fault["loc"])
    dotted = ".".join(str(step) for step in path)
    key = f"{place}.{dotted}" if place else dotted
    if fault["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key; {choices(str(path[-1]), _fields_at(model, path[:-1]))}"
    return f"{where}: {key}: {fault['msg']} (got {fault['input']!r})"


def _fields_at(model: type[Settings], path: Sequence[Any]) -> tuple[str, ...]:
    """Return the field names of the table that stands at `path`; list indices and free keys lead on to their model."""
    for step in path:
        if step not in model.model_fields:
            continue
        annotation = model.model_fields[step].annotation
        arguments = (annotation, *get_args(annotation))
        inner = next(
            (argument for argument in arguments if isinstance(argument, type) and issubclass(argument, Settings)), None
        )
        if inner is None:
            return ()
        model = inner
    return tuple(model.model_fields)


def choices(wrong: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """Return a hint at the nearest name, and all that could stand."""
    close = difflib.get_close_matches(wrong, list(names), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}the choices are {', '.join(names)}" if names else f"{hint}nothing can stand here"

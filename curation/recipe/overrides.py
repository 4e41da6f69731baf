"""`--set key=value`: single values of a recipe, changed on the command line and recorded like the rest of it."""

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from curation.errors import RecipeError

FORM = "say KEY=VALUE with a key of the recipe, such as pack.shuffle_seed=7 or filters.text.keep.num_characters.max=12"


def overridden(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's plain values with each override in its place; tables that are not there yet are made.

    A key is that of the file, with dots; of `filters` one is named by its `name`, of `screens` by its `filter`, where
    that is told apart, or by its number from 0. A value is TOML (`12`, `true`, `["a", "b"]`, `"x"`), or a bare word.

    Raises:
        RecipeError: an override is no `key=value`, or its key leads through what is no table.
    """
    changed = deepcopy(dict(values))
    for override in overrides:
        key, is_pair, text = override.partition("=")
        *tables, last = key.strip().split(".")
        if not (is_pair and all(tables) and last):
            raise RecipeError(f"--set {override}: {FORM}")
        place: Any = changed
        for table in tables:
            place = _inside(place, table, override)
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override}: {'.'.join(tables)} is a list; {FORM}")
        place[last] = value_of(text.strip())
    return changed


def _inside(place: Any, name: str, override: str) -> Any:
    if isinstance(place, list):
        names = [table.get("name", table.get("filter")) for table in place if isinstance(table, dict)]
        if name.isdecimal() and int(name) < len(place):
            return place[int(name)]
        if names.count(name) != 1:
            raise RecipeError(f"--set {override}: {name!r} names no one table of {names}; a number may, from 0")
        return place[names.index(name)]
    if not isinstance(place, dict):
        raise RecipeError(f"--set {override}: {name!r} stands in a value, which has no keys; {FORM}")
    return place.setdefault(name, {})


def value_of(text: str) -> Any:
    """Return the value that a text stands for behind `=`."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def as_toml(values: Any) -> Any:
    """Return the values of a resolved recipe without those that are None: TOML has none, and a missing key means it."""
    if isinstance(values, Mapping):
        return {key: as_toml(value) for key, value in values.items() if value is not None}
    return [as_toml(value) for value in values] if isinstance(values, list | tuple) else values

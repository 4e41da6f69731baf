"""In what resolved recipes differ, key by key, and what to type so that one becomes the other."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import RecipeError
from curation.recipe.overrides import as_toml, overridden, value_of
from curation.recipe.recipe import bundled_recipes, load_recipe

NUM_TOLD = 3
ABSENT = object()
"""Stands for a value that a recipe has not."""


@dataclass(frozen=True)
class RecipeChange:
    """One value in which two recipes differ, by the key that `--set` takes; an absent one is empty."""

    key: str
    before: str
    now: str


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[RecipeChange]:
    """Yield every value that two resolved recipes do not share, filters by their names."""
    one, two = dict(_flat(before)), dict(_flat(now))
    for key in dict.fromkeys((*one, *two)):
        if (old := one.get(key, ABSENT)) != (new := two.get(key, ABSENT)):
            yield RecipeChange(key, _shown(old), _shown(new))


def told(changes: Sequence[RecipeChange]) -> str:
    """Return the first differences in words: key, the value there and the value here."""
    parts = [f"{one.key} is {one.before or 'absent'} there and {one.now or 'absent'} here" for one in changes]
    more = [f"{len(parts) - NUM_TOLD} more differ"] if len(parts) > NUM_TOLD else []
    return ", ".join([*parts[:NUM_TOLD], *more])


def options_back(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return the `--set` options that turn the recipe `now` into `before`; None where no options can."""
    changes = changes_back(before, now)
    return None if changes is None else options_of(changes)


def options_of(changes: Sequence[str]) -> str:
    """Return changes of the form `key=value` as they are typed."""
    return shlex.join([word for change in changes for word in ("--set", change)])


def changes_back(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str] | None:
    """Return the changes `key=value` that turn the values `now` into `before`; None where no such changes can."""
    one, two = dict(_flat(before)), dict(_flat(now))
    changed = [key for key in dict.fromkeys((*one, *two)) if one.get(key, ABSENT) != two.get(key, ABSENT)]
    changes = [f"{key}={_toml(one[key])}" for key in changed if _can_be_set(one.get(key, ABSENT))]
    try:
        made = dict(_flat(overridden(as_toml(now), changes)))
    except RecipeError:
        return None
    return changes if made == one else None


def recipe_options(values: Mapping[str, Any], but: Sequence[str] = ()) -> str:
    """Return the options by which a resolved recipe is typed: `--recipe NAME`, and `--set` for what was changed in it.

    Tables in `but` are left out, since whoever asks sets them. Of a recipe that does not come with the package only the
    name is known, so its file is called by it.
    """
    name = str(values["name"])
    if name not in bundled_recipes():
        return shlex.join(["--recipe", f"{name}.toml"])
    own = {key: value for key, value in values.items() if key not in but}
    bundled = {key: value for key, value in load_recipe(name).resolved.items() if key not in but}
    options = options_back(own, bundled)
    if options is None:
        return shlex.join(["--recipe", f"{name}.toml"])  # one of one's own of the same name
    return " ".join(filter(None, (f"--recipe {name}", options)))


def _flat(values: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{place}.{key}" if place else str(key))
    elif isinstance(values, Sequence) and not isinstance(values, str) and any(isinstance(v, Mapping) for v in values):
        for number, value in enumerate(values):
            yield from _flat(value, f"{place}.{value.get('name', number) if isinstance(value, Mapping) else number}")
    elif values is not None:
        yield place, list(values) if isinstance(values, tuple) else values


def _shown(value: Any) -> str:
    return "" if value is ABSENT else str(value)


def _can_be_set(value: Any) -> bool:
    return isinstance(value, str | int | float | list)


def _toml(value: Any) -> str:
    """Return a value as `--set` reads it; a plain word stays one, where it is not read as a number or the like."""
    is_word = isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum()
    if is_word and value_of(value) == value:
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""A recipe's limits as single numbers, which of them may move, and a recipe with others in their place."""

import sys
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

from curation.errors import UsageError
from curation.recipe.joint_scores import JOINT_SCORES
from curation.recipe.limits import without_changed
from curation.recipe.recipe import Recipe, recipe_of
from curation.recipe.validation import choices

Key = tuple[str, str]
"""A filter of the recipe, and a score that it keeps by."""
End = Literal["min", "max"]
OPEN = sys.float_info.max
"""An end that a recipe leaves open, as a number that every finite score passes: the largest, with the end's sign."""


@dataclass(frozen=True)
class Limit:
    """One end of a keep range."""

    filter: str
    score: str
    end: End
    value: float

    @property
    def key(self) -> Key:
        """Whose score it is."""
        return self.filter, self.score

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.filter}.{self.score}.{self.end}"

    @property
    def sign(self) -> float:
        """What a score is multiplied with so that less is better: a row passes where that is at most the limit's."""
        return 1.0 if self.end == "max" else -1.0


def limits_of(recipe: Recipe) -> tuple[Limit, ...]:
    """Return every limit of a recipe, in declared order."""
    ranges = [(plan.name, score, keep) for plan in recipe.filters for score, keep in plan.keep.items()]
    return tuple(
        limit
        for name, score, keep in ranges
        for limit in (
            *([] if keep.min is None else [Limit(name, score, "min", keep.min)]),
            *([] if keep.max is None else [Limit(name, score, "max", keep.max)]),
        )
    )


def key_of(recipe: Recipe, name: str) -> Key:
    """Return whose score a name means: `score`, or `filter.score`.

    Raises:
        UsageError: it means none of the recipe's filters' scores, or several.
    """
    keys = [
        (plan.name, score)
        for plan in recipe.filters
        for score in (*plan.module.SCORES, *(n for n, joint in JOINT_SCORES.items() if joint.owner == plan.name))
    ]
    found = [key for key in keys if name in (key[1], ".".join(key))]
    if len(found) != 1:
        names = [".".join(key) for key in (found or keys)]
        what = "several scores are called so" if found else "no filter of the recipe has such a score"
        raise UsageError(f"{name!r}: {what}; {choices(name, names)}")
    return found[0]


def aimed(recipe: Recipe, key: Key, end: End) -> tuple[Recipe, Limit]:
    """Return a recipe in which one end of a score's range is there, open where it was, and that limit."""
    there = next((limit for limit in limits_of(recipe) if (limit.key, limit.end) == (key, end)), None)
    if there is not None:
        return recipe, there
    limit = Limit(*key, end, OPEN if end == "max" else -OPEN)
    return with_limits(recipe, [limit]), limit


def with_limits(recipe: Recipe, limits: Iterable[Limit], changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return a recipe with other values for some limits, and, by `changes`, other keys of the top of the file."""
    values = deepcopy(recipe.resolved)
    set_limits(values, limits)
    return recipe_of(without_changed({**values, **(changes or {})}), recipe.path)


def set_limits(values: Any, limits: Iterable[Limit]) -> None:
    """Put limits into a recipe's plain values, or into its TOML document; ranges that are not there are made."""
    stanzas = {stanza["name"]: stanza for stanza in values["filters"]}
    for limit in limits:
        keep = stanzas[limit.filter].setdefault("keep", {})
        keep.setdefault(limit.score, {})[limit.end] = limit.value


def moved(limits: Iterable[Limit], values: Mapping[str, float]) -> tuple[Limit, ...]:
    """Return limits with other values, by name; those that are not named stay."""
    return tuple(replace(limit, value=values.get(limit.name, limit.value)) for limit in limits)

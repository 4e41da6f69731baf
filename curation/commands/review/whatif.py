"""What other limits would do: the judge of `curation.recipe.judge` over all rows at once, as one expression of SQL.

Each criterion gives a row one of three outcomes, as its `settle` does: it holds, it fails, or nothing is certain yet.
All outcomes of a row make one number (`mask`): the bit of every criterion that fails, and, `WAITS` higher, that of
every one that waits. Rows are counted by that number; everything else follows from few hundred counts.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from curation.commands.review.columns import HIGH, LOW, prior, proof_column
from curation.commands.review.table import RowTable
from curation.errors import RecipeError
from curation.recipe.judge import Criterion
from curation.recipe.limits import without_changed
from curation.recipe.overrides import overridden
from curation.recipe.recipe import Recipe, recipe_of

WAITS = 31
"""How far the bits of criteria that wait lie above those of criteria that fail: more criteria are refused."""
Limits = Mapping[str, Mapping[str, float | None] | None]
"""`filter.score` -> its `min` and `max`, None for an end that is open, or None for a criterion that is left out."""


@dataclass(frozen=True)
class RowKind:
    """Rows of one kind: which criteria fail and wait by the new limits, and whether they are kept now."""

    fails: int
    waits: int
    was_kept: bool
    num: int

    @property
    def is_kept(self) -> bool | None:
        """Whether they stay by the new limits; None where somebody must measure them first."""
        return False if self.fails else None if self.waits else True


def changed(values: Mapping[str, Any], limits: Limits, where: str, name: str | None = None) -> Recipe:
    """Return a recipe, given as plain values, with other limits, and another name where one is given.

    Raises:
        RecipeError: a limit does not hold, or speaks of no score of the recipe; or there are too many.
    """
    values = deepcopy(dict(values)) | ({} if name is None else {"name": name})
    overrides = []
    for criterion, keep in limits.items():
        filter_name, _, score = criterion.partition(".")
        stanza = next((one for one in values["filters"] if one["name"] == filter_name), None)
        if stanza is None or not score:
            raise RecipeError(f"{where}: {criterion!r}: no criterion; say FILTER.SCORE of a filter of the recipe")
        ends = {end: limit for end, limit in (keep or {}).items() if limit is not None}
        if ends:
            stanza.setdefault("keep", {})[score] = {}  # in its place: the declared order names who rejects
        elif stanza.get("keep", {}).pop(score, None) is not None and not _are_asked(stanza):
            _drop_screens(values, stanza)
        overrides += [f"filters.{filter_name}.keep.{score}.{end}={limit!r}" for end, limit in ends.items()]
    recipe = recipe_of(without_changed(overridden(values, overrides)), where)
    if len(recipe.criteria) > WAITS:
        raise RecipeError(f"{where}: {len(recipe.criteria)} keep ranges; the page asks about {WAITS} at most")
    return recipe


def _drop_screens(values: dict[str, Any], stanza: dict[str, Any]) -> None:
    """Take out of plain values the screens of a filter, which nobody asks any more."""
    gone = re.compile(rf"{re.escape(stanza['name'])}_screen(_\d+)?")
    stanza.pop("screens", None)
    values["curate"]["order"] = [name for name in values["curate"]["order"] if not gone.fullmatch(name)]


def _are_asked(stanza: Mapping[str, Any]) -> bool:
    """Whether any screen of a filter proves something of a score that it keeps by."""
    proofs = [proof["then"] for screen in stanza.get("screens", ()) for proof in screen["proofs"]]
    return any(proves.keys() & stanza["keep"].keys() for proves in proofs)


def mask(recipe: Recipe) -> str:
    """Return the expression whose value for a row says which criteria fail, and which wait."""
    certain = prior(recipe)
    return " + ".join(
        _outcome(criterion, certain, fails=f"{1 << bit}", waits=f"{1 << (bit + WAITS)}")
        for bit, criterion in enumerate(recipe.criteria)
    ) or "0"  # fmt: skip


def count(table: RowTable, recipe: Recipe) -> list[RowKind]:
    """Return how many judged rows there are of each kind."""
    low = (1 << WAITS) - 1
    groups = table.ask(f"SELECT {mask(recipe)} AS mask, kept, count(*) FROM rows WHERE judged GROUP BY ALL")
    return [RowKind(int(number) & low, int(number) >> WAITS, kept, num) for number, kept, num in groups]


@dataclass(frozen=True)
class Outcome:
    """What a recipe does to the rows of a table."""

    recipe: Recipe
    counts: Sequence[RowKind]

    @cached_property
    def values(self) -> dict[str, Any]:
        """Return plain values: kept before and after, who changes sides, and whom each criterion and filter hits.

        `alone` counts whom nothing else rejects; pairs of `overlap` those that both filters reject.
        """
        return {
            "num_judged": self._num(self.counts),
            "num_kept_before": self._num(one for one in self.counts if one.was_kept),
            "num_kept": self._num(one for one in self.counts if one.is_kept),
            "num_undecided": self._num(one for one in self.counts if one.is_kept is None),
            "num_enter": self._num(one for one in self.counts if one.is_kept and not one.was_kept),
            "num_leave": self._num(one for one in self.counts if one.is_kept is False and one.was_kept),
            "criteria": [self._criterion(bit) for bit in range(len(self.recipe.criteria))],
            "filters": [
                {"name": name, "num_fail": self._num(self._failing(bits)), "num_alone": self._num(self._alone(bits))}
                for name, bits in self._bits.items()
            ],
            "overlap": [
                {"filters": [one, other], "num": self._num(c for c in self._failing(a) if c.fails & b)}
                for (one, a), (other, b) in combinations(self._bits.items(), 2)
            ],
        }

    @cached_property
    def _bits(self) -> dict[str, int]:
        """Filter -> the bits of its criteria."""
        bits: dict[str, int] = {}
        for bit, criterion in enumerate(self.recipe.criteria):
            bits[criterion.filter] = bits.get(criterion.filter, 0) | 1 << bit
        return bits

    def _criterion(self, bit: int) -> dict[str, Any]:
        criterion = self.recipe.criteria[bit]
        return {
            "name": name_of(criterion),
            "num_fail": self._num(self._failing(1 << bit)),
            "num_alone": self._num(self._alone(1 << bit)),
            "num_wait": self._num(one for one in self.counts if one.waits >> bit & 1),
        }

    def _failing(self, bits: int) -> list[RowKind]:
        return [one for one in self.counts if one.fails & bits]

    def _alone(self, bits: int) -> list[RowKind]:
        return [one for one in self._failing(bits) if not one.fails & ~bits]

    @staticmethod
    def _num(counts: Iterable[RowKind]) -> int:
        return sum(one.num for one in counts)


def name_of(criterion: Criterion) -> str:
    """Return what the page calls a criterion: `filter.score`."""
    return f"{criterion.filter}.{criterion.score}"


def quoted(name: str) -> str:
    """Return the name of a column as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def number(value: float) -> str:
    """Return a number as SQL has it, exact to the last bit."""
    return f"'{value!r}'::DOUBLE"


def _outcome(criterion: Criterion, certain: Mapping[str, Any], fails: str, waits: str) -> str:
    """Return what a criterion adds to the mask: screens first, in the order in which they are asked, then filters."""
    bounds, name = criterion.keep.bounds, name_of(criterion)
    low, high = number(bounds.low), number(bounds.high)
    steps = []
    for screening in criterion.screens:
        column = proof_column(screening.screen, name)
        ends = quoted(column + LOW), quoted(column + HIGH)
        steps += [f"WHEN {ends[0]} IS NULL THEN {waits}", *_settled(*ends, low, high, fails)]
    own = quoted(name)
    steps += [f"WHEN {own} BETWEEN {low} AND {high} THEN 0", f"WHEN {own} IS NOT NULL THEN {fails}"]  # NaN is above all
    if name in certain:
        ends_of = ((certain[name].low, LOW), (certain[name].high, HIGH))
        own_low, own_high = (f"coalesce({quoted(name + end)}, {number(value)})" for value, end in ends_of)
        steps += _settled(own_low, own_high, low, high, fails)
    return f"(CASE {' '.join(steps)} ELSE {waits} END)"


def _settled(first: str, last: str, low: str, high: str, fails: str) -> list[str]:
    """Return the two cases in which bounds decide a keep range."""
    return [
        f"WHEN isnan({first}) OR isnan({last}) OR {last} < {low} OR {first} > {high} THEN {fails}",
        f"WHEN {first} >= {low} AND {last} <= {high} THEN 0",
    ]


def limits_of(recipe: Recipe) -> dict[str, dict[str, float | None]]:
    """Return the keep ranges of a recipe as limits."""
    return {name_of(one): {"min": one.keep.min, "max": one.keep.max} for one in recipe.criteria}


def require_finite(limits: Limits) -> Limits:
    """Return limits that are numbers.

    Raises:
        RecipeError: one is none.
    """
    for name, keep in limits.items():
        for end, limit in (keep or {}).items():
            if end not in ("min", "max") or not (limit is None or math.isfinite(limit)):
                raise RecipeError(f"{name}: {end} {limit!r}: a criterion has `min` and `max`, which are numbers")
    return limits

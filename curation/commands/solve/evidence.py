"""What a run's ledgers know of every row for the sake of its limits: scores that may move, and what decides beside."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.commands.decide.preview import known_had_it_been_cut_short
from curation.commands.solve.limits import Key
from curation.commands.solve.path import Floats
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.measure.cascade import in_shadow
from curation.measure.columns import filters_of, footer_of, known_of
from curation.measure.filter_set import measurement_keys
from curation.recipe.judge import Criterion
from curation.recipe.recipe import Recipe

FAILS, UNSURE, HOLDS = -1, 0, 1
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bounded:
    """Of some rows: between which bounds each score lies, and whether all criteria hold that cannot move."""

    low: Mapping[Key, Floats]
    high: Mapping[Key, Floats]
    """Equal to `low` where the score is known, not a number where it is not finite."""
    others: Ints
    """The least of `FAILS`, `UNSURE` and `HOLDS` over the criteria of filters that have screens."""


@dataclass(frozen=True)
class RunEvidence:
    """What is known of all rows that filters have judged."""

    rows: Bounded
    is_kept: Bools
    shadow: Ints
    """Rows that were measured in full by lot although they are rejected."""
    cut: Bounded
    """What would be known of those, were they cut short like all others."""
    labelled: Mapping[str, int]
    """Row of every uid that was asked for."""
    turned_away: Mapping[str, int] = field(default_factory=dict)
    """Rows that no filter judged, by reason."""


def read_evidence(
    folder: Path, manifest: Manifest, recipe: Recipe, recipes: Sequence[Recipe], weights: Mapping[str, str],
    uids: frozenset[str] = frozenset(),
) -> RunEvidence:  # fmt: skip
    """Read all ledgers of a curated folder; `recipes` judged it so far, oldest first; of `uids` the places are told.

    Raises:
        ShardError: a ledger cannot be read.
    """
    keys = measurement_keys(recipe, weights)
    turned_away: Counter[str] = Counter()
    labelled: dict[str, int] = {}
    parts, num_rows = [], 0
    for report in manifest.shards:
        shard = _Shard.read(report.file(folder, ".parquet"), keys, recipe, recipes, turned_away)
        parts.append(shard.evidence())
        if uids:
            here = shard.table["uid"].to_pylist()
            labelled |= {uid: num_rows + place for place, uid in enumerate(here) if uid in uids}
        num_rows += len(shard.table)
    starts = np.cumsum([0, *(len(kept) for _, kept, _, _ in parts)])
    return RunEvidence(
        rows=_joined([rows for rows, _, _, _ in parts]),
        is_kept=np.concatenate([kept for _, kept, _, _ in parts]),
        shadow=np.concatenate([shadow + start for (_, _, shadow, _), start in zip(parts, starts, strict=False)]),
        cut=_joined([cut for _, _, _, cut in parts]),
        labelled=labelled,
        turned_away=dict(turned_away),
    )


def movable(recipe: Recipe) -> tuple[Criterion, ...]:
    """Return the criteria whose score decides by itself; where screens may prove it, nobody knows how near it lies."""
    return tuple(criterion for criterion in recipe.criteria if not criterion.screens)


def _joined(parts: Sequence[Bounded]) -> Bounded:
    keys = parts[0].low
    return Bounded(
        {key: np.concatenate([part.low[key] for part in parts]) for key in keys},
        {key: np.concatenate([part.high[key] for part in parts]) for key in keys},
        np.concatenate([part.others for part in parts]),
    )


def _blank(recipe: Recipe, num_rows: int) -> Bounded:
    keys = [(criterion.filter, criterion.score) for criterion in movable(recipe)]
    return Bounded(
        {key: np.full(num_rows, -np.inf) for key in keys},
        {key: np.full(num_rows, np.inf) for key in keys},
        np.full(num_rows, HOLDS),
    )


def _fill(bounded: Bounded, place: int, known: Mapping[str, Any], criteria: Sequence[Criterion]) -> None:
    """Put in what a row's evidence says of some criteria."""
    for criterion in criteria:
        if criterion.screens:
            settled = criterion.settle(known)
            status = FAILS if settled.failure is not None else HOLDS if settled.holds else UNSURE
            bounded.others[place] = min(bounded.others[place], status)
        else:
            bounds, key = criterion.bounds(known), (criterion.filter, criterion.score)
            bounded.low[key][place], bounded.high[key][place] = bounds.low, bounds.high


@dataclass(frozen=True)
class _Shard:
    table: pa.Table
    """Its rows that filters have judged."""
    usable: frozenset[str]
    recipe: Recipe
    recipes: Sequence[Recipe]

    @classmethod
    def read(
        cls, path: Path, keys: Mapping[str, str], recipe: Recipe, recipes: Sequence[Recipe], turned_away: Counter[str]
    ) -> "_Shard":
        table = read_ledger(path)
        footer = footer_of(table, path)
        is_judged = pc.or_(table["kept"], pc.is_in(table["rejected_by"], pa.array(sorted(filters_of(table)))))
        turned_away.update(table.filter(pc.invert(is_judged))["reason"].to_pylist())
        usable = frozenset(name for name, key in keys.items() if footer.measurement_keys.get(name) == key)
        return cls(table.filter(is_judged), usable, recipe, recipes)

    def evidence(self) -> tuple[Bounded, Bools, Ints, Bounded]:
        """Return its rows, who of them is kept, which are in the shadow, and these as they would be, cut short."""
        kept = np.asarray(self.table["kept"].to_numpy(), dtype=bool)
        rows = _blank(self.recipe, len(self.table))
        asked = [self._from_columns(criterion, kept, rows) for criterion in self.recipe.criteria]
        for place, row in self._rows(np.flatnonzero(np.logical_or.reduce(asked))):
            wanting = [c for c, places in zip(self.recipe.criteria, asked, strict=True) if places[place]]
            _fill(rows, place, known_of(row, self.recipe, self.usable), wanting)
        return rows, kept, *self._shadow(kept)

    def _from_columns(self, criterion: Criterion, kept: Bools, rows: Bounded) -> Bools:
        """Fill in what columns of scores say, and return of which rows the evidence itself must be asked."""
        if criterion.screens:
            is_known = self._has(criterion.screens[0].inputs, every=True)
            is_settled = kept & self._is_as_before(criterion)
            rows.others[~is_known & ~is_settled] = np.minimum(rows.others[~is_known & ~is_settled], UNSURE)
            return is_known & ~is_settled
        column, key = self._column(criterion), (criterion.filter, criterion.score)
        is_any = self._has(criterion.inputs, every=False)
        if column is None:
            return is_any
        is_null = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
        values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
        rows.low[key][~is_null] = rows.high[key][~is_null] = values[~is_null]
        return is_null & is_any

    def _column(self, criterion: Criterion) -> pa.Array | None:
        """Return the scores as they stand in the ledger; None where another recipe has them otherwise."""
        if not (set(criterion.inputs) <= self.usable and self._is_as_before(criterion, with_range=False)):
            return None
        plan = next(plan for plan in self.recipe.filters if plan.name == criterion.filter)
        name = "joint_scores" if criterion.score in plan.joint else f"{plan.name}_scores"
        column = self.table[name].combine_chunks()
        return pc.struct_field(column, criterion.score) if column.type.get_field_index(criterion.score) >= 0 else None

    def _is_as_before(self, criterion: Criterion, *, with_range: bool = True) -> bool:
        """Whether the last recipe had this criterion, with the same scores, screens and, if asked, range."""
        now, before = (
            {stanza["name"]: stanza for stanza in recipe.resolved["filters"]}.get(criterion.filter, {})
            for recipe in (self.recipe, self.recipes[-1])
        )
        names = {criterion.filter, *criterion.inputs, *(name for s in criterion.screens for name in s.inputs)}
        same = all(now.get(part) == before.get(part) for part in ("score", "joint", "screens"))
        in_range = now.get("keep", {}).get(criterion.score) == before.get("keep", {}).get(criterion.score)
        return same and (in_range or not with_range) and (names <= self.usable or not with_range)

    def _has(self, names: Sequence[str], *, every: bool) -> Bools:
        """Return which rows hold usable evidence of every, or of any, of these filters."""
        columns = [
            np.asarray(self.table[f"{name}_evidence"].is_valid().to_numpy(), dtype=bool)
            if name in self.usable and f"{name}_evidence" in self.table.schema.names
            else np.zeros(len(self.table), dtype=bool)
            for name in names
        ]
        return np.asarray((np.logical_and if every else np.logical_or).reduce(columns), dtype=bool)

    def _rows(self, places: Ints) -> Iterator[tuple[int, dict[str, Any]]]:
        if len(places):
            yield from zip(places.tolist(), self.table.take(places).to_pylist(), strict=True)

    def _shadow(self, kept: Bools) -> tuple[Ints, Bounded]:
        fraction = min(recipe.file.curate.shadow_fraction for recipe in self.recipes)
        uids = self.table["uid"].to_pylist()
        drawn = [place for place in np.flatnonzero(~kept).tolist() if in_shadow(uids[place], fraction)]
        found = [
            (place, cut)
            for place, row in self._rows(np.array(drawn, dtype=np.int64))
            if (cut := self._cut(row)) is not None
        ]
        bounded = _blank(self.recipe, len(found))
        for number, (_, cut) in enumerate(found):
            _fill(bounded, number, cut, self.recipe.criteria)
        return np.array([place for place, _ in found], dtype=np.int64), bounded

    def _cut(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        known = known_of(row, self.recipe, self.usable)
        return known_had_it_been_cut_short(row, known, self.recipe, self.recipes)

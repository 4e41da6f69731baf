"""How many rows a path of limits keeps, level by level: certain ones, and those that the shadow sample stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curation.commands.decide.preview import Preview
from curation.commands.solve.evidence import FAILS, HOLDS, Bools, Bounded, Ints, RunEvidence
from curation.commands.solve.path import RECIPE_LEVEL, Floats, Scale


@dataclass(frozen=True)
class Levels:
    """From which level on a path certainly keeps each row (infinite: never), and below which it certainly does not."""

    maybe: Floats
    certain: Floats

    @classmethod
    def of(cls, rows: Bounded, scales: Sequence[Scale]) -> "Levels":
        """Return those of some rows."""
        maybe = np.where(rows.others > FAILS, 0.0, np.inf)
        certain = np.where(rows.others >= HOLDS, 0.0, np.inf)
        for scale in scales:
            low, high = rows.low[scale.limit.key], rows.high[scale.limit.key]
            best, worst = (low, high) if scale.limit.sign > 0 else (high, low)
            np.maximum(maybe, scale.levels_of(best), out=maybe)
            np.maximum(certain, scale.levels_of(worst), out=certain)
        return cls(maybe, certain)

    @property
    def is_exact(self) -> Bools:
        """Of which rows everything is known that a path may ask."""
        return np.asarray(self.maybe == self.certain)


@dataclass(frozen=True)
class Numbers:
    """How many rows are kept at one level or more of them, and what that rests on; arrays of one length."""

    certain: Ints
    undecided: Ints
    hits: Ints
    trials: Ints

    @property
    def expected(self) -> Floats:
        """The best guess; of undecided rows that no shadow sample stands for, none is counted."""
        share = self.hits / np.maximum(1, self.trials)
        return np.asarray(self.certain + self.undecided * share)

    def preview(self, place: int) -> Preview:
        """Return what `decide` would say at one of the levels: its interval is that of solving, too."""
        return Preview(
            num_kept=int(self.certain[place]),
            num_undecided=int(self.undecided[place]),
            shadow_hits=int(self.hits[place]),
            shadow_trials=int(self.trials[place]),
        )


@dataclass(frozen=True)
class Path:
    """Rows along a path of limits."""

    rows: Levels
    shadow: Levels
    """Of the shadow sample, as it was measured."""
    cut: Levels
    """Of the same, were it cut short."""
    shadow_rows: Ints
    """Which rows those are."""

    @classmethod
    def of(cls, evidence: RunEvidence, scales: Sequence[Scale]) -> "Path":
        """Return the levels of all rows; a shadow sample of which not all is known stands for nobody."""
        rows = Levels.of(evidence.rows, scales)
        shadow = Levels(rows.maybe[evidence.shadow], rows.certain[evidence.shadow])
        cut = Levels.of(evidence.cut, scales)
        use = shadow.is_exact
        used, used_cut = (Levels(part.maybe[use], part.certain[use]) for part in (shadow, cut))
        return cls(rows, used, used_cut, evidence.shadow[use])

    @cached_property
    def steps(self) -> Floats:
        """Every level at which a number may change, ascending."""
        parts = [self.rows.maybe, self.rows.certain, self.cut.maybe, self.shadow.certain]
        every = np.unique(np.concatenate([*parts, [RECIPE_LEVEL]]))
        return np.asarray(every[np.isfinite(every)])

    def numbers(self, levels: Floats, counts: Bools | None = None) -> Numbers:
        """Return how many rows are kept at each level; `counts` says which of them are counted."""
        use = slice(None) if counts is None else counts
        hit = slice(None) if counts is None else counts[self.shadow_rows]
        is_open = ~self.rows.is_exact
        return Numbers(
            certain=_until(self.rows.certain[use], levels),
            undecided=_until(self.rows.maybe[is_open], levels) - _until(self.rows.certain[is_open], levels),
            hits=_until(self.shadow.certain[hit], levels) - _until(self.cut.certain[hit], levels),
            trials=_until(self.cut.maybe, levels) - _until(self.cut.certain, levels),
        )


def _until(levels: Floats, bounds: Floats) -> Ints:
    """Return how many levels are at most each bound."""
    return np.asarray(np.searchsorted(np.sort(levels), bounds, side="right"), dtype=np.int64)

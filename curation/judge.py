"""The pipeline's only decision: evidence and criteria in, verdict out.

A keep range over a score is a criterion. A picture is kept when no criterion fails: a conjunction, so nothing
rescues a failed criterion, and the order of measuring never changes who is kept.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import model_validator

from curation.joint import Bounds, Known
from filters.base import Settings


class KeepRange(Settings):
    """The scores that stay, both ends included; an end that is left out is open."""

    min: float | None = None
    """Smallest score that stays."""
    max: float | None = None
    """Largest score that stays."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a keep range needs min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: nothing could stay")
        return self

    def failure(self, bounds: Bounds) -> str | None:
        """Return how a score certainly fails, given its bounds: `not_finite`, `low` or `high`; None if it may stay."""
        if math.isnan(bounds.low) or math.isnan(bounds.high):
            return "not_finite"
        if self.min is not None and bounds.high < self.min:
            return "low"
        if self.max is not None and bounds.low > self.max:
            return "high"
        return None

    def holds(self, bounds: Bounds) -> bool:
        """Whether every score within the bounds stays."""
        above = self.min is None or bounds.low >= self.min
        below = self.max is None or bounds.high <= self.max
        return above and below


@dataclass(frozen=True)
class Criterion:
    """One keep range, with what it needs to be decided."""

    filter: str
    """Whom a failure is laid to: the filter in whose stanza the range stands."""
    score: str
    keep: KeepRange
    inputs: tuple[str, ...]
    """Filters whose evidence settles the score."""
    bounds: Callable[[Known], Bounds]
    """What is certain of the score, from the evidence known so far."""


@dataclass(frozen=True)
class Verdict:
    """The decision on one sample; `rejected_by` and `reason` are None for a kept one."""

    rejected_by: str | None = None
    reason: str | None = None

    @property
    def kept(self) -> bool:
        """Whether the sample stays."""
        return self.rejected_by is None


@dataclass(frozen=True)
class NotYet:
    """The evidence does not settle the verdict: these filters must still measure, in declared order."""

    filters: tuple[str, ...]


KEPT = Verdict()


def judge(known: Known, criteria: Sequence[Criterion]) -> Verdict | NotYet:
    """Decide one sample from what is known of it.

    `known` maps every filter of the recipe to its evidence or None; `criteria` stand in declared order. The first
    criterion that certainly fails rejects; else the filters that some open criterion still waits for are named;
    else the sample is kept.
    """
    waiting: list[str] = []
    for criterion in criteria:
        bounds = criterion.bounds(known)
        failure = criterion.keep.failure(bounds)
        if failure is not None:
            return Verdict(criterion.filter, f"{criterion.score}_{failure}")
        if not criterion.keep.holds(bounds):
            waiting += [name for name in criterion.inputs if known[name] is None and name not in waiting]
    return NotYet(tuple(name for name in known if name in waiting)) if waiting else KEPT

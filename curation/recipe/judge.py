"""The pipeline's only decision: evidence and criteria in, verdict out.

A keep range over a score is a criterion. A picture is kept when no criterion fails: a conjunction, so nothing
rescues a failed criterion, and the order of measuring never changes who is kept.

A screen may prove a criterion before its filter measures. Where it does, its proof counts whatever else was measured;
a criterion that no screen proves is the filter's own. So the verdict is one function of the full evidence, and how much
of it was measured, or in which order, changes nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import model_validator

from curation.recipe.joint_scores import UNKNOWN, Bounds, Known
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

    @property
    def bounds(self) -> Bounds:
        """The scores that stay, as bounds."""
        return Bounds(-math.inf if self.min is None else self.min, math.inf if self.max is None else self.max)

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
class Screening:
    """What one screen can prove of one score."""

    screen: str
    inputs: tuple[str, ...]
    """The screen, and filters whose evidence it is held against."""
    prove: Callable[[Known], Bounds]
    """What is certain of the score, once all inputs are known."""


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
    screens: tuple[Screening, ...] = ()
    """Screens that may prove it, in the order in which they are asked, before the filter measures."""
    after: tuple[str, ...] = ()
    """Filters without whose evidence those of `inputs` cannot measure."""

    def settle(self, known: Known) -> "Settled":
        """Return what the evidence makes of this criterion: the first screen that decides it, else the filter."""
        for screening in self.screens:
            if unknown := tuple(name for name in screening.inputs if known[name] is None):
                return Settled(self.keep, UNKNOWN, waiting=unknown)
            settled = Settled(self.keep, screening.prove(known), by=screening.screen)
            if settled.failure is not None or settled.holds:
                return settled
        settled = Settled(self.keep, self.bounds(known))
        if settled.failure is not None or settled.holds:
            return settled
        waiting = [tuple(name for name in names if known[name] is None) for names in (self.after, self.inputs)]
        return Settled(self.keep, settled.bounds, waiting=waiting[0] or waiting[1])


@dataclass(frozen=True)
class Settled:
    """What the evidence known so far makes of one criterion."""

    keep: KeepRange
    bounds: Bounds
    """What is certain of the score."""
    by: str | None = None
    """The screen that proved it; None where the filter's own evidence speaks, or nothing yet."""
    waiting: tuple[str, ...] = ()
    """Who must measure before it can be decided; empty once it is."""

    @property
    def failure(self) -> str | None:
        """How it certainly fails: `not_finite`, `low` or `high`; None if it may hold."""
        return self.keep.failure(self.bounds)

    @property
    def holds(self) -> bool:
        """Whether it certainly holds."""
        return self.keep.holds(self.bounds)


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
    """The evidence does not settle the verdict: these filters or screens must measure next, in declared order."""

    filters: tuple[str, ...]


KEPT = Verdict()


def judge(known: Known, criteria: Sequence[Criterion]) -> Verdict | NotYet:
    """Decide one sample from what is known of it.

    `known` maps every filter and screen of the recipe to its evidence or None; `criteria` stand in declared order. The
    first criterion that certainly fails rejects; else those are named that some open criterion waits for next; else
    the sample is kept.
    """
    waiting: list[str] = []
    for criterion in criteria:
        settled = criterion.settle(known)
        if settled.failure is not None:
            return Verdict(criterion.filter, f"{criterion.score}_{settled.failure}")
        waiting += settled.waiting
    return NotYet(tuple(name for name in known if name in waiting)) if waiting else KEPT


def unsettled(known: Known, criteria: Sequence[Criterion]) -> tuple[str, ...]:
    """Return whom open criteria wait for next, whether or not another one has decided the verdict already."""
    waiting = {name for criterion in criteria for name in criterion.settle(known).waiting}
    return tuple(name for name in known if name in waiting)

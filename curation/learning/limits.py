"""Where a limit lies between labelled pictures that are to go and those to stay: precision, recall, sources left out.

What is to go counts as positive: precision is which share of those that a limit rejects are to go, recall which share
of those that are to go it rejects.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from curation.learning.shares import Doubles, Mask, WeighedShare, num_more, share_of

Side = Literal["min", "max"]
"""Which end of a keep range the limit is: `max` rejects scores above it, `min` those below."""
Measure = Literal["precision", "recall", "f1"]
MIN_OF_EACH = 10
"""Pictures on either side with fewer of which nothing is chosen."""
HALF_WIDTH = 0.05
"""Half of the interval of what was aimed at, beyond which labels are too few."""
_TINY = 1e-9


@dataclass(frozen=True)
class Target:
    """What a limit is chosen for: at least this precision or recall with as much of the other as can be had."""

    measure: Measure = "f1"
    """`f1`: the greatest harmonic mean of both."""
    value: float = 0.0
    """Above 0, at most 1; nothing for `f1`."""

    def __str__(self) -> str:
        return "the best F1" if self.measure == "f1" else f"{self.measure} of at least {self.value:g}"


@dataclass(frozen=True)
class Scored:
    """Labelled pictures, (N,) each: a finite score, whether they are to go, what they weigh, their source's fold."""

    scores: Doubles
    goes: Mask
    weights: Doubles
    folds: npt.NDArray[np.int64]

    def of(self, chosen: Mask) -> "Scored":
        """Return some of them."""
        return Scored(self.scores[chosen], self.goes[chosen], self.weights[chosen], self.folds[chosen])


@dataclass(frozen=True)
class LimitFigures:
    """What a rejection of labelled pictures is worth."""

    precision: WeighedShare
    recall: WeighedShare
    lost: WeighedShare
    """Which share of those that are to stay it rejects."""

    def short_of(self, target: Target) -> dict[str, int]:
        """Return how many more labels what was aimed at needs, by its name; empty where there are enough."""
        asked = ("precision", "recall") if target.measure == "f1" else (target.measure,)
        lacking = {name: num_more(getattr(self, name), HALF_WIDTH) for name in asked}
        return {name: number for name, number in lacking.items() if number}


@dataclass(frozen=True)
class Curve:
    """Every limit that tells two of the scores apart, from the strictest of the rejected on, (C,) each."""

    limits: Doubles
    precision: Doubles
    recall: Doubles


@dataclass(frozen=True)
class SourcesLeftOut:
    """What limits do on sources that had no part in choosing them."""

    figures: LimitFigures
    limits: tuple[float, ...]
    """Of each fold, chosen on the others."""
    num_judged: int


def rejects(scores: Doubles, limit: float, side: Side) -> Mask:
    """Return which scores a limit rejects; a score that equals it stays."""
    return np.asarray(scores > limit if side == "max" else scores < limit)


def figures_of(rejected: Mask, scored: Scored) -> LimitFigures:
    """Return what rejecting these pictures is worth."""
    goes, weights = scored.goes, scored.weights
    return LimitFigures(
        precision=share_of(goes[rejected], weights[rejected]),
        recall=share_of(rejected[goes], weights[goes]),
        lost=share_of(rejected[~goes], weights[~goes]),
    )


def figures_at(scored: Scored, limit: float, side: Side) -> LimitFigures:
    """Return what a limit is worth."""
    return figures_of(rejects(scored.scores, limit, side), scored)


def curve_of(scored: Scored, side: Side) -> Curve:
    """Return precision and recall of every limit; none where all scores are equal, or nothing is to go."""
    sign = -1.0 if side == "max" else 1.0
    order = np.argsort(sign * scored.scores, kind="stable")
    scores, weights = scored.scores[order], scored.weights[order]
    hits, rejected = np.cumsum(weights * scored.goes[order]), np.cumsum(weights)
    last = np.flatnonzero(scores[:-1] != scores[1:])
    if not len(last) or hits[-1] == 0:
        return Curve(*(np.empty(0) for _ in range(3)))
    limits = np.array([between(scores[i + 1], scores[i]) for i in last])
    return Curve(limits, hits[last] / rejected[last], hits[last] / hits[-1])


def choose(scored: Scored, side: Side, target: Target) -> float | None:
    """Return the limit that meets the target with most of the other measure; None where none meets it."""
    curve = curve_of(scored, side)
    aimed, other = (curve.recall, curve.precision) if target.measure == "recall" else (curve.precision, curve.recall)
    if target.measure == "f1":
        aimed, other = np.ones_like(aimed), 2 * aimed * other / np.maximum(aimed + other, _TINY)
    usable = np.flatnonzero((aimed >= target.value - _TINY) & (other > 0))
    if not len(usable):
        return None
    best = usable[np.lexsort((aimed[usable], other[usable]))[-1]]
    return float(curve.limits[best])


def with_sources_left_out(scored: Scored, side: Side, target: Target) -> SourcesLeftOut | None:
    """Return what limits do where each fold's is chosen on the others alone; None where that cannot be.

    A fold without which either side is empty, or the target is out of reach, is judged by nobody and counts nowhere.
    """
    rejected, judged = np.zeros(len(scored.scores), bool), np.zeros(len(scored.scores), bool)
    limits = []
    for fold in np.unique(scored.folds):
        mine = scored.folds == fold
        others = scored.of(~mine)
        limit = choose(others, side, target) if others.goes.any() and not others.goes.all() else None
        if limit is not None:
            rejected |= mine & rejects(scored.scores, limit, side)
            judged |= mine
            limits.append(limit)
    if not limits:
        return None
    return SourcesLeftOut(figures_of(rejected[judged], scored.of(judged)), tuple(limits), int(judged.sum()))


def between(stays: float, goes: float) -> float:
    """Return the shortest number about the middle of two scores, on whose right side both lie: `stays` may equal it."""
    middle, (low, high) = stays + (goes - stays) / 2, sorted((stays, goes))
    for num_digits in range(2, 18):
        number = float(f"{middle:.{num_digits}g}")
        if low < number < high:
            return number
    return stays


def rises(scored: Scored) -> bool:
    """Whether what is to go has the higher scores, as AUC has it."""
    stays = np.sort(scored.scores[~scored.goes])
    goes = scored.scores[scored.goes]
    ranks = np.searchsorted(stays, goes, "left") + np.searchsorted(stays, goes, "right")
    return bool(ranks.mean() >= len(stays))

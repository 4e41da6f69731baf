"""Screens: cheap filters that can prove what a dear one would find, so that it measures only what is in doubt.

Any filter can screen any other. What a screen proves are ranges of the other's scores, not verdicts: a keep range that
is tighter than what was proven is simply not decided by it, and the filter itself measures.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from curation.recipe.joint_scores import UNKNOWN, Bounds
from curation.recipe.judge import KeepRange
from filters.base import Settings


class Proof(Settings):
    """Where these ranges of a screen's scores hold, those ranges of the filter's scores are certain.

    Certain means: no photo contradicts it (`docs/thresholds.md` says on how many that rests, and which lettering does).
    """

    when: dict[str, KeepRange] = Field(min_length=1)
    """Scores of the screen, or joint scores of the filter with the screen's evidence in its place; all must hold."""
    then: dict[str, KeepRange] = Field(min_length=1)
    """Scores of the filter, its own or joint ones."""

    def applies(self, scores: Mapping[str, float]) -> bool:
        """Whether the screen's scores are where this proof speaks."""
        return all(keep.holds(Bounds(scores[name], scores[name])) for name, keep in self.when.items())


class ScreenStanza(Settings):
    """One `[[filters.screens]]` table."""

    filter: str
    """The filter that screens: a module of `filters`."""
    measure: dict[str, Any] = Field(default_factory=dict)
    """Parameters that change its evidence."""
    score: dict[str, Any] = Field(default_factory=dict)
    """Parameters of its scores."""
    proofs: tuple[Proof, ...] = Field(min_length=1)
    """What its scores make certain of the filter's."""


@dataclass(frozen=True)
class Proofs:
    """What one screen's scores prove of one score of the screened filter."""

    score: str
    proofs: Sequence[Proof]

    def bounds(self, scores: Mapping[str, float]) -> Bounds:
        """Return what all proofs that apply say together; contradicting ones prove nothing."""
        ranges = [proof.then[self.score].bounds for proof in self.proofs if proof.applies(scores)]
        low = max((bound.low for bound in ranges), default=-math.inf)
        high = min((bound.high for bound in ranges), default=math.inf)
        return Bounds(low, high) if low <= high else UNKNOWN


def about(score: str, proofs: Sequence[Proof]) -> Proofs | None:
    """Return the proofs that speak of a score, or None where there are none."""
    relevant = tuple(proof for proof in proofs if score in proof.then)
    return Proofs(score, relevant) if relevant else None


def may_hold(keep: KeepRange, score: str, proofs: Sequence[Proof]) -> bool:
    """Whether some proofs together could show that a score stays: for each closed end of its range there is one."""
    ranges = [proof.then[score].bounds for proof in proofs if score in proof.then]
    above = keep.min is None or any(bound.low >= keep.min for bound in ranges)
    below = keep.max is None or any(bound.high <= keep.max for bound in ranges)
    return bool(ranges) and above and below

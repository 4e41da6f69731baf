"""The path of limits: one line of recipes from the tightest to the loosest, so that every number has one answer.

Each limit that moves has a level: 0 where it is tightest, 1 where the recipe has it, 2 where it is open. On the way
from 0 to 1 it lets in equal shares of the rows that it passes at 1, on the way from 1 to 2 equal shares of those that
it turns away. At one level all limits stand together, so a higher level keeps whatever a lower one keeps: the recipes
of a path lie in one another, and more wanted never tightens a limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.commands.solve.limits import Limit

Floats = npt.NDArray[np.float64]
RECIPE_LEVEL = 1.0


@dataclass(frozen=True)
class Scale:
    """How one limit moves along the path: the values that it takes, and the level from which each is in force."""

    limit: Limit
    values: Floats
    """Ascending from the tightest; times the limit's sign, so that less is better. All are finite."""
    levels: Floats
    """Ascending from 0, of each value."""
    ranks: Floats
    """How many of the scores that are known each value passes."""

    def levels_of(self, scores: Floats) -> Floats:
        """Return from which level on the limit passes each score (not a number: none); infinite where it never does."""
        signed = np.where(np.isnan(scores), np.inf, self.limit.sign * scores)
        places = np.searchsorted(self.values, signed, side="left")
        return np.append(self.levels, np.inf)[places]

    def at(self, level: float) -> float:
        """Return the limit's value at a level."""
        return self._value(int(np.searchsorted(self.levels, level, side="right")) - 1)

    def beside(self, level: float, num_rows: float) -> float | None:
        """Return the value that passes so many rows more (fewer, if below 0) than that at a level; None at an end."""
        place = int(np.searchsorted(self.levels, level, side="right")) - 1
        other = int(np.searchsorted(self.ranks, self.ranks[place] + num_rows, side="left"))
        other = min(max(other, 0), len(self.values) - 1)
        is_further = other > place if num_rows > 0 else other < place
        return self._value(other) if is_further else None

    def _value(self, place: int) -> float:
        return float(self.limit.sign * self.values[place]) + 0.0  # + 0.0: no -0.0


def fixed(limit: Limit) -> Scale:
    """Return the scale of a limit that stays where it is."""
    return Scale(limit, np.array([limit.sign * limit.value]), np.zeros(1), np.zeros(1))


def scale_of(limit: Limit, known: Floats, inside: float | None = None) -> Scale:
    """Return the scale of a limit that moves over scores that are known.

    `inside` is where the range's other end meets it, if there is one: no end moves beyond it. Without, the best score
    is the tightest place. Scores that are not finite count for nothing.
    """
    signed = limit.sign * known[np.isfinite(known)]
    own = limit.sign * limit.value
    best = limit.sign * inside if inside is not None else float(signed.min(initial=own))
    signed = np.sort(np.maximum(signed, best))
    values = np.unique(np.append(signed, max(own, best)))
    ranks = np.searchsorted(signed, values, side="right").astype(np.float64)
    own_rank = float(np.searchsorted(signed, max(own, best), side="right"))
    first, last = float(ranks[0]), float(ranks[-1])
    tight = (ranks - first) / max(1.0, own_rank - first)
    loose = RECIPE_LEVEL + (ranks - own_rank) / max(1.0, last - own_rank)
    levels = np.where(values < max(own, best), tight, np.where(values == max(own, best), RECIPE_LEVEL, loose))
    levels[0] = 0.0
    return Scale(limit, values, levels, ranks)


def middle_of(known: Floats, low: float, high: float) -> float:
    """Return the median of the scores in a range, or its middle where there are none: where its two ends meet."""
    within = known[(known >= low) & (known <= high)]
    return float(np.sort(within)[len(within) // 2]) if len(within) else (low + high) / 2


def values_at(scales: Mapping[str, Scale], level: float) -> dict[str, float]:
    """Return what every limit is at a level, by name."""
    return {name: scale.at(level) for name, scale in scales.items()}

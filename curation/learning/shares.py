"""Shares of labelled pictures of which some stand for more of a run than others, and how sure such shares are.

A picture that a queue drew with probability p weighs 1 / p (Horvitz and Thompson, JASA 47, 1952); a share is a ratio of
sums of weights (Hajek, 1971). Its interval is Wilson's at the effective number of pictures (Kish, Survey Sampling,
1965).
Pictures of one source are alike, which no weight tells, so intervals are rather too narrow than too wide.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.intervals import wilson

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_MAX_NEEDED = 1 << 40


@dataclass(frozen=True)
class WeighedShare:
    """A share with its 95 % interval."""

    value: float
    """0..1; 0 where nothing was tried."""
    low: float
    high: float
    num: int
    """Pictures that it is a share of."""
    num_effective: float
    """How many of equal weight would tell as much."""

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.2f}-{self.high:.2f})" if self.num else "-"

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


def effective_number(weights: Doubles) -> float:
    """Return how many pictures of equal weight tell as much as these: at most as many, and 0 of none."""
    largest = float(weights.max(initial=0.0))
    if largest == 0:
        return 0.0
    scaled = weights / largest
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def share_of(hits: Mask, weights: Doubles) -> WeighedShare:
    """Return which share of the weight the hits have."""
    number = effective_number(weights)
    if number == 0:
        return WeighedShare(0.0, 0.0, 1.0, 0, 0.0)
    value = min(1.0, float(weights[hits].sum() / weights.sum()))
    low, high = wilson(value * number, number)
    return WeighedShare(value, min(low, value), max(high, value), len(weights), number)


def num_needed(share: float, half_width: float) -> int:
    """Return how many pictures of equal weight make the interval of a share this narrow: half of it, above 0."""

    def is_enough(number: int) -> bool:
        low, high = wilson(share * number, number)
        return (high - low) / 2 <= half_width

    most = 1
    while not is_enough(most) and most < _MAX_NEEDED:
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if is_enough(middle) else (middle, most)
    return most


def num_more(share: WeighedShare, half_width: float) -> int:
    """Return how many more pictures, drawn as these were, make its interval this narrow; 0 where it is."""
    if share.num and share.half_width <= half_width:
        return 0
    needed = num_needed(share.value if share.num else 0.5, half_width)
    per_effective = share.num / share.num_effective if share.num else 1.0
    return max(1, int(np.ceil(needed * per_effective)) - share.num)

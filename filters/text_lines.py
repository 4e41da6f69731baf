"""From regions of text to lines, and how much of a picture's width these run along; pure geometry.

Detectors box words, parts of words or whole lines, as it comes. Regions are joined as EasyOCR joins boxes for its
reader: of like height, side by side, no further apart than they are high.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MAX_SLOPE = 0.25
"""Rise over run beyond which a region is no part of a line that runs across."""
_SQUARE = 1.5
"""A region of a smaller aspect has no direction of its own: its length is its flatter side."""
_MIN_HEIGHT_RATIO = 0.5
"""Least height of a region, of its neighbour's in the same line."""
_MAX_OFFSET = 0.5
"""Greatest distance of two neighbours' middles up and down, in heights of the lower one."""
_MAX_GAP = 1.0
"""Greatest gap between two neighbours, in heights of the higher one."""
_CUT_FRACTION = 0.005
"""Share of the picture's width between its edge and a line that the edge cuts off, at most."""


@dataclass(frozen=True)
class Lines:
    """Regions by the line that they stand in; every array has one entry a line, in no order that means anything."""

    length: Floats
    """Lengths of the line's regions together, pixels of the picture."""
    height: Floats
    """The least of their heights, pixels."""
    top: Floats
    bottom: Floats
    """Where the line begins and ends, pixels from the picture's upper edge."""
    left: Floats
    right: Floats
    """The same from its left edge."""


@lru_cache(maxsize=64)
def lines(polygons: tuple[tuple[float, ...], ...]) -> Lines:
    """Return the lines that quadrilaterals x, y, x, y, ... stand in, each in exactly one; asked again, it remembers."""
    corners_N42 = np.array(polygons, dtype=np.float64).reshape(-1, 4, 2)
    sides_N22 = np.stack([corners_N42[:, 1] - corners_N42[:, 0], corners_N42[:, 3] - corners_N42[:, 0]], axis=1)
    spans_N2 = np.hypot(sides_N22[:, :, 0], sides_N22[:, :, 1])
    rows, longer = np.arange(len(spans_N2)), spans_N2.argmax(axis=1)
    longer_N2 = sides_N22[rows, longer]
    is_square = spans_N2.max(axis=1) < _SQUARE * spans_N2.min(axis=1)
    is_across = (np.abs(longer_N2[:, 1]) <= _MAX_SLOPE * np.abs(longer_N2[:, 0])) | is_square
    flatter = np.abs(sides_N22[:, :, 1]).argmin(axis=1)
    along = np.where(is_square, flatter, longer)
    length, height = spans_N2[rows, along], spans_N2[rows, 1 - along]
    low, high = corners_N42.min(axis=1), corners_N42.max(axis=1)
    labels = _components(_adjoining(low, high) & is_across & is_across[:, None])
    groups = [labels == label for label in np.unique(labels)]
    return Lines(
        np.array([length[group].sum() for group in groups]),
        np.array([height[group].min() for group in groups]),
        np.array([low[group, 1].min() for group in groups]),
        np.array([high[group, 1].max() for group in groups]),
        np.array([low[group, 0].min() for group in groups]),
        np.array([high[group, 0].max() for group in groups]),
    )


def weighted_length(
    found: Lines,
    width: float,
    height: float,
    *,
    full_aspect: float,
    edge_fraction: float,
    edge_weight: float,
    cut_weight: float,
) -> float:
    """Return the length of a picture's lines, pixels.

    A line of less than `full_aspect` heights counts in proportion: few letters, however large. One that lies wholly in
    the outer `edge_fraction` (0..0.5) of the picture's height, at the top or the bottom, counts by `edge_weight`
    (0..1); one that the left or the right edge cuts off by `cut_weight` (0..1). Where that is 1, a further region never
    makes it less.
    """
    at_edge = (found.bottom <= edge_fraction * height) | (found.top >= (1 - edge_fraction) * height)
    is_cut = (found.left <= _CUT_FRACTION * width) | (found.right >= (1 - _CUT_FRACTION) * width)
    full_length = np.maximum(found.height * full_aspect, np.finfo(np.float64).tiny)
    shares = np.minimum(1.0, found.length / full_length) * np.where(at_edge, edge_weight, 1.0)
    return float((found.length * shares * np.where(is_cut, cut_weight, 1.0)).sum())


def _adjoining(low_N2: Floats, high_N2: Floats) -> npt.NDArray[np.bool_]:
    """Return which of N upright boxes, by their corners, are neighbours in one line, shape (N, N)."""
    heights, middles = high_N2[:, 1] - low_N2[:, 1], (low_N2[:, 1] + high_N2[:, 1]) / 2
    lower, higher = np.minimum.outer(heights, heights), np.maximum.outer(heights, heights)
    offset = np.abs(np.subtract.outer(middles, middles))
    gap = np.maximum.outer(low_N2[:, 0], low_N2[:, 0]) - np.minimum.outer(high_N2[:, 0], high_N2[:, 0])
    return (lower >= _MIN_HEIGHT_RATIO * higher) & (offset <= _MAX_OFFSET * lower) & (gap <= _MAX_GAP * higher)


def _components(adjoining_NN: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return a label for each row that it shares with every row it is connected to, directly or through others."""
    labels = np.arange(len(adjoining_NN))
    np.fill_diagonal(adjoining_NN, True)
    while len(labels):
        least = np.where(adjoining_NN, labels, len(labels)).min(axis=1)
        if (least == labels).all():
            break
        labels = least
    return labels

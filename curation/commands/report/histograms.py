"""Bins for one score: no bin lies on both sides of a limit, and thin tails do not squeeze the rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.commands.report.criteria import KEPT, REJECTED_ELSEWHERE, REJECTED_HERE, Floats, ScoreColumn, read_scores

NUM_BINS = 44
NUM_FINE_BINS = 4096
TAIL_FRACTION = 0.005
"""Share of the samples at either end that may be folded into the outermost bin."""
MAX_ZOOMS = 4
MAX_WHOLE_BINS = 24
ROOM_FRACTION = 0.08
"""Room beyond a limit that no score crosses, as a share of the axis."""
LEAST_SPAN_FRACTION = 1e-6
"""Scores that differ by less than this share of themselves are drawn as one."""


@dataclass(frozen=True)
class Histogram:
    """Counts per bin; samples beyond the first and last edge are counted in the outermost bins."""

    edges: tuple[float, ...]
    kept: tuple[int, ...]
    rejected_here: tuple[int, ...]
    rejected_elsewhere: tuple[int, ...]
    num_below: int
    """Samples below the first edge."""
    num_above: int
    """Samples above the last edge."""


def histogram_of(criterion: ScoreColumn, ledgers: Sequence[Path], low: float, high: float) -> Histogram:
    """Count the finite scores, which lie within [low, high], in bins.

    Raises:
        ShardError: a ledger cannot be read or has no such score.
    """
    edges = bin_edges(criterion, *_shown_range(criterion, ledgers, low, high))
    counts = np.zeros((3, len(edges) - 1), dtype=np.int64)
    num_below = num_above = 0
    for measured, measured_fates in read_scores(criterion, ledgers):
        finite = np.isfinite(measured)
        scores, fates = measured[finite], measured_fates[finite]
        num_below += int(np.count_nonzero(scores < edges[0]))
        num_above += int(np.count_nonzero(scores > edges[-1]))
        folded = np.clip(scores, edges[0], edges[-1])
        for fate in (KEPT, REJECTED_HERE, REJECTED_ELSEWHERE):
            counts[fate] += np.histogram(folded[fates == fate], edges)[0]
    kept, here, elsewhere = (tuple(int(count) for count in row) for row in counts)
    return Histogram(tuple(float(edge) for edge in edges), kept, here, elsewhere, num_below, num_above)


def bin_edges(criterion: ScoreColumn, low: float, high: float) -> Floats:
    """Return edges from `low` to `high` or a little beyond, such that no bin lies on both sides of a limit.

    A count has one bin per whole number, or per few of them where there are many. Two limits of another score that
    are closer than a bin cannot both be edges.
    """
    if criterion.is_whole:
        return _whole_edges(criterion, math.floor(low), math.ceil(high))
    first_limit, last_limit = criterion.limits[0], criterion.limits[-1]
    step = (high - low) / NUM_BINS
    # Both limits are to be edges; with one limit only, 0 is to be the other where the axis begins there.
    between = last_limit - first_limit or (first_limit if low == 0.0 else 0.0)
    if between >= step:
        step = between / round(between / step)
    num_before = math.ceil(max(first_limit - low, 0.0) / step - 1e-9)
    num_after = max(math.ceil((high - first_limit) / step - 1e-9), 1)
    edges = first_limit + step * np.arange(-num_before, num_after + 1, dtype=np.float64)
    if criterion.max is not None:
        # The upper limit itself stays, so that bin reaches just beyond it.
        edges[np.argmin(np.abs(edges - criterion.max))] = np.nextafter(criterion.max, math.inf)
    if criterion.min is not None and criterion.min == criterion.max:
        edges = np.insert(edges, np.searchsorted(edges, criterion.min), criterion.min)  # one value stays: its own bin
    elif criterion.min is not None:
        edges[np.argmin(np.abs(edges - criterion.min))] = criterion.min
    if low >= 0.0:
        edges[0] = max(edges[0], 0.0)
    return edges


def _whole_edges(criterion: ScoreColumn, low: int, high: int) -> Floats:
    step = math.ceil((high - low + 1) / MAX_WHOLE_BINS)
    if criterion.min is not None and criterion.max is not None:
        width = math.floor(criterion.max) - math.ceil(criterion.min) + 1
        step = next((size for size in range(step, width) if width % size == 0), max(width, 1))
    anchor = math.floor(criterion.max) + 1 if criterion.max is not None else math.ceil(criterion.min or 0.0)
    first = anchor - step * math.ceil((anchor - low) / step)
    num_bins = math.ceil((high + 1 - first) / step)
    return first + step * np.arange(num_bins + 1, dtype=np.float64) - 0.5


def _shown_range(criterion: ScoreColumn, ledgers: Sequence[Path], low: float, high: float) -> tuple[float, float]:
    """Return where the axis begins and ends: all but the thin tails, with room on both sides of the limits."""
    limits = criterion.limits
    if criterion.is_whole:
        low, high = min(low, *limits), max(high, *limits)
        beyond = max(MAX_WHOLE_BINS // 2, math.ceil(max(limits)))
        return max(low, math.floor(min(limits)) - beyond), max(min(high, max(limits) + beyond), max(limits) + 1)
    starts_at_zero = min(low, *limits) >= 0
    first, last = _without_tails(criterion, ledgers, low, high)
    first, last = min(first, *limits), max(last, *limits)
    size = max(abs(first), abs(last)) or 1.0
    room = ROOM_FRACTION * (last - first) if last - first > LEAST_SPAN_FRACTION * size else 0.5 * size
    first = first - room if first == min(limits) else first
    last = last + room if last == max(limits) else last
    return (max(first, 0.0) if starts_at_zero else first), last


def _without_tails(criterion: ScoreColumn, ledgers: Sequence[Path], low: float, high: float) -> tuple[float, float]:
    """Return the range that holds all but the tails, found in ever finer bins as long as that narrows it much."""
    for _ in range(MAX_ZOOMS):
        if high - low <= LEAST_SPAN_FRACTION * max(abs(low), abs(high)):
            break
        fine = np.zeros(NUM_FINE_BINS, dtype=np.int64)
        num_finite = num_below = 0
        for measured, _fates in read_scores(criterion, ledgers):
            scores = measured[np.isfinite(measured)]
            num_finite += len(scores)
            num_below += int(np.count_nonzero(scores < low))
            fine += np.histogram(scores, NUM_FINE_BINS, (low, high))[0]
        share = (num_below + np.cumsum(fine)) / num_finite
        first, last = (int(np.searchsorted(share, tail)) for tail in (TAIL_FRACTION, 1 - TAIL_FRACTION))
        width = (high - low) / NUM_FINE_BINS
        low, high = low + first * width, min(low + (last + 1) * width, high)
        if last - first > NUM_BINS:
            break
    return low, high

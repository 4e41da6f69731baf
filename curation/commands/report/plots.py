"""Where every line and label of a histogram goes; the template only writes them down, escaped, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from curation.commands.report.criteria import ScoreColumn
from curation.commands.report.histograms import Histogram
from curation.commands.report.scores import ScoreSpread

WIDTH, HEIGHT = 500.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 490.0, 22.0, 212.0
LOG_FROM_COUNT, LOG_FROM_RATIO = 100, 25
"""Counts are drawn on a logarithmic scale where the tallest bar is this tall, and this many times the median one."""
NICE_STEPS = (1.0, 2.0, 5.0, 10.0)
TICK_ROOM, LABEL_ROOM, OPEN_END_ROOM = 13.0, 62.0, 36.0
"""Least distance between labels of the count axis, width of a limit's label, least distance to that of an open end."""
MIN_BAR_SIDE = 1.5
"""What is there is seen, however little it is."""


@dataclass(frozen=True)
class Bar:
    """One bin: kept above the base line, rejected below it; of the rejected, those by this very score."""

    x: float
    width: float
    kept_height: float
    rejected_height: float
    here_height: float
    label: str


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Plot:
    """One histogram, in SVG user units."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    base: float
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    count_ticks: tuple[Tick, ...]
    limits: tuple[Tick, ...]
    range_x: float
    range_width: float
    is_log: bool


@dataclass(frozen=True)
class _Scale:
    """From scores and counts to places in the figure."""

    first: float
    last: float
    base: float
    unit: float
    is_log: bool

    def x(self, score: float) -> float:
        return LEFT + (RIGHT - LEFT) * (min(max(score, self.first), self.last) - self.first) / (self.last - self.first)

    def length(self, count: int) -> float:
        return max(self.unit * _scaled(count, self.is_log), MIN_BAR_SIDE) if count else 0.0


def lay_out_histogram(spread: ScoreSpread) -> Plot | None:
    """Return the histogram of one score; None where nothing was measured."""
    histogram = spread.histogram
    if histogram is None:
        return None
    rejected = [sum(pair) for pair in zip(histogram.rejected_here, histogram.rejected_elsewhere, strict=True)]
    most_kept, most_rejected = max(histogram.kept), max(rejected)
    is_log = _wants_log([*histogram.kept, *rejected])
    unit = (BOTTOM - TOP) / (_scaled(most_kept, is_log) + _scaled(most_rejected, is_log))
    base = TOP + unit * _scaled(most_kept, is_log)
    scale = _Scale(histogram.edges[0], histogram.edges[-1], base, unit, is_log)
    low, high = _range(spread.criterion, scale)
    return Plot(
        width=WIDTH, height=HEIGHT, left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM, base=base,
        bars=tuple(_bars(histogram, scale, is_whole=spread.criterion.is_whole)),
        x_ticks=_score_ticks(histogram, scale, is_whole=spread.criterion.is_whole),
        count_ticks=_count_ticks(scale, most_kept, most_rejected),
        limits=_limits(spread.criterion, low, high),
        range_x=low, range_width=high - low, is_log=is_log,
    )  # fmt: skip


def nice_ticks(low: float, high: float, num_ticks: int, *, is_whole: bool = False) -> tuple[float, ...]:
    """Return round numbers within [low, high], about `num_ticks` of them."""
    rough = (high - low) / num_ticks
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * nice for nice in NICE_STEPS if magnitude * nice >= rough * (1 - 1e-9))
    step = max(round(step), 1.0) if is_whole else step
    first = math.ceil(low / step - 1e-9)
    return tuple(round(k * step, 12) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1))


def _bars(histogram: Histogram, scale: _Scale, *, is_whole: bool) -> list[Bar]:
    bars = []
    for i, kept in enumerate(histogram.kept):
        here = histogram.rejected_here[i]
        rejected = here + histogram.rejected_elsewhere[i]
        if kept or rejected:
            left, right = scale.x(histogram.edges[i]), scale.x(histogram.edges[i + 1])
            bars.append(
                Bar(
                    x=left,
                    width=max(right - left, MIN_BAR_SIDE),
                    kept_height=scale.length(kept),
                    rejected_height=scale.length(rejected),
                    here_height=scale.length(here),
                    label=_bar_label(histogram, i, is_whole=is_whole),
                )
            )
    return bars


def _bar_label(histogram: Histogram, i: int, *, is_whole: bool) -> str:
    low, high = histogram.edges[i], histogram.edges[i + 1]
    if is_whole:
        low, high = low + 0.5, high - 0.5
    span = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    if i == 0 and histogram.num_below:
        span = f"{high:.4g} or less"
    if i == len(histogram.kept) - 1 and histogram.num_above:
        span = f"{low:.4g} or more"
    here, elsewhere = histogram.rejected_here[i], histogram.rejected_elsewhere[i]
    return f"{span}: {histogram.kept[i]:,} kept, {here:,} rejected by this score, {elsewhere:,} by something else"


def _range(criterion: ScoreColumn, scale: _Scale) -> tuple[float, float]:
    """Return where the keep range begins and ends; a whole number that stays, stays with its whole bar."""
    margin = 0.5 if criterion.is_whole else 0.0
    low = scale.first if criterion.min is None else criterion.min - margin
    high = scale.last if criterion.max is None else criterion.max + margin
    return scale.x(low), scale.x(high)


def _limits(criterion: ScoreColumn, low: float, high: float) -> tuple[Tick, ...]:
    if criterion.min is not None and criterion.min == criterion.max:
        label = f"exactly {criterion.min:g}"
        return Tick(low, label, "end" if low > LEFT + LABEL_ROOM else "start"), Tick(high, "")
    is_tight = criterion.min is not None and criterion.max is not None and high - low < LABEL_ROOM
    limits = []
    if criterion.min is not None:
        limits.append(Tick(low, f"min {criterion.min:g}", "end" if is_tight else _anchor(low)))
    if criterion.max is not None:
        limits.append(Tick(high, f"max {criterion.max:g}", "start" if is_tight else _anchor(high)))
    return tuple(limits)


def _anchor(at: float) -> str:
    if at > RIGHT - LABEL_ROOM / 2:
        return "end"
    return "start" if at < LEFT + LABEL_ROOM / 2 else "middle"


def _score_ticks(histogram: Histogram, scale: _Scale, *, is_whole: bool) -> tuple[Tick, ...]:
    """Return round numbers; for a count that goes on beyond the axis, what the last bar begins with."""
    ticks = [Tick(scale.x(tick), f"{tick:g}") for tick in nice_ticks(scale.first, scale.last, 7, is_whole=is_whole)]
    if is_whole and histogram.num_above:
        before_last, last = histogram.edges[-2:]
        open_end = Tick((scale.x(before_last) + scale.x(last)) / 2, f"≥ {before_last + 0.5:g}")
        ticks = [*(tick for tick in ticks if open_end.at - tick.at >= OPEN_END_ROOM), open_end]
    return tuple(ticks)


def _wants_log(counts: Sequence[int]) -> bool:
    seen = [count for count in counts if count]
    return max(seen) >= LOG_FROM_COUNT and max(seen) >= LOG_FROM_RATIO * median(seen)


def _scaled(count: int, is_log: bool) -> float:
    return math.log10(1 + count) if is_log else float(count)


def _count_ticks(scale: _Scale, most_kept: int, most_rejected: int) -> tuple[Tick, ...]:
    """Return labels up and down from 0, left out where they would touch."""
    ticks = [Tick(scale.base, "0")]
    for sign, most in ((1, most_kept), (-1, most_rejected)):
        last = scale.base
        for count in _round_counts(most, is_log=scale.is_log):
            at = scale.base - sign * scale.length(count)
            if abs(at - last) >= TICK_ROOM:
                ticks.append(Tick(at, f"{count:,}"))
                last = at
    return tuple(ticks)


def _round_counts(most: int, *, is_log: bool) -> tuple[int, ...]:
    if most == 0:
        return ()
    if is_log:
        return tuple(10**power for power in range(math.floor(math.log10(most)) + 1))
    return tuple(int(tick) for tick in nice_ticks(0, most, 3, is_whole=True) if tick > 0)

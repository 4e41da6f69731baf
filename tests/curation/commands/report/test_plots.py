import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.commands.report.choice import NUM_PER_SIDE, choose
from curation.commands.report.criteria import ScoreColumn
from curation.commands.report.histograms import Histogram, bin_edges
from curation.commands.report.plots import lay_out_histogram, nice_ticks
from curation.commands.report.scores import ScoreSpread, spread_of
from curation.commands.report.sheets import format_score
from tests.curation.commands.report.run import colour_ledger

limits = st.floats(-1e3, 1e3).map(lambda limit: round(limit, 3))


@given(st.booleans(), limits | st.none(), limits, st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=50))
def test_no_bin_lies_on_both_sides_of_a_limit(
    is_whole: bool, low: float | None, high: float, scores: list[float]
) -> None:
    if is_whole:
        low, high, scores = low and round(low), round(high), [float(round(score)) for score in scores]
    if low is not None and low > high:
        low, high = high, low
    criterion = ScoreColumn("f", "num_x" if is_whole else "x", low, high, "f_scores.x")
    room = 0.01 * (max(scores) - min(scores)) + 1.0
    ends = min(*scores, *criterion.limits) - room, max(*scores, *criterion.limits) + room
    edges = bin_edges(criterion, *ends)
    assert np.all(np.diff(edges) > 0) and edges[0] <= min(scores) and edges[-1] >= max(scores)
    holds = criterion.holds(np.array(scores))
    sides = [np.histogram(np.array(scores)[side], edges)[0] for side in (holds, ~holds)]
    if is_whole or low is None or low == high or high - low > (ends[1] - ends[0]) / 20:
        assert not np.any((sides[0] > 0) & (sides[1] > 0))


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9), st.integers(2, 10))
def test_ticks_are_few_and_within_the_axis(low: float, span: float, num_ticks: int) -> None:
    high = low + span
    if high - low < 1e-12 * max(abs(low), abs(high)) * 1e3:
        return
    ticks = nice_ticks(low, high, num_ticks)
    assert len(ticks) <= num_ticks + 2
    assert all(low - 1e-6 * span - 1e-9 * abs(low) <= tick <= high + 1e-6 * span + 1e-9 * abs(high) for tick in ticks)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6).map(lambda limit: round(limit, 4)))
def test_a_score_reads_on_the_side_of_the_limit_where_it_is(score: float, limit: float) -> None:
    shown = float(format_score(score, (limit,)))
    assert (shown > limit, shown < limit) == (score > limit, score < limit)


def test_a_long_tail_does_not_squeeze_the_rest_and_is_counted(tmp_path: Path) -> None:
    ledger = colour_ledger(tmp_path, [*np.linspace(0, 10, 999), 1e6])
    spread = spread_of(ScoreColumn("colour", "mean_channel_std", 2.0, None, "colour_scores.mean_channel_std"), [ledger])
    assert spread.histogram is not None
    assert spread.histogram.edges[-1] < 11 and spread.histogram.num_above == 1
    assert sum(spread.histogram.kept) + sum(spread.histogram.rejected_here) == 1000


ODD: tuple[list[float], ...] = (
    [], [2.0], [0.0, 0.0], [math.nan, math.inf], [2.0] * 5000 + [3.0], [2.0, math.nextafter(2.0, 3.0)],
    [0.3, math.nextafter(0.3, 1.0)], [4.0, math.nextafter(4.0, 5.0)], [1e-300, 5e-300], [-1e18, 1e18], [-5.0, -4.0],
)  # fmt: skip


@pytest.mark.parametrize("scores", ODD)
@pytest.mark.parametrize("keep", [(2.0, 4.0), (2.0, None), (None, 0.0), (0.0, None), (4.0, 4.0), (None, -1e-9)])
def test_odd_distributions_can_be_drawn(
    tmp_path: Path, scores: list[float], keep: tuple[float | None, float | None]
) -> None:
    ledger = colour_ledger(tmp_path, scores)
    spread = spread_of(ScoreColumn("colour", "mean_channel_std", *keep, "colour_scores.mean_channel_std"), [ledger])
    assert spread.num_measured == len(scores)
    plot = lay_out_histogram(spread)
    assert (plot is None) == (not np.isfinite(scores).any())
    if plot is not None and spread.histogram is not None:
        bins = spread.histogram
        assert sum(bins.kept + bins.rejected_here + bins.rejected_elsewhere) == np.isfinite(scores).sum()
        assert all(math.isfinite(bar.x) and math.isfinite(bar.kept_height) for bar in plot.bars)


@pytest.mark.parametrize("scores", [[24.0, 62.0], [500.0, 900.0], [10.0], [0.0], [-900.0, -500.0]])
@pytest.mark.parametrize("keep", [(None, 10.0), (3.0, None), (1.0, 1.0)])
def test_whole_numbers_far_from_their_limits_can_be_drawn(
    tmp_path: Path, scores: list[float], keep: tuple[float | None, float | None]
) -> None:
    ledger = colour_ledger(tmp_path, scores)
    criterion = ScoreColumn("colour", "num_x", *keep, "colour_scores.mean_channel_std")
    bins = spread_of(criterion, [ledger]).histogram
    assert bins is not None
    assert bins.edges[0] <= min(criterion.limits) and max(criterion.limits) <= bins.edges[-1]
    assert sum(bins.kept + bins.rejected_here + bins.rejected_elsewhere) == len(scores)


def test_counts_over_wide_ranges_are_drawn_on_a_logarithmic_scale() -> None:
    criterion = ScoreColumn("f", "x", None, 1.0, "f_scores.x")
    histogram = Histogram((0.0, 1.0, 2.0, 3.0, 4.0), (100_000, 3, 2, 1), (0, 1, 0, 1), (0,) * 4, 0, 0)
    plot = lay_out_histogram(ScoreSpread(criterion, 4, 0, 0, 0, 0, 0, 0.0, 4.0, histogram))
    assert plot is not None and plot.is_log
    assert all(bar.kept_height > 5 for bar in plot.bars)


def test_near_a_limit_are_the_closest_on_either_side(tmp_path: Path) -> None:
    scores = [*np.linspace(0, 1.9, 20), *np.linspace(2, 4, 21)]
    ledger = colour_ledger(tmp_path, scores)
    criterion = ScoreColumn("colour", "mean_channel_std", 2.0, None, "colour_scores.mean_channel_std")
    choices = choose([ledger], [spread_of(criterion, [ledger])], [])
    near = next(choice for choice in choices if choice.kind == "near")
    assert [place.row for place in near.places] == list(range(20 - NUM_PER_SIDE, 20 + NUM_PER_SIDE))


def test_a_range_of_one_value_has_a_bin_of_its_own() -> None:
    criterion = ScoreColumn("f", "x", 0.0, 0.0, "f_scores.x")
    edges = bin_edges(criterion, -1.03, 1.03)
    assert np.all(np.diff(edges) > 0)
    kept, below = (int(np.flatnonzero(np.histogram([score], edges)[0])[0]) for score in (0.0, -1e-9))
    assert kept != below

"""Limits between labelled scores: no other limit is better, and what sources taught is judged on others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.learning.limits import (
    Scored,
    Side,
    Target,
    between,
    choose,
    curve_of,
    figures_at,
    rejects,
    rises,
    with_sources_left_out,
)

LABELLED = st.lists(
    st.tuples(st.integers(-6, 6), st.booleans(), st.sampled_from([1.0, 2.5, 10.0])), min_size=2, max_size=30
)


def scored(pictures: list[tuple[int, bool, float]]) -> Scored:
    scores, goes, weights = zip(*pictures, strict=True)
    return Scored(np.array(scores, float), np.array(goes), np.array(weights), np.arange(len(scores)) % 3)


@given(LABELLED, st.sampled_from(["min", "max"]), st.sampled_from([0.3, 0.6, 0.9, 1.0]), st.booleans())
def test_a_limit_that_is_chosen_meets_its_target_and_none_that_does_is_better(
    pictures: list[tuple[int, bool, float]], side: Side, value: float, by_recall: bool
) -> None:
    labelled = scored(pictures)
    target = Target("recall" if by_recall else "precision", value)
    chosen = choose(labelled, side, target)
    possible = [half / 2 for half in range(-13, 14)]
    pairs = [(figures_at(labelled, limit, side), limit) for limit in possible]
    usable = []
    for figures, limit in pairs:
        gone = rejects(labelled.scores, limit, side)
        if labelled.goes[gone].any() and not gone.all():
            both = figures.precision.value, figures.recall.value
            reached, rest = both[::-1] if by_recall else both
            usable += [rest] if reached >= value - 1e-9 else []
    assert (chosen is None) == (not usable)
    if chosen is not None:
        figures = figures_at(labelled, chosen, side)
        aimed, other = (figures.recall, figures.precision) if by_recall else (figures.precision, figures.recall)
        assert aimed.value >= value - 1e-9 and other.value == pytest.approx(max(usable))


@given(LABELLED, st.sampled_from(["min", "max"]))
def test_the_curve_says_of_every_limit_what_the_limit_does(pictures: list[tuple[int, bool, float]], side: Side) -> None:
    labelled = scored(pictures)
    curve = curve_of(labelled, side)
    for limit, precision, recall in zip(curve.limits, curve.precision, curve.recall, strict=True):
        figures = figures_at(labelled, float(limit), side)
        assert (figures.precision.value, figures.recall.value) == pytest.approx((precision, recall))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_limit_between_two_scores_keeps_the_one_and_rejects_the_other(stays: float, goes: float) -> None:
    if stays == goes:
        return
    side: Side = "max" if goes > stays else "min"
    gone = rejects(np.array([stays, goes]), between(stays, goes), side)
    assert gone.tolist() == [False, True]


def test_a_limit_in_a_wide_gap_is_a_short_number() -> None:
    assert between(0.31234, 0.5871) == 0.45 and between(-3.0001, -3.9999) == -3.5


def test_sources_that_are_left_out_do_not_flatter_a_score_that_only_knows_its_sources() -> None:
    dice = np.random.default_rng(3)
    sources = np.repeat(np.arange(10), 30)
    goes = dice.random(300) < 0.5
    scores = dice.normal(0, 1, 300) + goes * dice.normal(0, 4, 10)[sources]
    labelled = Scored(scores, goes, np.ones(300), sources)
    target = Target("precision", 0.9)
    side: Side = "max" if rises(labelled) else "min"
    limit = choose(labelled, side, target)
    left_out = with_sources_left_out(labelled, side, target)
    assert limit is not None and left_out is not None and len(left_out.limits) == 10
    assert figures_at(labelled, limit, side).precision.value >= 0.9 > left_out.figures.precision.value


def test_a_single_source_cannot_be_left_out_and_few_labels_are_said_to_be_few() -> None:
    labelled = Scored(np.arange(24.0), np.arange(24) >= 12, np.ones(24), np.zeros(24, dtype=np.int64))
    assert with_sources_left_out(labelled, "max", Target()) is None
    figures = figures_at(labelled, 11.5, "max")
    assert set(figures.short_of(Target())) == {"precision", "recall"}
    assert figures.short_of(Target("recall", 0.9)) == {"recall": 23}  # 35 right ones in a row are known to 0.05

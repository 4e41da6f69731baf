"""Shares by weight: right on average whatever the queue drew, and never surer than the pictures allow."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.intervals import wilson
from curation.learning.shares import effective_number, num_more, num_needed, share_of

PICTURES = st.lists(st.tuples(st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=40)


def test_the_weights_of_all_samples_that_a_queue_may_draw_give_the_runs_own_counts_on_average() -> None:
    strata = {"near": [True, True, False], "control": [True, False, False, False, False]}
    num_drawn = {"near": 2, "control": 1}
    draws = [list(combinations(strata[name], num_drawn[name])) for name in strata]
    weights = {name: len(strata[name]) / num_drawn[name] for name in strata}
    totals = []
    for near, control in product(*draws):
        hits = np.array([*near, *control])
        weight = np.array([weights["near"]] * len(near) + [weights["control"]] * len(control))
        totals.append((weight[hits].sum(), weight.sum()))
    assert np.mean(totals, axis=0) == pytest.approx([3, 8])


@given(PICTURES)
def test_equal_weights_are_wilsons_interval_and_others_are_never_surer(pictures: list[tuple[bool, float]]) -> None:
    hits, chances = np.array([hit for hit, _ in pictures]), np.array([chance for _, chance in pictures])
    plain = share_of(hits, np.full(len(hits), 7.0))
    assert (plain.low, plain.high) == pytest.approx(wilson(int(hits.sum()), len(hits)))
    weights = 1 / chances
    weighed = share_of(hits, weights)
    assert 0 <= weighed.low <= weighed.value <= weighed.high <= 1
    assert 1 - 1e-9 <= weighed.num_effective <= len(hits) * (1 + 1e-9)
    again = share_of(np.tile(hits, 2), np.tile(weights, 2) * 1e6)
    assert again.value == pytest.approx(weighed.value)
    assert again.num_effective == pytest.approx(2 * weighed.num_effective)
    assert again.high - again.low < weighed.high - weighed.low


@given(st.floats(0, 1), st.floats(0.01, 0.4))
def test_no_fewer_pictures_than_are_asked_for_are_enough(share: float, half_width: float) -> None:
    number = num_needed(share, half_width)

    def half(pictures: int) -> float:
        low, high = wilson(share * pictures, pictures)
        return (high - low) / 2

    assert half(number) <= half_width and (number == 1 or half(number - 1) > half_width)


def test_nothing_is_known_of_nothing_and_more_labels_are_asked_for_where_weights_differ() -> None:
    nothing = share_of(np.zeros(0, bool), np.zeros(0))
    assert (nothing.low, nothing.high, nothing.num, effective_number(np.zeros(3))) == (0, 1, 0, 0)
    hits = np.arange(200) < 100
    even, uneven = share_of(hits, np.ones(200)), share_of(hits, np.where(np.arange(200) % 2, 1.0, 9.0))
    assert 0 < num_more(even, 0.05) < num_more(uneven, 0.05)
    assert num_more(share_of(np.arange(2000) < 1000, np.ones(2000)), 0.05) == 0

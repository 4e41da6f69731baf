from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.text_lines import lines, weighted_length

Polygon = tuple[float, ...]
SIDE = 1000.0


def region(left: float, top: float, length: float, height: float) -> Polygon:
    right, bottom = left + length, top + height
    return (left, top, right, top, right, bottom, left, bottom)


def prominence(*polygons: Polygon, side: float = SIDE, cut_weight: float = 1.0) -> float:
    weights = {"full_aspect": 5.0, "edge_fraction": 0.08, "edge_weight": 0.4, "cut_weight": cut_weight}
    return weighted_length(lines(polygons), side, side, **weights) / side


PLACES = st.integers(0, 900)
REGIONS = st.lists(st.builds(region, PLACES, PLACES, st.integers(1, 400), st.integers(1, 60)), max_size=8)


def test_words_of_one_line_are_one_line_and_what_is_far_off_higher_or_below_is_not() -> None:
    word, next_word = region(100, 400, 90, 20), region(205, 402, 120, 22)
    assert lines((word, next_word)).length.tolist() == [210.0]
    for other in (region(240, 400, 90, 20), region(205, 400, 90, 45), region(205, 415, 90, 20)):
        assert len(lines((word, other)).length) == 2


def test_a_line_of_few_large_letters_counts_less_than_a_long_one_of_the_same_length() -> None:
    long, short = region(100, 400, 500, 50), region(100, 400, 500, 250)
    assert prominence(long) == pytest.approx(0.5)
    assert prominence(short) == pytest.approx(0.5 * 2 / 5)


def test_a_credit_at_the_edge_counts_less_than_the_same_line_further_in() -> None:
    at_edge, further_in = region(100, 950, 500, 20), region(100, 850, 500, 20)
    assert prominence(at_edge) == pytest.approx(0.4 * prominence(further_in)) == pytest.approx(0.2)


def test_a_line_that_the_left_or_right_edge_cuts_off_counts_less_than_one_that_ends_before() -> None:
    whole = region(10, 400, 500, 20)
    for cut in (region(4, 400, 500, 20), region(496, 400, 500, 20), region(-3, 400, 500, 20)):
        assert prominence(cut, cut_weight=0.5) == pytest.approx(0.5 * prominence(whole, cut_weight=0.5))
        assert prominence(cut) == pytest.approx(prominence(whole))


@given(REGIONS, st.randoms(use_true_random=False))
def test_the_order_of_regions_means_nothing(polygons: list[Polygon], random: object) -> None:
    mixed = list(polygons)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert prominence(*mixed) == pytest.approx(prominence(*polygons))


@given(REGIONS, st.builds(region, PLACES, PLACES, st.integers(1, 400), st.integers(1, 60)))
def test_a_further_region_never_makes_text_less_prominent(polygons: list[Polygon], further: Polygon) -> None:
    assert prominence(*polygons, further) >= prominence(*polygons) * (1 - 1e-9)


@pytest.mark.slow
@given(REGIONS, st.sampled_from([0.25, 0.5, 4.0]))
def test_a_mirrored_or_enlarged_picture_has_the_same_prominence(polygons: list[Polygon], factor: float) -> None:
    mirrored = [tuple(SIDE - x if i % 2 == 0 else x for i, x in enumerate(polygon)) for polygon in polygons]
    enlarged = [tuple(x * factor for x in polygon) for polygon in polygons]
    assert prominence(*mirrored) == pytest.approx(prominence(*polygons))
    assert prominence(*enlarged, side=SIDE * factor) == pytest.approx(prominence(*polygons))


@given(st.lists(st.integers(50, 150), min_size=1, max_size=6), st.integers(10, 60))
def test_a_line_boxed_in_pieces_is_as_prominent_as_in_one(widths: list[int], height: int) -> None:
    ends = list(accumulate(widths, initial=20))
    pieces = [region(left, 400, right - left, height) for left, right in pairwise(ends)]
    assert prominence(*pieces) == pytest.approx(prominence(region(20, 400, ends[-1] - 20, height)))

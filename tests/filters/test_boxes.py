import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.boxes import (
    Box,
    area,
    clip,
    covered_fraction,
    intersection_area,
    iou,
    letterbox,
    non_maximum_suppression,
    union_area,
)

coordinates = st.floats(-50, 150, width=32)
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
WINDOW: Box = (0.0, 0.0, 100.0, 100.0)
LEFT_HALF = (0.0, 0.0, 50.0, 0.0, 50.0, 100.0, 0.0, 100.0)
TOP_HALF = (0.0, 0.0, 100.0, 0.0, 100.0, 50.0, 0.0, 50.0)


def test_half_overlapping_squares_have_a_third_in_common() -> None:
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)


@given(boxes, boxes)
def test_iou_is_symmetric_and_between_0_and_1(a: Box, b: Box) -> None:
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1 + 1e-9


@given(boxes)
def test_a_box_covers_itself(box: Box) -> None:
    assert intersection_area(box, box) == pytest.approx(area(box))


@given(boxes)
def test_a_clipped_box_lies_within_the_picture(box: Box) -> None:
    left, top, right, bottom = clip(box, 100, 80)
    assert 0 <= left <= right <= 100
    assert 0 <= top <= bottom <= 80


def test_overlapping_polygons_count_once() -> None:
    assert union_area([LEFT_HALF, LEFT_HALF, TOP_HALF], WINDOW) == pytest.approx(7500)


def test_polygons_count_only_inside_the_window() -> None:
    assert union_area([(-50.0, 0.0, 50.0, 0.0, 50.0, 100.0, -50.0, 100.0)], WINDOW) == pytest.approx(5000)


def test_a_crossed_outline_is_the_area_it_encloses() -> None:
    assert union_area([(0.0, 0.0, 100.0, 100.0, 100.0, 0.0, 0.0, 100.0)], WINDOW) == pytest.approx(5000)


def test_an_empty_window_is_not_covered() -> None:
    assert covered_fraction((5.0, 5.0, 5.0, 9.0), [LEFT_HALF]) == 0


@given(st.lists(st.lists(coordinates, min_size=8, max_size=8), max_size=6))
def test_any_quadrilaterals_cover_between_nothing_and_everything(polygons: list[list[float]]) -> None:
    assert 0 <= covered_fraction(WINDOW, polygons) <= 1


def test_the_better_of_two_overlapping_boxes_stays() -> None:
    found = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
    assert non_maximum_suppression(found, np.array([0.5, 0.9, 0.4], np.float32), 0.5) == [1, 2]


def test_boxes_that_overlap_just_enough_both_stay() -> None:
    found = np.array([[0, 0, 2, 2], [1, 0, 3, 2]], np.float32)
    assert len(non_maximum_suppression(found, np.array([0.9, 0.8], np.float32), 0.34)) == 2
    assert len(non_maximum_suppression(found, np.array([0.9, 0.8], np.float32), 0.33)) == 1


def test_no_boxes_leave_no_boxes() -> None:
    assert non_maximum_suppression(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5) == []


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([320, 640]), st.booleans())
def test_a_letterbox_maps_the_canvas_back_onto_the_picture(width: int, height: int, side: int, centred: bool) -> None:
    box = letterbox(width, height, side, centred=centred)
    assert box.canvas_width % 32 == 0 and box.canvas_height % 32 == 0
    assert max(box.width, box.height) == side
    corners = np.array([[box.left, box.top, box.left + box.width, box.top + box.height]], np.float32)
    assert box.to_picture(corners)[0] == pytest.approx([0, 0, width, height], rel=1e-4, abs=1e-2)


def test_mapping_nothing_gives_nothing() -> None:
    assert letterbox(10, 10, 320).to_picture(np.zeros((0, 10), np.float32)).shape == (0, 10)

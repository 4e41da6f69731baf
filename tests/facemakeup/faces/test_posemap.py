import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemakeup.faces.posemap import COLOURS, blank, draw, flip

FACE = np.array([[200.0, 220.0], [310.0, 215.0], [258.0, 290.0], [212.0, 350.0], [305.0, 345.0]])
NEITHER = (0, 0, 0)
GOLDEN_DRAWN_PIXELS = 3625
GOLDEN_SHA256 = "31d8771eda5cdc79a207d19d2ddc273b5de2ea1a15dffb88815e0acaa4fbefa1"


def test_discs_limbs_and_background_have_the_colours_of_the_published_drawing() -> None:
    drawn = draw(FACE, 512)
    assert drawn.shape == (512, 512, 3) and drawn.dtype == np.uint8
    for (x, y), colour in zip(FACE, COLOURS, strict=True):
        assert tuple(drawn[int(y), int(x)]) == colour
        assert tuple(drawn[int(y), int(x) - 10]) == colour and tuple(drawn[int(y), int(x) - 12]) != colour
    for index in (0, 1, 3, 4):
        x, y = (FACE[index] * 0.5 + FACE[2] * 0.5).astype(int)
        assert tuple(drawn[y, x]) == tuple(int(0.6 * value) for value in COLOURS[index])
    assert tuple(drawn[10, 10]) == NEITHER and tuple(drawn[500, 258]) == NEITHER


def test_the_golden_drawing_is_drawn_to_the_pixel() -> None:
    drawn = draw(FACE, 512)
    counts = {colour: int((drawn == colour).all(-1).sum()) for colour in COLOURS}
    assert counts == dict.fromkeys(COLOURS, 317)
    assert int((drawn > 0).any(-1).sum()) == GOLDEN_DRAWN_PIXELS
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == GOLDEN_SHA256


@pytest.mark.parametrize("side", [64, 256, 512, 1024])
def test_a_picture_of_another_size_has_the_same_drawing_scaled(side: int) -> None:
    scaled = draw(FACE * (side / 512), side)
    method = cv2.INTER_AREA if side < 512 else cv2.INTER_LINEAR
    assert np.array_equal(scaled, cv2.resize(draw(FACE, 512), (side, side), interpolation=method))


def test_a_wide_picture_keeps_the_discs_round() -> None:
    drawn = draw(FACE, (512, 768))
    assert drawn.shape == (512, 768, 3)
    assert np.array_equal(drawn[:, :512], draw(FACE, 512))
    small = draw(FACE * 0.875, (448, 672))
    assert small.shape == (448, 672, 3)
    ys, xs = np.nonzero((small[..., 2] > 128) & (small[..., :2].max(-1) < 64))
    assert abs(np.ptp(ys) - np.ptp(xs)) <= 2


def test_the_mirrored_face_has_the_mirrored_drawing_with_left_and_right_colours_swapped() -> None:
    half = FACE + 0.5
    mirrored, drawn = draw(flip(half, 512), 512), draw(half, 512)
    back = mirrored[:, ::-1]
    for index, other in enumerate((1, 0, 2, 4, 3)):
        own = (drawn == COLOURS[index]).all(-1)
        assert own.any() and np.array_equal((back == COLOURS[other]).all(-1), own)
    assert not np.array_equal(back, drawn)


@given(st.lists(st.floats(-2000, 2000), min_size=10, max_size=10), st.floats(1, 4000))
def test_flipping_twice_is_the_same_face(values: list[float], width: float) -> None:
    points = np.array(values).reshape(5, 2)
    assert np.allclose(flip(flip(points, width), width), points, atol=1e-9)


@settings(max_examples=20)
@given(st.lists(st.floats(-1e12, 1e12), min_size=10, max_size=10))
def test_points_outside_the_picture_are_no_error(values: list[float]) -> None:
    assert draw(np.array(values).reshape(5, 2), 64).shape == (64, 64, 3)


def test_without_a_pose_the_map_is_black() -> None:
    assert not blank(64).any() and blank((64, 96)).shape == (64, 96, 3)


@pytest.mark.parametrize("points", [np.zeros((4, 2)), np.full((5, 2), np.nan)])
def test_anything_but_five_points_is_refused(points: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> None:
    with pytest.raises(ValueError, match="five finite points"):
        draw(points, 64)

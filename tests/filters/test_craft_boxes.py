"""Our resize and boxes against EasyOCR's own: equal in every bit, on smooth random maps and on odd pictures."""

import cv2
import numpy as np
import pytest
from easyocr import craft_utils, imgproc
from hypothesis import given
from hypothesis import strategies as st

from filters.detectors.craft import on_canvas
from filters.detectors.craft_boxes import Floats, map_boxes
from tests.pictures import noise


def smooth_map(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Hills between about -0.2 and 1.2 whose size differs from map to map."""
    rows, columns = (max(2, side // int(rng.integers(2, 12))) for side in (height, width))
    coarse = rng.uniform(-0.6, 1.4, (rows, columns))
    return np.asarray(cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC))


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    thresholds=st.sampled_from([(0.7, 0.4, 0.4), (0.7, 0.1, 0.4), (0.5, 0.4, 0.2), (0.9, 0.9, 0.6)]),
)
def test_boxes_and_characters_are_those_of_easyocr(
    seed: int, height: int, width: int, thresholds: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(seed)
    text_HW, link_HW = smooth_map(rng, height, width), smooth_map(rng, height, width)
    theirs, _, counts = craft_utils.getDetBoxes(text_HW, link_HW, *thresholds, poly=False, estimate_num_chars=True)
    ours = map_boxes(text_HW, link_HW, *thresholds)
    assert [box.num_characters for box in ours] == counts
    assert [box.corners.tolist() for box in ours] == [box.tolist() for box in theirs]


def test_the_random_maps_hold_boxes_upright_and_tilted() -> None:
    rng = np.random.default_rng(1)
    maps = [(smooth_map(rng, 80, 80), smooth_map(rng, 80, 80)) for _ in range(60)]
    boxes = [box for text_HW, link_HW in maps for box in map_boxes(text_HW, link_HW, 0.7, 0.9, 0.6)]
    upright = [len(set(box.corners[:, 0].tolist())) == 2 for box in boxes]
    assert 10 < sum(upright) < len(boxes) - 10
    assert max(box.num_characters for box in boxes) > 2


@pytest.mark.parametrize("shape", [(640, 480), (333, 1000), (64, 64), (31, 33), (1, 30), (700, 23)])
@pytest.mark.parametrize(("side", "mag_ratio"), [(640, 1.0), (320, 1.5), (2560, 1.0)])
def test_the_canvas_is_that_of_easyocr(shape: tuple[int, int], side: int, mag_ratio: float) -> None:
    image = noise(3, shape[1], shape[0])
    theirs, scale, _ = imgproc.resize_aspect_ratio(image, side, interpolation=1, mag_ratio=mag_ratio)
    ours, our_scale = on_canvas(image, side, mag_ratio)
    assert our_scale == scale
    assert np.array_equal(ours, theirs)

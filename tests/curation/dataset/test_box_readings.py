"""A box that was drawn on stored pixels meets the face in the upright picture, whichever way EXIF turns it."""

import numpy as np
import pytest

from curation.dataset.box_readings import readings
from curation.dataset.captions import Caption, bind
from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from filters.boxes import Box
from tests import pictures

WIDTH, HEIGHT = 96, 64
UPRIGHT: Box = (8.0, 12.0, 30.0, 44.0)
"""Of the face, in a corner, so that no two ways to turn the picture agree."""
MIRRORED: Box = (WIDTH - 30.0, 12.0, WIDTH - 8.0, 44.0)


def marked() -> np.ndarray:
    """Return an upright picture that is black but for its face."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left, top, right, bottom = (round(side) for side in UPRIGHT)
    picture[top:bottom, left:right] = 255
    return picture


def stored_box(orientation: int) -> tuple[Box, tuple[int, int]]:
    """Return the face's box in stored pixels, and their width and height."""
    stored = pictures.laid_down(marked(), orientation)
    rows, columns = np.nonzero(stored[..., 0])
    box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    return box, (stored.shape[1], stored.shape[0])


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_of_stored_pixels_is_turned_as_the_decoder_turns_the_picture(orientation: int, scale: int) -> None:
    stored = pictures.laid_down(marked(), orientation)
    png = pictures.encode(stored, "png", exif=pictures.exif(orientation=orientation))
    assert np.array_equal(decode(png, DecodeLimits()).rgb, marked())
    box, crawled = stored_box(orientation)
    large: Box = (box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale)
    first, *_ = readings((WIDTH, HEIGHT), (crawled[0] * scale, crawled[1] * scale), orientation)
    assert first.pixels == "stored" and first.box(large) == pytest.approx(UPRIGHT)


@pytest.mark.parametrize("as_upright", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_caption_is_bound_under_the_reading_that_meets_a_face_and_says_which(
    orientation: int, as_upright: bool
) -> None:
    box, crawled = stored_box(orientation)
    for size in (crawled, (WIDTH, HEIGHT)):  # crawlers tell either
        caption = Caption("her", "facecaption", UPRIGHT if as_upright else box)
        binding = bind([caption], [UPRIGHT], (WIDTH, HEIGHT), size, 0.5, orientation)
        assert binding is not None and binding.status == "bound" and binding.iou == pytest.approx(1.0)
        assert binding.pixels == ("upright" if as_upright and orientation != 1 else "stored")


def test_of_two_faces_the_one_is_described_that_the_box_meets_best() -> None:
    caption = Caption("her", "facecaption", (UPRIGHT[0] + 2, *UPRIGHT[1:]))  # upright, though EXIF mirrors the picture
    binding = bind([caption], [MIRRORED, UPRIGHT], (WIDTH, HEIGHT), (WIDTH, HEIGHT), 0.5, 2)
    assert binding is not None and (binding.face, binding.pixels) == (0, "stored")
    caption = Caption("her", "facecaption", UPRIGHT)
    binding = bind([caption], [(40.0, 12.0, 60.0, 44.0), UPRIGHT], (WIDTH, HEIGHT), (WIDTH, HEIGHT), 0.5, 2)
    assert binding is not None and (binding.face, binding.pixels) == (1, "upright")


def test_a_picture_of_another_shape_is_not_read_at_all() -> None:
    assert readings((WIDTH, HEIGHT), (HEIGHT, WIDTH), 3) == []
    assert readings((WIDTH, HEIGHT), (WIDTH, WIDTH), 6) == []

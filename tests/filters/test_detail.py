"""How much of a picture's resolution is real, on real photos that are shrunk, blown up and recompressed."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from filters.base import RgbImage
from filters.detail import NUM_RINGS, DetailEvidence, Measure, Score, blockiness, build, scores
from tests.filters.marks import astronaut
from tests.pictures import encode

ENLARGING = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}


def scored(image: RgbImage) -> dict[str, float]:
    (evidence,) = build(Measure(), "cpu").measure([image])
    return scores(evidence, Score())


def compressed(image: RgbImage, quality: int) -> RgbImage:
    return np.asarray(Image.open(io.BytesIO(encode(image, "jpeg", quality=quality))).convert("RGB"), np.uint8)


@pytest.mark.parametrize("kind", ENLARGING)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_small_jpeg_blown_up_falls_off_where_the_photo_and_its_small_copy_go_on(kind: str, factor: int) -> None:
    whole = astronaut()
    small = cv2.resize(whole, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    small = compressed(np.asarray(small, np.uint8), 85)
    grown = cv2.resize(small, whole.shape[1::-1], interpolation=ENLARGING[kind])
    again = compressed(np.asarray(grown, np.uint8), 90)
    for honest in (whole, compressed(whole, 75), small):
        assert scored(again)["spectral_fall_db"] > scored(honest)["spectral_fall_db"] + 5


def test_strong_compression_shows_on_the_grid_wherever_it_begins() -> None:
    whole = astronaut()
    plain, fair, strong = (
        scored(image)["blockiness"] for image in (whole, compressed(whole, 75), compressed(whole, 10))
    )
    assert plain < fair < 1.5 < strong
    assert scored(compressed(whole, 10)[3:, 5:])["blockiness"] == pytest.approx(strong, rel=0.05)


@pytest.mark.parametrize("shape", [(16, 16), (16, 300), (129, 127), (8, 40), (1, 1)])
def test_pictures_smaller_than_a_part_and_plain_ones_have_finite_scores(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    for image in (noise, np.full((*shape, 3), 90, np.uint8)):
        assert all(np.isfinite(value) for value in scored(image).values())
    assert scored(np.full((*shape, 3), 90, np.uint8)) == {"spectral_fall_db": 0.0, "blockiness": 1.0}
    assert blockiness(np.zeros((4, 4), np.float32)) == 1.0


def test_the_fall_is_the_ratio_of_coarse_to_fine_power_in_decibels() -> None:
    power = np.full(NUM_RINGS, 50.0)
    power[16:24] = 0.5
    assert scores(DetailEvidence(tuple(power.tolist()), 1.0), Score())["spectral_fall_db"] == pytest.approx(
        20, abs=1e-3
    )

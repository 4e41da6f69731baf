from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import colour
from filters.base import RgbImage
from filters.colour import ColourEvidence
from tests.filters.marks import astronaut
from tests.pictures import noise

FILTER = colour.build(colour.Measure(), "cpu")


def measured(image: npt.NDArray[Any]) -> ColourEvidence:
    (evidence,) = FILTER.measure([np.ascontiguousarray(image, dtype=np.uint8)])
    assert isinstance(evidence, ColourEvidence)
    return evidence


def solid(*rgb: int) -> RgbImage:
    return np.full((40, 30, 3), rgb, dtype=np.uint8)


def texture(seed: int = 0) -> RgbImage:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 1), dtype=np.uint8)


def toned(dark: tuple[int, int, int], bright: tuple[int, int, int]) -> RgbImage:
    share = texture().astype(float) / 255
    return (np.array(dark) * (1 - share) + np.array(bright) * share).round().astype(np.uint8)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_grey_picture_has_no_colour_whatever_its_brightness(level: int) -> None:
    evidence = measured(solid(level, level, level))
    assert evidence == ColourEvidence(0.0, 0.0, 0.0, 0.0)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_the_published_statistic_of_one_colour_is_the_standard_deviation_of_its_channels(
    rgb: tuple[int, int, int],
) -> None:
    assert measured(solid(*rgb)).mean_channel_std == pytest.approx(float(np.std(rgb)), abs=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_every_statistic_agrees_with_its_plain_definition(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    evidence = measured(image)
    wide = image.astype(int)
    assert evidence.mean_channel_std == pytest.approx(float(wide.std(axis=2).mean()), abs=1e-3)
    assert evidence.chromatic_share == float((wide.max(axis=2) - wide.min(axis=2) > 10).mean())


@pytest.mark.parametrize(("dark", "bright"), [((40, 20, 10), (255, 240, 200)), ((10, 15, 40), (225, 235, 255))])
def test_a_tone_over_grey_fools_the_published_statistic_but_not_the_residual(
    dark: tuple[int, int, int], bright: tuple[int, int, int]
) -> None:
    evidence = measured(toned(dark, bright))
    assert evidence.mean_channel_std > 5
    assert evidence.chromatic_share > 0.9
    assert evidence.toning_residual < 2


def test_two_colours_of_equal_brightness_are_more_than_a_tone() -> None:
    image = np.concatenate([solid(200, 90, 90), solid(60, 150, 150)])
    assert measured(image).toning_residual > 20
    assert measured(image).hue_spread_deg > 50


def test_one_hue_has_no_spread_and_the_whole_circle_has_much() -> None:
    assert measured(solid(200, 40, 40)).hue_spread_deg == pytest.approx(0, abs=0.1)
    circle = np.concatenate([solid(200, 0, 0), solid(0, 200, 0), solid(0, 0, 200)])
    assert measured(circle).hue_spread_deg > 150


def test_pictures_do_not_influence_one_another() -> None:
    images = [solid(1, 2, 3), toned((0, 0, 0), (255, 200, 100)), solid(9, 9, 9)]
    assert FILTER.measure(images) == [measured(image) for image in images]


def test_a_real_portrait_stands_far_above_its_own_toned_copy() -> None:
    luma = astronaut() @ [0.299, 0.587, 0.114]
    brown = np.array((30, 15, 5)) + np.array((220, 220, 200)) * luma[..., None] / 255
    assert measured(astronaut()).toning_residual > 15
    assert measured(brown.round()).toning_residual < 1.5


def test_black_and_white_alone_leave_no_residual() -> None:
    assert measured(np.concatenate([solid(0, 0, 0), solid(255, 255, 255)])).toning_residual == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_every_size_gives_finite_scores_in_their_ranges(width: int, height: int, seed: int) -> None:
    scores = colour.scores(measured(noise(seed, width, height)), colour.Score())
    assert tuple(scores) == colour.SCORES
    assert all(np.isfinite(value) and value >= 0 for value in scores.values())
    assert scores["chromatic_share"] <= 1

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.verdicts import derivatives
from curation.recipe.filter_plan import criterion_of
from curation.recipe.judge import NotYet, Verdict, judge
from curation.recipe.recipe import load_recipe
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


def plainly(image: RgbImage) -> dict[str, float]:
    """The three statistics over all pixels as their definitions read, pixel by pixel in float64."""
    rgb = image.reshape(-1, 3).astype(float)
    chromatic = rgb[rgb.max(axis=1) - rgb.min(axis=1) > 10]
    hues = chromatic @ np.exp(2j * np.pi * np.arange(3) / 3)
    resultant = min(1.0, max(1e-12, abs((hues / abs(hues)).mean()))) if len(hues) else 1.0
    return {
        "mean_channel_std": float(rgb.std(axis=1).mean()),
        "chromatic_share": len(chromatic) / len(rgb),
        "hue_spread_deg": float(np.degrees(np.sqrt(-2 * np.log(resultant)))),
    }


def statistics(image: RgbImage) -> dict[str, float]:
    evidence = measured(image)
    return {name: getattr(evidence, name) for name in plainly(image)}


@given(st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_every_statistic_agrees_with_its_plain_definition(seed: int, brightest: int) -> None:
    image = np.random.default_rng(seed).integers(0, brightest + 1, (9, 7, 3), dtype=np.uint8)
    assert statistics(image) == pytest.approx(plainly(image), abs=1e-6)


def test_the_outermost_colours_agree_with_the_plain_definition() -> None:
    corners = np.stack(np.meshgrid([0, 127, 128, 255], [0, 127, 128, 255], [0, 127, 128, 255]), axis=-1)
    image = corners.reshape(8, 8, 3).astype(np.uint8)
    assert statistics(image) == pytest.approx(plainly(image), abs=1e-6)
    for pixel in image.reshape(-1, 1, 1, 3):
        assert statistics(pixel) == pytest.approx(plainly(pixel), abs=1e-5)


def test_a_photo_agrees_with_the_plain_definition() -> None:
    assert statistics(astronaut()) == pytest.approx(plainly(astronaut()), abs=1e-6)


def test_pictures_too_large_to_be_counted_at_once_agree_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "_MAX_BAND_PIXELS", 10_000)
    assert statistics(astronaut()) == pytest.approx(plainly(astronaut()), abs=1e-6)


@pytest.mark.parametrize("side", [256, 257, 511, 512, 767, 1300])
def test_the_residual_of_a_picture_hardly_depends_on_its_size(side: int) -> None:
    small = measured(cv2.resize(astronaut(), (256, 256), interpolation=cv2.INTER_AREA)).toning_residual
    grown = cv2.resize(astronaut(), (side, side), interpolation=cv2.INTER_AREA)
    assert measured(grown).toning_residual == pytest.approx(small, rel=0.05)


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


PORTRAIT = colour.Measure(toning_of="portrait")


@pytest.mark.parametrize("tone", [derivatives.sepia, derivatives.brown, derivatives.cyanotype, derivatives.grey])
@pytest.mark.parametrize("quality", [60, 90])
def test_a_tone_that_bends_at_paper_white_is_no_colour(tone: derivatives.Derivative, quality: int) -> None:
    toned = derivatives.recompressed(tone(astronaut()), quality)
    assert colour.toning_residual(toned, PORTRAIT) < 2.6


def test_a_small_coloured_head_on_grey_counts_more_where_a_portrait_s_is() -> None:
    head = derivatives.shrunk(astronaut()[:300, 100:400], 100)
    on_grey = np.pad(head, ((60, 300), (150, 150), (0, 0)), constant_values=200)
    assert colour.toning_residual(on_grey, colour.Measure()) < 4
    assert colour.toning_residual(on_grey, PORTRAIT) > 5


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_every_size_has_a_portrait_s_residual_and_without_colour_none(width: int, height: int, seed: int) -> None:
    image = noise(seed, width, height)
    assert 0 <= colour.toning_residual(image, PORTRAIT) < 256
    assert colour.toning_residual(np.repeat(image[..., :1], 3, axis=2), PORTRAIT) == 0


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 99), st.integers(0, 40))
def test_what_blocks_say_of_all_pixels_holds(width: int, height: int, seed: int, colour_levels: int) -> None:
    grey = np.random.default_rng(seed).integers(40, 200, (height, width, 1))
    image = (grey + np.random.default_rng(seed + 1).integers(0, colour_levels + 1, (height, width, 3))).astype(np.uint8)
    of_pixels, of_blocks = (
        colour.build(colour.Measure(toning_side=32, statistics_of=which), "cpu").measure([image])[0]
        for which in ("pixels", "blocks")
    )
    assert 0 <= of_blocks.mean_channel_std <= of_pixels.mean_channel_std + 1e-9
    assert of_blocks.toning_residual == of_pixels.toning_residual
    if max(width, height) <= 32:
        assert of_blocks == of_pixels


def test_a_picture_in_one_flat_colour_loses_no_more_to_blocks_than_to_rounding() -> None:
    image = np.full((613, 1201, 3), (90, 100, 120), np.uint8)
    (of_blocks,) = colour.build(colour.Measure(statistics_of="blocks"), "cpu").measure([image])
    exact = measured(image).mean_channel_std
    assert exact - 4 * 0.4715 - 0.1 < of_blocks.mean_channel_std < exact


def in_blocks(kind: str) -> RgbImage:
    """A picture that is larger than its view: grey, nearly grey, toned or in colour."""
    grey = np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY), np.uint8)[..., None].repeat(3, axis=2)
    faint = grey.copy()
    faint[:, :256, 0] = np.clip(faint[:, :256, 0], 0, 252) + 3
    small = {"grey": grey, "faint": faint, "sepia": derivatives.sepia(astronaut()), "colour": astronaut()}[kind]
    return np.asarray(cv2.resize(small, (1100, 1100), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize(("kind", "reason", "num_measured"), [
    ("grey", "mean_channel_std_low", 2), ("faint", "toning_residual_low", 2), ("sepia", "toning_residual_low", 1),
    ("colour", None, 1),
])  # fmt: skip
def test_the_recipe_s_verdict_and_reason_are_the_same_whether_blocks_or_pixels_tell(
    kind: str, reason: str | None, num_measured: int
) -> None:
    (plan,) = (plan for plan in load_recipe("facecaptionhq-4m").filters if plan.name == "colour")
    (screen,) = plan.screens
    image = in_blocks(kind)
    known = {one.name: one.module.build(one.measure, "cpu").measure([image])[0] for one in (screen.plan, plan)}
    criteria = [criterion_of(plan, score, keep, plan.screens) for score, keep in plan.keep.items()]
    plain = [criterion_of(plan, score, keep, ()) for score, keep in plan.keep.items()]
    verdict = judge(known, criteria)
    assert verdict == judge(known, plain)
    assert isinstance(verdict, Verdict) and verdict.reason == reason
    assert judge({**known, "colour": None}, criteria) == (verdict if num_measured == 1 else NotYet(("colour",)))


def test_black_and_white_alone_leave_no_residual() -> None:
    assert measured(np.concatenate([solid(0, 0, 0), solid(255, 255, 255)])).toning_residual == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_every_size_gives_finite_scores_in_their_ranges(width: int, height: int, seed: int) -> None:
    scores = colour.scores(measured(noise(seed, width, height)), colour.Score())
    assert tuple(scores) == colour.SCORES
    assert all(np.isfinite(value) and value >= 0 for value in scores.values())
    assert scores["chromatic_share"] <= 1

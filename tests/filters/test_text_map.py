import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.measure.arrow import from_struct, to_struct
from filters import boxes, text_map
from filters.base import RgbImage
from filters.batching import Floats
from filters.detectors.ppocr import NUM_REMEMBERED, MapRegion, PpOcr, grown, regions
from filters.loading import Network
from filters.text_map import TextMapEvidence
from filters.weights import find_weights
from tests.filters.marks import gold, with_gold, with_ppocr
from tests.pictures import noise, solid

EMPTY = (40, *[0] * 19)
LINE = (10.0, 20.0, 50.0, 20.0, 50.0, 30.0, 10.0, 30.0)
"""A line of 40 x 10 pixels."""


def region(corners: tuple[float, ...] = LINE, mean: float = 0.9) -> MapRegion:
    return MapRegion(corners, 0.04, mean, 0.95)


def scores(evidence: TextMapEvidence, **score: float) -> dict[str, float]:
    return text_map.scores(evidence, text_map.Score.model_validate(score))


def measured(image: RgbImage, **measure: object) -> TextMapEvidence:
    built = text_map.build(text_map.Measure.model_validate(measure), "cpu")
    evidence: TextMapEvidence = built.measure([image])[0]
    return evidence


def written(*lines: str, height: int = 256, width: int = 320) -> RgbImage:
    """Black lines on a light picture, each a tenth of its height."""
    image = Image.new("RGB", (width, height), (230, 228, 220))
    for row, words in enumerate(lines):
        place = (width / 10, height * (0.2 + 0.2 * row))
        ImageDraw.Draw(image).text(place, words, "black", ImageFont.load_default(height / 10))
    return np.array(image)


def test_an_empty_map_scores_zero_everywhere() -> None:
    assert scores(TextMapEvidence(100, 100, EMPTY, ())) == dict.fromkeys(text_map.SCORES, 0.0)


def test_areas_are_those_of_the_regions_grown_back_and_characters_follow_from_length_by_height() -> None:
    found = scores(TextMapEvidence(100, 100, EMPTY, (region(),)), unclip=1.25, glyphs_per_height=2)
    assert grown(LINE, 1.25)[1:] == (50, 20)
    assert found["area_fraction"] == found["largest_region_fraction"] == pytest.approx(0.1)
    assert found["num_glyphs"] == pytest.approx(2 * 50 / 20)
    assert found["num_regions"] == 1


def test_only_what_lies_in_the_middle_half_is_central() -> None:
    found = scores(TextMapEvidence(100, 100, EMPTY, (region(),)), unclip=0)
    assert found["central_fraction"] == pytest.approx(25 * 5 / 2500)


def test_a_region_that_stands_on_end_holds_as_many_characters_as_one_that_lies() -> None:
    upright = (10.0, 20.0, 20.0, 20.0, 20.0, 60.0, 10.0, 60.0)
    lying, standing = (
        scores(TextMapEvidence(100, 100, EMPTY, (region(one),)))["num_glyphs"] for one in (LINE, upright)
    )
    assert lying == pytest.approx(standing)


def test_regions_below_the_confidence_do_not_count() -> None:
    evidence = TextMapEvidence(100, 100, EMPTY, (region(mean=0.8), region(mean=0.4)))
    assert [scores(evidence, confidence=one)["num_regions"] for one in (0.3, 0.5, 0.9)] == [2, 1, 0]


def test_the_share_above_any_level_follows_from_the_histogram() -> None:
    evidence = TextMapEvidence(100, 100, (50, *[0] * 9, 30, *[0] * 8, 20), ())
    shares = [scores(evidence, level=level)["text_share"] for level in (0, 0.05, 0.3, 0.525, 0.6, 1)]
    assert shares == pytest.approx([1, 0.5, 0.5, 0.35, 0.2, 0])


def test_a_tilted_rectangle_grows_by_the_same_distance_on_all_sides() -> None:
    tilted = (0.0, 0.0, 30.0, 40.0, 22.0, 46.0, -8.0, 6.0)
    corners, longer, shorter = grown(tilted, 1.2)
    assert (longer, shorter) == pytest.approx((60, 20))
    assert boxes.union_area([corners], (-99, -99, 99, 99)) == pytest.approx(1200)
    assert boxes.covered_fraction((0, 0, 20, 30), [tilted]) <= boxes.covered_fraction((0, 0, 20, 30), [corners])


def test_a_degenerate_rectangle_stays_as_it_is() -> None:
    assert grown((1.0, 1.0) * 4, 1.5) == ((1.0, 1.0) * 4, 0, 0)


def test_regions_of_a_map_come_largest_first_in_pixels_of_the_picture() -> None:
    map_HW = np.zeros((20, 40), np.float32)
    map_HW[2:4, 10:13] = 0.5
    map_HW[10:14, 20:30] = 0.9
    map_HW[12, 25] = 1.0
    map_HW[19, 39] = 0.9
    large, small = regions(map_HW, 0.3, 4, scale_x=2.0, scale_y=1.0)
    xs, ys = large.corners[0::2], large.corners[1::2]
    assert (min(xs), max(xs), min(ys), max(ys)) == (10, 15, 10, 14)
    assert (large.picture_fraction, large.peak) == (40 / 800, 1.0)
    assert small.picture_fraction == 6 / 800
    assert small.mean == pytest.approx(0.5)
    assert [len(regions(map_HW, 0.3, least, 2.0, 1.0)) for least in (1, 6, 7, 41)] == [3, 2, 1, 0]


def test_importing_the_filter_loads_no_heavy_library() -> None:
    heavy = ("torch", "easyocr", "cv2", "onnxruntime", "shapely")
    probe = f"import sys, filters.text_map; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@with_ppocr
def test_lines_are_found_where_they_stand_and_their_characters_estimated() -> None:
    image = written("HELLO WORLD", "SECOND LINE")
    evidence = measured(image)
    rows, columns = np.nonzero(image[:, :, 0] < 128)
    assert len(evidence.regions) == 2
    corners = np.concatenate([np.reshape(grown(one.corners, 1.5)[0], (-1, 2)) for one in evidence.regions])
    assert corners.min(axis=0) == pytest.approx((columns.min(), rows.min()), abs=8)
    assert corners.max(axis=0) == pytest.approx((columns.max(), rows.max()), abs=8)
    assert scores(evidence)["num_glyphs"] == pytest.approx(22, abs=8)


@with_ppocr
def test_more_lines_are_more_of_everything() -> None:
    few, many = (scores(measured(written(*["SEVERAL WORDS"] * count))) for count in (1, 3))
    for name in ("text_share", "num_glyphs", "num_regions", "area_fraction"):
        assert many[name] > 2 * few[name] > 0


@with_ppocr
def test_regions_are_in_pixels_of_the_picture_whatever_the_side() -> None:
    image = written("LARGE WORDS", height=512, width=640)
    areas = [scores(measured(image, side=side))["area_fraction"] for side in (320, 480)]
    assert areas[0] == pytest.approx(areas[1], rel=0.2)


@with_ppocr
@pytest.mark.parametrize("image", [solid((200, 30, 30), 96, 64), solid((0, 0, 0), 64, 64)])
def test_plain_pictures_have_no_text(image: RgbImage) -> None:
    assert scores(measured(image)) == pytest.approx(dict.fromkeys(text_map.SCORES, 0.0), abs=1e-6)


@with_ppocr
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 3)])
def test_odd_shapes_give_evidence_and_raise_nothing(shape: tuple[int, int]) -> None:
    evidence = measured(noise(2, shape[1], shape[0]))
    assert (evidence.height, evidence.width) == shape
    assert all(np.isfinite(list(scores(evidence).values())))


@with_ppocr
def test_evidence_does_not_depend_on_the_rest_of_the_batch() -> None:
    built = text_map.build(text_map.Measure(), "cpu")
    pictures = [written("FIRST"), solid((9, 9, 9), 64, 48), written("SECOND", height=200, width=300)]
    assert built.measure(pictures) == [built.measure([picture])[0] for picture in pictures]


@with_ppocr
def test_a_map_that_another_look_has_seen_costs_no_second_run_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {
        "side": 96,
        "min_region_px": 4,
        "runtime": "onnxruntime",
        "dtype": "float32",
        "device": "cpu",
    }
    first, second = (PpOcr(find_weights("ppocr_v4_det"), floor=floor, **asked) for floor in (0.2, 0.1))
    maps, num_runs = first._maps, 0
    assert second._maps is maps
    network: Network = maps._network

    def counted(pixels_NCHW: Floats) -> Floats:
        nonlocal num_runs
        num_runs += 1
        return network(pixels_NCHW)

    monkeypatch.setattr(maps, "_network", counted)
    page, wall = written("A CREDIT LINE"), solid((90, 90, 90), 320, 256)
    expected = first.detect_all([page, wall, page])
    assert num_runs == 2 and expected[0] == expected[2] != expected[1]
    assert second.detect_all([wall])[0].histogram == expected[1].histogram and num_runs == 2
    page[:] = 0
    assert first.detect_all([page])[0].regions == () and num_runs == 3  # by its pixels, not by where it lies
    first.detect_all([solid((shade, 0, 0), 64, 96) for shade in range(NUM_REMEMBERED)])
    assert num_runs == 3 + NUM_REMEMBERED == 3 + len(maps._recent)


@with_ppocr
def test_evidence_comes_back_from_the_ledger_s_form_unchanged() -> None:
    evidence = measured(written("HELLO WORLD"))
    assert from_struct(TextMapEvidence, to_struct(evidence)) == evidence


@with_ppocr
@with_gold
def test_a_meme_holds_a_large_amount_of_text_and_a_portrait_hardly_any() -> None:
    meme = scores(measured(gold("text/memegen_35_spongebob.png")))
    portrait = scores(measured(gold("single/human_person-celeste.jpg")))
    assert meme["num_glyphs"] > 15 and meme["text_share"] > 0.01
    assert portrait["num_glyphs"] <= 2 and portrait["text_share"] < 0.003

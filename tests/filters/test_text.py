import json
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationError

from filters import text
from filters.base import RgbImage
from filters.boxes import area, clip, intersection_area
from filters.detectors import craft_int8_export
from filters.detectors.craft import Craft, windows
from filters.detectors.craft_export import EXPORTER_VERSION
from filters.loading import DeviceError
from filters.text import TextEvidence
from filters.weights import WeightsError, cache_folder, find_weights
from tests.filters.marks import gold, with_craft, with_gold, with_openvino, with_ppocr
from tests.pictures import noise, solid

LEFT_HALF = (0.0, 0.0, 50.0, 0.0, 50.0, 100.0, 0.0, 100.0)
QUARTER = (0.0, 0.0, 50.0, 0.0, 50.0, 50.0, 0.0, 50.0)


def written(words: str, height: int = 256, width: int = 320) -> RgbImage:
    """Black words across a light picture, about a tenth of its height."""
    image = Image.new("RGB", (width, height), (230, 228, 220))
    ImageDraw.Draw(image).text((width // 10, height // 3), words, "black", ImageFont.load_default(height / 8))
    return np.array(image)


def measured(image: RgbImage, **measure: object) -> TextEvidence:
    evidence: TextEvidence = built(json.dumps({"canvas_side": 320, **measure})).measure([image])[0]
    return evidence


@cache
def built(measure: str) -> Any:
    """The filter that measures so; one serves every test."""
    return text.build(text.Measure.model_validate_json(measure), "cpu")


def scores(evidence: TextEvidence) -> dict[str, float]:
    return text.scores(evidence, text.Score())


def test_no_region_scores_zero_everywhere() -> None:
    assert scores(TextEvidence(100, 100, (), ())) == dict.fromkeys(text.SCORES, 0.0)


def test_overlapping_regions_cover_their_union() -> None:
    assert scores(TextEvidence(100, 100, (LEFT_HALF, QUARTER), (4, 3))) == {
        "area_fraction": 0.5,
        "num_characters": 7,
        "num_regions": 2,
        "largest_region_fraction": 0.5,
    }


def test_what_lies_beyond_the_picture_does_not_count() -> None:
    beyond = (50.0, 0.0, 150.0, 0.0, 150.0, 100.0, 50.0, 100.0)
    assert scores(TextEvidence(100, 100, (beyond,), (1,)))["area_fraction"] == pytest.approx(0.5)


def test_importing_the_filter_loads_no_heavy_library() -> None:
    heavy = ("torch", "easyocr", "cv2", "onnxruntime")
    probe = f"import sys, filters.text; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@with_craft
def test_words_are_found_where_they_stand_and_their_characters_counted() -> None:
    evidence = measured(written("HELLO WORLD"))
    assert sum(evidence.num_characters) == pytest.approx(10, abs=2)
    corners = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in evidence.polygons])
    assert corners.min(axis=0) == pytest.approx((32, 90), abs=14)
    assert corners.max(axis=0) == pytest.approx((270, 120), abs=30)


@with_craft
def test_measuring_imports_no_torch() -> None:
    probe = """
import json, sys, numpy as np
from filters import text
built = text.build(text.Measure(canvas_side=64), "cpu")
built.measure([np.zeros((64, 48, 3), np.uint8)])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not {"torch", "easyocr", "skimage", "scipy"} & set(json.loads(done.stdout))


@pytest.mark.slow
@with_craft
@pytest.mark.parametrize(
    ("runtime", "dtype", "pixels"),
    [
        ("torch", "float32", 0.01),
        ("onnxruntime", "int8", 4),
        pytest.param("openvino", "float32", 0.01, marks=with_openvino),
        pytest.param("openvino", "bfloat16", 4, marks=with_openvino),
    ],
)
def test_every_runtime_sees_what_onnxruntime_sees(runtime: str, dtype: str, pixels: float) -> None:
    image = written("HELLO WORLD")
    if dtype == "bfloat16" and not _has_bfloat16():
        with pytest.raises(DeviceError, match="does not compute in bfloat16: choose float32"):
            measured(image, runtime=runtime, dtype=dtype)
        return
    one, other = measured(image), measured(image, runtime=runtime, dtype=dtype)
    assert one.num_characters == other.num_characters
    assert np.array(one.polygons) == pytest.approx(np.array(other.polygons), abs=pixels)


def _has_bfloat16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_a_dtype_that_the_runtime_has_not_is_an_error_of_the_recipe() -> None:
    with pytest.raises(ValidationError, match="onnxruntime computes in float32 and float16, not in bfloat16"):
        text.Measure(dtype="bfloat16")
    with pytest.raises(ValidationError, match="openvino does not compute in int8; onnxruntime does"):
        text.Measure(runtime="openvino", dtype="int8")
    assert text.Measure(runtime="openvino", dtype="bfloat16").dtype_of_finder == "bfloat16"
    assert text.Measure(dtype="int8", spots=text.Spots()).dtype_of_finder == "float32"


def test_weights_whose_ranges_are_not_known_do_not_run_in_eight_bits(tmp_path: Path) -> None:
    other = tmp_path / "finetuned.pth"
    other.write_bytes(b"other weights")
    with pytest.raises(WeightsError, match="choose dtype float32 for other weights"):
        craft_int8_export.write(str(other), str(tmp_path / "eight.onnx"))


@pytest.mark.slow
@with_craft
def test_a_damaged_export_is_made_anew_and_comes_out_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(written("HELLO"))
    exports = cache_folder().parent / "exports"
    (whole,) = exports.glob(f"craft-*-v{EXPORTER_VERSION}-torch{version('torch')}-*.onnx")
    folder = tmp_path / "facecaptionhq/exports"
    folder.mkdir(parents=True)
    shutil.copy(whole, folder)
    (folder / whole.name).write_bytes(whole.read_bytes()[:-1])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    anew = text.build(text.Measure(canvas_side=320), "cpu")
    assert anew.measure([solid((0, 0, 0), 64, 64)])[0].polygons == ()
    assert sorted(file.name for file in folder.iterdir()) == [whole.name, "lock", "optimised"]
    assert (folder / whole.name).read_bytes() == whole.read_bytes()


@pytest.mark.slow
@with_craft
def test_polygons_are_in_pixels_of_the_picture_whatever_the_canvas() -> None:
    image = written("LARGE WORDS", 512, 640)
    whole, shrunk = (scores(measured(image, canvas_side=side))["area_fraction"] for side in (640, 320))
    assert whole == pytest.approx(shrunk, rel=0.2)


@with_craft
@pytest.mark.parametrize("image", [solid((200, 30, 30), 96, 64), solid((0, 0, 0), 64, 64), noise(1, 40, 90)])
def test_pictures_without_text_have_no_region(image: RgbImage) -> None:
    assert measured(image).polygons == ()


@with_craft
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 3)])
def test_odd_shapes_have_no_region_and_raise_nothing(shape: tuple[int, int]) -> None:
    assert measured(noise(2, shape[1], shape[0])).polygons == ()


@pytest.mark.slow
@with_craft
def test_regions_do_not_depend_on_the_rest_of_the_batch() -> None:
    detector = text.build(text.Measure(canvas_side=320), "cpu")
    pictures = [written("FIRST"), solid((9, 9, 9), 64, 48), written("SECOND", 200, 300)]
    assert detector.measure(pictures) == [detector.measure([picture])[0] for picture in pictures]


def lettered_corner() -> RgbImage:
    """Words in a corner of a picture that holds nothing else."""
    image = np.full((640, 480, 3), (230, 228, 220), np.uint8)
    image[:128, :320] = written("HELLO WORLD")[40:168]
    return image


SPOTS = {"side": 480, "margin_px": 32}


@pytest.mark.slow
@with_craft
@with_ppocr
def test_spots_show_what_the_whole_picture_shows() -> None:
    image = lettered_corner()
    whole, spots = measured(image, canvas_side=640), measured(image, canvas_side=640, spots=SPOTS)
    assert sum(whole.num_characters) >= 8
    assert sum(spots.num_characters) == sum(whole.num_characters)
    assert scores(spots)["area_fraction"] == pytest.approx(scores(whole)["area_fraction"], rel=0.1)


@with_craft
def test_craft_sees_nothing_outside_the_spots() -> None:
    settings = text.Measure(canvas_side=320)
    craft = Craft(
        find_weights(settings.weights), canvas_side=320, mag_ratio=1.0, text_threshold=0.7, link_threshold=0.4,
        low_text=0.4, runtime=settings.runtime, dtype=settings.dtype, device="cpu",
    )  # fmt: skip
    image = written("HELLO WORLD")
    whole, nowhere, left = craft.detect_all([image] * 3, [[(0, 0, 320, 256)], [], [(0, 60, 100, 140)]], 0)
    assert sum(region.num_characters for region in whole) == pytest.approx(10, abs=2)
    assert nowhere == ()
    assert 0 < max(max(region.polygon[::2]) for region in left) < 160


def test_torch_with_spots_is_an_error_of_the_recipe() -> None:
    with pytest.raises(ValidationError, match="torch cannot run what finds spots"):
        text.Measure(runtime="torch", spots=text.Spots())


@with_craft
@with_ppocr
def test_a_picture_without_text_has_no_region_at_its_spots() -> None:
    assert measured(solid((200, 30, 30), 96, 64), spots=SPOTS).polygons == ()


@with_craft
@with_ppocr
def test_regions_at_spots_do_not_depend_on_the_rest_of_the_batch() -> None:
    detector = text.build(text.Measure.model_validate({"canvas_side": 320, "spots": SPOTS}), "cpu")
    pictures = [lettered_corner(), solid((9, 9, 9), 64, 48), written("SECOND", 200, 300)]
    assert detector.measure(pictures) == [detector.measure([picture])[0] for picture in pictures]


def test_a_window_that_another_reaches_into_becomes_one_with_it() -> None:
    corner = [(0, 0, 310, 10), (0, 0, 10, 310), (200, 200, 220, 220)]
    assert windows(corner, 1.0, 0, 640, 640) == [(0, 0, 320, 320)]


def test_windows_around_far_spots_stay_apart_and_those_that_meet_are_one() -> None:
    far = windows([(0, 0, 20, 20), (300, 300, 310, 310)], 1.0, 8, 640, 480)
    assert far == [(0, 0, 32, 32), (288, 288, 320, 320)]
    near = windows([(0, 0, 20, 20), (40, 0, 60, 20)], 1.0, 8, 640, 480)
    assert near == [(0, 0, 96, 32)]


coordinates = st.floats(-40, 680)


@given(
    st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=8),
    st.integers(0, 96),
    st.sampled_from([1.0, 0.5, 0.37, 2.0]),
)
def test_windows_hold_every_spot_with_its_margin_and_neither_leave_the_canvas_nor_overlap(
    corners: list[tuple[float, float, float, float]], margin: int, scale: float
) -> None:
    spots = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    found = windows([(a / scale, b / scale, c / scale, d / scale) for a, b, c, d in spots], scale, margin, 640, 480)
    assert not any(intersection_area(one, other) for one, other in combinations(found, 2))
    for window in found:
        assert 0 <= window[0] < window[2] <= 640
        assert 0 <= window[1] < window[3] <= 480
        assert not any(edge % 32 for edge in window)
    for left, top, right, bottom in spots:
        grown = clip((left - margin, top - margin, right + margin, bottom + margin), 640, 480)
        grown = clip((grown[0] + 1e-6, grown[1] + 1e-6, grown[2] - 1e-6, grown[3] - 1e-6), 640, 480)
        if area(grown) > 0:
            assert any(w[0] <= grown[0] and w[1] <= grown[1] and grown[2] <= w[2] and grown[3] <= w[3] for w in found)


@pytest.mark.slow
@with_craft
@with_gold
def test_a_meme_holds_a_large_amount_of_text_and_a_backdrop_does_not() -> None:
    meme = scores(measured(gold("text/memegen_35_spongebob.png"), canvas_side=640))
    backdrop = scores(measured(gold("single/deepface_img2.jpg"), canvas_side=640))
    assert meme["num_characters"] > 20
    assert 1 <= backdrop["num_characters"] <= 10

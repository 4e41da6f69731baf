from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.verdicts import screening
from benchmarks.verdicts.calibrate import Photos
from benchmarks.verdicts.derivatives import mirrored
from benchmarks.verdicts.proofs import Case, case_of, gauges_of, proof_row, settled, stays, with_screens
from benchmarks.verdicts.screening import Gauge, Picture, by_picture, measure
from curation.recipe.filter_plan import FilterPlan
from curation.recipe.joint_scores import Known
from curation.recipe.recipe import load_recipe
from curation.recipe.screens import Proof
from filters import colour
from filters.detectors.base import Face
from filters.detectors.ppocr import MapRegion
from filters.faces import FacesEvidence
from filters.text import TextEvidence
from filters.text_map import TextMapEvidence
from tests.pictures import encode, noise, solid
from tests.places import ROOT

NAME = "facecaptionhq-4m"
BANDS = ROOT / "benchmarks" / "verdicts" / "screens.toml"
MAP = (40, *[0] * 19)
FACE = Face(20, 20, 60, 60, 0.9, (30, 30, 50, 30, 40, 40, 30, 50, 50, 50))


@pytest.fixture
def text() -> FilterPlan:
    return next(one for one in load_recipe(NAME).filters if one.name == "text")


def known(left: float, top: float, length: float = 40) -> Known:
    """A face in a picture of 100 x 100 pixels, and a word that CRAFT and every screen see at one place."""
    corners, inside = (
        (left + by, top + by, left + length - by, top + by, left + length - by, top + 7 - by, left + by, top + 7 - by)
        for by in (0, 2)
    )
    seen = TextMapEvidence(100, 100, MAP, (MapRegion(inside, 0.011, 0.9, 0.95),))
    own = TextEvidence(100, 100, (corners,), (4,))
    faces = FacesEvidence(100, 100, (FACE,))
    return {"text": own, "faces": faces, "text_screen": seen, "text_screen_2": seen, "text_screen_3": own}


def test_the_recipe_has_the_screens_that_are_held_against_the_filter() -> None:
    recipe = load_recipe(NAME)
    assert with_screens(recipe, BANDS).digest == recipe.digest


def test_other_screens_take_the_place_of_the_recipes_own(tmp_path: Path) -> None:
    file = tmp_path / "bands.toml"
    file.write_text(
        '[[filters]]\nname = "text"\n[[filters.screens]]\nfilter = "text_map"\nmeasure = { side = 256 }\n'
        "[[filters.screens.proofs]]\nwhen.num_glyphs = { max = 1 }\nthen.text_prominence = { max = 1 }\n"
    )
    recipe = with_screens(load_recipe(NAME), file)
    plan = next(one for one in recipe.filters if one.name == "text")
    gauges = gauges_of(recipe, plan, {"canvas_side": 320})
    assert {name: one.name for name, one in gauges.items()} == {
        "text": "text",
        "text_screen": "text_map",
        "faces": "faces",
    }
    assert gauges["text_screen"].measure.model_dump()["side"] == 256
    assert gauges["text"].measure.model_dump()["canvas_side"] == 320


def test_a_word_beside_the_face_is_proven_to_stay_at_its_spot_and_one_across_it_is_left_to_the_filter(
    text: FilterPlan,
) -> None:
    beside, across = (case_of("single/one.png", known(*place), text) for place in ((55, 80), (20, 34)))
    assert settled(beside, text, text.screens[:2]) is None, "by either map it may be too prominent"
    assert settled(beside, text, text.screens) is True and stays(beside, text)
    assert settled(across, text, text.screens) is None and not stays(across, text)
    assert settled(beside, text, ()) is None, "without screens the filter must look"


def test_where_there_is_no_face_nothing_lies_across_it(text: FilterPlan) -> None:
    bare = {**known(30, 34, length=32), "faces": FacesEvidence(100, 100, ())}
    assert settled(case_of("noface/one.png", bare, text), text, text.screens) is True


def test_a_proof_is_told_apart_by_photos_and_lettering_with_the_photo_that_is_nearest() -> None:
    proof = Proof.model_validate({"when": {"num_glyphs": {"max": 10}}, "then": {"num_characters": {"max": 10}}})
    rows = [
        ("single/a", 2, 0),
        ("single/b", 12, 9),
        ("text/c", 14, 20),
        ("text/d", 30, 40),
        ("single lettered/e#0", 9, 12),
        ("single lettered/f#1", 3, 4),
    ]
    cases = [Case(name, {}, {"num_characters": true}, ({"num_glyphs": seen},)) for name, seen, true in rows]
    found = proof_row(proof, cases, 0)
    assert (found["photos"]["spoken_of"], found["photos"]["contradicted_by"]) == (1, [])
    assert (found["lettered"]["spoken_of"], found["lettered"]["contradicted_by"]) == (2, ["single lettered/e#0"])
    assert found["nearest"]["num_glyphs"] == (14, "text/c")
    moved = {row["max"]: (row["photos"], row["lettered"]) for row in found["moved"]["num_glyphs"]}
    assert moved[10] == ([0, 1], [1, 2])
    assert moved[15] == ([1, 3], [1, 2])
    assert moved[8] == ([0, 1], [0, 1])


def test_evidence_is_kept_until_the_pixels_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "CACHE", tmp_path / "cache")
    (tmp_path / "images").mkdir()
    photo, photos = tmp_path / "images/one.png", Photos(tmp_path)
    gauge = Gauge("colour", colour, colour.Measure())
    pictures = [
        Picture("single", "one.png"),
        Picture("single mirrored", "one.png", mirrored),
    ]

    def scores() -> list[float]:
        assert list(measure(photos, pictures, [gauge])) == [one.name for one in pictures]
        found = by_picture({"colour": gauge}, [one.name for one in pictures])
        return [colour.scores(one["colour"], colour.Score())["mean_channel_std"] for one in found.values()]

    photo.write_bytes(encode(noise(1), "png"))
    first = scores()
    lines = gauge.cache.read_text().count("\n")
    assert scores() == first and gauge.cache.read_text().count("\n") == lines == 2
    pictures[1] = replace(pictures[1], change=lambda image: solid((90, 90, 90)))
    assert scores() == [first[0], 0.0]
    assert gauge.cache.read_text().count("\n") == 3

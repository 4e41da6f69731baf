"""What is said of recipes over labelled photos: evidence is kept, wrong verdicts are explained, slices are compared."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled
from benchmarks.verdicts.wider import BEFORE, Judged, carried, figures, judged, wrong
from curation.intervals import katz
from curation.recipe.judge import Verdict
from curation.recipe.recipe import load_recipe, recipe_of
from tests.pictures import encode, solid

COLOUR: dict[str, Any] = {
    "schema_version": 1,
    "name": "colour-alone",
    "filters": [{"name": "colour", "keep": {"mean_channel_std": {"min": 0.5}}}],
}


def grey(folder: Path) -> Labelled:
    file = folder / "grey.png"
    file.write_bytes(encode(solid((90, 90, 90)), "PNG"))
    return Labelled(file, "single", ("glasses",), "somewhere", "ab" * 32)


def test_evidence_is_measured_once_per_photo_and_measurement_key(tmp_path: Path) -> None:
    photo, folder = grey(tmp_path), tmp_path / "kept"
    seen = judged(Judge(recipe_of(COLOUR, "here"), folder), photo, "gold", {}, True)
    assert seen.verdict == Verdict("colour", "mean_channel_std_low")
    assert seen.scores == {
        "colour.mean_channel_std": {"score": 0.0, "keep": {"min": 0.5}, "fails": True, "proved_by": None}
    }

    (kept,) = folder.rglob("*.json")
    values = json.loads(kept.read_text())
    kept.write_text(json.dumps({**values, "mean_channel_std": 9.0}))
    assert judged(Judge(recipe_of(COLOUR, "here"), folder), photo, "gold", {}, True).verdict.kept
    other = {**COLOUR, "filters": [{**COLOUR["filters"][0], "measure": {"chroma_floor": 11}}]}
    assert not judged(Judge(recipe_of(other, "here"), folder), photo, "gold", {}, True).verdict.kept


def test_figures_name_every_wrong_verdict_and_compare_each_slice_with_the_rest() -> None:
    def one(number: int, label: str, tags: str, verdict: Verdict) -> Judged:
        photo = Labelled(Path(f"{number}.jpg"), label, tuple(tags.split()), "s", f"{number:064x}")
        return Judged(photo, "gold", verdict, {})

    lost, kept = Verdict("faces", "num_faces_low"), Verdict()
    photos = [one(n, "single", "mask" if n < 20 else "", lost if n < 10 or n == 50 else kept) for n in range(100)]
    photos += [one(200, "anime", "painting", kept), one(201, "anime", "sketch", Verdict("drawn", "drawn_logit_high"))]
    found = figures(photos)
    assert found["by_label"]["single"] == {"faces": 11, "kept": 89}
    assert found["kept_by_kind"]["painting"]["hits"] == 1 and found["kept_by_kind"]["sketch"]["hits"] == 0
    assert found["single_by_tag"]["mask"]["rejected"] == 10 and found["single_by_tag"]["mask"]["unequal"]
    assert not found["single_by_tag"]["glasses"]["unequal"]
    assert [(one["file"], one["verdict"]) for one in wrong(photos)][-2:] == [
        ("gold/50.jpg", "faces"),
        ("gold/200.jpg", "kept"),
    ]


def test_figures_that_are_taken_over_name_the_commit_that_measured_them() -> None:
    before = {"commit": "b", "recipes": {"mine": {"n": 1}, "literal": {"n": 2}, "older": {"n": 3, "commit": "a"}}}
    found = carried(before, {"mine": {"n": 4}})
    assert found == {"literal": {"n": 2, "commit": "b"}, "older": {"n": 3, "commit": "a"}}


@pytest.mark.parametrize(
    ("hits", "trials", "expected"),
    [
        ((10, 5), (100, 100), (1.909, 0.7066, 5.158)),
        ((0, 0), (10, 10), (1.0, 0.02181, 45.85)),
        ((3, 0), (9, 0), (1.0, 0.0, math.inf)),
    ],
)
def test_a_ratio_of_shares_has_an_interval_that_turns_over_with_it(
    hits: tuple[int, int], trials: tuple[int, int], expected: tuple[float, float, float]
) -> None:
    ratio, low, high = katz(hits, trials)
    assert (ratio, low, high) == pytest.approx(expected, rel=1e-3)
    if 0 not in trials:
        turned = katz((hits[1], hits[0]), (trials[1], trials[0]))
        assert turned == pytest.approx((1 / ratio, 1 / high, 1 / low))


def test_the_recipe_that_stands_for_before_can_still_be_read() -> None:
    assert "drawn" not in {plan.name for plan in load_recipe(BEFORE).filters}

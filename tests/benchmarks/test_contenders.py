import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import provenance
from benchmarks.pictures.corpus import build
from benchmarks.speed import throughput, workers
from benchmarks.speed.contenders import ON_THE_HOUSE, TONING, Ours, Outcome
from benchmarks.speed.floor import Floor
from benchmarks.speed.obvious import Obvious
from benchmarks.speed.workers import Worker
from benchmarks.variants import SAME_EVIDENCE, variant
from benchmarks.verdicts import agreement
from benchmarks.verdicts.derivatives import captioned, shrunk
from curation import version
from curation.errors import UsageError
from curation.recipe.recipe import load_recipe
from curation.sandbox.parent import CELL
from filters.weights import find_weights
from tests.curation.poisoned import poison_recipe, poisoned_shard, use_third_party
from tests.filters.marks import astronaut, with_craft, with_gold, with_models
from tests.pictures import encode, solid
from tests.third_party.poison import SEGFAULT

NAME = "facecaptionhq-4m"
COLOUR_AND_FACES = """
schema_version = 1
name = "colour-and-faces"
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 0.5 }
keep.toning_residual = { min = 4.2 }
[[filters]]
name = "faces"
measure = { side = 320 }
keep.num_faces = { min = 1, max = 1 }
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "colour-and-faces.toml"
    path.write_text(COLOUR_AND_FACES)
    return str(path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "small"
    build(Path(os.environ["FACECAPTIONHQ_GOLD"]), folder, num_photos=12, seed=3)
    return folder


@pytest.mark.slow
@with_models
@with_craft
def test_the_engine_with_the_same_evidence_sees_what_the_obvious_pipeline_sees() -> None:
    """So that between the two only order and runtimes differ, as the evidence-preserving factor claims."""
    obvious, ours = (
        Obvious(load_recipe(NAME)),
        Ours(variant(f"{';'.join((NAME, *SAME_EVIDENCE))};curate.measure='all'")),
    )
    for picture in (shrunk(astronaut(), 320), captioned(shrunk(astronaut(), 320))):
        image_bytes = encode(picture, "png")
        one, other = obvious.examine(image_bytes), ours.examine(image_bytes)
        assert (one.rejected_by, one.reason) == (other.rejected_by, other.reason)
        assert one.scores.keys() <= other.scores.keys()
        for name, scores in one.scores.items():
            decided = {
                score: value for score, value in scores.items() if score not in {"chromatic_share", "hue_spread_deg"}
            }
            assert decided == pytest.approx({score: other.scores[name][score] for score in decided}, rel=0.02, abs=1e-3)


@pytest.mark.slow
@with_models
@with_craft
def test_the_obvious_pipeline_stops_at_the_first_rejection_and_judges_stored_evidence_again() -> None:
    obvious = Obvious(load_recipe(NAME))
    grey = obvious.examine(encode(solid((90, 90, 90), 64, 64), "png"))
    assert (grey.rejected_by, grey.reason) == ("colour", "mean_channel_std_low")
    assert set(grey.seconds) == {"decode", "colour", TONING}
    assert obvious.examine(b"never looked at", grey) == grey


@with_models
def test_a_keep_range_that_the_obvious_pipeline_cannot_judge_is_refused(recipe_file: str) -> None:
    with pytest.raises(UsageError, match="filter colour: chromatic_share is not measured here"):
        Obvious(variant(f"{recipe_file};colour.keep.chromatic_share.min=0.1"))


@with_models
@pytest.mark.parametrize("side", [Obvious, Ours])
def test_what_was_kept_under_another_version_of_a_library_is_not_taken_again(
    side: Any, recipe_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = side(load_recipe(recipe_file)).key
    assert side(load_recipe(recipe_file)).key == before
    monkeypatch.setattr(provenance, "runtime", lambda: {**version.runtime(), "onnxruntime": "0"})
    assert side(load_recipe(recipe_file)).key != before


@with_models
def test_weights_are_told_apart_by_their_bytes() -> None:
    here = provenance.surroundings("lbpcascade_animeface")
    assert here["lbpcascade_animeface"] == find_weights("lbpcascade_animeface").sha256
    assert {"easyocr", "torch", "opencv-python-headless", "pillow"} <= here.keys()


@with_models
def test_the_floor_decodes_and_looks_for_faces_and_judges_nothing() -> None:
    found = Floor().examine(encode(astronaut(), "jpg"))
    assert found.kept
    assert set(found.seconds) == {"decode", "faces"}
    assert all(seconds > 0 for seconds in found.seconds.values())


@pytest.mark.slow
@with_models
@with_gold
def test_throughput_measures_the_obvious_pipeline_ours_the_floor_and_a_whole_shard(
    corpus: Path, recipe_file: str, tmp_path: Path
) -> None:
    out = tmp_path / "throughput.json"
    options = ["--recipe", recipe_file, "--ours", f"mine={recipe_file}", "--num-photos", "6", "--shard-photos", "8"]
    assert throughput.main([str(corpus), *options, "--least-seconds", "0.4", "--out", str(out)]) == 0
    found = json.loads(out.read_text())["small"]
    assert set(found["contenders"]) == {"obvious", "mine", "floor"}
    passes = {name: one["cpu_ms_per_picture_by_pass"] for name, one in found["contenders"].items()}
    assert all(sum(milliseconds) * 6 >= 400 > sum(milliseconds[:-1]) * 6 for milliseconds in passes.values())
    for one in found["contenders"].values():
        charged = {name: stage for name, stage in one["stages"].items() if name not in ON_THE_HOUSE}
        staged = sum(stage["ms_per_picture"] for stage in charged.values())
        assert 0.8 * one["cpu_ms_per_picture"] < staged <= 1.001 * one["cpu_ms_per_picture"]
    assert set(found["ratios"]) == {"obvious / mine", "mine / floor"}
    assert found["shard"]["num_seen"] == 8
    assert all(process["peak_mib"] > 50 for process in found["processes"].values())


def test_a_worker_whose_contender_cannot_be_built_says_so_and_is_gone(tmp_path: Path) -> None:
    worker = Worker.measuring("mine", "no-such-recipe", core=max(os.sched_getaffinity(0)))
    with pytest.raises(RuntimeError, match="mine: its process ended"):
        worker.ask(tmp_path / "never-read.tar")
    worker.end()
    assert not worker.is_alive


@pytest.mark.slow
def test_a_shard_whose_cell_was_replaced_has_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU time of the one before would be missing."""
    use_third_party(monkeypatch)
    CELL.close()
    curating = workers._curating(poison_recipe(tmp_path).path)
    harmless, deadly = (
        poisoned_shard(tmp_path / "in", name, numbers) for name, numbers in (("0", [0, 0]), ("1", [0, SEGFAULT]))
    )
    try:
        assert [curating(harmless).num_kept for _ in range(2)] == [2, 2]
        with pytest.raises(RuntimeError, match="its cell was replaced"):
            curating(deadly)
    finally:
        CELL.close()


def test_a_ratio_is_of_sums_and_its_interval_holds_it() -> None:
    over, under = np.array([10.0, 20, 90]), np.array([1.0, 2, 3])
    found = throughput.ratio(over, under, seed=1)
    low, high = found["bootstrap_95"]
    assert found["ratio"] == 20
    assert low < 20 < high <= 30
    assert throughput.ratio(2 * under, under, seed=1)["bootstrap_95"] == [2, 2]


def test_the_hit_rate_counts_what_the_screens_spared_their_filter_and_nobody_else_rejected() -> None:
    def seen(*names: str, by: str | None = None) -> Outcome:
        return Outcome(by, scores={name: {} for name in names})

    outcomes = [
        seen("colour", "text_screen"),
        seen("colour", "text_screen", by="text"),
        seen("colour", "text_screen", "text"),
        seen("colour", "text_screen", by="faces"),
        seen("colour", by="colour"),
    ]
    found = throughput.screens(outcomes, NAME)
    assert set(found) == {"text"}
    assert (found["text"]["seen"], found["text"]["spared"]) == (3, 2)
    assert found["text"]["screens"] == {"text_screen": 3}


@pytest.mark.slow
@with_models
@with_gold
def test_agreement_lists_every_difference_and_goes_on_from_what_is_kept(
    corpus: Path, recipe_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agreement, "CACHE", tmp_path / "cache")
    sides, out = [f"{recipe_file};colour.keep.mean_channel_std.min=255.0", recipe_file], tmp_path / "agreement.json"
    arguments = [str(corpus), "--sides", *sides, "--num-photos", "12", "--out", str(out)]
    assert agreement.main(arguments) == 0
    (found,) = json.loads(out.read_text()).values()
    kept = found["against_the_labels"][1]["precision"]["of"]
    assert 0 < kept == len(found["differences"])
    assert found["equal_verdicts"]["hits"] == 12 - kept
    assert all(
        [side["verdict"] for side in one["sides"]] == ["colour mean_channel_std_low", "kept"]
        for one in found["differences"]
    )
    assert all(Path(side["evidence"]).is_file() for one in found["differences"] for side in one["sides"])
    of_kind = found["equal_verdicts_by_kind"]
    assert of_kind.keys() <= {"photos", "toned", "drawn text", "marks"}
    assert sum(share["of"] for share in of_kind.values()) == 12
    assert sum(share["hits"] for share in of_kind.values()) == 12 - kept
    assert "in_sample" in found
    assert found["differences"][0]["key"] in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.json")}
    assert len(times) == 24
    assert agreement.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.json")} == times
    (again,) = json.loads(out.read_text()).values()
    assert again["differences"] == found["differences"]


def test_kinds_of_the_corpus_come_to_photos_toned_ones_drawn_text_and_marks() -> None:
    kinds = ("photo", "grey", "faint_tone", "meme latin strong", "tiled greek faint", "mark latin faint")
    told = ["photos", "toned", "toned", "drawn text", "drawn text", "marks"]
    assert [agreement.made(kind) for kind in kinds] == told


@with_models
@with_gold
def test_two_sides_that_are_one_are_refused(corpus: Path, recipe_file: str) -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        agreement.main([str(corpus), "--sides", recipe_file, recipe_file])

"""An evaluation from files to a table, with real detectors and recognisers, and tiny CLIP and DINO."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from curation.errors import UsageError, WeightsError
from facemakeup.data.sidecar import Name, Sidecar
from facemakeup.evaluation.evaluate import PAGE, RECORD, evaluate
from facemakeup.evaluation.settings import load_evaluation
from filters.pulling import pull
from filters.weights import entry_of, sha256_of
from tests.facemakeup.evaluation import networks
from tests.filters.marks import astronaut, with_models

pytestmark = [with_models, pytest.mark.slow]

MODELS = Path(os.environ.get("FACECAPTIONHQ_MODELS", ""))
SETTINGS = """
[set]
name = "Unsplash-Face"
manifest = "manifest.csv"
training_index = "index.parquet"
training_identities = "cache/{people}"

[[methods]]
name = "copies"
images = "copies"
recogniser = "mobilefacenet_insightface_128d"

[methods.facts]
steps = 50

[[methods]]
name = "noise"
images = "noise"

[judges]
recognisers = ["mobilefacenet_insightface_128d"]
compat_recogniser = "mobilefacenet_insightface_128d"
clip = {{ source = "{clip}" }}
dino = {{ source = "{dino}" }}

[faces]
accept_noncommercial = true
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three references of three people, of whom one has two photos and one has no face; pictures of two methods."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("FACECAPTIONHQ_MODELS", str(MODELS))
        pull("mobileface", accept=True, mirror=str(MODELS / "judges"))
        face = astronaut()[:320, 60:380]
        noise = np.random.default_rng(0).integers(0, 256, face.shape, np.uint8)
        photos = {"ann": face, "ann2": face[:, ::-1], "bob": face[..., ::-1], "cat": noise}
        for name, rgb in photos.items():
            Image.fromarray(rgb).save(folder / f"{name}.png")
        lines = [
            "key,file,identity,role,caption",
            "ann,ann.png,ann,,a red hat",
            "bob,bob.png,bob,,",
            "cat,cat.png,cat,,",
        ]
        (folder / "manifest.csv").write_text("\n".join([*lines, "ann2,ann2.png,ann,other,"]))
        trained = [{"uid": "0" * 32, "sha256": sha256_of(folder / "bob.png")}]
        pq.write_table(pa.Table.from_pylist(trained), folder / "index.parquet")
        for method, made in (("copies", {"ann": face, "cat": noise}), ("noise", dict.fromkeys(("ann", "bob"), noise))):
            (folder / method).mkdir()
            for name, rgb in made.items():
                Image.fromarray(rgb).save(folder / method / f"{name}.png")
        (folder / "noise" / "cat.jpg").write_bytes(b"no picture")
        entry = entry_of("mobilefacenet_insightface_128d")
        people = Sidecar(folder / "cache", "identities", {"name": entry.name, "width": 128, "sha256": entry.sha256})
        people.write("00000", [(Name("f" * 32, 0), "key", np.eye(1, 128, dtype=np.float16)[0])])
        places = {
            "people": people.folder.name,
            "clip": networks.write_clip(folder / "clip"),
            "dino": networks.write_dino(folder / "dino"),
        }
        (folder / "evaluation.toml").write_text(SETTINGS.format(**places))
        yield folder


@pytest.fixture(scope="module")
def made(world: Path) -> tuple[dict[str, Any], str]:
    """The record, and what the command says."""
    line = ["evaluate", str(world / "evaluation.toml"), "--out", str(world / "out"), "--judges", "here"]
    done = CliRunner().invoke(cli.app, line)
    assert done.exit_code == 0, done.output
    page = (world / "out" / PAGE).read_text()
    assert page.strip() in done.stdout
    return json.loads((world / "out" / RECORD).read_text()), page


def cell(record: dict[str, Any], row: str, column: str) -> dict[str, Any]:
    (found,) = [line for line in record["rows"] if line["name"] == row]
    told: dict[str, Any] = found["cells"][column]
    return told


def test_every_cell_accounts_for_every_picture(made: tuple[dict[str, Any], str]) -> None:
    record, _ = made
    cells = [told for row in record["rows"] for told in row["cells"].values()]
    assert len(cells) > 50
    assert {told["num"] + sum(told["failures"].values()) for told in cells} == {3}


def test_a_copy_scores_what_the_pasted_reference_does_and_what_is_missing_is_said(
    made: tuple[dict[str, Any], str],
) -> None:
    record, _ = made
    for row in ("copies", "the pasted reference"):
        for column in ("CLIP-I", "DINO", "FaceSim (mobileface)", "FaceSim (mobilefacenet_insightface_128d)"):
            assert cell(record, row, column)["value"] == pytest.approx(100, abs=1e-3)
        assert cell(record, row, "Copy-paste (mobileface)")["value"] == pytest.approx(1.0, abs=1e-3)
    assert cell(record, "copies", "CLIP-I")["failures"] == {"missing": 1}
    assert cell(record, "copies", "CLIP-T")["failures"] == {"missing": 1, "no_prompt": 1}
    assert cell(record, "noise", "DINO")["failures"] == {"unreadable": 1}
    face = cell(record, "copies", "FaceSim (mobileface)")
    assert face["failures"] == {"missing": 1, "no_face": 1} and face["details"]["detection_rate"] == 0.5
    assert cell(record, "a stranger", "CLIP-I")["value"] < 100


def test_a_judge_that_conditions_the_method_is_flagged_there_alone(made: tuple[dict[str, Any], str]) -> None:
    record, _ = made
    column = "FaceSim (mobilefacenet_insightface_128d)"
    assert cell(record, "copies", column)["warnings"] and not cell(record, "noise", column)["warnings"]
    assert not cell(record, "copies", "FaceSim (mobileface)")["warnings"]
    assert cell(record, "copies", f"{column[:-1]}, compat)")["variant"] == "compat"


def test_the_record_says_what_was_judged_by_whom_and_what_is_not_here(made: tuple[dict[str, Any], str]) -> None:
    record, page = made
    assert {judge["name"]: judge["kind"] for judge in record["judges"]} == {
        "clip": "stand-in", "dino": "stand-in", "mobilefacenet_insightface_128d": "real", "mobileface": "held-out",
    }  # fmt: skip
    assert {judge["name"] for judge in record["judges"] if "size" in judge} == {"clip", "dino"}
    assert sum("NOT the size of the published rows' judge" in note for note in record["notes"]) == 2
    assert all(len(judge["sha256"]) == 64 for judge in record["judges"])
    absent = {entry["name"]: entry["how"] for entry in record["absent"]}
    unknown = {"fid_inception", "celeba_attributes", "vlm"}
    assert set(absent) == unknown | {"faceres", "emotion", "nsfwjs_inception_v3_mixed5"}
    assert (
        "models add FILE --name fid_inception" in absent["fid_inception"] and "models pull faceres" in absent["faceres"]
    )
    assert record["published"]["rows"]["InstantID"][3] == 71.2
    assert any("50 references, this set 3" in note for note in record["notes"])
    assert "Trained on: bob." in record["notes"]
    assert record["leakage"]["not_looked_by"] == ["phash"]
    assert set(record["leakage"]["nearest"]) == {"ann", "bob"} and record["leakage"]["threshold"] is not None
    assert not any(leak["by"] == "identity" for leak in record["leakage"]["leaks"])
    own = record["calibrations"]["face/mobileface"]
    assert own["num_same"] == 1 and own["same"] > own["different"]
    assert "scored again by its authors" in page and "*a stranger*" in page
    assert record["rows"][0]["facts"]["steps"] == 50 and len(record["rows"][0]["facts"]["pictures_sha256"]) == 64


def test_judges_that_are_missing_stop_an_evaluation_unless_it_may_go_on(world: Path) -> None:
    settings = load_evaluation(world / "evaluation.toml")
    with pytest.raises(WeightsError, match=r"(?s)judges are not here.*fid_inception.*VLM-score"):
        evaluate(settings, world, world / "other")
    assert not (world / "other").exists()


def test_a_folder_without_pictures_of_the_protocol_says_what_they_are_called(world: Path) -> None:
    settings = load_evaluation(world / "evaluation.toml").model_copy(update={"protocol": "P20"})
    with pytest.raises(UsageError, match=r"copies holds not one picture of the protocol; they are called ann_001\.png"):
        evaluate(settings, world, world / "other", "here")


def test_an_evaluation_is_not_written_over(world: Path, made: tuple[dict[str, Any], str]) -> None:
    with pytest.raises(UsageError, match="holds an evaluation already"):
        evaluate(load_evaluation(world / "evaluation.toml"), world, world / "out", "here")

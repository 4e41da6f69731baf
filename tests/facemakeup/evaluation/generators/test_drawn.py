"""From a configuration with five methods to a table and a page."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from curation.errors import UsageError
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.evaluate import HTML, PAGE, RECORD
from facemakeup.evaluation.pictures import _Log
from facemakeup.faults import SampleFaultError
from filters.base import RgbImage
from tests.filters.marks import with_centerface

METHODS = ["Face-MakeUp", "IP-Adapter", "PhotoMaker", "InstantID", "PuLID"]
COLUMNS = {"CLIP-T", "CLIP-I", "DINO"}


def grey(level: int, calls: list[int]) -> RgbImage:
    calls.append(level)
    return np.full((8, 8, 3), level, np.uint8)


def test_drawing_goes_on_where_it_was_interrupted_and_draws_anew_what_is_made_of_something_else(tmp_path: Path) -> None:
    calls: list[int] = []
    log = _Log(tmp_path, {"steps": 2})
    log.picture("a", "of-a", partial(grey, 1, calls))
    log.picture("b", "of-b", partial(grey, 2, calls))
    (tmp_path / "b.png").write_bytes(b"torn")
    with (tmp_path / "drawn.jsonl").open("a") as file:
        file.write('{"stem": "c", "made')
    again = _Log(tmp_path, {"steps": 2})
    for stem, made_of, level in (("a", "of-a", 3), ("b", "of-b", 4), ("a", "of-other", 5)):
        again.picture(stem, made_of, partial(grey, level, calls))
    assert calls == [1, 2, 4, 5] and again.seconds_per_picture >= 0
    with pytest.raises(UsageError, match="drawn otherwise"):
        _Log(tmp_path, {"steps": 3})


def test_what_cannot_be_drawn_is_a_failure_by_its_reason(tmp_path: Path) -> None:
    def fails() -> RgbImage:
        raise SampleFaultError("no_embedding", "length 0")

    assert _Log(tmp_path, {}).picture("a", "x", partial(fails)) == Failure("no_embedding")


@pytest.fixture(scope="module")
def record(evaluation: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of an evaluation, with its pages."""
    out = tmp_path_factory.mktemp("scores") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(out.with_name("cache")))
        line = ["evaluate", str(evaluation), "--out", str(out), "--judges", "here"]
        done = CliRunner().invoke(cli.app, line)
    assert done.exit_code == 0, (done.output, done.exception)
    told: dict[str, Any] = json.loads((out / RECORD).read_text())
    return {**told, "page": (out / PAGE).read_text(), "html": (out / HTML).read_text()}


@pytest.mark.slow
@with_centerface
def test_five_methods_their_bases_and_real_photos_stand_in_one_table(record: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in record["rows"]}
    assert [row["name"] for row in record["rows"] if not row["anchor"]] == METHODS
    anchors = [row["name"] for row in record["rows"] if row["anchor"]]
    assert {"the pasted reference", "another photo of the person", "a stranger"} < set(anchors)
    assert "base of Face-MakeUp alone" in anchors and "base of InstantID alone" in anchors
    for name in METHODS:
        cells = rows[name]["cells"]
        assert set(cells) > COLUMNS
        assert cells["CLIP-I"]["num"] == 2 and cells["CLIP-I"]["failures"] == {"no_face_in_reference": 1}
        facts = rows[name]["facts"]
        for fact in ("checkpoint", "base", "native_size", "scored_size", "sampler", "steps", "guidance", "scales",
                     "prompt_as_fed", "seeds", "seconds_per_picture", "recogniser"):  # fmt: skip
            assert fact in facts, (name, fact)
        assert len(facts["checkpoint_sha256"]) == 64 and facts["scored_size"] == "64x64"
        assert name == METHODS[0] or "first_minus_this" in cells["CLIP-I"]
    assert rows["base of Face-MakeUp alone"]["cells"]["CLIP-I"]["num"] == 3
    assert "checkpoint" not in rows["base of InstantID alone"]["facts"]
    assert sum("NOT the published weights" in note for note in record["notes"]) == 4
    assert "tiny and random" in record["note"] and f"**{record['note']}**" in record["page"]
    assert "## Places, and the difference to Face-MakeUp" in record["page"] and "## Methods" in record["page"]


@pytest.mark.slow
@with_centerface
def test_the_page_shows_every_method_s_pictures_and_loads_and_runs_nothing(record: dict[str, Any]) -> None:
    page = record["html"]
    assert "default-src 'none'; img-src data:" in page
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert page.count("data:image/jpeg;base64,") == 3 + 1 + 2 * len(METHODS) + sum(
        3 for row in record["rows"] if row["name"].startswith("base of")
    )
    assert "no_face_in_reference" in page and "tiny and random" in page
    for name in METHODS:
        assert f"<th>{name}</th>" in page

"""A look at any folder: which recipe looks, what the page shows of whatever form of source, and how it goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.decide.stage import decide
from curation.commands.look.choice import choose
from curation.commands.look.stage import look, run_beside
from curation.commands.look.text import tell, tell_choice
from curation.commands.report.write import asked_of, lost_since, write_report
from curation.dataset.ledger import read_ledger
from curation.errors import WeightsError
from curation.measure.filter_set import lacking_weights
from curation.recipe.recipe import load_recipe
from curation.run.runner import Spread
from tests.curation.shards import RECIPE, colourful, grey, mixed_source, recipe_from
from tests.filters.marks import with_models

TEXT = RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]")
TWO = Spread(num_workers=2)
"""Two workers, and yet no Ray: few pictures are measured in the process itself."""


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Ray was started for a handful of pictures")

    monkeypatch.setattr("curation.run.runner._ray", refuse)


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        (folder / f"c{number}.jpg").write_bytes(colourful(number))
        (folder / f"g{number}.jpg").write_bytes(grey(number))
    (folder / "c0.txt").write_text("A woman in a red coat walks along the river.")
    return folder


def table(folder: Path) -> Path:
    folder.mkdir()
    images = [{"bytes": make(n), "path": None} for n in range(3) for make in (colourful, grey)]
    pq.write_table(pa.table({"image": images}), folder / "train.parquet")
    return folder


def tars(folder: Path) -> Path:
    return mixed_source(folder, 2)


def samples_of(page: Path) -> list[dict[str, Any]]:
    values = json.loads(page.with_name("report.json").read_text())
    return [sample for sheet in values["sheets"] for sample in sheet["samples"]]


@pytest.mark.parametrize("made", [pictures, table, tars])
def test_the_page_shows_who_was_kept_and_who_was_not_whatever_the_form_of_the_source(
    tmp_path: Path, made: Callable[[Path], Path]
) -> None:
    source = made(tmp_path / "some pictures")
    looked = look(source, tmp_path / "run", TWO, recipe=recipe_from(tmp_path, TEXT))
    rejected = [sample for sample in samples_of(looked.page) if sample["reason"] == "mean_channel_std_low"]
    assert len(rejected) >= 3 and {sample["picture"] for sample in rejected} == {"shown"}
    assert "black and white" in rejected[0]["meaning"]
    told = tell(looked, "--recipe mine.toml --set curate.measure=all")
    assert str(looked.page) in told and " --recipe mine.toml --set curate.measure=all --set KEY=VALUE --dry-run" in told
    text = looked.page.read_text()
    assert "as they lay in" in text and str(source) in text
    assert "gathered from the web" not in text and "RUN/fetch" not in text and "1 pictures" not in text


def test_a_picture_of_a_rare_kind_is_a_row_that_says_so_and_what_is_no_picture_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = pictures(tmp_path / "photos")
    rare = {"a.ppm": b"P6 2 2 255 " + bytes(12), "22.05.TGA": bytes(50), "c0.cr2": b"II*\0\x10\0\0\0CR" + bytes(20)}
    for name, content in {**rare, "notes.md": b"x"}.items():
        (source / name).write_bytes(content)
    run = look(source, tmp_path / "run", TWO, recipe=recipe_from(tmp_path, TEXT)).run
    rows = {row["key"]: row["reason"] for row in read_ledger(run / "curate/00000.parquet").to_pylist()}
    assert rows["a"] == "format_pnm" and rows["c0.cr2"] == "format_camera_raw" and "22.05" in rows
    assert rows["c0"] is None and len(rows) == 9, "the JPEG keeps its key beside a raw picture of the same name"
    assert "left out: notes.md" in caplog.text


def test_a_second_look_has_nothing_to_do_and_a_run_that_was_looked_at_can_be_decided_again(tmp_path: Path) -> None:
    source, recipe = pictures(tmp_path / "photos"), recipe_from(tmp_path, TEXT)
    first = look(source, tmp_path / "run", TWO, recipe=recipe)
    page, tar = first.page.read_bytes(), tmp_path / "run" / "curate" / "00000.tar"
    written = tar.stat().st_mtime_ns
    assert look(source, tmp_path / "run", TWO, recipe=recipe).page.read_bytes() == page
    assert tar.stat().st_mtime_ns == written
    (tmp_path / "other").mkdir()
    looser = recipe_from(tmp_path / "other", TEXT.replace("min = 2.0", "min = 0.0"))
    assert decide(tmp_path / "run", looser, TWO).num_kept == 6, "the grey ones were read from where they lay"
    shown = samples_of(write_report(tmp_path / "run"))
    assert len(shown) >= 6 and {sample["picture"] for sample in shown} == {"shown"}


def test_a_report_whose_pictures_are_gone_since_cannot_be_made_again_and_says_so(tmp_path: Path) -> None:
    source = pictures(tmp_path / "photos")
    run = look(source, tmp_path / "run", TWO, recipe=recipe_from(tmp_path, TEXT)).run
    assert lost_since(run) is None and asked_of(run / "report").source is None
    shutil.rmtree(source)
    assert lost_since(run) == "what was curated is not where it was"


def test_without_the_published_weights_the_demo_s_look_and_the_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if lacking_weights(load_recipe("demo")):
        pytest.skip("the packages of the demo are not installed")
    chosen = choose(tmp_path / "curate")
    assert (chosen.recipe.name, chosen.is_begun) == ("demo", False)
    assert chosen.lacking == (("facecaptionhq-4m", ("lbpcascade_animeface", "yolov5n-0.5-face")),)
    told = tell_choice(chosen)
    assert "recipe demo" in told and "lacks lbpcascade_animeface, yolov5n-0.5-face: `facecaptionhq doctor" in told
    with pytest.raises(WeightsError, match="yolov5n-face"):
        choose(tmp_path / "curate", ["published-literal"])


@with_models
def test_with_all_weights_the_published_recipe_looks(tmp_path: Path) -> None:
    chosen = choose(tmp_path / "curate")
    assert (chosen.recipe.name, chosen.lacking) == ("facecaptionhq-4m", ())


@pytest.mark.parametrize(
    ("source", "run"), [("a/photos", "look-photos"), ("a/00012.tar.gz", "look-00012"), ("a/x.parquet", "look-x")]
)
def test_a_look_lies_beside_under_the_name_of_what_is_looked_at(source: str, run: str) -> None:
    assert run_beside(Path(source)) == Path(run)

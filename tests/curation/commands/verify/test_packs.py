"""A run knows its packs by what they were made from, wherever they lie; deciding again makes those of before old."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.packs import superseded_packs
from curation.commands.pack.stage import pack
from curation.commands.report.write import write_report
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import MANIFEST_NAME
from curation.dataset.stages import FORGET
from curation.recipe.recipe import Recipe
from curation.run.derived import DERIVED_FOLDER, register
from curation.run.runner import Spread
from curation.storage.publish import publish_sealed, read_sealed
from tests.curation.shards import recipe_from
from tests.curation.whole_run import RECIPE, write_run

ALONE = Spread(num_workers=0)


def recipe_with(folder: Path, min_std: float) -> Recipe:
    """Return the run's recipe with another threshold; higher ones are judged without a measurement."""
    text = RECIPE.format(top=12, rows_per_part=6, num_shard_samples=4).replace("min = 2.0", f"min = {min_std}")
    return recipe_from(folder, text)


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was packed, decided again, and packed again into a folder elsewhere."""
    folder = tmp_path_factory.mktemp("packs")
    write_run(folder / "run", 12, 6, 4)
    tighter = recipe_with(folder / "tighter", 55.0)
    decide(folder / "run", tighter, ALONE)
    pack(folder / "run" / "curate", folder / "elsewhere" / "pack2", tighter, ALONE)
    return folder


@pytest.fixture
def place(decided: Path, tmp_path: Path) -> Path:
    """A copy of it, elsewhere: what lies beside the run has moved with it."""
    return Path(shutil.copytree(decided, tmp_path / "copy"))


def resealed(path: Path, without: str) -> None:
    """Take a fact out of a manifest, as if a release had written it that did not know of it."""
    values = read_sealed(path)
    assert values["extra"].pop(without)
    publish_sealed(path, values)


def rejected(ledger: Path, uid: str) -> set[str | None]:
    """Return who rejects a picture."""
    return {row["rejected_by"] for row in read_ledger(ledger).to_pylist() if row["uid"] == uid}


def said(run: Path) -> tuple[list[str], list[str]]:
    verification = verify(run, ALONE)
    return [str(fault) for fault in verification.faults], [str(note) for note in verification.notes]


def test_a_pack_of_before_is_named_superseded_and_is_no_fault(place: Path) -> None:
    faults, notes = said(place / "run")
    assert faults == []
    assert [note for note in notes if "superseded" in note] == [note for note in notes if note.startswith("pack/")]
    assert superseded_packs(place / "run") == [place / "run" / "pack"]


def test_so_is_one_that_was_written_and_decided_by_a_release_that_named_no_states(place: Path) -> None:
    resealed(place / "run" / "pack" / MANIFEST_NAME, "made_from")
    resealed(place / "run" / "curate" / MANIFEST_NAME, "superseded")
    faults, notes = said(place / "run")
    assert faults == [] and any(note.startswith("pack/manifest.json: superseded") for note in notes)


def test_the_pack_elsewhere_is_looked_at_from_the_run_and_from_what_it_was_made_from(place: Path) -> None:
    (place / "elsewhere" / "pack2" / "index.parquet").write_bytes(b"rot")
    for asked in (place / "run", place / "run" / "curate"):
        (fault,) = said(asked)[0]
        assert fault.startswith(f"{place}/elsewhere/pack2/index.parquet")


def test_one_that_does_not_hold_what_curate_keeps_is_a_fault_wherever_it_lies(place: Path) -> None:
    path = place / "elsewhere" / "pack2" / MANIFEST_NAME
    publish_sealed(path, {**read_sealed(path), "work_digest": 64 * "0"})
    faults, _ = said(place / "run")
    assert any("pack2/manifest.json: work_digest" in fault for fault in faults)


def test_a_pack_of_another_run_is_not_taken_for_a_superseded_one(place: Path) -> None:
    write_run(place / "other", 9, 6, 4)
    shutil.rmtree(place / "run" / "pack")
    shutil.copytree(place / "other" / "pack", place / "run" / "pack")
    faults, notes = said(place / "run")
    assert any("pack/manifest.json: work_digest" in fault for fault in faults)
    assert not any("superseded" in note for note in notes)


def test_a_pack_that_is_gone_is_a_note_until_its_card_is_removed(place: Path) -> None:
    shutil.rmtree(place / "run" / "curate" / DERIVED_FOLDER)  # names where the folder lay that this is a copy of
    register(place / "run" / "curate", place / "elsewhere" / "pack2", "pack", "state")
    shutil.rmtree(place / "elsewhere")
    faults, notes = said(place / "run")
    (gone,) = [note for note in notes if "is not there" in note]
    assert faults == [] and gone.startswith("curate/_derived/")
    (place / "run" / gone.partition(":")[0]).unlink()
    assert not any("is not there" in note for note in said(place / "run")[1])


def test_a_card_whose_folder_another_stage_took_stops_nobody_and_is_named(place: Path, tmp_path: Path) -> None:
    curated, taken = place / "run" / "curate", place / "elsewhere" / "pack2"
    shutil.rmtree(curated / DERIVED_FOLDER)  # names where the folder lay that this is a copy of
    register(curated, taken, "pack", "state")
    shutil.rmtree(taken)
    curate(place / "run" / "fetch", taken, recipe_from(tmp_path / "again"), ALONE)
    faults, notes = said(place / "run")
    assert faults == [] and any("any more: curate has written there since" in note for note in notes)
    ledger = next(iter(sorted(taken.glob("*.parquet"))))
    uid = read_ledger(ledger, ["uid"])["uid"][0].as_py()
    forget(place / "run", read_requests([uid], "the test"))
    assert said(place / "run")[0] == [] and rejected(ledger, uid) == {FORGET}


def test_the_road_has_an_end_without_the_old_pack_nothing_is_left_to_say(place: Path) -> None:
    shutil.rmtree(place / "run" / "pack")
    assert said(place / "run") == ([], [])


def test_deciding_back_makes_the_first_pack_the_current_one_again(place: Path) -> None:
    decide(place / "run", recipe_with(place / "back", 2.0), ALONE)
    faults, notes = said(place / "run")
    assert faults == []
    assert [note.partition(":")[0] for note in notes if "superseded" in note] == [
        f"{place}/elsewhere/pack2/manifest.json"
    ]


def test_the_report_is_of_the_pack_that_follows_what_is_curated(place: Path) -> None:
    page = write_report(place / "run")
    values: dict[str, Any] = json.loads(page.with_name("report.json").read_text())
    packed = next(stage for stage in values["stages"] if stage["stage"] == "pack")
    assert values["all_hold"] and packed["num_kept"] == read_sealed(place / "elsewhere/pack2/manifest.json")["num_kept"]
    assert values["unfinished"] == ["pack (superseded: made from an earlier state of curate)"]
    assert said(place / "run")[0] == []


def test_why_tells_of_every_pack_that_holds_the_image(place: Path) -> None:
    uid = read_ledger(place / "elsewhere" / "pack2" / "index.parquet")["uid"][0].as_py()
    (story,) = why(place / "run", uid)
    files = [part.file for part in story.stages if part.stage == "pack"]
    assert [Path(str(file)).parts[:-1] for file in files] == [("pack",), (*(place / "elsewhere" / "pack2").parts,)]

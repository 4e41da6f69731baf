"""However a folder is spelled, it is the same folder: its tombstones, its source, its claim, its cards."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.pack.stage import pack
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.dataset.tombstones import Tombstones, write_tombstones
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.folders import stages_of
from curation.run.runner import Spread
from curation.storage.paths import location
from tests.curation.shards import RECIPE, mixed_source, recipe_from

ALONE = Spread(num_workers=0)
TEXT = RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]")
Spelling = Callable[[Path], Path]
"""Makes a name of a stage's folder, from which its run may be elsewhere."""


def from_within(folder: Path) -> Path:
    os.chdir(folder)
    return Path()


def from_below(folder: Path) -> Path:
    (folder.parent / "deep" / "er").mkdir(parents=True)
    os.chdir(folder.parent / "deep" / "er")
    return Path("../..") / folder.name


def through_a_link(folder: Path) -> Path:
    link = folder.parent.parent / "links" / "anything"
    link.parent.mkdir()
    link.symlink_to(folder)
    return link


def through_a_link_to_the_run(folder: Path) -> Path:
    link = folder.parent.parent / "links"
    link.symlink_to(folder.parent)
    return link / "." / folder.name


def on_another_disk(folder: Path) -> Path:
    away = folder.parent.parent / "disk" / "anything"
    away.parent.mkdir()
    folder.rename(away)
    folder.symlink_to(away)
    return folder


SPELLINGS: list[Spelling] = [from_within, from_below, through_a_link, through_a_link_to_the_run, on_another_disk]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.chdir(tmp_path)
    return recipe_from(tmp_path, TEXT)


def curated(run: Path, recipe: Recipe) -> tuple[Path, str]:
    """Curate a source, forget one of its pictures, and return the source and the uid."""
    source = mixed_source(run / "in", 1)
    curate(source, run.parent / "before" / "curate", recipe, ALONE)
    uid = read_ledger(run.parent / "before" / "curate" / "00000.parquet")["uid"][1].as_py()
    write_tombstones(run, Tombstones(uid=frozenset({uid})))
    return source, uid


def forgotten(manifest: Manifest) -> int:
    return sum(manifest.rejected.get("forget", {}).values())


@pytest.mark.parametrize("spell", SPELLINGS)
def test_what_was_forgotten_does_not_come_back_by_another_spelling_of_the_folder(
    tmp_path: Path, recipe: Recipe, spell: Spelling
) -> None:
    run = tmp_path / "run"
    source, uid = curated(run, recipe)
    works: dict[str, Callable[[Path], Manifest]] = {
        "curate": lambda target: curate(source, target, recipe, ALONE),
        "pack": lambda target: pack(tmp_path / "before" / "curate", target, recipe, ALONE),
    }
    for stage, work in works.items():
        (run / stage).mkdir()
        for name in ("links", "disk", "run/deep"):
            if (tmp_path / name).exists() or (tmp_path / name).is_symlink():
                (tmp_path / name).rename(tmp_path / f"{name.replace('/', '-')}-{stage}")
        assert forgotten(work(spell(run / stage))) == 1
        os.chdir(tmp_path)
        (ledger, *_) = sorted((run / stage).resolve().glob("*0000.parquet"))
        assert uid not in read_ledger(ledger).filter(read_ledger(ledger)["kept"])["uid"].to_pylist()


@pytest.mark.parametrize("spell", SPELLINGS)
def test_a_finished_folder_is_itself_by_every_spelling(tmp_path: Path, recipe: Recipe, spell: Spelling) -> None:
    source, _ = curated(tmp_path / "run", recipe)
    target = tmp_path / "run" / "curate"
    first = curate(source, target, recipe, ALONE)
    with pytest.raises(UsageError, match="holds the output of other work"):
        curate(source, spell(target), recipe_from(tmp_path / "other", TEXT.replace("2.0", "3.0")), ALONE)
    os.chdir(tmp_path)
    assert curate(Path("run/./in/../in"), Path("run/../run/curate"), recipe, ALONE) == first


@pytest.mark.parametrize("spell", SPELLINGS)
def test_deciding_finds_the_folder_that_was_curated_beside_it(tmp_path: Path, recipe: Recipe, spell: Spelling) -> None:
    source, _ = curated(tmp_path / "run", recipe)
    source.rename(tmp_path / "run" / "fetch")
    strict = recipe_from(tmp_path / "strict", TEXT.replace("min = 2.0", "min = 200.0"))
    first = curate(tmp_path / "run" / "fetch", tmp_path / "run" / "curate", recipe, ALONE)
    decide(tmp_path / "run", strict, ALONE)
    decided = decide(spell(tmp_path / "run" / "curate"), recipe, ALONE)
    assert (decided.num_kept, decided.num_seen) == (first.num_kept, first.num_seen) and first.num_kept


def test_a_stage_folder_that_is_spelled_as_a_dot_has_its_own_name(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = curated(tmp_path / "run", recipe)
    curate(source, tmp_path / "run" / "curate", recipe, ALONE)
    monkeypatch.chdir(tmp_path / "run" / "curate")
    assert [place.shown for place in stages_of(Path())] == ["curate"]


@pytest.mark.parametrize("spelled", ["{}//run/curate/", "{}/run/./curate", "{}/run/x/../curate//", "{}//run//curate"])
def test_in_an_object_store_slashes_and_dots_make_no_other_folder(tmp_path: Path, recipe: Recipe, spelled: str) -> None:
    bucket = f"memory://{tmp_path.name}"
    source, uid = curated(tmp_path / "run", recipe)
    write_tombstones(location(f"{bucket}/run"), Tombstones(uid=frozenset({uid})))
    assert forgotten(curate(source, location(spelled.format(bucket)), recipe, ALONE)) == 1
    assert (location(f"{bucket}/run/curate") / "manifest.json").exists()

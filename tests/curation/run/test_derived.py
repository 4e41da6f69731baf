"""Cards that derived folders leave with their source: found again however they are spelled, and after a move."""

from pathlib import Path

import pytest

from curation.dataset.manifest import WORK_NAME
from curation.errors import VerificationError
from curation.run.derived import DERIVED_FOLDER, derived_of, descendants, register
from curation.storage.paths import location, resolved, spellings
from curation.storage.publish import publish_sealed


def folders(run: Path, *names: str) -> list[Path]:
    places = [run / name for name in names]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    return places


def test_a_folder_outside_the_run_is_found_from_its_source_and_from_the_run(tmp_path: Path) -> None:
    source, target = folders(tmp_path, "run/curate", "elsewhere/pack2")
    register(source, target, "pack", "state")
    for asked in (source, tmp_path / "run"):
        (found,) = derived_of(asked)
        assert (found.stage, found.folder, found.is_there, found.made_from) == ("pack", target, True, "state")
    assert derived_of(target) == ()


def test_a_stage_in_its_own_place_needs_no_card_and_a_cache_always_does(tmp_path: Path) -> None:
    source, pack, cache = folders(tmp_path, "run/curate", "run/pack", "run/cache")
    register(source, pack, "pack", "state")
    assert not (source / DERIVED_FOLDER).exists()
    (renamed, captions) = folders(tmp_path, "elsewhere/mine", "elsewhere/caption")
    register(renamed, captions, "caption", "state")
    assert [found.folder for found in descendants(renamed)] == [captions], "who looks by name finds none beside it"
    register(pack, cache, "cache", "state")
    assert [found.folder for found in derived_of(tmp_path / "run")] == [cache]


def test_one_folder_has_one_card_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = folders(tmp_path, "run/curate", "run/pack2")
    (tmp_path / "link").symlink_to(target)
    monkeypatch.chdir(target)
    for place in (target, Path(), tmp_path / "link", Path("../pack2"), tmp_path / "run" / "." / "pack2"):
        register(source, place, "pack", "state")
    register(Path("../curate"), target, "pack", "later")
    (found,) = derived_of(source)
    assert (found.folder, found.made_from) == (target, "later")


def test_a_tree_that_was_moved_whole_finds_its_folders_and_one_that_stayed_is_found_by_address(tmp_path: Path) -> None:
    source, near, far = folders(tmp_path, "tree/run/curate", "tree/pack2", "stays/pack3")
    register(source, near, "pack", "state")
    register(source, far, "pack", "state")
    (tmp_path / "other").mkdir()
    (tmp_path / "tree").rename(tmp_path / "other" / "deeper")
    assert {found.folder for found in derived_of(tmp_path / "other" / "deeper" / "run")} == {
        tmp_path / "other" / "deeper" / "pack2", far,
    }  # fmt: skip


def test_a_folder_that_is_gone_is_named_with_where_it_was_and_the_card_to_remove(tmp_path: Path) -> None:
    source, target = folders(tmp_path, "run/curate", "elsewhere/pack2")
    register(source, target, "pack", "state")
    target.rmdir()
    (lost,) = derived_of(source)
    assert (lost.folder, lost.is_there) == (target, False)
    lost.card.unlink()
    assert derived_of(source) == ()


def test_a_card_does_not_speak_of_what_another_stage_has_written_there_since(tmp_path: Path) -> None:
    source, other, target = folders(tmp_path, "run/curate", "other/fetch", "elsewhere/mine")
    register(source, target, "pack", "state")
    publish_sealed(target / WORK_NAME, {"stage": "pack", "work_digest": "1"})
    assert derived_of(source)[0].is_there
    publish_sealed(target / WORK_NAME, {"stage": "curate", "work_digest": "2"})
    register(other, target, "curate", "state")
    (stale,) = derived_of(source)
    assert (stale.is_there, stale.now_of) == (False, "curate") and "curate has written there since" in stale.gone
    register(source, other, "pack", "state")
    assert sorted((found.stage, found.is_there) for found in descendants(source)) == [
        ("curate", True), ("pack", False), ("pack", True),
    ]  # fmt: skip


def test_what_was_derived_from_derived_folders_is_found_too_also_in_circles(tmp_path: Path) -> None:
    fetch, curate, pack, cache, copy = folders(tmp_path, "a/fetch", "b/curate", "b/pack", "c/cache", "c/pack2")
    register(fetch, curate, "curate", "1")
    register(pack, cache, "cache", "2")
    register(curate, copy, "pack", "3")
    register(copy, fetch, "cache", "4")
    assert {found.folder for found in descendants(tmp_path / "a")} == {curate, pack, cache, copy, fetch}


def test_in_an_object_store_a_card_is_found_by_every_spelling_of_the_address(tmp_path: Path) -> None:
    bucket = location(f"memory://{tmp_path.name}")
    source, target = bucket / "run" / "curate", bucket / "packs" / "second"
    for place in (source, target):
        (place / "work.json").write_bytes(b"{}")
    register(source, location(f"memory://{tmp_path.name}//packs/./x/../second/"), "pack", "state")
    (found,) = derived_of(location(f"memory://{tmp_path.name}/run//curate/"))
    assert (found.folder, found.is_there) == (target, True)
    (found,) = derived_of(bucket / "run")
    assert found.folder == target


def test_a_card_with_a_changed_byte_is_an_error_not_a_folder_less(tmp_path: Path) -> None:
    source, target = folders(tmp_path, "run/curate", "elsewhere/pack2")
    register(source, target, "pack", "state")
    (found,) = derived_of(source)
    found.card.write_bytes(found.card.read_bytes().replace(b"pack2", b"pack3"))
    with pytest.raises(VerificationError, match=r"_derived/.*not as it was written"):
        derived_of(source)


def test_a_folder_has_one_name_and_a_linked_one_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, _ = folders(tmp_path, "disk/pack", "run")
    (tmp_path / "run" / "pack").symlink_to(real)
    monkeypatch.chdir(tmp_path / "run")
    assert resolved(Path("pack")) == resolved(tmp_path / "disk" / "." / "pack") == real
    assert spellings(Path("pack")) == (tmp_path / "run" / "pack", real)
    monkeypatch.chdir(real)
    assert spellings(Path()) == (Path.cwd(),) == (real,)
    assert location(f"file://{real}") == real
    assert str(location("memory://b//x/./y/../z/")) == "memory://b/x/z"

"""A finished or begun run goes on with the shards that it was made from, and refuses to lose what they gave."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.dataset.manifest import Manifest
from curation.errors import UsageError
from curation.run.runner import Outcome, Spread
from tests.curation.shards import RECIPE, bytes_of, colourful, mixed_source, recipe_from, sample_members, write_shard

ALONE = Spread(num_workers=0)
TEXT = RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]")


def all_of(folder: Path) -> dict[str, bytes]:
    """Return every file but leases."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_lease" not in path.parts
    }


def run(source: Path, target: Path, *, allow_removed: bool = False) -> Manifest:
    return curate(source, target, recipe_from(target.parent, TEXT), ALONE, allow_removed=allow_removed)


def other(source: Path, *names: str) -> None:
    for number, name in enumerate(names):
        write_shard(source, name, [sample_members("x", colourful(900 + number))])


def swap(source: Path) -> None:
    (source / "00000.tar").rename(source / "swap")
    (source / "00001.tar").rename(source / "00000.tar")
    (source / "swap").rename(source / "00001.tar")


def flip(source: Path) -> None:
    content = bytearray((source / "00001.tar").read_bytes())
    content[1000] ^= 1
    (source / "00001.tar").write_bytes(content)


def all_renamed(source: Path) -> None:
    shutil.rmtree(source)
    other(source, "a", "b", "c")


def everything(source: Path) -> None:
    (source / "00000.tar").unlink()
    other(source, "00001", "00002")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one is gone": (lambda source: (source / "00001.tar").unlink(), r"1 are gone or renamed: 00001\)"),
    "one has another name": (
        lambda source: (source / "00001.tar").rename(source / "a.tar"), r"1 are gone or renamed: 00001\)",
    ),
    "one has other bytes": (flip, r"1 have other bytes: 00001\)"),
    "two have changed places": (swap, r"2 have other bytes: 00000, 00001\)"),
    "all have other bytes": (lambda source: other(source, "00000", "00001"), "2 have other bytes: 00000, 00001"),
    "all have other names": (all_renamed, "2 are gone or renamed: 00000, 00001"),
    "one is gone, another has changed, a third came": (
        everything, r"1 are gone or renamed: 00000; 1 have other bytes: 00001",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_finished", [True, False])
def test_sources_that_are_not_those_of_before_are_refused_by_name_and_nothing_is_touched(
    tmp_path: Path, change: str, is_finished: bool
) -> None:
    source, target = mixed_source(tmp_path / "in", 2), tmp_path / "out"
    run(source, target)
    if not is_finished:
        (target / "manifest.json").unlink()
    before = all_of(target)
    alter, listed = CHANGES[change]
    alter(source)
    with pytest.raises(UsageError, match=listed) as refused:
        run(source, target)
    assert refused.value.exit_code == 2 and "--allow-removed" in str(refused.value)
    assert all_of(target) == before


def test_another_folder_as_source_is_refused_and_the_same_shards_elsewhere_are_the_same_source(tmp_path: Path) -> None:
    source, target = mixed_source(tmp_path / "in", 2), tmp_path / "out"
    run(source, target)
    before = all_of(target)
    other(tmp_path / "other", "00000")
    with pytest.raises(UsageError, match="00001"):
        run(tmp_path / "other", target)
    assert all_of(target) == before
    (tmp_path / "moved").mkdir()
    for name in ("in", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    run(tmp_path / "moved" / "in", tmp_path / "moved" / "out")
    assert all_of(tmp_path / "moved" / "out") == before


def test_shards_that_came_since_are_added_and_those_before_stay_as_they_are(tmp_path: Path) -> None:
    source, target = mixed_source(tmp_path / "in", 3), tmp_path / "out"
    (source / "00001.tar").rename(tmp_path / "late.tar")
    first = run(source, target)
    before = all_of(target)
    (tmp_path / "late.tar").rename(source / "00001.tar")
    grown = run(source, target)
    assert [report.shard for report in grown.shards] == ["00000", "00001", "00002"]
    assert grown.extra["superseded"] == [first.state] and "removed" not in grown.extra
    assert {name: all_of(target)[name] for name in before if name[0] == "0"} == {
        name: content for name, content in before.items() if name[0] == "0"
    }
    at_once = run(source, tmp_path / "at-once" / "out")
    assert at_once.shards == grown.shards and "superseded" not in at_once.extra


def test_changed_shards_that_the_user_allows_are_made_anew_and_recorded(tmp_path: Path) -> None:
    source, target = mixed_source(tmp_path / "in", 2), tmp_path / "out"
    run(source, target)
    other(source, "00001")
    changed = run(source, target, allow_removed=True)
    assert changed.extra["removed"] == [{"gone": [], "changed": ["00001"]}]
    assert changed.shards == run(source, tmp_path / "new" / "out").shards
    assert run(source, target) == changed


def test_a_folder_of_pictures_that_grew_is_said_to_be_cut_anew_and_measured_where_allowed(tmp_path: Path) -> None:
    source, target = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.jpg").write_bytes(colourful(number))
    assert run(source, target).num_seen == 3
    before = all_of(target)
    (source / "9.jpg").write_bytes(colourful(9))
    with pytest.raises(UsageError, match=r"1 have other bytes: 00000\).*shards anew: pictures or rows"):
        run(source, target)
    assert all_of(target) == before
    grown = run(source, target, allow_removed=True)
    assert (grown.num_seen, grown.extra["removed"]) == (4, [{"gone": [], "changed": ["00000"]}])


def test_a_machine_that_lacks_the_source_fails_its_shards_by_name_and_the_same_command_goes_on(tmp_path: Path) -> None:
    source, target, elsewhere = mixed_source(tmp_path / "in", 2), tmp_path / "out", tmp_path / "elsewhere"
    recipe, ends = recipe_from(tmp_path, TEXT), []

    def meanwhile(outcome: Outcome) -> None:
        ends.append(outcome)
        if source.is_dir():
            source.rename(elsewhere)  # as a machine sees it that has not mounted it

    failed = curate(source, target, recipe, ALONE, meanwhile).failed
    assert list(failed) == ["00001"] and f"{source}/00001.tar: no such shard on " in failed["00001"]
    elsewhere.rename(source)
    assert curate(source, target, recipe, ALONE).failed == {}
    curate(source, tmp_path / "whole", recipe, ALONE)
    assert bytes_of(target) == bytes_of(tmp_path / "whole") and len(ends) == 2

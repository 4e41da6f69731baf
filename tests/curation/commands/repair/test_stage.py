"""What `repair` makes of tars can be curated, and no picture that is in them is lost."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.commands.repair.stage import Repaired, _record, repair
from curation.commands.repair.text import tell
from curation.dataset.sources import shards_in, source_samples
from curation.dataset.tar import IMAGE_SUFFIXES, members_of, read_samples, write_tar
from curation.errors import LeaseError, ShardError, UsageError
from curation.storage.lease import hold
from curation.storage.publish import publish_sealed
from tests.curation.dataset.test_odd_tars import NAMES, STRAYS


def made(folder: Path, members: list[tuple[str, bytes]]) -> Path:
    (folder / "in").mkdir(exist_ok=True)
    write_tar(folder / "in" / "00000.tar", members)
    return folder / "in" / "00000.tar"


def names(path: Path) -> list[str]:
    return [member.name for member in members_of(path)]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file but leases."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def mended(folder: Path) -> Repaired:
    (repaired,) = repair(folder / "in", folder / "out")
    return repaired


def samples(folder: Path) -> list[tuple[str, str | None]]:
    (shard,) = shards_in(folder)
    with shard.opened() as tar:
        return [(sample.key, sample.problem) for sample in source_samples(shard, tar)]


def test_interleaved_samples_are_brought_together_in_order_of_key(tmp_path: Path) -> None:
    path = made(tmp_path, [(n, n.encode()) for n in ("b.jpg", "a.jpg", "b.txt", "a.json", "a.txt", "a.npy")])
    with pytest.raises(ShardError, match="facecaptionhq repair"):
        list(read_samples(path))
    assert mended(tmp_path).losses == ()
    assert names(tmp_path / "out/00000.tar") == ["a.jpg", "a.json", "a.txt", "a.npy", "b.jpg", "b.txt"]


def test_strays_go_equal_copies_go_and_other_pictures_of_a_key_get_one_of_their_own(tmp_path: Path) -> None:
    members = [
        ("a.jpg", b"1"), ("a.txt", b"one"), (".DS_Store", b""), ("README", b""), ("a.jpg", b"1"), ("a.txt", b"two"),
        ("a.jpg", b"2"), ("a.txt", b"three"), ("a-2.jpg", b"4"),
    ]  # fmt: skip
    made(tmp_path, members)
    repaired = mended(tmp_path)
    found = {s.key: (s.image_bytes, s.caption, s.problem) for s in read_samples(tmp_path / "out/00000.tar")}
    assert found == {
        "a": (b"1", "one", None), "a-2": (b"4", None, None), "a-3": (b"2", "three", None),
    }  # fmt: skip
    assert (repaired.skipped, repaired.renamed) == ({"hidden": 1, "no_suffix": 1, "repeated": 1}, {"a-3": "a"})
    assert "'a' is called 'a-3'" in tell([repaired])


def test_two_tars_in_one_file_become_one(tmp_path: Path) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    first = path.read_bytes()
    made(tmp_path, [("b.jpg", b"2")])
    path.write_bytes(first + path.read_bytes())
    repaired = mended(tmp_path)
    assert (repaired.num_pictures, repaired.losses) == (2, ()) and "more follows" in repaired.notes[0]
    assert samples(tmp_path / "out") == [("a", None), ("b", None)]


@pytest.mark.parametrize("at", [0, 1, 2, 5, 8])
def test_beyond_a_broken_header_the_whole_members_are_saved_and_the_loss_is_named(tmp_path: Path, at: int) -> None:
    path = made(tmp_path, [(f"{n}.jpg", bytes([n + 1]) * 600) for n in range(9)])
    content = bytearray(path.read_bytes())
    content[1536 * at : 1536 * at + 512] = b"\x55" * 512
    path.write_bytes(content)
    repaired = mended(tmp_path)
    assert repaired.num_pictures == 8 and len(repaired.losses) == 1
    assert [key for key, _ in samples(tmp_path / "out")] == [str(n) for n in range(9) if n != at]


@pytest.mark.parametrize("cut", range(0, 9 * 1536, 700))
def test_of_a_cut_tar_every_whole_member_is_saved(tmp_path: Path, cut: int) -> None:
    path = made(tmp_path, [(f"{n}.jpg", bytes([n + 1]) * 600) for n in range(9)])
    path.write_bytes(path.read_bytes()[:cut])
    repaired = mended(tmp_path)
    assert repaired.losses and repaired.num_pictures == sum(1536 * n + 1112 <= cut for n in range(9))


def test_fewer_pictures_than_were_counted_are_a_loss(tmp_path: Path) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    (path.parent / "00000_stats.json").write_text(json.dumps({"count": 400, "successes": 300}))
    assert mended(tmp_path).losses == ("00000_stats.json says 300 pictures, and 1 are in it",)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.lists(NAMES, max_size=12), st.data())
def test_whatever_stood_in_a_tar_its_repair_is_read_with_every_picture(
    tmp_path_factory: pytest.TempPathFactory, found: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    contents = [data.draw(st.sampled_from([b"1", b"2", n.encode()])) for n in found]
    made(folder, list(zip(found, contents, strict=True)))
    mended(folder)
    pictures = {c for n, c in zip(found, contents, strict=True) if n not in STRAYS and _is_picture(n)}
    read = list(read_samples(folder / "out/00000.tar"))
    assert {sample.image_bytes for sample in read if sample.image_bytes} == pictures
    assert not {"duplicate_key", "several_images"} & {sample.problem for sample in read}
    written = names(folder / "out/00000.tar")
    assert len(set(written)) == len(written)


def _is_picture(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def test_a_repair_that_was_interrupted_is_refused_as_a_source_and_run_again(tmp_path: Path) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    mended(tmp_path)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "00000.tar").unlink()
    publish_sealed(tmp_path / "out" / "repair.json", _record(path.parent, [], is_finished=False))
    with pytest.raises(UsageError, match="its repair was interrupted"):
        shards_in(tmp_path / "out")
    mended(tmp_path)
    assert contents(tmp_path / "out") == whole


def test_a_repair_writes_into_a_folder_of_its_own_alone(tmp_path: Path) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    before = path.read_bytes()
    with pytest.raises(UsageError, match="in the folder of the source"):
        repair(tmp_path / "in", tmp_path / "in" / ".." / "in")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        repair(path, tmp_path / "other")
    assert path.read_bytes() == before


def test_links_are_left_out_and_named(tmp_path: Path) -> None:
    path = made(tmp_path, [])
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "b.jpg"
        tar.addfile(info)
    assert "a link or device" in mended(tmp_path).losses[0]


def gone(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.tar")


def replaced(path: Path) -> None:
    write_tar(path, [("c.jpg", b"3")])


def unreadable(path: Path) -> None:
    path.unlink()
    path.with_suffix(".tgz").write_bytes(b"no gzip")


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize("change", [gone, replaced, unreadable])
def test_what_was_repaired_outlives_a_source_that_is_not_as_it_was(
    tmp_path: Path, change: Callable[[Path], None], is_finished: bool
) -> None:
    path = made(tmp_path, [("a.jpg", b"1"), ("b.jpg", b"2")])
    write_tar(path.with_name("00001.tar"), [("d.jpg", b"4")])
    repair(path.parent, tmp_path / "out")
    if not is_finished:
        publish_sealed(tmp_path / "out" / "repair.json", _record(path.parent, [], is_finished=False))
    before = contents(tmp_path / "out")
    change(path)
    with pytest.raises(UsageError, match=r"00000.*; nothing was touched: give the tars"):
        repair(path.parent, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_repair_takes_in_tars_that_came_since(tmp_path: Path) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    mended(tmp_path)
    write_tar(path.with_name("00001.tar"), [("b.jpg", b"2")])
    assert [shard.num_pictures for shard in repair(path.parent, tmp_path / "out")] == [1, 1]
    assert [shard.name for shard in shards_in(tmp_path / "out")] == ["00000", "00001"]


def test_one_repair_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    made(tmp_path, [("a.jpg", b"1")])
    with hold(tmp_path / "out"), pytest.raises(LeaseError):
        mended(tmp_path)
    assert mended(tmp_path).num_pictures == 1


@pytest.mark.parametrize("target", ["in/fixed", "in/a/b", "link/fixed", "real/fixed"])
def test_a_repair_inside_its_source_is_refused(tmp_path: Path, target: str) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    (tmp_path / "real").mkdir()
    path.rename(tmp_path / "real" / "00000.tar")
    path.symlink_to(tmp_path / "real" / "00000.tar")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UsageError, match="every picture twice"):
        repair(path.parent, tmp_path / target)
    assert not (tmp_path / target).exists()


def test_a_repair_that_lies_with_its_source_is_not_read_beside_it(tmp_path: Path) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    repair(path, path.parent / "fixed")
    assert [shard.name for shard in shards_in(path.parent)] == ["00000"]
    repair(path, tmp_path / "far" / "fixed")
    assert [shard.name for shard in shards_in(tmp_path / "far")] == ["fixed_00000"]
    publish_sealed(tmp_path / "far" / "fixed" / "repair.json", _record(path, [], is_finished=False))
    with pytest.raises(UsageError, match="its repair was interrupted"):
        shards_in(tmp_path / "far")


@pytest.mark.parametrize("mark", ["work.json", "manifest.json"])
@pytest.mark.parametrize("source", ["in", "in/00000.tar", "links", "links/x.tar", "folder", "deep"])
def test_tars_that_a_stage_wrote_are_not_repaired_however_they_are_given(
    tmp_path: Path, source: str, mark: str
) -> None:
    path = made(tmp_path, [("a.jpg", b"1")])
    (path.parent / mark).write_bytes(b"{}")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "x.tar").symlink_to(path)
    write_tar(tmp_path / "links" / "y.tar", [("b.jpg", b"2")])
    (tmp_path / "folder").symlink_to(path.parent)
    (tmp_path / "deep" / "below").mkdir(parents=True)
    (tmp_path / "deep" / "below" / "00000.tar").symlink_to(tmp_path / "links" / "x.tar")
    with pytest.raises(UsageError, match="the output of a stage"):
        repair(tmp_path / source, tmp_path / "out")
    assert not (tmp_path / "out").exists()

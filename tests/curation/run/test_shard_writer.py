"""The one way a shard is written: sample by sample, nothing before the commit, the done record last."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from curation.dataset.ledger import BASE_FIELDS, base_row, read_ledger
from curation.dataset.manifest import committed, read_report, stats_path
from curation.dataset.tar import members_of, read_samples, sample_members
from curation.errors import DiskFullError, LeaseError
from curation.run.shard_writer import shard_writer
from curation.storage.lease import Lease

SCHEMA = pa.schema(list(BASE_FIELDS))
FOOTER = {"stage": "test"}


def members(key: str) -> list[tuple[str, bytes]]:
    return list(sample_members(key, "jpg", f"picture {key}".encode(), b"{}", f"caption {key}"))


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_rows_and_members_stand_in_the_order_in_which_they_were_added(tmp_path: Path) -> None:
    with shard_writer(tmp_path, None, "00000", "work") as shard:
        shard.add(base_row("a", "a"), members("a"))
        shard.add(base_row("b", "b", rejected_by="colour", reason="low"))
        shard.add(base_row("c", "c"), members("c"))
        report = shard.commit(SCHEMA, FOOTER, lambda: {"host": "here"})
    assert (report.num_seen, report.num_kept, dict(report.rejected)) == (3, 2, {"colour": {"low": 1}})
    assert [sample.key for sample in read_samples(tmp_path / "00000.tar")] == ["a", "c"]
    assert read_ledger(tmp_path / "00000.parquet")["uid"].to_pylist() == ["a", "b", "c"]
    assert committed(tmp_path, "00000", "work") == report
    assert read_report(stats_path(tmp_path, "00000")).run == {"host": "here"}


def test_the_offset_that_a_row_may_tell_is_where_its_picture_stands(tmp_path: Path) -> None:
    offsets = []
    with shard_writer(tmp_path, None, "00000", "work") as shard:
        for key in "abc":
            offsets.append(shard.offset)
            shard.add(base_row(key, key), members(key))
        shard.commit(SCHEMA, FOOTER, dict)
    pictures = [member.offset for member in members_of(tmp_path / "00000.tar") if member.name.endswith(".jpg")]
    assert offsets == pictures


def test_a_shard_that_is_broken_off_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="torn"), shard_writer(tmp_path, None, "00000", "work") as shard:
        shard.add(base_row("a", "a"), members("a"))
        raise RuntimeError("torn")
    assert files_of(tmp_path) == set()


def test_one_that_is_never_committed_leaves_no_trace(tmp_path: Path) -> None:
    with shard_writer(tmp_path, None, "00000", "work") as shard:
        shard.add(base_row("a", "a"), members("a"))
    assert files_of(tmp_path) == set()


def test_what_is_told_of_the_run_can_tell_of_its_files_too(tmp_path: Path) -> None:
    with shard_writer(tmp_path, None, "00000", "work") as shard:
        shard.add(base_row("a", "a"), members("a"))
        report = shard.commit(SCHEMA, FOOTER, lambda: {"there": sorted(files_of(tmp_path))})
    assert report.run == {"there": ["00000.parquet", "00000.tar"]}


def test_who_was_replaced_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / "_lease").mkdir()
    (tmp_path / "_lease" / "000002.json").write_text("{}")
    with pytest.raises(LeaseError), shard_writer(tmp_path, Lease(tmp_path, 1), "00000", "work") as shard:
        shard.add(base_row("a", "a"), members("a"))
        shard.commit(SCHEMA, FOOTER, dict)
    assert not stats_path(tmp_path, "00000").exists()


def test_a_full_disk_is_named_with_the_file_that_found_no_room(tmp_path: Path) -> None:
    def until_full() -> Iterator[tuple[str, bytes]]:
        yield from members("a")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match=r"00000\.tar"), shard_writer(tmp_path, None, "00000", "work") as shard:
        shard.add(base_row("a", "a"), until_full())
    assert files_of(tmp_path) == set()

from pathlib import Path

import pytest

from curation.dataset.ledger import BASE_FIELDS, base_row, count_rejections, read_ledger, write_ledger
from curation.dataset.manifest import Manifest, ShardReport, committed, read_manifest, write_manifest, write_report
from curation.errors import ShardError, StorageError, UsageError, VerificationError
from curation.storage.publish import TEMP_FOLDER, digest, publish, publish_json, publish_sealed, read_sealed, record_of


def test_what_is_published_is_recorded_as_it_was_read_back(tmp_path: Path) -> None:
    record = publish(tmp_path / "a", lambda temp: temp.write_bytes(b"whole"))
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert record == record_of(tmp_path / "a")
    assert record.num_bytes == 5


def test_a_writer_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    publish(tmp_path / "a", lambda temp: temp.write_bytes(b"old"))

    def fail(temp: Path) -> None:
        temp.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(StorageError, match="could not be written: disk full"):
        publish(tmp_path / "a", fail)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert list((tmp_path / TEMP_FOLDER).iterdir()) == []


def test_equal_values_have_one_digest_whatever_their_order(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [2.5, None]}) == digest({"b": [2.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    publish_json(first, {"b": 1, "a": "é"})
    publish_json(second, {"a": "é", "b": 1})
    assert first.read_bytes() == second.read_bytes()


def test_a_report_whose_counts_do_not_add_up_cannot_be_made() -> None:
    with pytest.raises(VerificationError, match="3 seen, but 1 kept"):
        ShardReport("00000", "work", 3, 1, {"colour": {"low": 1}}, {})


def test_a_done_record_counts_only_for_its_own_work_and_whole_files(tmp_path: Path) -> None:
    files = {"00000.tar": publish(tmp_path / "00000.tar", lambda temp: temp.write_bytes(b"tar"))}
    report = ShardReport("00000", "work", 1, 1, {}, files, run={"seconds": 1.5})
    write_report(tmp_path, report)
    assert committed(tmp_path, "00000", "work") == report
    assert committed(tmp_path, "00000", "other work") is None
    assert committed(tmp_path, "00001", "work") is None
    (tmp_path / "00000.tar").write_bytes(b"rot")
    assert committed(tmp_path, "00000", "work") is None


def manifest() -> Manifest:
    return Manifest("curate", "demo", "r", "w", 1, 1, {}, (ShardReport("00000", "work", 1, 1, {}, {}, run={"pid": 1}),))


def test_a_manifest_comes_back_as_it_was_written_without_what_differs_between_equal_runs(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(), {"name": "demo"})
    assert read_manifest(tmp_path, "curate") == manifest()
    assert "pid" not in (tmp_path / "manifest.json").read_text()


def test_a_manifest_of_another_version_or_stage_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(), {})
    with pytest.raises(UsageError, match="expected the output of 'pack'"):
        read_manifest(tmp_path, "pack")
    path = tmp_path / "manifest.json"
    publish_sealed(path, {**read_sealed(path), "schema_version": 99})
    with pytest.raises(UsageError, match=r"schema_version 99; this code reads 1 and 2$"):
        read_manifest(tmp_path)


def test_a_ledger_row_names_both_who_rejects_and_why_or_neither() -> None:
    assert base_row("u", "k")["kept"] is True
    assert base_row("u", "k", rejected_by="faces", reason="num_faces_high")["kept"] is False
    with pytest.raises(ValueError, match="come together"):
        base_row("u", "k", rejected_by="faces")


def test_rejections_are_counted_by_filter_and_reason() -> None:
    rows = [base_row("u", "k", rejected_by=by, reason=why) for by, why in [("b", "y"), ("a", "x"), ("b", "y")]]
    assert count_rejections([*rows, base_row("u", "k")]) == {"a": {"x": 1}, "b": {"y": 2}}


def test_a_ledger_that_is_broken_or_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_ledger(tmp_path / "good.parquet", [base_row("u", "k")], pa.schema(BASE_FIELDS), {"stage": "curate"})
    assert read_ledger(tmp_path / "good.parquet").to_pylist() == [base_row("u", "k")]
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:-9])
    pq.write_table(pa.table({"uid": ["u"]}), tmp_path / "foreign.parquet")
    for name in ("torn", "foreign", "missing"):
        with pytest.raises(ShardError, match=f"{name}.parquet"):
            read_ledger(tmp_path / f"{name}.parquet")

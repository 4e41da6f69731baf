import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.gc.collect import collect, leavings
from curation.commands.verify.check import verify
from curation.dataset.ledger import BASE_FIELDS, write_ledger
from curation.dataset.tar import write_tar
from curation.errors import LeaseError, VerificationError
from curation.run.folders import stages_of
from curation.storage.lease import hold
from curation.storage.paths import filesystem
from tests.curation.buckets import put_run, s3_bucket
from tests.curation.whole_run import ALONE, files_of, flip_a_bit, write_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    write_run(run, num_images=10)
    return run


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own: what other tests left in theirs is none of its business."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    return tmp_path / "t"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def leave(path: Path, content: bytes = b"half", age_s: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def leave_leavings(run: Path) -> list[str]:
    """Leave what dead runs leave; return the names."""
    leave(run / "curate" / "_tmp" / "00000.tar.abc")
    leave(run / "fetch" / "_tmp" / "00000.def" / "part" / "00000.jpg", age_s=7200)
    leave(run / "pack" / "_lease" / "_tmp" / "000001.json.abc", age_s=60)
    write_tar(run / "pack" / "00009.tar", [("a.jpg", b"x")])
    write_tar(run / "curate" / "00007.3fa9c2d1.tar", [])
    table = run / "curate" / "00007.3fa9c2d1.parquet"
    write_ledger(table, [], pa.schema(BASE_FIELDS), {"stage": "curate"})
    leave(run / "forgotten" / "prepared" / "curate" / "00000.tar")
    return [
        "curate/00007.3fa9c2d1.parquet", "curate/00007.3fa9c2d1.tar", "curate/_tmp/00000.tar.abc",
        "fetch/_tmp/00000.def/part/00000.jpg", "forgotten/prepared/curate/00000.tar",
        "pack/00009.tar", "pack/_lease/_tmp/000001.json.abc",
    ]  # fmt: skip


def test_what_dead_runs_left_goes_and_everything_else_stays(run: Path) -> None:
    before = files_of(run)
    names = leave_leavings(run)
    found = collect(run)
    assert sorted(one.file for one in found.removed) == names
    assert found.left == ()
    assert files_of(run) == before
    assert not any((run / stage / "_tmp").exists() for stage in ("rank", "fetch", "curate", "pack"))
    assert not (run / "forgotten" / "prepared").exists()
    assert verify(run, ALONE).notes == ()
    assert collect(run).removed == ()


def test_a_dry_run_names_the_same_and_writes_nothing(run: Path) -> None:
    names = leave_leavings(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    found = collect(run, dry_run=True)
    assert sorted(one.file for one in found.removed) == names
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_nothing_goes_that_is_not_of_our_own_kind(run: Path) -> None:
    leave(run / "curate" / "notes.txt")
    leave(run / "curate" / "00009.tar", b"a tar by its name only".ljust(10240, b"\0"))
    leave(run / "curate" / "00009.parquet", b"no parquet")
    leave(run / "curate" / "mine" / "00009.tar", (run / "curate" / "00000.tar").read_bytes())
    pq.write_table(pa.table({"uid": ["u"]}), run / "curate" / "00010.parquet")
    write_ledger(run / "curate" / "00011.parquet", [], pa.schema(BASE_FIELDS), {"stage": "pack"})
    write_tar(run / "pack" / "holiday.tar", [("a.jpg", b"x")])
    shutil.copy(run / "curate" / "00000.tar", run / "curate" / "backup-of-00000.tar")
    write_tar(run / "pack" / "backup-00001.tar", [("a.jpg", b"x")])
    (run / "pack" / "00008.tar").write_bytes(_tar_of_others())
    leave(run / "photos" / "a.jpg")
    before = files_of(run)
    found = collect(run)
    assert found.removed == ()
    assert files_of(run) == before
    assert len(found.left) == 10


def _tar_of_others() -> bytes:
    import io
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.mtime = 1
        tar.addfile(info, io.BytesIO(b""))
    return file.getvalue()


@pytest.mark.parametrize("stage", ["rank", "fetch", "curate", "pack"])
def test_a_folder_in_which_a_run_is_alive_is_left_alone(run: Path, stage: str) -> None:
    temp = leave(run / stage / "_tmp" / "00000.tar.abc")
    with hold(run / stage), pytest.raises(LeaseError, match=stage):
        collect(run)
    assert temp.exists()
    collect(run)
    assert not temp.exists()


def test_shards_that_are_done_in_an_unfinished_stage_stay(run: Path) -> None:
    (run / "pack" / "manifest.json").unlink()
    before = files_of(run)
    orphans = {one.file for one in collect(run).removed}
    assert orphans == {"pack/index.parquet", "pack/ledger.parquet"}
    assert files_of(run).items() == {n: c for n, c in before.items() if n not in orphans}.items()


def test_a_shard_whose_done_record_is_rotten_stays(run: Path) -> None:
    (run / "pack" / "manifest.json").unlink()
    flip_a_bit(run / "pack" / "00001_stats.json", random.Random(1))
    assert not [one.file for one in collect(run).removed if "00001" in one.file]
    assert (run / "pack" / "00001.tar").exists()


@pytest.mark.parametrize("name", ["00010.tar", "00010.parquet", "notes.txt"])
def test_what_somebody_else_removes_meanwhile_is_neither_an_error_nor_left(run: Path, name: str) -> None:
    leave_leavings(run)
    goes = leave(run / "pack" / name, b"half of a table")
    (pack,) = (place for place in stages_of(run) if place.stage == "pack")
    found = leavings(pack)
    assert next(found)[0].file == "pack/00009.tar"
    goes.unlink()
    assert f"pack/{name}" not in [removal.file for removal, _ in found]


def test_where_a_manifest_is_broken_nothing_is_removed(run: Path) -> None:
    leave_leavings(run)
    manifest = run / "curate" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"curate", b"CURATE", 1))
    with pytest.raises(VerificationError, match="curate"):
        collect(run / "curate")
    assert (run / "curate" / "00007.3fa9c2d1.tar").exists()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with s3_bucket(monkeypatch) as root:
        yield root


@pytest.mark.slow
def test_uploads_that_were_never_completed_go_once_they_are_older_than_a_lease(
    run: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bucket / "run" / "pack"
    files, name = filesystem(bucket)
    put_run(run / "pack", target)
    for key in ("run/pack/00003.tar", "run/pack-of-another/00003.tar"):
        files.call_s3("create_multipart_upload", Bucket=name.rstrip("/"), Key=key)
    with monkeypatch.context() as patience:  # moto says of every upload that it began in 2010
        patience.setattr("curation.commands.gc.collect.TTL_S", timedelta(days=36_500).total_seconds())
        assert collect(target).removed == ()
    assert [one.file for one in collect(target).removed] == ["pack/00003.tar"]
    left = files.call_s3("list_multipart_uploads", Bucket=name.rstrip("/"))["Uploads"]
    assert [upload["Key"] for upload in left] == ["run/pack-of-another/00003.tar"]
    assert verify(target, ALONE).ok


HOLD = """
import sys, time
from curation.storage.scratch import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    (folder / "session_latest").write_bytes(b"123")
    print(folder, flush=True)
    time.sleep(600)
"""


def holder(kind: str) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    os.utime(folder, (0, 0))
    return process, folder


def test_temporary_folders_of_killed_processes_are_named_and_go_and_those_of_living_ones_stay(
    run: Path, scratch: Path
) -> None:
    (dead, left), (alive, kept) = holder("ray"), holder("ray")
    others = [scratch / "fchq-intent-0", scratch / "fchq-young", scratch / "theirs"]
    for folder in others:
        leave(folder / "file")
    (scratch / "fchq-young" / ".lock").touch()
    (scratch / "fchq-link").symlink_to(kept)
    try:
        dead.kill()
        dead.wait()
        named = collect(run, dry_run=True).removed
        assert [(one.file, one.num_bytes) for one in named] == [(str(left), 3)] and left.exists()
        assert collect(run).removed == named and not left.exists()
        assert kept.exists() and all(folder.exists() for folder in others)
        with subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)", str(kept)]
        ) as child:  # what Ray's processes are told
            alive.kill()
            alive.wait()
            os.utime(kept, (0, 0))
            assert collect(run).removed == ()
            child.kill()
    finally:
        for process in (dead, alive):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_a_file_among_leases_that_is_none_is_named_and_left(run: Path) -> None:
    leave(run / "pack" / "_lease" / "abc.json")
    found = collect(run)
    assert (found.removed, found.left) == ((), ("pack/_lease/abc.json",))

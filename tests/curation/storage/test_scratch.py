"""A scratch database takes what it is given and no more, and leaves nothing behind."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from curation.storage.scratch import end_users_of, scratch_database, scratch_folder


@pytest.mark.slow
def test_what_does_not_fit_into_memory_goes_to_a_folder_that_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_database("60MB") as database:
        database.execute("CREATE TEMP TABLE many AS SELECT sha256(range::VARCHAR) AS hash FROM range(1_500_000)")
        (folder,) = tmp_path.iterdir()
        spilled = sum(path.stat().st_size for path in (folder / "spill").rglob("*"))
        assert spilled > 20_000_000
        assert database.sql("SELECT count(DISTINCT hash) FROM many").fetchall() == [(1_500_000,)]
    assert list(tmp_path.iterdir()) == []


def test_who_was_started_with_the_name_of_a_folder_is_ended_and_nobody_else() -> None:
    with scratch_folder("ray") as folder, scratch_folder("ray") as other:
        begin = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        with (
            subprocess.Popen([*begin, f"--dir={folder}/x"], stdin=subprocess.PIPE) as user,
            subprocess.Popen([*begin, f"--dir={other}"], stdin=subprocess.PIPE) as stranger,
        ):
            end_users_of(folder)
            assert user.wait() == -9
            stranger.communicate(b"")
            assert stranger.returncode == 0

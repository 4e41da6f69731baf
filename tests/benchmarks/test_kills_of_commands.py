"""The campaign of kills sees every difference that counts, and none that does not."""

import shutil
from pathlib import Path

from benchmarks.faults.commands_to_kill import COMMANDS
from benchmarks.faults.kills_of_commands import differing, end_of
from curation.dataset.manifest import ShardReport, write_report


def test_a_changed_byte_and_a_file_too_many_or_too_few_are_seen(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "run").mkdir(parents=True)
    for name in ("a.tar", "b.tar", "c.tar"):
        (one / "run" / name).write_bytes(b"content")
    shutil.copytree(one, other)
    assert differing(end_of(one), end_of(other)) == []
    (other / "run" / "a.tar").write_bytes(b"Content")
    (other / "run" / "b.tar").unlink()
    (one / "run" / "c.tar").unlink()
    assert differing(end_of(one), end_of(other)) == ["run/a.tar", "run/b.tar", "run/c.tar"]


def test_times_leases_and_temporary_files_are_not_and_counts_of_a_shard_are(tmp_path: Path) -> None:
    folders = []
    for number, num_kept in enumerate((1, 1, 0)):
        run = tmp_path / str(number) / "run"
        rejected = {} if num_kept else {"colour": {"low": 1}}
        write_report(run, ShardReport("00000", "id", 1, num_kept, rejected, {}, {"started": number}))
        (run / "_lease").mkdir()
        (run / "_lease" / f"{number}.json").write_text("held")
        (run / "_tmp" / f"{number}").write_text("half")
        folders.append(end_of(run.parent))
    assert differing(folders[0], folders[1]) == []
    assert differing(folders[1], folders[2]) == ["run/00000_stats.json"]


def test_every_command_that_writes_a_run_is_killed() -> None:
    assert list(COMMANDS) == ["rank", "fetch", "curate", "pack", "decide", "forget", "report", "gc"]

"""How a run stands while it works, when it died, and when it is finished."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.status.stage import DAMAGED, DEAD, FAILED, FINISHED, RUNNING, StageStatus, status
from curation.commands.status.text import tell, values
from curation.errors import UsageError
from curation.run.runner import Outcome, Spread
from curation.storage import lease
from tests.curation.shards import mixed_source, recipe_from
from tests.places import ROOT

ALONE = Spread(num_workers=0)
NOT_ISOLATED = "[curate]\nisolate = false\n[[filters]]"


def test_the_rate_of_deciding_again_is_not_told_as_that_of_curating(tmp_path: Path) -> None:
    target = tmp_path / "run" / "curate"
    curate(mixed_source(tmp_path / "in", 2), target, recipe_from(tmp_path, RECIPE), ALONE)
    assert "\n  rate: " in tell(status(target))
    tighter = recipe_from(tmp_path / "tighter", RECIPE.replace("min = 2.0", "min = 200.0"))
    decide(tmp_path / "run", tighter, ALONE)
    assert "\n  rate of deciding again: " in tell(status(target)) and "\n  rate: " not in tell(status(target))


def test_a_run_says_how_far_it_is_and_who_holds_it_until_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.02)
    source = mixed_source(tmp_path / "in", 4)
    (source / "00003.tar").write_bytes(b"torn")
    recipe = recipe_from(tmp_path, RECIPE)
    seen: list[StageStatus] = []

    def look(_: Outcome) -> None:
        for _attempt in range(500):  # until a heartbeat has told the number of shards
            (stage,) = status(tmp_path / "run" / "curate")
            if stage.num_shards is not None:
                break
            time.sleep(0.02)
        seen.append(stage)

    curate(source, tmp_path / "run" / "curate", recipe, ALONE, look)
    assert [(stage.state, stage.num_done, stage.num_shards) for stage in seen] == [
        (RUNNING, 1, 4), (RUNNING, 2, 4), (RUNNING, 3, 4), (RUNNING, 3, 4)
    ]  # fmt: skip
    first = seen[0]
    assert first.holder is not None and (first.holder.pid, first.holder.host) == (os.getpid(), socket.gethostname())
    assert first.shards_per_hour and first.pictures_per_s and first.hours_left == 3 / first.shards_per_hour
    told = tell(seen[1:2])
    assert re.search(r"curate: in progress: 2 of 4 shards, 16 seen, 8 kept\n  rate: .* hours left", told)
    assert f"held by process {os.getpid()} on" in told

    (ended,) = status(tmp_path / "run")
    assert (ended.state, ended.num_done, ended.num_shards, list(ended.failed)) == (FAILED, 3, 4, ["00003"])
    assert "\n  turned away by colour: mean_channel_std_low 6\n" in tell([ended])
    assert "failed: 00003: " in tell([ended]) and "held by" not in tell([ended])
    mixed_source(source, 4)
    curate(source, tmp_path / "run" / "curate", recipe, ALONE)
    (ended,) = status(tmp_path / "run")
    assert (ended.state, ended.num_seen, ended.num_kept, ended.hours_left) == (FINISHED, 32, 16, None)
    assert json.loads(json.dumps(values([ended])))[0]["holder"]["is_released"] is True


def test_done_records_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    curate(mixed_source(tmp_path / "in", 3), tmp_path / "out", recipe_from(tmp_path, RECIPE), ALONE)
    (tmp_path / "out/00001_stats.json").write_text("{}")
    (tmp_path / "out/00002_stats.json").unlink()
    (found,) = status(tmp_path / "out")
    assert (found.state, found.num_done) == (DAMAGED, 1) and found.damaged == ("00001_stats.json", "00002_stats.json")
    assert "00001_stats.json, 00002_stats.json" in tell([found])


def test_a_run_that_was_killed_is_dead_and_names_whom_it_was_held_by(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 2)
    curate(source, tmp_path / "out", recipe_from(tmp_path, RECIPE), ALONE)
    (tmp_path / "out" / "manifest.json").unlink()
    (tmp_path / "out" / "00001_stats.json").unlink()
    hold = "import os, sys, pathlib; from curation.storage.lease import hold; held = hold(pathlib.Path(sys.argv[1]))"
    held = [sys.executable, "-c", f"{hold}; held.__enter__(); os._exit(9)", str(tmp_path / "out")]
    assert subprocess.run(held, check=False).returncode == 9
    (dead,) = status(tmp_path / "out")
    assert (dead.state, dead.num_done, dead.num_shards) == (DEAD, 1, None)
    assert "which is gone\n  to go on: the command that began it, once more" in tell([dead])
    taking = "from curation.storage.lease import hold; held = hold(place); held.__enter__(); os._exit(9)"
    script = (
        f"import os, pathlib, sys; place = pathlib.Path(sys.argv.pop()); sys.argv[0] = '/bin/facecaptionhq'; {taking}"
    )
    typed = [sys.executable, "-c", script, "curate", "my photos", "out", str(tmp_path / "out")]
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(typed, check=False, cwd=tmp_path, env=there).returncode == 9
    (again,) = status(tmp_path / "out")
    assert f"to go on, in {tmp_path}: facecaptionhq curate 'my photos' out" in tell([again])
    many = replace(dead, failed={str(number): "why" for number in range(30)}, quarantined={"crashed": 2})
    assert "... and 10 more" in tell([many]) and "quarantined: crashed 2" in tell([many])
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(UsageError):
        status(tmp_path / "out")


RECIPE = f"""
schema_version = 1
name = "status"
{NOT_ISOLATED}
name = "colour"
keep.mean_channel_std = {{ min = 2.0 }}
"""

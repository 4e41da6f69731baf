import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation.commands.curate.shard import CurateJob, curate_shard
from curation.commands.curate.stage import curate
from curation.dataset.manifest import ShardReport
from curation.errors import ClusterError, ShardError, UsageError
from curation.run.runner import START_WAIT_VARIABLE, ShardFailure, Spread, _start, run_shards
from curation.storage.publish import publish
from tests.curation.shards import bytes_of, mixed_source, recipe_from


@dataclass(frozen=True)
class Task:
    shard: str
    folder: Path


def work(task: Task) -> ShardReport:
    """Succeed, fail, stumble over a bug, or kill the worker, by the shard's name; leave a mark for every attempt."""
    with (task.folder / task.shard).open("a") as marks:
        marks.write(f"{os.getpid()}\n")
    if task.shard == "broken":
        raise ShardError(f"{task.shard}.tar: cut")
    if task.shard == "bug":
        raise ZeroDivisionError("nobody foresaw this")
    first = len((task.folder / task.shard).read_text().splitlines()) == 1
    if task.shard == "poison" or (task.shard == "killed_once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    return ShardReport(task.shard, "work", 1, 1, {}, {})


def outcomes(folder: Path, names: list[str], spread: Spread) -> dict[str, ShardReport | ShardFailure]:
    found = list(run_shards([Task(name, folder) for name in names], work, spread))
    assert len(found) == len(names)
    return {outcome.shard: outcome for outcome in found}


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_job_has_one_outcome_and_a_failure_stops_no_other(
    tmp_path: Path, num_workers: int, ray_address: str
) -> None:
    found = outcomes(tmp_path, ["a", "broken", "bug", "b"], Spread(num_workers, ray_address))
    assert isinstance(found["a"], ShardReport) and isinstance(found["b"], ShardReport)
    assert found["broken"] == ShardFailure("broken", "broken.tar: cut")
    assert isinstance(found["bug"], ShardFailure) and found["bug"].is_bug
    assert "ZeroDivisionError: nobody foresaw this" in found["bug"].error


@pytest.mark.slow
def test_a_lost_worker_is_replaced_and_one_that_always_dies_is_given_up_by_name(
    tmp_path: Path, ray_address: str
) -> None:
    found = outcomes(tmp_path, ["killed_once", "poison", "a", "b", "c", "d"], Spread(2, ray_address))
    assert isinstance(found["killed_once"], ShardReport)
    assert isinstance(found["poison"], ShardFailure) and "the worker was lost 4 times" in found["poison"].error
    assert sum(isinstance(outcome, ShardReport) for outcome in found.values()) == 5
    assert len((tmp_path / "killed_once").read_text().splitlines()) == 2
    assert len((tmp_path / "poison").read_text().splitlines()) == 4


def rest_in_memory(task: Task) -> ShardReport:
    with (task.folder / task.shard).open("a") as marks:
        marks.write("attempt\n")
    time.sleep(30)
    return ShardReport(task.shard, "work", 1, 1, {}, {})


@pytest.mark.slow
def test_a_shard_that_rays_memory_monitor_ends_is_tried_three_times_and_given_up_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "500")
    monkeypatch.setenv("RAY_task_oom_retry_delay_base_ms", "100")
    found = [*run_shards([Task("big", tmp_path), Task("other", tmp_path)], rest_in_memory, Spread(1))]
    assert next(outcome for outcome in found if outcome.shard == "big") == ShardFailure(
        "big", "the worker was ended 3 times because memory ran out"
    )
    attempts = (tmp_path / "big").read_text() if (tmp_path / "big").exists() else ""
    assert len(attempts.splitlines()) <= 3  # the monitor may be quicker than the first line of an attempt


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--ray-address 127\.0\.0\.1:1: no Ray cluster answers there"):
        outcomes(tmp_path, ["a"], Spread(1, ray_address="127.0.0.1:1"))


def test_a_ray_that_cannot_start_is_one_error_that_says_what_may_help_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Path(tempfile.gettempdir(), "long" * 30)
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with pytest.raises(ClusterError, match=r"Ray does not start here: .*107 bytes.*; --workers 0 needs no Ray; TMPDIR"):
        outcomes(place, ["a", "b"], Spread(1))
    assert not list(place.iterdir())


class BusyRay:
    """Raises what Ray raises where its processes do not come up, so often, and starts then."""

    def __init__(self, num_failures: int) -> None:
        self.num_failures, self.folders = num_failures, list[str]()

    def init(self, _temp_dir: str, **_: object) -> None:
        self.folders.append(_temp_dir)
        if len(self.folders) <= self.num_failures:
            raise Exception("The current node timed out during startup.\nThe GCS is overloaded.")


def test_a_ray_that_is_not_up_in_time_is_started_once_more_and_no_more_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(START_WAIT_VARIABLE, "30")
    folders = [tmp_path / "first", tmp_path / "second"]
    for num_failures in (0, 1):
        _start(ray := BusyRay(num_failures), folders, {})
        assert ray.folders == [str(folder) for folder in folders[: num_failures + 1]]
    with pytest.raises(ClusterError, match=r"timed out during startup\. The GCS is overloaded\.; run again") as caught:
        _start(BusyRay(2), folders, {})
    assert caught.value.exit_code == 1


def write_half(path: Path) -> None:
    path.write_bytes(b"half")


def killed_in_the_middle(job: CurateJob) -> ShardReport:
    """Curate a shard; the worker that first has shard 00001 dies when its tar is out but nothing claims it yet."""
    mark = job.target / "killed"
    if job.shard == "00001" and not mark.exists():
        mark.touch()
        publish(job.target / "00001.tar", write_half)
        os.kill(os.getpid(), signal.SIGKILL)
    return curate_shard(job)


@pytest.mark.slow
def test_a_ray_worker_killed_in_the_middle_of_a_shard_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_address: str
) -> None:
    source, recipe = mixed_source(tmp_path / "in", 4), recipe_from(tmp_path)
    curate(source, tmp_path / "whole", recipe, Spread(0))
    monkeypatch.setattr("curation.commands.curate.stage.curate_shard", killed_in_the_middle)
    manifest = curate(source, tmp_path / "out", recipe, Spread(2, ray_address))
    assert (tmp_path / "out" / "killed").exists()
    assert (manifest.num_seen, manifest.failed) == (32, {})
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from curation.commands.curate.shard import CurateJob, curate_shard
from curation.commands.curate.stage import curate
from curation.dataset.manifest import MANIFEST_NAME, RECIPE_NAME
from curation.dataset.sources import TarShard
from curation.dataset.stages import CURATE
from curation.errors import LeaseError, StorageError, VerificationError
from curation.run.runner import Outcome, ShardFailure, Spread, run_shards
from curation.run.target import claim, finish
from curation.sandbox.in_flight import Intent, intent_path
from curation.storage import lease as leases
from curation.storage import lock
from curation.storage.fence import fenced
from curation.storage.lease import Lease, common_fence, hold, holder_of
from curation.storage.lock import LEASE_FOLDER
from curation.storage.publish import publish, publish_sealed, read_sealed, remove
from tests.curation.shards import bytes_of, mixed_source, recipe_from

HOLD = """
import sys, time
from pathlib import Path
from curation.storage.lease import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def elsewhere(folder: Path, number: int, beat: int = 0) -> None:
    """Let a process of another machine hold the folder."""
    owner = {"owner": "x", "host": "elsewhere", "machine": "another boot", "pid": 1, "process_started": 1}
    (folder / LEASE_FOLDER).mkdir(parents=True, exist_ok=True)
    publish_sealed(folder / LEASE_FOLDER / f"{number:06d}.json", {**owner, "beat": beat, "released": False})


class Clock:
    """A clock that stands still but while somebody sleeps by it, and what happens elsewhere meanwhile."""

    def __init__(self) -> None:
        self.now, self.meanwhile = 0.0, list[Callable[[], None]]()
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
        time.sleep(0.001)  # the others' turn
        for happen in self.meanwhile:
            happen()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (leases, lock):
        monkeypatch.setattr(module, "time", made)
    return made


def test_a_second_run_is_told_who_holds_the_folder_and_leaves_with_its_own_code(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(LeaseError, match=rf"held by another run \(process {process.pid} on ") as error,
            hold(tmp_path),
        ):
            pass
        assert error.value.exit_code == 75
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_killed_holder_of_this_machine_is_followed_at_once(tmp_path: Path, clock: Clock) -> None:
    process = holder(tmp_path)
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    with hold(tmp_path) as lease:
        assert lease.number == 2
    assert clock.now == 0.0


@pytest.mark.parametrize("its_clock_s", [0, 86_400, -86_400])
def test_a_holder_elsewhere_is_followed_only_when_its_heart_has_stopped_whatever_its_clock_says(
    tmp_path: Path, clock: Clock, its_clock_s: int
) -> None:
    def beat(number: int = 0) -> None:
        elsewhere(tmp_path, 7, number)
        os.utime(tmp_path / LEASE_FOLDER / "000007.json", (time.time() + its_clock_s,) * 2)

    beat()
    beats = count(1)
    clock.meanwhile.append(lambda: beat(next(beats)))
    with pytest.raises(LeaseError, match="held by another run"), hold(tmp_path):
        pass
    clock.meanwhile.clear()
    with hold(tmp_path) as lease:
        assert lease.number == 8
    assert clock.now >= lock.TTL_S


def test_of_many_that_find_a_dead_holder_exactly_one_takes_over(tmp_path: Path, clock: Clock) -> None:
    for race in range(25):
        folder = tmp_path / str(race)
        elsewhere(folder, 1)
        barrier, outcomes, release = threading.Barrier(4), Counter[str](), threading.Event()

        def run(folder: Path = folder, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                with hold(folder):
                    outcomes["won"] += 1  # noqa: B023  read again in the same round
                    release.wait(120)  # noqa: B023
            except LeaseError:
                outcomes["refused"] += 1  # noqa: B023

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        while outcomes["refused"] < 3 and outcomes.total() < 4:
            time.sleep(0.01)
        release.set()
        for thread in threads:
            thread.join()
        assert outcomes == {"won": 1, "refused": 3}


def test_a_newcomer_whose_watched_holder_is_tidied_away_looks_again(tmp_path: Path, clock: Clock) -> None:
    elsewhere(tmp_path, 1)

    def follow() -> None:
        clock.meanwhile.clear()
        elsewhere(tmp_path, 2)
        (tmp_path / LEASE_FOLDER / "000001.json").unlink()

    clock.meanwhile.append(follow)
    with hold(tmp_path) as lease:
        assert lease.number == 3


@dataclass(frozen=True)
class Elsewhere:
    """A job of a run, on a machine that does not see the run's folder."""

    shard: str
    lease: Lease


@pytest.mark.parametrize("has_an_old_copy", [False, True])
def test_a_machine_that_does_not_see_the_folder_of_the_run_makes_nothing_there_and_says_so(
    tmp_path: Path, has_an_old_copy: bool
) -> None:
    with hold(tmp_path / "shared"):
        pass
    if has_an_old_copy:
        shutil.copytree(tmp_path / "shared", tmp_path / "here" / "shared")
    before = sorted(tmp_path.rglob("*"))
    with hold(tmp_path / "shared") as lease:
        there = replace(lease, folder=tmp_path / "here" / "shared")
        jobs = [Elsewhere("00000", there)]
        (outcome,) = run_shards(jobs, lambda _: pytest.fail("worked on the wrong machine"), Spread(num_workers=0))
        with fenced(there.fence), pytest.raises(StorageError, match="not the folder that this run holds"):
            remove(there.folder / "00000.tar")
        assert isinstance(outcome, ShardFailure) and "mount the same folder" in outcome.error and not outcome.is_bug
    assert [path for path in sorted(tmp_path.rglob("*")) if "here" in path.parts and path not in before] == []


def test_the_heart_beats_while_the_folder_is_held_and_numbers_only_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.05)
    for number in (1, 2, 3):
        with hold(tmp_path) as lease:
            assert lease.number == number
            path = tmp_path / LEASE_FOLDER / f"{number:06d}.json"
            first = read_sealed(path)["beat"]
            while read_sealed(path)["beat"] == first:  # the suite's own limit of time ends a heart that stands still
                time.sleep(0.01)
            assert read_sealed(path)["beat"] > first
        assert read_sealed(path)["released"]
    assert [path.name for path in (tmp_path / LEASE_FOLDER).glob("*.json")] == ["000003.json"]


def test_a_run_that_was_replaced_commits_nothing_more(tmp_path: Path) -> None:
    source, recipe, target = mixed_source(tmp_path / "in", 1), recipe_from(tmp_path), tmp_path / "out"
    elsewhere(target, 4)
    job = CurateJob("00000", TarShard("00000", source / "00000.tar"), target, recipe, {}, None, Lease(target, 3))
    with pytest.raises(LeaseError, match=r"another run took over \(lease 4\)"):
        curate_shard(job)
    assert bytes_of(target) == {} and not (target / "00000_stats.json").exists()
    elsewhere(target, 9)
    with pytest.raises(LeaseError, match="lease 9"):
        Lease(target, 3).require()


def test_a_run_on_a_folder_that_another_works_in_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    source, recipe, target = mixed_source(tmp_path / "in", 2), recipe_from(tmp_path), tmp_path / "out"
    refused = []

    def meanwhile(outcome: Outcome) -> None:
        with pytest.raises(LeaseError, match="held by another run"):
            curate(source, target, recipe, Spread(0))
        refused.append(outcome.shard)

    assert curate(source, target, recipe, Spread(0), meanwhile).failed == {}
    assert refused == ["00000", "00001"]
    curate(source, tmp_path / "whole", recipe, Spread(0))
    assert bytes_of(target) == bytes_of(tmp_path / "whole")


def test_of_runs_that_begin_on_one_folder_at_once_each_is_done_or_refused_and_there_is_one_result(
    tmp_path: Path,
) -> None:
    source, recipe = mixed_source(tmp_path / "in", 2), recipe_from(tmp_path)
    curate(source, tmp_path / "whole", recipe, Spread(0))
    target, outcomes = tmp_path / "out", Counter[str]()

    def run() -> None:
        try:
            curate(source, target, recipe, Spread(0))
            outcomes["done"] += 1
        except LeaseError:
            outcomes["refused"] += 1

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes["done"] >= 1 and outcomes.total() == 3
    assert bytes_of(target) == bytes_of(tmp_path / "whole")


def test_whoever_was_replaced_changes_no_file_of_the_folder_and_none_beside_it_is_refused(tmp_path: Path) -> None:
    folder, beside = tmp_path / "run" / "curate", tmp_path / "run" / "report.json"
    folder.mkdir(parents=True)
    with hold(folder) as lease:
        for name in ("00000.tar", "00001.tar"):
            publish(folder / name, lambda temp: temp.write_bytes(b"before"))
        elsewhere(folder, lease.number + 1)
        with pytest.raises(LeaseError, match="took over"):
            publish(folder / "00000.tar", lambda temp: temp.write_bytes(b"after"))
        with pytest.raises(LeaseError, match="took over"):
            publish_sealed(folder / "manifest.json", {})
        with pytest.raises(LeaseError, match="took over"):
            remove(folder / "00001.tar")
        publish(beside, lambda temp: temp.write_bytes(b"free"))
    publish(folder / "00002.tar", lambda temp: temp.write_bytes(b"nobody holds it any more"))
    assert [(folder / f"0000{number}.tar").read_bytes() for number in (0, 1)] == [b"before", b"before"]
    assert not (folder / "manifest.json").exists() and beside.read_bytes() == b"free"


def test_nobody_takes_over_between_the_look_at_the_lease_and_the_change(tmp_path: Path, clock: Clock) -> None:
    elsewhere(tmp_path, 1)
    refused = pytest.raises(LeaseError, match="another run is changing files there")
    with Lease(tmp_path, 1).passing(), refused, hold(tmp_path):
        pass
    with hold(tmp_path) as lease, Lease(tmp_path, 2).passing():
        assert lease.number == 2


def test_whoever_holds_several_folders_changes_nothing_beside_them_once_one_is_lost(tmp_path: Path) -> None:
    with ExitStack() as leases:
        held = [leases.enter_context(hold(tmp_path / name)) for name in ("curate", "pack")]
        leases.enter_context(fenced(common_fence(tmp_path, held)))
        publish_sealed(tmp_path / "forgotten" / "tombstones.json", {})
        elsewhere(tmp_path / "curate", 2)
        for path in (tmp_path / "forgotten" / "journal.json", tmp_path / "pack" / "jpg-00000.tar"):
            with pytest.raises(LeaseError, match="curate: another run took over"):
                publish_sealed(path, {})


def test_a_run_that_was_replaced_leaves_the_manifest_that_it_would_clear_away(tmp_path: Path) -> None:
    failure = ShardFailure("00000", "broken")
    finish(tmp_path / "curate", CURATE, recipe_from(tmp_path), "of other work", [failure])
    files = [tmp_path / "curate" / name for name in (MANIFEST_NAME, RECIPE_NAME)]
    before = [path.read_bytes() for path in files]
    with hold(tmp_path / "curate"):
        elsewhere(tmp_path / "curate", 2)
        with pytest.raises(LeaseError, match="another run took over"):
            claim(tmp_path / "curate", CURATE, "of this work")
    assert [path.read_bytes() for path in files] == before


def test_a_run_that_was_replaced_leaves_the_log_of_what_is_in_work_to_its_successor(tmp_path: Path) -> None:
    path = intent_path(tmp_path, "00000", "a" * 64)
    with hold(tmp_path):
        intent = Intent(path)
        intent.begin(["a"])
        elsewhere(tmp_path, 2)
        before = path.read_bytes()
        for change in (partial(intent.begin, ["b"]), intent.end, intent.close):
            with pytest.raises(LeaseError, match="another run took over"):
                change()
        assert path.read_bytes() == before
    assert Intent(path).suspects == {"a": 0}


def test_a_file_that_is_no_lease_is_passed_over_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere(tmp_path, 3)
    path = tmp_path / LEASE_FOLDER / "000003.json"
    publish_sealed(path, {**read_sealed(path), "released": True})
    for name in ("abc.json", "-00005.json", "000009.json.swp", "\u0663.json", "7.json"):
        (tmp_path / LEASE_FOLDER / name).write_text("{}")
    with hold(tmp_path) as lease:
        assert lease.number == 4
        lease.require()
    assert caplog.text.count("no lease of ours") == 5 and "abc.json" in caplog.text


@pytest.mark.parametrize("content", [{}, {"released": True}, {"beat": 1}])
def test_a_lease_that_lacks_what_one_says_is_named(tmp_path: Path, content: dict[str, object]) -> None:
    (tmp_path / LEASE_FOLDER).mkdir()
    publish_sealed(tmp_path / LEASE_FOLDER / "000003.json", content)
    with pytest.raises(VerificationError, match=r"000003\.json: sealed, but no lease: it lacks"), hold(tmp_path):
        pass


def test_a_command_that_was_typed_in_a_folder_that_is_gone_holds_a_lease_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setattr("sys.argv", ["facecaptionhq", "curate"])
    (tmp_path / "gone").rmdir()
    with hold(tmp_path / "curate"):
        holder = holder_of(tmp_path / "curate")
    assert holder is not None and (holder.command, holder.folder) == ("facecaptionhq curate", None)

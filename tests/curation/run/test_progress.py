import re
import socket
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from curation.dataset.manifest import ShardReport
from curation.run.progress import Told, progress
from curation.run.runner import ShardFailure, Spread, run_all, tally_of
from curation.run.tally import Tally

HERE = Spread(0)


@dataclass(frozen=True)
class Named:
    shard: str


def report_of(job: Named) -> ShardReport:
    return ShardReport(job.shard, "work", 9, 4, {"faces": {"many": 5}}, {})


def test_each_shard_is_one_line_however_narrow_the_window(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = f"/{'a-folder-of-some-length/' * 5}00001.tar"
    with progress("curate") as on_outcome:
        on_outcome(ShardReport("00000", "work", 2, 2, {}, {}))
        on_outcome(ShardFailure("00001", f"{path}: torn"))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("curate 00000: 2 seen")
    assert second.startswith("curate 00001: FAILED") and path in second


def test_while_no_shard_ends_a_line_a_minute_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("curation.run.progress.MINUTE_S", 0.06)
    said, wanted = "", re.compile(r"2 of 2 shards committed, 18 seen, 8 kept, [\d,.]+ a second, 0:00:00 left")
    with progress("curate") as on_outcome:
        outcomes = run_all([Named("00000"), Named("00001")], report_of, HERE, on_outcome)
        end = time.monotonic() + 20
        while not wanted.search(said) and time.monotonic() < end:
            said += capsys.readouterr().err
            time.sleep(0.01)
    assert len(outcomes) == 2 and said.count("curate 0000") == 2, said
    assert wanted.search(said)


def test_an_interrupt_says_how_many_shards_this_call_did(capsys: pytest.CaptureFixture[str]) -> None:
    earlier, now = ({"host": socket.gethostname(), "started": time.time() + seconds} for seconds in (-60, 1))
    with pytest.raises(KeyboardInterrupt), progress("pack", quiet=True) as on_outcome:
        on_outcome(ShardReport("00000", "work", 2, 2, {}, {}, earlier))
        on_outcome(ShardReport("00001", "work", 2, 2, {}, {}, now))
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "pack: interrupted; 1 shard was committed by this call\n"


def counted(job: Named) -> ShardReport:
    run = {"host": socket.gethostname(), "started": 0}
    return ShardReport(job.shard, "work", 9, 4, {"faces": {"many": 5}}, {}, run)


def test_a_finished_folder_is_told_to_have_nothing_to_do_and_starts_no_ray(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("curate") as on_outcome:
        run_all([Named("00000"), Named("00001")], report_of, Spread(2), on_outcome, counted)
    assert capsys.readouterr().err == "curate: nothing to do: all 2 shards were committed before\n"


def test_samples_of_a_shard_in_work_are_counted_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.run.tally.INTERVAL_S", 0.0)
    with progress("curate", quiet=True) as on_outcome:
        assert isinstance(on_outcome, Told)
        on_outcome.expect(2)
        tally = Tally(tally_of(on_outcome), "00000", 60)
        for number in range(9):
            tally.add(number % 3 == 0)
        assert on_outcome.counts == "9 seen, 3 kept (9 of 60 samples of 1 shard in work)"  # too few to tell the time by
        for _ in range(30):
            tally.add(is_kept=False)
        assert on_outcome.counts.startswith("39 seen, 3 kept (39 of 60 samples of 1 shard in work), ")
        on_outcome(ShardReport("00000", "work", 60, 4, {"faces": {"many": 56}}, {}))
        assert on_outcome.counts.startswith("60 seen, 4 kept, ")


def test_the_time_that_models_take_to_load_is_no_part_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("curation.run.tally.INTERVAL_S", 0.0)
    monkeypatch.setattr("curation.run.progress.time", SimpleNamespace(time=time.time, monotonic=lambda: now))
    with progress("curate", quiet=True) as on_outcome:
        assert isinstance(on_outcome, Told)
        on_outcome.expect(10)
        now = 10_000.0  # for so long nothing was seen
        tally = Tally(tally_of(on_outcome), "00000", 1000)
        tally.add(is_kept=True)
        assert not on_outcome.counts.endswith("left")
        now += 40
        for _ in range(40):
            tally.add(is_kept=True)
        assert on_outcome.counts.endswith(", 1.0 a second, 2:45:59 left")  # a second a picture, and 9,959 of them

"""What a picture can do to the process that looks at it, and how little comes of it."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.curate.work import curate_work_id
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_report
from curation.dataset.tar import read_samples
from curation.errors import WeightsError
from curation.measure.cascade import Entry, Measured
from curation.measure.filter_set import weights_of
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from curation.sandbox.in_flight import Intent, intent_path, suspects
from curation.sandbox.parent import CELL, Cell
from curation.sandbox.protocol import CellFault
from curation.storage.publish import sha256_of
from tests.curation.cluster import processes_of, wait_for
from tests.curation.poisoned import (
    THIRD_PARTY,
    is_running,
    poison,
    poison_recipe,
    poisoned_shard,
    scan_bomb,
    use_third_party,
)
from tests.curation.shards import (
    RECIPE,
    bytes_of,
    colourful,
    mixed_source,
    recipe_from,
    sample_members,
    write_shard,
)
from tests.pictures import encode, solid
from tests.third_party.poison import (
    ALLOCATE,
    EXIT,
    HUNGRY,
    KILL_THE_GROUP,
    KILL_THE_WORKER,
    KILLED_BY_THE_KERNEL,
    LEAKING,
    MISTYPED,
    NAP,
    NAP_NAME,
    NONSENSE,
    RAISE,
    SEGFAULT,
    SLEEP_IN_C,
    SLOW,
)

ALONE = Spread(num_workers=0)
BUSY_S = 60.0
"""What a busy machine may add to what takes a moment."""
UNHURRIED = ("max_measure_s = 1.5", "max_measure_s = 60.0")
REASONS = {
    SEGFAULT: "crashed", SLEEP_IN_C: "timed_out", ALLOCATE: "out_of_memory", RAISE: "measure_failed",
    EXIT: "crashed", NONSENSE: "crashed", MISTYPED: "crashed", KILLED_BY_THE_KERNEL: "out_of_memory",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    use_third_party(monkeypatch)


def verdicts(ledger: Path) -> list[tuple[str | None, str | None]]:
    return [(row["rejected_by"], row["reason"]) for row in read_ledger(ledger).to_pylist()]


@pytest.mark.slow
def test_poison_is_quarantined_by_name_and_its_neighbours_complete_with_any_number_of_workers(
    tmp_path: Path, ray_address: str
) -> None:
    numbers = [0, SEGFAULT, 0, SLEEP_IN_C, ALLOCATE, RAISE, 0, 0, EXIT, KILLED_BY_THE_KERNEL, 0, NONSENSE, MISTYPED, 0]
    poisoned_shard(tmp_path / "in", "00000", numbers)
    poisoned_shard(tmp_path / "in", "00001", [0] * 4)
    expected = [("quarantine", REASONS[number]) if number else (None, None) for number in numbers]
    recipe, marks = poison_recipe(tmp_path), tmp_path / "marks"
    outputs = []
    for num_workers in (0, 2):
        target = tmp_path / f"out{num_workers}"
        manifest = curate(tmp_path / "in", target, recipe, Spread(num_workers, ray_address))
        assert manifest.failed == {}
        assert verdicts(target / "00000.parquet") == expected
        attempts = Counter(line.rsplit(" ", 2)[0] for line in marks.read_text().splitlines())
        assert len(attempts) == 8 and max(attempts.values()) <= 2
        marks.unlink()
        outputs.append(bytes_of(target))
    assert outputs[0] == outputs[1]


def test_the_done_record_says_what_befell_whom(tmp_path: Path) -> None:
    poisoned_shard(tmp_path / "in", "00000", [0, RAISE, SEGFAULT])
    curate(tmp_path / "in", tmp_path / "out", poison_recipe(tmp_path), ALONE)
    raised, crashed = read_report(tmp_path / "out" / "00000_stats.json").run["quarantined"]
    uids = read_ledger(tmp_path / "out" / "00000.parquet")["uid"].to_pylist()
    assert raised == {
        "uid": uids[1], "reason": "measure_failed", "message": "ValueError: this detector does not like that picture",
    }  # fmt: skip
    assert crashed == {"uid": uids[2], "reason": "crashed", "message": "SIGSEGV"}


def test_the_done_record_says_how_much_memory_worker_and_cell_have_held(tmp_path: Path) -> None:
    curate(mixed_source(tmp_path / "in", 1), tmp_path / "out", recipe_from(tmp_path, RECIPE), ALONE)
    peaks = read_report(tmp_path / "out" / "00000_stats.json").run["peak_bytes"]
    assert peaks.keys() == {"worker", "cell"} and all(1 << 24 < peak < 1 << 33 for peak in peaks.values())


def test_more_quarantined_than_poison_explains_fails_the_shard_and_names_them(tmp_path: Path) -> None:
    poisoned_shard(tmp_path / "in", "00000", [RAISE] * 4 + [0] * 4)
    recipe = poison_recipe(tmp_path, ("max_quarantined = 8", "max_quarantined = 3"))
    manifest = curate(tmp_path / "in", tmp_path / "out", recipe, ALONE)
    assert "4 samples could not be measured, more than curate.max_quarantined (3)" in manifest.failed["00000"]
    assert manifest.failed["00000"].count("does not like that picture") == 4
    assert bytes_of(tmp_path / "out") == {}


def test_a_broken_installation_is_noticed_before_every_picture_of_a_long_shard_has_failed(tmp_path: Path) -> None:
    poisoned_shard(tmp_path / "in", "00000", [RAISE] * 60)
    manifest = curate(tmp_path / "in", tmp_path / "out", poison_recipe(tmp_path), ALONE)
    assert "11 samples could not be measured" in manifest.failed["00000"]


@pytest.mark.slow
def test_a_jpeg_of_hundreds_of_scans_is_stopped_by_its_cpu_time(tmp_path: Path) -> None:
    bomb = scan_bomb(4000, 400)
    assert len(bomb) < 1_000_000
    write_shard(tmp_path / "in", "00000", [sample_members("a", bomb), sample_members("b", colourful(1))])
    recipe = recipe_from(tmp_path, RECIPE.replace("[[filters]]", "[curate]\nmax_decode_s = 0.5\n[[filters]]"))
    started = time.process_time()
    curate(tmp_path / "in", tmp_path / "out", recipe, ALONE)
    assert verdicts(tmp_path / "out" / "00000.parquet") == [("quarantine", "timed_out"), (None, None)]
    assert time.process_time() - started < 3.0


@pytest.mark.slow
def test_a_picture_that_takes_more_memory_than_it_may_is_quarantined_and_with_more_it_is_not(tmp_path: Path) -> None:
    large = encode(solid((200, 40, 40), 7000, 7000), "png", compress_level=1)
    write_shard(tmp_path / "in", "00000", [sample_members("a", large, "png"), sample_members("b", colourful(1))])
    found = []
    for mib in (128, 4096):
        text = RECIPE.replace("[[filters]]", f"[curate]\nmax_measure_mib = {mib}\n[[filters]]")
        curate(tmp_path / "in", tmp_path / f"out{mib}", recipe_from(tmp_path / f"recipe{mib}", text), ALONE)
        found.append(verdicts(tmp_path / f"out{mib}" / "00000.parquet"))
    assert found == [[("quarantine", "out_of_memory"), (None, None)], [(None, None), (None, None)]]


def test_the_cell_takes_no_longer_to_give_up_than_it_says(tmp_path: Path) -> None:
    cell, recipe = Cell(), poison_recipe(tmp_path)
    assert isinstance(cell.measure([Entry("0" * 32, colourful(1))], recipe, {})[0], Measured)  # type: ignore[index]
    started = time.monotonic()
    fault = cell.measure([Entry("0" * 32, poison(SLEEP_IN_C))], recipe, {})
    assert isinstance(fault, CellFault) and fault.reason == "timed_out"
    assert time.monotonic() - started < 1.5 + BUSY_S
    assert cell.pid is None


def test_a_picture_that_fills_the_memory_leaves_the_same_cell_to_the_next_one(tmp_path: Path) -> None:
    cell, recipe = Cell(), poison_recipe(tmp_path)
    fault = cell.measure([Entry("0" * 32, poison(ALLOCATE))], recipe, {})
    assert isinstance(fault, CellFault) and fault.reason == "out_of_memory"
    pid = cell.pid
    assert isinstance(cell.measure([Entry("0" * 32, colourful(1))], recipe, {}), list)
    assert cell.pid == pid is not None
    cell.close()
    deadline = time.monotonic() + BUSY_S
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_cell_that_keeps_memory_is_renewed_before_a_picture_pays_for_it(tmp_path: Path) -> None:
    cell, recipe, pids = Cell(), poison_recipe(tmp_path), []
    for number in (LEAKING, LEAKING, LEAKING, 0):
        (measured,) = answered(cell.measure([Entry("0" * 32, poison(number))], recipe, {}))
        assert measured.evidence["poison"].brightness >= 0
        pids.append(cell.pid)
    cell.close()
    assert pids[0] == pids[1] and len(set(pids)) == 2, "two leaks are more than half of what a picture may take"


@pytest.mark.slow
def test_a_limit_that_is_too_small_for_what_one_batch_leaves_is_told_of_once_with_one_that_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, cell, pids = poison_recipe(tmp_path, ("max_measure_mib = 1024", "max_measure_mib = 600")), Cell(), set()
    for _ in range(3):
        answered(cell.measure([Entry("0" * 32, poison(LEAKING))], recipe, {}))
        pids.add(cell.pid)
    cell.close()
    (told,) = (record.getMessage() for record in caplog.records if "max_measure_mib" in record.getMessage())
    assert len(pids) == 3 and 600 < int(told.rpartition("give at least ")[2]) < 1024


def answered(answer: list[Measured] | CellFault) -> list[Measured]:
    assert not isinstance(answer, CellFault), answer
    return answer


def test_an_error_of_loading_is_the_error_itself_and_quarantines_nobody(tmp_path: Path) -> None:
    text = RECIPE.replace('name = "colour"\nkeep.mean_channel_std', 'name = "drawn"\nkeep.drawn_probability')
    with pytest.raises(WeightsError, match="not the bytes that the run was started with"):
        Cell().measure([Entry("0" * 32, colourful(1))], recipe_from(tmp_path, text), {"efficientnet_lite0": "0" * 64})


def test_keys_stay_out_of_the_process_that_reads_what_strangers_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "FACECAPTIONHQ_CAPTION_KEY", "A_VARIABLE"):
        monkeypatch.setenv(name, "abracadabra")
    cell, recipe = Cell(), poison_recipe(tmp_path)
    with closing(cell):
        cell.measure([Entry("0" * 32, colourful(1))], recipe, {})
        kept = Path(f"/proc/{cell.pid}/environ").read_bytes().split(b"\0")
    assert [entry for entry in kept if b"abracadabra" in entry] == [b"A_VARIABLE=abracadabra"]


def test_one_cell_serves_every_run_of_a_process(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 1)
    pids = set()
    for number in range(3):
        curate(source, tmp_path / f"out{number}", recipe_from(tmp_path / str(number)), ALONE)
        pids.add(CELL.pid)
    assert len(pids) == 1 and None not in pids


def test_without_isolation_the_same_bytes_come_out(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 1)
    for isolate in ("true", "false"):
        text = RECIPE.replace("[[filters]]", f"[curate]\nisolate = {isolate}\n[[filters]]")
        curate(source, tmp_path / isolate, recipe_from(tmp_path / f"recipe-{isolate}", text), ALONE)
    assert bytes_of(tmp_path / "true") == bytes_of(tmp_path / "false")


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", {}),
        ("! | + a b | - | + c d | -", {}),
        ("! | + a b | - | + c d", {"c": 0, "d": 0}),
        ("! | + a b | ! | + a | - | + b", {"b": 0}),
        ("! | + a b" + " | ! | + a" * 10, {"a": 0, "b": 0}),
        ("! | + a | ! | + a | ~ | * a", {"a": 1}),
        ("! | + a | ~ | * a | ! | + a | ~ | * a", {"a": 2}),
        ("! | + a | ~ | * a | ! | + a | ~", {"a": 1}),
        ("! | + a | ~ | * a | ! | + a | -", {}),
        ("! | + a b | ! | + c", {"a": 0, "b": 0, "c": 0}),
    ],
)
def test_the_log_of_intent_tells_who_was_in_work_when_a_worker_was_lost(log: str, expected: dict[str, int]) -> None:
    assert suspects(log.split(" | ")) == expected


RUN = """
import sys
from pathlib import Path
from curation.commands.curate.stage import curate
from curation.recipe.recipe import load_recipe
from curation.run.runner import Spread
curate(Path(sys.argv[1]), Path(sys.argv[2]), load_recipe(sys.argv[3]), Spread(int(sys.argv[4])))
"""


def command(folder: Path, recipe_path: str, num_workers: int = 0) -> list[str]:
    return [sys.executable, "-c", RUN, str(folder / "in"), str(folder / "out"), recipe_path, str(num_workers)]


def heed_interrupts() -> None:
    """What a shell starts in the background ignores them, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lose_workers(folder: Path, recipe: Recipe, uid: str, times: int, *, with_all_memory: bool = False) -> Path:
    """Leave the log of attempts on shard 00000 that all ended with this picture in work; return where it lies."""
    work_id = curate_work_id("00000", sha256_of(folder / "in" / "00000.tar"), recipe, weights_of(recipe))
    path = intent_path(folder / "out", "00000", work_id)
    for _ in range(times):
        Intent(path).begin([uid], with_all_memory=with_all_memory)
    return path


def uids_of(folder: Path) -> list[str]:
    return [sample.uid("00000") for sample in read_samples(folder / "in" / "00000.tar")]


@pytest.mark.slow
def test_a_picture_that_would_take_its_worker_along_is_quarantined_by_a_worker_that_lives(tmp_path: Path) -> None:
    poisoned_shard(tmp_path / "in", "00000", [0, 0, KILL_THE_WORKER, 0, KILL_THE_GROUP])
    manifest = curate(tmp_path / "in", tmp_path / "out", poison_recipe(tmp_path), ALONE)
    assert (manifest.failed, manifest.rejected) == ({}, {"quarantine": {"crashed": 2}})


def test_a_healthy_picture_passes_however_often_workers_were_lost_with_it_in_work(tmp_path: Path) -> None:
    poisoned_shard(tmp_path / "in", "00000", [0, 0, 0])
    recipe = poison_recipe(tmp_path, UNHURRIED)
    curate(tmp_path / "in", tmp_path / "whole", recipe, ALONE)
    for uid in uids_of(tmp_path):
        lose_workers(tmp_path, recipe, uid, 10)
    path = lose_workers(tmp_path, recipe, uids_of(tmp_path)[0], 10, with_all_memory=True)
    curate(tmp_path / "in", tmp_path / "out", recipe, ALONE)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole") and not path.exists()


@pytest.mark.parametrize(("num_lost", "expected"), [(2, None), (3, "quarantine")])
def test_a_picture_that_needs_much_and_takes_everything_along_is_not_given_it_for_ever(
    tmp_path: Path, num_lost: int, expected: str | None
) -> None:
    poisoned_shard(tmp_path / "in", "00000", [0, HUNGRY, 0])
    recipe, hungry = poison_recipe(tmp_path, UNHURRIED), uids_of(tmp_path)[1]
    lose_workers(tmp_path, recipe, hungry, num_lost, with_all_memory=True)
    curate(tmp_path / "in", tmp_path / "out", recipe, ALONE)
    assert [by for by, _ in verdicts(tmp_path / "out" / "00000.parquet")] == [None, expected, None]
    found = read_report(tmp_path / "out" / "00000_stats.json").run["quarantined"]
    assert [(who["uid"], who["reason"]) for who in found] == ([(hungry, "out_of_memory")] if expected else [])


def test_without_isolation_a_suspect_still_goes_to_a_cell(tmp_path: Path) -> None:
    poisoned_shard(tmp_path / "in", "00000", [0, KILL_THE_WORKER, 0])
    recipe = poison_recipe(tmp_path, ("[curate]", "[curate]\nisolate = false"), UNHURRIED)
    lose_workers(tmp_path, recipe, uids_of(tmp_path)[1], 1)
    manifest = curate(tmp_path / "in", tmp_path / "out", recipe, ALONE)
    assert manifest.rejected == {"quarantine": {"crashed": 1}}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_whose_group_is_ended_three_times_with_the_same_picture_in_work_quarantines_nobody(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned_shard(tmp_path / "in", "00000", [0, NAP])
    recipe, marks = poison_recipe(tmp_path, UNHURRIED), tmp_path / "marks"
    for attempt in range(3 if number == signal.SIGKILL else 1):
        environment = os.environ | {NAP_NAME: "60"}
        process = subprocess.Popen(
            command(tmp_path, recipe.path),
            env=environment,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
            preexec_fn=heed_interrupts,  # noqa: PLW1509  no thread of this process runs Python code meanwhile
        )
        wait_for(lambda n=attempt: marks.exists() and marks.read_text().count("\n") > n, process)
        os.killpg(process.pid, number)
        assert process.wait() != 0
    monkeypatch.setenv(NAP_NAME, "0")
    assert curate(tmp_path / "in", tmp_path / "out", recipe, ALONE).rejected == {}


@pytest.mark.slow
def test_ray_brings_a_shard_past_a_picture_that_kills_its_workers(tmp_path: Path, ray_address: str) -> None:
    for number in range(3):
        poisoned_shard(tmp_path / "in", f"{number:05d}", [0, 0, KILL_THE_WORKER if number == 1 else 0, 0])
    manifest = curate(tmp_path / "in", tmp_path / "out", poison_recipe(tmp_path), Spread(2, ray_address))
    assert (manifest.failed, manifest.rejected) == ({}, {"quarantine": {"crashed": 1}})
    assert not (tmp_path / "out" / "_tmp").exists()


@pytest.mark.slow
def test_the_cell_dies_with_its_worker(tmp_path: Path) -> None:
    poisoned_shard(tmp_path / "in", "00000", [0, SLOW])
    recipe = poison_recipe(tmp_path, UNHURRIED)
    process = subprocess.Popen(command(tmp_path, recipe.path))
    marks = tmp_path / "marks"
    deadline = time.monotonic() + 60
    while not marks.exists() or not marks.read_text().endswith("\n"):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    cell, watcher = (int(word) for word in marks.read_text().split()[-2:])
    assert is_running(cell) and is_running(watcher)
    process.kill()
    process.wait()
    deadline = time.monotonic() + BUSY_S
    while is_running(cell) or is_running(watcher):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_process_is_left_after_a_run(tmp_path: Path, num_workers: int) -> None:
    source = mixed_source(tmp_path / "in", 2)
    assert source.is_dir()
    recipe = recipe_from(tmp_path)
    environment = {**os.environ, "FACECAPTIONHQ_RUN": str(tmp_path)}
    subprocess.run(command(tmp_path, recipe.path, num_workers), check=True, env=environment)
    deadline = time.monotonic() + BUSY_S
    while left := processes_of(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_a_filter_of_ones_own_needs_no_change_to_the_package(tmp_path: Path) -> None:
    code = "from curation.recipe.filter_plan import filter_names; print('poison' in filter_names())"
    environment = {name: value for name, value in os.environ.items() if name != "FACECAPTIONHQ_FILTERS"}
    for added, expected in (({}, "False"), ({"FACECAPTIONHQ_FILTERS": str(THIRD_PARTY)}, "True")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**environment, **added}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected

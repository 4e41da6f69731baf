"""What a fetched picture can do to the process that looks at it, and how little comes of it."""

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.commands.curate.stage import curate
from curation.commands.fetch.stage import fetch
from curation.commands.fetch.work import fetch_work_id
from curation.commands.pack.stage import pack
from curation.commands.report.write import write_report
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.dataset.manifest import Manifest, read_report
from curation.dataset.tar import read_samples
from curation.measure.cascade import Entry
from curation.measure.fingerprint import LOOK, look_at
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CurateSettings, DecodeLimits
from curation.run.runner import Spread
from curation.sandbox.in_flight import Intent, intent_path
from curation.sandbox.parent import CELL, Cell
from curation.sandbox.protocol import CellFault
from curation.storage.publish import sha256_of
from demo.server import PLACEHOLDER, DemoServer, serve
from tests.curation.commands.fetch.test_stage import RECIPE, WAIVER, ledger, ranked
from tests.curation.poisoned import poison, scan_bomb
from tests.curation.sandbox.test_parent import BUSY_S, REASONS
from tests.curation.shards import bytes_of, colourful, recipe_from
from tests.pictures import encode, solid
from tests.places import ROOT
from tests.third_party.poison import (
    ALLOCATE,
    EXIT,
    KILL_THE_WORKER,
    KILLED_BY_THE_KERNEL,
    NONSENSE,
    RAISE,
    SEGFAULT,
    SLEEP_IN_C,
)

POISONED_LIBRARY = ROOT / "tests" / "third_party" / "looks"
LIMITS = DecodeLimits()
LIMITED = CurateSettings(max_decode_s=0.5, max_measure_s=1.5, max_measure_mib=1024, max_quarantined=12)
CURATE = """
[curate]
isolate = {isolate}
max_decode_s = {decode_s}
max_measure_s = {measure_s}
max_measure_mib = {mib}
max_quarantined = {quarantined}
[[filters]]"""
HARMLESS = 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / PLACEHOLDER).write_bytes(colourful(99, "PNG"))
    with serve(tmp_path / "pictures") as running:
        yield running


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each attempt on poison is written down; from now on cells look by the poisoned library.

    What a cell inherits of the environment differs from before, so that a cell that is alive makes way for a new one.
    """
    monkeypatch.setenv("FACECAPTIONHQ_TEST_MARKS", str(tmp_path / "marks"))
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(POISONED_LIBRARY))
    return tmp_path / "marks"


def recipe_of(
    folder: Path, isolate: bool = True, mib: int = 1024, quarantined: int = 12, decode_s: float = 0.5
) -> Recipe:
    curate = CURATE.format(
        isolate=str(isolate).lower(), mib=mib, quarantined=quarantined, decode_s=decode_s, measure_s=3 * decode_s
    )
    text = RECIPE.format(rows_per_part=100, num_threads=4).replace("timeout_s = 0.5", "timeout_s = 10")
    return recipe_from(folder, text.replace("[[filters]]", curate))


def selection(folder: Path, server: DemoServer, pictures: Sequence[bytes]) -> Path:
    """Put pictures on the server and select them, in their order."""
    urls = []
    for number, picture in enumerate(pictures):
        suffix = "png" if picture.startswith(b"\x89PNG") else "jpg"
        (folder / "pictures" / f"{number}.{suffix}").write_bytes(picture)
        urls.append(f"{server.base_url}/images/{number}.{suffix}")
    return ranked(folder, urls)


def run(folder: Path, recipe: Recipe, name: str = "fetch", **options: Any) -> Manifest:
    chosen: dict[str, Any] = {"waiver": WAIVER, "allow_loopback": True} | options
    return fetch(folder / "rank", folder / name, recipe, Spread(num_workers=0), **chosen)


def verdicts(target: Path) -> list[tuple[str | None, str | None]]:
    return [(row["rejected_by"], row["reason"]) for row in ledger(target)]


@pytest.mark.slow
def test_pictures_that_harm_who_looks_are_named_and_their_neighbours_arrive(
    tmp_path: Path, server: DemoServer, marks: Path
) -> None:
    kinds = [0, SEGFAULT, 0, SLEEP_IN_C, ALLOCATE, RAISE, 0, EXIT, KILLED_BY_THE_KERNEL, 0, NONSENSE, 0]
    pictures = [poison(kind, place) if kind else colourful(place) for place, kind in enumerate(kinds)]
    selection(tmp_path, server, pictures)
    manifest = run(tmp_path, recipe_of(tmp_path))
    assert manifest.failed == {}
    assert verdicts(tmp_path / "fetch") == [("quarantine", REASONS[kind]) if kind else (None, None) for kind in kinds]
    assert manifest.num_seen == len(kinds) == manifest.num_kept + sum(manifest.rejected["quarantine"].values())
    stored = [sample.image_bytes for sample in read_samples(tmp_path / "fetch" / "00000.tar")]
    assert stored == [picture for picture, kind in zip(pictures, kinds, strict=True) if not kind]
    for row, kind in zip(ledger(tmp_path / "fetch"), kinds, strict=True):
        assert (row["phash"] is None) == (row["fetched_width"] is None) == bool(kind)
        assert row["sha256"] is not None and row["num_bytes"] is not None
    attempts = Counter(line.split()[0] for line in marks.read_text().splitlines())
    assert attempts.keys() == {str(kind) for kind in kinds if kind} and max(attempts.values()) <= 2
    assert not any(line.split()[1] == str(os.getpid()) for line in marks.read_text().splitlines())


@pytest.mark.slow
def test_the_done_record_says_who_harmed_whom_and_how(tmp_path: Path, server: DemoServer, marks: Path) -> None:
    selection(tmp_path, server, [colourful(1), poison(SEGFAULT)])
    run(tmp_path, recipe_of(tmp_path))
    (found,) = read_report(tmp_path / "fetch" / "00000_stats.json").run["quarantined"]
    assert found == {"uid": ledger(tmp_path / "fetch")[1]["uid"], "reason": "crashed", "message": "SIGSEGV"}


@pytest.mark.slow
def test_a_run_with_such_a_picture_is_told_and_verifies_like_any_other(
    tmp_path: Path, server: DemoServer, marks: Path
) -> None:
    selection(tmp_path, server, [colourful(1), poison(SEGFAULT), colourful(2)])
    recipe = recipe_of(tmp_path)
    run(tmp_path, recipe)
    curate(tmp_path / "fetch", tmp_path / "curate", recipe, Spread(num_workers=0))
    pack(tmp_path / "curate", tmp_path / "pack", recipe, Spread(num_workers=0))
    assert verify(tmp_path, Spread(num_workers=0)).faults == ()
    (story,) = why(tmp_path, ledger(tmp_path / "fetch")[1]["uid"])
    assert [(part.stage, part.rejected_by, part.reason) for part in story.stages[1:]] == [
        ("fetch", "quarantine", "crashed")
    ]
    page = write_report(tmp_path).read_text()
    assert "decoding or measuring it ends the process" in page


@pytest.mark.slow
def test_a_bomb_of_time_is_stopped_while_it_is_looked_at(tmp_path: Path, server: DemoServer) -> None:
    selection(tmp_path, server, [scan_bomb(4000, 400), colourful(1)])
    started = time.process_time()
    run(tmp_path, recipe_of(tmp_path))
    assert time.process_time() - started < 3.0
    assert verdicts(tmp_path / "fetch") == [("quarantine", "timed_out"), (None, None)]


@pytest.mark.slow
def test_a_bomb_of_memory_is_stopped_and_with_more_memory_it_arrives(tmp_path: Path, server: DemoServer) -> None:
    large = encode(solid((200, 40, 40), 7000, 7000), "png", compress_level=1)
    selection(tmp_path, server, [large, colourful(1)])
    found = []
    for mib in (128, 4096):
        run(tmp_path, recipe_of(tmp_path, mib=mib, decode_s=30), f"fetch{mib}")
        found.append(verdicts(tmp_path / f"fetch{mib}"))
    assert found == [[("quarantine", "out_of_memory"), (None, None)], [(None, None), (None, None)]]


def test_more_harm_than_poison_explains_fails_the_part_and_names_the_pictures(
    tmp_path: Path, server: DemoServer, marks: Path
) -> None:
    selection(tmp_path, server, [poison(RAISE, place) for place in range(3)] + [colourful(1)])
    manifest = run(tmp_path, recipe_of(tmp_path, quarantined=2))
    assert "3 samples could not be measured, more than curate.max_quarantined (2)" in manifest.failed["00000"]
    assert manifest.failed["00000"].count("does not like that picture") == 3
    assert bytes_of(tmp_path / "fetch").keys() == {"findings.parquet"}


@pytest.mark.slow
def test_a_listed_picture_is_withheld_even_if_nobody_can_look_at_it(
    tmp_path: Path, server: DemoServer, marks: Path
) -> None:
    selection(tmp_path, server, [poison(SEGFAULT), colourful(1)])
    (tmp_path / "list.txt").write_text(hashlib.sha256(poison(SEGFAULT)).hexdigest())
    manifest = run(tmp_path, recipe_of(tmp_path), hash_lists=[tmp_path / "list.txt"])
    assert manifest.rejected == {"fetch": {"withheld": 1}}


@pytest.mark.slow
def test_without_isolation_the_same_bytes_come_out(tmp_path: Path, server: DemoServer) -> None:
    pictures = [colourful(1), colourful(2, "PNG"), colourful(3, "WEBP"), b"<html>no picture</html>"]
    selection(tmp_path, server, pictures)
    pids = []
    for isolate in (True, False):
        CELL.close()
        run(tmp_path, recipe_of(tmp_path, isolate=isolate), f"isolate-{isolate}")
        pids.append(CELL.pid)
    assert pids[0] is not None and pids[1] is None
    assert bytes_of(tmp_path / "isolate-True") == bytes_of(tmp_path / "isolate-False")
    rows = ledger(tmp_path / "isolate-True")
    entries = [Entry(row["uid"], picture) for row, picture in zip(rows, pictures, strict=True)]
    assert [row["phash"] for row in rows[:3]] == [seen.evidence[LOOK].phash for seen in look_at(entries[:3], LIMITS)]
    assert rows[3]["kept"] and rows[3]["phash"] is None


@pytest.mark.slow
def test_pictures_that_were_in_work_when_workers_were_lost_are_looked_at_again_and_judged_by_what_they_do_now(
    tmp_path: Path, server: DemoServer, marks: Path
) -> None:
    selection(tmp_path, server, [colourful(1), poison(KILL_THE_WORKER), colourful(2)])
    recipe, part = recipe_of(tmp_path), tmp_path / "rank" / "00000.parquet"
    uids = pq.read_table(part)["uid"].to_pylist()
    work_id = fetch_work_id("00000", sha256_of(part), recipe.file.fetch, recipe.file.decode, {})
    for _ in range(10):
        lost = Intent(intent_path(tmp_path / "fetch", "00000", work_id))
        lost.begin(uids)
    assert run(tmp_path, recipe).failed == {}
    assert verdicts(tmp_path / "fetch") == [(None, None), ("quarantine", "crashed"), (None, None)]
    assert not (tmp_path / "fetch" / "_tmp").exists()


def test_one_cell_looks_and_measures_in_turn_and_says_what_this_process_would_see(tmp_path: Path) -> None:
    cell, recipe = Cell(), recipe_of(tmp_path)
    entries = [Entry(f"{number:032x}", colourful(number)) for number in range(3)]
    looks = cell.look(entries, LIMITS, LIMITED)
    assert looks == look_at(entries, LIMITS)
    pid = cell.pid
    measured = cell.measure(entries, recipe, {})
    assert isinstance(measured, list) and measured[0].evidence.keys() == {"colour"}
    assert cell.look(entries, LIMITS, LIMITED) == looks
    assert cell.pid == pid is not None
    cell.close()


@pytest.mark.slow
def test_the_time_that_a_look_waits_for_a_processor_is_not_the_pictures(marks: Path) -> None:
    cell, (core, *_) = Cell(), os.sched_getaffinity(0)
    pictures = [Entry("0" * 32, colourful(seed, side=2048)) for seed in range(8)]
    assert isinstance(cell.look(pictures, LIMITS, LIMITED), list)
    rivals = [
        subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(12)
    ]
    try:
        assert cell.pid is not None
        os.sched_setaffinity(cell.pid, {core})
        started = time.monotonic()
        looks = cell.look(pictures, LIMITS, LIMITED)
        assert time.monotonic() - started > LIMITED.max_measure_s, "there were rivals enough"
        assert isinstance(looks, list)
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
        cell.close()


def test_the_wall_clock_ends_a_look_that_sleeps(marks: Path) -> None:
    cell = Cell()
    assert isinstance(cell.look([Entry("0" * 32, colourful(1))], LIMITS, LIMITED), list)
    started = time.monotonic()
    fault = cell.look([Entry("0" * 32, poison(SLEEP_IN_C))], LIMITS, LIMITED)
    assert isinstance(fault, CellFault) and fault.reason == "timed_out"
    assert time.monotonic() - started < 1.5 + BUSY_S
    assert cell.pid is None

"""Replies are paid for once, whatever becomes of the run: kept as they come, taken up, forgotten with the picture."""

import json
import os
import shutil
import signal
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from curation.commands.caption import rows
from curation.commands.caption.arrived import NUM_IN_OBJECT, REPLIES, Arrived, files_of, lines_without, replies_in
from curation.commands.caption.beside import places_of
from curation.commands.caption.reply import Reply
from curation.commands.caption.rows import reply_columns
from curation.commands.caption.stage import caption
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.gc.collect import collect
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.manifest import read_manifest
from curation.dataset.stages import CURATE
from curation.dataset.tombstones import Tombstones, write_tombstones
from curation.recipe.captioning import CaptioningSettings
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from curation.storage.paths import location
from curation.storage.publish import TEMP_FOLDER
from tests.curation.commands.caption.model_server import address_of, good, model_server
from tests.curation.commands.caption.test_stage import (
    ALONE,
    SEVEN,
    lacking,
    packed_of,
    recipe_with,
    rows_of,
    told_by,
    write_curated,
)
from tests.curation.shards import bytes_of

SETTINGS = CaptioningSettings(model="tiny", revision="r1", prompt="Describe it.")
NUM_FIRST = 4
"""Pictures of the first shard."""


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_curated(run := tmp_path_factory.mktemp("curated") / "run")
    return run


@pytest.fixture
def run(curated: Path, tmp_path: Path) -> Path:
    shutil.copytree(curated, tmp_path / "run")
    return tmp_path / "run"


def lines_in(run: Path) -> list[bytes]:
    return [line for path in files_of(run / "caption") for line in path.read_bytes().splitlines()]


class Hanging:
    """Answers all but the third picture of the first shard; when the others are kept, the run is interrupted."""

    def __init__(self, run: Path) -> None:
        self.run, self.is_over, self.was_waited_for = run, threading.Event(), False

    def __call__(self, number: int, before: int) -> Any:
        if (number, before) == (2, 0):
            while len(lines_in(self.run)) < NUM_FIRST - 1:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            self.was_waited_for = not self.is_over.wait(100)
        return good(number, before)


def interrupted(run: Path, recipe: Any) -> None:
    """Break a run off while one request of the first shard is under way."""
    with model_server(hanging := Hanging(run)) as server:
        with pytest.raises(KeyboardInterrupt):
            caption(run / "curate", recipe, ALONE, endpoint=address_of(server))
        hanging.is_over.set()
    assert not hanging.was_waited_for, "Ctrl-C ends what is under way"


def test_a_run_that_was_broken_off_waits_for_nobody_and_asks_again_only_about_whom_it_has_no_reply(
    run: Path, tmp_path: Path
) -> None:
    recipe = recipe_with(tmp_path / "recipes")
    interrupted(run, recipe)
    (path,) = files_of(run / "caption")
    kept = {(reply["uid"], reply["reply"], reply["caption_time"]) for reply in map(json.loads, lines_in(run))}
    with path.open("ab") as file:
        file.write(path.read_bytes()[:200])  # as if the power had failed in the middle of a line
    assert [one.file for one in collect(run).removed] == [], "they were paid for"
    with model_server() as server:
        told = told_by(server, run, recipe)
        assert sorted(server.asked.values()) == [1] * (SEVEN - NUM_FIRST + 1)
    assert len(kept) == NUM_FIRST - 1 and kept < {(row["uid"], row["reply"], row["caption_time"]) for row in told}
    assert not (run / "caption" / TEMP_FOLDER).exists() and verify(run, ALONE).faults == ()


def test_forgetting_reaches_the_replies_of_a_run_that_was_broken_off(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes")
    interrupted(run, recipe)
    first = [row["uid"] for row in rows_of(run / "curate")[:NUM_FIRST]]
    gone = next(uid for uid in first if any(uid.encode() in line for line in lines_in(run)))
    others = [line for line in lines_in(run) if gone.encode() not in line]
    torn = next(line for line in lines_in(run) if gone.encode() in line)
    with files_of(run / "caption")[0].open("ab") as file:
        file.write(torn[: torn.index(b'"uid"')])  # says of nobody whom it is about
    write_tombstones(run, Tombstones(uid=frozenset({gone})))  # as where a takedown was killed behind them
    assert any(f"{gone} was forgotten, and a reply" in fault.wrong for fault in verify(run, ALONE).faults)
    forget(run, read_requests([gone], "the test"))
    assert lines_in(run) == others and len(others) == NUM_FIRST - 2
    with model_server() as server:
        told = told_by(server, run, recipe)
        assert sum(server.asked.values()) == SEVEN - NUM_FIRST + 1
    assert len(told) == SEVEN - 1 and gone not in {row["uid"] for row in told}
    forget(run, read_requests([first[0], first[1]], "the test"))
    assert verify(run, ALONE).faults == ()


def placed_in(curated: Path, recipe: Recipe) -> dict[tuple[str, int], str]:
    """Return which pictures have a place for a new caption, by shard and row."""
    places = places_of(curated, recipe)
    reports = read_manifest(curated, CURATE.name).shards
    return {(report.shard, row): named for report in reports for row, named in places(report.shard).items()}


def test_other_checks_after_a_takedown_leave_every_other_picture_in_its_place(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes", 'prefer = "new"')
    other = recipe_with(tmp_path / "other", 'prefer = "new"', "[caption.checks]\nmax_words = 99\n")
    with model_server() as server:
        told_by(server, run, recipe)
        gone = lacking(run)  # has a place for its new caption alone
        shutil.copytree(run, tmp_path / "never" / "run")
        forget(run, read_requests([gone], "the test"))
        stones = [row for row in rows_of(run / "caption") if row["uid"] == gone]
        for folder in (run, tmp_path / "never" / "run"):
            caption(folder / "curate", other, ALONE, endpoint=address_of(server))
            assert verify(folder, ALONE).faults == ()
        assert len(server.bodies) == SEVEN
    assert [row for row in rows_of(run / "caption") if row["uid"] == gone] == stones and stones[0]["has_caption"]
    left, whole = (placed_in(folder / "curate", other) for folder in (run, tmp_path / "never" / "run"))
    assert left.keys() == whole.keys() and {at for at in whole if left[at] != whole[at]} == {
        at for at in left if not left[at]
    }
    for folder in (run, tmp_path / "never" / "run"):
        pack(folder / "curate", folder / "pack", other, ALONE)
    whole_pack = packed_of(tmp_path / "never" / "run" / "pack")
    assert packed_of(run / "pack") == {uid: fields for uid, fields in whole_pack.items() if uid != gone}


def test_a_pack_knows_replies_of_another_time_from_those_that_it_holds(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, packs = recipe_with(tmp_path / "recipes", 'prefer = "new"'), []
    with model_server(lambda number, before: good(number, 0)) as server:
        for day in (1, 2):
            monkeypatch.setattr(rows, "datetime", _Day(day))
            shutil.rmtree(run / "caption", ignore_errors=True)
            server.asked.clear()
            told_by(server, run, recipe)
            manifest = pack(run / "curate", run / "pack", recipe, ALONE)
            packs.append((manifest.shards[0].work_id, bytes_of(run / "pack")))
            assert {fields["caption_time"][8:10] for fields in packed_of(run / "pack").values()} == {f"{day:02d}"}
    assert packs[0][0] != packs[1][0] and packs[0][1] != packs[1][1]
    assert verify(run, ALONE).faults == ()


class _Day:
    """A calendar that has one day."""

    def __init__(self, day: int) -> None:
        self._day = day

    def now(self, _: object) -> datetime:
        return datetime(2026, 1, self._day, tzinfo=UTC)


@pytest.mark.parametrize("scheme", ["", "memory:/"])
def test_replies_outlive_the_attempt_on_a_disk_one_by_one_and_in_a_store_by_the_dozen(
    tmp_path: Path, scheme: str
) -> None:
    folder, num = location(f"{scheme}{tmp_path}"), NUM_IN_OBJECT + 1
    columns = partial(reply_columns, settings=SETTINGS)
    lost = Arrived(folder, "00000", "a" * 64)
    for number in range(num):
        lost.add(f"{number:032x}", "0" * 64, columns(Reply(f"reply \u2028 {number}")))
    with Arrived(folder, "00000", "a" * 64) as again:
        assert len(again.known()) == (NUM_IN_OBJECT if scheme else num)
        again.add("f" * 32, "0" * 64, columns(Reply("one more")))
    with Arrived(folder, "00000", "a" * 64) as last:
        known = last.known()
        assert known["f" * 32, "0" * 64]["reply"] == "one more" and known[f"{1:032x}", "0" * 64]["reply"][-1] == "1"
    assert not Arrived(folder, "00000", "b" * 64).known(), "they answer another question"
    assert list(replies_in(folder / TEMP_FOLDER / f"00000.gone{REPLIES}")) == [], "another worker has taken it up"
    assert lines_without(files_of(folder)[0], {"0" * 31 + "x"}) is None
    assert not Arrived(folder, "0000", "a" * 64).known()
    last.remove()
    assert [path for path in files_of(folder) if path.name.endswith(REPLIES)] == []


@pytest.mark.slow
def test_workers_of_ray_bring_the_ledgers_of_one_process(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes")
    shutil.copytree(run, tmp_path / "alone" / "run")
    told = []
    with model_server(lambda number, before: good(0, 0)) as server:
        for folder, num_workers in ((tmp_path / "alone" / "run", 0), (run, 2)):
            server.asked.clear()
            manifest = caption(folder / "curate", recipe, Spread(num_workers), endpoint=address_of(server))
            assert not manifest.failed and sorted(server.asked.values()) == [1] * SEVEN
            shards = [(report.shard, report.work_id, report.num_kept) for report in manifest.shards]
            told.append((shards, [{**row, "caption_time": None} for row in rows_of(folder / "caption")]))
    assert told[0] == told[1], "but for the time of each reply"

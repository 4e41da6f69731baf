"""Claiming a folder: one piece of work owns it, and nothing foreign is touched."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.dataset.manifest import MANIFEST_NAME, ShardReport, write_report
from curation.dataset.stages import CURATE, PACK, RANK
from curation.errors import LeaseError, SafetyError, UsageError
from curation.run.folders import stages_of
from curation.run.runner import ShardFailure
from curation.run.target import claimed, finish, work_of
from tests.curation.shards import recipe_from

DONE = ShardReport("00000", "id", 0, 0, {}, {})


class Meanwhile:
    """Does something once, at the moment before a folder is listed; Python's audit hooks tell of it (PEP 578)."""

    def __init__(self, folder: Path, act: Callable[[], None]) -> None:
        self._folder: str | None = str(folder)
        self._act = act
        sys.addaudithook(self._hear)  # cannot be taken away again; it falls silent after the one time

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.listdir" and self._folder is not None and str(arguments[0]) == self._folder:
            self._folder = None
            self._act()

    @property
    def has_acted(self) -> bool:
        return self._folder is None


def test_who_loses_a_race_for_a_new_folder_is_told_that_another_run_holds_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    is_held, may_end = threading.Event(), threading.Event()

    def hold_it() -> None:
        with claimed(folder, CURATE, "work"):
            is_held.set()
            assert may_end.wait(60)

    winner = threading.Thread(target=hold_it)

    def let_it_win() -> None:
        winner.start()
        assert is_held.wait(60)

    race = Meanwhile(folder, let_it_win)
    try:
        with pytest.raises(LeaseError, match="held by another run"), claimed(folder, CURATE, "work"):
            pass
    finally:
        may_end.set()
        winner.join()
    assert race.has_acted


def test_a_folder_of_other_work_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    with claimed(tmp_path / "run", CURATE, "work"):
        write_report(tmp_path / "run", DONE)
    before = work_of(tmp_path / "run")
    for stage, work in ((CURATE, "other work"), (PACK, "work")):
        with pytest.raises(UsageError, match="holds the output of other work"), claimed(tmp_path / "run", stage, work):
            pass
    assert work_of(tmp_path / "run") == before


def test_a_folder_with_files_that_no_stage_wrote_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty, and not the output of curate"), claimed(tmp_path, CURATE, "work"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("other", [(CURATE, "other work"), (RANK, "work")])
def test_a_folder_in_which_nothing_was_committed_is_free_for_other_work(tmp_path: Path, other: Any) -> None:
    with pytest.raises(RuntimeError), claimed(tmp_path / "run", CURATE, "work"):
        raise RuntimeError
    with claimed(tmp_path / "run", *other):
        pass
    assert work_of(tmp_path / "run") == {"stage": other[0].name, "work_digest": other[1]}


@pytest.mark.parametrize("error", [SafetyError, UsageError])
def test_what_is_refused_claims_nothing_and_is_no_stage_of_the_run(tmp_path: Path, error: type[Exception]) -> None:
    folder = tmp_path / "run" / "rank"
    with pytest.raises(error), claimed(folder, RANK, "work"):
        raise error("a gate has no column")
    assert work_of(folder) is None
    with pytest.raises(UsageError, match="holds none of the folders"):
        stages_of(tmp_path / "run")
    with pytest.raises(error), claimed(folder, RANK, "work"):
        write_report(folder, DONE)
        raise error("too late")
    assert [place.stage for place in stages_of(tmp_path / "run")] == ["rank"], "what is committed stays claimed"


def test_so_is_one_whose_manifest_names_failures_alone_and_that_manifest_goes(tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", recipe_from(tmp_path)
    with claimed(run, CURATE, "work") as lease:
        finish(run, CURATE, recipe, "work", [ShardFailure("00000", "no network")], lease=lease)
    with claimed(run, CURATE, "work"):
        assert (run / MANIFEST_NAME).exists(), "it is this work's own, and goes on"
    with claimed(run, CURATE, "other work"):
        assert work_of(run) == {"stage": "curate", "work_digest": "other work"}


def test_a_finished_result_of_nothing_is_a_result(tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", recipe_from(tmp_path)
    with claimed(run, PACK, "work") as lease:
        finish(run, PACK, recipe, "work", [], lease=lease)
    with pytest.raises(UsageError, match="holds the output of other work"), claimed(run, PACK, "other work"):
        pass


def test_while_work_is_alive_its_folder_is_held_though_nothing_is_committed_yet(tmp_path: Path) -> None:
    with claimed(tmp_path / "run", CURATE, "work"):
        with pytest.raises(LeaseError, match="held by another run"), claimed(tmp_path / "run", CURATE, "other work"):
            pass
        assert work_of(tmp_path / "run") == {"stage": "curate", "work_digest": "work"}

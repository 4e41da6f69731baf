"""Claiming a folder: one piece of work owns it, and nothing foreign is touched."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.dataset.stages import CURATE, PACK
from curation.errors import LeaseError, UsageError
from curation.run.target import claimed, work_of


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
        pass
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

"""What every kind of odd input tells the campaign."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Case:
    """One odd input. `rows_in` is known from how it was generated, never read back by the code on trial."""

    kind: str
    name: str
    rows_in: int
    account: Callable[[], int]
    """Runs the real command in this process; the rows it kept, rejected by reason, or counted as faults. An input
    that is refused as a whole, with a clear error and a non-zero exit code, accounts for all its rows."""


class Kind(Protocol):
    """A module of this package: `tars`, `tables`, `lists`, `urls`."""

    def cases(self, count: int, seed: int, folder: Path) -> Iterator[Case]:
        """`count` cases, written below `folder` one at a time; a pure function of `seed`."""
        ...

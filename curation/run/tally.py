"""How far a shard is while it is worked on: a small file per shard in a folder of this machine, for progress alone.

A worker on another machine has no such folder, and says nothing; nothing depends on what stands here.
"""

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 0.5
"""How often a file is written at most."""


@dataclass(frozen=True)
class Count:
    """How far one shard is."""

    num_done: int
    num_kept: int
    num_samples: int
    """Samples that it has in all."""


class Tally:
    """Counts the samples of one shard, and says so where somebody looks."""

    def __init__(self, folder: Path | None, shard: str, num_samples: int) -> None:
        """Count from nothing; without a folder nothing is ever written."""
        self._path = None if folder is None else folder / shard.replace("/", "_")
        self._num_samples, self._num_done, self._num_kept, self._last = num_samples, 0, 0, 0.0

    def add(self, is_kept: bool) -> None:
        """Count one more sample."""
        self._num_done += 1
        self._num_kept += is_kept
        if self._path is not None and time.monotonic() - self._last >= INTERVAL_S:
            self._last = time.monotonic()
            with suppress(OSError):
                self._path.write_text(f"{self._num_done} {self._num_kept} {self._num_samples}", encoding="ascii")


def read_tallies(folder: Path, done: Collection[str]) -> list[Count]:
    """Return how far the shards in work are, but for those that are `done`; a file that is half written counts not."""
    counts = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(OSError, ValueError, TypeError):
            if path.name not in done:
                counts.append(Count(*map(int, path.read_text(encoding="ascii").split())))
    return counts

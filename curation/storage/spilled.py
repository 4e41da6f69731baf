"""Values that wait on disk: what a process must know of every row would not fit in its memory."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Spilled(Generic[K, V]):
    """Values by key, in a file of a scratch folder: memory grows with the keys alone. Ends with its block."""

    def __init__(self, path: Path) -> None:
        """Begin empty; nobody else writes to `path`, since what lies there is unpickled."""
        self._file = path.open("w+b")
        self._places: dict[K, int] = {}

    def __enter__(self) -> "Spilled[K, V]":
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the file."""
        self._file.close()

    def put(self, key: K, value: V) -> None:
        """Let a value wait under a key of its own."""
        self._places[key] = self._file.seek(0, 2)
        pickle.dump(value, self._file, pickle.HIGHEST_PROTOCOL)

    def __getitem__(self, key: K) -> V:
        """Return the value of a key, as often as it is asked for."""
        self._file.seek(self._places[key])
        value: V = pickle.load(self._file)  # noqa: S301  our own file in a folder of our own
        return value

    def get(self, key: K, default: V) -> V:
        """Return the value of a key, or the default where it has none."""
        return self[key] if key in self._places else default

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._places)

    def __iter__(self) -> Iterator[V]:
        """Yield all values in the order in which they came."""
        return (self[key] for key in list(self._places))

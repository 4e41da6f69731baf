"""Samples come from the source shards in their order and leave in another: here they wait, on disk beyond a measure."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import Any

MAX_MEMORY_BYTES = 128 << 20
"""What is more waits in a file of `TMPDIR`."""

Members = Iterable[tuple[str, bytes]]


class Spool:
    """Rows in memory, members in a temporary file; ends with the block that opened it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._file = SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES)  # noqa: SIM115  `__exit__` is the other end
        self._waiting: dict[Hashable, tuple[Mapping[str, Any], list[tuple[str, int, int]]]] = {}

    def __enter__(self) -> "Spool":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        self._file.close()

    def put(self, key: Hashable, row: Mapping[str, Any], members: Members) -> None:
        """Let a sample wait under a key of its own."""
        places = []
        for name, content in members:
            places.append((name, self._file.tell(), len(content)))
            self._file.write(content)
        self._waiting[key] = row, places

    def take(self, key: Hashable) -> tuple[Mapping[str, Any], Iterator[tuple[str, bytes]]]:
        """Return a sample's row and members; once anything was taken, nothing more is put.

        Raises:
            KeyError: it is not there.
        """
        row, places = self._waiting.pop(key)
        return row, self._read(places)

    def _read(self, places: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, bytes]]:
        for name, offset, num_bytes in places:
            self._file.seek(offset)
            yield name, self._file.read(num_bytes)

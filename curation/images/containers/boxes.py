"""Boxes of ISO base media files (ISO/IEC 14496-12), the form of AVIF, and a cursor over what they carry."""

from collections.abc import Iterator
from typing import NamedTuple

from curation.images.containers.parts import ContainerError

NUM_HEADER_BYTES, NUM_LONG_HEADER_BYTES, NUM_FULL_BYTES = 8, 16, 4
"""Size and type; the same with a size of 64 bits; version and flags of a full box."""


class Box(NamedTuple):
    """A box: its type, and where it, its content and its end stand in the file, in bytes."""

    kind: bytes
    start: int
    body: int
    end: int


class Cursor:
    """Reads numbers one after the other; whatever leaves the box is a ContainerError."""

    def __init__(self, data: bytes, box: Box) -> None:
        self._data, self.position, self._end = data, box.body, box.end

    def number(self, num_bytes: int) -> int:
        """Return the next big-endian number of so many bytes; 0 of none."""
        return int.from_bytes(self.take(num_bytes))

    def take(self, num_bytes: int) -> bytes:
        """Return the next bytes."""
        start, self.position = self.position, self.position + num_bytes
        if self.position > self._end:
            raise ContainerError(f"avif: a box ends at byte {self._end} within a field")
        return self._data[start : self.position]

    def version(self) -> tuple[int, int]:
        """Return version and flags of a full box."""
        return self.number(1), self.number(3)


def boxes_in(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes that fill a part of a file.

    Raises:
        ContainerError: one of them is shorter than its own header, or leaves the part.
    """
    while start < end:
        box = box_at(data, start, end)
        if box is None or box.end > end:
            raise ContainerError(f"avif: a box leaves what holds it at byte {start}")
        yield box
        start = box.end


def box_at(data: bytes, start: int, end: int) -> Box | None:
    """Return the box that begins at `start`, which may reach beyond `end`; None where not even its header is there."""
    body = start + NUM_HEADER_BYTES
    if body > end:
        return None
    num_bytes, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : body]
    if num_bytes == 1:
        num_bytes, body = int.from_bytes(data[body : body + 8]), start + NUM_LONG_HEADER_BYTES
        if body > end:
            return None
    elif num_bytes == 0:
        num_bytes = end - start
    if start + num_bytes < body:
        raise ContainerError(f"avif: box {kind!r} of {num_bytes} bytes at byte {start}")
    return Box(kind, start, body, start + num_bytes)

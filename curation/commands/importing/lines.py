"""Physical lines of a text file, compressed or not: none is lost, whatever ends it, and none grows without bound."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from curation.errors import FaceCaptionError, UsageError

MAX_LINE_BYTES = 1 << 20
"""A longer line is a fault: no row of metadata is as long, and a file without line ends must not fill the memory."""
BLOCK_BYTES = 1 << 18
BOM = b"\xef\xbb\xbf"
WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)

OPENERS: Mapping[str, Any] = {
    "": open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda path, mode: pa.CompressedInputStream(pa.OSFile(str(path), mode), "zstd"),
}
"""Suffix after the format's own -> what opens it."""


@dataclass(frozen=True)
class Line:
    """One physical line: its number, from 1, and its bytes without what ends it; None where it is too long."""

    number: int
    content: bytes | None
    end: bytes = b"\n"


def lines(path: Path) -> Iterator[Line]:
    """Yield every line of a file, ended by LF, CRLF or CR, in any mixture; their number is held against the raw bytes.

    Raises:
        UsageError: it is UTF-16 or UTF-32, or cannot be read or unpacked to its end.
    """
    number, ends, waiting, is_long = 0, _Ends(), b"", False
    for block in _blocks(path):
        ends.count(block)
        pieces = (waiting + block).splitlines(keepends=True)
        waiting = b"" if pieces[-1].endswith(b"\n") else pieces.pop()
        for piece in pieces:
            number += 1
            yield _line(number, piece, is_long)
            is_long = False
        if len(waiting) > MAX_LINE_BYTES and not waiting.endswith(b"\r"):
            is_long, waiting = True, b"..."
    if waiting:
        number += 1
        yield _line(number, waiting, is_long)
    if number != ends.num_lines:
        raise FaceCaptionError(f"{path}: {ends.num_lines} lines by its bytes, but {number} were read")


class _Ends:
    """Counts lines by the bytes that end them, without a look at what stands between."""

    def __init__(self) -> None:
        self._count, self._last = 0, b""

    def count(self, block: bytes) -> None:
        """Count the ends of one block."""
        self._count += block.count(b"\n") + block.count(b"\r") - (self._last + block).count(b"\r\n")
        self._last = block[-1:]

    @property
    def num_lines(self) -> int:
        """Lines so far, an unfinished last one included."""
        return self._count + (self._last not in (b"", b"\n", b"\r"))


def _line(number: int, piece: bytes, is_long: bool) -> Line:
    content = piece.rstrip(b"\r\n") if piece[-2:] == b"\r\n" else piece[:-1] if piece[-1:] in b"\r\n" else piece
    end = piece[len(content) :]
    if number == 1:
        content = content.removeprefix(BOM)
    return Line(number, None if is_long or len(content) > MAX_LINE_BYTES else content, end)


def suffix_of(path: Path) -> tuple[str, str]:
    """Return the suffix that names a file's format and the one that names its compression, both in lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in OPENERS else ""
    return (suffixes[-1] if suffixes else ""), packed


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with OPENERS[suffix_of(path)[1]](path, "rb") as file:
        yield file


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as file:
            block = file.read(BLOCK_BYTES)
            if block.startswith(WIDE_BOMS):
                raise UsageError(f"{path}: is UTF-16 or UTF-32; save it as UTF-8")
            while block:
                yield block
                block = file.read(BLOCK_BYTES)
    except DAMAGED as error:
        raise UsageError(f"{path}: cannot be read to its end: {error}") from error

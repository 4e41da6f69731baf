"""WebDataset tars, written the same way every time."""

import hashlib
import tarfile
from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO

from curation.dataset.tar.headers import BLOCK_BYTES, CHUNK_BYTES, END_OF_ARCHIVE_BYTES, FILE, archive, padded
from curation.dataset.tar.names import CAPTION_SUFFIX, METADATA_SUFFIX, split_name
from curation.errors import ShardError

NUM_NAME_BYTES = 100
MAX_OCTAL = 0o77777777777
"""The largest size that eleven octal digits tell."""


@dataclass(frozen=True)
class Member:
    """Where a member lies in a tar: its name, the offset of its header and the size of its content, in bytes."""

    name: str
    offset: int
    num_bytes: int


class TarWriter:
    """Writes a USTAR file whose bytes depend on its members alone: mtime 0, no owner, mode 0644, the order given."""

    def __init__(self, path: Path) -> None:
        """Begin the file."""
        self._file = path.open("wb")
        self.offset = 0
        """Where the header of the next member will stand, in bytes."""

    def add(self, name: str, content: bytes) -> Member:
        """Append a member, and return where it lies."""
        header = _header(name, len(content))
        return self._appended(name, len(content), (header, content, bytes(-len(content) % BLOCK_BYTES)))

    def add_from(self, name: str, file: IO[bytes], num_bytes: int) -> Member:
        """Append a member of `num_bytes` that are read from `file` piece by piece, and return where it lies.

        Raises:
            OSError: the file holds fewer.
        """
        pieces = (_header(name, num_bytes),), _pieces(file, num_bytes), (bytes(-num_bytes % BLOCK_BYTES),)
        return self._appended(name, num_bytes, chain(*pieces))

    def close(self) -> None:
        """End the file; closing twice does nothing."""
        if self._file.closed:
            return
        try:
            end = self.offset + END_OF_ARCHIVE_BYTES
            self._file.write(bytes(END_OF_ARCHIVE_BYTES + -end % tarfile.RECORDSIZE))
        finally:
            self._file.close()

    def _appended(self, name: str, num_bytes: int, pieces: Iterable[bytes]) -> Member:
        member = Member(name, self.offset, num_bytes)
        for piece in pieces:
            self._file.write(piece)
        self.offset += BLOCK_BYTES + padded(num_bytes)
        return member


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> list[Member]:
    """Write a whole file as `TarWriter` does."""
    with closing(TarWriter(path)) as tar:
        return [tar.add(name, content) for name, content in members]


def picture_name(key: str, image_format: str) -> str:
    """Return the name of a sample's picture in our tars."""
    return f"{key}.{image_format}"


def sample_members(
    key: str, image_format: str, image_bytes: bytes, metadata: bytes, caption: str | None
) -> Iterator[tuple[str, bytes]]:
    """Yield the members of a sample as every stage writes them: its picture, its metadata in JSON, its caption."""
    yield picture_name(key, image_format), image_bytes
    yield f"{key}.{METADATA_SUFFIX}", metadata
    if caption is not None:
        yield f"{key}.{CAPTION_SUFFIX}", caption.encode()


def fitting_key(key: str) -> str:
    """Return a key whose members' names fit a USTAR header: itself, or of a longer one beginning and digest."""
    try:
        _header(f"{key}.{'x' * 8}", 0)
    except ValueError:
        content = key.encode("utf-8", "surrogateescape")
        return content[:40].decode("utf-8", "ignore") + "~" + hashlib.sha256(content).hexdigest()[:32]
    return key


def _pieces(file: IO[bytes], num_bytes: int) -> Iterator[bytes]:
    while num_bytes > 0:
        piece = file.read(min(num_bytes, CHUNK_BYTES))
        if not piece:
            raise OSError(f"{num_bytes} bytes of a member are missing")
        yield piece
        num_bytes -= len(piece)


def _header(name: str, num_bytes: int) -> bytes:
    """Return the USTAR header of a member: `tarfile`'s, and put together from one of its own where that is the same.

    Raises:
        ValueError: the name, or the number of bytes, fits into none.
    """
    if len(name) > NUM_NAME_BYTES or not name.isascii() or num_bytes > MAX_OCTAL:
        return _told_by_tarfile(name, num_bytes)
    before, between, after, checksum = _blank()
    text, size = name.encode(), b"%011o" % num_bytes
    digits = b"%06o" % (checksum + sum(text) + sum(size))
    return b"".join((text.ljust(NUM_NAME_BYTES, b"\0"), before, size, between, digits, b"\0 ", after))


@cache
def _blank() -> tuple[bytes, bytes, bytes, int]:
    """Return what stands between name, size and checksum and behind it, and what all that adds to it."""
    blank = _told_by_tarfile("", 0)
    rest = blank[:124] + bytes(11) + blank[135:148] + b" " * 8 + blank[156:]
    return blank[100:124], blank[135:148], blank[156:], sum(rest)


def _told_by_tarfile(name: str, num_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = num_bytes
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")


def has_our_form(path: Path) -> bool:
    """Whether a local file begins, or ends at once, as every tar of `write_tar` does."""
    with path.open("rb") as file:
        block = file.read(BLOCK_BYTES)
    if block == bytes(BLOCK_BYTES):
        return path.stat().st_size == tarfile.RECORDSIZE
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return block == _header(info.name, info.size)


def members_of(path: Path, shown: Path | None = None) -> list[Member]:
    """Return where the members of a local tar lie, from the headers alone.

    Raises:
        ShardError: the tar is not whole, or holds anything but regular files.
    """
    headers, _ = archive(path, shown or path)
    for header in headers:
        if header.kind != FILE:
            raise ShardError(f"{shown or path}: member {header.name!r} is not a regular file")
    return [Member(header.name, header.offset, header.num_bytes) for header in headers]


def copy_without(source: Path, target: Path, keys: Container[str], shown: Path | None = None) -> dict[str, int]:
    """Copy a local tar of `write_tar` byte for byte, but for the samples named by `keys`.

    Returns the offset of every member's header in the copy, by its name.

    Raises:
        ShardError: the tar is not whole, or not of the form that `write_tar` gives it.
    """
    shown = shown or source
    offsets: dict[str, int] = {}
    place = end = 0
    with source.open("rb") as came, target.open("wb") as file:
        for member in members_of(source, shown):
            if member.offset != end:
                raise ShardError(f"{shown}: member {member.name!r} does not follow the one before it at once")
            size = BLOCK_BYTES + padded(member.num_bytes)
            end += size
            if split_name(member.name)[0] in keys:
                continue
            came.seek(member.offset)
            file.write(came.read(size))
            offsets[member.name] = place
            place += size
        file.write(bytes(END_OF_ARCHIVE_BYTES))
        file.write(bytes(-(place + END_OF_ARCHIVE_BYTES) % tarfile.RECORDSIZE))
    return offsets

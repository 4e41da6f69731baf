"""Walks the headers of a tar, bounded whatever they claim: name, place and size of every member, never its content.

Written out, because `tarfile` reads chained headers by recursion and sparse maps without an end, and because what it
makes of damage differs from one Python to the next. Source: POSIX.1-2017, pax interchange format and ustar; the GNU
tar manual, "Basic Tar Format".
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from curation.dataset.tar.limits import (
    MAX_CHAINED_HEADERS,
    MAX_EXTENSION_BYTES,
    MAX_MEMBERS,
    MAX_NAME_BYTES,
    MAX_NAMES_BYTES,
)
from curation.errors import ShardError

BLOCK_BYTES = 512
END_OF_ARCHIVE_BYTES = 2 * BLOCK_BYTES
ZEROS = bytes(BLOCK_BYTES)
CHUNK_BYTES = 1 << 20

FILE, DIRECTORY, SPARSE, OTHER = "file", "directory", "sparse file", "link or device"
REGULAR = frozenset({b"0", b"\0", b"7"})
WITHOUT_CONTENT = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
LONG_NAME, LONG_LINK, GNU_SPARSE = b"L", b"K", b"S"
PAX = frozenset({b"x", b"X"})
EXTENSIONS = PAX | {b"g", LONG_NAME, LONG_LINK}
"""Headers that say more of the next member; what `g` says of all that follow is of no use here."""
MAX_SIZE_DIGITS = 20


class TarFaultError(ValueError):
    """A tar is not whole: the message says what is wrong, `offset` where it begins, `name` in which member."""

    def __init__(self, message: str, offset: int, name: str = "") -> None:
        """Keep where in the file it is, in bytes, and the name of the member that is cut, if one is."""
        super().__init__(message)
        self.offset = offset
        self.name = name


@dataclass(frozen=True, slots=True)
class Header:
    """What the headers say of one member."""

    name: str
    kind: str
    """`file`, `directory`, `sparse file`, or `link or device`."""
    offset: int
    """Byte offset of its first header, those that extend it included."""
    start: int
    """Byte offset of its content."""
    num_bytes: int
    """Size of its content as it lies in the tar."""


@dataclass
class Walk:
    """A tar that is being walked; after the last member, where its end mark begins."""

    file: BinaryIO
    num_bytes: int
    """Size of the file."""
    end: int = 0
    """Byte offset behind the last member that was yielded."""
    num_members: int = field(default=0, init=False)
    num_names_bytes: int = field(default=0, init=False)

    def members(self) -> Iterator[Header]:
        """Yield every member from `end` on, up to the next end mark.

        Raises:
            TarFaultError: a header is broken, a member is cut, or a limit is passed.
        """
        while (member := self._next()) is not None:
            yield member

    def _next(self) -> Header | None:
        said, place = dict[str, bytes](), self.end
        for _ in range(MAX_CHAINED_HEADERS + 1):
            block = self._block(place)
            if block == ZEROS and not said:
                return None
            kind, size = _checked(block, place)
            if kind not in EXTENSIONS:
                return self._member(block, kind, size, said, place)
            said |= _said(kind, self._extension(place, size), place)
            place += BLOCK_BYTES + padded(size)
        raise TarFaultError(f"more than {MAX_CHAINED_HEADERS} extended headers in a row at byte {self.end}", self.end)

    def _member(self, block: bytes, kind: bytes, size: int, said: dict[str, bytes], place: int) -> Header:
        start, size = place + BLOCK_BYTES, _size(said, size, place)
        name = _name(block, said)
        is_sparse = kind == GNU_SPARSE or "sparse" in said
        if kind == GNU_SPARSE:
            start = self._behind_map(block, start)
        if kind in WITHOUT_CONTENT:
            size = 0
        if start + size > self.num_bytes:
            left = max(self.num_bytes - start, 0)
            raise TarFaultError(f"cut: member {name!r} claims {size} bytes, and {left} are left", self.end, name)
        self.num_members += 1
        self.num_names_bytes += len(name)
        if self.num_members > MAX_MEMBERS or self.num_names_bytes > MAX_NAMES_BYTES:
            raise TarFaultError(f"more than {MAX_MEMBERS} members, or {MAX_NAMES_BYTES} bytes of names", self.end)
        member = Header(name, _kind(kind, name, is_sparse=is_sparse), self.end, start, size)
        self.end = start + padded(size)
        return member

    def _extension(self, place: int, size: int) -> bytes:
        if size > MAX_EXTENSION_BYTES:
            raise TarFaultError(f"an extended header claims {size} bytes, more than {MAX_EXTENSION_BYTES}", place)
        content = self._read(place + BLOCK_BYTES, size)
        if len(content) != size:
            raise TarFaultError(f"cut: an extended header at byte {place} claims {size} bytes", place)
        return content

    def _behind_map(self, block: bytes, start: int) -> int:
        """Return where the content of an old GNU sparse file begins: behind as many blocks of its map as there are."""
        more = block[482]
        while more:
            more = self._block(start)[504]
            start += BLOCK_BYTES
        return start

    def _block(self, place: int) -> bytes:
        block = self._read(place, BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise TarFaultError(f"cut: no end-of-archive blocks at byte {self.end}", self.end)
        return block

    def _read(self, place: int, size: int) -> bytes:
        self.file.seek(place)
        return self.file.read(size)

    def require_end(self) -> int:
        """Return how many bytes follow the last member; they must be zeros, at least an end mark.

        Raises:
            TarFaultError: the end mark is not whole, or something follows it.
        """
        if self._read(self.end, END_OF_ARCHIVE_BYTES) != bytes(END_OF_ARCHIVE_BYTES):
            raise TarFaultError(f"cut: no end-of-archive blocks at byte {self.end}", self.end)
        place = first_content(self.file, self.end + END_OF_ARCHIVE_BYTES)
        if place is not None:
            raise TarFaultError(f"its end mark stands at byte {self.end}, and more follows it at byte {place}", place)
        return self.num_bytes - self.end


def archive(path: Path, shown: Path) -> tuple[list[Header], int]:
    """Return every member of a local tar, and how many zeros follow the last.

    Raises:
        ShardError: it is not a whole tar; names `shown`, and the command that saves what can be saved.
    """
    try:
        with path.open("rb") as file:
            walk = Walk(file, path.stat().st_size)
            return list(walk.members()), walk.require_end()
    except FileNotFoundError as error:
        raise ShardError(f"{shown}: no such file") from error
    except (TarFaultError, OSError) as error:
        raise ShardError(f"{shown}: not a whole tar: {error}; {mend(shown)}") from error


def is_header(block: bytes) -> bool:
    """Whether a block is a header of ustar or GNU tar: its magic is there, and its checksum holds."""
    if len(block) < BLOCK_BYTES or block[257:262] != b"ustar":
        return False
    try:
        _checked(block, 0)
    except TarFaultError:
        return False
    return True


def mend(shown: Path) -> str:
    """Return the advice that goes with a tar that cannot be read as it is."""
    return f"get it anew, or save what it holds: facecaptionhq repair {shown.parent} TARGET"


def first_content(file: BinaryIO, place: int) -> int | None:
    """Return the offset of the first block from `place` on that holds anything but zeros, None where none does."""
    file.seek(place)
    while chunk := file.read(CHUNK_BYTES):
        if chunk.count(0) != len(chunk):
            leading = len(chunk) - len(chunk.lstrip(b"\0"))
            return place + leading // BLOCK_BYTES * BLOCK_BYTES
        place += len(chunk)
    return None


def padded(num_bytes: int) -> int:
    """Return how many bytes a content of that size takes up in a tar."""
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _checked(block: bytes, place: int) -> tuple[bytes, int]:
    """Return type and size of a header whose checksum holds, added up of signed or unsigned bytes."""
    stated, kind, size = _number(block[148:156]), block[156:157], _number(block[124:136])
    rest = block[:148] + b" " * 8 + block[156:]
    total = sum(rest)
    is_sound = stated == total or stated == total - 256 * sum(byte > 127 for byte in rest)
    if stated is None or size is None or not is_sound:
        raise TarFaultError(f"cut: no end-of-archive blocks at byte {place}, and no header either", place)
    return kind, size


def _number(text: bytes) -> int | None:
    """Return a field's number, octal or (GNU) in binary; None where it is neither, or negative."""
    if text[0] & 0x80:
        return None if text[0] == 0xFF else int.from_bytes(bytes([text[0] & 0x7F]) + text[1:], "big")
    digits = text.partition(b"\0")[0].strip()
    if not digits:
        return 0
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else None


def _said(kind: bytes, content: bytes, place: int) -> dict[str, bytes]:
    """Return what an extended header says of the next member: `name`, `size`, and whether it is `sparse`."""
    if kind == LONG_NAME:
        return {"name": content.partition(b"\0")[0]}
    if kind not in PAX:
        return {}
    records = _pax_records(content, place)
    said = {ours: records[theirs] for theirs, ours in ((b"path", "name"), (b"size", "size")) if theirs in records}
    if any(key.startswith(b"GNU.sparse.") for key in records):
        said["sparse"] = b""
        said["name"] = records.get(b"GNU.sparse.name", said.get("name", b""))
    return {key: value for key, value in said.items() if value or key == "sparse"}


def _pax_records(content: bytes, place: int) -> dict[bytes, bytes]:
    records, start = dict[bytes, bytes](), 0
    while start < len(content) and content[start]:
        digits = content[start : start + MAX_SIZE_DIGITS].partition(b" ")[0]
        end = start + int(digits) if digits.isdigit() and len(digits) < MAX_SIZE_DIGITS else 0
        key, equals, value = content[start + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or end > len(content) or content[end - 1 : end] != b"\n":
            raise TarFaultError(f"a broken PAX record at byte {place + BLOCK_BYTES + start}", place)
        records[key] = value
        start = end
    return records


def _size(said: dict[str, bytes], size: int, place: int) -> int:
    if "size" not in said:
        return size
    if not said["size"].isdigit() or len(said["size"]) >= MAX_SIZE_DIGITS:
        raise TarFaultError(f"a PAX record says that the size is {said['size'][:40]!r}", place)
    return int(said["size"])


def _name(block: bytes, said: dict[str, bytes]) -> str:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _bounded(said.get("name", name)).decode("utf-8", "surrogateescape")


def _bounded(name: bytes) -> bytes:
    if len(name) <= MAX_NAME_BYTES:
        return name
    suffix = name[-16:].rpartition(b".")
    return name[: MAX_NAME_BYTES - 100] + b"~" + hashlib.sha256(name).hexdigest().encode() + suffix[1] + suffix[2]


def _kind(kind: bytes, name: str, *, is_sparse: bool) -> str:
    if is_sparse:
        return SPARSE
    if kind == b"5" or (kind in REGULAR and name.endswith("/")):
        return DIRECTORY
    return FILE if kind in REGULAR else OTHER

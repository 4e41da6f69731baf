"""WebDataset tars, written the same way every time and read without forgiving anything."""

import io
import json
import tarfile
from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from curation.dataset.sample import Sample
from curation.errors import ShardError

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "avif", "bin", "gif", "bmp", "tif", "tiff", "img"})
"""Member suffixes that hold a picture; what it really is, its bytes say."""
UNKNOWN_FORMAT = "bin"
"""Suffix of a picture whose bytes are those of no format known here."""
METADATA_SUFFIX = "json"
CAPTION_SUFFIX = "txt"
MAX_MEMBER_BYTES = 256 << 20
MAX_EXTENSION_BYTES = 1 << 20
"""Most bytes of a header that only extends another (long names, PAX records): tarfile reads it into memory whole."""
EXTENSIONS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
BLOCK_BYTES = 512
END_OF_ARCHIVE_BYTES = 2 * BLOCK_BYTES


@dataclass(frozen=True)
class Member:
    """Where a member lies in a tar: its name, the offset of its header and the size of its content, in bytes."""

    name: str
    offset: int
    num_bytes: int


class _Header(tarfile.TarInfo):
    """A header that is refused before its content is read where it only extends another and claims to be large."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in EXTENSIONS and self.size > MAX_EXTENSION_BYTES:
            raise tarfile.ReadError(f"an extended header claims {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]  # tarfile's own entry point for each kind of header


class TarWriter:
    """Writes a USTAR file whose bytes depend on its members alone: mtime 0, no owner, mode 0644, the order given."""

    def __init__(self, path: Path) -> None:
        """Begin the file."""
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  `close` is the other end

    @property
    def offset(self) -> int:
        """Where the header of the next member will stand, in bytes."""
        return self._tar.offset

    def add(self, name: str, content: bytes) -> Member:
        """Append a member, and return where it lies."""
        member = Member(name, self.offset, len(content))
        self._tar.addfile(_info(name, len(content)), io.BytesIO(content))
        return member

    def close(self) -> None:
        """End the file; closing twice does nothing."""
        self._tar.close()


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


def split_name(member: str) -> tuple[str, str]:
    """Return key and suffix of a member's name, parted at the first dot of its base name (WebDataset's rule)."""
    folder, slash, base = member.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def _info(name: str, num_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = num_bytes
    info.mode = 0o644
    return info


def _header(name: str, num_bytes: int) -> bytes:
    return _info(name, num_bytes).tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")


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
        ShardError: the tar is cut, or holds anything but regular files.
    """
    shown = shown or path
    members: list[Member] = []
    try:
        with tarfile.open(path, "r:", tarinfo=_Header) as tar:
            while (info := tar.next()) is not None:
                if not info.isreg() or info.issparse():
                    raise ShardError(f"{shown}: member {info.name!r} is not a regular file")
                members.append(Member(info.name, info.offset, info.size))
                tar.members = []  # type: ignore[attr-defined]  # else memory grows with the tar
            _require_end(path, shown, tar.offset)
    except (tarfile.TarError, OSError, UnicodeError, ValueError) as error:
        raise ShardError(f"{shown}: not a whole tar: {error}") from error
    return members


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
            size = BLOCK_BYTES + -(-member.num_bytes // BLOCK_BYTES) * BLOCK_BYTES
            end += size
            if _split(shown, member.name)[0] in keys:
                continue
            came.seek(member.offset)
            file.write(came.read(size))
            offsets[member.name] = place
            place += size
        file.write(bytes(END_OF_ARCHIVE_BYTES))
        file.write(bytes(-(place + END_OF_ARCHIVE_BYTES) % tarfile.RECORDSIZE))
    return offsets


def read_samples(path: Path, keys: Container[str] | None = None, shown: Path | None = None) -> Iterator[Sample]:
    """Yield the samples of a local WebDataset tar in order, or only those named by `keys`.

    `shown` is what errors name where `path` is a copy of it.

    Raises:
        ShardError: the tar is cut, holds anything but regular files, a member is too large, or a key comes back
            after another key. Nothing of a broken sample is yielded.
    """
    shown = shown or path
    seen: set[str] = set()
    for key, group in groupby(_read_members(path, shown, keys), key=lambda member: member[0]):
        if key in seen:
            raise ShardError(f"{shown}: key {key!r} comes twice; members of a sample must be adjacent")
        seen.add(key)
        members: dict[str, bytes] = {}
        for _, suffix, content in group:
            if suffix in members:
                raise ShardError(f"{shown}: member {f'{key}.{suffix}'!r} comes twice")
            members[suffix] = content
        yield _sample(key, members)


def _read_members(path: Path, shown: Path, keys: Container[str] | None) -> Iterator[tuple[str, str, bytes]]:
    try:
        with tarfile.open(path, "r:", tarinfo=_Header) as tar:
            while (info := tar.next()) is not None:
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise ShardError(f"{shown}: member {info.name!r} is not a regular file")
                if info.size > MAX_MEMBER_BYTES:
                    raise ShardError(f"{shown}: member {info.name!r} claims {info.size} bytes")
                key, suffix = _split(shown, info.name)
                if keys is not None and key not in keys:
                    continue
                file = tar.extractfile(info)
                content = file.read() if file is not None else b""
                if len(content) != info.size:
                    raise ShardError(f"{shown}: member {info.name!r} is cut: {len(content)} of {info.size} bytes")
                yield key, suffix, content
            _require_end(path, shown, tar.offset)
    except FileNotFoundError as error:
        raise ShardError(f"{shown}: no such file") from error
    except (tarfile.TarError, OSError, UnicodeError, ValueError) as error:
        raise ShardError(f"{shown}: not a whole tar: {error}") from error


def _require_end(path: Path, shown: Path, offset: int) -> None:
    """A tar that was cut between two members looks finished to tarfile; only the two zero blocks prove its end."""
    with path.open("rb") as file:
        file.seek(offset)
        tail = file.read(END_OF_ARCHIVE_BYTES)
    if tail != bytes(END_OF_ARCHIVE_BYTES):
        raise ShardError(f"{shown}: cut: no end-of-archive blocks at byte {offset}")


def _split(path: Path, name: str) -> tuple[str, str]:
    key, suffix = split_name(name)
    if not key.rpartition("/")[2] or not suffix:
        raise ShardError(f"{path}: member {name!r} has no key or no suffix; expected KEY.SUFFIX")
    return key, suffix


def _sample(key: str, members: dict[str, bytes]) -> Sample:
    images = [content for suffix, content in members.items() if suffix in IMAGE_SUFFIXES]
    caption, caption_ok = _text(members.get(CAPTION_SUFFIX))
    metadata, metadata_ok = _json(members.get(METADATA_SUFFIX))
    problem = None
    if len(images) != 1:
        problem = "several_images" if images else "no_image"
    elif not caption_ok:
        problem = "broken_caption"
    elif not metadata_ok:
        problem = "broken_metadata"
    return Sample(key, images[0] if len(images) == 1 else b"", caption, metadata, problem)


def _text(content: bytes | None) -> tuple[str | None, bool]:
    if content is None:
        return None, True
    try:
        return content.decode("utf-8"), True
    except UnicodeDecodeError:
        return None, False


def _json(content: bytes | None) -> tuple[dict[str, Any], bool]:
    if content is None:
        return {}, True
    try:
        metadata = json.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        return {}, False
    return (metadata, True) if isinstance(metadata, dict) else ({}, False)

"""What can be saved of a tar, whatever happened to it: every whole member, and what is wrong with the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from curation.dataset.tar.headers import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    END_OF_ARCHIVE_BYTES,
    Header,
    TarFaultError,
    Walk,
    first_content,
    is_header,
)
from curation.dataset.tar.limits import MAX_END_BYTES, MAX_MEMBERS
from curation.errors import ShardError


@dataclass(frozen=True)
class Salvage:
    """The whole members of a tar, in order, and what happened to it."""

    members: tuple[Header, ...]
    notes: tuple[str, ...]
    """What was odd but cost nothing, such as a second tar behind the first."""
    losses: tuple[str, ...]
    """Where something is gone, or may be."""


def salvage(path: Path, shown: Path) -> Salvage:
    """Return every whole member of a local file: beyond end marks, and beyond what is no header.

    Raises:
        ShardError: it has more members than a tar may have.
    """
    members: list[Header] = []
    notes: list[str] = []
    losses: list[str] = []
    with path.open("rb") as file:
        walk = Walk(file, path.stat().st_size)
        while True:
            try:
                members.extend(walk.members())
                place = _behind_end(walk, notes, losses)
            except TarFaultError as error:
                losses.append(str(error))
                place = next_header(file, error.offset + BLOCK_BYTES)
            if walk.num_members >= MAX_MEMBERS:
                raise ShardError(f"{shown}: more than {MAX_MEMBERS} members; part it first")
            if place is None:
                break
            walk.end = place
    return Salvage(tuple(members), tuple(notes), tuple(losses))


def _behind_end(walk: Walk, notes: list[str], losses: list[str]) -> int | None:
    """Return where something follows an end mark, None where nothing does, and say what is odd about it."""
    place = first_content(walk.file, walk.end)
    num_zeros = (walk.num_bytes if place is None else place) - walk.end
    if num_zeros > MAX_END_BYTES:
        losses.append(f"{num_zeros} zeros from byte {walk.end} on: whatever stood there is gone")
    elif num_zeros < END_OF_ARCHIVE_BYTES:
        losses.append(f"cut in its end mark at byte {walk.end}")
    if place is not None:
        notes.append(f"more follows its end mark, at byte {place}")
    return place


def next_header(file: BinaryIO, place: int) -> int | None:
    """Return the offset of the first block from `place` on that is a header, None where none is."""
    file.seek(place)
    while chunk := file.read(CHUNK_BYTES):
        for start in range(0, len(chunk), BLOCK_BYTES):
            if is_header(chunk[start : start + BLOCK_BYTES]):
                return place + start
        place += len(chunk)
    return None

"""Reads the samples of a tar, one at a time, each within limits that hold before a byte of it is read."""

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from curation.dataset.sample import Sample
from curation.dataset.tar.grouping import Group, grouped
from curation.dataset.tar.headers import FILE, Header, archive, mend
from curation.dataset.tar.limits import MAX_END_BYTES, MAX_MEMBER_BYTES, MAX_SOURCE_TEXT_BYTES, MAX_TEXT_BYTES
from curation.dataset.tar.names import CAPTION_SUFFIX, METADATA_SUFFIX
from curation.dataset.tar.texts import parse_object, parse_text
from curation.errors import ShardError


@dataclass(frozen=True)
class Layout:
    """What a tar holds, by its headers."""

    groups: list[Group]
    """Its samples, in order."""
    skipped: Counter[str]
    """Members that are nobody's, by why: `directory`, `hidden`, `no_suffix`, `pax_header`."""
    num_end_bytes: int
    """Zeros after the last member."""

    @property
    def num_pictures(self) -> int:
        """Return how many members are pictures."""
        return sum(len(group.pictures) for group in self.groups)


def layout_of(path: Path, shown: Path | None = None) -> Layout:
    """Return what a local tar holds; `shown` is what errors name where `path` is a copy of it.

    Raises:
        ShardError: it is not a whole tar, or parts of a sample stand apart.
    """
    members, num_end_bytes = archive(path, shown or path)
    return Layout(*grouped(members, shown or path), num_end_bytes)


def read_samples(path: Path, keys: Container[str] | None = None, shown: Path | None = None) -> Iterator[Sample]:
    """Yield the samples of a local WebDataset tar in order, or only those named by `keys`.

    A sample with several pictures is yielded once for each. `shown` is what errors name where `path` is a copy of it.

    Raises:
        ShardError: the tar is not whole, or parts of a sample stand apart; nothing is yielded then.
    """
    shown = shown or path
    layout = layout_of(path, shown)
    require_usual_end(layout, shown)
    yield from samples_of(layout, path, shown, MAX_TEXT_BYTES, keys)


def require_usual_end(layout: Layout, shown: Path) -> None:
    """Refuse a tar with so many zeros at its end that they may be what is left of members.

    Raises:
        ShardError: there are more than a tar of usual records can have.
    """
    if layout.num_end_bytes > MAX_END_BYTES:
        raise ShardError(
            f"{shown}: not a whole tar: {layout.num_end_bytes} zeros follow its {layout.num_pictures} pictures, and a "
            f"sound tar ends with {MAX_END_BYTES} at most; {mend(shown)}"
        )


def samples_of(
    layout: Layout,
    path: Path,
    shown: Path,
    max_text_bytes: int = MAX_SOURCE_TEXT_BYTES,
    keys: Container[str] | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a local tar whose layout is known, or only those named by `keys`.

    Raises:
        ShardError: the tar has changed since.
    """
    try:
        with path.open("rb") as file:
            for group in layout.groups:
                if keys is None or group.key in keys:
                    yield from _samples(file, group, max_text_bytes)
    except OSError as error:
        raise ShardError(f"{shown}: {error}") from error


def _samples(file: BinaryIO, group: Group, max_text_bytes: int) -> Iterator[Sample]:
    """Yield a sample, once for each of its pictures, or once where it has none."""
    text = group.members.get(CAPTION_SUFFIX)
    caption, text_problem = _text(file, text, max_text_bytes, "caption")
    parsed = None if caption is None else parse_text(caption)
    metadata, json_problem = _text(file, group.members.get(METADATA_SUFFIX), max_text_bytes, "metadata")
    fields = None if metadata is None else parse_object(metadata)
    if caption is not None and parsed is None:
        text_problem = "broken_caption"
    if metadata is not None and fields is None:
        json_problem = "broken_metadata"
    pictures = group.pictures
    of_all = "duplicate_key" if group.is_repeated else "several_images" if len(pictures) > 1 else None
    for picture in pictures or (None,):
        content, picture_problem = _picture(file, picture)
        problem = of_all or picture_problem or text_problem or json_problem
        yield Sample(group.key, content, parsed, fields or {}, problem)


def _picture(file: BinaryIO, member: Header | None) -> tuple[bytes, str | None]:
    if member is None:
        return b"", "no_image"
    if member.kind != FILE:
        return b"", "not_a_file"
    if member.num_bytes > MAX_MEMBER_BYTES:
        return b"", "image_too_large"
    return _content(file, member), None


def _text(file: BinaryIO, member: Header | None, max_bytes: int, name: str) -> tuple[bytes | None, str | None]:
    if member is None:
        return None, None
    if member.kind != FILE:
        return None, "not_a_file"
    if member.num_bytes > max_bytes:
        return None, f"{name}_too_large"
    return _content(file, member), None


def _content(file: BinaryIO, member: Header) -> bytes:
    file.seek(member.start)
    content = file.read(member.num_bytes)
    if len(content) != member.num_bytes:
        raise OSError(f"member {member.name!r} is cut: {len(content)} of {member.num_bytes} bytes")
    return content

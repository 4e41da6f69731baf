"""Walks a tar once, header by header, and says where its samples lie and which of them cannot be used."""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.dataset.tar import BLOCK_BYTES, END_OF_ARCHIVE_BYTES, IMAGE_SUFFIXES, MAX_MEMBER_BYTES, METADATA_SUFFIX
from facemakeup.data.members import members_of, split
from facemakeup.data.shards import Shard
from facemakeup.faults import SampleFault

SCAN_VERSION = 1
"""Raised when a scan would give other rows."""


def scan(shard: Shard, path: Path) -> tuple[list[dict[str, Any]], list[SampleFault]]:
    """Walk a tar and return one row per whole sample, and the faults that need no decoding to be seen."""
    rows: list[dict[str, Any]] = []
    faults: list[SampleFault] = []
    seen: set[str] = set()
    with path.open("rb") as file:
        for key, suffixes, start, end, torn in _groups(path):
            reason = "torn_tar" if torn else "duplicate_key" if key in seen else _missing(suffixes)
            seen.add(key)
            if reason is not None:
                faults.append(SampleFault(reason, shard.address, key, torn or ", ".join(suffixes)))
                continue
            width, height = _stated_size(members_of(os.pread(file.fileno(), end - start, start), key)[METADATA_SUFFIX])
            rows.append({"key": key, "offset": start, "num_bytes": end - start, "width": width, "height": height})
    return rows, faults


def _stated_size(metadata: bytes) -> tuple[int, int]:
    """Return the picture's width and height as its .json member has them, 0 where it does not."""
    try:
        fields = json.loads(metadata)
        width, height = fields["width"], fields["height"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0, 0
    return (width, height) if type(width) is int and type(height) is int and min(width, height) > 0 else (0, 0)


def _missing(suffixes: Sequence[str]) -> str | None:
    num_images = sum(suffix in IMAGE_SUFFIXES for suffix in suffixes)
    if len(set(suffixes)) != len(suffixes):
        return "duplicate_member"
    if num_images != 1:
        return "several_images" if num_images else "no_image"
    return None if METADATA_SUFFIX in suffixes else "no_metadata"


def _groups(path: Path) -> Iterator[tuple[str, list[str], int, int, str]]:
    """Yield key, suffixes, first and last byte of each run of members with one key, and why its tar ends, if it does.

    A tar that is torn ends in a group that says so, even where no member was begun.
    """
    key, suffixes, start, end = "", list[str](), 0, 0
    for name, begin, finish, torn in _headers(path):
        next_key, suffix = split(name) if name else (key or "(between samples)", "")
        if torn:
            if suffixes and next_key != key:
                yield key, suffixes, start, end, ""
                suffixes = []
            yield next_key, suffixes, start, end, torn
            return
        if suffixes and next_key != key:
            yield key, suffixes, start, end, ""
            suffixes = []
        if not suffixes:
            key, start = next_key, begin
        suffixes.append(suffix)
        end = finish
    if suffixes:
        yield key, suffixes, start, end, ""


def _headers(path: Path) -> Iterator[tuple[str, int, int, str]]:
    """Yield name, first and last byte of each member; last, where the tar is torn, why."""
    size = path.stat().st_size
    try:
        with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            previous = 0
            while (info := tar.next()) is not None:
                end = info.offset_data + -(-info.size // BLOCK_BYTES) * BLOCK_BYTES
                if info.size > MAX_MEMBER_BYTES or not (info.isreg() or info.isdir()):
                    yield (
                        info.name,
                        previous,
                        end,
                        f"{info.name} is no regular file of at most {MAX_MEMBER_BYTES} bytes",
                    )
                    return
                if info.offset_data + info.size > size:
                    yield info.name, previous, end, f"{info.name} is cut at byte {size}"
                    return
                if info.isreg():
                    yield info.name, info.offset, end, ""
                previous = tar.offset
            raw.seek(previous)
            if raw.read(END_OF_ARCHIVE_BYTES) != bytes(END_OF_ARCHIVE_BYTES):
                yield "", previous, previous, f"no end-of-archive blocks at byte {previous}"
    except (tarfile.TarError, OSError, UnicodeError, ValueError) as error:
        yield "", size, size, f"{type(error).__name__}: {error}"

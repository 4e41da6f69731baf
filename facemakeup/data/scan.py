"""Walks a tar once, header by header, and says where its samples lie and which of them cannot be used."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.dataset.tar import IMAGE_SUFFIXES, MAX_MEMBER_BYTES, METADATA_SUFFIX
from curation.dataset.tar.headers import DIRECTORY, FILE, TarFaultError, Walk
from curation.dataset.tar.names import stray
from curation.dataset.tar.texts import parse_object
from facemakeup.data.members import members_of, split
from facemakeup.data.shards import Shard
from facemakeup.faults import SampleFault

SCAN_VERSION = 2
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
    fields = parse_object(metadata) or {}
    width, height = fields.get("width"), fields.get("height")
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
    with path.open("rb") as file:
        walk = Walk(file, path.stat().st_size)
        try:
            for member in walk.members():
                if member.kind == DIRECTORY or stray(member.name):
                    continue
                torn = ""
                if member.num_bytes > MAX_MEMBER_BYTES or member.kind != FILE:
                    torn = f"{member.name} is no regular file of at most {MAX_MEMBER_BYTES} bytes"
                yield member.name, member.offset, walk.end, torn
                if torn:
                    return
            walk.require_end()
        except TarFaultError as error:
            yield error.name, walk.end, walk.end, str(error)
        except OSError as error:
            yield "", walk.end, walk.end, f"{type(error).__name__}: {error}"

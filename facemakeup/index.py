"""Where every sample lies: shard, offset and size in bytes, so that any sample is one read away.

The rows come from the `index.parquet` that `pack` wrote beside the tars, where a tar is still as the manifest says.
Any other tar is walked once, header by header, and the result is cached.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.commit import publish
from curation.tar import BLOCK_BYTES, END_OF_ARCHIVE_BYTES, IMAGE_SUFFIXES, MAX_MEMBER_BYTES
from facemakeup.faults import DataError, Fault, SampleFaultError
from facemakeup.shards import Shard, ShardStore, read_text

PACK_INDEX = "index.parquet"
SCAN_VERSION = 1
"""Part of the cached scans' names; raised when a scan would give other rows."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The samples of some tars, in order: one entry per sample in every array."""

    shard: Ints
    """Number of the tar."""
    offset: Ints
    """Byte offset of the header of the sample's first member."""
    num_bytes: Ints
    """Bytes up to the end of its last member, or to the next sample."""
    width: Ints
    """Of the picture in pixels; 0 where the index does not say."""
    height: Ints
    """Of the picture in pixels; 0 where the index does not say."""
    key: Any
    """Keys as an Arrow array of strings: no object per sample, and shared by processes."""

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True)
class TarIndex:
    """Every usable sample of all tars, and every one that is already known to be unusable."""

    shards: tuple[Shard, ...]
    rows: Rows
    faults: tuple[Fault, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return str(self.rows.key[row].as_py())

    def where(self, row: int) -> tuple[Shard, int, int]:
        """Return shard, offset and number of bytes of a row."""
        rows = self.rows
        return self.shards[int(rows.shard[row])], int(rows.offset[row]), int(rows.num_bytes[row])


def build_index(shards: Sequence[Shard], store: ShardStore, scans: Path) -> TarIndex:
    """Index all tars; those that `pack` does not vouch for are walked, and their scans kept in the folder `scans`.

    Raises:
        DataError: not one sample can be used.
    """
    import pyarrow as pa

    vouched = {folder: _vouched(folder) for folder in {shard.folder for shard in shards}}
    tables, faults = [], []
    for number, shard in enumerate(shards):
        known = vouched[shard.folder].get(shard.name)
        if known is not None and known[0] == shard.num_bytes:
            table = known[1]
        else:
            table, found = _scan_once(shard, store, scans)
            faults += [*found, *_lost(shard, known[1] if known else None, table, found)]
        tables.append(table.append_column("shard", pa.array(np.full(len(table), number, np.int64))))
    whole = pa.concat_tables(tables)
    if len(whole) == 0:
        raise DataError(f"no sample can be used in {len(shards)} tars; the first: {shards[0].address}")
    columns = {name: whole[name].to_numpy() for name in ("shard", "offset", "num_bytes", "width", "height")}
    keys = pa.concat_arrays(whole["key"].chunks)
    return TarIndex(tuple(shards), Rows(**columns, key=keys), tuple(faults))


def read_members(store: ShardStore, shard: Shard, offset: int, num_bytes: int, key: str) -> dict[str, bytes]:
    """Return suffix -> content of the members of one sample, with one read.

    Raises:
        SampleFaultError: the tar is torn there, or a member comes twice.
    """
    span = store.read(shard, offset, num_bytes)
    if len(span) < num_bytes:
        raise SampleFaultError("torn_tar", f"{len(span)} of {num_bytes} bytes at offset {offset}")
    members = _members_of(span, key)
    if not members:
        raise SampleFaultError("torn_tar", f"no member of this key at offset {offset}")
    return members


def _members_of(span: bytes, key: str) -> dict[str, bytes]:
    """Return the members of `key`: read by hand where all headers are plain USTAR, else by tarfile, which is slow."""
    members: dict[str, bytes] = {}
    plain = _plain_members(span)
    if plain is not None:
        for name, content in plain:
            found, suffix = _split(name)
            if found != key:
                continue
            if suffix in members:
                raise SampleFaultError("duplicate_member", f"{key}.{suffix}")
            members[suffix] = content
        return members
    try:
        with tarfile.open(fileobj=io.BytesIO(span), mode="r:") as tar:
            while (info := tar.next()) is not None:
                found, suffix = _split(info.name)
                if not info.isreg() or found != key:
                    continue
                file = tar.extractfile(info)
                if suffix in members:
                    raise SampleFaultError("duplicate_member", f"{key}.{suffix}")
                members[suffix] = file.read() if file is not None else b""
    except tarfile.TarError as error:
        raise SampleFaultError("torn_tar", str(error)) from error
    return members


def _plain_members(span: bytes) -> list[tuple[str, bytes]] | None:
    """Return name and content of every member (POSIX.1-1988 ustar), or None where a header is not that plain."""
    members = []
    offset = 0
    while offset + BLOCK_BYTES <= len(span) and span[offset]:
        header = span[offset : offset + BLOCK_BYTES]
        size_field, sum_field = header[124:136].strip(b" \0"), header[148:156].strip(b" \0")
        if header[156] not in b"0\0" or header[345] or not size_field.isdigit() or not sum_field.isdigit():
            return None
        size, start = int(size_field, 8), offset + BLOCK_BYTES
        if sum(header) - sum(header[148:156]) + 8 * ord(" ") != int(sum_field, 8) or start + size > len(span):
            return None
        name = header[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
        members.append((name, span[start : start + size]))
        offset = start + -(-size // BLOCK_BYTES) * BLOCK_BYTES
    return members


def _vouched(folder: str) -> dict[str, tuple[int, Any]]:
    """Return shard name -> size of its tar and rows, as `pack` wrote them; empty where it did not."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = read_text(f"{folder}/manifest.json")
    filesystem, path = fsspec.core.url_to_fs(f"{folder}/{PACK_INDEX}")
    if text is None or not filesystem.exists(path):
        return {}
    sizes = _tar_sizes(json.loads(text))
    with filesystem.open(path, "rb") as file:
        table = pq.read_table(file, columns=["shard", "key", "offset", "width", "height"])
    table = table.sort_by([("shard", "ascending"), ("offset", "ascending")])
    encoded = table["shard"].combine_chunks().dictionary_encode()
    numbers, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    vouched = {}
    for first, last in pairwise([*firsts, len(table)]):
        name = names[int(numbers[first])]
        if name not in sizes:
            continue
        part = table.slice(first, last - first).drop_columns(["shard"])
        starts = part["offset"].to_numpy()
        ends = np.append(starts[1:], sizes[name] - END_OF_ARCHIVE_BYTES)
        vouched[name] = (sizes[name], _typed(part.append_column("num_bytes", pa.array(ends - starts))))
    return vouched


def _tar_sizes(manifest: Mapping[str, Any]) -> dict[str, int]:
    files = [record for shard in manifest.get("shards", ()) for record in shard["files"].items()]
    return {name.removesuffix(".tar"): int(r["num_bytes"]) for name, r in files if name.endswith(".tar")}


def _lost(shard: Shard, promised: Any, table: Any, found: Sequence[Fault]) -> list[Fault]:
    """Return the samples that the index of `pack` names and a tar that has changed since does not hold."""
    if promised is None:
        return []
    here = {*table["key"].to_pylist(), *(fault.key for fault in found)}
    missing = [key for key in promised["key"].to_pylist() if key not in here]
    return [Fault("torn_tar", shard.address, key, f"{PACK_INDEX} names it, the tar ends before it") for key in missing]


def _scan_once(shard: Shard, store: ShardStore, scans: Path) -> tuple[Any, list[Fault]]:
    """Return a tar's rows and faults from the cached scan, or scan it now."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cached = scans / f"{shard.identity[:32]}-{SCAN_VERSION}.parquet"
    if not cached.is_file():
        rows, faults = scan(shard, store.path(shard))
        footer = {"faults": json.dumps([[f.reason, f.key, f.detail] for f in faults])}
        table = _typed(pa.Table.from_pylist(rows, schema=_schema())).replace_schema_metadata(footer)
        publish(cached, lambda temp: pq.write_table(table, temp))
    table = pq.read_table(cached)
    listed = json.loads(table.schema.metadata[b"faults"])
    faults = [Fault(reason, shard.address, key, detail) for reason, key, detail in listed]
    return table.replace_schema_metadata(), faults


def scan(shard: Shard, path: Path) -> tuple[list[dict[str, Any]], list[Fault]]:
    """Walk a tar and return one row per whole sample, and the faults that need no decoding to be seen."""
    rows: list[dict[str, Any]] = []
    faults: list[Fault] = []
    seen: set[str] = set()
    with path.open("rb") as file:
        for key, suffixes, start, end, torn in _groups(path):
            reason = "torn_tar" if torn else "duplicate_key" if key in seen else _missing(suffixes)
            seen.add(key)
            if reason is not None:
                faults.append(Fault(reason, shard.address, key, torn or ", ".join(suffixes)))
                continue
            width, height = _stated_size(_members_of(os.pread(file.fileno(), end - start, start), key)["json"])
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
    return None if "json" in suffixes else "no_metadata"


def _groups(path: Path) -> Iterator[tuple[str, list[str], int, int, str]]:
    """Yield key, suffixes, first and last byte of each run of members with one key, and why its tar ends, if it does.

    A tar that is torn ends in a group that says so, even where no member was begun.
    """
    key, suffixes, start, end = "", list[str](), 0, 0
    for name, begin, finish, torn in _headers(path):
        found, suffix = _split(name) if name else (key or "(between samples)", "")
        if torn:
            if suffixes and found != key:
                yield key, suffixes, start, end, ""
                suffixes = []
            yield found, suffixes, start, end, torn
            return
        if suffixes and found != key:
            yield key, suffixes, start, end, ""
            suffixes = []
        if not suffixes:
            key, start = found, begin
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


def _split(name: str) -> tuple[str, str]:
    """Return key and suffix of a member: WebDataset's rule, cut at the first dot of the base name."""
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def _schema() -> Any:
    import pyarrow as pa

    names: Iterable[str] = ("offset", "num_bytes", "width", "height")
    return pa.schema([pa.field("key", pa.string()), *(pa.field(name, pa.int64()) for name in names)])


def _typed(table: Any) -> Any:
    schema = _schema()
    return table.select(schema.names).cast(schema).replace_schema_metadata()

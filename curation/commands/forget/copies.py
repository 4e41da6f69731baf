"""What was made from a run and is no stage, such as caches: which of its files tell of forgotten images."""

import hashlib
import re
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.dataset.tar import MAX_MEMBER_BYTES, split_name
from curation.errors import ShardError
from curation.run.folders import names_in
from curation.storage.paths import local_copy

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".npz", ".7z", ".tgz")
"""Suffixes of files that nothing here looks into."""
CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Traces:
    """What must be found nowhere: uids name members and rows, texts may stand anywhere, hashes are of contents."""

    uids: frozenset[str]
    texts: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()
    """sha256 of pictures in hex."""
    pattern: re.Pattern[bytes] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Compile what is looked for in bytes."""
        words = sorted((self.uids | self.texts | self.contents) - {""}, key=len, reverse=True)
        pattern = re.compile(b"|".join(re.escape(word.encode("utf-8", "replace")) for word in words) or rb"(?!)")
        object.__setattr__(self, "pattern", pattern)

    @property
    def words(self) -> frozenset[str]:
        """Everything that may stand in a column."""
        return self.uids | self.texts | self.contents


@dataclass(frozen=True)
class Holding:
    """A file that tells of a forgotten image, or that cannot be looked into."""

    file: str
    """Relative to the folder."""
    why: str
    keys: frozenset[str] = frozenset()
    """Of a tar: the keys of the samples that do."""
    is_known: bool = True
    """Whether something was found; else the file could not be looked into."""


def holdings(folder: Path, traces: Traces, *, whole: bool) -> Iterator[Holding]:
    """Yield the files of a folder that hold a trace; `whole` reads all members of tars, else their names count."""
    for name in names_in(folder):
        path = folder / name
        if name.endswith(PACKED):
            yield Holding(name, "compressed, so not looked into", is_known=False)
            continue
        try:
            with local_copy(path) as copy:
                found = _look(copy, traces, whole=whole)
        except (OSError, ShardError, pa.ArrowException, tarfile.TarError) as error:
            yield Holding(name, f"cannot be looked into: {error}", is_known=False)
            continue
        if found is not None:
            yield Holding(name, "tells of an image that was forgotten", found)


def _look(path: Path, traces: Traces, *, whole: bool) -> frozenset[str] | None:
    """Return the keys that a tar tells of, or no keys of another file that does; None where nothing is found."""
    if tarfile.is_tarfile(path):
        return frozenset(_keys(path, traces, whole=whole)) or None
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return frozenset() if _in_table(path, traces) else None
    return frozenset() if _in_bytes(path, traces.pattern) else None


def _keys(path: Path, traces: Traces, *, whole: bool) -> Iterator[str]:
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            is_named = member.name.rpartition("/")[2].partition(".")[0] in traces.uids
            if not is_named and whole and member.isreg() and member.size <= MAX_MEMBER_BYTES:
                file = tar.extractfile(member)
                content = b"" if file is None else file.read()
                is_named = traces.pattern.search(content) is not None
                is_named = is_named or hashlib.sha256(content).hexdigest() in traces.contents
            if is_named:
                yield split_name(member.name)[0]


def _in_table(path: Path, traces: Traces) -> bool:
    with pq.ParquetFile(path) as table:
        footer = b" ".join(value for value in (table.schema_arrow.metadata or {}).values())
        if traces.pattern.search(footer) is not None:
            return True
        names = [column.name for column in table.schema_arrow if _is_text(column.type)]
        batches = table.iter_batches(columns=names, use_threads=False) if names else iter(())
        return any(bool(pc.any(mask).as_py()) for batch in batches for mask in rows_with(batch, traces.words))


def rows_with(batch: pa.RecordBatch | pa.Table, words: Collection[str]) -> list[pa.Array]:
    """Return, for each column of text, which rows hold one of the words."""
    wanted = pa.array(sorted(words), pa.string())
    columns = [batch.column(name) for name in batch.schema.names if _is_text(batch.schema.field(name).type)]
    return [pc.is_in(column.cast(pa.string()), value_set=wanted, skip_nulls=True) for column in columns]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _in_bytes(path: Path, pattern: re.Pattern[bytes], overlap: int = 4096) -> bool:
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if pattern.search(rest + chunk) is not None:
                return True
            rest = chunk[-overlap:]
    return False

"""The ledger: one Parquet row for every sample that ever entered, with what was measured and what was decided."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import ShardError

LEDGER_SCHEMA_VERSION = "1"
NUM_ROW_GROUP_ROWS = 10_000
NUM_BATCH_ROWS = 8192
"""Rows of a ledger that are in memory at a time where it is read by batches."""

BASE_FIELDS: tuple[pa.Field, ...] = (
    pa.field("uid", pa.string(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("url", pa.string()),
    pa.field("sha256", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("kept", pa.bool_(), nullable=False),
    pa.field("rejected_by", pa.string()),
    pa.field("reason", pa.string()),
)
"""The first columns of every ledger."""


def base_row(
    uid: str,
    key: str,
    *,
    url: str | None = None,
    sha256: str | None = None,
    width: int | None = None,
    height: int | None = None,
    rejected_by: str | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Return the base columns of one row: kept where nothing rejects it, else both who rejects and why."""
    if (rejected_by is None) != (reason is None):
        raise ValueError(f"{uid}: rejected_by {rejected_by!r} and reason {reason!r} come together or not at all")
    return {
        "uid": uid,
        "key": key,
        "url": url,
        "sha256": sha256,
        "width": width,
        "height": height,
        "kept": rejected_by is None,
        "rejected_by": rejected_by,
        "reason": reason,
    }


def write_ledger(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, footer: Mapping[str, str]) -> None:
    """Write rows whose bytes depend on rows, schema and footer alone.

    The footer is Parquet key-value metadata; `schema_version` is added to it.
    """
    write_table(path, pa.Table.from_pylist(list(rows), schema=schema), footer)


def write_table(path: Path, table: pa.Table, footer: Mapping[str, str]) -> None:
    """Write a table as `write_ledger` writes rows."""
    write_tables(path, [table], table.schema, footer)


def write_tables(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, footer: Mapping[str, str]) -> None:
    """Write tables one behind the other, as if they were one: a group of rows is in memory at a time."""
    schema = schema.with_metadata({"schema_version": LEDGER_SCHEMA_VERSION, **footer})
    with pq.ParquetWriter(path, schema, compression="zstd", version="2.6") as writer:
        rest = schema.empty_table()
        num_written = 0
        for table in tables:
            rest = pa.concat_tables([rest, table.replace_schema_metadata(schema.metadata)])
            while rest.num_rows >= NUM_ROW_GROUP_ROWS:
                writer.write_table(rest.slice(0, NUM_ROW_GROUP_ROWS))
                rest = rest.slice(NUM_ROW_GROUP_ROWS)
                num_written += NUM_ROW_GROUP_ROWS
        if rest.num_rows or not num_written:
            writer.write_table(rest)


def in_row_groups(tables: Iterable[pa.Table], num_before: int) -> Iterator[pa.Table]:
    """Cut tables anew where a ledger's row groups end, behind `num_before` rows of others, each in one piece.

    So the bytes that are written depend on the rows, not on how they came.
    """
    waiting: list[pa.Table] = []
    wanted = NUM_ROW_GROUP_ROWS - num_before % NUM_ROW_GROUP_ROWS
    for table in tables:
        if table.num_rows:  # a slice of none still holds all that it is cut from
            waiting.append(table)
        while sum(one.num_rows for one in waiting) >= wanted:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, wanted).combine_chunks()
            waiting, wanted = [whole.slice(wanted)], NUM_ROW_GROUP_ROWS
    if any(one.num_rows for one in waiting):
        yield pa.concat_tables(waiting).combine_chunks()


def numbered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables with a column more, `place`: the number of each row among those of all."""
    first = 0
    for table in tables:
        places = pa.array(range(first, first + table.num_rows), pa.int64())
        yield table.append_column("place", places).replace_schema_metadata()
        first += table.num_rows


def rows_where(
    path: Path, columns: Sequence[str], choose: Callable[[pa.Table], pa.ChunkedArray], *, shown: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a ledger that `choose` chooses by those of some columns that it has; all others stay unread.

    Raises:
        ShardError: the file is missing, not Parquet, or of another schema version.
    """
    try:
        with pq.ParquetFile(path) as ledger:
            _require_version(ledger.schema_arrow, shown or path)
            there = [name for name in columns if name in ledger.schema_arrow.names]
            for group in range(ledger.num_row_groups):
                chosen = choose(ledger.read_row_group(group, there, use_threads=False))
                if pc.any(chosen).as_py():
                    yield from ledger.read_row_group(group, use_threads=False).filter(chosen).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{shown or path}: not a readable ledger: {error}") from error


def ledger_batches(
    path: Path, columns: Sequence[str] | None = None, *, shown: Path | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a ledger, or all, a batch of rows at a time; `struct.field` reads that field alone.

    Such a field comes as a struct of one field. `shown` is what errors call the file.

    Raises:
        ShardError: the file is missing, not Parquet, of another schema version, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as ledger:
            _require_version(ledger.schema_arrow, shown or path)
            _require_columns(ledger.schema_arrow, columns or (), shown or path)
            asked = None if columns is None else list(columns)
            yield from ledger.iter_batches(batch_size=NUM_BATCH_ROWS, columns=asked, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{shown or path}: not a readable ledger: {error}") from error


def read_ledger(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a ledger, or some of its columns.

    Raises:
        ShardError: the file is missing, not Parquet, or of another schema version.
    """
    try:
        # Without Arrow's own threads: a process has one, and one that ends while they start is aborted.
        with path.open("rb") as file, pq.ParquetFile(file) as parquet:
            table = parquet.read(columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: not a readable ledger: {error}") from error
    _require_version(table.schema, path)
    return table


def _require_version(schema: pa.Schema, path: Path) -> None:
    version = (schema.metadata or {}).get(b"schema_version", b"none").decode()
    if version != LEDGER_SCHEMA_VERSION:
        raise ShardError(f"{path}: ledger schema version {version}; this code reads {LEDGER_SCHEMA_VERSION}")


def _require_columns(schema: pa.Schema, columns: Sequence[str], path: Path) -> None:
    for column in columns:
        name, _, field = column.partition(".")
        index = schema.get_field_index(name)
        kind = schema.field(index).type if index >= 0 else None
        if kind is None or (field and (not pa.types.is_struct(kind) or kind.get_field_index(field) < 0)):
            raise ShardError(f"{path}: no column {column!r}; the ledger has {', '.join(schema.names)}")


def require_base(schema: pa.Schema, path: Path) -> None:
    """Make sure that a ledger has the first columns of every ledger, of their types.

    Raises:
        ShardError: it lacks one.
    """
    lacking = [column.name for column in BASE_FIELDS if column not in list(schema)]
    if lacking:
        raise ShardError(f"{path}: not a ledger: {', '.join(lacking)} missing or of another type")


def count_rejections(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return rejected_by -> reason -> number of rows, both sorted."""
    return rejections_of(Counter((row["rejected_by"], row["reason"]) for row in rows if not row["kept"]))


def rejections_of(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Return the same of numbers of rows by both."""
    rejected: dict[str, dict[str, int]] = {}
    for (by, reason), number in sorted(counts.items()):
        rejected.setdefault(by, {})[reason] = number
    return rejected

"""The ledger: one Parquet row for every sample that ever entered, with what was measured and what was decided."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import ShardError

LEDGER_SCHEMA_VERSION = "1"
NUM_ROW_GROUP_ROWS = 10_000

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
    table = table.replace_schema_metadata({"schema_version": LEDGER_SCHEMA_VERSION, **footer})
    pq.write_table(table, path, compression="zstd", row_group_size=NUM_ROW_GROUP_ROWS, version="2.6")


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
    version = (table.schema.metadata or {}).get(b"schema_version", b"none").decode()
    if version != LEDGER_SCHEMA_VERSION:
        raise ShardError(f"{path}: ledger schema version {version}; this code reads {LEDGER_SCHEMA_VERSION}")
    return table


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
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        if not row["kept"]:
            reasons = counts.setdefault(row["rejected_by"], {})
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    return {by: dict(sorted(reasons.items())) for by, reasons in sorted(counts.items())}

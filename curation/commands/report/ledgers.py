"""Reads ledgers a batch of rows at a time, so that a report over millions of samples fits in little memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.ledger import LEDGER_SCHEMA_VERSION
from curation.dataset.manifest import Manifest
from curation.dataset.stages import LEDGER_NAME
from curation.errors import ShardError

NUM_BATCH_ROWS = 8192


def ledger_paths(folder: Path, manifest: Manifest) -> list[Path]:
    """Return the files that together hold one row per sample that the stage saw."""
    if LEDGER_NAME in manifest.file_names:
        return [folder / LEDGER_NAME]
    return [report.file(folder, ".parquet") for report in manifest.shards]


def batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a ledger; `struct.field` reads that field alone, as a struct of one field.

    Raises:
        ShardError: the file is missing, not Parquet, of another schema version, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as ledger:
            _require(path, ledger, columns)
            yield from ledger.iter_batches(batch_size=NUM_BATCH_ROWS, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: not a readable ledger: {error}") from error


def column_names(path: Path) -> list[str]:
    """Return the names of a ledger's columns.

    Raises:
        ShardError: the file is missing or not Parquet.
    """
    try:
        names: list[str] = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: not a readable ledger: {error}") from error
    return names


def _require(path: Path, ledger: pq.ParquetFile, columns: Sequence[str]) -> None:
    version = (ledger.schema_arrow.metadata or {}).get(b"schema_version", b"none").decode()
    if version != LEDGER_SCHEMA_VERSION:
        raise ShardError(f"{path}: ledger schema version {version}; this code reads {LEDGER_SCHEMA_VERSION}")
    for column in columns:
        name, _, field = column.partition(".")
        index = ledger.schema_arrow.get_field_index(name)
        kind = ledger.schema_arrow.field(index).type if index >= 0 else None
        if kind is None or (field and (not pa.types.is_struct(kind) or kind.get_field_index(field) < 0)):
            raise ShardError(f"{path}: no column {column!r}; the ledger has {', '.join(ledger.schema_arrow.names)}")

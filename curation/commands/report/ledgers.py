"""Which files hold the rows that a report is about, and which columns they have."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.manifest import Manifest
from curation.dataset.stages import LEDGER_NAME
from curation.errors import ShardError


def ledger_paths(folder: Path, manifest: Manifest) -> list[Path]:
    """Return the files that together hold one row per sample that the stage saw."""
    if LEDGER_NAME in manifest.file_names:
        return [folder / LEDGER_NAME]
    return [report.file(folder, ".parquet") for report in manifest.shards]


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

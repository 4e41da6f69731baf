"""A DuckDB that may need more than memory: what does not fit goes to a folder, which goes when the work is done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

MAX_THREADS = 4
"""More threads would hold more of the memory at a time."""


@contextmanager
def database_in(folder: Path, memory_limit: str, **config: Any) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a database inside `folder` that stays within `memory_limit` and spills into the same folder."""
    import duckdb

    limits = {
        "memory_limit": memory_limit,
        "temp_directory": str(folder / "spill"),
        "threads": min(MAX_THREADS, os.cpu_count() or 1),
    }
    with duckdb.connect(folder / "scratch.duckdb", config={**limits, **config}) as database:
        yield database


@contextmanager
def scratch_database(memory_limit: str) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a database as `database_in`, in a temporary folder of its own (`TMPDIR` says where)."""
    with TemporaryDirectory(prefix="fchq-duckdb-") as folder, database_in(Path(folder), memory_limit) as database:
        yield database

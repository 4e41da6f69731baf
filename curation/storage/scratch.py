"""A DuckDB that may need more than memory: what does not fit goes to a folder, which goes when the work is done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from curation.errors import UsageError

if TYPE_CHECKING:
    import duckdb

MAX_THREADS = 4
"""More threads would hold more of the memory at a time."""


@contextmanager
def database_in(folder: Path, memory_limit: str, **config: Any) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a database inside `folder` that stays within `memory_limit` and spills into the same folder."""
    import duckdb

    with _plainly_named(folder) as place:
        limits = {
            "memory_limit": memory_limit,
            "temp_directory": str(place / "spill"),
            "threads": min(MAX_THREADS, os.cpu_count() or 1),
        }
        with duckdb.connect(place / "scratch.duckdb", config={**limits, **config}) as database:
            yield database


@contextmanager
def _plainly_named(folder: Path) -> Iterator[Path]:
    """Yield the folder, or a temporary one where DuckDB would take the name of a database apart at `?`.

    Raises:
        UsageError: the path holds a backslash, which DuckDB takes for a slash wherever it writes.
    """
    path = str(folder.resolve())
    if "\\" in path:
        raise UsageError(f"{folder}: a backslash in a path cannot be worked with; give the folder another name")
    if "?" not in path:
        yield folder
        return
    with TemporaryDirectory(prefix="fchq-duckdb-") as beside:
        yield Path(beside)


@contextmanager
def scratch_database(memory_limit: str) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a database as `database_in`, in a temporary folder of its own (`TMPDIR` says where)."""
    with TemporaryDirectory(prefix="fchq-duckdb-") as folder, database_in(Path(folder), memory_limit) as database:
        yield database

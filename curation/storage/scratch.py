"""Temporary folders that are known as abandoned once their process is gone, and a DuckDB that spills into one.

A folder is locked for as long as its process lives; the kernel lets go of the lock, however that ends.
"""

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import UsageError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MAX_THREADS = 4
"""More threads would hold more of the memory at a time."""
MEMORY_LIMIT = "256MB"
"""What a database may hold in memory, however many rows it has; what is more waits on disk."""
NUM_FETCHED = 10_000
NUM_INSERT_ROWS = 50_000
"""Rows that are put into a table at a time: small tables one by one would cost more than their rows."""
PREFIX = "fchq-"
LOCK_NAME = ".lock"
MIN_AGE_S = 60.0
"""A folder that is younger may not be locked yet."""


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """Yield an empty temporary folder (`TMPDIR` says where) that goes when the block ends.

    The name is short, since Ray puts sockets below it.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def abandoned() -> list[Path]:
    """Return this user's temporary folders whose processes are gone, in order."""
    folders = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    return [folder for folder in folders if _is_own(folder) and not _is_in_use(folder)]


def _is_own(folder: Path) -> bool:
    try:
        about = folder.lstat()
        return about.st_uid == os.getuid() and about.st_mtime < time.time() - MIN_AGE_S and _lock_of(folder) is not None
    except OSError:
        return False


def _lock_of(folder: Path) -> Path | None:
    lock = folder / LOCK_NAME
    return lock if not folder.is_symlink() and lock.is_file() and not lock.is_symlink() else None


def _is_in_use(folder: Path) -> bool:
    """Whether its process lives, or another that it started with the folder's name, such as one of Ray's."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return any(_users_of(folder))


def end_users_of(folder: Path) -> None:
    """End (SIGKILL) every process that was started with the name of a scratch folder, such as Ray's, and failed."""
    for pid in _users_of(folder):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _users_of(folder: Path) -> Iterator[int]:
    """Yield the other processes whose command line holds the folder's name, which no other folder ever had."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(place.name) != os.getpid() and os.fsencode(folder) in (place / "cmdline").read_bytes():
                yield int(place.name)


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
    with scratch_folder("duckdb") as beside:
        yield beside


@contextmanager
def scratch_database(memory_limit: str = MEMORY_LIMIT) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a database as `database_in`, in a temporary folder of its own (`TMPDIR` says where)."""
    with scratch_folder("duckdb") as folder, database_in(folder, memory_limit) as database:
        yield database


def insert(database: "duckdb.DuckDBPyConnection", query: str, tables: "Iterable[pa.Table]") -> None:
    """Put rows into a database as they come, so that no more than some are in memory: `query` reads them as `came`."""
    import pyarrow as pa

    waiting: list[pa.Table] = []

    def flush() -> None:
        if waiting:
            database.register("came", pa.concat_tables(waiting))
            database.execute(query)
            database.unregister("came")
            waiting.clear()

    for table in tables:
        waiting.append(table)
        if sum(one.num_rows for one in waiting) >= NUM_INSERT_ROWS:
            flush()
    flush()


def fetched(database: "duckdb.DuckDBPyConnection", query: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that a query gives, some in memory at a time; the database may be asked otherwise meanwhile.

    Temporary tables are not seen.
    """
    result = database.cursor().execute(query)
    while rows := result.fetchmany(NUM_FETCHED):
        yield from rows

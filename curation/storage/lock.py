"""One lock of a local folder: many who write there hold it together, one who must see all of it holds it alone.

The kernel gives it back when a process ends, however that ends. Where a file system knows no locks, and in an object
store, nobody is held back.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from curation.errors import LeaseError
from curation.storage.paths import is_local
from curation.storage.walk import entries_below

LEASE_FOLDER = "_lease"
LOCK_NAME = "lock"
TTL_S = 30.0
"""How long a lock is waited for, and a lease without a heartbeat is not free to take."""
LOCK_POLL_S = 0.01
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL})
"""What a file system without locks answers."""


@contextmanager
def together(folder: Path) -> Iterator[None]:
    """Hold a folder's lock with others who do the same; it is made where it is not there.

    Raises:
        LeaseError: somebody has held it alone for `TTL_S`.
    """
    with _lock(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock alone; it is made where it is not there.

    Raises:
        LeaseError: others have held it for `TTL_S`.
    """
    with _lock(folder, fcntl.LOCK_EX):
        yield


@contextmanager
def all_alone(folder: Path) -> Iterator[None]:
    """Hold every lock that lies in a folder, or anywhere below it, alone; none is made.

    Raises:
        LeaseError: others have held one for `TTL_S`.
    """
    below = (Path(entry.path) for entry in (entries_below(folder, PermissionError) if is_local(folder) else ()))
    places = (path / LOCK_NAME if path.name == LEASE_FOLDER else path for path in below)  # a link to a folder is one
    locks = sorted(path for path in places if (path.parent.name, path.name) == (LEASE_FOLDER, LOCK_NAME))
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(alone(lock.parent.parent))
        yield


@contextmanager
def _lock(folder: Path, kind: int) -> Iterator[None]:
    if not is_local(folder):
        yield
        return
    (folder / LEASE_FOLDER).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LEASE_FOLDER / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + TTL_S
        while not _locked(descriptor, kind):
            if time.monotonic() >= deadline:
                raise LeaseError(
                    f"{folder}: another run is changing files there, or stopped while it did; wait for it, or end it"
                )
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    """Try to lock an open file."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True

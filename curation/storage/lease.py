"""One run at a time in a folder: a numbered lease with a heartbeat, and a number that fences whoever was replaced.

Leases are files `_lease/000001.json`, `000002.json`, ...; the highest is in force. Taking the next number is an
exclusive creation, so of any number of runs that try, on a disk or in an object store, exactly one gets it. A holder
writes a heartbeat; a newcomer that sees none for `TTL_S` on its own clock takes over, and no two clocks are ever
compared. Before anything is committed the holder looks whether a higher number exists: if so, it was replaced.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import LeaseError, StorageError
from curation.storage.paths import filesystem, is_local
from curation.storage.publish import create, publish_sealed, read_sealed

LEASE_FOLDER = "_lease"
BEAT_S = 5.0
"""Seconds between two heartbeats."""
TTL_S = 30.0
"""A lease without a heartbeat for so long is free to take."""
POLL_S = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """A place in the line of holders of one folder; travels with every job of the run."""

    folder: Path
    number: int

    def require(self) -> None:
        """Make sure that nobody has taken over: called before every commit.

        Raises:
            LeaseError: another run holds the folder now.
        """
        if (highest := _highest(self.folder)) > self.number:
            raise LeaseError(
                f"{self.folder}: another run took over (lease {highest}) while this one did not answer; "
                f"nothing more is committed here, and nothing is lost: the other run goes on"
            )


@contextmanager
def hold(folder: Path) -> Iterator[Lease]:
    """Hold the folder's lease until the block ends; a heartbeat runs meanwhile.

    Raises:
        LeaseError: another run holds it and is alive.
    """
    owner = _owner()
    lease = _take(folder, owner)
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(lease, owner, stop), name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        _release(lease, owner)


def _take(folder: Path, owner: dict[str, Any]) -> Lease:
    """Create the next number; whoever finds it taken in the meantime looks again at who has it."""
    if is_local(folder):
        (folder / LEASE_FOLDER).mkdir(parents=True, exist_ok=True)
    while True:
        number = _highest(folder)
        if number and not _is_free(folder, number):
            raise LeaseError(_held(folder, number))
        if create(_path(folder, number + 1), {**owner, "beat": 0, "released": False}):
            return Lease(folder, number + 1)


def _release(lease: Lease, owner: dict[str, Any]) -> None:
    """Say that the folder is free; where that cannot be written, the missing heartbeat says it."""
    try:
        if _highest(lease.folder) == lease.number:
            publish_sealed(_path(lease.folder, lease.number), {**owner, "beat": -1, "released": True})
            _remove_older(lease.folder, lease.number)
    except (StorageError, OSError) as error:
        log.warning("%s: the lease could not be released: %s", lease.folder, error)


def _beat(lease: Lease, owner: dict[str, Any], stop: threading.Event) -> None:
    beat = 0
    while not stop.wait(BEAT_S):
        beat += 1
        try:
            publish_sealed(_path(lease.folder, lease.number), {**owner, "beat": beat, "released": False})
        except (StorageError, OSError) as error:
            log.warning("%s: no heartbeat could be written: %s", lease.folder, error)


def _is_free(folder: Path, number: int) -> bool:
    """Whether a lease is released, its holder on this machine is gone, or it shows no heartbeat for `TTL_S`."""
    try:
        return _shows_no_life(folder, number)
    except FileNotFoundError:
        return True  # somebody took over and tidied up meanwhile: look again who holds the folder now


def _shows_no_life(folder: Path, number: int) -> bool:
    first = _read(folder, number)
    if first["released"]:
        return True
    if first["machine"] == _machine():
        return bool(_started(first["pid"]) != first["process_started"])
    deadline = time.monotonic() + TTL_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        now = _read(folder, number)
        if now != first:
            return bool(now["released"])
    return True


def _held(folder: Path, number: int) -> str:
    try:
        holder = _read(folder, number)
    except FileNotFoundError:
        return f"{folder}: held by another run; wait for it to end, or give another folder"
    return (
        f"{folder}: held by another run (process {holder['pid']} on {holder['host']}, lease {number}); "
        f"wait for it to end, or give another folder"
    )


def _highest(folder: Path) -> int:
    place = folder / LEASE_FOLDER
    if is_local(place):
        names = [path.name for path in place.glob("*.json")] if place.is_dir() else []
    else:
        files, name = filesystem(place)
        names = [str(entry).rpartition("/")[2] for entry in files.ls(name, detail=False)] if files.exists(name) else []
    return max((int(name.removesuffix(".json")) for name in names if name.endswith(".json")), default=0)


def _remove_older(folder: Path, number: int) -> None:
    """Remove older leases; the newest stays, so that numbers only grow."""
    for older in range(number - 1, 0, -1):
        if not _path(folder, older).exists():
            return
        _path(folder, older).unlink(missing_ok=True)


def _path(folder: Path, number: int) -> Path:
    return folder / LEASE_FOLDER / f"{number:06d}.json"


def _read(folder: Path, number: int) -> dict[str, Any]:
    path = _path(folder, number)
    if not is_local(path):
        filesystem(path)
    return read_sealed(path)


def _owner() -> dict[str, Any]:
    return {
        "owner": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "process_started": _started(os.getpid()),
    }


def _machine() -> str:
    """Name this boot of this kernel and this process namespace: within it, a process number means something."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> int | None:
    """Return when a process of this machine began, in clock ticks since boot; None where there is none (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])

"""One run at a time in a folder: a numbered lease with a heartbeat, and a number that fences whoever was replaced.

Leases are files `_lease/000001.json`, `000002.json`, ...; the highest is in force. Taking the next number is an
exclusive creation, so of any number of runs that try, on a disk or in an object store, exactly one gets it. A holder
writes a heartbeat; a newcomer that sees none for `TTL_S` on its own clock takes over, and no two clocks are ever
compared. Before any file of the folder changes the holder looks whether a higher number exists: if so, it was
replaced. On a disk nobody can take over between that look and the change: holders lock `_lease/lock` together for as
long, and a newcomer locks it alone. In an object store the change itself is conditional (`curation.storage.store`).
"""

import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import LeaseError, ShardError, StorageError, VerificationError
from curation.interrupts import command_typed
from curation.storage.fence import Fence, fenced
from curation.storage.lock import LEASE_FOLDER, LOCK_NAME, TTL_S, alone, together
from curation.storage.paths import filesystem, is_local
from curation.storage.publish import TEMP_FOLDER, create, publish_sealed, read_sealed

BEAT_S = 5.0
"""Seconds between two heartbeats."""
POLL_S = 0.5
HELD_BY = frozenset({"owner", "host", "machine", "pid", "process_started", "beat", "released"})
LEASE_NAME = re.compile(r"([0-9]{6,})\.json")

NUM_SHARDS = "num_shards"
"""What a heartbeat says besides, for `status`: how many shards there are to do."""
COMMAND, FOLDER = "command", "folder"
_HELD: dict[tuple[Path, int], dict[str, Any]] = {}
"""What the heartbeats of the leases say that this process holds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """A place in the line of holders of one folder; travels with every job of the run."""

    folder: Path
    number: int

    @property
    def fence(self) -> Fence:
        """What every change of the folder's files passes while this run works."""
        return Fence(self.folder, self.passing)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Let nobody take over until the block ends, where a lock can hold them back.

        Raises:
            LeaseError: another run holds the folder now.
            StorageError: this machine does not see the folder that the run holds.
        """
        if is_local(self.folder):
            self.require()  # before the lock is made: a machine may lack the folder that all others share
        with together(self.folder):
            self.require()
            yield

    def require(self) -> None:
        """Make sure that nobody has taken over, and that this machine sees the folder that the run holds.

        Raises:
            LeaseError: another run holds the folder now.
            StorageError: it is another folder: the lease is not there.
        """
        if (highest := _highest(self.folder)) > self.number:
            raise LeaseError(
                f"{self.folder}: another run took over (lease {highest}) while this one did not answer; "
                f"nothing more is committed here, and nothing is lost: the other run goes on"
            )
        if highest < self.number:
            raise StorageError(_not_here(self.folder, self.number))


@dataclass(frozen=True)
class Holder:
    """Who holds a folder, or held it last, as its newest lease says."""

    host: str
    pid: int
    number: int
    is_alive: bool
    """Whether it goes on: not released, and its process is there, or, on another machine, its last heartbeat young."""
    is_released: bool
    beat_age_s: float | None
    """How old its last heartbeat is by this machine's clock and the store's; None where the store does not say."""
    num_shards: int | None
    """How many shards it has to do, itself or found done; None where it has not said yet."""
    command: str | None = None
    """What was typed, so that whoever finds it dead can type it again; None of a release that did not say."""
    folder: str | None = None
    """The folder in which it was typed."""


def holder_of(folder: Path) -> Holder | None:
    """Return who holds a folder or held it last; None where nobody ever did, or its lease cannot be read."""
    try:
        lease = _read(folder, number := _highest(folder)) if _highest(folder) else None
    except (FileNotFoundError, VerificationError):
        return None
    if lease is None:
        return None
    age = _age_s(_path(folder, number))
    is_here = lease["machine"] == _machine()
    is_running = _started(lease["pid"]) == lease["process_started"] if is_here else age is not None and age < TTL_S
    return Holder(
        host=lease["host"],
        pid=lease["pid"],
        number=number,
        is_alive=is_running and not lease["released"],
        is_released=lease["released"],
        beat_age_s=age,
        num_shards=lease.get(NUM_SHARDS),
        command=lease.get(COMMAND),
        folder=lease.get(FOLDER),
    )


def _age_s(path: Path) -> float | None:
    try:
        if is_local(path):
            return max(0.0, time.time() - path.stat().st_mtime)
        files, name = filesystem(path)
        return max(0.0, time.time() - float(files.modified(name).timestamp()))
    except (NotImplementedError, OSError, AttributeError):
        return None


def expect(lease: Lease, num_shards: int) -> None:
    """Let the next heartbeats of a lease that this process holds say how many shards there are to do."""
    if (owner := _HELD.get((lease.folder, lease.number))) is not None:
        owner[NUM_SHARDS] = num_shards


def common_fence(root: Path, leases: Sequence[Lease]) -> Fence:
    """Return the fence of one who holds several folders below `root`: each change passes all of them."""

    @contextmanager
    def passing() -> Iterator[None]:
        with ExitStack() as stack:
            for lease in leases:
                stack.enter_context(lease.passing())
            yield

    return Fence(root, passing)


@contextmanager
def hold(folder: Path) -> Iterator[Lease]:
    """Hold the folder's lease until the block ends; a heartbeat runs meanwhile, and all changes pass its fence.

    Raises:
        LeaseError: another run holds it and is alive.
    """
    owner = _owner()
    lease = _take(folder, owner)
    _HELD[lease.folder, lease.number] = owner
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(lease, owner, stop), name="lease", daemon=True)
    thread.start()
    try:
        with fenced(lease.fence):
            yield lease
    finally:
        stop.set()
        thread.join()
        _release(lease, owner)
        del _HELD[lease.folder, lease.number]


def _take(folder: Path, owner: dict[str, Any]) -> Lease:
    """Create the next number; whoever finds it taken in the meantime looks again at who has it."""
    for stray in strays(folder):
        log.warning("%s: no lease of ours, and passed over", folder / LEASE_FOLDER / stray)
    while True:
        number = _highest(folder)
        if number and not _is_free(folder, number):
            raise LeaseError(_held(folder, number))
        with alone(folder):
            if create(_path(folder, number + 1), {**owner, "beat": 0, "released": False}):
                return Lease(folder, number + 1)


def _not_here(folder: Path, number: int) -> str:
    """Say that a machine sees another folder than the one that the run holds."""
    return (
        f"{folder}: not the folder that this run holds: lease {number} is not there on {socket.gethostname()}; "
        f"nothing was written here: every machine must mount the same folder at the same path"
    )


def _release(lease: Lease, owner: dict[str, Any]) -> None:
    """Say that the folder is free; where that cannot be written, the missing heartbeat says it."""
    try:
        if _highest(lease.folder) == lease.number:
            publish_sealed(_path(lease.folder, lease.number), {**owner, "beat": -1, "released": True})
            _remove_older(lease.folder, lease.number)
    except (ShardError, StorageError, OSError) as error:
        log.warning("%s: the lease could not be released: %s", lease.folder, error)


def _beat(lease: Lease, owner: dict[str, Any], stop: threading.Event) -> None:
    beat = 0
    while not stop.wait(BEAT_S):
        beat += 1
        try:
            publish_sealed(_path(lease.folder, lease.number), {**owner, "beat": beat, "released": False})
        except (ShardError, StorageError, OSError) as error:
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
    """Return the highest number in a folder, 0 where there is none; other files there are nobody's lease."""
    return max((int(match[1]) for name in _names(folder) if (match := LEASE_NAME.fullmatch(name))), default=0)


def strays(folder: Path) -> list[str]:
    """Return the names in a folder of leases that no run gives."""
    own = {LOCK_NAME, TEMP_FOLDER}
    return sorted(name for name in _names(folder) if name not in own and not LEASE_NAME.fullmatch(name))


def _names(folder: Path) -> list[str]:
    place = folder / LEASE_FOLDER
    if is_local(place):
        return [path.name for path in place.iterdir()] if place.is_dir() else []
    files, name = filesystem(place)
    try:
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in files.ls(name, detail=False)]
    except FileNotFoundError:
        return []


def _remove_older(folder: Path, number: int) -> None:
    """Remove older leases; the newest stays, so that numbers only grow."""
    for older in range(number - 1, 0, -1):
        if not _path(folder, older).exists():
            return
        _path(folder, older).unlink(missing_ok=True)


def _path(folder: Path, number: int) -> Path:
    return folder / LEASE_FOLDER / f"{number:06d}.json"


def _read(folder: Path, number: int) -> dict[str, Any]:
    lease = read_sealed(path := _path(folder, number))
    if missing := HELD_BY - lease.keys():
        raise VerificationError(f"{path}: sealed, but no lease: it lacks {', '.join(sorted(missing))}")
    return lease


def _owner() -> dict[str, Any]:
    return {
        "owner": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "process_started": _started(os.getpid()),
        **_typed(),
    }


def _typed() -> dict[str, str]:
    """Return what was typed, and where; a folder that is gone is nowhere."""
    if (command := command_typed()) is None:
        return {}
    try:
        return {COMMAND: command, FOLDER: str(Path.cwd())}
    except FileNotFoundError:
        return {COMMAND: command}


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

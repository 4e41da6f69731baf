"""Which pictures were in work when a worker was lost: written down before the risky call, read by the next attempt.

The log says whom to be careful with and never who did it: workers are killed, nodes are lost and the power fails with
some picture in work. It is of single appended lines, since a process that is killed must leave it readable: `!` an
attempt begins, `+ uid uid ...` these go into work, `* uid` this one goes alone with all the memory that a picture may
have, `-` they came back, `~` they came back and stay suspects: with less memory they failed.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from curation.storage.fence import passing
from curation.storage.paths import is_local
from curation.storage.publish import TEMP_FOLDER, digest, refusing, remove


def intent_path(target: Path, shard: str, work_id: str) -> Path:
    """Return where the intent of one shard's work lies: beside the target, or on this machine for an object store."""
    if is_local(target):
        return target / TEMP_FOLDER / f"{shard}.{work_id[:16]}.intent"
    folder = Path(tempfile.gettempdir(), f"fchq-intent-{os.getuid()}")
    return folder / f"{digest([str(target), shard, work_id])}.intent"


class Intent:
    """The log of one shard's work."""

    def __init__(self, path: Path) -> None:
        """Read what earlier attempts left."""
        self._path = path
        self._descriptor: int | None = None
        lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.is_file() else []
        self.suspects = suspects(lines)
        """uid -> how many times in a row a worker was lost while it was in work alone with all the memory; 0 for one
        that was in work in any other way when a worker was lost."""

    def begin(self, uids: Iterable[str], *, with_all_memory: bool = False) -> None:
        """Write that these go into work."""
        self._append(f"{'*' if with_all_memory else '+'} {' '.join(uids)}")

    def end(self, *, still_suspect: bool = False) -> None:
        """Write that they came back, whatever became of them."""
        self._append("~" if still_suspect else "-")

    def close(self) -> None:
        """Forget it all: the attempt ends, and the worker is alive.

        Raises:
            LeaseError: another run took the folder over, and the log may be its own.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        remove(self._path)

    def _append(self, line: str) -> None:
        with refusing(self._path), passing(self._path):
            if self._descriptor is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
                line = f"!\n{line}"
            os.write(self._descriptor, f"{line}\n".encode("ascii"))


def suspects(lines: Iterable[str]) -> dict[str, int]:
    """Return whom the log makes suspects, as `Intent.suspects` says."""
    counts: dict[str, int] = {}
    in_work: list[str] = []
    weight = 0
    for line in [*lines, "!"]:
        if line.startswith(("+", "*")):
            in_work, weight = line[1:].split(), int(line.startswith("*"))
            continue
        for uid in in_work:
            if line == "!":
                counts[uid] = counts.get(uid, 0) + weight
            elif line != "~":
                counts.pop(uid, None)
        in_work = []
    return counts

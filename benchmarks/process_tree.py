"""CPU time and peak memory of a command and all it starts, as the kernel counts them, by the role of each process."""

import os
from dataclasses import dataclass
from pathlib import Path

ROLES = ("driver", "ray", "worker", "cell")
"""The command itself; Ray's own processes; its workers; the children that decode and measure."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CELL_SIGN, WORKER_SIGN = "curation.sandbox.child", "ray::"


@dataclass
class Seen:
    """One process, as it was when last looked at."""

    role: str
    cpu_s: float = 0.0
    peak_mib: float = 0.0


class Tree:
    """The processes that descend from one; whoever was seen once stays counted after its end."""

    def __init__(self, root: int) -> None:
        """Begin with the root alone."""
        self._root = root
        self._seen: dict[int, Seen] = {root: Seen("driver")}

    def look(self) -> None:
        """Read every process of the tree once more."""
        parents = {int(path.name): _fields(path) for path in Path("/proc").iterdir() if path.name.isdecimal()}
        tree = {self._root}
        while more := {pid for pid, fields in parents.items() if fields and int(fields[1]) in tree} - tree:
            tree |= more
        for pid in (tree | set(self._seen)) & set(parents):
            if fields := parents[pid]:
                self._note(pid, fields)

    def cpu_s(self, role: str) -> float:
        """Return user and system time of all processes of a role, so far."""
        return sum(process.cpu_s for process in self._seen.values() if process.role == role)

    def peak_mib(self, role: str) -> float:
        """Return the most resident memory that any one process of a role had."""
        return max((process.peak_mib for process in self._seen.values() if process.role == role), default=0.0)

    def _note(self, pid: int, fields: list[str]) -> None:
        role = "driver" if pid == self._root else _role(pid)
        process = self._seen.setdefault(pid, Seen(role))
        process.role = role if role in {"worker", "cell"} else process.role
        process.cpu_s = max(process.cpu_s, (int(fields[11]) + int(fields[12])) / TICKS_PER_S)
        process.peak_mib = max(process.peak_mib, _peak_mib(pid))


def _fields(path: Path) -> list[str]:
    """Return what stands in /proc/PID/stat after the name: state, parent, ...; nothing where it is gone."""
    try:
        return (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _role(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return "ray"
    return "cell" if CELL_SIGN in command else "worker" if command.startswith(WORKER_SIGN) else "ray"


def _peak_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)

"""Where a stage's time went: CPU seconds of each step in every done record, and their sum for people to read."""

import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.dataset.manifest import Manifest
from curation.printable import joined
from curation.run.folders import done_records

PROFILE = "profile"
"""Where a done record holds it, among what may differ between equal runs."""
PEAK_BYTES = "peak_bytes"
"""Where it holds the most memory that processes have held until then, by what each is."""
CALLS = "calls"
"""Where that of a shard that was decided again holds how often it called each filter."""
OTHER = "other"
"""Reading, hashing and writing, and all else that the worker itself does."""


def whereabouts(started: float) -> dict[str, Any]:
    """Return when and where a shard was worked on; `started` is `time.time` of the beginning."""
    return {"started": started, "seconds": time.time() - started, "host": socket.gethostname(), "pid": os.getpid()}


@dataclass(frozen=True)
class Cost:
    """What one step cost over a whole stage."""

    step: str
    """`decode`, a filter or screen, `judge`, `cell`, `load`, or `other`."""
    num_pictures: int
    """Pictures that it looked at."""
    cpu_seconds: float
    fraction: float
    """Share of all CPU seconds, 0..1."""

    @property
    def ms_per_picture(self) -> float:
        """CPU milliseconds for each picture that the step looked at."""
        return 1000 * self.cpu_seconds / self.num_pictures if self.num_pictures else 0.0


def profile(seconds: Iterable[Mapping[str, float]], other_seconds: float, num_seen: int) -> dict[str, list[float]]:
    """Sum up one shard: step -> [pictures, CPU seconds].

    `seconds` holds the steps of each picture that was handed in; `other_seconds` is what the worker spent beside.
    """
    sums: dict[str, list[float]] = {}
    for steps in seconds:
        for step, spent in steps.items():
            tally = sums.setdefault(step, [0, 0.0])
            tally[0] += 1
            tally[1] += spent
    return {**sums, OTHER: [num_seen, other_seconds]}


def costs(folder: Path, manifest: Manifest) -> tuple[Cost, ...]:
    """Return what each step of a finished stage cost, dearest first; empty where its records do not say."""
    work = {report.shard: report.work_id for report in manifest.shards}
    records = (report for report in done_records(folder) if work.get(report.shard) == report.work_id)
    return total(record.run.get(PROFILE, {}) for record in records)


def total(profiles: Iterable[Mapping[str, Sequence[float]]]) -> tuple[Cost, ...]:
    """Add up the profiles of shards, dearest step first."""
    sums: dict[str, tuple[int, float]] = {}
    for shard_profile in profiles:
        for step, (num_pictures, seconds) in shard_profile.items():
            before = sums.get(step, (0, 0.0))
            sums[step] = before[0] + int(num_pictures), before[1] + seconds
    whole = sum(seconds for _, seconds in sums.values()) or 1.0
    unordered = (Cost(step, number, seconds, seconds / whole) for step, (number, seconds) in sums.items())
    return tuple(sorted(unordered, key=lambda cost: (-cost.cpu_seconds, cost.step)))


def table(spent: Sequence[Cost]) -> str:
    """Return the costs as lines for a terminal."""
    lines = [f"{'step':16} {'pictures':>10} {'CPU s':>10} {'ms each':>9} {'share':>6}"]
    for cost in spent:
        figures = f"{cost.cpu_seconds:>10.1f} {cost.ms_per_picture:>9.2f} {cost.fraction:>6.1%}"
        lines.append(f"{cost.step:16} {cost.num_pictures:>10,} {figures}")
    return joined(lines)


def cost_values(spent: Sequence[Cost]) -> list[dict[str, Any]]:
    """Return the costs as plain values."""
    return [{**vars(cost), "ms_per_picture": cost.ms_per_picture} for cost in spent]

"""Contenders in processes of their own, each on one core and one thread, so that memory and time are theirs alone."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

from benchmarks.speed.contenders import ON_THE_HOUSE, READ, Contender, Ours, Outcome
from benchmarks.speed.floor import Floor
from benchmarks.speed.obvious import Obvious
from benchmarks.speed.outcomes import keep, place_of
from benchmarks.variants import variant
from curation.commands.curate.shard import CurateJob, curate_shard
from curation.dataset.sources import TarShard
from curation.measure.filter_set import weights_of
from curation.sandbox.parent import CELL

TOTAL, WALL = "total", "wall"
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
OBVIOUS, FLOOR = "obvious", "floor"


@dataclass(frozen=True)
class ShardCost:
    """What `curate_shard` took for one tar, its cell included, tar and ledger written."""

    cpu_s: float
    wall_s: float
    num_seen: int
    num_kept: int


@dataclass(frozen=True)
class Peak:
    """The most memory a process had, and its cell where it has one."""

    worker_mib: float
    cell_mib: float | None


def contender(name: str, recipe: str) -> Contender:
    """Return `obvious`, `floor`, or the engine with the recipe that a text describes (`benchmarks.variants`)."""
    if name == FLOOR:
        return Floor()
    return Obvious(variant(recipe)) if name == OBVIOUS else Ours(variant(recipe))


class Worker:
    """One contender in its process; it starts at once and loads before it answers."""

    def __init__(self, name: str, build: Callable[[], Any], core: int) -> None:
        """Start the process on a core; `build` returns a function from a tar's path to an answer."""
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        self.name = name
        self.started = time.monotonic()
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, core), daemon=False)
        self._process.start()
        theirs.close()

    @classmethod
    def measuring(cls, name: str, recipe: str, core: int, cache: Path | None = None) -> Self:
        """Return a worker that answers with the outcomes of a tar's pictures, and keeps them where a cache is given."""
        return cls(name, partial(_measuring, name, recipe, cache), core)

    @classmethod
    def curating(cls, name: str, recipe: str, core: int) -> Self:
        """Return a worker that curates whole shards."""
        return cls(name, partial(_curating, recipe), core)

    def ask(self, tar: Path) -> Any:
        """Return the answer to one tar.

        Raises:
            RuntimeError: the worker failed; the message says how.
        """
        try:
            self._connection.send(str(tar))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"{self.name}: its process ended; it says why above") from error
        return answer

    def close(self) -> Peak:
        """End the process and return its peak of memory."""
        self._connection.send(None)
        peak: Peak = self._connection.recv()
        self._process.join()
        return peak

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive()

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        self._process.join()


def _serve(connection: Any, build: Callable[[], Callable[[Path], Any]], core: int) -> None:
    os.sched_setaffinity(0, {core})
    work = build()
    while (path := connection.recv()) is not None:
        connection.send(work(Path(path)))
    connection.send(Peak(_peak_of(os.getpid()), None if CELL.pid is None else _peak_of(CELL.pid)))
    CELL.close()


def _measuring(name: str, recipe: str, cache: Path | None) -> Callable[[Path], Sequence[Outcome]]:
    examiner = contender(name, recipe)

    def work(tar: Path) -> list[Outcome]:
        outcomes: list[Outcome] = []
        reading = examiner.read(tar)
        while True:
            cpu, wall = time.process_time(), time.perf_counter()
            image_bytes = next(reading, None)
            if image_bytes is None:
                return outcomes
            read = time.process_time() - cpu
            outcome = examiner.examine(image_bytes)
            free = sum(outcome.seconds.get(stage, 0.0) for stage in ON_THE_HOUSE)
            whole = {TOTAL: time.process_time() - cpu - free, WALL: time.perf_counter() - wall - free}
            if cache is not None and name != FLOOR:
                keep(place_of(cache, examiner.key, image_bytes), outcome)
            outcomes.append(replace(outcome, evidence={}, seconds={READ: read, **outcome.seconds, **whole}))

    return work


def _curating(recipe_text: str) -> Callable[[Path], ShardCost]:
    recipe = variant(recipe_text)
    weights = weights_of(recipe)

    def work(tar: Path) -> ShardCost:
        with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
            job = CurateJob(tar.stem, TarShard(tar.stem, tar), Path(folder), recipe, weights)
            before, pid = _cpu_of(CELL.pid), CELL.pid
            cpu, wall = time.process_time(), time.perf_counter()
            report = curate_shard(job)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if pid is not None and CELL.pid != pid:
                raise RuntimeError(f"{tar}: its cell was replaced, and the time of the one before is lost")
            return ShardCost(cpu + _cpu_of(CELL.pid) - before, wall, report.num_seen, report.num_kept)

    return work


def _cpu_of(pid: int | None) -> float:
    """Return the CPU seconds that a process has used so far, 0 where there is none."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_of(pid: int) -> float:
    """Return the most memory that a process ever held, MiB; `ru_maxrss` would begin with that of its parent."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return round(int(peak.split()[1]) / 1024, 1)

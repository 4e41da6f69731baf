"""Runs very many tiny shards, to see that what a shard costs beside its pictures stays the same however many there are.

    python -m benchmarks.scale.scale [--num-shards 10000] [--num-samples 100] [--workers 2] [--folder BIG_DISK]

Three parts: Ray's scheduling alone (shards that do nothing); what an object store is asked for, counted on fsspec's
store in memory; and `curate` on real tars with the cheapest filter there is, first over an empty folder, then over the
finished one, with what the driver lists, writes and reads at its two ends.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.curate.origin import source_shards
from curation.commands.curate.stage import curate
from curation.dataset.manifest import MANIFEST_NAME, ShardReport, read_manifest
from curation.dataset.tar import write_tar
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.runner import Outcome, Spread, run_shards
from curation.storage.paths import location
from tests.pictures import encode, solid

NUM_PARTS = 10
OPERATIONS = ("info", "exists", "ls", "find", "_open", "cat_file", "get_file", "put_file", "pipe_file", "rm_file")
RECIPE = {
    "schema_version": 1,
    "name": "scale",
    "curate": {"num_batch_samples": 100},
    "filters": [{"name": "colour", "keep": {"mean_channel_std": {"min": 1.0}}}],
}


@dataclass(frozen=True)
class Nothing:
    """A shard's work that is none."""

    shard: str


def nothing(job: Nothing) -> ShardReport:
    """Report a shard of no sample."""
    return ShardReport(job.shard, "work", 0, 0, {}, {})


class Watch:
    """Notes when a tenth of the shards is done, and how much memory and CPU time this process has taken by then."""

    def __init__(self, num_shards: int) -> None:
        """Begin now."""
        self._step, self._num = max(1, num_shards // NUM_PARTS), 0
        self.marks = [self._mark()]

    def __call__(self, outcome: Outcome) -> None:
        """Count one outcome."""
        assert isinstance(outcome, ShardReport), outcome
        self._num += 1
        if self._num % self._step == 0:
            self.marks.append(self._mark())

    def figures(self) -> dict[str, Any]:
        """Return wall and CPU time per shard in every tenth, and resident memory at its end."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        return {
            "wall_ms_per_shard_by_tenth": [round(1000 * (b[0] - a[0]) / self._step, 2) for a, b in pairs],
            "driver_cpu_ms_per_shard_by_tenth": [round(1000 * (b[1] - a[1]) / self._step, 2) for a, b in pairs],
            "driver_mib_by_tenth": [round(b[2], 1) for _, b in pairs],
            "driver_kib_per_shard": round(1024 * (self.marks[-1][2] - self.marks[1][2]) / (self._num - self._step), 2),
        }

    def _mark(self) -> tuple[float, float, float]:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return time.monotonic(), time.process_time(), pages * resource.getpagesize() / (1 << 20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the three parts and write their figures."""
    options = _options(arguments)
    recipe, sizes = recipe_of(RECIPE, "scale"), (options.num_shards // 10, options.num_shards)
    result: dict[str, Any] = {"load_average_before": os.getloadavg()[0], "workers": options.workers}
    result |= {"machine": machine(), "commit": commit(), "scheduling": [], "curate": []}
    for number in sizes:
        result["scheduling"].append(scheduling(number, options.workers))
    result["store"] = [store_operations(number) for number in (10, 100)]
    for number in sizes:
        with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as folder:
            source = write_source(Path(folder, "in"), number, options.num_samples)
            result["curate"].append(curating(source, Path(folder, "out"), recipe, options.workers))
        result["load_average_after"] = os.getloadavg()[0]
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def scheduling(num_shards: int, num_workers: int) -> dict[str, Any]:
    """Return what Ray and the runner take for shards that do nothing."""
    watch = Watch(num_shards)
    for outcome in run_shards([Nothing(f"{i:06d}") for i in range(num_shards)], nothing, Spread(num_workers)):
        watch(outcome)
    return {"num_shards": num_shards, **watch.figures()}


def store_operations(num_shards: int) -> dict[str, Any]:
    """Return how often each operation of an object store is called, for a first run and for one that finds it done."""
    from fsspec.implementations.memory import MemoryFileSystem

    counts: Counter[str] = Counter()

    def counted(name: str) -> Any:
        operation = getattr(MemoryFileSystem, name)

        def count(self: Any, *arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return operation(self, *arguments, **options)

        return count

    recipe, operations, store = recipe_of(RECIPE, "scale"), [], MemoryFileSystem()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-"))
        for path in write_source(Path(folder, "in"), num_shards, 3).iterdir():
            store.pipe_file(f"/in{num_shards}/{path.name}", path.read_bytes())
        for name in OPERATIONS:
            stack.enter_context(mock.patch.object(MemoryFileSystem, name, counted(name)))
        for _ in range(2):
            counts.clear()
            curate(location(f"memory://in{num_shards}"), location(f"memory://out{num_shards}"), recipe, Spread(0))
            operations.append(dict(sorted(counts.items())))
    return {"num_shards": num_shards, "first": operations[0], "again": operations[1]}


def write_source(folder: Path, num_shards: int, num_samples: int) -> Path:
    """Write tars of tiny JPEGs, every other one grey, each with a URL of its own."""
    folder.mkdir()
    pictures = [encode(solid(colour, 16, 16), "jpg") for colour in ((200, 40, 40), (90, 90, 90))]
    for shard in range(num_shards):
        members = []
        for number in range(shard * num_samples, (shard + 1) * num_samples):
            url = json.dumps({"url": f"http://example.org/{number}.jpg"}).encode()
            members += [(f"{number:09d}.jpg", pictures[number % 2]), (f"{number:09d}.json", url)]
        write_tar(folder / f"{shard:06d}.tar", members)
    return folder


def curating(source: Path, target: Path, recipe: Recipe, num_workers: int) -> dict[str, Any]:
    """Curate a folder, curate it again, and read what came of it; return what each of that takes."""
    listed_s, shards = _timed(lambda: source_shards(source))
    watch, again = Watch(len(shards)), Watch(len(shards))
    first_s, manifest = _timed(lambda: curate(source, target, recipe, Spread(num_workers), watch))
    finish_s = time.monotonic() - watch.marks[-1][0]
    again_s, same = _timed(lambda: curate(source, target, recipe, Spread(num_workers), again))
    assert manifest == same and manifest.num_seen == manifest.num_kept * 2
    read_s, _ = _timed(lambda: read_manifest(target))
    work_s = [report.run["seconds"] for report in manifest.shards]
    return {
        "num_shards": len(shards),
        "num_samples": manifest.num_seen,
        "wall_s": round(first_s, 1),
        "samples_per_s": round(manifest.num_seen / first_s, 1),
        "median_ms_of_work_per_shard": round(1000 * statistics.median(work_s), 2),
        **watch.figures(),
        "after_last_shard_s": round(finish_s, 2),
        "list_source_s": round(listed_s, 3),
        "manifest_bytes": (target / MANIFEST_NAME).stat().st_size,
        "read_manifest_s": round(read_s, 3),
        "again": {
            "wall_s": round(again_s, 1),
            **again.figures(),
            "after_last_shard_s": round(time.monotonic() - again.marks[-1][0] - read_s, 2),
        },
    }


def _timed(work: Any) -> tuple[float, Any]:
    started = time.monotonic()
    value = work()
    return time.monotonic() - started, value


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-shards", type=int, default=10_000)
    parser.add_argument("--num-samples", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="Where the shards are written: 5 GB at most.")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

"""Sends very many shards of tiny pictures through every stage, and notes time, memory and what a store is asked for.

    python -m benchmarks.scale.simulation [--shards 500] [--rows 8] [--store-shards 10 40]
        [--store-only] [--out benchmarks/results/simulation.json]

Pictures are drawn, the only filter is `colour`, and nothing is downloaded: `fetch` finds every part done, so what it
takes on the net stands in `fetch.json`. All else is the product. The whole of it, 10,000 shards and 4 million rows, is
`--shards 10000 --rows 400`, and takes most of a day. On a store in memory, `curate`, `pack`, `verify`, `status` and
`forget` run on a few shards twice, so that what one shard more asks for is the difference; `--store-only` does
this alone, and leaves in the results what they hold of the stages.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.scale.scale import OPERATIONS
from curation.commands.curate.stage import curate
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import rank
from curation.commands.report.write import write_report
from curation.commands.status.stage import status
from curation.commands.verify.check import verify
from curation.dataset.manifest import read_manifest
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from curation.storage.paths import location
from tests.curation.shards import recipe_from
from tests.curation.whole_run import fetch_by_hand, url_of, write_metadata

RECIPE = """
schema_version = 1
name = "simulation"
[rank]
top = %d
rows_per_part = %d
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[pack]
num_shard_samples = 1000
"""
ALONE = Spread(num_workers=0)
LISTINGS = ("ls", "find")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and write its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.simulation", description=__doc__)
    parser.add_argument("--shards", type=int, default=500)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--store-shards", type=int, nargs=2, default=(10, 40))
    parser.add_argument("--store-only", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "simulation.json")
    chosen = parser.parse_args(arguments)
    result = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.store_only else {}
    with tempfile.TemporaryDirectory(prefix="simulation-") as name:
        if not chosen.store_only:
            stages = through_every_stage(Path(name), chosen.shards, chosen.rows)
            result = {"num_shards": chosen.shards, "num_rows": chosen.shards * chosen.rows, "stages": stages}
            result |= {"machine": machine(), "commit": commit()}
        few, many = (on_a_store(Path(name) / f"store-{num}", num) for num in chosen.store_shards)
    asked = per_shard(few, many, *chosen.store_shards)
    result["store"] = {"num_shards": list(chosen.store_shards), "per_shard": asked, "commit": commit()}
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0


def through_every_stage(folder: Path, num_shards: int, num_rows: int) -> dict[str, Any]:
    """Run rank, fetch, curate, pack, verify, report, status and forget; return what each took."""
    run, figures = folder / "run", dict[str, Any]()
    recipe = recipe_from(folder / "recipe", RECIPE % (num_shards * num_rows, num_rows))
    tables = write_metadata(folder, num_shards * num_rows)
    for name, work in work_on(run, recipe, tables).items():
        figures[name] = measured(work, num_shards)
    curated, packed = read_manifest(run / "curate"), read_manifest(run / "pack")
    assert len(curated.shards) == num_shards and packed.num_seen == curated.num_kept + 1, "the forgotten one has a row"
    figures["manifest_bytes"] = {name: (run / name / "manifest.json").stat().st_size for name in ("fetch", "curate")}
    shutil.rmtree(run)
    return figures


def work_on(run: Path, recipe: Recipe, tables: tuple[Path, Path]) -> dict[str, Callable[[], Any]]:
    """Return every step by name, in order."""

    def is_whole() -> None:
        assert verify(run, ALONE).ok

    return {
        "rank": lambda: rank(*tables, run / "rank", recipe),
        "fetch_without_the_net": lambda: fetch_by_hand(run / "rank", run / "fetch", recipe),
        "curate": lambda: curate(run / "fetch", run / "curate", recipe, ALONE),
        "curate_that_finds_all_done": lambda: curate(run / "fetch", run / "curate", recipe, ALONE),
        "pack": lambda: pack(run / "curate", run / "pack", recipe, ALONE),
        "verify": is_whole,
        "report": lambda: write_report(run),
        "status": lambda: status(run),
        "forget_one": lambda: forget(run, read_requests([url_of(0)], "the simulation")),
    }


def measured(work: Callable[[], Any], num_shards: int) -> dict[str, float]:
    """Return wall and CPU time of a step, in all and per shard, and this process's memory: most of it, and after it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, started = _cpu_s(), time.monotonic()
    work()
    wall, cpu = time.monotonic() - started, _cpu_s() - before
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "cpu_ms_per_shard": round(1000 * cpu / num_shards, 2),
        "peak_mib": _status_mib("VmHWM"),
        "after_mib": _status_mib("VmRSS"),
    }


def on_a_store(folder: Path, num_shards: int) -> dict[str, Counter[str]]:
    """Return, by step, how often each operation of an object store is called for a run of so many shards."""
    from fsspec.implementations.memory import MemoryFileSystem

    recipe, run = recipe_from(folder / "recipe", RECIPE % (num_shards * 3, 3)), folder / "run"
    rank(*write_metadata(folder, num_shards * 3), run / "rank", recipe)
    fetch_by_hand(run / "rank", run / "fetch", recipe)
    name, store = f"simulation{num_shards}", MemoryFileSystem()
    for path in (path for path in run.rglob("*") if path.is_file()):
        store.pipe_file(f"/{name}/{path.relative_to(run).as_posix()}", path.read_bytes())
    at, counts = location(f"memory://{name}"), Counter[str]()
    steps: dict[str, Callable[[], Any]] = {
        "curate": lambda: curate(at / "fetch", at / "curate", recipe, ALONE),
        "pack": lambda: pack(at / "curate", at / "pack", recipe, ALONE),
        "verify": lambda: verify(at, ALONE),
        "status": lambda: status(at),
        "forget_one": lambda: forget(at, read_requests([url_of(0)], "the simulation")),
    }
    asked: dict[str, Counter[str]] = {}
    with counting(MemoryFileSystem, counts):
        for step, work in steps.items():
            counts.clear()
            work()
            asked[step] = counts.copy()
    return asked


@contextmanager
def counting(kind: Any, counts: Counter[str]) -> Iterator[None]:
    """Count every call of the operations of a file system."""

    def counted(name: str) -> Any:
        operation = getattr(kind, name)

        def count(self: Any, *arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return operation(self, *arguments, **options)

        return count

    with ExitStack() as stack:
        for name in OPERATIONS:
            stack.enter_context(mock.patch.object(kind, name, counted(name)))
        yield


def per_shard(
    few: dict[str, Counter[str]], many: dict[str, Counter[str]], num_few: int, num_many: int
) -> dict[str, Any]:
    """Return what one shard more asks for, by step, and how many listings each step makes however many there are."""
    return {
        step: {
            "each": {
                name: round((many[step][name] - few[step][name]) / (num_many - num_few), 2)
                for name in OPERATIONS
                if many[step][name] != few[step][name]
            },
            "listings": {name: many[step][name] for name in LISTINGS if many[step][name]},
        }
        for step in few
    }


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())

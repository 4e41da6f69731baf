"""What `curate` takes on one core and on two, in one loop and through Ray, as samples and shards grow tenfold.

    FACECAPTIONHQ_MODELS=... python -m benchmarks.scale.scaling CORPUS [--num-samples 40] [--num-shards 4] [--rounds 1]

CORPUS is a folder of tars. Each run is the command line itself, pinned to its cores: `local` is `--workers 0` on one,
`ray-1` and `ray-2` are workers of Ray on as many cores. Each runs over a tenth of the samples, over all of them, and
over all of them in ten times as many shards. CPU time is read from the kernel for every process of the tree, by role:
the driver, Ray's own processes, the workers (tars, hashes, ledgers), and the cells (decoding and measuring). What
starting costs is taken out by the difference between a tenth and all: figures `per_picture` are of these pictures. The
time to the first picture is from the start of the command to the done record of a first shard of one picture.
`benchmarks.scale.scale` has what 10,000 shards take. A few dozen pictures are enough to try it, not to believe it: Ray
takes seconds to start, and the differences are then of noise.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pictures.pieces import first_samples, write_shards
from benchmarks.process_tree import ROLES, Tree
from benchmarks.provenance import RESULTS, origin

POLL_S = 0.25
GROWTH = 10


@dataclass(frozen=True)
class Mode:
    """One way to run."""

    name: str
    num_workers: int
    num_cores: int


MODES = (Mode("local", 0, 1), Mode("ray-1", 1, 1), Mode("ray-2", 2, 2))


@dataclass(frozen=True)
class Size:
    """One piece of the corpus."""

    name: str
    num_samples: int
    num_shards: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every mode over every size, in turn, and write the figures."""
    options = _options(arguments)
    sizes = (
        Size("first", 1, 1),
        Size("tenth", options.num_samples // GROWTH, options.num_shards),
        Size("all", options.num_samples, options.num_shards),
        Size("many_shards", options.num_samples, GROWTH * options.num_shards),
    )
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {mode.name: {} for mode in MODES}
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=options.folder) as name:
        samples = first_samples(options.corpus, options.num_samples)
        for size in sizes:
            write_shards(samples[: size.num_samples], Path(name, size.name), size.num_shards)
        for turn in range(options.rounds):
            for size in sizes:
                for mode in MODES:
                    run = curating(
                        mode, Path(name, size.name), Path(name, f"out-{mode.name}-{size.name}-{turn}"), options
                    )
                    runs[mode.name].setdefault(size.name, []).append(run)
                    print(f"round {turn + 1}: {mode.name} {size.name}: {run['wall_s']} s", file=sys.stderr)
    result = {
        "recipe": options.recipe,
        "sizes": {size.name: {"num_samples": size.num_samples, "num_shards": size.num_shards} for size in sizes},
        "rounds": options.rounds,
        **figures(runs, options.num_samples, (GROWTH - 1) * options.num_shards),
        "runs": runs,
        "load_average_1_min": round(os.getloadavg()[0], 1),
        **origin(options.recipe),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({"modes": result["modes"], "ratios": result["ratios"]}, indent=2))
    return 0


def curating(mode: Mode, source: Path, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the command on the mode's cores, watch its processes, and return what they took.

    Raises:
        RuntimeError: the command failed.
    """
    cores = sorted(os.sched_getaffinity(0))[-mode.num_cores :]
    command = [sys.executable, "-m", "cli", "curate", str(source), str(target), "--recipe", options.recipe]
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*command, "--workers", str(mode.num_workers)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=said,
        )
        os.sched_setaffinity(process.pid, cores)
        tree, first_s = Tree(process.pid), None
        while process.poll() is None:
            tree.look()
            if first_s is None and any(target.glob("*_stats.json")):
                first_s = time.monotonic() - started
            time.sleep(POLL_S if first_s is not None else POLL_S / 5)
        wall_s = time.monotonic() - started
        if process.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
    return {
        "wall_s": round(wall_s, 2),
        "first_shard_s": None if first_s is None else round(first_s, 2),
        "cpu_s": {role: round(tree.cpu_s(role), 2) for role in ROLES},
        "peak_mib": {role: round(tree.peak_mib(role), 1) for role in ROLES},
    }


def figures(runs: dict[str, dict[str, list[dict[str, Any]]]], num_samples: int, num_more_shards: int) -> dict[str, Any]:
    """Return costs per picture by mode, medians over the rounds, and the ratios between modes."""
    modes = {mode.name: _mode(runs[mode.name], mode, num_samples, num_more_shards) for mode in MODES}

    def cost(name: str, what: str) -> float:
        return float(modes[name]["per_picture"][what])

    return {
        "modes": modes,
        "ratios": {
            "ray_overhead_percent": round(100 * (cost("ray-1", "cpu_ms") / cost("local", "cpu_ms") - 1), 2),
            "two_cores_over_one": round(cost("ray-1", "wall_ms") / cost("ray-2", "wall_ms"), 3),
            "two_cores_over_local": round(cost("local", "wall_ms") / cost("ray-2", "wall_ms"), 3),
        },
    }


def _mode(
    by_size: dict[str, list[dict[str, Any]]], mode: Mode, num_samples: int, num_more_shards: int
) -> dict[str, Any]:
    few, every, many = (by_size[name] for name in ("tenth", "all", "many_shards"))
    num_more = num_samples - num_samples // GROWTH
    cpu_ms = {role: 1000 * (_median(every, "cpu_s", role) - _median(few, "cpu_s", role)) / num_more for role in ROLES}
    total_ms = sum(cpu_ms.values())
    wall_ms = 1000 * (_median(every, "wall_s") - _median(few, "wall_s")) / num_more
    return {
        "num_workers": mode.num_workers,
        "num_cores": mode.num_cores,
        "first_picture_s": _median(by_size["first"], "first_shard_s"),
        "whole_run": {
            name: {
                "pictures_per_core_second": round(num / (mode.num_cores * _median(some, "wall_s")), 3),
                "wall_s": _median(some, "wall_s"),
                "cpu_s": round(_cpu(some), 2),
            }
            for name, some, num in (
                ("tenth", few, num_samples // GROWTH),
                ("all", every, num_samples),
                ("many_shards", many, num_samples),
            )
        },
        "per_picture": {
            "cpu_ms": round(total_ms, 3),
            "cpu_ms_by_role": {role: round(value, 3) for role, value in cpu_ms.items()},
            "wall_ms": round(wall_ms, 3),
            "pictures_per_core_second": round(1000 / total_ms, 3),
            "scheduling_and_io_fraction": round(1 - cpu_ms["cell"] / total_ms, 4),
            "idle_fraction": round(1 - total_ms / (mode.num_cores * wall_ms), 4),
        },
        "cpu_ms_per_more_shard": round(1000 * (_cpu(many) - _cpu(every)) / num_more_shards, 2),
        "peak_mib": {role: max(run["peak_mib"][role] for some in by_size.values() for run in some) for role in ROLES},
    }


def _cpu(runs: Sequence[dict[str, Any]]) -> float:
    return sum(_median(runs, "cpu_s", role) for role in ROLES)


def _median(runs: Sequence[dict[str, Any]], *keys: str) -> float:
    values = []
    for run in runs:
        value: Any = run
        for key in keys:
            value = value[key]
        values.append(float(value))
    return statistics.median(values)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--num-samples", type=int, default=40)
    parser.add_argument("--num-shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="Where the shards are written.")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Kills workers, cells, raylets and drivers of a run on a Ray cluster of two nodes, and looks what became of it.

    python -m benchmarks.faults.kills [--num-kills 20] [--seed 0] [--out benchmarks/results/kills.json]

Whoever is killed gets SIGKILL at a random moment. A dead driver is started again, a dead node replaced, until the run
has ended by itself; then its folder must be byte for byte that of a run which nobody disturbed. Exit code 0 if it is.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import filters
from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.curate.stage import curate
from curation.dataset.manifest import read_manifest
from curation.recipe.recipe import load_recipe
from curation.run.runner import Spread
from tests.curation.cluster import add_node, cluster, driver, environment, napping_source, num_committed, processes_of
from tests.curation.poisoned import RECIPE, THIRD_PARTY
from tests.curation.shards import bytes_of

VICTIMS = ("worker", "cell", "raylet", "driver")
NUM_NODES = 2
NUM_SHARDS = 40
NUM_NAPS = 30
PAUSE_S = (0.5, 6.0)
END_S = 900


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its figures."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        place = Path(folder)
        os.environ |= environment(place)
        filters.__path__.append(str(THIRD_PARTY))
        result = campaign(place, options.num_kills, random.Random(options.seed))
    result |= {"seed": options.seed, "machine": machine(), "commit": commit()}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if result["is_good"] else 1


def campaign(folder: Path, num_kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill so often, let the run end, and compare it with one that nobody disturbed."""
    recipe = folder / "recipe.toml"
    text = RECIPE.format(marks=folder / "marks").replace("max_measure_s = 1.5", "max_measure_s = 60.0")
    recipe.write_text(text, encoding="utf-8")
    source, target, whole = napping_source(folder / "in", NUM_SHARDS, NUM_NAPS), folder / "out", folder / "whole"
    started = time.monotonic()
    with cluster(folder, NUM_NODES) as nodes:
        kills, num_drivers = _kill(nodes, source, target, recipe, num_kills, rng)
    seconds = time.monotonic() - started
    expected = curate(source, whole, load_recipe(recipe), Spread(0))
    disturbed = read_manifest(target)
    keys = [report.shard for report in disturbed.shards]
    result = {
        "num_kills": Counter(name for name, _ in kills),
        "num_committed_at_each_kill": [number for _, number in kills],
        "num_drivers": num_drivers,
        "num_shards": len(expected.shards),
        "num_samples": expected.num_seen,
        "num_lost": expected.num_seen - disturbed.num_seen,
        "num_doubled": len(keys) - len(set(keys)),
        "num_quarantined": sum(disturbed.rejected.get("quarantine", {}).values()),
        "failed": dict(disturbed.failed),
        "num_files_that_differ": _num_different(target, whole),
        "wall_s": round(seconds, 1),
    }
    is_good = bytes_of(target) == bytes_of(whole) and disturbed == expected and not (target / "_tmp").exists()
    return {"is_good": is_good, **result}


def _kill(
    nodes: Any, source: Path, target: Path, recipe: Path, num_kills: int, rng: random.Random
) -> tuple[list[tuple[str, int]], int]:
    """Return who was killed when, by shards committed, and how many drivers it took to end the run."""
    kills: list[tuple[str, int]] = []
    process, num_drivers = driver(source, target, str(recipe), nodes.address), 1
    deadline = time.monotonic() + END_S
    while process.poll() != 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no end after {END_S} s and kills {kills}")
        if process.poll() is not None:
            process, num_drivers = driver(source, target, str(recipe), nodes.address), num_drivers + 1
        for node in [node for node in nodes.worker_nodes if _raylet(node) is None]:
            nodes.remove_node(node, allow_graceful=False)
            add_node(nodes)
        with suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(*PAUSE_S))
        victim = VICTIMS[len(kills) % len(VICTIMS)]
        if (
            len(kills) < num_kills
            and process.poll() is None
            and (pids := _pids(victim, nodes, target.parent, process.pid))
        ):
            kills.append((victim, num_committed(target)))
            with suppress(ProcessLookupError):
                os.kill(rng.choice(pids), signal.SIGKILL)
    return kills, num_drivers


def _raylet(node: Any) -> int | None:
    """Return the process id of a node's raylet, or None where it is dead."""
    return next((process.pid for name, process in node.live_processes() if name == "raylet"), None)


def _pids(victim: str, nodes: Any, folder: Path, driver_pid: int) -> list[int]:
    """Return the processes of one kind that are at work now."""
    if victim == "driver":
        return [driver_pid]
    if victim == "raylet":
        return [pid for node in nodes.worker_nodes if (pid := _raylet(node)) is not None]
    sign = b"ray::curate_shard" if victim == "worker" else b"curation.sandbox.child"
    return [pid for pid in processes_of(folder) if sign in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _num_different(one: Path, other: Path) -> int:
    ours, theirs = bytes_of(one), bytes_of(other)
    return sum(ours.get(name) != theirs.get(name) for name in {*ours, *theirs})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "kills.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

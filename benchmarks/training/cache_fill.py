"""How fast does `cache` fill, in one process and with workers of Ray; and is it the same after kill -9 in the middle?

    python -m benchmarks.training.cache_fill [--num-shards 12] [--per-shard 8] [--workers 0 1 2] [--rounds 1]

Each run is the command itself in a process of its own, on drawn JPEG of 1024 x 768 cropped to 512 px, with a tiny
random base: pictures/s are those of all but a real VAE. `steady_samples_per_s` leaves the start out: it counts from
when every worker has filled its first shard. The last run has two workers and gets SIGKILL when its first shard is
done, and is then typed again. All caches must be those of one process, byte by byte.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import tomlkit

from benchmarks.process_tree import ROLES, Tree
from benchmarks.provenance import commit, machine
from benchmarks.training import world
from benchmarks.training.sample_cost import CLIP_SIDE, own_folder

KILLED_WORKERS = 2
POLL_S = 0.2
DONE = ": done"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it; return 0 where every cache is that of one process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.cache_fill", description=__doc__)
    parser.add_argument("--num-shards", type=int, default=12)
    parser.add_argument("--per-shard", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="0 is one process without Ray")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the figures are written, too")
    options = parser.parse_args(arguments)
    with own_folder() as folder:
        result = measured(folder, options.workers, options.num_shards, options.per_shard, options.rounds)
    result |= {"load_average_1_min": round(os.getloadavg()[0], 1), "machine": machine(), "commit": commit()}
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if result["is_the_same"] else 1


def measured(folder: Path, workers: Sequence[int], num_shards: int, per_shard: int, rounds: int) -> dict[str, Any]:
    """Fill with each number of workers in turn, then with kill -9 in the middle, and compare all caches."""
    pattern = world.write_tars(folder / "tars", num_shards * per_shard, per_shard)
    model = world.tiny_model(folder / "base", world.random_recogniser(folder), CLIP_SIDE)
    runs: dict[int, list[dict[str, Any]]] = {number: [] for number in workers}
    caches = []
    for turn in range(rounds):
        for number in workers:
            caches.append(folder / f"cache-{number}-{turn}")
            command = _command(folder, model, caches[-1], pattern, number)
            runs[number].append(filling(command, number, num_shards, per_shard))
    caches.append(folder / "cache-killed")
    command = _command(folder, model, caches[-1], pattern, KILLED_WORKERS)
    num_before = kill_in_the_middle(command, caches[-1])
    again = filling(command, KILLED_WORKERS, num_shards, per_shard)
    return {
        "pictures": {**world.PICTURE, "format": "jpg", "drawn": True, "num_shards": num_shards, "per_shard": per_shard},
        "workers": {str(number): _medians(runs[number]) for number in workers},
        "after_kill_9": {"num_tars_at_the_kill": num_before, "counts_of_the_second_call": again["counts"]},
        "is_the_same": all(_same(caches[0], cache) for cache in caches[1:]),
    }


def filling(command: Sequence[str], num_workers: int, num_shards: int, per_shard: int) -> dict[str, Any]:
    """Run the command to its end, watch its processes, and return what it took.

    Raises:
        RuntimeError: it failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tree, moments, said = Tree(process.pid), list[float](), list[str]()
    reader = Thread(target=_listen, args=(process.stderr, moments, said))
    started = time.monotonic()
    reader.start()
    while process.poll() is None:
        tree.look()
        time.sleep(POLL_S)
    wall_s = time.monotonic() - started
    reader.join()
    assert process.stdout is not None
    told = process.stdout.read()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {' '.join(said)[-2000:]}")
    first = max(1, num_workers)
    num_samples, cpu_s = num_shards * per_shard, sum(tree.cpu_s(role) for role in ROLES)
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "samples_per_s": round(num_samples / wall_s, 2),
        "steady_samples_per_s": round((len(moments) - first) * per_shard / (moments[-1] - moments[first - 1]), 2),
        "counts": json.loads(told),
    }


def kill_in_the_middle(command: Sequence[str], cache: Path) -> int:
    """Start the command, send SIGKILL when a first shard is done, and return how many tars are there then."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if DONE in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    return len(list(cache.rglob("*.tar")))


def _command(folder: Path, model: Any, cache: Path, pattern: str, num_workers: int) -> list[str]:
    config = world.config_of(model, cache)
    path = cache.with_suffix(".toml")
    path.write_text(tomlkit.dumps(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    out = str(cache.with_name(f"{cache.name}-work"))
    call = ["cache", str(path), "--data", pattern, "--out", out, "--workers", str(num_workers), "--json"]
    return [sys.executable, "-m", "cli", *call]


def _listen(stream: Any, moments: list[float], said: list[str]) -> None:
    """Note when each shard was done, and what else was said."""
    for line in stream:
        if DONE in line:
            moments.append(time.monotonic())
        said.append(line)


def _medians(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("wall_s", "cpu_s", "samples_per_s", "steady_samples_per_s")
    return {name: round(statistics.median(run[name] for run in runs), 2) for name in names}


def _same(one: Path, other: Path) -> bool:
    names = [sorted(path.relative_to(cache) for path in cache.rglob("*.tar")) for cache in (one, other)]
    return names[0] == names[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in names[0])


if __name__ == "__main__":
    sys.exit(main())

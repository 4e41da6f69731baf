"""Fails and kills runs of `curate` in every way at hand, and counts what was lost, doubled or corrupt (nothing may be).

    python -m benchmarks.faults.crashes [--kills 200] [--strace-points 60] [--out benchmarks/results/crashes.json]

Four campaigns: every write-class call of one shard failed by a preloaded shim with KILL, ENOSPC and EIO; random kills
of the process group in a run of several shards; the same system calls failed from outside by strace, where it is
installed; a disk that is full, on a small tmpfs, where this may be mounted.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, ROOT, commit, machine
from curation.commands.curate.stage import curate
from curation.dataset.manifest import MANIFEST_NAME, read_manifest
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.runner import Spread
from tests.curation.shards import RECIPE, colourful, grey, mixed_source, sample_members, write_shard
from tests.faults.sweep import data_of

SYSCALLS = ("write", "pwrite64", "fsync", "rename", "link", "unlink", "mkdir", "ftruncate")
SHIM = ROOT / "tests" / "faults" / "shim.c"
PROGRAM = str(Path(sys.executable).with_name("facecaptionhq"))
CELL_S = 0.7
"""About what a cell takes to start, in which the pictures are looked at that a killed run had in work."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns and write their counts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.crashes", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--strace-points", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS / "crashes.json")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="crashes-") as name:
        folder = Path(name)
        text = RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]")
        (folder / "recipe.toml").write_text(text)
        recipe = load_recipe(folder / "recipe.toml")
        small = [sample_members("a", colourful(1)), sample_members("b", grey(2)), sample_members("c", b"torn")]
        one = write_shard(folder / "one", "00000", small).parent
        many = mixed_source(folder / "many", 12)
        result = {
            "shim": shim_sweep(one, recipe, folder),
            "random_kills": random_kills(many, recipe, folder / "kills", chosen.kills),
            "strace": strace_sweep(one, recipe, folder / "strace", chosen.strace_points),
            "disk_full": disk_full(many, recipe, folder / "full"),
            "machine": machine(),
            "commit": commit(),
        }
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in ("shim", "random_kills", "strace", "disk_full")}, indent=2))
    return 0


def shim_sweep(source: Path, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Fail every write-class call of one shard's run, one at a time, in three ways."""
    library = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"], check=True)
    command = [sys.executable, "-m", "tests.faults.sweep", str(source), recipe.path, str(folder / "shim")]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--shim", str(library)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return {**json.loads(done.stdout), "seconds": round(time.monotonic() - started, 1)}


def random_kills(source: Path, recipe: Recipe, folder: Path, num_kills: int) -> dict[str, Any]:
    """Kill runs at random moments, each followed by a run on the same folder, until enough were killed at work."""
    started, dice, counts = time.monotonic(), random.Random(0), Counter[str]()
    whole = folder / "whole"
    manifest = curate(source, whole, recipe, Spread(0))
    expected, target, faults = data_of(whole), folder / "0", []
    seconds = _seconds(source, recipe, folder / "timed") + CELL_S
    while counts["killed"] < num_kills:
        was_alive = _killed_after(dice.uniform(0, 1.1 * seconds), source, recipe, target)
        counts["killed" if was_alive else "finished"] += 1
        if corrupt := [name for name, content in data_of(target).items() if content != expected[name]]:
            faults.append(f"kill {counts['killed']}: {corrupt} visible and corrupt")
        if (target / MANIFEST_NAME).exists():
            resumed = read_manifest(target)
            if data_of(target) != expected or resumed.num_seen != manifest.num_seen or resumed.failed:
                faults.append(f"kill {counts['killed']}: the finished folder differs from an uninterrupted run's")
            counts["folders compared when finished"] += 1
            shutil.rmtree(target)
            target = folder / str(counts["killed"] + counts["finished"])
    return {**counts, "faults": faults, "seconds": round(time.monotonic() - started, 1)}


def _killed_after(seconds: float, source: Path, recipe: Recipe, target: Path) -> bool:
    """Begin a run in a fork and kill its group after a while; return whether it was still at work."""
    if (pid := os.fork()) == 0:
        os.setpgid(0, 0)
        os._exit(1 if curate(source, target, recipe, Spread(0)).failed else 0)
    os.setpgid(pid, pid)  # whoever of the two comes first
    time.sleep(seconds)
    was_alive = os.waitpid(pid, os.WNOHANG) == (0, 0)
    if was_alive:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return was_alive


def strace_sweep(source: Path, recipe: Recipe, folder: Path, num_points: int) -> dict[str, Any] | None:
    """Let the kernel fail system calls of the whole command, spread evenly over kinds and numbers."""
    if shutil.which("strace") is None or num_points == 0:
        return None
    started, faults, struck = time.monotonic(), list[str](), Counter[str]()
    expected = data_of(_curated(source, recipe, folder / "whole"))
    counts = _syscall_counts(source, recipe, folder / "count")
    points = [
        (call, n, act) for call in counts for n in range(1, counts[call] + 1) for act in ("KILL", "ENOSPC", "EIO")
    ]
    for call, number, action in points[:: max(1, len(points) // num_points)]:
        target = folder / f"{call}{number}{action}"
        what = "signal=KILL" if action == "KILL" else f"error={action}"
        trace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:{what}:when={number}",
        ]
        done = subprocess.run([*trace, *_command(source, target, recipe)], capture_output=True, check=False)
        struck[f"{call} {action}"] += 1
        if corrupt := [name for name, content in data_of(target).items() if content != expected[name]]:
            faults.append(f"{target.name}: {corrupt} visible and corrupt")
        again = subprocess.run(_command(source, target, recipe), capture_output=True, text=True, check=False)
        if again.returncode != 0 or data_of(target) != expected:
            faults.append(f"{target.name}: exit {done.returncode}, then {again.returncode}: {again.stderr[-300:]}")
    seconds = round(time.monotonic() - started, 1)
    return {"calls": counts, "struck": dict(struck), "num_struck": struck.total(), "faults": faults, "seconds": seconds}


def disk_full(source: Path, recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """Fill a small tmpfs, read what the command says, make room, and let it finish."""
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return None
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        return None
    try:
        full = subprocess.run(_command(source, folder / "out", recipe), capture_output=True, text=True, check=False)
        committed = len(list((folder / "out").glob("*_stats.json")))
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        again = subprocess.run(_command(source, folder / "out", recipe), capture_output=True, text=True, check=False)
        is_equal = data_of(folder / "out") == data_of(_curated(source, recipe, folder / "whole"))
        return {
            "exit_code_when_full": full.returncode,
            "message": full.stderr.strip().splitlines()[-1].replace(str(folder), "FOLDER"),
            "shards_committed_before": committed,
            "exit_code_with_room": again.returncode,
            "equal_to_uninterrupted": is_equal,
        }
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _command(source: Path, target: Path, recipe: Recipe) -> list[str]:
    return [PROGRAM, "curate", str(source), str(target), "--recipe", recipe.path, "--workers", "0"]


def _curated(source: Path, recipe: Recipe, target: Path) -> Path:
    curate(source, target, recipe, Spread(0))
    return target


def _seconds(source: Path, recipe: Recipe, target: Path) -> float:
    started = time.monotonic()
    _curated(source, recipe, target)
    return time.monotonic() - started


def _syscall_counts(source: Path, recipe: Recipe, target: Path) -> dict[str, int]:
    """Return how often each kind of call is made by the command's busiest thread, as strace counts them."""
    counts: Counter[tuple[str, str]] = Counter()
    log = target.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    trace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={','.join(SYSCALLS)}"]
    subprocess.run([*trace, *_command(source, target, recipe)], capture_output=True, check=True)
    for line in log.read_text(errors="replace").splitlines():
        thread, _, rest = line.partition(" ")
        name = rest.strip().partition("(")[0]
        if name in SYSCALLS:
            counts[name, thread] += 1
    return {name: max((n for (call, _), n in counts.items() if call == name), default=0) for name in SYSCALLS}


if __name__ == "__main__":
    sys.exit(main())

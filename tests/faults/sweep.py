"""Fails one write-class call of a run after the other, then runs again: nothing may be lost, doubled or corrupt.

    LD_PRELOAD=shim.so python -m tests.faults.sweep SOURCE RECIPE OUT --shim shim.so [--stride N] [--actions EIO,...]

The shim (`shim.c`) is preloaded into this process, which loads everything once and forks for every point.
"""

import argparse
import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.curate.stage import curate
from curation.dataset.manifest import MANIFEST_NAME, read_manifest
from curation.errors import FaceCaptionError
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.runner import Spread
from curation.storage.publish import read_sealed, record_of

ACTIONS = {"KILL": -1, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
EXIT_FAILED, EXIT_BUG = 1, 70


@dataclass(frozen=True)
class Sweep:
    """One shard's curation, and what an uninterrupted run of it leaves."""

    source: Path
    recipe: Recipe
    folder: Path
    shim: ctypes.CDLL
    expected: Mapping[str, bytes]
    num_seen: int

    def strike(self, number: int, action: str) -> str | None:
        """Fail call `number`; return what is wrong afterwards, or None."""
        target = self.folder / f"{action}{number}"
        status = self.run(target, number, ACTIONS[action])
        if action == "KILL" and os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            return f"was not killed: status {status}"
        if action != "KILL" and os.waitstatus_to_exitcode(status) not in (0, EXIT_FAILED):
            return f"left with status {status} instead of an error that is named"
        if (wrong := self.visible(target)) is not None:
            return wrong
        if self.run(target, 0, 0) != 0:
            return "the next run failed"
        if data_of(target) != self.expected or read_manifest(target).num_seen != self.num_seen:
            return "the next run ended with other bytes"
        shutil.rmtree(target)
        return None

    def run(self, target: Path, number: int, action: int) -> int:
        """Curate in a forked process group of its own, armed; return its wait status."""
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os._exit(self._curate(target, number, action))
        return os.waitpid(pid, 0)[1]

    def _curate(self, target: Path, number: int, action: int) -> int:
        self.shim.arm(str(target).encode(), ctypes.c_long(number), action)
        try:
            manifest = curate(self.source, target, self.recipe, Spread(0))
            return EXIT_FAILED if manifest.failed else 0
        except (FaceCaptionError, OSError) as error:
            print(error, file=sys.stderr)
            return EXIT_FAILED
        except BaseException:  # noqa: BLE001  the child's whole life
            traceback.print_exc()
            return EXIT_BUG

    def visible(self, target: Path) -> str | None:
        """Return what a reader could be misled by, or None."""
        for name, content in data_of(target).items():
            if content != self.expected[name]:
                return f"{name} is visible and corrupt"
        for path in target.glob("*.json"):
            if path.name != "recipe.json":
                read_sealed(path)
        if (target / MANIFEST_NAME).exists():
            for report in (manifest := read_manifest(target)).shards:
                if any(record_of(target / name) != record for name, record in report.files.items()):
                    return f"{MANIFEST_NAME} names files that are not there"
            if manifest.num_seen != self.num_seen and not manifest.failed:
                return f"{MANIFEST_NAME} counts {manifest.num_seen} of {self.num_seen} samples"
        return None


def data_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every tar and Parquet file in a folder."""
    files = folder.glob("*") if folder.is_dir() else ()
    return {path.name: path.read_bytes() for path in files if path.suffix in (".tar", ".parquet")}


def count_calls(sweep: Sweep) -> int:
    """Return how many write-class calls one uninterrupted run makes."""
    target = sweep.folder / "count"
    sweep.shim.num_calls.restype = ctypes.c_long
    sweep.shim.arm(str(target).encode(), ctypes.c_long(0), 0)
    curate(sweep.source, target, sweep.recipe, Spread(0))
    return int(sweep.shim.num_calls())


def main() -> int:
    """Strike the chosen calls and print what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shim", required=True)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--actions", default=",".join(ACTIONS))
    chosen = parser.parse_args()
    recipe, whole = load_recipe(chosen.recipe), chosen.folder / "whole"
    manifest = curate(chosen.source, whole, recipe, Spread(0))
    sweep = Sweep(chosen.source, recipe, chosen.folder, ctypes.CDLL(chosen.shim), data_of(whole), manifest.num_seen)
    num_calls, struck, faults = count_calls(sweep), Counter[str](), list[str]()
    for action in chosen.actions.split(","):
        for number in range(1, num_calls + 1, chosen.stride):
            struck[action] += 1
            if (wrong := sweep.strike(number, action)) is not None:
                faults.append(f"{action} at call {number}: {wrong}")
    result: dict[str, Any] = {"num_calls": num_calls, "struck": dict(struck), "faults": faults}
    print(json.dumps(result))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a command takes before it has done much: CPU seconds of its whole tree of processes, warm, by role.

    python -m benchmarks.speed.start_up [--rounds 5] [--photos FOLDER] [--note TEXT]
        [--out benchmarks/results/start_up.json]

Five photos of FACECAPTIONHQ_GOLD are curated into a new folder each time; a first round, which exports networks and
fills the caches of the kernel, is thrown away. Rounds of all commands alternate. Runs are added to those that the file
holds, each with its commit, so that a change stands beside what was before it.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.process_tree import ROLES, Tree
from benchmarks.provenance import RESULTS, commit, machine

NUM_PHOTOS = 5
POLL_S = 0.01


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every command several times, and add what they took to the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.start_up", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=Path, default=Path(os.environ.get("FACECAPTIONHQ_GOLD", "gold")))
    parser.add_argument("--note", default="", help="what is measured, where it is not all that is committed")
    parser.add_argument("--out", type=Path, default=RESULTS / "start_up.json")
    chosen = parser.parse_args(arguments)
    spent: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="start-up-") as name:
        photos = five_of(chosen.photos, Path(name, "photos"))
        for number in range(chosen.rounds + 1):
            for command, words in commands(photos, Path(name, f"out-{number}")).items():
                taken = cpu_of(words)
                if number:
                    spent.setdefault(command, []).append(taken)
    run = {
        "note": chosen.note,
        "num_rounds": chosen.rounds,
        "num_photos": NUM_PHOTOS,
        "cpu_s": {command: medians(rounds) for command, rounds in spent.items()},
        "load_average": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "commit": commit(),
    }
    done = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {"runs": []}
    chosen.out.write_text(json.dumps({"runs": [*done["runs"], run]}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(run["cpu_s"], indent=2))
    return 0


def commands(photos: Path, out: Path) -> Mapping[str, Sequence[str]]:
    """Return what is run by its name; `out` is a folder of this round alone."""
    return {
        "--help": ("--help",),
        "doctor": ("doctor",),
        "curate, facecaptionhq-4m": ("curate", str(photos), str(out / "4m"), "--recipe", "facecaptionhq-4m"),
        "curate, demo": ("curate", str(photos), str(out / "demo"), "--recipe", "demo"),
    }


def five_of(photos: Path, folder: Path) -> Path:
    """Copy five photos, drawn by a fixed seed, into a folder, and return it."""
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(files) < NUM_PHOTOS:
        raise SystemExit(f"{photos}: fewer than {NUM_PHOTOS} photos; give --photos, or set FACECAPTIONHQ_GOLD")
    folder.mkdir()
    for file in random.Random(0).sample(files, NUM_PHOTOS):
        shutil.copyfile(file, folder / file.name)
    return folder


def cpu_of(words: Sequence[str]) -> dict[str, float]:
    """Return the CPU seconds that a command takes, by role, and its wall time.

    A process is counted until it was seen last: the hundredth of a second before its end may be missing.
    """
    started = time.monotonic()
    command = [sys.executable, "-m", "cli", *words]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        tree = Tree(process.pid)
        while process.poll() is None:
            tree.look()
            time.sleep(POLL_S)
        if process.returncode not in (0, 1):
            said.seek(0)
            raise SystemExit(f"{' '.join(words)} ended with {process.returncode}: {said.read()[-2000:]}")
    by_role = {role: tree.cpu_s(role) for role in ROLES}
    return {"all": sum(by_role.values()), **by_role, "wall": time.monotonic() - started}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each number over the rounds; what was never anything is left out."""
    return {
        name: round(statistics.median(one[name] for one in rounds), 2)
        for name in rounds[0]
        if any(one[name] for one in rounds)
    }


if __name__ == "__main__":
    sys.exit(main())

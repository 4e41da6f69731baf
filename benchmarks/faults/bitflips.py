"""Flips random bits in the files of a finished run, one at a time, and asks `verify` for the name of the file.

    python -m benchmarks.faults.bitflips [--num-flips 2000] [--seed 2026] [--out benchmarks/results/bitflips.json]

Half of the flips fall on a bit of the run, each equally likely; half on a file first, so that small records get their
share. Exit code 0 where every flip was found by the name of its file, and the run verifies before and after.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.provenance import RESULTS, commit, machine, wilson
from curation.commands.report.write import write_report
from curation.commands.verify.check import verify
from curation.run.runner import Spread
from tests.curation.whole_run import flip_a_bit, write_run

ALONE = Spread(num_workers=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its figures."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="bitflips-") as folder:
        run = Path(folder, "run")
        write_run(run)
        write_report(run)
        paths = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
        sizes = [path.stat().st_size for path in paths]
        was_whole = verify(run, ALONE).ok
        started = time.monotonic()
        flips, missed = campaign(run, paths, sizes, options.num_flips, options.seed)
        seconds = time.monotonic() - started
        is_whole = verify(run, ALONE).ok
    num_found = options.num_flips - len(missed)
    result = {
        "campaign": {"num_flips": options.num_flips, "seed": options.seed, "num_files": len(paths)},
        "num_bytes": sum(sizes),
        "flips_by_kind": dict(sorted(flips.items())),
        "num_found_by_name": num_found,
        "missed": missed,
        "found_interval_95": wilson(num_found, options.num_flips),
        "is_whole_before_and_after": was_whole and is_whole,
        "wall_seconds": round(seconds, 1),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if not missed and was_whole and is_whole else 1


def campaign(
    run: Path, paths: Sequence[Path], sizes: Sequence[int], num_flips: int, seed: int
) -> tuple[Counter[str], list[str]]:
    """Return the number of flips by kind of file, and the files in which one was not found by name."""
    random_numbers = random.Random(seed)
    flips: Counter[str] = Counter()
    missed: list[str] = []
    for number in range(num_flips):
        path = random_numbers.choice(paths) if number % 2 else random_numbers.choices(paths, sizes)[0]
        content, name = path.read_bytes(), path.relative_to(run).as_posix()
        flip_a_bit(path, random_numbers)
        flips[_kind(path)] += 1
        if all(fault.file != name for fault in verify(run, ALONE).faults):
            missed.append(name)
        path.write_bytes(content)
    return flips, missed


def _kind(path: Path) -> str:
    if path.suffix != ".json":
        return path.suffix.removeprefix(".")
    return "lease" if path.parent.name == "_lease" else "done record" if "_stats" in path.name else path.name


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.bitflips")
    parser.add_argument("--num-flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=RESULTS / "bitflips.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Sends mutated pictures through the whole of `curate`: no crash, no loss, a reason for each that is not a picture.

    python -m benchmarks.faults.mutants RECIPE [--num-mutants 10000] [--workers 2] [--out JSON]

Exit code 0 where `curate` left with 0 and its ledgers account for every mutant exactly once; else 1.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine
from curation.dataset.ledger import count_rejections, read_ledger
from curation.dataset.tar import write_tar
from tests.pictures import mutate, seeded_pictures

COLUMNS = ["key", "kept", "rejected_by", "reason"]
NUM_SHARD_SAMPLES = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its figures."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        source, target = Path(folder, "source"), Path(folder, "curate")
        keys = write_source(source, options.num_mutants, options.seed)
        started = time.monotonic()
        exit_code, talk = curate(source, target, options.recipe, options.workers)
        seconds = time.monotonic() - started
        rows = [row for ledger in sorted(target.glob("*.parquet")) for row in read_ledger(ledger, COLUMNS).to_pylist()]
    figures = account(keys, rows)
    is_good = exit_code == 0 and figures["num_missing"] == figures["num_doubled"] == figures["num_unknown"] == 0
    result = {
        "campaign": {"num_mutants": options.num_mutants, "seed": options.seed, "recipe": Path(options.recipe).name},
        "is_good": is_good,
        "exit_code": exit_code,
        **figures,
        "wall_seconds": round(seconds, 1),
        "workers": options.workers,
        "machine": machine(),
        "commit": commit(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    if not is_good:
        print(talk, file=sys.stderr)
    return 0 if is_good else 1


def write_source(folder: Path, num_mutants: int, seed: int) -> list[str]:
    """Write tars as img2dataset does, every picture named .jpg whatever it was before; return the keys."""
    folder.mkdir(parents=True)
    mutants, keys = _mutants(seed), []
    for shard, first in enumerate(range(0, num_mutants, NUM_SHARD_SAMPLES)):
        members: list[tuple[str, bytes]] = []
        for n in range(first, min(first + NUM_SHARD_SAMPLES, num_mutants)):
            key, (name, mutant) = f"{n:09d}", next(mutants)
            metadata = {"url": f"https://mutants.example/{name}/{n}", "key": key}
            members += [
                (f"{key}.jpg", mutant),
                (f"{key}.json", json.dumps(metadata).encode()),
                (f"{key}.txt", f"mutant {n} of {name}".encode()),
            ]
            keys.append(key)
        write_tar(folder / f"{shard:05d}.tar", members)
    return keys


def _mutants(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield, without end, the name of a seed picture and a mutant of it; the same for the same seed."""
    rng, seeds = random.Random(seed), list(seeded_pictures().items())
    for n in count():
        name, image_bytes = seeds[n % len(seeds)]
        yield name, mutate(image_bytes, rng)


def curate(source: Path, target: Path, recipe: str, workers: int) -> tuple[int, str]:
    """Run the command as a user would; return its exit code (negative: the signal that ended it) and its last words."""
    program = str(Path(sys.executable).with_name("facecaptionhq"))
    command = [program, "curate", str(source), str(target), "--recipe", recipe, "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, (done.stdout + done.stderr)[-20_000:]


def account(keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the ledgers say of the keys that went in."""
    seen = Counter(row["key"] for row in rows)
    return {
        "num_in": len(keys),
        "num_accounted": sum(key in seen for key in keys),
        "num_missing": sum(key not in seen for key in keys),
        "num_doubled": sum(times > 1 for times in seen.values()),
        "num_unknown": len(seen.keys() - set(keys)),
        "num_kept": sum(row["kept"] for row in rows),
        "rejected": count_rejections(rows),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.mutants")
    parser.add_argument("recipe", help="a recipe file, or the name of a bundled one")
    parser.add_argument("--num-mutants", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=RESULTS / "mutants.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

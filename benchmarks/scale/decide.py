"""Re-decides a ledger of 100,000 samples: tighter, looser, other weights; wall time, model calls, files written.

    python -m benchmarks.scale.decide [--samples 100000] [--out benchmarks/results/decide.json]

Small synthetic pictures of graded colour through `colour` and the real classifier `drawn`; half of the shards hold no
picture near a limit, so a changed threshold leaves them alone. Calls are counted twice: as the forecast and the done
records have them, and as evidence that is in the ledgers afterwards and was not before.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide, foresee
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest, read_report
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.runner import Spread
from curation.storage.publish import sha256_of
from filters.weights import add, find_weights
from tests.curation.shards import encode, sample_members, write_shard

NUM_SHARD_SAMPLES = 1000
NAMES = ("colour", "drawn")
RECIPE = """
schema_version = 1
name = "decide-{name}"
[[filters]]
name = "colour"
keep.mean_channel_std = {{ min = {limit} }}
[[filters]]
name = "drawn"
measure = {{ heads = "{heads}" }}
keep.drawn_probability = {{ max = 0.9 }}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Curate once, then decide again in three ways, each from the state before."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.decide", description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "decide.json")
    chosen = parser.parse_args(arguments)
    spread = Spread(chosen.workers)
    with tempfile.TemporaryDirectory(prefix="decide-") as name:
        folder = Path(name)
        source, run = folder / "in", folder / "run"
        os.environ["XDG_CACHE_HOME"] = name
        for shard in range(chosen.samples // NUM_SHARD_SAMPLES):
            write_shard(source, f"{shard:05d}", pictures(shard))
        first = recipe(folder, "first", 20.0, "drawn_heads")
        seconds = timed(lambda: curate(source, run / "curate", first, spread))
        steps = {
            "tighter": recipe(folder, "tighter", 24.0, "drawn_heads"),
            "looser": recipe(folder, "looser", 12.0, "drawn_heads"),
            "other weights": recipe(folder, "swapped", 12.0, same_heads_in_other_bytes(folder)),
        }
        result = {
            "num_samples": chosen.samples,
            "num_shards": chosen.samples // NUM_SHARD_SAMPLES,
            "num_workers": chosen.workers,
            "curate_seconds": seconds,
            "steps": {what: step(run, source, other, spread) for what, other in steps.items()},
            "machine": machine(),
            "commit": commit(),
        }
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("num_samples", "curate_seconds", "steps")}, indent=2))
    return 0


def step(run: Path, source: Path, other: Recipe, spread: Spread) -> dict[str, Any]:
    """Decide the run again, and say what it took."""
    target, before = run / "curate", evidence(run / "curate")
    kept, names = read_manifest(target).num_kept, read_manifest(target).file_names
    started = time.monotonic()
    forecast = foresee(run, other)
    foresee_seconds = round(time.monotonic() - started, 1)
    started = time.monotonic()
    manifest = decide(run, other, spread, source)
    decide_seconds = round(time.monotonic() - started, 1)
    after = evidence(target)
    seen = Counter(
        name for old, new in zip(before, after, strict=True) for name in NAMES if new[name] not in (None, old[name])
    )
    recorded = sum(
        (Counter(read_report(target / f"{s.shard}_stats.json").run["calls"]) for s in manifest.shards), Counter()
    )
    written = manifest.file_names - names
    return {
        "dry_run_seconds": foresee_seconds,
        "decide_seconds": decide_seconds,
        "kept_before": kept,
        "kept_after": manifest.num_kept,
        "kept_forecast": [forecast.kept_interval[0], forecast.kept_expected, forecast.kept_interval[1]],
        "undecided": forecast.num_undecided,
        "calls_forecast": dict(forecast.calls),
        "calls_recorded": dict(recorded),
        "evidence_that_is_new": dict(seen),
        "shards_rewritten": len({name.partition(".")[0] for name in written}),
        "tars_rewritten": sum(name.endswith(".tar") for name in written),
        "ledgers_rewritten": sum(name.endswith(".parquet") for name in written),
    }


def evidence(target: Path) -> list[dict[str, Any]]:
    """Return every row's evidence, with the measurement key of its column, so that a column renewed is seen as new."""
    rows = []
    for report in read_manifest(target).shards:
        table = read_ledger(report.file(target, ".parquet"))
        keys = json.loads(table.schema.metadata[b"measurement_keys"])
        columns = {name: table[f"{name}_evidence"].is_valid().to_pylist() for name in NAMES}
        rows += [{n: (keys[n] if columns[n][i] else None) for n in NAMES} for i in range(table.num_rows)]
    return rows


def pictures(shard: int) -> Iterator[list[tuple[str, bytes]]]:
    """Yield a shard's samples: every tenth in colour, the others grey; in even shards some are faded to any degree."""
    dice = np.random.default_rng(shard)
    for i in range(NUM_SHARD_SAMPLES):
        is_faded = shard % 2 == 0 and i % 10 in (1, 2)
        share = dice.uniform(0, 1) if is_faded else float(i % 10 == 0)
        pixels = dice.integers(0, 256, (8, 8, 3)).astype(float)
        grey = pixels.mean(axis=2, keepdims=True)
        content = encode((grey + share * (pixels - grey)).round().astype(np.uint8), "PNG", 24)
        yield sample_members(f"{shard:05d}{i:05d}", content, "png")


def same_heads_in_other_bytes(folder: Path) -> str:
    """Return the name of heads that compute the same and have another sha256."""
    text = Path(find_weights("drawn_heads").path).read_text(encoding="ascii")
    file = folder / "again.json"
    file.write_text(f"{text}\n", encoding="ascii")
    add(file, "again", sha256_of(file))
    return "again"


def recipe(folder: Path, name: str, limit: float, heads: str) -> Recipe:
    """Return the recipe with this limit on colour and these heads."""
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(name=name, limit=limit, heads=heads))
    return load_recipe(path)


def timed(work: Callable[[], object]) -> float:
    """Return the wall seconds of `work`."""
    started = time.monotonic()
    work()
    return round(time.monotonic() - started, 1)


if __name__ == "__main__":
    sys.exit(main())

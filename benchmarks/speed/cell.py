"""Measures what the cell costs: the same pictures, measured in the worker's own process and in its child.

    python -m benchmarks.speed.cell RECIPE [--num-pictures 40] [--num-rounds 5] [--out benchmarks/results/cell.json]

Rounds with and without the cell alternate, so that whatever else the machine does meets both; medians are compared.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine
from curation.dataset.sample import uid_of_bytes
from curation.measure.cascade import Entry, Measured, measure
from curation.measure.filter_set import load_bank, weights_of
from curation.recipe.recipe import Recipe, load_recipe
from curation.sandbox.child import Load
from curation.sandbox.parent import Cell
from curation.sandbox.protocol import CellFault
from tests.pictures import encode, scene

SIDES_PX = (1024, 768)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rounds and write their figures."""
    options = _options(arguments)
    recipe = load_recipe(options.recipe)
    entries = [_entry(seed) for seed in range(options.num_pictures)]
    result = {
        "recipe": recipe.name,
        "num_pictures": len(entries),
        "picture": f"JPEG, {SIDES_PX[0]}x{SIDES_PX[1]} pixels, quality 90",
        "mean_picture_bytes": round(statistics.fmean(len(entry.image_bytes) for entry in entries)),
        **compare(entries, recipe, options.num_rounds),
        "load_average": os.getloadavg()[0],
        "machine": machine(),
        "commit": commit(),
    }
    done = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    options.out.write_text(json.dumps(done | {recipe.name: result}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def compare(entries: Sequence[Entry], recipe: Recipe, num_rounds: int) -> dict[str, Any]:
    """Return seconds per picture either way, median over rounds, and what a start of the cell takes."""
    weights, cell = weights_of(recipe), Cell()
    bank = load_bank(recipe, weights)
    size = recipe.file.curate.num_batch_samples
    batches = [entries[start : start + size] for start in range(0, len(entries), size)]
    started = time.perf_counter()
    first = cell.measure(batches[0], recipe, weights)
    first_s = time.perf_counter() - started
    expected = measure(batches[0], bank, recipe)
    assert first == expected, "the cell measures something else"
    inside, outside = [], []
    for _ in range(num_rounds):
        outside.append(_seconds(lambda batch: measure(batch, bank, recipe), batches))
        inside.append(_seconds(lambda batch: cell.measure(batch, recipe, weights), batches))
    pages = int(Path(f"/proc/{cell.pid}/statm").read_text(encoding="ascii").split()[1])
    cell.close()
    own, celled = (statistics.median(rounds) / len(entries) for rounds in (outside, inside))
    return {
        "ms_per_picture_in_process": round(1000 * own, 3),
        "ms_per_picture_in_cell": round(1000 * celled, 3),
        "cost_ms_per_picture": round(1000 * (celled - own), 3),
        "cost_fraction": round(celled / own - 1, 4),
        "rounds_ms_per_picture_in_process": [round(1000 * seconds / len(entries), 3) for seconds in outside],
        "rounds_ms_per_picture_in_cell": [round(1000 * seconds / len(entries), 3) for seconds in inside],
        "seconds_to_start_load_and_measure_the_first_batch": round(first_s, 3),
        "cell_mib": round(pages * resource.getpagesize() / (1 << 20)),
        "message_bytes": {
            "load": len(_pickled(Load(recipe, dict(weights)))),
            "batch": len(_pickled(tuple(batches[0]))),
        },
    }


def _seconds(work: Any, batches: Sequence[Sequence[Entry]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        outcome: list[Measured] | CellFault = work(batch)
        assert isinstance(outcome, list)
    return time.perf_counter() - started


def _pickled(message: Any) -> bytes:
    from multiprocessing.reduction import ForkingPickler

    return bytes(ForkingPickler.dumps(message))


def _entry(seed: int) -> Entry:
    image_bytes = encode(scene(seed, *SIDES_PX), "jpg", quality=90)
    return Entry(uid_of_bytes(image_bytes), image_bytes)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--num-pictures", type=int, default=40)
    parser.add_argument("--num-rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "cell.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

"""The declared order of work, the recipe's and the one that `order` proposes: core-seconds, and who is kept.

    FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.order CORPUS [--num-samples 40] [--num-planned 40] [--rounds 1]

CORPUS is a folder of tars. `declared` is the recipe without an order of its own: filters as its file lists them, each
behind its screens. It is not what was published, which has no screens and runs text before faces
(`benchmarks.speed.obvious` does): here a proof of text's screens asks for the faces, so that these are measured before
CRAFT wherever they stand. The first pictures of CORPUS are parted by the seed: the proposal is made from some of them,
the others are curated in each of the orders, as whole shards, in one process and with one thread, tars and ledgers
written, and the kept uids and tars are compared. CPU time is that of the process, after a first run over a few that
does not count; rounds alternate.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.pictures.pieces import first_samples, write_shards
from benchmarks.provenance import RESULTS, origin
from curation.commands.curate.stage import curate
from curation.commands.order.observe import sample_of
from curation.commands.order.proposal import Proposal, propose
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.dataset.sample import Sample
from curation.errors import UsageError
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.runner import Spread

NUM_SHARDS = 4
NUM_WARM = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Propose, curate in each order, write the figures."""
    options = _options(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    recipe = load_recipe(options.recipe)
    with tempfile.TemporaryDirectory(prefix="order-", dir=options.folder) as name:
        planned, samples = parted(options.corpus, options.num_planned, options.num_samples, options.seed)
        drawn = sample_of(write_shards(planned, Path(name, "planned"), 1), recipe, options.num_planned, options.seed)
        proposal = propose(drawn.observed, recipe)
        orders = {
            "declared": proposal.declared.order,
            "recipe": proposal.recipe.order,
            "proposed": proposal.proposed.order,
        }
        source = write_shards(samples, Path(name, "in"), NUM_SHARDS)
        few = write_shards(samples[:NUM_WARM], Path(name, "few"), 1)
        curated(few, Path(name, "warm"), ordered(recipe, orders["declared"]))
        runs: dict[str, list[dict[str, Any]]] = {}
        for turn in range(options.rounds):
            for label, order in orders.items():
                run = curated(source, Path(name, f"{label}-{turn}"), ordered(recipe, order))
                runs.setdefault(label, []).append(run)
                print(f"round {turn + 1}: {label}: {run['cpu_s']:.1f} s", file=sys.stderr)
    result = figures(orders, runs, proposal, options.num_samples) | {
        "recipe": recipe.name,
        "num_samples": options.num_samples,
        "rounds": options.rounds,
        "seed": options.seed,
        "plan": {
            "num_pictures": options.num_planned,
            "num_refused": drawn.num_refused,
            "decode_seconds": drawn.decode_seconds,
            **proposal.values,
        },
        "load_average_1_min": round(os.getloadavg()[0], 1),
        **origin(options.recipe),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("orders", "same_kept_uids", "same_tars", "ratios")}, indent=2))
    return 0


def parted(corpus: Path, num_planned: int, num_timed: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Return samples for the proposal and others for the clock, no uid in both, of the first that the corpus holds.

    Raises:
        UsageError: the corpus holds fewer, or one uid twice.
    """
    samples = first_samples(corpus, num_planned + num_timed)
    random.Random(seed).shuffle(samples)
    planned, timed = samples[:num_planned], samples[num_planned:]
    if both := {sample.uid("") for sample in planned} & {sample.uid("") for sample in timed}:
        raise UsageError(f"{corpus}: holds {min(both)} twice; what is timed must not have been planned on")
    return planned, timed


def ordered(recipe: Recipe, order: Sequence[str]) -> Recipe:
    """Return the recipe with another order of work, measuring in this process."""
    settings = recipe.file.curate.model_copy(update={"order": tuple(order), "isolate": False})
    return replace(recipe, file=recipe.file.model_copy(update={"curate": settings}))


def curated(source: Path, target: Path, recipe: Recipe) -> dict[str, Any]:
    """Return what curating the folder takes in this order, and who was kept."""
    started, wall = time.process_time(), time.monotonic()
    manifest = curate(source, target, recipe, Spread(num_workers=0))
    cpu_s, wall_s = time.process_time() - started, time.monotonic() - wall
    rows = [row for report in manifest.shards for row in read_ledger(report.file(target, ".parquet")).to_pylist()]
    return {
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "calls": _calls(rows),
        "kept": sorted(row["uid"] for row in rows if row["kept"]),
        "tars": _tars(manifest),
    }


def _calls(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    columns = [name for name in rows[0] if name.endswith("_evidence")]
    return {name.removesuffix("_evidence"): sum(row[name] is not None for row in rows) for name in columns}


def _tars(manifest: Manifest) -> dict[str, str]:
    return {
        name: record.sha256 for report in manifest.shards for name, record in report.files.items() if ".tar" in name
    }


def figures(
    orders: dict[str, tuple[str, ...]], runs: dict[str, list[dict[str, Any]]], proposal: Proposal, num_samples: int
) -> dict[str, Any]:
    """Return costs by order, how they compare, and whether all kept the same."""
    cpu = {label: sum(run["cpu_s"] for run in some) / len(some) for label, some in runs.items()}
    every = [run for some in runs.values() for run in some]
    played = {"declared": proposal.declared, "recipe": proposal.recipe, "proposed": proposal.proposed}
    return {
        "orders": {
            label: {
                "order": list(order),
                "core_s_per_picture": round(cpu[label] / num_samples, 5),
                "pictures_per_core_second": round(num_samples / cpu[label], 3),
                "cpu_s_by_round": [round(run["cpu_s"], 2) for run in runs[label]],
                "wall_s_by_round": [round(run["wall_s"], 2) for run in runs[label]],
                "calls": runs[label][0]["calls"],
                "measuring_s_per_picture_forecast": round(played[label].seconds, 5),
            }
            for label, order in orders.items()
        },
        "ratios": {
            "declared / proposed": round(cpu["declared"] / cpu["proposed"], 3),
            "recipe / proposed": round(cpu["recipe"] / cpu["proposed"], 3),
        },
        "num_kept": len(every[0]["kept"]),
        "same_kept_uids": all(run["kept"] == every[0]["kept"] for run in every),
        "same_tars": all(run["tars"] == every[0]["tars"] for run in every),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.order",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--num-samples", type=int, default=40, help="pictures that are curated in each order")
    parser.add_argument("--num-planned", type=int, default=40, help="other pictures, on which the proposal rests")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--folder", type=Path, default=None, help="Where the shards are written.")
    parser.add_argument("--out", type=Path, default=RESULTS / "order.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

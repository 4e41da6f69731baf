"""Solves for numbers on ledgers of many rows, and holds them against the truth: with all evidence, and cut short.

    python -m benchmarks.scale.solve [--samples 100000] [--cut-samples 20000] [--shadow 0.02]
        [--out benchmarks/results/solve.json]

Evidence of `colour`, `detail` and `look` is drawn; cascade, ledgers and manifest are real. The truth is counted
from all evidence by comparing every score with every limit of the recipe that was found.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.solve.stage import Solution, solve
from curation.recipe.recipe import Recipe
from tests.curation.commands.solve.test_stage import RECIPE
from tests.curation.ledgers import Seen, portraits, write_curated
from tests.curation.shards import recipe_from

SHARES = (0.05, 0.2, 0.3, 0.5)
Scores = Mapping[tuple[str, str], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both ledgers, and solve for several numbers on each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.solve", description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--cut-samples", type=int, default=20_000)
    parser.add_argument("--shadow", type=float, default=0.02)
    parser.add_argument("--out", type=Path, default=RESULTS / "solve.json")
    chosen = parser.parse_args(arguments)
    result: dict[str, Any] = {"shadow_fraction": chosen.shadow, "ledgers": {}}
    with tempfile.TemporaryDirectory(prefix="solve-") as name:
        for measure, num in (("all", chosen.samples), ("needed", chosen.cut_samples)):
            seen = portraits(num, seed=1)
            text = (RECIPE % measure).replace("shadow_fraction = 0.25", f"shadow_fraction = {chosen.shadow}")
            recipe = recipe_from(Path(name, measure), text)
            write_curated(Path(name, measure, "run", "curate"), recipe, seen, 10_000)
            solved = solved_on(Path(name, measure, "run"), scores_of(seen, recipe), num)
            result["ledgers"][measure] = {"num_samples": num, "solved": solved}
    result |= {"machine": machine(), "commit": commit()}
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["ledgers"], indent=2))
    return 0


def solved_on(run: Path, scores: Scores, num: int) -> list[dict[str, Any]]:
    """Return for each wanted number what was found, how far the truth is from it, and how long it took."""
    found = []
    for want in (round(share * num) for share in SHARES):
        started = time.monotonic()
        solution = solve(run, want)
        seconds, truth = time.monotonic() - started, truth_of(solution, scores)
        low, high = solution.kept.kept_interval
        found.append(
            {
                "want": want,
                "truth": truth,
                "off_fraction": round((truth - want) / want, 6),
                "interval": [low, high],
                "is_within": low <= truth <= high,
                "num_undecided": solution.kept.num_undecided,
                "num_shadow_samples": solution.kept.shadow_trials,
                "level": round(solution.level, 4),
                "seconds": round(seconds, 1),
            }
        )
    return found


def scores_of(seen: Sequence[Seen], recipe: Recipe) -> Scores:
    """Return every score that the recipe keeps by, of all pictures."""
    columns = {plan.name: [plan.module.scores(one[plan.name], plan.score) for one in seen] for plan in recipe.filters}
    return {
        (plan.name, score): np.array([scores[score] for scores in columns[plan.name]])
        for plan in recipe.filters
        for score in plan.keep
    }


def truth_of(solution: Solution, scores: Scores) -> int:
    """Return how many pictures the solved recipe keeps."""
    passes = [
        (scores[plan.name, score] >= (-np.inf if keep.min is None else keep.min))
        & (scores[plan.name, score] <= (np.inf if keep.max is None else keep.max))
        for plan in solution.recipe.filters
        for score, keep in plan.keep.items()
    ]
    return int(np.logical_and.reduce(passes).sum())


if __name__ == "__main__":
    sys.exit(main())

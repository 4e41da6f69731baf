"""Pictures per core-second: the obvious pipeline, ours and the floor on the same photos, in turn, in one run.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.throughput CORPUS|gold|gold2
        [--num-photos 6] [--rounds 1] [--least-seconds 5] [--ours NAME=RECIPE]... [--shard-photos 60] [--keep]
        [--without obvious]

The photos are seeded and stratified by label. Each contender is one process on one core with one thread; rounds
alternate, each round begins with another one, and in a round each goes over the photos until it has worked for
`--least-seconds`, so that the quick are measured as well as the slow.
What counts is CPU seconds per picture; ratios of sums come with a bootstrap interval over photos. `--ours` takes
recipes in the form of `benchmarks.variants`; without it there are two: `same_evidence` (what the obvious pipeline
measures, only order and runtimes ours) and `same_verdict` (the recipe as it is, screens and all). `shard` is the whole
`curate_shard`, tar and ledger written and pictures in a cell, over `--shard-photos` photos with the last of them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.pictures.photos import Photo, photos_of, stratified, write
from benchmarks.provenance import RESULTS, origin, wilson
from benchmarks.speed.contenders import Outcome
from benchmarks.speed.obvious import face_runtime
from benchmarks.speed.outcomes import CACHE
from benchmarks.speed.workers import FLOOR, OBVIOUS, TOTAL, WALL, ShardCost, Worker
from benchmarks.variants import SAME_EVIDENCE, variant

RECIPE = "facecaptionhq-4m"
NUM_BOOTSTRAPS = 2000
SHARD = "shard"
KEPT_LABEL = "single"
"""The label of the first photo that a process sees, so that all its models load."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the figures under the place's name into the results."""
    options = _options(arguments)
    recipes = dict(named.partition("=")[::2] for named in options.ours) or {
        "same_evidence": ";".join((options.recipe, *SAME_EVIDENCE)),
        "same_verdict": options.recipe,
    }
    photos = photos_of(options.place)
    chosen = stratified(photos, options.num_photos, options.seed)
    result: dict[str, Any] = {
        "num_photos": len(chosen),
        "seed": options.seed,
        "labels": dict(sorted(Counter(photo.label for photo in chosen).items())),
        "num_sources": len({photo.source for photo in chosen} - {""}),
        "rounds": options.rounds,
        "recipes": recipes,
        "face_runtime_of_obvious": face_runtime(),
    }
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        tar, one, many = (Path(folder, f"{name}.tar") for name in ("photos", "one", "many"))
        write(chosen, tar)
        write([next((photo for photo in chosen if photo.label == KEPT_LABEL), chosen[0])], one)
        write(stratified(photos, options.shard_photos, options.seed), many)
        contenders = {OBVIOUS: options.recipe, **recipes, FLOOR: ""}
        running = {name: text for name, text in contenders.items() if name not in options.without}
        outcomes, facts = alternate(running, tar, one, options)
        result |= figures(outcomes, chosen, recipes, options.seed) | {"processes": facts}
        if SHARD not in options.without:
            result[SHARD] = whole_shard(list(recipes.values())[-1], many, one, options.core, options.rounds)
    result |= {"load_average_1_min": round(os.getloadavg()[0], 1), **origin(*recipes.values())}
    name = options.name or Path(options.place).name
    done = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    options.out.write_text(json.dumps(done | {name: result}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0


def alternate(
    contenders: Mapping[str, str], tar: Path, one: Path, options: argparse.Namespace
) -> tuple[dict[str, list[list[Outcome]]], dict[str, Any]]:
    """Return every contender's outcomes, one list per pass over the photos, and what its process needed."""
    facts: dict[str, Any] = {}
    workers: dict[str, Worker] = {}
    outcomes: dict[str, list[list[Outcome]]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        for name, recipe in contenders.items():
            workers[name] = Worker.measuring(name, recipe, options.core, CACHE if options.keep else None)
            stack.callback(workers[name].end)
            workers[name].ask(one)
            facts[name] = {"seconds_to_first_picture": round(time.monotonic() - workers[name].started, 2)}
        names = list(contenders)
        for turn in range(options.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                outcomes[name] += _passes(workers[name], tar, options.least_seconds)
                print(f"round {turn + 1} of {options.rounds}: {name}", file=sys.stderr)
        for name, worker in workers.items():
            facts[name]["peak_mib"] = worker.close().worker_mib
    return outcomes, facts


def _passes(worker: Worker, tar: Path, least_seconds: float) -> list[list[Outcome]]:
    passes: list[list[Outcome]] = []
    while not passes or sum(outcome.seconds[TOTAL] for outcomes in passes for outcome in outcomes) < least_seconds:
        passes.append(worker.ask(tar))
    return passes


def whole_shard(recipe: str, many: Path, one: Path, core: int, rounds: int) -> dict[str, Any]:
    """Return what the whole `curate_shard` takes, after a first shard of one picture that loads the models."""
    worker = Worker.curating(SHARD, recipe, core)
    with ExitStack() as stack:
        stack.callback(worker.end)
        worker.ask(one)
        first = time.monotonic() - worker.started
        costs: list[ShardCost] = [worker.ask(many) for _ in range(rounds)]
        peak = worker.close()
    cpu = sum(cost.cpu_s for cost in costs) / sum(cost.num_seen for cost in costs)
    wall = sum(cost.wall_s for cost in costs) / sum(cost.num_seen for cost in costs)
    return {
        "recipe": recipe,
        "num_seen": costs[0].num_seen,
        "num_kept": costs[0].num_kept,
        "cpu_ms_per_picture": round(1000 * cpu, 3),
        "wall_ms_per_picture": round(1000 * wall, 3),
        "pictures_per_core_second": round(1 / cpu, 3),
        "seconds_to_first_shard_of_one_picture": round(first, 2),
        "peak_mib": {"worker": peak.worker_mib, "cell": peak.cell_mib},
    }


def figures(
    outcomes: Mapping[str, list[list[Outcome]]], photos: Sequence[Photo], recipes: Mapping[str, str], seed: int
) -> dict[str, Any]:
    """Return costs, ratios and verdicts side by side."""
    cpu = {name: _per_photo(passes, TOTAL) for name, passes in outcomes.items()}
    result: dict[str, Any] = {"contenders": {name: costs(passes) for name, passes in outcomes.items()}, "ratios": {}}
    for name in recipes:
        if name not in outcomes:
            continue
        for over, under in ((OBVIOUS, name), (name, FLOOR)):
            if over in cpu and under in cpu:
                result["ratios"][f"{over} / {under}"] = ratio(cpu[over], cpu[under], seed)
        result["contenders"][name]["screens"] = screens(outcomes[name][0], recipes[name])
        if OBVIOUS in outcomes:
            result["contenders"][name]["verdicts_beside_obvious"] = _beside(
                outcomes[OBVIOUS][0], outcomes[name][0], photos
            )
    return result


def costs(passes: Sequence[Sequence[Outcome]]) -> dict[str, Any]:
    """Return CPU and wall time per picture, and the CPU time by stage."""
    cpu, wall = _per_photo(passes, TOTAL), _per_photo(passes, WALL)
    stages: dict[str, Any] = {}
    for name in dict.fromkeys(name for outcome in passes[0] for name in outcome.seconds):
        reached = [outcome.seconds[name] for outcomes in passes for outcome in outcomes if name in outcome.seconds]
        if name not in {TOTAL, WALL}:
            stages[name] = {
                "reached_by": len(reached) // len(passes),
                "ms_where_reached": round(1000 * float(np.mean(reached)), 3),
                "ms_per_picture": round(1000 * sum(reached) / len(passes) / len(cpu), 3),
            }
    return {
        "cpu_ms_per_picture": round(1000 * float(cpu.mean()), 3),
        "wall_ms_per_picture": round(1000 * float(wall.mean()), 3),
        "pictures_per_core_second": round(1 / float(cpu.mean()), 3),
        "cpu_ms_per_picture_by_pass": [
            round(1000 * float(np.mean([outcome.seconds[TOTAL] for outcome in outcomes])), 3) for outcomes in passes
        ],
        "kept": sum(outcome.kept for outcome in passes[0]),
        "stages": stages,
    }


def _per_photo(passes: Sequence[Sequence[Outcome]], stage: str) -> npt.NDArray[np.float64]:
    """Return each photo's mean seconds over the passes."""
    seconds = np.array([[outcome.seconds[stage] for outcome in outcomes] for outcomes in passes], dtype=np.float64)
    return np.asarray(seconds.mean(axis=0))


def ratio(over: npt.NDArray[np.float64], under: npt.NDArray[np.float64], seed: int) -> dict[str, Any]:
    """Return the ratio of two sums over the same photos, with its 95 % bootstrap interval over photos."""
    numbers = np.random.default_rng(seed)
    drawn = numbers.integers(len(over), size=(NUM_BOOTSTRAPS, len(over)))
    low, high = np.quantile(over[drawn].sum(axis=1) / under[drawn].sum(axis=1), [0.025, 0.975])
    return {
        "ratio": round(float(over.sum() / under.sum()), 3),
        "bootstrap_95": [round(float(low), 3), round(float(high), 3)],
    }


def screens(outcomes: Sequence[Outcome], text: str) -> dict[str, Any]:
    """Return for each screened filter how many pictures its screens looked at, and how many they spared it.

    Pictures that another filter rejects are left out, since they may spare it too. `hit_rate` is h: the share of the
    pictures looked at that the filter never saw. The rest, 1 - h, lies in the band between the proofs.
    """
    by_filter: dict[str, Any] = {}
    for stanza in variant(text).file.filters:
        mine = [outcome for outcome in outcomes if outcome.rejected_by in {None, stanza.name}]
        names = sorted(
            {name for outcome in mine for name in outcome.scores if name.startswith(f"{stanza.name}_screen")}
        )
        seen = [outcome for outcome in mine if any(name in outcome.scores for name in names)]
        spared = sum(stanza.name not in outcome.scores for outcome in seen)
        if seen:
            by_filter[stanza.name] = {
                "screens": {name: sum(name in outcome.scores for outcome in seen) for name in names},
                "seen": len(seen),
                "spared": spared,
                "hit_rate": round(spared / len(seen), 4),
                "wilson_95": wilson(spared, len(seen)),
                "band": stanza.model_dump(mode="json", exclude_unset=True).get("screens"),
            }
    return by_filter


def _beside(obvious: Sequence[Outcome], ours: Sequence[Outcome], photos: Sequence[Photo]) -> dict[str, Any]:
    pairs = list(zip(photos, obvious, ours, strict=True))
    equal = sum(obvious_outcome.kept == our_outcome.kept for _, obvious_outcome, our_outcome in pairs)
    return {
        "equal": equal,
        "of": len(pairs),
        "wilson_95": wilson(equal, len(pairs)),
        "differences": [
            f"{photo.key} ({photo.label}): obvious {_said(obvious_outcome)}, ours {_said(our_outcome)}"
            for photo, obvious_outcome, our_outcome in pairs
            if obvious_outcome.kept != our_outcome.kept
        ],
    }


def _said(outcome: Outcome) -> str:
    return "kept" if outcome.kept else f"{outcome.rejected_by} {outcome.reason}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("place", help="a folder that benchmarks.pictures.corpus built, gold or gold2")
    parser.add_argument("--recipe", default=RECIPE, help="what the obvious pipeline decides with")
    parser.add_argument("--ours", action="append", default=[], metavar="NAME=RECIPE")
    parser.add_argument("--num-photos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--least-seconds", type=float, default=5.0)
    parser.add_argument("--shard-photos", type=int, default=60)
    parser.add_argument("--without", nargs="*", default=[], help="contenders to leave out, or shard")
    parser.add_argument("--keep", action="store_true", help="keep outcomes for benchmarks.verdicts.agreement")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--name", help="what the results call the place; its folder's name where left out")
    parser.add_argument("--out", type=Path, default=RESULTS / "throughput.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Holds CRAFT's runtimes beside torch in float32: what each costs, and on which pictures its verdict is another.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.runtimes [--num-timed 6] [--lettered 60]

Evidence is kept in `build/screens` (`benchmarks.verdicts.screening`) and shared with `benchmarks.verdicts.screens`. CPU
time is measured on a few pictures, one runtime after the other on each picture, so that a busy machine disturbs all
alike.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts.calibrate import Photos
from benchmarks.verdicts.screening import Gauge, Picture, by_picture, measure, text_corpus
from curation.recipe.joint_scores import Bounds
from curation.recipe.recipe import FilterPlan, load_recipe

REFERENCE = "torch float32"
RUNTIMES = {
    REFERENCE: {"runtime": "torch"},
    "onnxruntime float32": {"runtime": "onnxruntime"},
    "openvino float32": {"runtime": "openvino"},
    "openvino bfloat16": {"runtime": "openvino", "dtype": "bfloat16"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, print the table, write the figures."""
    options = _options(arguments)
    plan = next(plan for plan in load_recipe(options.recipe).filters if plan.name == "text")
    photos = Photos(Path(os.environ["FACECAPTIONHQ_GOLD"]))
    gauges = {name: _gauge(plan, RUNTIMES[name]) for name in options.runtimes}
    corpus = text_corpus(photos, options.lettered)
    lettered = [picture for picture in corpus if picture.group == "single lettered"]
    pictures = [picture for picture in corpus if picture.group in ("single", "text")] + lettered
    if not options.known:
        for count, _ in enumerate(measure(photos, pictures, list(gauges.values())), start=1):
            print(f"\r{count}/{len(pictures)}", end="", file=sys.stderr)
    rows = compared(plan, gauges, [picture.name for picture in pictures])
    seconds = timed(photos, pictures[: options.num_timed], gauges)
    for name, row in rows.items():
        row["cpu_ms"] = round(1000 * median(seconds[name]), 1)
        row["ratio"] = round(median(own / ref for own, ref in zip(seconds[name], seconds[REFERENCE], strict=True)), 3)
    show(rows)
    result = {"num_timed": options.num_timed, "runtimes": rows, "machine": machine(), "commit": commit()}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _gauge(plan: FilterPlan, override: Mapping[str, str]) -> Gauge:
    chosen = {**plan.measure.model_dump(), "runtime": "onnxruntime", "dtype": "float32", **override}
    return Gauge(plan.name, plan.module, plan.module.Measure.model_validate(chosen))


def compared(plan: FilterPlan, gauges: Mapping[str, Gauge], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return by runtime how many verdicts and character counts are the reference's, over pictures that all measured."""
    evidence = by_picture(gauges, names)
    own = {score: keep for score, keep in plan.keep.items() if score not in plan.joint}
    rows: dict[str, dict[str, Any]] = {}
    for runtime in gauges:
        scores = {name: plan.scores(measured[runtime]) for name, measured in evidence.items()}
        theirs = {name: plan.scores(measured[REFERENCE]) for name, measured in evidence.items()}
        verdict = {
            side: {
                name: all(keep.holds(Bounds(values[score], values[score])) for score, keep in own.items())
                for name, values in scored.items()
            }
            for side, scored in (("own", scores), ("reference", theirs))
        }
        others = sorted(name for name in evidence if verdict["own"][name] != verdict["reference"][name])
        counts = [abs(scores[name]["num_characters"] - theirs[name]["num_characters"]) for name in evidence]
        rows[runtime] = {
            "num_pictures": len(evidence),
            "same_verdict": len(evidence) - len(others),
            "wilson_95": wilson(len(evidence) - len(others), len(evidence)),
            "other_verdict": {
                name: [theirs[name]["num_characters"], scores[name]["num_characters"]] for name in others
            },
            "same_characters": sum(count == 0 for count in counts),
            "max_character_difference": max(counts, default=None),
        }
    return rows


def timed(photos: Photos, pictures: Sequence[Picture], gauges: Mapping[str, Gauge]) -> dict[str, list[float]]:
    """Return by runtime the CPU seconds of each picture, after one picture to warm up."""
    built = {name: gauge.module.build(gauge.measure, "cpu") for name, gauge in gauges.items()}
    seconds: dict[str, list[float]] = {name: [] for name in built}
    for row, picture in enumerate([pictures[0], *pictures]):
        pixels = picture.pixels(photos)
        for name, detector in built.items():
            started = time.process_time()
            detector.measure([pixels])
            if row:
                seconds[name].append(time.process_time() - started)
    return seconds


def show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table."""
    print("\n| runtime | CPU ms | of torch's | same verdict | same characters | largest difference | other verdicts |")
    print("|---" * 7 + "|")
    for name, row in rows.items():
        same = f"{row['same_verdict']}/{row['num_pictures']} | {row['same_characters']}/{row['num_pictures']}"
        print(
            f"| {name} | {row['cpu_ms']} | {row['ratio']} | {same} | {row['max_character_difference']} "
            f"| {row['other_verdict']} |"
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.runtimes", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--runtimes", nargs="*", default=list(RUNTIMES), choices=RUNTIMES)
    parser.add_argument("--lettered", type=int, default=60, help="how many photos get seeded lettering")
    parser.add_argument("--num-timed", type=int, default=6)
    parser.add_argument("--known", action="store_true", help="measure nothing, take the pictures that are complete")
    parser.add_argument("--out", type=Path, default=RESULTS / "runtimes.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

r"""Shows where every threshold of a recipe lies between the photos to keep and the ones to reject, and by what margin.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... \
        python -m benchmarks.verdicts.calibrate [--recipe NAME] [--filters NAMES]

Each filter is measured once over the labelled photos and over honest derivatives of them
(`benchmarks.verdicts.derivatives`); evidence is kept in `build/calibration` under the filter's measurement key, so that
other thresholds cost nothing. With `--filters`, the tables of the others stay in the results as they are, each with the
commit that gave it.
"""

import argparse
import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts import derivatives
from benchmarks.verdicts.derivatives import Derivative
from benchmarks.verdicts.labelled import BUSINESS
from curation.images.decode import decode
from curation.measure.arrow import from_struct, to_struct
from curation.measure.filter_set import measurement_keys, weights_of
from curation.recipe.filter_plan import FilterPlan
from curation.recipe.judge import KeepRange
from curation.recipe.recipe import load_recipe
from curation.recipe.settings import DecodeLimits
from filters.base import RgbImage

CACHE = Path("build/calibration")
UNREADABLE_HERE = (".ppm",)
"""Formats that the decode gate refuses; no filter sees them."""


@dataclass(frozen=True)
class Group:
    """Photos that one filter must treat alike, after one derivative."""

    label: str
    derivative: str
    must_stay: bool

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.label} {self.derivative}".strip()


def groups(filter_name: str, with_derivatives: bool) -> dict[Group, Derivative | None]:
    """Return what a filter is calibrated on: the labels that are its business, and derivatives of them."""
    originals = {Group("single", "", must_stay=True): None} | {
        Group(label, "", must_stay=False): None for label in BUSINESS[filter_name]
    }
    return originals | (dict(_derived(filter_name)) if with_derivatives else {})


def _derived(filter_name: str) -> Iterator[tuple[Group, Derivative]]:
    if filter_name == "colour":
        for changes, must_stay in ((derivatives.COLOUR_KEPT, True), (derivatives.COLOUR_REJECTED, False)):
            yield from ((Group("single", name, must_stay), change) for name, change in changes.items())
    elif filter_name == "text":
        yield Group("single", "watermarked", must_stay=True), derivatives.watermarked
        yield Group("single", "captioned", must_stay=False), derivatives.captioned
    else:
        for label in ("single", "group" if filter_name == "faces" else "anime"):
            smaller = derivatives.SMALLER_FACES if filter_name == "faces" else {}
            for name, change in {**derivatives.SAME_SCENE, **smaller}.items():
                yield Group(label, name, must_stay=label == "single"), change


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, print one table per threshold, write the figures."""
    options = _options(arguments)
    recipe = load_recipe(options.recipe)
    photos = Photos(Path(os.environ["FACECAPTIONHQ_GOLD"]))
    keys = measurement_keys(recipe, weights_of(recipe))
    chosen = [plan for plan in recipe.filters if not options.filters or plan.name in options.filters]
    tables = {plan.name: table(photos, plan, keys[plan.name], not options.originals) for plan in chosen}
    for name, rows in tables.items():
        show(name, rows)
    earlier = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    earlier = earlier if earlier.get("recipe") == recipe.name else {}
    result = {
        "recipe": recipe.name,
        "tables": earlier.get("tables", {}) | tables,
        "commits": earlier.get("commits", {}) | dict.fromkeys(tables, commit()),
        "machine": machine(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


@dataclass(frozen=True)
class Photos:
    """The labelled photos in a folder with `manifest.csv`; they are read, never copied."""

    folder: Path

    def of(self, label: str) -> list[str]:
        """Return the files with one label that the decode gate reads."""
        with (self.folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = [row["file"] for row in csv.DictReader(file) if row["label"] == label]
        return sorted(name for name in rows if not name.endswith(UNREADABLE_HERE))

    def picture(self, file: str) -> RgbImage:
        """Return one photo as every filter sees it."""
        return decode((self.folder / "images" / file).read_bytes(), DecodeLimits()).rgb


def table(photos: Photos, plan: FilterPlan, key: str, with_derivatives: bool) -> list[dict[str, Any]]:
    """Return one row per group: how many its own keep ranges get right, and the scores nearest to each threshold."""
    keeps = {score: keep for score, keep in plan.keep.items() if score not in plan.joint}
    rows = []
    for group, change in groups(plan.name, with_derivatives).items():
        scores = {file: plan.scores(evidence) for file, evidence in measured(photos, plan, key, group, change).items()}
        stays = {file: all(_stays(keep, own[score]) for score, keep in keeps.items()) for file, own in scores.items()}
        right = sum(stay == group.must_stay for stay in stays.values())
        rows.append(
            {
                "group": group.name,
                "must": "stay" if group.must_stay else "go",
                "right": right,
                "of": len(scores),
                "wilson_95": wilson(right, len(scores)),
                "nearest": {
                    score: _nearest([own[score] for own in scores.values()], keep, group.must_stay)
                    for score, keep in keeps.items()
                },
                "wrong": sorted(file for file, stay in stays.items() if stay != group.must_stay),
            }
        )
    return rows


def _nearest(values: Sequence[float], keep: KeepRange, must_stay: bool) -> list[float]:
    """Return the five values nearest to the threshold, or beyond it, worst first."""
    worst_first = sorted(values, reverse=(keep.max is None) != must_stay)
    return [round(value, 3) for value in worst_first[:5]]


def measured(photos: Photos, plan: FilterPlan, key: str, group: Group, change: Derivative | None) -> dict[str, Any]:
    """Return file -> evidence, measuring only what the cache lacks."""
    source = hashlib.sha256(Path(derivatives.__file__).read_bytes()).hexdigest()[:8] if change else "original"
    cache = CACHE / f"{plan.name}-{key[:16]}-{group.name.replace(' ', '-')}-{source}.json"
    if not cache.is_file():
        print(f"measuring {plan.name} on {group.name}", file=sys.stderr)
        structs = dict(_measure(photos, plan, group.label, change))
        CACHE.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(structs), encoding="utf-8")
    structs = json.loads(cache.read_text(encoding="utf-8"))
    return {file: from_struct(plan.module.EVIDENCE, struct) for file, struct in structs.items()}


def _measure(photos: Photos, plan: FilterPlan, label: str, change: Derivative | None) -> Iterator[tuple[str, Any]]:
    detector = plan.module.build(plan.measure, "cpu")
    for file in photos.of(label):
        picture = photos.picture(file)
        yield file, to_struct(detector.measure([change(picture) if change else picture])[0])


def _stays(keep: KeepRange, value: float) -> bool:
    return (keep.min is None or value >= keep.min) and (keep.max is None or value <= keep.max)


def show(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one filter's table."""
    scores = list(rows[0]["nearest"])
    print(f"\n## {name}\n\n| photos | must | right | 95 % | {' | '.join(scores)} | wrong |")
    print("|---" * (5 + len(scores)) + "|")
    for row in rows:
        low, high = row["wilson_95"]
        nearest = " | ".join(", ".join(f"{value:g}" for value in row["nearest"][score]) for score in scores)
        wrong = ", ".join(row["wrong"][:4]) + (f" and {len(row['wrong']) - 4} more" if len(row["wrong"]) > 4 else "")
        share = f"{row['right']}/{row['of']} | {low:.2f}-{high:.2f}"
        print(f"| {row['group']} | {row['must']} | {share} | {nearest} | {wrong} |")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.calibrate", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--filters", nargs="*", help="only these filters of the recipe")
    parser.add_argument("--originals", action="store_true", help="leave the derivatives out")
    parser.add_argument("--out", type=Path, default=RESULTS / "calibration.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

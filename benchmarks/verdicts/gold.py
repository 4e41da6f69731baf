"""Runs a recipe over labelled photos through the command line and says what it keeps, and how sure that is.

    FACECAPTIONHQ_GOLD=... python -m benchmarks.verdicts.gold [--recipe facecaptionhq-4m] [--literal published-literal]

Everything is measured (`measure = "all"`), so each filter is judged on every photo. The literal recipe is judged from
the same ledgers; only the filters that it measures otherwise run again. Photos are never copied: only figures and
file names leave.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.variants import plain
from benchmarks.verdicts.labelled import BUSINESS
from curation.dataset.ledger import read_ledger
from curation.dataset.tar import write_tar
from curation.measure.arrow import from_struct
from curation.measure.filter_set import measurement_keys, weights_of
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe, load_recipe

NUM_SHARDS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Curate the photos, judge both recipes, write the figures."""
    options = _options(arguments)
    gold = Path(os.environ["FACECAPTIONHQ_GOLD"])
    recipe, literal = load_recipe(options.recipe), load_recipe(options.literal)
    with tempfile.TemporaryDirectory(prefix="gold-") as folder:
        started = time.monotonic()
        rows = curated(gold, Path(folder, "own"), recipe, options.workers)
        seconds = time.monotonic() - started
        again = curated(gold, Path(folder, "other"), _otherwise(recipe, literal), options.workers)
    evidence = [{name: value for name, value in row.items() if name.endswith("_evidence")} for row in again]
    literal_rows = [{**row, **other} for row, other in zip(rows, evidence, strict=True)]
    result = {
        "num_photos": len(rows),
        "wall_seconds": round(seconds, 1),
        "recipes": {
            recipe.name: figures(rows, recipe),
            f"{recipe.name} without screens": figures(rows, plain(recipe)),
            literal.name: figures(literal_rows, literal),
        },
        "machine": machine(),
        "commit": commit(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, values in result["recipes"].items():  # type: ignore[attr-defined]
        show(values, name)
    return 0


def curated(gold: Path, folder: Path, recipe: Recipe, workers: int) -> list[dict[str, Any]]:
    """Return every ledger row, with the label that the photo's manifest gives."""
    source, target = folder / "in", folder / "curate"
    source.mkdir(parents=True)
    with (gold / "manifest.csv").open(newline="", encoding="utf-8") as file:
        photos = list(csv.DictReader(file))
    for shard in range(NUM_SHARDS):
        members = [member for photo in photos[shard::NUM_SHARDS] for member in _members(gold, photo)]
        write_tar(source / f"{shard:05d}.tar", members)
    everything = folder / "recipe.toml"
    everything.write_text(_measuring_all(recipe), encoding="utf-8")
    program = str(Path(sys.executable).with_name("facecaptionhq"))
    command = [program, "curate", str(source), str(target), "--recipe", str(everything), "--workers", str(workers)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = [row for path in sorted(target.glob("*.parquet")) for row in read_ledger(path).to_pylist()]
    labels = {_key(photo["file"]): photo["label"] for photo in photos}
    return [{**row, "label": labels[row["key"]]} for row in rows]


def _otherwise(recipe: Recipe, literal: Recipe) -> Recipe:
    """Return the literal recipe with only those filters that it measures otherwise than `recipe` does."""
    weights = weights_of(recipe) | weights_of(literal)
    same, other = measurement_keys(recipe, weights), measurement_keys(literal, weights)
    return replace(literal, filters=tuple(plan for plan in literal.filters if other[plan.name] != same[plan.name]))


def _measuring_all(recipe: Recipe) -> str:
    """Return the recipe's file with everything measured, and only the stanzas of the filters that it still has."""
    head, *stanzas = Path(recipe.path).read_text(encoding="utf-8").split("[[filters]]")
    names = [plan.name for plan in recipe.filters]
    chosen = [stanza for stanza in stanzas if any(f'name = "{name}"' in stanza for name in names)]
    head = re.sub(r"order = .*", f'order = {names}\nmeasure = "all"', head)
    return "[[filters]]".join([head, *chosen])


def _members(gold: Path, photo: Mapping[str, str]) -> list[tuple[str, bytes]]:
    key = _key(photo["file"])
    metadata = json.dumps({"url": f"https://gold.example/{key}"}).encode()
    return [(f"{key}.img", (gold / "images" / photo["file"]).read_bytes()), (f"{key}.json", metadata)]


def _key(file: str) -> str:
    return file.replace("/", "__").rpartition(".")[0].replace(".", "_")


def figures(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """Return verdicts by label, and each filter's own precision and recall over everything it measured."""
    verdicts = [(row, verdict_of(row, recipe)) for row in rows]
    by_label: dict[str, Counter[str]] = {}
    for row, verdict in verdicts:
        by_label.setdefault(row["label"], Counter())[verdict.rejected_by or "kept"] += 1
    return {
        "by_label": {label: dict(sorted(counts.items())) for label, counts in sorted(by_label.items())},
        "filters": {plan.name: _filter_figures(rows, recipe, plan.name) for plan in recipe.filters},
        "wrong": sorted(
            f"{row['key']}: {verdict.rejected_by or 'kept'} {verdict.reason or ''}".rstrip()
            for row, verdict in verdicts
            if (row["label"] == "single") != verdict.kept
        ),
    }


def verdict_of(row: Mapping[str, Any], recipe: Recipe, only: str | None = None) -> Verdict:
    """Judge a photo again from its evidence; `only` one filter's criteria, or all."""
    if row["rejected_by"] == "unreadable":
        return Verdict("unreadable", row["reason"])
    known = {plan.name: from_struct(plan.module.EVIDENCE, row[f"{plan.name}_evidence"]) for plan in recipe.measurers}
    verdict = judge(known, [criterion for criterion in recipe.criteria if only in (None, criterion.filter)])
    assert isinstance(verdict, Verdict)
    return verdict


def _filter_figures(rows: Sequence[Mapping[str, Any]], recipe: Recipe, name: str) -> dict[str, Any]:
    """Count over all photos but those of other classes, which are neither this filter's business nor clean."""
    mine = [row for row in rows if row["label"] in BUSINESS[name]]
    single = [row for row in rows if row["label"] == "single"]
    missed = [row["key"] for row in mine if verdict_of(row, recipe, name).rejected_by != name]
    false = [row["key"] for row in single if verdict_of(row, recipe, name).rejected_by == name]
    num_found = len(mine) - len(missed)
    return {
        "recall": _share(num_found, len(mine)),
        "precision": _share(num_found, num_found + len(false)),
        "single_kept": _share(len(single) - len(false), len(single)),
        "missed": sorted(missed),
        "single_rejected": sorted(false),
    }


def _share(num_hits: int, num_trials: int) -> dict[str, Any]:
    return {"hits": num_hits, "of": num_trials, "wilson_95": wilson(num_hits, num_trials)}


def show(figures: Mapping[str, Any], name: str) -> None:
    """Print the figures as two tables."""
    print(f"\n## {name}\n")
    for label, counts in figures["by_label"].items():
        print(f"{label:8} {sum(counts.values()):3}  " + ", ".join(f"{by} {count}" for by, count in counts.items()))
    for filter_name, shares in figures["filters"].items():
        for measure in ("recall", "precision", "single_kept"):
            share = shares[measure]
            print(f"{filter_name:8} {measure:12} {share['hits']}/{share['of']}  95 % {share['wilson_95']}")
        print(f"{'':8} missed {shares['missed']}\n{'':8} single rejected {shares['single_rejected']}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.gold", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--literal", default="published-literal")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "gold.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

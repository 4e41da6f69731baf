"""Holds a screen's proofs against what the filter itself measures, and says how many pictures are left to the filter.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... python -m benchmarks.screens [--bands FILE] [--truth JSON]

The pictures are labelled photos, derivatives of them and seeded lettering (`benchmarks.screening`). Filter, joint
inputs and every screen are measured once; evidence is kept in `build/screens` under the measurement key, so other bands
cost nothing. For each proof: how many pictures it speaks of, which contradict it, and how near the next one comes
that would. For the screens in a row: how many pictures each settles, by group, and the band that is left.
"""

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.calibrate import Photos
from benchmarks.provenance import commit, machine, wilson
from benchmarks.screening import Gauge, by_picture, measure, text_corpus
from curation.joint import Bounds
from curation.judge import KeepRange
from curation.recipe import FilterPlan, Recipe, load_recipe
from filters.base import Settings

Scores = Mapping[str, float]


class Proof(Settings):
    """Where these ranges of a screen's scores hold, those of the filter's scores are certain."""

    when: dict[str, KeepRange]
    then: dict[str, KeepRange]


class Stanza(Settings):
    """One `[[filters.screens]]` table, as a recipe has it."""

    filter: str
    measure: dict[str, Any] = Field(default_factory=dict)
    score: dict[str, Any] = Field(default_factory=dict)
    proofs: tuple[Proof, ...]


@dataclass(frozen=True)
class Screen:
    """A screen ready to score."""

    stanza: Stanza
    number: int

    @cached_property
    def gauge(self) -> Gauge:
        """What it measures."""
        module = import_module(f"filters.{self.stanza.filter}")
        return Gauge(self.stanza.filter, module, module.Measure.model_validate(self.stanza.measure))

    @property
    def name(self) -> str:
        """Its name among the gauges."""
        return f"screen {self.number}"

    def scores(self, evidence: Any) -> dict[str, float]:
        """Return the scores that its proofs speak of."""
        found: dict[str, float] = self.gauge.module.scores(
            evidence, self.gauge.module.Score.model_validate(self.stanza.score)
        )
        return found


@dataclass(frozen=True)
class Case:
    """One picture: what the filter says of it, and what the screens see, in their order."""

    name: str
    truth: Scores
    seen: tuple[Scores, ...]

    @property
    def group(self) -> str:
        """What it stands for."""
        return self.name.partition("/")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, print the tables, write the figures."""
    options = _options(arguments)
    recipe = load_recipe(options.recipe)
    plan = next(one for one in recipe.filters if one.name == options.filter)
    screens = read_screens(options.bands, options.filter)
    photos = Photos(Path(os.environ["FACECAPTIONHQ_GOLD"]))
    pictures = text_corpus(photos, options.lettered)
    gauges = {**truth_gauges(recipe, plan, json.loads(options.truth)), **{one.name: one.gauge for one in screens}}
    if not options.known:
        for count, _ in enumerate(measure(photos, pictures, list(gauges.values())), start=1):
            print(f"\r{count}/{len(pictures)}", end="", file=sys.stderr)
    measured = by_picture(gauges, [picture.name for picture in pictures])
    cases = [case_of(name, evidence, plan, screens) for name, evidence in measured.items()]
    result = {
        "filter": plan.name,
        "truth": gauges[plan.name].measure.model_dump(mode="json"),
        "num_pictures": len(cases),
        "screens": [screen_table(screens[: row + 1], cases, plan) for row in range(len(screens))],
        "groups": [group_row(group, cases, screens, plan) for group in sorted({case.group for case in cases})],
        "machine": machine(),
        "commit": commit(),
    }
    show(result)
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    options.out.write_text(json.dumps({**known, plan.name: result}, indent=1) + "\n", encoding="utf-8")
    return 0


def read_screens(file: Path, filter_name: str) -> list[Screen]:
    """Return the screens of one filter's stanza in a TOML file: a recipe, or a part of one."""
    tables = tomllib.loads(file.read_text(encoding="utf-8"))["filters"]
    stanza = next(table for table in tables if table["name"] == filter_name)
    return [Screen(Stanza.model_validate(one), row) for row, one in enumerate(stanza["screens"], start=1)]


def truth_gauges(recipe: Recipe, plan: FilterPlan, override: Mapping[str, Any]) -> dict[str, Gauge]:
    """Return what measures a filter's scores: itself with parameters overridden, and inputs of its joint scores."""
    needed = {plan.name, *(name for joint in plan.joint.values() for name in joint.inputs)}
    gauges = {one.name: Gauge(one.name, one.module, one.measure) for one in recipe.filters if one.name in needed}
    own = plan.module.Measure.model_validate({**plan.measure.model_dump(), **override})
    return {**gauges, plan.name: Gauge(plan.name, plan.module, own)}


def case_of(name: str, evidence: Mapping[str, Any], plan: FilterPlan, screens: Sequence[Screen]) -> Case:
    """Return one picture's scores."""
    joint = {score: one.bounds(evidence).low for score, one in plan.joint.items()}
    truth = {**plan.scores(evidence[plan.name]), **joint}
    return Case(name, truth, tuple(screen.scores(evidence[screen.name]) for screen in screens))


def applies(proof: Proof, scores: Scores) -> bool:
    """Whether a proof speaks of a picture."""
    return all(keep.holds(Bounds(scores[name], scores[name])) for name, keep in proof.when.items())


def contradicts(proof: Proof, truth: Scores) -> bool:
    """Whether a picture's scores are not what a proof says."""
    return not all(keep.holds(Bounds(truth[name], truth[name])) for name, keep in proof.then.items())


def settled(case: Case, screens: Sequence[Screen], plan: FilterPlan) -> bool | None:
    """Return what the screens make of a picture: it stays, it goes, or None where the filter must look."""
    stays = []
    for score, keep in plan.keep.items():
        verdict = None
        for screen, scores in zip(screens, case.seen, strict=False):
            ranges = [one.then[score] for one in screen.stanza.proofs if score in one.then and applies(one, scores)]
            bounds = [Bounds(one.min or 0.0, float("inf") if one.max is None else one.max) for one in ranges]
            if verdict is None and any(keep.failure(one) for one in bounds):
                verdict = False
            if verdict is None and any(keep.holds(one) for one in bounds):
                verdict = True
        stays.append(verdict)
    if False in stays:
        return False
    return True if None not in stays else None


def stays(case: Case, plan: FilterPlan) -> bool:
    """Return the filter's own verdict."""
    return all(keep.holds(Bounds(case.truth[score], case.truth[score])) for score, keep in plan.keep.items())


def screen_table(screens: Sequence[Screen], cases: Sequence[Case], plan: FilterPlan) -> dict[str, Any]:
    """Return what the last of the screens adds: its proofs one by one, and the pictures that are still in doubt."""
    screen, row = screens[-1], len(screens) - 1
    reached = [case for case in cases if settled(case, screens[:-1], plan) is None]
    return {
        "filter": screen.stanza.filter,
        "measure": screen.gauge.measure.model_dump(mode="json"),
        "score": screen.gauge.module.Score.model_validate(screen.stanza.score).model_dump(mode="json"),
        "reached": len(reached),
        "left": sum(settled(case, screens, plan) is None for case in reached),
        "proofs": [proof_row(proof, cases, row) for proof in screen.stanza.proofs],
    }


def proof_row(proof: Proof, cases: Sequence[Case], row: int) -> dict[str, Any]:
    """Return how a proof fares on all pictures, whoever settled them before, and the nearest that it would be wrong of.

    `nearest` is, by score of the proof, the value at which the next contradicting picture enters when this one bound
    alone is moved.
    """
    spoken = [case for case in cases if applies(proof, case.seen[row])]
    wrong = [case.name for case in spoken if contradicts(proof, case.truth)]
    nearest = {}
    for name, keep in proof.when.items():
        rest = Proof(when={key: one for key, one in proof.when.items() if key != name}, then=proof.then)
        values = [
            case.seen[row][name] for case in cases if contradicts(proof, case.truth) and applies(rest, case.seen[row])
        ]
        nearest[name] = (
            (max(values, default=None) if keep.max is None else min(values, default=None)) if values else None
        )
    return {
        "proof": proof.model_dump(mode="json", exclude_none=True),
        "spoken_of": len(spoken),
        "contradicted_by": wrong,
        "wilson_95": wilson(len(wrong), len(spoken)),
        "nearest": nearest,
    }


def group_row(group: str, cases: Sequence[Case], screens: Sequence[Screen], plan: FilterPlan) -> dict[str, Any]:
    """Return what becomes of the pictures of one group."""
    own = [case for case in cases if case.group == group]
    verdicts = {case.name: settled(case, screens, plan) for case in own}
    left = sum(verdict is None for verdict in verdicts.values())
    return {
        "group": group,
        "num": len(own),
        "filter_keeps": sum(stays(case, plan) for case in own),
        "proven_kept": sum(verdict is True for verdict in verdicts.values()),
        "proven_rejected": sum(verdict is False for verdict in verdicts.values()),
        "left_after": [sum(settled(case, screens[: k + 1], plan) is None for case in own) for k in range(len(screens))],
        "band": round(left / len(own), 4),
        "band_wilson_95": wilson(left, len(own)),
        "other_verdict": [case.name for case in own if verdicts[case.name] not in (None, stays(case, plan))],
    }


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for screen in result["screens"]:
        print(f"\n## {screen['filter']} {screen['measure']}: {screen['reached']} reach it, {screen['left']} left\n")
        for row in screen["proofs"]:
            print(
                f"- {row['proof']}\n  speaks of {row['spoken_of']}, nearest {row['nearest']}, {row['contradicted_by']}"
            )
    print("\n| pictures | of | filter keeps | proven kept | proven rejected | left after | 95 % | other verdict |")
    print("|---" * 8 + "|")
    for row in result["groups"]:
        kept = f"{row['num']} | {row['filter_keeps']} | {row['proven_kept']} | {row['proven_rejected']}"
        print(f"| {row['group']} | {kept} | {row['left_after']} | {row['band_wilson_95']} | {row['other_verdict']} |")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screens", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--filter", default="text", help="the filter that is screened")
    parser.add_argument("--bands", type=Path, default=Path("benchmarks/screens.toml"), help="TOML with its screens")
    parser.add_argument("--lettered", type=int, default=240, help="how many photos get seeded lettering")
    parser.add_argument("--truth", default="{}", help="JSON of parameters with which the filter measures the truth")
    parser.add_argument("--known", action="store_true", help="measure nothing, take the pictures that are complete")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/screens.json"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

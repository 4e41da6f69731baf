"""Screens and their proofs beside what the filter itself says, as plan and judge see them."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import wilson
from benchmarks.verdicts.screening import Gauge
from curation.recipe.filter_plan import FilterPlan, ScreenPlan, criterion_of
from curation.recipe.joint_scores import Bounds, Known
from curation.recipe.judge import NotYet, judge
from curation.recipe.recipe import Recipe, recipe_of
from curation.recipe.screens import Proof

Scores = Mapping[str, float]
LETTERED = "single lettered"
MOVED = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
"""Factors by which a bound is moved, to show what another choice would do."""


@dataclass(frozen=True, eq=False)
class Case:
    """One picture: all evidence, what the filter says of it, and what each screen sees, in their order."""

    name: str
    known: Known
    truth: Scores
    seen: tuple[Scores, ...]

    @property
    def group(self) -> str:
        """What it stands for."""
        return self.name.partition("/")[0]


def with_screens(recipe: Recipe, file: Path) -> Recipe:
    """Return the recipe with the screens of a TOML file, a recipe or a part of one, in place of its own.

    Raises:
        RecipeError: a screen does not hold.
    """
    tables = tomllib.loads(file.read_text(encoding="utf-8"))["filters"]
    screens = {table["name"]: table["screens"] for table in tables if "screens" in table}
    values = recipe.file.model_dump(mode="json", exclude_unset=True)
    stanzas = [
        {**stanza, **({"screens": screens[stanza["name"]]} if stanza["name"] in screens else {})}
        for stanza in values["filters"]
    ]
    return recipe_of({**values, "filters": stanzas}, f"{recipe.path} with {file}")


def gauges_of(recipe: Recipe, plan: FilterPlan, override: Mapping[str, Any]) -> dict[str, Gauge]:
    """Return what measures: the filter with parameters overridden, its screens, and inputs of its joint scores."""
    needed = {name for joint in plan.joint.values() for name in joint.inputs}
    others = (*(other for other in recipe.filters if other.name in needed), *(screen.plan for screen in plan.screens))
    own = plan.module.Measure.model_validate({**plan.measure.model_dump(), **override})
    gauges = {other.name: Gauge(other.filter, other.module, other.measure) for other in others}
    return {**gauges, plan.name: Gauge(plan.filter, plan.module, own)}


def case_of(name: str, known: Known, plan: FilterPlan) -> Case:
    """Return one picture's scores."""
    joint = {score: joint_score.bounds(known).low for score, joint_score in plan.joint.items()}
    seen = tuple(screen.scores(screen.proofs, known) for screen in plan.screens)
    return Case(name, known, {**plan.scores(known[plan.name]), **joint}, seen)


def settled(case: Case, plan: FilterPlan, screens: Sequence[ScreenPlan]) -> bool | None:
    """Return what the judge makes of a picture before the filter measures: it stays, it goes, or None."""
    criteria = [criterion_of(plan, score, keep, screens) for score, keep in plan.keep.items()]
    verdict = judge({**case.known, plan.name: None}, criteria)
    return None if isinstance(verdict, NotYet) else verdict.kept


def stays(case: Case, plan: FilterPlan, screens: Sequence[ScreenPlan] = ()) -> bool:
    """Return the judge's verdict with all evidence: the filter's own, or with screens what a proof says before it."""
    verdict = judge(case.known, [criterion_of(plan, score, keep, screens) for score, keep in plan.keep.items()])
    return not isinstance(verdict, NotYet) and verdict.kept


def contradicts(proof: Proof, truth: Scores) -> bool:
    """Whether a picture's scores are not what a proof says."""
    return not all(keep.holds(Bounds(truth[name], truth[name])) for name, keep in proof.then.items())


def proof_row(proof: Proof, cases: Sequence[Case], row: int) -> dict[str, Any]:
    """Return how a proof of the screen in one row fares on all pictures, whoever settled them before.

    `nearest` is, by score of the proof, the photo that contradicts it and would be the first to enter when this one
    bound alone is moved, with its score; None where none would. `moved` shows what other bounds would do.
    """
    return {
        "proof": proof.model_dump(mode="json", exclude_none=True),
        **_by_kind(proof, cases, row),
        "nearest": {name: _nearest(proof, name, cases, row) for name in proof.when},
        "moved": {name: list(_moved(proof, name, cases, row)) for name in proof.when},
    }


def _by_kind(proof: Proof, cases: Sequence[Case], row: int) -> dict[str, dict[str, Any]]:
    """Return photos and lettering apart: of how many the proof speaks, and which contradict it."""
    counts = {}
    for which, drawn in (("photos", False), ("lettered", True)):
        spoken = [case for case in cases if (case.group == LETTERED) == drawn and proof.applies(case.seen[row])]
        wrong = sorted(case.name for case in spoken if contradicts(proof, case.truth))
        counts[which] = {
            "spoken_of": len(spoken),
            "contradicted_by": wrong,
            "wilson_95": wilson(len(wrong), len(spoken)),
        }
    return counts


def _nearest(proof: Proof, name: str, cases: Sequence[Case], row: int) -> tuple[float, str] | None:
    rest = proof.model_copy(update={"when": {key: keep for key, keep in proof.when.items() if key != name}})
    scored = [
        (round(case.seen[row][name], 4), case.name)
        for case in cases
        if case.group != LETTERED and contradicts(proof, case.truth) and rest.applies(case.seen[row])
    ]
    return max(scored, default=None) if proof.when[name].max is None else min(scored, default=None)


def _moved(proof: Proof, name: str, cases: Sequence[Case], row: int) -> Iterator[dict[str, Any]]:
    """Yield what becomes of a proof whose one bound is moved; a bound of 0 stays where it is."""
    end = "max" if proof.when[name].min is None else "min"
    bound = getattr(proof.when[name], end)
    for factor in MOVED if bound else ():
        keep = proof.when[name].model_copy(update={end: bound * factor})
        counts = _by_kind(proof.model_copy(update={"when": {**proof.when, name: keep}}), cases, row)
        yield {
            end: round(bound * factor, 4),
            **{kind: [len(count["contradicted_by"]), count["spoken_of"]] for kind, count in counts.items()},
        }

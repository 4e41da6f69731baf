"""Screens and their proofs beside what the filter itself says: read, scored and settled, for `benchmarks.screens`."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.screening import Gauge
from curation.joint import Bounds
from curation.judge import KeepRange
from curation.recipe import FilterPlan, Recipe
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


@dataclass(frozen=True, eq=False)
class Case:
    """One picture: what the filter says of it, and what the screens see, in their order."""

    name: str
    truth: Scores
    seen: tuple[Scores, ...]

    @property
    def group(self) -> str:
        """What it stands for."""
        return self.name.partition("/")[0]


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

"""One filter of a recipe, with its screens: from its stanza to its module, parameters, keep ranges and criteria."""

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from pydantic import Field

import filters
from curation.errors import RecipeError
from curation.recipe.joint_scores import JOINT_SCORES, UNKNOWN, Bounds, JointScore, Known
from curation.recipe.judge import Criterion, KeepRange, Screening
from curation.recipe.screens import Proof, Proofs, ScreenStanza, about, may_hold
from curation.recipe.validation import choices, validated
from filters.base import CONTRACT, FilterModule, Follower, Settings, StandIn

OWN_NAME = re.compile(r"own_[a-z0-9][a-z0-9_]*")
"""Names under which a filter may stand beside itself; no filter of ours will ever bear one."""
NUM_RECENT = 256
"""Evidences whose scores a plan remembers: more than a batch has pictures."""


class FilterStanza(Settings):
    """One `[[filters]]` table, before its filter's own module has looked at it."""

    name: str
    """Name of the filter (a module of `filters`, or one that a package or `FACECAPTIONHQ_FILTERS` brings), of its
    column, and of who rejects."""
    filter: str | None = None
    """The filter that measures, where `name` is one of your own, which begins with `own_`: so it may stand in a recipe
    several times."""
    measure: dict[str, Any] = Field(default_factory=dict)
    """Parameters that change the evidence."""
    score: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the scores alone, free to change after measuring."""
    joint: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Parameters of joint scores, by the score's name; naming one here has it told without a keep range."""
    keep: dict[str, KeepRange] = Field(default_factory=dict)
    """Keep ranges by the name of a score: `min`, `max` or both; both ends stay."""
    screens: tuple[ScreenStanza, ...] = ()
    """Cheap filters that are asked first, in this order."""


@dataclass(frozen=True)
class FilterPlan:
    """One filter or screen as the recipe wants it: its module, its parameters and its keep ranges."""

    name: str
    """The name of its column: the filter's, or for its screens `text_screen`, `text_screen_2`, ..."""
    module: FilterModule
    measure: Settings
    score: Settings
    joint: Mapping[str, JointScore]
    keep: Mapping[str, KeepRange]
    screens: tuple["ScreenPlan", ...] = ()
    """In the order in which they are asked."""
    _recent: dict[int, tuple[Any, dict[str, float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Evidence by its `id`, held so that the id stays its own, and its scores: the judge asks for them many times."""

    @property
    def filter(self) -> str:
        """Name of the module that measures."""
        return self.module.__name__.rpartition(".")[2]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the filters whose evidence it needs to measure."""
        return self.module.INPUTS if isinstance(self.module, Follower) else ()

    def scores(self, evidence: Any) -> dict[str, float]:
        """Return the filter's own scores of one evidence."""
        remembered = self._recent.get(id(evidence))
        if remembered is None:
            if len(self._recent) >= NUM_RECENT:
                self._recent.clear()
            remembered = self._recent[id(evidence)] = evidence, self.module.scores(evidence, self.score)
        return dict(remembered[1])


@dataclass(frozen=True)
class ScreenPlan:
    """One screen of a filter, and what it proves of the filter's scores."""

    plan: FilterPlan
    proofs: tuple[Proof, ...]
    screened: str
    """The filter whose scores it proves."""
    joint: Mapping[str, JointScore]
    """Joint scores of that filter which the proofs ask with the screen's evidence in the filter's place."""

    def inputs(self, proofs: Proofs) -> tuple[str, ...]:
        """Return whose evidence these proofs need."""
        asked = [self.joint[name] for proof in proofs.proofs for name in proof.when if name in self.joint]
        others = [name for score in asked for name in score.inputs if name != self.screened]
        return (self.plan.name, *dict.fromkeys(others))

    def prove(self, proofs: Proofs, known: Known) -> Bounds:
        """Return what the evidence says of the score that the proofs speak of; every input must be known."""
        return proofs.bounds(self.scores(proofs.proofs, known))

    def scores(self, proofs: Sequence[Proof], known: Known) -> dict[str, float]:
        """Return the screen's own scores, and the joint ones that the proofs ask; every input must be known."""
        evidence = known[self.plan.name]
        scores = self.plan.scores(evidence)
        asked = {name for proof in proofs for name in proof.when if name in self.joint}
        if asked:
            seen = {**known, self.screened: stand_in(self.plan, evidence)}
            scores |= {name: self.joint[name].bounds(seen).low for name in asked}
        return scores


def stand_in(plan: FilterPlan, evidence: Any) -> Any:
    """Return what joint scores take for the evidence of the filter that this one screens."""
    return plan.module.stand_in(evidence, plan.score) if isinstance(plan.module, StandIn) else evidence


def plan_of(stanza: FilterStanza, where: str, place: str) -> FilterPlan:
    """Return what a stanza asks for; `where` and `place` say in errors which file and table it is of.

    Raises:
        RecipeError: a key of it does not hold.
    """
    module = _module_of(stanza, where, place)
    joint = {name: score for name, score in JOINT_SCORES.items() if score.owner == stanza.name}
    if unknown := [name for name in stanza.joint if name not in joint]:
        raise RecipeError(f"{where}: {place}.joint.{unknown[0]}: unknown; {choices(unknown[0], joint)}")
    scores = (*module.SCORES, *joint)
    if unknown := [name for name in stanza.keep if name not in scores]:
        raise RecipeError(f"{where}: {place}.keep.{unknown[0]}: no such score; {choices(unknown[0], scores)}")
    return FilterPlan(
        name=stanza.name,
        module=module,
        measure=validated(module.Measure, stanza.measure, where, f"{place}.measure"),
        score=validated(module.Score, stanza.score, where, f"{place}.score"),
        joint={
            name: validated(score, stanza.joint.get(name, {}), where, f"{place}.joint.{name}")
            for name, score in joint.items()
            if name in stanza.keep or name in stanza.joint
        },
        keep=stanza.keep,
        screens=tuple(
            _screen(stanza, number, (*module.SCORES, *joint), where, f"{place}.screens[{number}]")
            for number in range(len(stanza.screens))
        ),
    )


def _screen(stanza: FilterStanza, number: int, scores: Sequence[str], where: str, place: str) -> ScreenPlan:
    screen = stanza.screens[number]
    module = _module(screen.filter, where, f"{place}.filter")
    if isinstance(module, Follower):
        raise RecipeError(
            f"{where}: {place}.filter: {screen.filter!r} follows {module.INPUTS[0]!r} and can screen none"
        )
    can_stand_in = screen.filter == stanza.name or isinstance(module, StandIn)
    joint = {name: score for name, score in JOINT_SCORES.items() if score.owner == stanza.name and can_stand_in}
    for i, proof in enumerate(screen.proofs):
        for table, names, allowed in (("when", proof.when, (*module.SCORES, *joint)), ("then", proof.then, scores)):
            if unknown := [name for name in names if name not in allowed]:
                at = f"{place}.proofs[{i}].{table}.{unknown[0]}"
                raise RecipeError(f"{where}: {at}: no such score; {choices(unknown[0], allowed)}")
    if not any(score in proof.then for proof in screen.proofs for score in stanza.keep):
        raise RecipeError(f"{where}: {place}.proofs: none speaks of a score that {stanza.name!r} keeps by")
    plan = FilterPlan(
        name=f"{stanza.name}_screen" if number == 0 else f"{stanza.name}_screen_{number + 1}",
        module=module,
        measure=validated(module.Measure, screen.measure, where, f"{place}.measure"),
        score=validated(module.Score, screen.score, where, f"{place}.score"),
        joint={},
        keep={},
    )
    asked = {name for proof in screen.proofs for name in proof.when if name in joint}
    held = {name: validated(joint[name], stanza.joint.get(name, {}), where, f"{place}.joint.{name}") for name in asked}
    return ScreenPlan(plan, screen.proofs, stanza.name, held)


def _module_of(stanza: FilterStanza, where: str, place: str) -> FilterModule:
    if stanza.filter is None:
        return _module(stanza.name, where, f"{place}.name")
    if not OWN_NAME.fullmatch(stanza.name) or is_filter(stanza.name):
        raise RecipeError(
            f"{where}: {place}.name: {stanza.name!r} with filter = {stanza.filter!r}: a name of your own is wanted, "
            f"which begins with own_, such as own_{stanza.filter}"
        )
    return _module(stanza.filter, where, f"{place}.filter")


def _module(name: str, where: str, place: str) -> FilterModule:
    if not is_filter(name):
        raise RecipeError(f"{where}: {place}: no filter {name!r}; {choices(name, filter_names())}")
    module = importlib.import_module(f"filters.{name}")
    if missing := [part for part in CONTRACT if not hasattr(module, part)]:
        file = getattr(module, "__file__", name)
        raise RecipeError(
            f"{where}: {place}: {file} does not define {', '.join(missing)}; `filters.base.FilterModule` says what a "
            f"filter defines"
        )
    return cast("FilterModule", module)


def is_filter(name: str) -> bool:
    """Whether a module of `filters` is a filter; no other is imported for that."""
    spec = importlib.util.find_spec(f"filters.{name}") if name.isidentifier() else None
    is_module = spec is not None and spec.submodule_search_locations is None
    return is_module and hasattr(importlib.import_module(f"filters.{name}"), "SCORES")


def filter_names() -> tuple[str, ...]:
    """Return the modules of `filters` that are filters: those whose source defines how to build one."""
    names = (info.name for info in pkgutil.iter_modules(filters.__path__) if not info.ispkg)
    return tuple(name for name in sorted(names) if hasattr(importlib.import_module(f"filters.{name}"), "SCORES"))


def criterion_of(plan: FilterPlan, score: str, keep: KeepRange, screens: Sequence[ScreenPlan]) -> Criterion:
    """Return one keep range of a filter as the judge sees it, with what the given screens prove of its score.

    A screen whose proofs can neither satisfy nor fail this very range is not asked about it.
    """
    screenings = tuple(
        Screening(screen.plan.name, screen.inputs(proofs), partial(screen.prove, proofs))
        for screen in screens
        if (proofs := about(score, screen.proofs)) is not None and _may_settle(keep, proofs)
    )
    joint = plan.joint.get(score)
    if joint is not None:
        return Criterion(plan.name, score, keep, joint.inputs, joint.bounds, screenings)
    bounds: Callable[[Known], Bounds] = partial(_own_bounds, plan, score)
    return Criterion(plan.name, score, keep, (plan.name,), bounds, screenings, plan.inputs)


def _may_settle(keep: KeepRange, proofs: Proofs) -> bool:
    fails = any(keep.failure(proof.then[proofs.score].bounds) is not None for proof in proofs.proofs)
    return fails or may_hold(keep, proofs.score, proofs.proofs)


def _own_bounds(plan: FilterPlan, score: str, known: Known) -> Bounds:
    evidence = known[plan.name]
    if evidence is None:
        return UNKNOWN
    value = plan.scores(evidence)[score]
    return Bounds(value, value)


def plan_values(plan: FilterPlan) -> dict[str, Any]:
    """Return a filter's stanza as plain values, with every default filled in."""
    screens = [
        {
            "filter": screen.plan.filter,
            "measure": screen.plan.measure.model_dump(mode="json"),
            "score": screen.plan.score.model_dump(mode="json"),
            "proofs": [proof.model_dump(mode="json", exclude_none=True) for proof in screen.proofs],
        }
        for screen in plan.screens
    ]
    return {
        "name": plan.name,
        **({"filter": plan.filter} if plan.filter != plan.name else {}),
        "measure": plan.measure.model_dump(mode="json"),
        "score": plan.score.model_dump(mode="json"),
        "joint": {name: score.model_dump(mode="json") for name, score in plan.joint.items()},  # type: ignore[attr-defined]
        "keep": {name: keep.model_dump(mode="json", exclude_none=True) for name, keep in plan.keep.items()},
        **({"screens": screens} if screens else {}),
    }

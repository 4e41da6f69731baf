"""The columns of numbers that a review asks: every score, and what evidence proves of scores that nobody measured."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from curation.recipe.joint_scores import Bounds, Known
from curation.recipe.recipe import Recipe
from curation.recipe.screens import about

JOINT = "joint_scores"
LOW, HIGH = " low", " high"
"""What the name of a column of bounds adds to that of its score."""


@dataclass(frozen=True)
class Score:
    """One score of the recipe's filters and screens, as the ledger holds it."""

    filter: str
    """Of a joint score, the filter in whose stanza its keep range may stand."""
    name: str
    is_joint: bool = False

    @property
    def column(self) -> str:
        """`filter.score`, unique within a recipe."""
        return f"{self.filter}.{self.name}"

    @property
    def struct(self) -> str:
        """The ledger's column that holds it."""
        return JOINT if self.is_joint else f"{self.filter}_scores"

    @property
    def is_whole(self) -> bool:
        """Whether it is a count."""
        return self.name.startswith("num_")


@dataclass(frozen=True)
class Proven:
    """Bounds of a score that only evidence gives: a screen's proof, or a joint score that is not settled exactly."""

    column: str
    """Of a screen's proof `screen > filter.score`, of a joint score its own."""
    inputs: tuple[str, ...]
    bounds: Callable[[Known], Bounds]
    joint: str | None = None
    """The joint score that it is; what a screen proves is none, and proves nothing before all its inputs are known."""

    def of(self, known: Known) -> Bounds | None:
        """Return the bounds, None where too little is known."""
        are_known = [known[name] is not None for name in self.inputs]
        return self.bounds(known) if (any if self.joint else all)(are_known) else None


def scores_of(recipe: Recipe) -> tuple[Score, ...]:
    """Return every score that has a column in the recipe's ledgers, in declared order."""
    own = [Score(plan.name, name) for plan in recipe.measurers for name in plan.module.SCORES]
    return (*own, *(Score(plan.name, name, is_joint=True) for plan in recipe.filters for name in plan.joint))


def proofs_of(recipe: Recipe) -> tuple[Proven, ...]:
    """Return what must be computed from evidence before any keep ranges of the recipe's scores can be decided."""
    joint = (
        Proven(f"{plan.name}.{name}", score.inputs, score.bounds, joint=name)
        for plan in recipe.filters
        for name, score in plan.joint.items()
    )
    return (*joint, *_screens(recipe))


def proof_column(screen: str, criterion: str) -> str:
    """Return the name of the columns of what a screen proves of a score."""
    return f"{screen} > {criterion}"


def prior(recipe: Recipe) -> Mapping[str, Bounds]:
    """Return what is certain of each joint score, by column, before anything is known."""
    nothing: dict[str, Any] = dict.fromkeys(plan.name for plan in recipe.measurers)
    return {
        f"{plan.name}.{name}": score.bounds(nothing) for plan in recipe.filters for name, score in plan.joint.items()
    }


def _screens(recipe: Recipe) -> Iterator[Proven]:
    for plan in recipe.filters:
        for screen in recipe.screens[plan.name]:
            for score in dict.fromkeys(name for proof in screen.proofs for name in proof.then):
                if (proofs := about(score, screen.proofs)) is not None:
                    column = proof_column(screen.plan.name, f"{plan.name}.{score}")
                    yield Proven(column, screen.inputs(proofs), partial(screen.prove, proofs))

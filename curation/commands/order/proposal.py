"""Which order of work is cheapest: proposed from a sample's own evidence, beside the recipe's and the declared order.

The order changes what a run costs and never whom it keeps.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from curation.commands.order.replay import Cascades, Floats, Masks, Observed, Played
from curation.recipe.judge import NotYet, judge
from curation.recipe.recipe import Recipe

MAX_EXACT = 8
"""Up to this many measurers every order is held against every other; beyond, single moves until none helps."""
NUM_RESAMPLES = 1000
GAIN_FRACTION = 1e-9
"""By how much an order must be cheaper than the recipe's own to be proposed instead."""


@dataclass(frozen=True)
class Proposal:
    """The cheapest order on a sample, beside the recipe's own and the declared one."""

    num_pictures: int
    """Readable ones, on which all this rests."""
    is_exact: bool
    """Whether every order was compared."""
    seconds: Mapping[str, float]
    """CPU time of one call, by measurer."""
    rejects: Mapping[str, float]
    """Share of the pictures that a filter's own keep ranges reject, whatever the others say."""
    recipe: Played
    declared: Played
    proposed: Played
    saving: tuple[float, float, float]
    """Share of the recipe's measuring time that the proposed order saves, and its 95 % bootstrap interval."""
    held_out_saving: float
    """The same of orders chosen on one half of the pictures, on the other half: no choice flatters it."""

    @property
    def is_certain(self) -> bool:
        """Whether the saving is told apart from none; a handful of pictures proposes whatever they happen to like.

        Of a filter that rejects none of them nothing is known but that it rejects few.
        """
        return self.saving[1] > 0 and self.held_out_saving > 0 and all(self.rejects.values())

    @property
    def line(self) -> str:
        """What to write under `[curate]`."""
        return "order = [" + ", ".join(f'"{name}"' for name in self.proposed.order) + "]"

    @property
    def values(self) -> dict[str, Any]:
        """The proposal as plain values, for JSON."""
        return {**asdict(self), "is_certain": self.is_certain, "line": self.line}


def propose(observed: Sequence[Observed], recipe: Recipe) -> Proposal:
    """Return the cheapest order for these pictures; the recipe's own where none is cheaper.

    Raises:
        UsageError: there are no pictures, or more measurers than can be compared.
    """
    cascades = Cascades(observed, recipe)
    best = _best(cascades, recipe)
    before, after = cascades.costs(recipe.order), cascades.costs(best)
    return Proposal(
        num_pictures=len(observed),
        is_exact=_is_exact(cascades),
        seconds=cascades.means,
        rejects={plan.name: cascades.share(_rejects(observed, recipe, plan.name)) for plan in recipe.filters},
        recipe=cascades.play(recipe.order),
        declared=cascades.play(cascades.names),
        proposed=cascades.play(best),
        saving=_saving(before, after, cascades.weights),
        held_out_saving=_held_out_saving(observed, recipe),
    )


def _best(cascades: Cascades, recipe: Recipe) -> tuple[str, ...]:
    return (exact if _is_exact(cascades) else improved)(cascades, recipe.order)


def _is_exact(cascades: Cascades) -> bool:
    return len(cascades.names) <= MAX_EXACT


def exact(cascades: Cascades, start: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cheapest of all orders; a beginning that already costs more than the best whole one is left."""
    best = (cascades.share(cascades.costs(start)), start)

    def extend(begun: tuple[str, ...], masks: Masks, spent: float) -> None:
        nonlocal best
        if spent >= best[0] * (1 - GAIN_FRACTION):
            return
        if len(begun) == len(start):
            whole = spent + cascades.share(cascades.rest(masks, begun))
            best = min(best, (whole, begun), key=lambda candidate: candidate[0])
            return
        for chain in cascades.series:
            following = [name for name in chain if name not in begun][:1]
            for name in following:
                after, seconds, _ = cascades.step(masks, cascades.names.index(name))
                extend((*begun, name), after, spent + cascades.share(seconds))

    extend((), cascades.start, 0.0)
    return best[1]


def improved(cascades: Cascades, start: tuple[str, ...]) -> tuple[str, ...]:
    """Return an order that moving any one measurer does not make cheaper."""
    best = (cascades.share(cascades.costs(start)), start)
    while True:
        moved = [order for order in _moves(best[1]) if _is_allowed(order, cascades.series)]
        cheapest = min(((cascades.share(cascades.costs(order)), order) for order in moved), default=best)
        if cheapest[0] >= best[0] * (1 - GAIN_FRACTION):
            return best[1]
        best = cheapest


def _moves(order: tuple[str, ...]) -> list[tuple[str, ...]]:
    rests = [(name, tuple(other for other in order if other != name)) for name in order]
    return [(*rest[:i], name, *rest[i:]) for name, rest in rests for i in range(len(order))]


def _is_allowed(order: Sequence[str], chains: Sequence[Sequence[str]]) -> bool:
    return all([name for name in order if name in chain] == list(chain) for chain in chains)


def _held_out_saving(observed: Sequence[Observed], recipe: Recipe) -> float:
    """Return what orders chosen on either half of the shuffled pictures save on the other, both taken together."""
    shuffled = random.Random(0).sample(observed, len(observed))
    halves = [half for half in (shuffled[::2], shuffled[1::2]) if half]
    before, after = 0.0, 0.0
    for here, there in zip(halves, halves[1:] + halves[:1], strict=True):
        order, others = _best(Cascades(here, recipe), recipe), Cascades(there, recipe)
        before += float(others.weights @ others.costs(recipe.order))
        after += float(others.weights @ others.costs(order))
    return 1 - after / before if before else 0.0


def _rejects(observed: Sequence[Observed], recipe: Recipe, name: str) -> list[bool]:
    own = [criterion for criterion in recipe.criteria if criterion.filter == name]
    verdicts = [judge(picture.known, own) for picture in observed]
    return [not isinstance(verdict, NotYet) and not verdict.kept for verdict in verdicts]


def _saving(before: Floats, after: Floats, weights: Floats) -> tuple[float, float, float]:
    """Return 1 - after / before over the pictures, and the 95 % percentile interval of seeded resamples of them."""
    dice = np.random.default_rng(0)
    counts = np.concatenate(
        [np.ones((1, len(weights))), dice.multinomial(len(weights), [1 / len(weights)] * len(weights), NUM_RESAMPLES)]
    )
    totals = (counts * weights) @ np.stack([before, after], axis=1)
    savings = 1 - totals[:, 1] / np.where(totals[:, 0] > 0, totals[:, 0], 1.0)
    low, high = np.percentile(savings[1:], [2.5, 97.5])
    return float(savings[0]), float(low), float(high)

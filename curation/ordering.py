"""Which order of work is cheapest: the cascade played through, on paper, over pictures of which everything is known.

No independence is assumed: whether a picture reaches a filter follows from its own evidence, by `curation.judge`. The
order changes what a run costs and never whom it keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import UsageError
from curation.judge import NotYet, judge
from curation.recipe import Recipe

MAX_EXACT = 8
"""Up to this many measurers every order is held against every other; beyond, single moves until none helps."""
MAX_MEASURERS = 16
"""What is known of a picture is one bit per measurer; more would need tables larger than the pictures."""
UNASKED = -1
NUM_RESAMPLES = 1000
GAIN_FRACTION = 1e-9
"""By how much an order must be cheaper than the recipe's own to be proposed instead."""

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """One picture of the sample: all that the recipe may ask of it, and what each answer took."""

    known: Mapping[str, Any]
    """Measurer -> evidence; None only where no order would ask."""
    seconds: Mapping[str, float]
    """Measurer -> CPU time; where one is not named, its mean over the others."""
    weight: float = 1.0
    """How many pictures it stands for."""


@dataclass(frozen=True)
class Step:
    """One measurer at its place in an order; shares are of all pictures that can be read."""

    name: str
    asked: float
    """Share that it would measure."""
    rejected: float
    """Share that is certainly rejected by what it adds."""
    seconds: float
    """CPU time per picture of all."""


@dataclass(frozen=True)
class Played:
    """What one order would take."""

    order: tuple[str, ...]
    seconds: float
    """CPU time per picture, without reading and decoding."""
    steps: tuple[Step, ...]


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

    @property
    def is_certain(self) -> bool:
        """Whether the saving is told apart from none; a handful of pictures proposes whatever they happen to like."""
        return self.saving[1] > 0

    @property
    def line(self) -> str:
        """What to write under `[curate]`."""
        return "order = [" + ", ".join(f'"{name}"' for name in self.proposed.order) + "]"

    @property
    def values(self) -> dict[str, Any]:
        """The proposal as plain values, for JSON."""
        return {**asdict(self), "is_certain": self.is_certain, "line": self.line}


def series(recipe: Recipe) -> tuple[tuple[str, ...], ...]:
    """Return all that measures, in declared order: each filter after what must precede it."""
    return tuple((plan.name,) for plan in recipe.filters)


class Cascades:
    """Plays orders through over observed pictures; what the judge says of a state of knowledge is asked once."""

    def __init__(self, observed: Sequence[Observed], recipe: Recipe) -> None:
        """Prepare tables of pictures by measurers and by states.

        Raises:
            UsageError: there are no pictures, or too many measurers.
        """
        self.series = series(recipe)
        self.names = tuple(name for one in self.series for name in one)
        if not observed:
            raise UsageError("no readable picture in the sample: nothing to order by")
        if len(self.names) > MAX_MEASURERS:
            raise UsageError(
                f"{recipe.path}: {len(self.names)} measurers; orders of up to {MAX_MEASURERS} are compared"
            )
        self._observed, self._criteria = observed, recipe.criteria
        self._rejected = 1 << len(self.names)
        self._asks: Masks = np.full((len(observed), self._rejected), UNASKED, np.int64)
        self._rows = np.arange(len(observed))
        self.weights: Floats = np.array([one.weight for one in observed])
        self.means = {name: self._mean(name) for name in self.names}
        self._seconds: Floats = np.array(
            [[one.seconds.get(name, self.means[name]) for name in self.names] for one in observed]
        )

    def play(self, order: Sequence[str]) -> Played:
        """Return what the order would take."""
        masks, steps = self.start, []
        before = self._is_rejected(masks)
        for name in order:
            masks, seconds, asked = self.step(masks, self.names.index(name))
            after = self._is_rejected(masks)
            steps.append(Step(name, self.share(asked), self.share(after & ~before), self.share(seconds)))
            before = after
        return Played(tuple(order), sum(step.seconds for step in steps), tuple(steps))

    def costs(self, order: Sequence[str]) -> Floats:
        """Return what the order would take of each picture, in CPU seconds."""
        masks, total = self.start, np.zeros(len(self._rows))
        for name in order:
            masks, seconds, _ = self.step(masks, self.names.index(name))
            total += seconds
        return total

    @property
    def start(self) -> Masks:
        """Nothing is known of any picture."""
        return np.zeros(len(self._rows), np.int64)

    def step(self, masks: Masks, number: int) -> tuple[Masks, Floats, Flags]:
        """Let one measurer have its turn: the states after it, the seconds per picture, and whom it measured."""
        asked = (self._asked(masks) >> number & 1).astype(bool)
        return np.where(asked, masks | 1 << number, masks), np.where(asked, self._seconds[:, number], 0.0), asked

    def share(self, values: Any) -> float:
        """Return the weighted mean over the pictures."""
        return float(np.average(values, weights=self.weights))

    def _mean(self, name: str) -> float:
        known = [(one.seconds[name], one.weight) for one in self._observed if name in one.seconds]
        return float(np.average([s for s, _ in known], weights=[w for _, w in known])) if known else 0.0

    def _is_rejected(self, masks: Masks) -> Flags:
        return np.equal(self._asked(masks), self._rejected)

    def _asked(self, masks: Masks) -> Masks:
        """Return for each picture a bit for every measurer that the judge still waits for, or one bit for rejected."""
        for i in np.flatnonzero(self._asks[self._rows, masks] == UNASKED).tolist():
            self._asks[i, masks[i]] = self._ask(self._observed[i], int(masks[i]))
        return self._asks[self._rows, masks]

    def _ask(self, one: Observed, mask: int) -> int:
        known = {name: one.known[name] if mask >> bit & 1 else None for bit, name in enumerate(self.names)}
        verdict = judge(known, self._criteria)
        if isinstance(verdict, NotYet):
            return sum(1 << bit for bit, name in enumerate(self.names) if name in verdict.filters) & ~mask
        return 0 if verdict.kept else self._rejected


def propose(observed: Sequence[Observed], recipe: Recipe) -> Proposal:
    """Return the cheapest order for these pictures; the recipe's own where none is cheaper.

    Raises:
        UsageError: there are no pictures, or more measurers than can be compared.
    """
    cascades = Cascades(observed, recipe)
    is_exact = len(cascades.names) <= MAX_EXACT
    best = (exact if is_exact else improved)(cascades, recipe.order)
    before, after = cascades.costs(recipe.order), cascades.costs(best)
    return Proposal(
        num_pictures=len(observed),
        is_exact=is_exact,
        seconds=cascades.means,
        rejects={plan.name: cascades.share(_rejects(observed, recipe, plan.name)) for plan in recipe.filters},
        recipe=cascades.play(recipe.order),
        declared=cascades.play(cascades.names),
        proposed=cascades.play(best),
        saving=_saving(before, after, cascades.weights),
    )


def exact(cascades: Cascades, start: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cheapest of all orders; a beginning that already costs more than the best whole one is left."""
    best = (cascades.share(cascades.costs(start)), start)

    def extend(begun: tuple[str, ...], masks: Masks, spent: float) -> None:
        nonlocal best
        if spent >= best[0] * (1 - GAIN_FRACTION):
            return
        if len(begun) == len(start):
            best = (spent, begun)
        for one in cascades.series:
            following = [name for name in one if name not in begun][:1]
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
        found = min(((cascades.share(cascades.costs(order)), order) for order in moved), default=best)
        if found[0] >= best[0] * (1 - GAIN_FRACTION):
            return best[1]
        best = found


def _moves(order: tuple[str, ...]) -> list[tuple[str, ...]]:
    rests = [(name, tuple(other for other in order if other != name)) for name in order]
    return [(*rest[:i], name, *rest[i:]) for name, rest in rests for i in range(len(order))]


def _is_allowed(order: Sequence[str], fixed: Sequence[Sequence[str]]) -> bool:
    return all([name for name in order if name in one] == list(one) for one in fixed)


def _rejects(observed: Sequence[Observed], recipe: Recipe, name: str) -> list[bool]:
    own = [criterion for criterion in recipe.criteria if criterion.filter == name]
    verdicts = [judge(one.known, own) for one in observed]
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

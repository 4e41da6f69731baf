"""The cascade played through, on paper, in any order of work, over pictures of which everything is known.

No independence is assumed: whether a picture reaches a filter follows from its own evidence, as judged.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import UsageError
from curation.measure.cascade import turns
from curation.recipe.judge import NotYet, judge
from curation.recipe.recipe import Recipe

MAX_MEASURERS = 16
"""What is known of a picture is one bit per measurer; more would need tables larger than the pictures."""
UNASKED = -1

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


def series(recipe: Recipe) -> tuple[tuple[str, ...], ...]:
    """Return all that measures, in declared order: each filter after its screens, as in any order."""
    return tuple((*(screen.plan.name for screen in recipe.screens[plan.name]), plan.name) for plan in recipe.filters)


class Cascades:
    """Plays orders through over observed pictures; what the judge says of a state of knowledge is asked once."""

    def __init__(self, observed: Sequence[Observed], recipe: Recipe) -> None:
        """Prepare tables of pictures by measurers and by states.

        Raises:
            UsageError: there are no pictures, or too many measurers.
        """
        self.series = series(recipe)
        self.names = tuple(name for chain in self.series for name in chain)
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
        self.weights: Floats = np.array([picture.weight for picture in observed])
        self.means = {name: self._mean(name) for name in self.names}
        self._seconds: Floats = np.array(
            [[picture.seconds.get(name, self.means[name]) for name in self.names] for picture in observed]
        )

    def play(self, order: Sequence[str]) -> Played:
        """Return what the order would take."""
        shares = {name: np.zeros(3) for name in order}
        before = self._is_rejected(self.start)
        for name, masks, seconds, asked in self._rounds(self.start, order):
            rejected = self._is_rejected(masks)
            shares[name] += self.share(asked), self.share(rejected & ~before), self.share(seconds)
            before = rejected
        steps = [Step(name, *shares[name].tolist()) for name in order]
        return Played(tuple(order), sum(step.seconds for step in steps), tuple(steps))

    def costs(self, order: Sequence[str]) -> Floats:
        """Return what the order would take of each picture, in CPU seconds."""
        return self.rest(self.start, order)

    def rest(self, masks: Masks, order: Sequence[str]) -> Floats:
        """Return what is still to be spent on each picture from a state on, in CPU seconds."""
        total = np.zeros(len(self._rows))
        for _, _, seconds, _ in self._rounds(masks, order):
            total += seconds
        return total

    def _rounds(self, masks: Masks, order: Sequence[str]) -> Iterator[tuple[str, Masks, Floats, Flags]]:
        """Let whoever is asked have a turn, round after round, as `curation.measure.cascade` does."""

        def is_asked(name: str) -> bool:
            return bool(self._are_asked(masks, self.names.index(name)).any())

        for name in turns(order, is_asked):
            masks, seconds, asked = self.step(masks, self.names.index(name))
            yield name, masks, seconds, asked

    @property
    def start(self) -> Masks:
        """Nothing is known of any picture."""
        return np.zeros(len(self._rows), np.int64)

    def step(self, masks: Masks, number: int) -> tuple[Masks, Floats, Flags]:
        """Let one measurer have its turn: the states after it, the seconds per picture, and whom it measured."""
        asked = self._are_asked(masks, number)
        return np.where(asked, masks | 1 << number, masks), np.where(asked, self._seconds[:, number], 0.0), asked

    def share(self, values: Any) -> float:
        """Return the weighted mean over the pictures."""
        return float(np.average(values, weights=self.weights))

    def _mean(self, name: str) -> float:
        known = [(picture.seconds[name], picture.weight) for picture in self._observed if name in picture.seconds]
        return float(np.average([s for s, _ in known], weights=[w for _, w in known])) if known else 0.0

    def _are_asked(self, masks: Masks, number: int) -> Flags:
        return (self._asked(masks) >> number & 1).astype(bool)

    def _is_rejected(self, masks: Masks) -> Flags:
        return np.equal(self._asked(masks), self._rejected)

    def _asked(self, masks: Masks) -> Masks:
        """Return for each picture a bit for every measurer that the judge still waits for, or one bit for rejected."""
        for i in np.flatnonzero(self._asks[self._rows, masks] == UNASKED).tolist():
            self._asks[i, masks[i]] = self._ask(self._observed[i], int(masks[i]))
        return self._asks[self._rows, masks]

    def _ask(self, picture: Observed, mask: int) -> int:
        known = {name: picture.known[name] if mask >> bit & 1 else None for bit, name in enumerate(self.names)}
        verdict = judge(known, self._criteria)
        if isinstance(verdict, NotYet):
            return sum(1 << bit for bit, name in enumerate(self.names) if name in verdict.filters) & ~mask
        return 0 if verdict.kept else self._rejected

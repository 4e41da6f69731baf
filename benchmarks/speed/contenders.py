"""What the benchmarks hold against one another: each takes an encoded picture and returns a verdict with its reasons.

`Ours` is the engine with a recipe; `benchmarks.speed.obvious` is the fair opponent, `benchmarks.speed.floor` the least
that any pipeline that looks for faces must do.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from benchmarks.provenance import surroundings
from curation.dataset.sample import uid_of_bytes
from curation.dataset.tar import read_samples
from curation.images.decode import Picture, decode
from curation.measure.arrow import to_struct
from curation.measure.cascade import Entry, measure
from curation.measure.filter_set import load_bank, measurement_keys, weights_of
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe
from curation.recipe.settings import DecodeLimits
from curation.storage.publish import digest
from filters.base import Filter, RgbImage

READ, DECODE = "read", "decode"
TONING, CHARACTERS = "toning (ours)", "characters (ours)"
ON_THE_HOUSE = (TONING, CHARACTERS)
"""Stages that no contender is charged for: what our recipe decides on and the opponent's sentences do not ask."""


@dataclass(frozen=True)
class Outcome:
    """What a contender made of one picture."""

    rejected_by: str | None = None
    reason: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds by stage; a stage that did not run has none."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By whoever measured."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """As plain values, by whoever measured."""

    @property
    def kept(self) -> bool:
        """Whether the picture stays."""
        return self.rejected_by is None


class Contender(Protocol):
    """One way to do the job, its models loaded."""

    key: str
    """Digest of all that its outcomes depend on beside the picture."""

    def read(self, tar: Path) -> Iterator[bytes]:
        """Yield the pictures of a shard, encoded, in order."""
        ...

    def examine(self, image_bytes: bytes, stored: Outcome | None = None) -> Outcome:
        """Return the verdict on one picture; `stored` is what a contender of the same key made of it before."""
        ...


class Clock:
    """Adds up CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge a block to a stage."""
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started


class Ours:
    """The engine: `curation.measure.cascade.measure` with a recipe, in this process, one picture at a time."""

    def __init__(self, recipe: Recipe) -> None:
        """Load the recipe's filters, each of them under the clock; no rejected picture is measured in full."""
        curate = recipe.file.curate.model_copy(update={"shadow_fraction": 0.0})
        recipe = replace(recipe, file=recipe.file.model_copy(update={"curate": curate}))
        weights = weights_of(recipe)
        self.recipe, self._clock = recipe, Clock()
        self.key = digest(
            [
                "ours",
                recipe.curate_digest,
                curate.model_dump(mode="json"),
                recipe.order,
                measurement_keys(recipe, weights),
                surroundings(),
            ]
        )
        bank = load_bank(recipe, weights)
        timed = {name: _Timed(name, built, self._clock) for name, built in bank.filters.items()}
        self._bank = replace(bank, filters=MappingProxyType(timed))

    def read(self, tar: Path) -> Iterator[bytes]:
        """Yield the pictures of a shard."""
        yield from (sample.image_bytes for sample in read_samples(tar))

    def examine(self, image_bytes: bytes, stored: Outcome | None = None) -> Outcome:
        """Return the verdict on one picture; the key says all that it depends on, so a stored one is final."""
        if stored is not None:
            return stored
        self._clock.seconds = {}
        entry = Entry(uid_of_bytes(image_bytes), image_bytes)
        (measured,) = measure([entry], self._bank, self.recipe, self._decode)
        verdict = measured.refused or judge(measured.evidence, self.recipe.criteria)
        assert isinstance(verdict, Verdict)
        return outcome(verdict, measured.evidence, plans_of(self.recipe), self._clock.seconds)

    def _decode(self, image_bytes: bytes, limits: DecodeLimits) -> Picture:
        with self._clock.stage(DECODE):
            return decode(image_bytes, limits)


@dataclass(frozen=True)
class _Timed:
    """A filter under the clock."""

    name: str
    filter: Filter
    clock: Clock

    def measure(self, images: Sequence[RgbImage]) -> list[Any]:
        with self.clock.stage(self.name):
            return self.filter.measure(images)


def plans_of(recipe: Recipe) -> dict[str, Callable[[Any], dict[str, float]]]:
    """Return whoever measures, filters and screens, with what makes scores of its evidence."""
    return {plan.name: plan.scores for plan in recipe.measurers}


def outcome(
    verdict: Verdict,
    evidence: Mapping[str, Any],
    scores: Mapping[str, Callable[[Any], dict[str, float]]],
    seconds: Mapping[str, float],
) -> Outcome:
    """Return a verdict with all that was measured for it."""
    known = {name: value for name, value in evidence.items() if value is not None}
    return Outcome(
        verdict.rejected_by,
        verdict.reason,
        dict(seconds),
        {name: scores[name](value) for name, value in known.items()},
        {name: to_struct(value) for name, value in known.items()},
    )

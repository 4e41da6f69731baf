"""From encoded bytes to evidence: the one piece of work that meets untrusted bytes and heavy models.

It is a pure function of the bytes, what is known already, and the recipe. It decides nothing for good: where it stops
early, `curation.recipe.judge` has said that the verdict is certain.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from curation.images.decode import Picture, UnreadableError, decode
from curation.measure.filter_set import FilterBank
from curation.recipe.joint_scores import Known
from curation.recipe.judge import NotYet, Verdict, judge, unsettled
from curation.recipe.recipe import Recipe
from curation.recipe.settings import DecodeLimits

Decode = Callable[[bytes, DecodeLimits], Picture]
UNREADABLE = "unreadable"
"""Who rejects a file that the decode gate refuses."""
QUARANTINE = "quarantine"
"""Who rejects a picture that could not be measured: a key of `FAULTS` is the reason."""
FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "crashed": "decoding or measuring it ends the process",
        "timed_out": "it takes longer than max_decode_s or max_measure_s",
        "out_of_memory": "it takes more than max_measure_mib, or than the machine has",
        "measure_failed": "a detector raises an error on it",
    }
)
NUM_SHADOW_DIGITS = 8
DECODE = "decode"
JUDGE = "judge"
OWN = "cell"
LOAD = "load"
"""What decoding, deciding who measures next, a cell's own work (taking pictures in and giving evidence out) and its
loading of filters are called beside the filters where CPU time is told."""


@dataclass(frozen=True)
class Entry:
    """One picture as it is handed in."""

    uid: str
    image_bytes: bytes
    known: Mapping[str, Any] = field(default_factory=dict)
    """Evidence from before, by filter."""
    wanted: tuple[str, ...] | None = None
    """These filters measure at once; then, as where it is None, the cascade runs until the verdict is certain."""


@dataclass(frozen=True)
class Measured:
    """What came of one picture: its size and evidence, or who refused to look at it and why."""

    evidence: Mapping[str, Any] = field(default_factory=dict)
    """By filter and screen, in declared order; None where one has not measured."""
    width: int | None = None
    """Width in pixels of the upright picture."""
    height: int | None = None
    """Height in pixels of the upright picture."""
    format: str | None = None
    refused: Verdict | None = None
    """Set where there is nothing to judge."""
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    """CPU time by `decode`, `judge`, and each filter and screen that measured it, and where it was in a cell by `cell`;
    a batch's is shared out evenly. What loading took stands with the first picture after it, by `load`."""


def measure(entries: Sequence[Entry], bank: FilterBank, recipe: Recipe, decode: Decode = decode) -> list[Measured]:
    """Return what came of each entry, in order; no picture's evidence depends on the others."""
    seconds: list[dict[str, float]] = [{} for _ in entries]
    started = time.process_time()
    opened = []
    for i, entry in enumerate(entries):
        with _timed(DECODE, [seconds[i]]):
            opened.append(_open(entry, recipe, decode))
    pictures = {i: outcome for i, outcome in enumerate(opened) if isinstance(outcome, Picture)}
    known = {i: {plan.name: entries[i].known.get(plan.name) for plan in recipe.measurers} for i in pictures}
    for wants in (_asked, _needed, _wanted_of_shadow):
        wanted = {i: wants(entries[i], known[i], recipe) for i in pictures}
        for name in turns(recipe.order, partial(_is_asked, wanted)):
            chosen = [i for i in pictures if name in wanted[i]]
            with _timed(name, [seconds[i] for i in chosen]):
                evidences = bank.measure(name, [pictures[i].rgb for i in chosen], [known[i] for i in chosen])
            for i, evidence in zip(chosen, evidences, strict=True):
                known[i][name] = evidence
                wanted[i] = wants(entries[i], known[i], recipe)
    judging = time.process_time() - started - sum(sum(steps.values()) for steps in seconds)
    for steps in seconds:
        steps[JUDGE] = judging / len(entries)
    return [
        Measured(known[i], outcome.width, outcome.height, outcome.format, seconds=seconds[i])
        if isinstance(outcome, Picture)
        else Measured(refused=outcome, seconds=seconds[i])
        for i, outcome in enumerate(opened)
    ]


def turns(order: Sequence[str], is_asked: Callable[[str], bool]) -> Iterator[str]:
    """Yield whose turn it is to measure: round after round through an order of work, until nobody in it is asked.

    Whoever is asked only once its turn is over, a filter behind a screen that stands after it, waits for the next
    round. What `is_asked` says must follow what was measured at the last turn.
    """
    is_over = False
    while not is_over:
        is_over = True
        for name in order:
            if is_asked(name):
                is_over = False
                yield name


def _is_asked(wanted: Mapping[int, Sequence[str]], name: str) -> bool:
    return any(name in names for names in wanted.values())


@contextmanager
def _timed(name: str, shares: Sequence[dict[str, float]]) -> Iterator[None]:
    """Add the CPU time of the block to each share, divided evenly."""
    started = time.process_time()
    yield
    each_s = (time.process_time() - started) / len(shares)
    for share in shares:
        share[name] = share.get(name, 0.0) + each_s


def in_shadow(uid: str, fraction: float) -> bool:
    """Whether a rejected picture is measured in full all the same: a fixed choice by uid, so every run agrees."""
    return int(uid[-NUM_SHADOW_DIGITS:], 16) < fraction * float(1 << 4 * NUM_SHADOW_DIGITS)


def _open(entry: Entry, recipe: Recipe, decode: Decode) -> Picture | Verdict:
    try:
        return decode(entry.image_bytes, recipe.file.decode)
    except UnreadableError as error:
        return Verdict(UNREADABLE, error.reason)


def _asked(entry: Entry, known: Known, recipe: Recipe) -> tuple[str, ...]:
    return ready([name for name in entry.wanted or () if known[name] is None], known, recipe)


def _needed(entry: Entry, known: Known, recipe: Recipe) -> tuple[str, ...]:
    if recipe.file.curate.measure == "all":
        return ready([name for name, evidence in known.items() if evidence is None], known, recipe)
    verdict = judge(known, recipe.criteria)
    return verdict.filters if isinstance(verdict, NotYet) else ()


def _wanted_of_shadow(entry: Entry, known: Known, recipe: Recipe) -> tuple[str, ...]:
    if not in_shadow(entry.uid, recipe.file.curate.shadow_fraction):
        return ()
    verdict = judge(known, recipe.criteria)
    return missing(known, recipe) if isinstance(verdict, Verdict) and not verdict.kept else ()


def missing(known: Known, recipe: Recipe) -> tuple[str, ...]:
    """Return who must measure next until all is known that the recipe may ask.

    That is every filter, except where its screens have decided all its keep ranges.
    """
    undecided = unsettled(known, recipe.criteria)
    screened = {name for name, screens in recipe.screens.items() if screens}
    screened |= {screen.plan.name for screens in recipe.screens.values() for screen in screens}
    unmeasured = [name for name, evidence in known.items() if evidence is None]
    return ready([name for name in unmeasured if name in undecided or name not in screened], known, recipe)


def ready(names: Sequence[str], known: Known, recipe: Recipe) -> tuple[str, ...]:
    """Return those of some measurers that can measure now: whose inputs, if they follow others, are known."""
    waits = {plan.name for plan in recipe.measurers if any(known[name] is None for name in plan.inputs)}
    return tuple(name for name in names if name not in waits)

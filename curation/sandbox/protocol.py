"""What a cell says, read like the words of a stranger: its process has met hostile bytes.

Whatever is no answer raises AttributeError, KeyError, TypeError or ValueError. What passes can be stored in ledgers and
done records: types, ranges and reasons are held against those that there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curation.errors import FaceCaptionError, ShardError
from curation.images.decode import PILLOW_NAMES, REASONS
from curation.measure.arrow import from_struct, scalars
from curation.measure.cascade import FAULTS, LOAD, OWN, UNREADABLE, Measured
from curation.measure.fingerprint import LOOK, Look, is_phash
from curation.recipe.judge import Verdict
from curation.recipe.recipe import Recipe

MAX_SIDE_PX = 1 << 30
"""No picture is longer; it goes into a column of 32 bits."""
MAX_CPU_S = 1e9
"""No picture takes longer; many of them must still have a finite sum."""


@dataclass(frozen=True)
class CellFault:
    """What pictures did to the cell: a stable reason, and words for a reader."""

    reason: str
    """A key of `curation.measure.cascade.FAULTS`."""
    message: str


def fault(answer: Mapping[str, Any]) -> CellFault:
    """Return what the child says that pictures did to it."""
    reason, message = scalars(str, (answer["fault"], answer["message"]))
    if reason not in FAULTS:
        raise ValueError(f"no fault: {reason!r:.80}")
    return CellFault(reason, message)


def measured(plain: Mapping[str, Any], recipe: Recipe) -> Measured:
    """Return what came of one picture that the recipe's filters looked at."""
    if (refused := _refused(plain)) is not None:
        return Measured(refused=refused, seconds=_seconds(plain))
    known = plain["evidence"]
    evidence = {plan.name: from_struct(plan.module.EVIDENCE, known[plan.name]) for plan in recipe.measurers}
    return Measured(evidence, *_shape(plain), seconds=_seconds(plain))


def looked(plain: Mapping[str, Any]) -> Measured:
    """Return what came of one picture of which only a look was wanted (`curation.measure.fingerprint`)."""
    if (refused := _refused(plain)) is not None:
        return Measured(refused=refused)
    phash = plain["evidence"][LOOK]["phash"]
    if not is_phash(phash):
        raise ValueError(f"no look: {plain!r:.80}")
    return Measured({LOOK: Look(phash)}, *_shape(plain))


def cpu_seconds(answer: Mapping[str, Any]) -> float:
    """Return the CPU time that the child took since its last answer."""
    return _spent((answer["cpu_seconds"],))[0]


def with_own_work(batch: Sequence[Measured], spent_s: float, loading_s: float) -> list[Measured]:
    """Return a batch with what the child did beside measuring it, in equal shares, and what loading before it took."""
    own_s = max(0.0, spent_s - sum(sum(picture.seconds.values()) for picture in batch)) / max(1, len(batch))
    loading = {LOAD: loading_s} if loading_s else {}
    return [
        replace(picture, seconds={**picture.seconds, OWN: own_s, **(loading if i == 0 else {})})
        for i, picture in enumerate(batch)
    ]


def error_named(name: str) -> type[FaceCaptionError]:
    """Return the error of the tree that the child named, or the one for a shard where there is none of that name."""
    kinds = [FaceCaptionError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return next((kind for kind in kinds if kind.__name__ == name), ShardError)


def _refused(plain: Mapping[str, Any]) -> Verdict | None:
    """Return why a picture was not looked at, where the child says one of the reasons that there are."""
    if plain["refused"] is None:
        return None
    by, reason = plain["refused"]
    if by != UNREADABLE or reason not in REASONS:
        raise ValueError(f"no refusal: {plain['refused']!r:.80}")
    return Verdict(by, reason)


def _shape(plain: Mapping[str, Any]) -> tuple[int, int, str]:
    """Return width, height and format of a picture that was decoded."""
    width, height = scalars(int, (plain["width"], plain["height"]))
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX) or plain["format"] not in PILLOW_NAMES:
        raise ValueError(f"no picture has these sides or this format: {plain!r:.80}")
    return width, height, plain["format"]


def _seconds(plain: Mapping[str, Any]) -> dict[str, float]:
    steps = plain["seconds"]
    return dict(zip(scalars(str, tuple(steps)), _spent(tuple(steps.values())), strict=True))


def _spent(values: Sequence[Any]) -> tuple[float, ...]:
    seconds: tuple[float, ...] = scalars(float, values)
    if not all(0 <= spent < MAX_CPU_S for spent in seconds):
        raise ValueError(f"no CPU seconds: {seconds!r:.80}")
    return seconds

"""Which pictures are shown for labelling, and with what probability each was drawn: a stratified sample.

The strata are a partition of all pictures that filters judged. From each a simple random sample is drawn, without
replacement, so a picture's inclusion probability is its stratum's sample over its stratum (Cochran, Sampling
Techniques, 3rd ed., ch. 5), and labels can be weighed back to the whole run. The strata take turns in proportion to
their samples: of a queue that is left halfway each has given about half, so ratios of weighed labels hold for it, too.
"""

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NEAR, CONTESTED, DISAGREE, CONTROL = "near", "contested", "disagree", "control"
SHARES: Mapping[str, float] = {NEAR: 0.4, CONTESTED: 0.2, DISAGREE: 0.2, CONTROL: 0.2}
"""Which part of a queue each kind of stratum gets, as far as it has pictures; `near` has a stratum for each side of
each limit, which share its part."""


@dataclass(frozen=True)
class Stratum:
    """One part of the pictures."""

    name: str
    """Its kind, and after a blank what of it."""
    size: int
    """How many pictures belong to it."""
    uids: Sequence[str]
    """Some of them, or all, in the order of their `token`, lowest first."""

    @property
    def kind(self) -> str:
        """One of `SHARES`."""
        return self.name.partition(" ")[0]


@dataclass(frozen=True)
class Draw:
    """One picture of a queue."""

    uid: str
    stratum: str
    probability: float
    """With which it was drawn from its stratum: above 0, at most 1."""


def token(uid: str, seed: int) -> str:
    """Return what orders pictures: as good as random, yet the same each time; md5, since the database has it too."""
    return hashlib.md5(f"{seed} {uid}".encode(), usedforsecurity=False).hexdigest()


def draw(strata: Sequence[Stratum], num: int) -> tuple[Draw, ...]:
    """Return a queue of at most `num` pictures, in the order in which they are to be shown."""
    sizes = allocate(strata, num)
    turns = [_turns(stratum, size) for stratum, size in zip(strata, sizes, strict=True)]
    return tuple(one for _, _, one in heapq.merge(*turns))


def allocate(strata: Sequence[Stratum], num: int) -> list[int]:
    """Return how many pictures each stratum gives: by its share, and what others cannot fill goes to those that can."""
    kinds = [stratum.kind for stratum in strata]
    weights = [SHARES[kind] / kinds.count(kind) for kind in kinds]
    sizes = [0] * len(strata)
    for _ in range(min(num, sum(stratum.size for stratum in strata))):
        open_ones = [i for i, stratum in enumerate(strata) if sizes[i] < stratum.size]
        sizes[min(open_ones, key=lambda i: (sizes[i] + 1) / weights[i])] += 1
    return sizes


def _turns(stratum: Stratum, size: int) -> list[tuple[float, str, Draw]]:
    """Return a stratum's pictures with the moment of each, evenly spread over (0, 1)."""
    probability = size / stratum.size if stratum.size else 0.0
    return [
        ((number + 0.5) / size, stratum.name, Draw(uid, stratum.name, probability))
        for number, uid in enumerate(stratum.uids[:size])
    ]

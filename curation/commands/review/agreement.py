"""How far reviewers agree beyond chance: Cohen's kappa of every two who labelled the same pictures."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from curation.dataset.labels import Label

NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Agreement:
    """Two reviewers, and what they said of the pictures that both labelled."""

    reviewers: tuple[str, str]
    num: int
    """Pictures that both labelled."""
    num_agreed: int
    kappa: float | None
    """1 where they always agree, 0 where no more than chance would; None where both use one label alone."""
    low: float | None
    high: float | None
    """The large-sample interval of 95 % (Cohen, Educ. Psychol. Meas. 20, 1960); None without kappa."""
    pairs: Mapping[tuple[str, str], int]
    """What the first said and what the second, where they differ, most frequent first."""


def agreements(labels: Sequence[Label]) -> tuple[Agreement, ...]:
    """Return how every two reviewers agree who have a picture in common, by name; `labels` are those that count."""
    said: dict[str, dict[str, str]] = {}
    for label in labels:
        said.setdefault(label.reviewer, {})[label.uid] = label.label
    pairs = combinations(sorted(said), 2)
    return tuple(_agreement((a, b), said[a], said[b]) for a, b in pairs if said[a].keys() & said[b].keys())


def _agreement(reviewers: tuple[str, str], first: Mapping[str, str], second: Mapping[str, str]) -> Agreement:
    both = [(first[uid], second[uid]) for uid in first if uid in second]
    kappa, low, high = cohen_kappa(both)
    differing = Counter(pair for pair in both if pair[0] != pair[1])
    agreed = len(both) - sum(differing.values())
    return Agreement(reviewers, len(both), agreed, kappa, low, high, dict(differing.most_common()))


def cohen_kappa(both: Sequence[tuple[str, str]]) -> tuple[float | None, float | None, float | None]:
    """Return kappa of pairs of labels and its 95 % interval within [-1, 1]; None where chance alone agrees fully."""
    num = len(both)
    observed = sum(a == b for a, b in both) / num
    ones, others = Counter(a for a, _ in both), Counter(b for _, b in both)
    by_chance = sum(ones[label] * others[label] for label in ones) / num**2
    if by_chance == 1:
        return None, None, None
    kappa = (observed - by_chance) / (1 - by_chance)
    margin = NORMAL_95 * math.sqrt(observed * (1 - observed) / num) / (1 - by_chance)
    return kappa, max(kappa - margin, -1.0), min(kappa + margin, 1.0)

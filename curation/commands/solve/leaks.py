"""Shares of what is kept that are to stay small: of rows that the recipe as it is rejects, or that bear a label."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curation.commands.solve.count import Levels, Path
from curation.commands.solve.evidence import Bools, RunEvidence
from curation.commands.solve.path import RECIPE_LEVEL, Floats, Scale
from curation.dataset.labels import Label
from curation.errors import UsageError
from curation.recipe.validation import choices


@dataclass(frozen=True)
class KeptShare:
    """A share of what is kept, and the most that it may be."""

    name: str
    share: float

    def shares(self, path: Path, levels: Floats) -> Floats:
        """Return it at each level."""
        raise NotImplementedError

    def reach(self, path: Path, levels: Floats) -> float:
        """Return the highest of ascending levels up to which it is never more than it may be; below 0 where none is."""
        is_over = self.shares(path, levels) > self.share
        first = int(np.argmax(is_over)) if is_over.any() else len(levels)
        return float(levels[first - 1]) if first else -np.inf


@dataclass(frozen=True)
class RejectedNow(KeptShare):
    """Rows that some limits of the recipe as it is reject."""

    is_out: Bools

    def shares(self, path: Path, levels: Floats) -> Floats:
        """Return it at each level, as far as the evidence and the shadow sample tell."""
        out = path.numbers(levels, self.is_out).expected
        return np.asarray(out / np.maximum(1.0, path.numbers(levels).expected))


@dataclass(frozen=True)
class Labelled(KeptShare):
    """Rows that bear a label, of those that bear any; each weighs as many as its queue drew it for."""

    places: tuple[int, ...]
    weights: tuple[float, ...]
    bears: tuple[float, ...]
    """What share of a row's labels it is."""

    def shares(self, path: Path, levels: Floats) -> Floats:
        """Return it at each level; 0 where nothing that is kept bears a label."""
        own = path.rows.certain[list(self.places)]
        order = np.argsort(own, kind="stable")
        weights = np.asarray(self.weights)[order]
        every, out = (np.append(0.0, np.cumsum(w)) for w in (weights, weights * np.asarray(self.bears)[order]))
        until = np.searchsorted(own[order], levels, side="right")
        return np.asarray(out[until] / np.where(every[until] > 0, every[until], 1.0))


def leaks_of(
    at_most: Mapping[str, float], evidence: RunEvidence, scales: Sequence[Scale], labels: Sequence[Label]
) -> tuple[KeptShare, ...]:
    """Return what each name means: a filter's limits, a score's, or a label.

    Raises:
        UsageError: a name means nothing, or a share is none.
    """
    return tuple(_leak(name, share, evidence, scales, labels) for name, share in at_most.items())


def _leak(
    name: str, share: float, evidence: RunEvidence, scales: Sequence[Scale], labels: Sequence[Label]
) -> KeptShare:
    if not 0 <= share <= 1:
        raise UsageError(f"--at-most {name}={share:g}: a share is from 0 to 1")
    of = [scale for scale in scales if name in (scale.limit.filter, scale.limit.score, ".".join(scale.limit.key))]
    if of:
        return RejectedNow(name, share, Levels.of(evidence.rows, of).certain > RECIPE_LEVEL)
    if any(label.label == name for label in labels):
        return _labelled(name, share, evidence, labels)
    names = sorted({scale.limit.filter for scale in scales} | {label.label for label in labels})
    raise UsageError(f"--at-most {name}: no score or filter whose limits can move, no label; {choices(name, names)}")


def _labelled(name: str, share: float, evidence: RunEvidence, labels: Sequence[Label]) -> Labelled:
    by_uid: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        if label.uid in evidence.labelled:
            by_uid[label.uid].append(label)
    return Labelled(
        name,
        share,
        places=tuple(evidence.labelled[uid] for uid in by_uid),
        weights=tuple(max(1 / label.probability for label in given) for given in by_uid.values()),
        bears=tuple(sum(label.label == name for label in given) / len(given) for given in by_uid.values()),
    )

"""Measures what a head of one's own says of the whole picture: a class that somebody labelled, and `teach` learned.

It may stand in a recipe several times, under names of one's own (`filter = "taught"`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import model_validator

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings
from filters.detectors.efficientnet_lite import NUM_FEATURES, EfficientNetLite
from filters.heads import Classifier, probability, read_heads
from filters.weights import WeightsError

VERSION = 1
SCORES = ("logit", "probability")
MEANINGS = {
    "logit": ScoreMeaning(
        "how much a picture looks like the class that a head of your own was taught, as log-odds",
        "logit; 0 is even",
        -1.7,
        low="looks unlike the class that was taught",
        high="looks like the class that was taught",
    ),
    "probability": ScoreMeaning(
        "the same as a probability, where the class and the others are equally frequent",
        "0..1",
        0.15,
        low="looks unlike the class that was taught",
        high="looks like the class that was taught",
    ),
}


class Measure(Settings):
    """Parameters of the evidence."""

    weights: str = "efficientnet_lite0"
    """Catalogue name or path of the network."""
    heads: str | None = None
    """Name (`models add`) or path of a file with one head (`filters.heads`) that was taught on that network."""
    stores_features: bool = False
    """Whether the features themselves are evidence, 1,584 numbers a picture: what `teach` learns from."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.heads is None and not self.stores_features:
            raise ValueError("heads: name the file that `teach` wrote and `models add` knows")
        return self


class Score(Settings):
    """The scores have no parameters."""


@dataclass(frozen=True)
class TaughtEvidence(Evidence):
    """What the head makes of the whole picture."""

    logit: float
    """Above 0 where the class is the likelier one; 0 where no head is asked."""
    features: tuple[float, ...]
    """The network's, where they are stored; else none."""


EVIDENCE = TaughtEvidence


def scores(evidence: TaughtEvidence, score: Score) -> dict[str, float]:
    """Return the logit, and the probability that it stands for where either class is as frequent as the other."""
    return {"logit": evidence.logit, "probability": probability(evidence.logit)}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return the network's weights, and the head's."""
    return (measure.weights, *((measure.heads,) if measure.heads is not None else ()))


def build(measure: Measure, device: str) -> Filter:
    """Return the filter with its network on "cpu" or "cuda:N".

    Raises:
        WeightsError: weights are missing, not the expected ones, do not belong together, or hold several heads.
    """
    from filters.weights import find_weights

    network = find_weights(measure.weights)
    classifier = None
    if measure.heads is not None:
        file = find_weights(measure.heads)
        heads = read_heads(file, network, (), NUM_FEATURES)
        if len(heads.heads) != 1:
            raise WeightsError(f"{file.path}: one head is wanted; it has {', '.join(sorted(heads.heads)) or 'none'}")
        classifier = Classifier(heads)
    return Taught(EfficientNetLite(network, device=device), classifier, stores_features=measure.stores_features)


class Taught:
    """The filter around one network and, where one is asked, a head."""

    def __init__(self, network: EfficientNetLite, classifier: Classifier | None, *, stores_features: bool) -> None:
        """Keep them."""
        self._network = network
        self._classifier = classifier
        self._stores_features = stores_features

    def measure(self, images: Sequence[RgbImage]) -> list[TaughtEvidence]:
        """Return one evidence per picture."""
        evidence = []
        for features in self._network.features(images):
            (logit,) = (0.0,) if self._classifier is None else self._classifier.logits(features).values()
            evidence.append(TaughtEvidence(logit, tuple(features.tolist()) if self._stores_features else ()))
        return evidence

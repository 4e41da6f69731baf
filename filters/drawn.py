"""Measures how likely a picture is drawn, and how likely what it shows is no person: two heads on one network."""

from collections.abc import Sequence
from dataclasses import dataclass

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings
from filters.detectors.efficientnet_lite import NUM_FEATURES, EfficientNetLite
from filters.heads import Classifier, probability, read_heads

VERSION = 3
SCORES = ("drawn_logit", "drawn_probability", "nonhuman_logit", "nonhuman_probability")
MEANINGS = {
    "drawn_logit": ScoreMeaning(
        "how much a picture looks drawn, painted or rendered, as log-odds",
        "logit; 0 is even",
        -3.1,
        high="looks drawn, painted or rendered",
    ),
    "drawn_probability": ScoreMeaning(
        "the same as a probability, where drawings and photos are equally frequent",
        "0..1",
        0.04,
        high="looks drawn, painted or rendered",
    ),
    "nonhuman_logit": ScoreMeaning(
        "how much the face looks like an animal's, a doll's or a statue's, as log-odds",
        "logit; 0 is even",
        -2.4,
        high="looks like an animal, a doll, a toy or a statue",
    ),
    "nonhuman_probability": ScoreMeaning(
        "the same as a probability, where both are equally frequent",
        "0..1",
        0.08,
        high="looks like an animal, a doll, a toy or a statue",
    ),
}
HEADS = ("drawn", "nonhuman")


class Measure(Settings):
    """Parameters of the evidence."""

    weights: str = "efficientnet_lite0"
    """Catalogue name or path of the network."""
    heads: str = "drawn_heads"
    """Catalogue name or path of the heads (`filters.heads`), taught on that network."""


class Score(Settings):
    """The scores have no parameters."""


@dataclass(frozen=True)
class DrawnEvidence(Evidence):
    """What the heads make of the whole picture."""

    drawn_logit: float
    """Above 0 where it looks drawn, painted or rendered, below where it looks photographed."""
    nonhuman_logit: float
    """Above 0 where what it shows looks like an animal, a doll or a statue, below where it looks like people."""


EVIDENCE = DrawnEvidence


def scores(evidence: DrawnEvidence, score: Score) -> dict[str, float]:
    """Return both logits, and the probabilities that they stand for where either class is as frequent as the other."""
    return {
        "drawn_logit": evidence.drawn_logit,
        "drawn_probability": probability(evidence.drawn_logit),
        "nonhuman_logit": evidence.nonhuman_logit,
        "nonhuman_probability": probability(evidence.nonhuman_logit),
    }


def weights(measure: Measure) -> tuple[str, ...]:
    """Return the network's and the heads' weights."""
    return (measure.weights, measure.heads)


def build(measure: Measure, device: str) -> Filter:
    """Return the filter with its network on "cpu" or "cuda:N".

    Raises:
        WeightsError: the weights are missing, not the expected ones, or do not belong together.
    """
    from filters.weights import find_weights

    network, file = find_weights(measure.weights), find_weights(measure.heads)
    heads = read_heads(file, network, HEADS, NUM_FEATURES)
    return Drawn(EfficientNetLite(network, device=device), Classifier(heads))


class Drawn:
    """The filter around one network and its heads."""

    def __init__(self, network: EfficientNetLite, classifier: Classifier) -> None:
        """Keep both."""
        self._network = network
        self._classifier = classifier

    def measure(self, images: Sequence[RgbImage]) -> list[DrawnEvidence]:
        """Return one evidence per picture."""
        logits = map(self._classifier.logits, self._network.features(images))
        return [DrawnEvidence(one["drawn"], one["nonhuman"]) for one in logits]

"""Measures how likely a whole picture is drawn, with the classifier of the anime-or-not wheel; made for demos."""

from collections.abc import Sequence
from dataclasses import dataclass

from filters.base import Evidence, Filter, RgbImage, Settings
from filters.detectors.anime_or_not import AnimeOrNot

VERSION = 1
SCORES = ("drawn_probability",)


class Measure(Settings):
    """Parameters of the evidence."""

    weights: str = "anime_or_not"
    """Catalogue name or path of the classifier."""


class Score(Settings):
    """The score has no parameters."""


@dataclass(frozen=True)
class DrawnEvidence(Evidence):
    """The classifier's output."""

    probability: float
    """That the picture is drawn, 0..1."""


EVIDENCE = DrawnEvidence


def scores(evidence: DrawnEvidence, score: Score) -> dict[str, float]:
    """Return the probability that the picture is drawn."""
    return {"drawn_probability": evidence.probability}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return the classifier's weights."""
    return (measure.weights,)


def build(measure: Measure, device: str) -> Filter:
    """Return the filter with its classifier on "cpu" or "cuda:N".

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """
    from filters.weights import find_weights

    return Drawn(AnimeOrNot(find_weights(measure.weights).path, device=device))


class Drawn:
    """The filter around one classifier."""

    def __init__(self, classifier: AnimeOrNot) -> None:
        """Keep the classifier."""
        self._classifier = classifier

    def measure(self, images: Sequence[RgbImage]) -> list[DrawnEvidence]:
        """Return one evidence per picture."""
        return [DrawnEvidence(self._classifier.probability(image)) for image in images]

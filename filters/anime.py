"""Measures where an LBP cascade sees drawn faces; real ones fool it, so each hit says how drawn its face looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings
from filters.boxes import area
from filters.detectors.lbp_cascade import EVERY_PIXEL_FROM_PX, Hit, LbpCascade

VERSION = 3
SCORES = ("num_hits", "max_line_to_nose", "max_neighbours", "largest_hit_fraction")
MEANINGS = {
    "num_hits": ScoreMeaning("hits of the cascade that count", "hits", 1.0, high="the cascade for drawn faces hits"),
    "max_line_to_nose": ScoreMeaning(
        "how drawn the most drawn hit looks: lines about the eyes against shading of the nose",
        "ratio, 0 and more",
        1.4,
        high="a hit's face is all lines and has no nose, as drawn faces are",
    ),
    "max_neighbours": ScoreMeaning(
        "windows of the cascade that agree on the surest hit",
        "windows",
        14.0,
        high="the cascade is sure of a drawn face",
    ),
    "largest_hit_fraction": ScoreMeaning(
        "share of the picture that the largest hit covers",
        "0..1",
        0.08,
        high="a large part of the picture is taken for a drawn face",
    ),
}


class Measure(Settings):
    """Parameters of the evidence.

    The cascade's README scans differently: `view_side = 65535`, `scale_factor = 1.1`, `equalise = true`.
    """

    weights: str = "lbpcascade_animeface"
    """Catalogue name or path of the cascade."""
    view_side: int = Field(default=320, ge=24, le=65535)
    """Longest side of the view that is scanned, pixels; larger pictures are shrunk to it, smaller ones stay."""
    scale_factor: float = Field(default=1.12, gt=1, le=2)
    """Ratio of one window size to the next."""
    min_neighbours: int = Field(default=4, ge=1)
    """A hit is recorded where more windows than this agree on it, which is how OpenCV counts."""
    min_side_px: int = Field(default=24, ge=24)
    """Smallest window, pixels of the view."""
    equalise: bool = False
    """Whether the view's histogram is equalised first."""


class Score(Settings):
    """Which of the recorded hits count."""

    min_neighbours: int = Field(default=13, ge=1)
    """Windows that must agree on a hit for it to count."""
    min_neighbours_small: int = Field(default=5, ge=1)
    """The same for hits of less than 48 pixels of the view, at which OpenCV looks with a quarter of the windows."""


@dataclass(frozen=True)
class AnimeEvidence(Evidence):
    """Every hit of the cascade, those with most neighbours first."""

    width: int
    """Pixels of the decoded picture across."""
    height: int
    """Pixels of the decoded picture down."""
    hits: tuple[Hit, ...]
    """Box, number of neighbours and line-to-nose ratio of each."""


EVIDENCE = AnimeEvidence


def scores(evidence: AnimeEvidence, score: Score) -> dict[str, float]:
    """Return how many hits count, how drawn the most drawn one looks, and the most agreed and the largest one.

    Each is 0 where no hit counts; `largest_hit_fraction` is a share of the picture.
    """
    hits = [hit for hit in evidence.hits if hit.num_neighbours >= _least_neighbours(hit, score)]
    return {
        "num_hits": float(len(hits)),
        "max_line_to_nose": max((hit.line_to_nose for hit in hits), default=0.0),
        "max_neighbours": float(max((hit.num_neighbours for hit in hits), default=0)),
        "largest_hit_fraction": max((area(hit.box) for hit in hits), default=0.0) / (evidence.width * evidence.height),
    }


def _least_neighbours(hit: Hit, score: Score) -> int:
    return score.min_neighbours if hit.view_side_px >= EVERY_PIXEL_FROM_PX else score.min_neighbours_small


def weights(measure: Measure) -> tuple[str, ...]:
    """Return the cascade."""
    return (measure.weights,)


def build(measure: Measure, device: str) -> Filter:
    """Return the filter; it runs on the CPU whatever the device.

    Raises:
        WeightsError: the cascade is missing or not the expected one.
    """
    from filters.weights import find_weights

    cascade = LbpCascade(
        find_weights(measure.weights).path,
        view_side=measure.view_side,
        scale_factor=measure.scale_factor,
        min_neighbours=measure.min_neighbours,
        min_side_px=measure.min_side_px,
        equalise=measure.equalise,
    )
    return Anime(cascade)


class Anime:
    """The filter around one cascade."""

    def __init__(self, cascade: LbpCascade) -> None:
        """Keep the cascade."""
        self._cascade = cascade

    def measure(self, images: Sequence[RgbImage]) -> list[AnimeEvidence]:
        """Return one evidence per picture."""
        return [AnimeEvidence(image.shape[1], image.shape[0], self._cascade.detect(image)) for image in images]

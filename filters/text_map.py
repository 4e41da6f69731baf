"""Measures how much text a picture seems to hold, with PP-OCR's small detector: a hundredth of what `text` costs.

It may stand alone in a recipe, or before `text` as the screen that settles what is clear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from filters import boxes
from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings
from filters.detectors.ppocr import Corners, MapRegion, PpOcr, TextMap, grown
from filters.loading import Dtype, OnnxRuntime, require_dtype

VERSION = 3
"""Raised with `filters.text.VERSION` where `filters.detectors.ppocr` changes what it finds."""
SCORES = ("text_share", "num_glyphs", "num_regions", "area_fraction", "largest_region_fraction", "central_fraction")
MEANINGS = {
    "text_share": ScoreMeaning("share of the map that is text", "0..1", 0.01, high="much of the picture may be text"),
    "num_glyphs": ScoreMeaning(
        "characters, estimated from length and height of each region",
        "characters",
        8.0,
        high="many characters may be written",
    ),
    "num_regions": ScoreMeaning("regions that count", "regions", 2.0, high="many regions may be text"),
    "area_fraction": ScoreMeaning(
        "share of the picture in regions that count", "0..1", 0.03, high="much of the picture may be text"
    ),
    "largest_region_fraction": ScoreMeaning(
        "share of the picture in the largest region", "0..1", 0.02, high="one region of text may be large"
    ),
    "central_fraction": ScoreMeaning(
        "the same share of the picture's middle, half as wide and half as high",
        "0..1",
        0.0,
        high="text may stand in the middle",
    ),
}


class Measure(Settings):
    """Parameters of the evidence."""

    weights: str = "ppocr_v4_det"
    """Catalogue name or path of the detector."""
    side: int = Field(default=320, ge=32, le=4096)
    """Longer side that the network sees, pixels; every picture is shrunk or enlarged to it."""
    floor: float = Field(default=0.2, ge=0, lt=1)
    """Probability above which pixels belong to a region."""
    min_region_px: int = Field(default=4, ge=1)
    """Smallest region that is recorded, pixels of the map."""
    runtime: OnnxRuntime = "onnxruntime"
    """What runs the network."""
    dtype: Dtype = "float32"
    """Arithmetic of the network; onnxruntime has float32, and float16 on a GPU; openvino float32 and bfloat16."""

    @model_validator(mode="after")
    def _runtime_has_dtype(self) -> Self:
        require_dtype(self.runtime, self.dtype)
        return self


class Score(Settings):
    """What counts as text, and how long a character is."""

    level: float = Field(default=0.3, ge=0, le=1)
    """Probability above which pixels count for `text_share`."""
    confidence: float = Field(default=0.5, ge=0, le=1)
    """Least mean probability of a region that counts."""
    unclip: float = Field(default=1.5, ge=0, le=4)
    """How far regions grow back to the size of the text that they stand for (PaddleOCR: 1.5)."""
    glyphs_per_height: float = Field(default=1.6, gt=0, le=10)
    """Characters that stand in a length of one region's height (Latin capitals: 1.6)."""


@dataclass(frozen=True)
class TextMapEvidence(Evidence):
    """The detector's map in figures."""

    width: int
    """Pixels of the decoded picture across."""
    height: int
    """Pixels of the decoded picture down."""
    histogram: tuple[int, ...]
    """Map pixels by probability of text, in 20 equal bins from 0 to 1."""
    regions: tuple[MapRegion, ...]
    """Every connected region, largest first."""


EVIDENCE = TextMapEvidence


def scores(evidence: TextMapEvidence, score: Score) -> dict[str, float]:
    """Return the map's share above the level, and of the regions that count: characters, number and areas.

    `num_glyphs` is estimated from length and height of each region, at least 1 each. The areas, overlaps counted once,
    are shares of the picture, `central_fraction` of its middle, half as wide and half as high.
    """
    picture = (0.0, 0.0, float(evidence.width), float(evidence.height))
    middle = (picture[2] / 4, picture[3] / 4, picture[2] * 3 / 4, picture[3] * 3 / 4)
    counted = _counted(evidence, score)
    polygons = [corners for corners, _, _ in counted]
    fractions = [boxes.covered_fraction(picture, [polygon]) for polygon in polygons]
    return {
        "text_share": share_above(evidence.histogram, score.level),
        "num_glyphs": sum(max(1.0, score.glyphs_per_height * longer / shorter) for _, longer, shorter in counted),
        "num_regions": float(len(counted)),
        "area_fraction": boxes.covered_fraction(picture, polygons),
        "largest_region_fraction": max(fractions, default=0.0),
        "central_fraction": boxes.covered_fraction(middle, polygons),
    }


@dataclass(frozen=True)
class Outlined:
    """Text as the joint scores of `text` see it."""

    width: int
    height: int
    polygons: tuple[Corners, ...]
    """Corners x, y, x, y, ... in pixels of the decoded picture."""


def stand_in(evidence: TextMapEvidence, score: Score) -> Outlined:
    """Return the regions that count, grown to the text that they stand for."""
    polygons = tuple(corners for corners, _, _ in _counted(evidence, score))
    return Outlined(evidence.width, evidence.height, polygons)


def _counted(evidence: TextMapEvidence, score: Score) -> list[tuple[Corners, float, float]]:
    """Return the regions that count, grown, each with its longer and shorter side."""
    return [grown(region.corners, score.unclip) for region in evidence.regions if region.mean >= score.confidence]


def share_above(histogram: Sequence[int], level: float) -> float:
    """Return the share of pixels above a level, 0..1, taking pixels as spread evenly within a bin."""
    below = np.concatenate([[0], np.cumsum(histogram)])
    edges = np.linspace(0.0, 1.0, len(histogram) + 1)
    return float(1 - np.interp(level, edges, below) / below[-1])


def weights(measure: Measure) -> tuple[str, ...]:
    """Return the detector's weights."""
    return (measure.weights,)


def build(measure: Measure, device: str) -> Filter:
    """Return the filter with its detector on "cpu" or "cuda:N".

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """
    from filters.weights import find_weights

    detector = PpOcr(
        find_weights(measure.weights),
        side=measure.side,
        floor=measure.floor,
        min_region_px=measure.min_region_px,
        runtime=measure.runtime,
        dtype=measure.dtype,
        device=device,
    )
    return TextMaps(detector)


class TextMaps:
    """The filter around one detector."""

    def __init__(self, detector: PpOcr) -> None:
        """Keep the detector."""
        self._detector = detector

    def measure(self, images: Sequence[RgbImage]) -> list[TextMapEvidence]:
        """Return one evidence per picture."""
        text_maps = self._detector.detect_all(images)
        return [_evidence(image, text_map) for image, text_map in zip(images, text_maps, strict=True)]


def _evidence(image: RgbImage, text_map: TextMap) -> TextMapEvidence:
    return TextMapEvidence(image.shape[1], image.shape[0], text_map.histogram, text_map.regions)

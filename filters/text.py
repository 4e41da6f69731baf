"""Measures where text stands in a picture, with EasyOCR's detector (CRAFT); nothing is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from filters import boxes
from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings
from filters.detectors.craft import Craft, Polygon
from filters.detectors.ppocr import PpOcr
from filters.loading import Dtype, require_dtype

VERSION = 4
"""Also of `filters.detectors.ppocr`, whose map says where the spots are: a change there raises it too."""
SCORES = ("area_fraction", "num_characters", "num_regions", "largest_region_fraction")
MEANINGS = {
    "area_fraction": ScoreMeaning(
        "share of the picture under text, overlaps counted once", "0..1", 0.03, high="much of the picture is text"
    ),
    "num_characters": ScoreMeaning(
        "characters, as EasyOCR estimates them from the maps", "characters", 6.0, high="many characters are written"
    ),
    "num_regions": ScoreMeaning("words or lines", "regions", 2.0, high="many words or lines are written"),
    "largest_region_fraction": ScoreMeaning(
        "share of the picture under the largest word or line", "0..1", 0.02, high="one line of text is large"
    ),
}


class Spots(Settings):
    """Where CRAFT looks if not everywhere: around whatever PP-OCR's small detector may take for text."""

    weights: str = "ppocr_v4_det"
    """Catalogue name or path of the small detector."""
    side: int = Field(default=480, ge=32, le=4096)
    """Longer side that the small detector sees, pixels; every picture is shrunk or enlarged to it."""
    floor: float = Field(default=0.2, ge=0, lt=1)
    """Probability above which its pixels belong to a spot."""
    min_region_px: int = Field(default=4, ge=1)
    """Smallest spot, pixels of its map."""
    margin_px: int = Field(default=16, ge=0)
    """How much more than a spot CRAFT sees on each side, pixels of its canvas: letters are told by what is around."""


class Measure(Settings):
    """Parameters of the evidence; the thresholds are EasyOCR's own defaults."""

    weights: str = "craft_mlt_25k"
    """Catalogue name or path of CRAFT's state dict."""
    canvas_side: int = Field(default=640, ge=64, le=4096)
    """Longest side that the network sees, pixels; larger pictures are shrunk to it (EasyOCR: 2560)."""
    mag_ratio: float = Field(default=1.0, gt=0, le=16)
    """Factor by which a picture is enlarged before `canvas_side` limits it."""
    text_threshold: float = Field(default=0.7, ge=0, le=1)
    """Least peak of the text map within a region."""
    link_threshold: float = Field(default=0.4, ge=0, le=1)
    """Link map above which characters belong together."""
    low_text: float = Field(default=0.4, ge=0, le=1)
    """Text map above which pixels belong to a region."""
    runtime: Literal["onnxruntime", "openvino", "torch"] = "onnxruntime"
    """What runs the network; all but torch run an export that is made once and kept in the user's cache."""
    dtype: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    """Arithmetic of the network, and of the one that finds spots, which int8 leaves in float32; onnxruntime has
    float32, int8, and float16 on a GPU; the others have float32 and bfloat16."""
    spots: Spots | None = None
    """Where to look, at a part of the cost; everywhere where it is left out. Torch cannot run what finds them."""

    @model_validator(mode="after")
    def _runtime_has_dtype(self) -> Self:
        if self.dtype == "int8" and self.runtime != "onnxruntime":
            raise ValueError(f"runtime {self.runtime} does not compute in int8; onnxruntime does")
        require_dtype(self.runtime, self.dtype_of_finder)
        if self.runtime == "torch" and self.spots is not None:
            raise ValueError("runtime torch cannot run what finds spots; onnxruntime and openvino can")
        return self

    @property
    def dtype_of_finder(self) -> Dtype:
        """Arithmetic of what finds spots."""
        return "float32" if self.dtype == "int8" else self.dtype


class Score(Settings):
    """The scores have no parameters."""


@dataclass(frozen=True)
class TextEvidence(Evidence):
    """Every text region of the picture."""

    width: int
    """Pixels of the decoded picture across."""
    height: int
    """Pixels of the decoded picture down."""
    polygons: tuple[Polygon, ...]
    """Corners x, y, x, y, ... clockwise; they may reach beyond the picture."""
    num_characters: tuple[int, ...]
    """EasyOCR's estimate for each polygon."""


EVIDENCE = TextEvidence


def scores(evidence: TextEvidence, score: Score) -> dict[str, float]:
    """Return the picture's share under text (overlaps once), characters and regions, and the largest region's share."""
    picture = (0.0, 0.0, float(evidence.width), float(evidence.height))
    fractions = [boxes.covered_fraction(picture, [polygon]) for polygon in evidence.polygons]
    return {
        "area_fraction": boxes.covered_fraction(picture, evidence.polygons),
        "num_characters": float(sum(evidence.num_characters)),
        "num_regions": float(len(fractions)),
        "largest_region_fraction": max(fractions, default=0.0),
    }


def weights(measure: Measure) -> tuple[str, ...]:
    """Return the detector's weights, and those of what finds spots."""
    return (measure.weights,) if measure.spots is None else (measure.weights, measure.spots.weights)


def build(measure: Measure, device: str) -> Filter:
    """Return the filter with its detector on "cpu" or "cuda:N".

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """
    from filters.weights import find_weights

    detector = Craft(
        find_weights(measure.weights),
        canvas_side=measure.canvas_side,
        mag_ratio=measure.mag_ratio,
        text_threshold=measure.text_threshold,
        link_threshold=measure.link_threshold,
        low_text=measure.low_text,
        runtime=measure.runtime,
        dtype=measure.dtype,
        device=device,
    )
    return Text(detector, _finder(measure, device), measure.spots.margin_px if measure.spots else 0)


def _finder(measure: Measure, device: str) -> PpOcr | None:
    from filters.weights import find_weights

    if measure.spots is None:
        return None
    return PpOcr(
        find_weights(measure.spots.weights),
        side=measure.spots.side,
        floor=measure.spots.floor,
        min_region_px=measure.spots.min_region_px,
        runtime=measure.runtime,
        dtype=measure.dtype_of_finder,
        device=device,
    )


class Text:
    """The filter around one detector, which looks everywhere or where another finds spots."""

    def __init__(self, detector: Craft, finder: PpOcr | None, margin_px: int) -> None:
        """Keep the detectors."""
        self._detector = detector
        self._finder = finder
        self._margin_px = margin_px

    def measure(self, images: Sequence[RgbImage]) -> list[TextEvidence]:
        """Return one evidence per picture."""
        detected = self._detector.detect_all(images, self._spots(images), self._margin_px)
        return [
            TextEvidence(
                image.shape[1],
                image.shape[0],
                tuple(region.polygon for region in regions),
                tuple(region.num_characters for region in regions),
            )
            for image, regions in zip(images, detected, strict=True)
        ]

    def _spots(self, images: Sequence[RgbImage]) -> list[list[boxes.Box]] | None:
        if self._finder is None:
            return None
        return [
            [boxes.around(region.corners) for region in text_map.regions]
            for text_map in self._finder.detect_all(images)
        ]

"""Scores of two evidences: how verdicts combine filters that know nothing of one another.

Every joint score returns bounds, so that a criterion can be decided before all its inputs are measured: no hit at
all needs no face to be uncontested, no text region needs no face to overlap.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from filters import boxes
from filters.base import Settings

Known = Mapping[str, Any]
"""Filter name -> its evidence, or None where it has not measured yet."""


@dataclass(frozen=True)
class Bounds:
    """The score lies in [low, high]; both are equal once it is known."""

    low: float
    high: float


UNKNOWN = Bounds(-math.inf, math.inf)
"""Nothing is certain."""


class JointScore(Protocol):
    """A pure function of two evidences."""

    owner: ClassVar[str]
    """The filter in whose stanza the keep range stands, and that rejects."""
    inputs: ClassVar[tuple[str, str]]

    def bounds(self, known: Known) -> Bounds:
        """Return what is certain of the score from the evidence known so far; exact once both are known."""
        ...


class FaceOverlapFraction(Settings):
    """Share of the largest face's box that text covers, 0..1; 0 with no face."""

    owner: ClassVar[str] = "text"
    inputs: ClassVar[tuple[str, str]] = ("text", "faces")

    confidence: float = 0.5
    """Faces below this confidence do not count, 0..1."""

    def bounds(self, known: Known) -> Bounds:
        """Exact where either evidence alone settles it: no text region, or no face."""
        text, faces = known["text"], known["faces"]
        if text is not None and not text.polygons:
            return Bounds(0.0, 0.0)
        if faces is None:
            return Bounds(0.0, 1.0)
        largest = max(
            (face for face in faces.faces if face.confidence >= self.confidence),
            key=lambda face: (boxes.area(face.box), face.confidence),
            default=None,
        )
        if largest is None:
            return Bounds(0.0, 0.0)
        if text is None:
            return Bounds(0.0, 1.0)
        overlap = boxes.covered_fraction(largest.box, text.polygons)
        return Bounds(overlap, overlap)


class NumUncontestedHits(Settings):
    """Number of anime hits that no confident real face contests; all of them with no face."""

    owner: ClassVar[str] = "anime"
    inputs: ClassVar[tuple[str, str]] = ("anime", "faces")

    iou: float = 0.3
    """A face contests a hit when their boxes' intersection over union exceeds this, 0..1."""
    confidence: float = 0.6
    """Faces below this confidence contest nothing, 0..1."""

    def bounds(self, known: Known) -> Bounds:
        """Exact where there is no hit; between none and all hits while the faces are unknown."""
        anime, faces = known["anime"], known["faces"]
        if anime is None:
            return Bounds(0.0, math.inf)
        if faces is None:
            return Bounds(0.0, float(len(anime.hits)))
        confident = [face.box for face in faces.faces if face.confidence >= self.confidence]
        uncontested = [hit for hit in anime.hits if not any(boxes.iou(hit.box, box) > self.iou for box in confident)]
        return Bounds(float(len(uncontested)), float(len(uncontested)))


JOINT_SCORES: Mapping[str, type[FaceOverlapFraction] | type[NumUncontestedHits]] = {
    "face_overlap_fraction": FaceOverlapFraction,
    "num_uncontested_hits": NumUncontestedHits,
}
"""Every joint score by the name that keep ranges use."""

"""Scores of two evidences: how verdicts combine filters that know nothing of one another.

Every joint score returns bounds, so that a criterion can be decided before all its inputs are measured: no hit at
all needs no face to be uncontested, no text region needs no face to overlap.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import Field

from curation.recipe.settings import TableSettings
from filters import boxes, text_lines
from filters.base import Settings
from filters.detectors.base import Face
from filters.faces import FacesEvidence

Known = Mapping[str, Any]
"""Filter name -> its evidence, or None where it has not measured yet."""


@dataclass(frozen=True)
class Bounds:
    """The score lies in [low, high]; both are equal once it is known."""

    low: float
    high: float


Polygons = tuple[tuple[float, ...], ...]
WITHIN_FACE = 0.7
"""Least share of a region that lies in the face's box where it may be the face itself."""

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


class FaceOverlapFraction(TableSettings):
    """Share of the largest face's box that text covers, 0..1; 0 with no face."""

    LATER = frozenset({"face_height"})
    owner: ClassVar[str] = "text"
    inputs: ClassVar[tuple[str, str]] = ("text", "faces")

    confidence: float = 0.5
    """Faces below this confidence do not count, 0..1."""
    face_height: float | None = Field(default=None, gt=0, le=2)
    """Share of the face's height beyond which a region within its box is the face itself, read as text, and does not
    count; every region counts where it is left out."""

    def bounds(self, known: Known) -> Bounds:
        """Exact where either evidence alone settles it: no text region, or no face."""
        text, faces = known["text"], known["faces"]
        if text is not None and not text.polygons:
            return Bounds(0.0, 0.0)
        if faces is None:
            return Bounds(0.0, 1.0)
        largest = _largest(faces, self.confidence)
        if largest is None:
            return Bounds(0.0, 0.0)
        if text is None:
            return Bounds(0.0, 1.0)
        overlap = boxes.covered_fraction(largest.box, _written(text.polygons, largest, self.face_height))
        return Bounds(overlap, overlap)


class TextProminence(Settings):
    """Length of the lines of text in widths of the picture, 0 and more, weighted by how much they are there to be read.

    What stands behind a person or on clothes is cut into pieces of a few large letters, what is written over a picture
    runs in lines; a credit is one line at the edge. A region that is the largest face itself is no text.
    """

    owner: ClassVar[str] = "text"
    inputs: ClassVar[tuple[str, str]] = ("text", "faces")

    full_aspect: float = Field(default=5.0, gt=0, le=100)
    """Heights that a line is long to count in full, about eight letters; a shorter one counts in proportion."""
    edge_fraction: float = Field(default=0.08, ge=0, le=0.5)
    """Share of the picture's height, at the top and at the bottom, in which a line counts as a credit."""
    edge_weight: float = Field(default=0.4, ge=0, le=1)
    """How much a credit counts, 0..1."""
    face_height: float = Field(default=0.35, gt=0, le=2)
    """Share of the largest face's height beyond which a region within its box is the face itself, read as text."""
    confidence: float = Field(default=0.5, ge=0, le=1)
    """Faces below this confidence do not count, 0..1."""

    def bounds(self, known: Known) -> Bounds:
        """Between none and all regions while the faces are unknown."""
        text, faces = known["text"], known["faces"]
        if text is None:
            return Bounds(0.0, math.inf)
        if faces is None:
            return Bounds(0.0, self._of(text, text.polygons))
        largest = _largest(faces, self.confidence)
        prominence = self._of(text, _written(text.polygons, largest, self.face_height))
        return Bounds(prominence, prominence)

    def _of(self, text: Any, polygons: Polygons) -> float:
        weights = self.full_aspect, self.edge_fraction, self.edge_weight
        return text_lines.weighted_length(text_lines.lines(polygons), text.width, text.height, *weights)


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


def _largest(faces: FacesEvidence, confidence: float) -> Face | None:
    """Return the largest face of at least this confidence; of equal ones the surest."""
    confident = [face for face in faces.faces if face.confidence >= confidence]
    return max(confident, key=lambda face: (boxes.area(face.box), face.confidence), default=None)


def _written(polygons: Polygons, face: Face | None, face_height: float | None) -> Polygons:
    """Return the regions that are not the face itself: those beside its box, and those too low to be one."""
    if face is None or face_height is None:
        return polygons
    return tuple(polygon for polygon in polygons if not _is_face(boxes.around(polygon), face, face_height))


def _is_face(region: boxes.Box, face: Face, face_height: float) -> bool:
    is_within = boxes.intersection_area(region, face.box) >= WITHIN_FACE * boxes.area(region)
    return is_within and region[3] - region[1] > face_height * (face.y2 - face.y1)


JOINT_SCORES: Mapping[str, type[FaceOverlapFraction] | type[TextProminence] | type[NumUncontestedHits]] = {
    "face_overlap_fraction": FaceOverlapFraction,
    "text_prominence": TextProminence,
    "num_uncontested_hits": NumUncontestedHits,
}
"""Every joint score by the name that keep ranges use."""

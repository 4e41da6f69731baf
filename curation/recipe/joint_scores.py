"""Scores of two evidences: how verdicts combine filters that know nothing of one another.

Scores that are asked by few recipes and follow from evidence that all of them store, such as where a face looks, stand
here too: they cost no column where no recipe names them.

Every joint score returns bounds, so that a criterion can be decided before all its inputs are measured: no hit at
all needs no face to be uncontested, no text region needs no face to overlap.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import Field

from filters import boxes, text_lines
from filters.base import ScoreMeaning, Settings, TableSettings
from filters.detectors.base import Face, largest_face
from filters.pose import WORST_DEG, eyes_distance_px, pose_of

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
    """A pure function of one evidence or two."""

    owner: ClassVar[str]
    """The filter in whose stanza the keep range stands, and that rejects."""
    inputs: ClassVar[tuple[str, ...]]
    meaning: ClassVar[ScoreMeaning]

    def bounds(self, known: Known) -> Bounds:
        """Return what is certain of the score from the evidence known so far; exact once all inputs are known."""
        ...


class FaceOverlapFraction(TableSettings):
    """Share of the largest face's box that text covers, 0..1; 0 with no face."""

    LATER = frozenset({"face_height"})
    owner: ClassVar[str] = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text", "faces")
    meaning: ClassVar[ScoreMeaning] = ScoreMeaning(
        "share of the largest face's box that text covers", "0..1; 0 with no face", 0.02, high="text lies over the face"
    )

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
        largest = largest_face(faces.faces, self.confidence)
        if largest is None:
            return Bounds(0.0, 0.0)
        if text is None:
            return Bounds(0.0, 1.0)
        overlap = boxes.covered_fraction(largest.box, _written(text.polygons, largest, self.face_height))
        return Bounds(overlap, overlap)


class TextProminence(TableSettings):
    """Length of the lines of text in widths of the picture, 0 and more, weighted by how much they are there to be read.

    What stands behind a person or on clothes is cut into pieces of a few large letters, what is written over a picture
    runs in lines; a credit is one line at the edge; what the picture's edge cuts off was there before the picture. A
    region that is the largest face itself is no text.
    """

    LATER = frozenset({"cut_weight", "face_sides"})
    owner: ClassVar[str] = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text", "faces")
    meaning: ClassVar[ScoreMeaning] = ScoreMeaning(
        "length of the lines of text, short pieces and credits at the edge counted less",
        "widths of the picture, or of it and of faces (`face_sides`)", 0.2, high="text runs across the picture",
    )  # fmt: skip

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
    cut_weight: float = Field(default=1.0, ge=0, le=1)
    """How much a line counts that the left or the right edge of the picture cuts off, as on a wall behind the person,
    0..1."""
    face_sides: float = Field(default=0.0, ge=0, le=10)
    """How many sides of the largest face are added to the width that lengths are told in: beside a large face the same
    lettering counts less."""

    def bounds(self, known: Known) -> Bounds:
        """Between none and all regions, as if none were cut off, while the faces are unknown."""
        text, faces = known["text"], known["faces"]
        if text is None:
            return Bounds(0.0, math.inf)
        if faces is None:
            return Bounds(0.0, self._length(text, text.polygons, 1.0) / text.width)
        largest = largest_face(faces.faces, self.confidence)
        side = 0.0 if largest is None else largest.side_px
        length = self._length(text, _written(text.polygons, largest, self.face_height), self.cut_weight)
        prominence = length / (text.width + self.face_sides * side)
        return Bounds(prominence, prominence)

    def _length(self, text: Any, polygons: Polygons, cut_weight: float) -> float:
        return text_lines.weighted_length(
            text_lines.lines(polygons),
            text.width,
            text.height,
            full_aspect=self.full_aspect,
            edge_fraction=self.edge_fraction,
            edge_weight=self.edge_weight,
            cut_weight=cut_weight,
        )


class NumUncontestedHits(Settings):
    """Number of anime hits that no confident real face contests; all of them with no face."""

    owner: ClassVar[str] = "anime"
    inputs: ClassVar[tuple[str, ...]] = ("anime", "faces")
    meaning: ClassVar[ScoreMeaning] = ScoreMeaning(
        "hits of the cascade that no real face contests", "hits", 0.0, high="the cascade finds a drawn face of its own"
    )

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


def _written(polygons: Polygons, face: Face | None, face_height: float | None) -> Polygons:
    """Return the regions that are not the face itself: those beside its box, and those too low to be one."""
    if face is None or face_height is None:
        return polygons
    return tuple(polygon for polygon in polygons if not _is_face(boxes.around(polygon), face, face_height))


def _is_face(region: boxes.Box, face: Face, face_height: float) -> bool:
    is_within = boxes.intersection_area(region, face.box) >= WITHIN_FACE * boxes.area(region)
    return is_within and region[3] - region[1] > face_height * (face.y2 - face.y1)


class OfLargestFace(Settings):
    """Base of what the landmarks of the largest confident face say; the worst value with no such face."""

    owner: ClassVar[str] = "faces"
    inputs: ClassVar[tuple[str, ...]] = ("faces",)
    worst: ClassVar[float]
    meaning: ClassVar[ScoreMeaning]

    confidence: float = 0.5
    """Faces below this confidence do not count, 0..1."""

    def bounds(self, known: Known) -> Bounds:
        """Exact once the faces are known."""
        faces = known["faces"]
        if faces is None:
            return UNKNOWN
        face = largest_face(faces.faces, self.confidence)
        value = self.worst if face is None else self.of(face)
        return Bounds(value, value)

    def of(self, face: Face) -> float:
        """Return the score of a face."""
        raise NotImplementedError


class YawDeg(OfLargestFace):
    """Degrees by which the face looks to the viewer's right (below 0: left), of `filters.pose`; 90 with no face."""

    worst: ClassVar[float] = WORST_DEG
    meaning: ClassVar[ScoreMeaning] = ScoreMeaning(
        "how far the face looks to the viewer's right; below 0 left", "degrees; 90 with no face", -12.0,
        low="the face looks away to the viewer's left", high="the face looks away to the viewer's right, or is none",
    )  # fmt: skip

    def of(self, face: Face) -> float:
        """Return the yaw."""
        return pose_of(face.landmarks).yaw_deg


class PitchDeg(OfLargestFace):
    """Degrees by which the face looks up (below 0: down), of `filters.pose`; 90 with no face."""

    worst: ClassVar[float] = WORST_DEG
    meaning: ClassVar[ScoreMeaning] = ScoreMeaning(
        "how far the face looks up; below 0 down", "degrees; 90 with no face", 4.0,
        low="the face looks down", high="the face looks up, or is none",
    )  # fmt: skip

    def of(self, face: Face) -> float:
        """Return the pitch."""
        return pose_of(face.landmarks).pitch_deg


class RollDeg(OfLargestFace):
    """Degrees by which the head leans to the viewer's right (below 0: left), of `filters.pose`; 90 with no face."""

    worst: ClassVar[float] = WORST_DEG
    meaning: ClassVar[ScoreMeaning] = ScoreMeaning(
        "how far the head leans to the viewer's right; below 0 left", "degrees; 90 with no face", 2.0,
        low="the head leans far to the viewer's left", high="the head leans far to the viewer's right, or is none",
    )  # fmt: skip

    def of(self, face: Face) -> float:
        """Return the roll."""
        return pose_of(face.landmarks).roll_deg


class EyesDistancePx(OfLargestFace):
    """Distance between the eyes in pixels of the picture, as ISO/IEC 29794-5 measures it; 0 with no face."""

    worst: ClassVar[float] = 0.0
    meaning: ClassVar[ScoreMeaning] = ScoreMeaning(
        "distance between the eyes", "pixels; 0 with no face", 64.0, low="the face is small"
    )

    def of(self, face: Face) -> float:
        """Return the distance."""
        return eyes_distance_px(face.landmarks)


JointScoreType = type[FaceOverlapFraction] | type[TextProminence] | type[NumUncontestedHits] | type[OfLargestFace]
JOINT_SCORES: Mapping[str, JointScoreType] = {
    "face_overlap_fraction": FaceOverlapFraction,
    "text_prominence": TextProminence,
    "num_uncontested_hits": NumUncontestedHits,
    "yaw_deg": YawDeg,
    "pitch_deg": PitchDeg,
    "roll_deg": RollDeg,
    "eyes_distance_px": EyesDistancePx,
}
"""Every joint score by the name that keep ranges use."""

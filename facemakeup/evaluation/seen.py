"""A picture as judges see it: its pixels, and the face in it that is judged."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.face_similarity import NO_FACE
from facemakeup.faces.align import Landmarks
from facemakeup.faces.found import LEAST_CONFIDENCE, main_face
from filters.base import Filter, RgbImage
from filters.boxes import Box
from filters.detectors.base import Face
from filters.faces import FacesEvidence


@dataclass(frozen=True)
class FoundFace:
    """A face in a picture, in its pixels."""

    landmarks_52: Landmarks
    box: Box


class Seen:
    """One picture; its faces are looked for when a judge first asks."""

    def __init__(self, rgb: RgbImage, detector: Filter) -> None:
        """Hold the picture; `detector` is the filter `faces`."""
        self.rgb = rgb
        self._detector = detector

    @cached_property
    def face(self) -> FoundFace | Failure:
        """The largest face (`std`)."""
        return self._found(self.rgb, main_face)

    @cached_property
    def swapped(self) -> RgbImage:
        """The picture with red and blue exchanged, as the reference hands it to its detector and recogniser."""
        return np.ascontiguousarray(self.rgb[..., ::-1])

    @cached_property
    def swapped_face(self) -> FoundFace | Failure:
        """The surest face of the swapped picture, which is the first that the reference's detector lists (`compat`)."""
        return self._found(self.swapped, _surest)

    def _found(self, rgb: RgbImage, choose: Callable[[FacesEvidence], Face | None]) -> FoundFace | Failure:
        (evidence,) = self._detector.measure([rgb])
        face = choose(evidence)
        if face is None:
            return Failure(NO_FACE)
        return FoundFace(np.array(face.landmarks, dtype=np.float64).reshape(5, 2), face.box)


def _surest(evidence: FacesEvidence) -> Face | None:
    counted = [face for face in evidence.faces if face.confidence >= LEAST_CONFIDENCE]
    return max(counted, key=lambda face: face.confidence, default=None)

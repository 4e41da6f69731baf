"""Measures the light and the hue of the largest face's pixels, for audits of whom a recipe turns away.

It says of a photo how it renders a face, which light and camera decide as much as skin, and of nobody who they are. It
follows `faces`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings
from filters.detectors.base import Face, largest_face
from filters.face_view import ellipse, view_of

VERSION = 1
INPUTS = ("faces",)
SCORES = ("lightness", "chroma", "hue_deg")
MEANINGS = {
    "lightness": ScoreMeaning(
        "median L* of the largest face's pixels", "CIELAB, 0..100; 0 with no face", 58.0,
        low="the face is dark in this photo, or there is none", high="the face is bright in this photo",
    ),
    "chroma": ScoreMeaning("distance of the face's median colour from grey", "CIELAB, 0 and more", 21.0,
                           low="the face has little colour in this photo"),
    "hue_deg": ScoreMeaning("angle of the face's median colour: 0 is red, 90 yellow", "degrees, 0..360", 52.0),
}  # fmt: skip


class Measure(Settings):
    """Parameters of the evidence."""

    confidence: float = Field(default=0.5, ge=0, le=1)
    """Least confidence of a face that counts; of several the largest is looked at."""


class Score(Settings):
    """The scores have no parameters: they are the statistics themselves."""


@dataclass(frozen=True)
class FaceToneEvidence(Evidence):
    """Medians over the largest confident face, in CIELAB (CIE 15:2004, D65); 0 where there is none."""

    lightness: float
    """L*, 0..100."""
    chroma: float
    """Distance of the median a*, b* from grey."""
    hue_deg: float
    """Angle of the median a*, b*, 0..360: 0 is red, 90 yellow; says little where the chroma is small."""


EVIDENCE = FaceToneEvidence


def scores(evidence: FaceToneEvidence, score: Score) -> dict[str, float]:
    """Return the statistics by name."""
    return {name: getattr(evidence, name) for name in SCORES}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return no names: the statistics need no trained weights."""
    return ()


def build(measure: Measure, device: str) -> Filter:
    """Return the filter; it runs on the CPU whatever the device."""
    from filters.loading import single_thread

    single_thread()
    return FaceTone(measure)


class FaceTone:
    """The filter over pictures and the faces that were found in them."""

    def __init__(self, measure: Measure) -> None:
        """Keep the parameters."""
        self._measure = measure

    def measure(self, images: Sequence[RgbImage], *inputs: Sequence[Any]) -> list[FaceToneEvidence]:
        """Return one evidence per picture; `inputs` is one sequence: the evidence of `faces` for each."""
        (found,) = inputs
        largest = [largest_face(faces.faces, self._measure.confidence) for faces in found]
        pairs = zip(images, largest, strict=True)
        return [FaceToneEvidence(0.0, 0.0, 0.0) if face is None else tone_of(image, face) for image, face in pairs]


def tone_of(image: RgbImage, face: Face) -> FaceToneEvidence:
    """Return the medians of one face."""
    import cv2

    view, _ = view_of(image, face)
    colours = cv2.cvtColor(view.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[ellipse(*view.shape[:2])]
    lightness, a, b = (float(value) for value in np.median(colours, axis=0))
    return FaceToneEvidence(lightness, math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360)

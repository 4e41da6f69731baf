"""Measures how well the largest face is shown: its sharpness, its exposure, and what may cover it.

It follows `faces`: which face, and where its landmarks lie, comes from there, and no model is asked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings
from filters.detectors.base import Face, largest_face
from filters.face_view import Floats, ellipse, view_of

VERSION = 1
INPUTS = ("faces",)
SCORES = (
    "sharpness",
    "under_exposed_fraction",
    "over_exposed_fraction",
    "mean_luminance",
    "luminance_deviation",
    "lower_face_paleness",
)
MEANINGS = {
    "sharpness": ScoreMeaning(
        "how much the largest face loses by being blurred", "0..1", 0.52, low="the face is blurred"
    ),
    "under_exposed_fraction": ScoreMeaning(
        "share of the face that is nearly black", "0..1", 0.02, high="the face is too dark"
    ),
    "over_exposed_fraction": ScoreMeaning(
        "share of the face that is nearly white", "0..1", 0.01, high="the face is too bright"
    ),
    "mean_luminance": ScoreMeaning(
        "mean lightness of the face", "grey levels, 0..255", 121.0, low="the face is dark", high="the face is bright"
    ),
    "luminance_deviation": ScoreMeaning(
        "contrast within the face", "grey levels", 38.0, low="the face has hardly any contrast"
    ),
    "lower_face_paleness": ScoreMeaning(
        "by how much nose, mouth and chin are less coloured than the skin about the eyes",
        "a* + b* of CIELAB",
        3.0,
        high="something may hide the lower face, such as a mask",
    ),
}

BLUR = 9
"""Pixels of the box that blurs again, as in the paper."""
DARKEST, BRIGHTEST = 25, 247
"""Luminance up to which a pixel is under-exposed, and from which it is over-exposed (ISO/IEC 29794-5)."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Of R, G, B (ITU-R BT.709)."""
LOWER_FACE = ((0.35, 0.0), (0.45, 0.3), (0.45, -0.3), (1.0, 0.0), (1.35, 0.0))
"""Where nose, cheeks, mouth and chin lie: along the line from between the eyes to the mouth, and beside it."""


class Measure(Settings):
    """Parameters of the evidence."""

    confidence: float = Field(default=0.5, ge=0, le=1)
    """Least confidence of a face that counts; of several the largest is looked at."""


class Score(Settings):
    """The scores have no parameters: they are the statistics themselves."""


@dataclass(frozen=True)
class FaceQualityEvidence(Evidence):
    """Statistics of the largest confident face; each has its worst value where there is none."""

    sharpness: float
    """0..1: one less the blur effect (Crete et al., SPIE 6492, 2007) of the face at 128 pixels; 0 with no face."""
    under_exposed_fraction: float
    """0..1: share of the face with luminance 0 to 25; 1 with no face."""
    over_exposed_fraction: float
    """0..1: share of the face with luminance 247 to 255; 1 with no face."""
    mean_luminance: float
    """0..255: mean luminance of the face; 0 with no face."""
    luminance_deviation: float
    """Standard deviation of the luminance of the face, grey levels; 0 with no face."""
    lower_face_paleness: float
    """How much less of skin's colour nose, cheeks, mouth and chin have than eyes and forehead, in a* + b* of CIE 1976:
    far above 0 under a white, blue or black mask or scarf; a red or brown one is not seen. 0 with no face."""


EVIDENCE = FaceQualityEvidence
NO_FACE = FaceQualityEvidence(0.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def scores(evidence: FaceQualityEvidence, score: Score) -> dict[str, float]:
    """Return the statistics by name."""
    return {name: getattr(evidence, name) for name in SCORES}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return no names: the statistics need no trained weights."""
    return ()


def build(measure: Measure, device: str) -> Filter:
    """Return the filter; it runs on the CPU whatever the device."""
    from filters.loading import single_thread

    single_thread()
    return FaceQuality(measure)


class FaceQuality:
    """The filter over pictures and the faces that were found in them."""

    def __init__(self, measure: Measure) -> None:
        """Keep the parameters."""
        self._measure = measure

    def measure(self, images: Sequence[RgbImage], *inputs: Sequence[Any]) -> list[FaceQualityEvidence]:
        """Return one evidence per picture; `inputs` is one sequence: the evidence of `faces` for each."""
        (found,) = inputs
        largest = [largest_face(faces.faces, self._measure.confidence) for faces in found]
        pairs = zip(images, largest, strict=True)
        return [NO_FACE if face is None else quality_of(image, face) for image, face in pairs]


def quality_of(image: RgbImage, face: Face) -> FaceQualityEvidence:
    """Return the statistics of one face."""
    view, points = view_of(image, face)
    luminance = view.astype(np.float32) @ LUMINANCE
    seen = luminance[ellipse(*luminance.shape)]
    return FaceQualityEvidence(
        sharpness=1.0 - blur_effect(luminance),
        under_exposed_fraction=float((seen <= DARKEST).mean()),
        over_exposed_fraction=float((seen >= BRIGHTEST).mean()),
        mean_luminance=float(seen.mean()),
        luminance_deviation=float(seen.std()),
        lower_face_paleness=lower_face_paleness(view, points),
    )


def blur_effect(luminance: Floats) -> float:
    """Return how little a picture loses by being blurred, 0..1: the blurrier it is, the less (Crete et al.).

    Of steps between neighbours along each axis, the share that is left of them after a blur along that axis; the larger
    of the two. A picture without any step has 1.
    """
    import cv2

    def left_over(kernel: tuple[int, int], axis: int) -> float:
        steps = np.abs(np.diff(luminance, axis=axis))
        lost = np.maximum(0, steps - np.abs(np.diff(cv2.blur(luminance, kernel), axis=axis)))
        total = float(steps.sum())
        return 1.0 - float(lost.sum()) / total if total > 0 else 1.0

    return max(left_over((1, BLUR), 0), left_over((BLUR, 1), 1))


def lower_face_paleness(view: RgbImage, points: Floats) -> float:
    """Return by how much a* + b* is less about nose, mouth and chin than about the eyes; 0 where either is not seen."""
    import cv2

    colours = cv2.cvtColor(view.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1:].sum(axis=2)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    down = mouth - eyes
    across = np.array([-down[1], down[0]])
    length = float(np.hypot(*down))
    upper = [(points[0], 0.2), (points[1], 0.2), (eyes - 0.35 * down, 0.14)]
    lower = [(eyes + along * down + beside * across, 0.14) for along, beside in LOWER_FACE]
    means = [_mean_of_medians(colours, places, length) for places in (upper, lower)]
    return float(means[0] - means[1]) if np.isfinite(means).all() else 0.0


def _mean_of_medians(colours: Floats, places: Sequence[tuple[Floats, float]], length: float) -> float:
    """Return the mean of the median colours of squares around some places, NaN where none lies in the view."""
    medians = []
    for (x, y), share in places:
        radius = share * length
        left, top, right, bottom = (
            max(0, int(edge)) for edge in (x - radius, y - radius, x + radius + 1, y + radius + 1)
        )
        patch = colours[top:bottom, left:right]
        medians += [float(np.median(patch))] if patch.size else []
    return float(np.mean(medians)) if medians else float("nan")

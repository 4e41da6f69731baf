"""Measures how sharp a picture is: how far its luma departs, pixel by pixel, from the mean of its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from filters.base import Evidence, Filter, RgbImage, Settings

VERSION = 1
SCORES = ("laplacian_std",)


class Measure(Settings):
    """Parameters of the evidence."""

    side: int = Field(default=512, ge=16, le=4096)
    """Longest side of the view that is looked at, pixels; smaller pictures are taken as they are."""


class Score(Settings):
    """The score has no parameters: it is the statistic itself."""


@dataclass(frozen=True)
class SharpnessEvidence(Evidence):
    """One statistic over the pixels of the view."""

    laplacian_std: float
    """Standard deviation of the Laplacian of luma, grey levels: 0 for a plain picture, small for a blurred one."""


EVIDENCE = SharpnessEvidence


def scores(evidence: SharpnessEvidence, score: Score) -> dict[str, float]:
    """Return the statistic by its name."""
    return {"laplacian_std": evidence.laplacian_std}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return no names: the statistic needs no trained weights."""
    return ()


def build(measure: Measure, device: str) -> Filter:
    """Return the filter; it runs on the CPU whatever the device."""
    from filters.loading import single_thread

    single_thread()
    return Sharpness(measure.side)


class Sharpness:
    """The filter over a view of bounded size, so that large pictures are not sharper than small ones."""

    def __init__(self, side: int) -> None:
        """Keep the longest side of the view, pixels."""
        self._side = side

    def measure(self, images: Sequence[RgbImage]) -> list[SharpnessEvidence]:
        """Return one evidence per picture."""
        return [SharpnessEvidence(_laplacian_std(image, self._side)) for image in images]


def _laplacian_std(image: RgbImage, side: int) -> float:
    import cv2

    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = side / max(luma.shape)
    if scale < 1:
        size = (max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale)))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return float(np.std(cv2.Laplacian(luma, cv2.CV_64F)))

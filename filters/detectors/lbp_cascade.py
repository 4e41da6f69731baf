"""The LBP cascade for drawn faces (github nagadomi/lbpcascade_animeface) on OpenCV, and what its windows look like."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage
from filters.boxes import Box
from filters.loading import resize, shrink, single_thread
from filters.weights import WeightsError

Grey = npt.NDArray[np.uint8]

EVERY_PIXEL_FROM_PX = 48
"""Twice the cascade's own window: OpenCV tries smaller squares of a view at every second pixel only."""

_FACE_SIDE = 48
"""Side in pixels at which the faces of all hits are compared."""
_NOSE_ROWS = slice(24, 30)
_NOSE_COLUMNS = slice(18, 30)
"""Between the eyes and the mouth of a drawn face, in a face of 48 x 48 pixels."""
_LEAST_NOSE = 0.1
"""Floor of the nose's gradient, grey levels per pixel, so that a blank patch gives a finite ratio."""


@dataclass(frozen=True)
class Hit:
    """One square that the cascade takes for a drawn face, in pixels of the decoded picture."""

    x1: float
    y1: float
    x2: float
    y2: float
    view_side_px: float
    """Side of the square in the view that was scanned."""
    num_neighbours: int
    """Windows of the scan that agree on this square; see `EVERY_PIXEL_FROM_PX`."""
    line_to_nose: float
    """Line work of the whole face against the relief of its nose (see `line_to_nose`)."""

    @property
    def box(self) -> Box:
        """Left, top, right, bottom."""
        return self.x1, self.y1, self.x2, self.y2


class LbpCascade:
    """Scans a grey view of a picture at many scales."""

    def __init__(
        self,
        weights: str,
        *,
        view_side: int,
        scale_factor: float,
        min_neighbours: int,
        min_side_px: int,
        equalise: bool,
    ) -> None:
        """Load the cascade; see `filters.anime.Measure` for what the parameters mean."""
        single_thread()
        import cv2

        self._cascade = cv2.CascadeClassifier(weights)
        if self._cascade.empty():
            raise WeightsError(f"{weights} is no cascade that OpenCV can read")
        self._view_side = view_side
        self._scale_factor = scale_factor
        self._min_neighbours = min_neighbours
        self._min_side_px = min_side_px
        self._equalise = equalise

    def detect(self, image: RgbImage) -> tuple[Hit, ...]:
        """Return the hits, those with most neighbours first."""
        import cv2

        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        height, width = grey.shape
        scale = min(1.0, self._view_side / max(height, width))
        view = shrink(grey, max(1, round(width * scale)), max(1, round(height * scale))) if scale < 1 else grey
        squares, neighbours = self._cascade.detectMultiScale2(
            cv2.equalizeHist(view) if self._equalise else view,
            scaleFactor=self._scale_factor,
            minNeighbors=self._min_neighbours,
            minSize=(self._min_side_px, self._min_side_px),
        )
        counted = zip(np.reshape(squares, (-1, 4)).tolist(), np.ravel(neighbours).tolist(), strict=True)
        hits = [_hit(grey, x, y, side, scale, int(count)) for (x, y, side, _), count in counted]
        return tuple(sorted(hits, key=lambda hit: (-hit.num_neighbours, hit.box)))


def line_to_nose(face: Grey) -> float:
    """Return the line work of a face against the relief of its nose; several for drawn faces, about one for photos.

    Line work is the median absolute Laplacian over the face, relief the mean gradient between the eyes and the mouth,
    both in grey levels at 48 x 48 pixels: a drawn face has hard lines everywhere and next to no nose.
    """
    import cv2

    pixels = resize(face, _FACE_SIDE, _FACE_SIDE).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(pixels, cv2.CV_32F, 1, 0), cv2.Sobel(pixels, cv2.CV_32F, 0, 1)) / 8
    nose = max(_LEAST_NOSE, float(gradient[_NOSE_ROWS, _NOSE_COLUMNS].mean()))
    return float(np.median(np.abs(cv2.Laplacian(pixels, cv2.CV_32F)))) / nose


def _hit(grey: Grey, view_x: int, view_y: int, view_side: int, scale: float, num_neighbours: int) -> Hit:
    x, y, side = view_x / scale, view_y / scale, view_side / scale
    left, top, right, bottom = round(x), round(y), round(x + side), round(y + side)
    ratio = line_to_nose(grey[top:bottom, left:right])
    return Hit(x, y, x + side, y + side, float(view_side), num_neighbours, ratio)

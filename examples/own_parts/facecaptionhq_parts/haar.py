"""A face detector: the cascade of Viola and Jones (CVPR 2001) that comes with OpenCV, so it needs no weights."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from filters.base import RgbImage
from filters.boxes import non_maximum_suppression
from filters.detectors.base import Face, FaceDetector
from filters.loading import single_thread

CASCADE = "haarcascade_frontalface_default.xml"
LANDMARKS = ((0.31, 0.39), (0.69, 0.39), (0.5, 0.59), (0.35, 0.77), (0.65, 0.77))
"""Where eyes, nose and corners of the mouth lie in the box of an upright face; the cascade itself does not say."""


class Haar(FaceDetector):
    """Upright faces that look into the camera."""

    def __init__(self, weights: str | None, *, side: int, confidence_floor: float, max_iou: float, device: str) -> None:
        """Load the cascade. `side` is the longer side of what it sees, pixels; it runs on the CPU whatever the device.

        Raises:
            ValueError: weights are named, and there are none to choose.
        """
        if weights is not None:
            raise ValueError(f'haar brings its own cascade; leave out `weights = {weights!r}`: it is `weights = ""`')
        single_thread()
        self._cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))
        self._side, self._confidence_floor, self._max_iou = side, confidence_floor, max_iou

    def detect_all(self, images: Sequence[RgbImage]) -> list[tuple[Face, ...]]:
        """Return the faces of each picture, the surest first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: RgbImage) -> tuple[Face, ...]:
        height, width = image.shape[:2]
        scale = min(1.0, self._side / max(height, width))
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        view = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        boxes, _, weights = self._cascade.detectMultiScale3(view, 1.1, 3, outputRejectLevels=True)
        if not len(boxes):
            return ()
        corners = np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=np.float32) / scale
        confidences = np.array([_confidence(weight) for weight in np.ravel(weights)], dtype=np.float32)
        kept = non_maximum_suppression(corners, confidences, self._max_iou)
        return tuple(
            _face(corners[i].tolist(), float(confidences[i]), width, height)
            for i in kept
            if confidences[i] > self._confidence_floor
        )


def _confidence(weight: float) -> float:
    """Return the margin of the cascade's last stage on a scale of 0..1."""
    return 1 / (1 + math.exp(-weight / 2))


def _face(corners: list[float], confidence: float, width: int, height: int) -> Face:
    left, top, right, bottom = corners
    points = (value for x, y in LANDMARKS for value in (left + x * (right - left), top + y * (bottom - top)))
    return Face(max(0.0, left), max(0.0, top), min(width, right), min(height, bottom), confidence, tuple(points))

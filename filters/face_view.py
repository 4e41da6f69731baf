"""The part of a picture that shows a face, as filters that follow `faces` look at it."""

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage
from filters.detectors.base import Face
from filters.loading import resize

SIDE = 128
"""Longer side of the view of the face, pixels: what is asked is whether a face of this size would be sharp."""
Floats = npt.NDArray[np.float32]


def view_of(image: RgbImage, face: Face) -> tuple[RgbImage, Floats]:
    """Return the face's box at `SIDE` pixels, (h, w, 3), and its landmarks in it, (5, 2)."""
    height, width = image.shape[:2]
    left, top = min(max(0, round(face.x1)), width - 1), min(max(0, round(face.y1)), height - 1)
    right, bottom = max(left + 1, min(width, round(face.x2))), max(top + 1, min(height, round(face.y2)))
    crop = image[top:bottom, left:right]
    scale = SIDE / max(crop.shape[:2])
    view = resize(crop, max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    points = (np.reshape(face.landmarks, (-1, 2)) - (left, top)) * scale
    return view, points.astype(np.float32)


def ellipse(height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the pixels of a box that lie in the ellipse of nine tenths of its axes: the face without its corners."""
    y, x = np.mgrid[:height, :width]
    inside = ((2 * x + 1) / width - 1) ** 2 + ((2 * y + 1) / height - 1) ** 2 <= 0.81
    return inside if inside.any() else np.ones((height, width), bool)

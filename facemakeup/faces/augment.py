"""Another view of an aligned face: what a second photo of the person would change, as far as one photo can tell.

Position, size and tilt in the frame, side, light and colour; never who it is.
"""

import cv2
import numpy as np

from filters.base import RgbImage

MAX_TILT_DEGREES = 12.0
ZOOM = (0.9, 1.2)
MAX_SHIFT = 0.06
"""Share of the side."""
LIGHT = (0.75, 1.25)
"""Range of the factors of brightness, contrast and saturation."""
NUM_DRAWS = 8


def augmented(face_SSC: RgbImage, chance: np.random.Generator) -> RgbImage:
    """Return the view that a generator draws, uint8 (S, S, 3); it takes `NUM_DRAWS` numbers of it."""
    side = len(face_SSC)
    mirrored, tilt, zoom, right, down, *light = chance.random(NUM_DRAWS).tolist()
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), (2 * tilt - 1) * MAX_TILT_DEGREES, _between(ZOOM, zoom))
    matrix[:, 2] += (2 * np.array([right, down]) - 1) * MAX_SHIFT * side
    moved = cv2.warpAffine(face_SSC, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    lit = _lit(np.asarray(moved, np.float32), *(_between(LIGHT, draw) for draw in light))
    return np.ascontiguousarray(lit[:, ::-1] if mirrored < 0.5 else lit)


def _lit(face_SSC: np.ndarray, brightness: float, contrast: float, saturation: float) -> RgbImage:
    bright = face_SSC * np.float32(brightness)
    mean = bright.mean()
    grey = bright.mean(axis=2, keepdims=True)
    coloured = grey + (bright - grey) * np.float32(saturation)
    return np.asarray(np.clip(np.rint(mean + (coloured - mean) * np.float32(contrast)), 0, 255), dtype=np.uint8)


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * share

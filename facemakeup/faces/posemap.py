"""Draws five landmarks of a face as the picture that PoseNet is conditioned on.

Drawn on a canvas whose shorter side is always 512 pixels, so that discs and limbs have one size relative to the
picture whatever its resolution. Coordinates are pixels from the picture's top left corner, so the right edge is at
x = width. Order: left eye, right eye, nose, left and right corner of the mouth (left as seen in the picture).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from filters.base import RgbImage

VERSION = 1
"""Raised whenever the same landmarks would give another picture."""
CANVAS_PX = 512
DISC_RADIUS_PX = 10
LIMB_HALF_WIDTH_PX = 4
LIMB_BRIGHTNESS = 0.6
FAR_PX = 16 * CANVAS_PX
"""Beyond this a point is as good as at it; OpenCV takes no boundless coordinates."""
NOSE = 2
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
LIMB_COLOURS = tuple(tuple(int(value * LIMB_BRIGHTNESS) for value in colour) for colour in COLOURS)
MIRRORED = (1, 0, 2, 4, 3)

Landmarks = npt.NDArray[np.floating]
"""Shape (5, 2), x and y in pixels."""


@dataclass(frozen=True, eq=False)
class Strokes:
    """A pose map without its black, which is nearly all of it: 3,600 of 262,144 pixels at 512 x 512."""

    places_N: npt.NDArray[np.int32]
    """Which pixels are not black, counted row by row, rising."""
    colours_N3: npt.NDArray[np.uint8]
    """RGB of each."""


def strokes_of(picture: RgbImage) -> Strokes:
    """Return a pose map without its black; (N, 3) colours put at the places of a black picture give it back."""
    red, green, blue = (picture[:, :, channel] for channel in range(3))
    places = np.flatnonzero(red | green | blue)
    return Strokes(places.astype(np.int32), picture.reshape(-1, 3)[places])


def draw(landmarks_52: Landmarks, size: int | tuple[int, int]) -> RgbImage:
    """Return the pose map, uint8 (H, W, 3), of landmarks in pixels of a picture of `size` (a side, or H and W).

    Raises:
        ValueError: the landmarks are not five finite points.
    """
    height, width = (size, size) if isinstance(size, int) else size
    points = np.asarray(landmarks_52, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"a pose map needs five finite points (x, y), not {points.tolist()}")
    scale = CANVAS_PX / min(height, width)
    near = np.clip(points * scale, -FAR_PX, FAR_PX)
    canvas = _drawn(near, round(height * scale), round(width * scale))
    if canvas.shape[:2] == (height, width):
        return canvas
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=method), dtype=np.uint8)


def blank(size: int | tuple[int, int]) -> RgbImage:
    """Return the pose map that stands for "no pose", as training drops it: black."""
    return np.zeros((*((size, size) if isinstance(size, int) else size), 3), np.uint8)


def flip(landmarks_52: Landmarks, width: float) -> npt.NDArray[np.float64]:
    """Return the landmarks of the mirrored picture: left and right change places."""
    points = np.asarray(landmarks_52, dtype=np.float64)[list(MIRRORED)]
    points[:, 0] = width - points[:, 0]
    return points


def _drawn(points: npt.NDArray[np.float64], height: int, width: int) -> RgbImage:
    canvas = np.zeros((height, width, 3), np.uint8)
    for index, start in enumerate(points):
        if index != NOSE:
            _fill_limb(canvas, start, points[NOSE], LIMB_COLOURS[index])
    for colour, (x, y) in zip(COLOURS, points, strict=True):
        cv2.circle(canvas, (_pixel(x), _pixel(y)), DISC_RADIUS_PX, colour, thickness=-1)
    return canvas


def _fill_limb(
    canvas: RgbImage, start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], colour: tuple[int, ...]
) -> None:
    middle, along = (start + end) / 2, end - start
    axes = (int(np.hypot(*along) / 2), LIMB_HALF_WIDTH_PX)
    angle = int(np.degrees(np.arctan2(along[1], along[0])))
    outline = cv2.ellipse2Poly((_pixel(middle[0]), _pixel(middle[1])), axes, angle, 0, 360, 1)
    cv2.fillConvexPoly(canvas, outline, colour)


def _pixel(coordinate: float) -> int:
    return int(np.floor(coordinate))

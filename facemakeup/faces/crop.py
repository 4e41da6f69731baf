"""Which part of a picture is trained on, and where its points come to lie: geometry alone, no pixels."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from filters.boxes import Box, clip

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """Height and width of a training picture in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels of a picture, edges included as coordinates: right = left + width."""

    left: int
    top: int
    width: int
    height: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def to_target(self, points_N2: Points, size: Size) -> Points:
        """Return points of the picture in pixels of the window resized to `size`."""
        scale = np.array([size.width / self.width, size.height / self.height])
        moved: Points = (np.asarray(points_N2, dtype=np.float64) - np.array([self.left, self.top])) * scale
        return moved


def face_window(face: Box, width: int, height: int, factor: float, size: Size) -> Window:
    """Return the window around a face: a square of `factor` times the box's longer side, clamped to the picture.

    What the picture's edge cuts off is not made up: the window loses as much on the other axis, around the middle of
    the face, so that it has the shape of `size`. Published: clamp, resize by the shorter side, crop the centre; the two
    differ where a face is cut off on both axes, since the centre of what is left may then miss it.
    """
    side = factor * max(face[2] - face[0], face[3] - face[1])
    middle_x, middle_y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    around = (middle_x - side / 2, middle_y - side / 2, middle_x + side / 2, middle_y + side / 2)
    return _fitted(clip(around, width, height), (middle_x, middle_y), size)


def full_window(width: int, height: int, size: Size) -> Window:
    """Return the largest centred window of the picture that has the shape of `size`."""
    return _fitted((0.0, 0.0, float(width), float(height)), (width / 2, height / 2), size)


def aspect_buckets(side: int, max_aspect: float, step: int) -> tuple[Size, ...]:
    """Return sizes of about `side` x `side` pixels, both sides multiples of `step`, up to `max_aspect` : 1.

    One size per width; the height is the largest whose area does not exceed the square's.
    """
    sizes = []
    for width in range(step, side * side // step + 1, step):
        height = side * side // width // step * step
        if height > 0 and max(width / height, height / width) <= max_aspect:
            sizes.append(Size(height, width))
    return tuple(sizes)


def nearest_bucket(width: int, height: int, buckets: tuple[Size, ...]) -> int:
    """Return the number of the bucket whose aspect is nearest on a scale of ratios; the first of equals."""
    aspect = math.log(width / height)
    return min(range(len(buckets)), key=lambda n: abs(math.log(buckets[n].width / buckets[n].height) - aspect))


def _fitted(around: Box, middle: tuple[float, float], size: Size) -> Window:
    """Return the largest window of whole pixels within `around` of the shape of `size`, as near to `middle` as can be.

    `around` is at least one pixel wide and high once its edges are rounded outwards.
    """
    left, top = math.floor(around[0]), math.floor(around[1])
    room = math.ceil(around[2]) - left, math.ceil(around[3]) - top
    scale = min((around[2] - around[0]) / size.width, (around[3] - around[1]) / size.height)
    across, down = (
        min(max(1, round(side * scale)), most) for side, most in zip((size.width, size.height), room, strict=True)
    )
    x, y = round(middle[0] - across / 2), round(middle[1] - down / 2)
    return Window(min(max(x, left), left + room[0] - across), min(max(y, top), top + room[1] - down), across, down)

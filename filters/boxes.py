"""Geometry of boxes and polygons in pixels, kept pure so that filters, joint scores and tests share one meaning."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

Floats = npt.NDArray[np.float32]


def intersection_area(a: Box, b: Box) -> float:
    """Return the area in square pixels that two boxes share, 0 if they do not meet."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def area(box: Box) -> float:
    """Return a box's area in square pixels, 0 if it is turned inside out."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes, 0..1; two empty boxes have 0."""
    shared = intersection_area(a, b)
    return shared / (area(a) + area(b) - shared) if shared > 0 else 0.0


def around(polygon: Sequence[float]) -> Box:
    """Return the smallest upright box around a polygon x, y, x, y, ..."""
    return min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])


def clip(box: Box, width: int, height: int) -> Box:
    """Return the part of a box that lies within a picture."""
    left, right = (min(max(x, 0.0), float(width)) for x in (box[0], box[2]))
    top, bottom = (min(max(y, 0.0), float(height)) for y in (box[1], box[3]))
    return left, top, right, bottom


def union_area(polygons: Sequence[Sequence[float]], window: Box) -> float:
    """Return the area in square pixels that polygons cover together inside a window.

    Each polygon is x, y, x, y, ... of at least three corners; overlaps count once, crossed outlines count as the
    area that they enclose.
    """
    if not polygons or area(window) == 0:
        return 0.0
    import shapely

    shapes = [shapely.Polygon(np.reshape(polygon, (-1, 2))) for polygon in polygons if len(polygon) >= 6]
    sound = shapely.union_all(shapely.make_valid(np.array(shapes, dtype=object)))
    return float(shapely.intersection(sound, shapely.box(*window)).area)


def covered_fraction(window: Box, polygons: Sequence[Sequence[float]]) -> float:
    """Return the share of a window that polygons cover together, 0..1; an empty window is not covered."""
    room = area(window)
    return min(1.0, union_area(polygons, window) / room) if room > 0 else 0.0


def non_maximum_suppression(boxes: Floats, scores: Floats, max_iou: float) -> list[int]:
    """Return the rows to keep, best score first: a box goes if a better kept one overlaps it by more than `max_iou`.

    boxes: (N, 4) left, top, right, bottom; scores: (N,). Equal scores keep their order.
    """
    areas = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[best] + areas[rest] - shared
        order = rest[shared <= max_iou * union]
    return kept


@dataclass(frozen=True)
class Letterbox:
    """How a picture is laid onto a detector's canvas: scaled to `width` x `height` at (`left`, `top`)."""

    width: int
    height: int
    left: int
    top: int
    canvas_width: int
    canvas_height: int
    scale_x: float
    scale_y: float
    """Canvas pixels per picture pixel; the two differ by the rounding to whole pixels."""

    def to_picture(self, points: Floats) -> Floats:
        """Map points x, y, x, y, ... in the last axis from the canvas to the picture."""
        pairs = points.reshape(*points.shape[:-1], points.shape[-1] // 2, 2)
        offset = np.array([self.left, self.top], dtype=np.float32)
        scale = np.array([self.scale_x, self.scale_y], dtype=np.float32)
        return ((pairs - offset) / scale).reshape(points.shape)


def letterbox(width: int, height: int, side: int, multiple: int = 32, centred: bool = True) -> Letterbox:
    """Fit a picture into `side` pixels, keeping its shape, on the smallest canvas whose sides are a multiple."""
    scale = side / max(width, height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    canvas_width, canvas_height = -(-new_width // multiple) * multiple, -(-new_height // multiple) * multiple
    left, top = ((canvas_width - new_width) // 2, (canvas_height - new_height) // 2) if centred else (0, 0)
    scale_x, scale_y = new_width / width, new_height / height
    return Letterbox(new_width, new_height, left, top, canvas_width, canvas_height, scale_x, scale_y)

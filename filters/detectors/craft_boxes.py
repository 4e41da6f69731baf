"""From CRAFT's two maps to boxes, exactly as EasyOCR forms them but without its package, whose import loads torch.

EasyOCR looks at the whole map once per region; here each region is cut out first, so a page of print costs no more
than its pixels. Tests hold the result against EasyOCR's own, bit for bit.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_MIN_SIZE_PX = 10
"""Smaller pieces of the map are no region."""
_SQUARE = 0.1
"""A box whose sides differ by no more than this share stands upright: its angle means nothing."""


@dataclass(frozen=True)
class MapBox:
    """One region in pixels of the map."""

    corners: Floats
    """Shape (4, 2): x, y, clockwise from the corner nearest to the top left."""
    num_characters: int
    """Separate peaks of the text map where the link map is low."""


def map_boxes(
    text_HW: Floats, link_HW: Floats, text_threshold: float, link_threshold: float, low_text: float
) -> list[MapBox]:
    """Return the regions of a text map and a link map (0..1, same shape), in the order of OpenCV's labels."""
    import cv2

    is_text, is_link = text_HW > low_text, link_HW > link_threshold
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(
        (is_text | is_link).astype(np.uint8), connectivity=4
    )
    boxes = []
    for label in range(1, num_labels):
        left, top, width, height, size = (int(value) for value in stats[label])
        window = slice(top, top + height), slice(left, left + width)
        inside = labels[window] == label
        if size < _MIN_SIZE_PX or text_HW[window][inside].max() < text_threshold:
            continue
        peaks = np.where(inside, text_HW[window] - link_HW[window], np.float32(0)) > text_threshold
        characters, _ = cv2.connectedComponents(peaks.astype(np.uint8), connectivity=4)
        margin = int(math.sqrt(size * min(width, height) / (width * height)) * 2)
        left_margin, top_margin = min(margin, left), min(margin, top)
        right, bottom = min(left + width + margin + 1, labels.shape[1]), min(top + height + margin + 1, labels.shape[0])
        room = np.zeros((bottom - top + top_margin, right - left + left_margin), dtype=np.uint8)
        body = inside & ~(is_link[window] & ~is_text[window])
        room[top_margin : top_margin + height, left_margin : left_margin + width] = body
        grown = cv2.dilate(room, cv2.getStructuringElement(cv2.MORPH_RECT, (1 + margin, 1 + margin)))
        rows, columns = np.nonzero(grown)
        if rows.size:
            points = np.stack([columns + (left - left_margin), rows + (top - top_margin)], axis=1).astype(np.int32)
            boxes.append(MapBox(_box(points), characters - 1))
    return boxes


def _box(points: npt.NDArray[np.int32]) -> Floats:
    """Return the smallest rectangle around points (N, 2), upright if it is nearly square."""
    import cv2

    corners = cv2.boxPoints(cv2.minAreaRect(points))
    sides = np.linalg.norm(corners[0] - corners[1]), np.linalg.norm(corners[1] - corners[2])
    if abs(1 - max(sides) / (min(sides) + 1e-5)) <= _SQUARE:
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)
    return np.asarray(np.roll(corners, -int(corners.sum(axis=1).argmin()), axis=0), dtype=np.float32)

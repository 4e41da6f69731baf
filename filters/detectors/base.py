"""What a face detector gives back, whichever network and runtime stand behind it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage
from filters.boxes import Box, Letterbox, clip, non_maximum_suppression

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Face:
    """One face in pixels of the decoded picture; the box lies within the picture, landmarks may lie outside."""

    x1: float
    y1: float
    x2: float
    y2: float
    confidence: float
    landmarks: tuple[float, ...]
    """x, y of the left eye, right eye, nose, left and right mouth corner, left and right as the viewer sees them."""

    @property
    def box(self) -> Box:
        """Left, top, right, bottom."""
        return self.x1, self.y1, self.x2, self.y2

    @property
    def side_px(self) -> float:
        """The smaller of width and height."""
        return min(self.x2 - self.x1, self.y2 - self.y1)

    @property
    def area_px(self) -> float:
        """Area in square pixels."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)


def largest_face(faces: Iterable[Face], confidence: float) -> Face | None:
    """Return the largest of the faces of at least this confidence; of several the surest; None with no such face."""
    confident = (face for face in faces if face.confidence >= confidence)
    return max(confident, key=lambda face: (face.area_px, face.confidence), default=None)


class FaceDetector(Protocol):
    """Finds faces in pictures."""

    def detect_all(self, images: Sequence[RgbImage]) -> list[tuple[Face, ...]]:
        """Return every face above the detector's confidence floor, most confident first, of each picture."""
        ...

    def detect(self, image: RgbImage) -> tuple[Face, ...]:
        """Return the faces of one picture."""
        return self.detect_all([image])[0]


def faces_on_canvas(
    boxes: Floats, scores: Floats, landmarks: Floats, canvas: Letterbox, picture: RgbImage, max_iou: float
) -> tuple[Face, ...]:
    """Turn a network's candidates in canvas pixels into faces in picture pixels, duplicates suppressed.

    boxes: (N, 4) corners; scores: (N,); landmarks: (N, 10). Faces that lie wholly outside the picture are left out.
    """
    height, width = picture.shape[:2]
    kept = non_maximum_suppression(boxes, scores, max_iou)
    corners, points = canvas.to_picture(boxes[kept]), canvas.to_picture(landmarks[kept])
    faces = []
    for corner, point, score in zip(corners.tolist(), points.tolist(), scores[kept].tolist(), strict=True):
        face = Face(*clip((corner[0], corner[1], corner[2], corner[3]), width, height), score, tuple(point))
        if face.area_px > 0:
            faces.append(face)
    return tuple(faces)

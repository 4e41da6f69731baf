"""A picture inside a border, for a second look at a face that fills the picture or is cut off by its edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filters.base import RgbImage
from filters.boxes import clip
from filters.detectors.base import Face
from filters.loading import shrink

_BORDER, _GREY = 0.5, 114
"""The border's width on every side, as a share of the picture's longer side, and its brightness."""


@dataclass(frozen=True)
class Framed:
    """A picture inside a border, as small as a detector sees it."""

    pixels: RgbImage
    border_px: int
    """On every side, in pixels of this."""
    width: int
    """Of the picture as it is, pixels."""
    height: int

    @classmethod
    def around(cls, image: RgbImage, side: int) -> "Framed":
        """Return the picture with its border, `side` pixels at the longer side or what it has if that is less."""
        import cv2

        height, width = image.shape[:2]
        scale = min(1.0, side / (1 + 2 * _BORDER) / max(height, width))
        small = shrink(image, max(1, round(width * scale)), max(1, round(height * scale)))
        border = round(_BORDER * max(small.shape[:2]))
        grey = (_GREY, _GREY, _GREY)
        framed = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_CONSTANT, value=grey)
        return cls(np.asarray(framed, dtype=np.uint8), border, width, height)

    def in_picture(self, faces: Sequence[Face]) -> tuple[Face, ...]:
        """Return faces of the pixels as faces of the picture; those that lie in the border alone are left out."""
        twice = 2 * self.border_px
        scale_x = self.width / (self.pixels.shape[1] - twice)
        scale_y = self.height / (self.pixels.shape[0] - twice)

        def moved(points: Sequence[float]) -> tuple[float, ...]:
            scales = (scale_x, scale_y) * (len(points) // 2)
            return tuple((value - self.border_px) * scale for value, scale in zip(points, scales, strict=True))

        inside = []
        for face in faces:
            left, top, right, bottom = moved(face.box)
            box = clip((left, top, right, bottom), self.width, self.height)
            inside.append(Face(*box, face.confidence, moved(face.landmarks)))
        return tuple(face for face in inside if face.area_px > 0)

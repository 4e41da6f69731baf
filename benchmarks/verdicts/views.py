"""Honest variations of a labelled photo, drawn by chance from a seed: what other copies of it would look like."""

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from filters.base import RgbImage
from filters.detectors.base import Face

VERSION = 1
"""Raised whenever the same photo and seed would give other pixels."""

_MASKS = ((205, 225, 238), (170, 205, 225), (240, 240, 240), (25, 25, 30), (150, 195, 180), (225, 185, 195))
"""Colours of medical and cloth masks, RGB."""
_RIGHT_HALF = ((0, 0.22), (0.35, 0.36), (1, 0.45), (0.95, 1.1), (0.55, 1.75), (0, 1.95))
_OUTLINE = (*_RIGHT_HALF, *((-x, y) for x, y in _RIGHT_HALF[-2:0:-1]))
_STRAPS = (((1, 0.5), (1.5, 0.05)), ((0.95, 1.1), (1.5, 0.5)))
_FOLDS = (0.85, 1.1, 1.35)
"""Of a mask, in distances between the eyes, right and down from the middle between them."""


def varied(image: RgbImage, chance: np.random.Generator) -> RgbImage:
    """Return a crop of at least 0.7 of each side, mirrored or not, recoloured, shrunk, and recompressed as JPEG."""
    height, width = image.shape[:2]
    rows, columns = (max(1, round(side * chance.uniform(0.7, 1))) for side in (height, width))
    top, left = (int(chance.integers(0, most + 1)) for most in (height - rows, width - columns))
    crop = image[top : top + rows, left : left + columns][:, :: 1 if chance.random() < 0.5 else -1]
    scale = min(1.0, chance.uniform(160, 640) / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(_recoloured(small, chance)).save(file, "JPEG", quality=int(chance.integers(35, 95)))
    return np.array(Image.open(file).convert("RGB"))


def masked(image: RgbImage, face: Face, chance: np.random.Generator) -> RgbImage:
    """Return the photo with a medical mask over nose, mouth and chin, as the landmarks place them."""
    eyes = np.array(face.landmarks[:4], dtype=np.float64).reshape(2, 2)
    along = eyes[1] - eyes[0]
    along *= max(1.0, 0.3 * face.side_px / max(1e-6, float(np.hypot(*along))))
    down = np.array([-along[1], along[0]])
    if down[1] < 0:
        down = -down

    def at(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        xy = np.asarray(points, dtype=np.float64)
        pixels: npt.NDArray[np.int32] = np.rint(eyes.mean(axis=0) + xy[:, :1] * along + xy[:, 1:] * down).astype(
            np.int32
        )
        return pixels

    colour = np.array(_MASKS[int(chance.integers(len(_MASKS)))], dtype=np.float64)
    thickness = max(1, round(0.05 * float(np.hypot(*along))))
    cover = np.zeros(image.shape[:2], dtype=np.uint8)
    cv2.fillPoly(cover, [at(np.array(_OUTLINE) * chance.uniform(0.92, 1.08))], 255)
    drawing = np.ascontiguousarray(image)
    for start, end in _STRAPS:
        for side in (-1, 1):
            first, last = at([(side * start[0], start[1]), (side * end[0], end[1])])
            drawing = cv2.line(drawing.copy(), first.tolist(), last.tolist(), colour.tolist(), thickness)
    light = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 2 * thickness)
    inside = light[cover > 0]
    shade = np.clip(0.6 + 0.4 * light / max(1.0, float(np.median(inside)) if inside.size else 1.0), 0.5, 1.15)
    cloth = colour * shade[..., None] + chance.normal(0, 3, image.shape)
    for fold in _FOLDS:
        first, last = at([(-0.85, fold), (0.85, fold)])
        crease = cv2.line(np.zeros_like(cover), first.tolist(), last.tolist(), 255, thickness)
        cloth -= 0.08 * crease[..., None]
    share = cv2.GaussianBlur(cover, (0, 0), max(0.8, thickness / 2)).astype(np.float64)[..., None] / 255
    return np.asarray((drawing * (1 - share) + cloth * share).round().clip(0, 255), dtype=np.uint8)


def _recoloured(image: RgbImage, chance: np.random.Generator) -> RgbImage:
    pixels = image.astype(np.float32) / 255
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(chance.uniform(0.6, 1.3))
    pixels = pixels * chance.uniform(0.88, 1.12, 3).astype(np.float32)
    pixels = np.clip(pixels, 0, 1) ** np.float32(chance.uniform(0.75, 1.35))
    return np.asarray((pixels * 255).round(), dtype=np.uint8)

"""Honest derivatives of labelled photos, each with the label it must get: margins that a few originals cannot show."""

import io
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from filters.base import RgbImage

Derivative = Callable[[RgbImage], RgbImage]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], dtype=np.float32)


def recompressed(image: RgbImage, quality: int = 40) -> RgbImage:
    """The picture after JPEG at this quality with halved chroma."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(file).convert("RGB"))


def shrunk(image: RgbImage, side: int = 512) -> RgbImage:
    """The picture with its longer side at this many pixels, never enlarged."""
    scale = min(1.0, side / max(image.shape))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def soft(image: RgbImage, side: int = 192) -> RgbImage:
    """The picture as if it had been enlarged from a thumbnail."""
    small = shrunk(image, side)
    grown = cv2.resize(small, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, dtype=np.uint8)


def framed(image: RgbImage) -> RgbImage:
    """The picture at half its size in the middle of a plain frame of its mean colour: every face is half as large."""
    height, width = image.shape[:2]
    canvas = np.full_like(image, image.mean(axis=(0, 1)).round())
    small = cv2.resize(image, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def mirrored(image: RgbImage) -> RgbImage:
    """The picture with left and right changed."""
    return np.ascontiguousarray(image[:, ::-1])


def grey(image: RgbImage) -> RgbImage:
    """The picture without colour, recompressed."""
    return recompressed(_toned(image, np.zeros(3), np.full(3, 255.0)), 60)


def sepia(image: RgbImage) -> RgbImage:
    """The picture through the usual sepia matrix, recompressed; it leaves some of the colours' luma."""
    return recompressed(_to_bytes(image.astype(np.float32) @ _SEPIA.T), 60)


def brown(image: RgbImage) -> RgbImage:
    """The picture from dark brown to cream, recompressed."""
    return recompressed(_toned(image, np.array([30.0, 15, 5]), np.array([250.0, 235, 205])), 60)


def cyanotype(image: RgbImage) -> RgbImage:
    """The picture from deep blue to pale blue, recompressed."""
    return recompressed(_toned(image, np.array([5.0, 20, 50]), np.array([235.0, 245, 255])), 60)


def faint_tone(image: RgbImage) -> RgbImage:
    """The picture on slightly yellowed paper, recompressed."""
    return recompressed(_toned(image, np.zeros(3), np.array([255.0, 250, 240])), 60)


def captioned(image: RgbImage) -> RgbImage:
    """The picture with two lines of white text, black-edged, each a twelfth of its height."""
    return _written(image, "LIMITED OFFER TODAY", 12, 0.02, "THIRTY PERCENT OFF", 0.88)


def watermarked(image: RgbImage) -> RgbImage:
    """The picture with a stock agency's short mark in a corner: not a large amount of text."""
    return _written(image, "(c) Ann", 30, 0.95)


COLOUR_KEPT: Mapping[str, Derivative] = {"recompressed": recompressed, "shrunk": shrunk, "soft": soft}
COLOUR_REJECTED: Mapping[str, Derivative] = {
    "grey": grey,
    "sepia": sepia,
    "brown": brown,
    "cyanotype": cyanotype,
    "faint_tone": faint_tone,
}
SAME_SCENE: Mapping[str, Derivative] = {
    "mirrored": mirrored,
    "recompressed": recompressed,
    "shrunk": shrunk,
    "soft": soft,
}
SMALLER_FACES: Mapping[str, Derivative] = {"framed": framed}


def _toned(image: RgbImage, dark: np.typing.NDArray[np.float64], light: np.typing.NDArray[np.float64]) -> RgbImage:
    luma = (image.astype(np.float32) @ _LUMA)[..., None] / 255
    return _to_bytes(dark + (light - dark) * luma)


def _to_bytes(pixels: np.typing.NDArray[np.floating]) -> RgbImage:
    return pixels.round().clip(0, 255).astype(np.uint8)


def _written(image: RgbImage, text: str, lines: int, top: float, below: str = "", bottom: float = 0.0) -> RgbImage:
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    widest = max(text, below, key=len)
    size = image.shape[0] / lines
    size *= min(1.0, 0.94 * image.shape[1] / draw.textlength(widest, font=ImageFont.load_default(size)))
    font = ImageFont.load_default(size)
    for words, height in ((text, top), (below, bottom)):
        place = ((image.shape[1] - draw.textlength(words, font=font)) / 2, height * image.shape[0])
        draw.text(place, words, "white", font, stroke_width=max(1, round(size / 16)), stroke_fill="black")
    return np.array(canvas)

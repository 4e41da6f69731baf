"""The photos a corpus is made from, and how one of them becomes another picture whose label is certain."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
from PIL import Image

from filters.base import RgbImage

LONG_SIDE = {"log_median_px": 5.811, "log_sigma": 0.70, "selected_share": 0.2}
"""LAION-400M's three published counts (either side >= 256: 268 M, either >= 512: 112 M, both >= 1024: 9.6 M of 413 M)
lie on one log-normal of the longer side at 4:3: median 334 px, sigma 0.70. Ranking by area takes 10 M of LAION-Face's
50 M, the upper fifth: longer sides from 602 px on, median 819 px, one in ten above 1,400 px."""
MAX_LONG_SIDE_PX = 4096
MAX_ENLARGED = 2.0
LEAST_WINDOW = {"single": 0.82, "group": 0.92, "text": 0.93, "bw": 0.85, "sepia": 0.85, "anime": 0.85, "noface": 0.45}
"""The least share of a photo's width and height that a crop leaves: faces, groups and lines of text must stay whole."""
FORMAT_SHARES = {"jpg": 0.95, "png": 0.03, "webp": 0.02}
QUALITY_SHARES = {70: 0.08, 75: 0.20, 80: 0.15, 85: 0.22, 90: 0.20, 95: 0.15}
HALVED_CHROMA_SHARE = 0.8
PROGRESSIVE_SHARE = 0.3
NO_FACE_PICTURES = ("coffee.png", "rocket.jpg", "motorcycle_left.png", "ihc.png", "retina.jpg")
"""What scikit-image ships without a face, beside the labelled photos."""
LEFT_OUT = ("group/deepface_img59.jpg",)
"""Its second face lies on the border: a crop would take it away, and the label with it."""


@dataclass(frozen=True)
class Source:
    """One photo that pictures are made from."""

    path: Path
    name: str
    long_side_px: int


@dataclass(frozen=True)
class Cut:
    """A picture cut from a source, before anything is drawn or toned."""

    image: RgbImage
    source: str
    enlarged: float
    """Pixels of the picture per pixel of the photo along a side; above 1 it was enlarged."""
    is_mirrored: bool


@dataclass(frozen=True)
class Coded:
    """A picture as a file, and how it was coded."""

    image_bytes: bytes
    format: str
    quality: int | None
    subsampling: str | None
    is_progressive: bool


def sources(gold: Path) -> Mapping[str, Sequence[Source]]:
    """Return label -> photos, in order of name: the labelled ones, and scikit-image's under `noface`."""
    import skimage

    with (gold / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted((row for row in csv.DictReader(file) if row["file"] not in LEFT_OUT), key=lambda row: row["file"])
    by_label: dict[str, list[Source]] = {}
    for row in rows:
        source = Source(gold / "images" / row["file"], row["file"], max(int(row["width"]), int(row["height"])))
        by_label.setdefault(row["label"], []).append(source)
    for name in NO_FACE_PICTURES:
        path = Path(skimage.__file__).parent / "data" / name
        with Image.open(path) as image:
            by_label["noface"].append(Source(path, f"skimage/{name}", max(image.size)))
    return by_label


def long_side(numbers: np.random.Generator) -> int:
    """Return the longer side of one selected picture, pixels."""
    rank = 1 - LONG_SIDE["selected_share"] * (1 - numbers.random())
    normal = NormalDist(LONG_SIDE["log_median_px"], LONG_SIDE["log_sigma"])
    return min(MAX_LONG_SIDE_PX, round(float(np.exp(normal.inv_cdf(min(rank, 1 - 1e-9))))))


def cut(photos: Sequence[Source], label: str, numbers: np.random.Generator) -> Cut:
    """Return a window of one photo at a drawn size, mirrored or not, its light and colours a little changed.

    Photos that need not be enlarged go first, then those that need no more than twice; else the largest few are
    enlarged twice, and the picture is smaller than was drawn.
    """
    wanted, least = long_side(numbers), LEAST_WINDOW[label]
    large = [photo for photo in photos if photo.long_side_px * least >= wanted]
    middling = [photo for photo in photos if photo.long_side_px * least * MAX_ENLARGED >= wanted]
    pool = large if len(large) >= 3 else middling or sorted(photos, key=lambda photo: -photo.long_side_px)[:5]
    source = pool[int(numbers.integers(len(pool)))]
    window = _window(_pixels(source.path), least, numbers)
    scale = min(MAX_ENLARGED, wanted / max(window.shape[:2]))
    size = max(1, round(window.shape[1] * scale)), max(1, round(window.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = np.asarray(cv2.resize(window, size, interpolation=how), dtype=np.uint8)
    is_mirrored = label != "text" and bool(numbers.random() < 0.5)
    image = np.ascontiguousarray(image[:, ::-1]) if is_mirrored else image
    return Cut(_relit(image, numbers, label in {"bw", "sepia"}), source.name, scale, is_mirrored)


def coded(image: RgbImage, numbers: np.random.Generator) -> Coded:
    """Return the picture as a file: mostly JPEG, of drawn quality, chroma and scan order."""
    kind = str(numbers.choice(list(FORMAT_SHARES), p=list(FORMAT_SHARES.values())))
    quality = int(numbers.choice(list(QUALITY_SHARES), p=list(QUALITY_SHARES.values())))
    is_halved, is_progressive = (bool(numbers.random() < s) for s in (HALVED_CHROMA_SHARE, PROGRESSIVE_SHARE))
    file, picture = io.BytesIO(), Image.fromarray(image)
    if kind == "png":
        picture.save(file, "PNG", compress_level=6)
        return Coded(file.getvalue(), kind, None, None, is_progressive=False)
    if kind == "webp":
        picture.save(file, "WEBP", quality=quality)
        return Coded(file.getvalue(), kind, quality, None, is_progressive=False)
    subsampling = "4:2:0" if is_halved else "4:4:4"
    picture.save(file, "JPEG", quality=quality, subsampling=subsampling, progressive=is_progressive)
    return Coded(file.getvalue(), kind, quality, subsampling, is_progressive)


def _window(image: RgbImage, least: float, numbers: np.random.Generator) -> RgbImage:
    """Return a crop; heads stand near the top, so at most a third of what goes in height goes there."""
    height, width = image.shape[:2]
    tall, wide = (max(16, round(side * float(numbers.uniform(least, 1.0)))) for side in (height, width))
    top, left = round((height - tall) * float(numbers.uniform(0, 1 / 3))), int(numbers.integers(width - wide + 1))
    return image[top : top + tall, left : left + wide]


def _relit(image: RgbImage, numbers: np.random.Generator, is_toned: bool) -> RgbImage:
    """Change brightness and contrast, and for coloured pictures the balance of the channels, by a few percent."""
    gain, offset = float(numbers.uniform(0.92, 1.08)), float(numbers.uniform(-8, 8))
    balance = numbers.uniform(0.96, 1.04, size=3).astype(np.float32)
    gains = np.full(3, gain, dtype=np.float32) if is_toned else balance * np.float32(gain)
    return (image.astype(np.float32) * gains + np.float32(offset)).round().clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=24)
def _pixels(path: Path) -> RgbImage:
    with Image.open(path) as image:
        if image.mode in {"RGBA", "LA", "P"}:
            white = Image.new("RGBA", image.size, "white")
            return np.array(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
        return np.array(image.convert("RGB"))

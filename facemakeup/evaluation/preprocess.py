"""From a picture to what a network takes, as the `preprocessor_config.json` beside its weights says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curation.errors import UsageError
from facemakeup.faces.align import Floats
from filters.base import RgbImage


@dataclass(frozen=True)
class Preprocessing:
    """Resize, then crop, then take mean and deviation out of pixels in 0..1."""

    resize: int | tuple[int, int]
    """Pixels: of the shorter side, or height and width whatever the shape."""
    crop: int | None
    """Side of the square that is cut from the middle; None cuts nothing."""
    resample: Image.Resampling
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read what lies beside a network of transformers.

        Raises:
            UsageError: there is no such file, or it does not say what is needed.
        """
        path = folder / "preprocessor_config.json"
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            crop = _side(config.get("crop_size", config["size"])) if config.get("do_center_crop") else None
            return cls(
                _resize(config["size"], crop is not None),
                crop,
                Image.Resampling(config.get("resample", Image.Resampling.BILINEAR)),
                tuple(config["image_mean"]),
                tuple(config["image_std"]),
            )
        except OSError as error:
            raise UsageError(f"{path}: how pictures are prepared for the network is not there: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: does not say how pictures are prepared: {error!r}") from error

    def __call__(self, rgb: RgbImage) -> Floats:
        """Return float32 (3, H, W)."""
        picture = Image.fromarray(rgb)
        picture = picture.resize(self._target(*picture.size), self.resample)
        if self.crop is not None:
            left, top = (picture.width - self.crop) // 2, (picture.height - self.crop) // 2
            picture = picture.crop((left, top, left + self.crop, top + self.crop))
        pixels = np.asarray(picture, dtype=np.float32) / 255
        normal = (pixels - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))

    def _target(self, width: int, height: int) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        short = min(width, height)
        return int(self.resize * width / short), int(self.resize * height / short)


def squash(rgb: RgbImage, side: int, resample: Image.Resampling) -> RgbImage:
    """Return a square picture, whatever the shape was; antialiased where it shrinks, as Pillow does."""
    return np.asarray(Image.fromarray(rgb).resize((side, side), resample), dtype=np.uint8)


def centre_square(rgb: RgbImage) -> RgbImage:
    """Return the middle of a picture, as wide as its shorter side."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return rgb[top : top + side, left : left + side]


def _side(size: Any) -> int:
    return int(size["height"] if isinstance(size, dict) else size)


def _resize(size: Any, is_cropped: bool) -> int | tuple[int, int]:
    """Return the target; a bare number means the shorter side where a crop follows, else a square."""
    if isinstance(size, dict):
        return int(size["shortest_edge"]) if "shortest_edge" in size else (int(size["height"]), int(size["width"]))
    return int(size) if is_cropped else (int(size), int(size))

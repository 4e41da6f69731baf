"""CRAFT (Baek et al., arXiv 1904.01941) through the easyocr package: where text is, not what it says."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage
from filters.loading import single_thread, single_thread_torch, torch_device, torch_state_dict

_MAX_ASPECT = 32
"""Longer pictures are padded to this shape: EasyOCR's resize cannot make a side of less than one pixel."""

Floats = npt.NDArray[np.float32]
Polygon = tuple[float, ...]
"""x, y of the corners, clockwise."""


@dataclass(frozen=True)
class TextRegion:
    """A word or a line, in pixels of the decoded picture; it may reach beyond the picture."""

    polygon: Polygon
    num_characters: int
    """EasyOCR's estimate: separate peaks of the text map where the link map is low."""


class Craft:
    """Quadrilaterals around words or lines, by EasyOCR's network, resize and post-processing.

    EasyOCR's own loader is left aside because it unpickles whatever the file holds.
    """

    def __init__(
        self,
        weights: str,
        *,
        canvas_side: int,
        mag_ratio: float,
        text_threshold: float,
        link_threshold: float,
        low_text: float,
        dtype: str,
        device: str,
    ) -> None:
        """Load the network; see `filters.text.Measure` for what the parameters mean."""
        single_thread()
        single_thread_torch()
        import torch
        from easyocr.craft import CRAFT

        network = CRAFT()
        network.load_state_dict(torch_state_dict(weights))
        self._device = torch_device(device)
        self._dtype: Any = getattr(torch, dtype)
        self._network = network.eval().to(self._device, self._dtype, memory_format=torch.channels_last)
        self._canvas_side = canvas_side
        self._mag_ratio = mag_ratio
        self._thresholds = (text_threshold, link_threshold, low_text)

    def detect(self, image: RgbImage) -> tuple[TextRegion, ...]:
        """Return the text regions of a picture in its own pixels."""
        from easyocr.craft_utils import adjustResultCoordinates, getDetBoxes
        from easyocr.imgproc import normalizeMeanVariance, resize_aspect_ratio

        resized, scale, _ = resize_aspect_ratio(
            _within_aspect(image), self._canvas_side, interpolation=1, mag_ratio=self._mag_ratio
        )
        text_HW, link_HW = self._heat_maps(normalizeMeanVariance(resized))
        boxes, _, counts = getDetBoxes(text_HW, link_HW, *self._thresholds, poly=False, estimate_num_chars=True)
        quadrilaterals = adjustResultCoordinates(boxes, 1 / scale, 1 / scale)
        return tuple(
            TextRegion(tuple(float(x) for x in np.ravel(corners)), int(count))
            for corners, count in zip(quadrilaterals, counts, strict=True)
        )

    def _heat_maps(self, normalised_HWC: Floats) -> tuple[Floats, Floats]:
        import torch

        pixels_NCHW = torch.from_numpy(normalised_HWC).permute(2, 0, 1)[None]
        pixels_NCHW = pixels_NCHW.to(self._device, self._dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            maps_HW2 = self._network(pixels_NCHW)[0][0].float().cpu().numpy()
        return maps_HW2[:, :, 0], maps_HW2[:, :, 1]


def _within_aspect(image: RgbImage) -> RgbImage:
    height, width = image.shape[:2]
    shortest = -(-max(height, width) // _MAX_ASPECT)
    padding = ((0, max(0, shortest - height)), (0, max(0, shortest - width)), (0, 0))
    return image if not any(after for _, after in padding) else np.pad(image, padding)

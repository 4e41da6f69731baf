"""CRAFT (Baek et al., arXiv 1904.01941) with EasyOCR's weights: where text is, not what it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage, WeightsFile
from filters.batching import Look, Outputs, in_process
from filters.boxes import Box
from filters.conversion.pixels import Pixels
from filters.detectors.craft_boxes import map_boxes
from filters.detectors.export import exported
from filters.device.client import served
from filters.loading import Network, onnx_network, single_thread, single_thread_torch, torch_device, torch_state_dict

_MAX_ASPECT = 32
"""Longer pictures are padded to this shape: EasyOCR's resize cannot make a side of less than one pixel."""
_MULTIPLE = 32
_MAP_SCALE = 2
"""Canvas pixels per pixel of the maps."""
_MEAN = np.array([0.485 * 255, 0.456 * 255, 0.406 * 255], dtype=np.float32)
_STD = np.array([0.229 * 255, 0.224 * 255, 0.225 * 255], dtype=np.float32)
PIXELS = Pixels(mean=tuple(map(float, _MEAN)), std=tuple(map(float, _STD)))
"""The same for a network that takes pixels."""

Floats = npt.NDArray[np.float32]
Polygon = tuple[float, ...]
"""x, y of the corners, clockwise."""
Window = tuple[int, int, int, int]
"""Left, top, right, bottom in canvas pixels."""


@dataclass(frozen=True)
class TextRegion:
    """A word or a line, in pixels of the decoded picture; it may reach beyond the picture."""

    polygon: Polygon
    num_characters: int
    """EasyOCR's estimate: separate peaks of the text map where the link map is low."""


class Craft:
    """Quadrilaterals around words or lines: EasyOCR's network, resize and boxes, on one of three runtimes.

    EasyOCR's own loader is left aside because it unpickles whatever the file holds, and its package because importing
    any part of it imports torch; only the runtime "torch" does.
    """

    def __init__(
        self,
        weights: WeightsFile,
        *,
        canvas_side: int,
        mag_ratio: float,
        text_threshold: float,
        link_threshold: float,
        low_text: float,
        runtime: str,
        dtype: str,
        device: str,
    ) -> None:
        """Load the network; see `filters.text.Measure` for what the parameters mean."""
        single_thread()
        self._look = self._looking(weights, runtime, dtype, device)
        self._canvas_side = canvas_side
        self._mag_ratio = mag_ratio
        self._thresholds = (text_threshold, link_threshold, low_text)

    def detect_all(
        self, images: Sequence[RgbImage], spots: Sequence[Sequence[Box]] | None = None, margin_px: int = 0
    ) -> list[tuple[TextRegion, ...]]:
        """Return the text regions of each picture in its own pixels.

        Where boxes are given for every picture, the network sees only windows of the canvas around them, `margin_px`
        canvas pixels wider on each side, and takes the rest for blank.
        """
        laid = [on_canvas(_within_aspect(image), self._canvas_side, self._mag_ratio) for image in images]
        seen = [
            [(0, 0, canvas.shape[1], canvas.shape[0])]
            if spots is None
            else windows(spots[i], scale, margin_px, canvas.shape[1], canvas.shape[0])
            for i, (canvas, scale) in enumerate(laid)
        ]
        outputs = iter(self._look([_cut(laid[i][0], window) for i, own in enumerate(seen) for window in own]))
        regions = []
        for (canvas, scale), own in zip(laid, seen, strict=True):
            maps_HW2 = np.zeros((canvas.shape[0] // _MAP_SCALE, canvas.shape[1] // _MAP_SCALE, 2), dtype=np.float32)
            for window in own:
                left, top, right, bottom = (x // _MAP_SCALE for x in window)
                (maps_HW2[top:bottom, left:right],) = next(outputs)
            regions.append(self._regions(maps_HW2, scale))
        return regions

    def _looking(self, weights: WeightsFile, runtime: str, dtype: str, device: str) -> Look:
        """Return the network, a device server's where there is one and onnxruntime runs it."""
        if runtime == "torch":
            self._network = _torch_network(weights.path, device, dtype)
        else:
            export = exported(weights, "craft_int8" if dtype == "int8" else "craft")
            arithmetic = "float32" if dtype == "int8" else dtype
            look = served(lambda: export, arithmetic) if runtime == "onnxruntime" else None
            if look is not None:
                return look
            self._network = onnx_network(str(export), device, runtime, arithmetic)
        return in_process(_network_input, self._run, device)

    def _run(self, pixels_NCHW: Floats) -> Outputs:
        return (self._network(pixels_NCHW),)

    def _regions(self, maps_HW2: Floats, scale: float) -> tuple[TextRegion, ...]:
        boxes = map_boxes(maps_HW2[:, :, 0], maps_HW2[:, :, 1], *self._thresholds)
        to_picture = 1 / scale * _MAP_SCALE
        return tuple(TextRegion(_scaled(box.corners, to_picture), box.num_characters) for box in boxes)


def on_canvas(image: RgbImage, side: int, mag_ratio: float) -> tuple[RgbImage, float]:
    """Return a picture, its longer side `mag_ratio` times as long but at most `side`, on black to multiples of 32.

    Also returns canvas pixels per picture pixel. This is EasyOCR's `resize_aspect_ratio`.
    """
    import cv2

    longer = max(image.shape[:2])
    scale = min(mag_ratio * longer, side) / longer
    height, width = int(image.shape[0] * scale), int(image.shape[1] * scale)
    rows, columns = -(-height // _MULTIPLE) * _MULTIPLE, -(-width // _MULTIPLE) * _MULTIPLE
    canvas = np.zeros((rows, columns, 3), dtype=np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas, scale


def windows(spots: Sequence[Box], scale: float, margin_px: int, width: int, height: int) -> list[Window]:
    """Return windows around boxes of a picture, their edges at multiples of 32; none overlaps another.

    Boxes are in pixels of the picture, at `scale` canvas pixels each, `margin_px` and the windows in canvas pixels.
    """
    import cv2

    cells = np.zeros((height // _MULTIPLE, width // _MULTIPLE), dtype=np.uint8)
    for box in spots:
        left, top, right, bottom = (x * scale for x in box)
        rows = slice(_cell(top - margin_px), _cell(bottom + margin_px) + 1)
        cells[rows, _cell(left - margin_px) : _cell(right + margin_px) + 1] = 1
    rectangles: list[list[int]] = []
    is_done = False
    while not is_done:  # the rectangle around one piece may reach into another's: together they are one
        num_labels, _, stats, _ = cv2.connectedComponentsWithStats(cells, connectivity=8)
        rectangles = stats[1:num_labels, :4].tolist()
        is_done = int(cells.sum()) == sum(across * down for _, _, across, down in rectangles)
        for left, top, across, down in rectangles:
            cells[top : top + down, left : left + across] = 1
    corners = ((left, top, left + across, top + down) for left, top, across, down in rectangles)
    return [
        (left * _MULTIPLE, top * _MULTIPLE, right * _MULTIPLE, bottom * _MULTIPLE)
        for left, top, right, bottom in corners
    ]


def _cell(x: float) -> int:
    return max(0, int(x // _MULTIPLE))


def _cut(canvas_HWC: RgbImage, window: Window) -> RgbImage:
    left, top, right, bottom = window
    return canvas_HWC[top:bottom, left:right]


def _network_input(canvas_HWC: RgbImage) -> Floats:
    return np.ascontiguousarray(((canvas_HWC - _MEAN) / _STD).transpose(2, 0, 1))


def _scaled(corners: Floats, factor: float) -> Polygon:
    return tuple(float(np.float32(x * factor)) for x in corners.ravel().tolist())


def _torch_network(path: str, device: str, dtype: str) -> Network:
    single_thread_torch()
    import torch
    from easyocr.craft import CRAFT

    network = CRAFT()
    network.load_state_dict(torch_state_dict(path))
    place, kind = torch_device(device), getattr(torch, dtype)
    network = network.eval().to(place, kind, memory_format=torch.channels_last)

    def run(pixels_NCHW: Floats) -> Floats:
        tensor: Any = torch.from_numpy(pixels_NCHW).to(place, kind, memory_format=torch.channels_last)
        with torch.inference_mode():
            return np.asarray(network(tensor)[0].float().cpu().numpy(), dtype=np.float32)

    return run


def _within_aspect(image: RgbImage) -> RgbImage:
    height, width = image.shape[:2]
    shortest = -(-max(height, width) // _MAX_ASPECT)
    padding = ((0, max(0, shortest - height)), (0, max(0, shortest - width)), (0, 0))
    return image if not any(after for _, after in padding) else np.pad(image, padding)

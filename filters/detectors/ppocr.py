"""PP-OCR's text detector (differentiable binarization, arXiv 1911.08947): small, and quick to say where.

The network shrinks every text line by 0.4 of its offset and marks what is left; `grown` undoes that. RapidOCR and
PaddleOCR box the same map; boxes are formed here without their packages, and the map itself is kept as evidence.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage, WeightsFile
from filters.batching import Outputs, in_process
from filters.boxes import Letterbox, letterbox
from filters.conversion.pixels import Pixels
from filters.detectors.export import exported
from filters.device.client import served, server
from filters.loading import lay_out, onnx_network, single_thread

Floats = npt.NDArray[np.float32]
Corners = tuple[float, ...]
"""x, y of four corners in order around the rectangle."""

_MEAN_BGR = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_STD_BGR = np.array([0.229, 0.224, 0.225], dtype=np.float32)
"""ImageNet's figures in the order in which PaddleOCR trains with them: its pictures are BGR."""
_LEVELS_BGR = [
    (np.arange(256, dtype=np.float32) / 255 - mean) / std for mean, std in zip(_MEAN_BGR, _STD_BGR, strict=True)
]
"""What the network gets for each of the 256 levels of a channel, (3, 256)."""

PIXELS = Pixels(255, tuple(map(float, _MEAN_BGR)), tuple(map(float, _STD_BGR)), is_bgr=True)
"""The same for a network that takes pixels."""
NUM_REMEMBERED = 8
"""Maps, the last ones: a batch of `curate` has four pictures, and two sides are asked for."""
_NUM_BINS = 20
_MAX_REGIONS = 1000
"""PaddleOCR's own limit; the largest stay."""


@dataclass(frozen=True)
class MapRegion:
    """One connected piece of the map, shrunk as the network shrinks it, in pixels of the decoded picture."""

    corners: Corners
    """Smallest rectangle around it, at any angle."""
    picture_fraction: float
    """Share of the picture that the piece itself covers, 0..1."""
    mean: float
    peak: float
    """Mean and greatest probability within it, 0..1."""


@dataclass(frozen=True)
class TextMap:
    """What the map of one picture holds."""

    histogram: tuple[int, ...]
    """Map pixels by probability, in 20 equal bins from 0 to 1."""
    regions: tuple[MapRegion, ...]
    """Largest first."""


class ProbabilityMaps:
    """The network, and the maps that it gave last: a filter that asks for the same as the one before it gets that.

    The network's input is float32 NCHW, BGR, ImageNet's normalisation, sides multiples of 32; its output, (1, 1, H, W),
    has the input's size.
    """

    def __init__(self, path: str, device: str, runtime: str, dtype: str) -> None:
        """Load an ONNX file."""
        look = served(lambda: Path(path), dtype) if runtime == "onnxruntime" else None
        if look is None:
            self._network = onnx_network(path, device, runtime, dtype)
            look = in_process(_network_input, self._run, device)
        self._look = look
        self._recent: dict[tuple[tuple[int, ...], bytes], Floats] = {}

    def of(self, canvases: Sequence[RgbImage]) -> list[Floats]:
        """Return the map (H, W), 0..1, of each canvas."""
        keys = [(canvas.shape, hashlib.sha256(canvas.data).digest()) for canvas in canvases]
        new = {key: canvas for key, canvas in zip(keys, canvases, strict=True) if key not in self._recent}
        outputs = self._look(list(new.values()))
        known = self._recent | {key: maps[0] for key, (maps,) in zip(new, outputs, strict=True)}
        self._recent = {key: known[key] for key in list(known)[len(known) - NUM_REMEMBERED :]}
        return [known[key] for key in keys]

    def _run(self, pixels_NCHW: Floats) -> Outputs:
        return (self._network(pixels_NCHW),)


_LOADED: WeakValueDictionary[tuple[str, ...], ProbabilityMaps] = WeakValueDictionary()


def probability_maps(*named: str) -> ProbabilityMaps:
    """Return the network of a file, device, runtime and dtype, the same one to all who ask while any of them has it."""
    key = (*named, *server())
    maps = _LOADED.get(key)
    if maps is None:
        maps = _LOADED[key] = ProbabilityMaps(*named)
    return maps


class PpOcr:
    """Where text may be, from the picture at a fixed longer side."""

    def __init__(
        self,
        weights: WeightsFile,
        *,
        side: int,
        floor: float,
        min_region_px: int,
        runtime: str,
        dtype: str,
        device: str,
    ) -> None:
        """Load the network, which is folded where this machine has not done so (decision 0078).

        `filters.text_map.Measure` says what the parameters mean.
        """
        single_thread()
        self._maps = probability_maps(str(exported(weights, "ppocr")), device, runtime, dtype)
        self._side = side
        self._floor = floor
        self._min_region_px = min_region_px

    def detect_all(self, images: Sequence[RgbImage]) -> list[TextMap]:
        """Return histogram and regions of each picture's map."""
        canvases = [letterbox(image.shape[1], image.shape[0], self._side, centred=False) for image in images]
        maps = self._maps.of([lay_out(image, canvas, 0) for image, canvas in zip(images, canvases, strict=True)])
        return [
            self._text_map(map_HW, canvas, image) for map_HW, canvas, image in zip(maps, canvases, images, strict=True)
        ]

    def _text_map(self, map_HW: Floats, canvas: Letterbox, image: RgbImage) -> TextMap:
        height, width = image.shape[:2]
        map_HW = map_HW[: canvas.height, : canvas.width]
        bins = np.minimum((map_HW * np.float32(_NUM_BINS)).astype(np.uint8), _NUM_BINS - 1)
        counts = np.bincount(bins.ravel(), minlength=_NUM_BINS)
        pieces = regions(map_HW, self._floor, self._min_region_px, canvas.width / width, canvas.height / height)
        return TextMap(tuple(int(count) for count in counts), pieces)


def _network_input(canvas_HWC: RgbImage) -> Floats:
    import cv2

    planes_BGR = cv2.split(canvas_HWC)[::-1]
    return np.stack([cv2.LUT(plane, levels) for plane, levels in zip(planes_BGR, _LEVELS_BGR, strict=True)])


def regions(map_HW: Floats, floor: float, min_region_px: int, scale_x: float, scale_y: float) -> tuple[MapRegion, ...]:
    """Return the pieces of a map above `floor` (0..1) of at least `min_region_px` pixels, largest first.

    `scale_x` and `scale_y` are map pixels per picture pixel.
    """
    import cv2

    above = (map_HW > floor).astype(np.uint8)
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    sizes = stats[1:num_labels, cv2.CC_STAT_AREA]
    largest_first = [int(row) + 1 for row in np.argsort(-sizes, kind="stable") if sizes[row] >= min_region_px]
    pieces = []
    for label in largest_first[:_MAX_REGIONS]:
        left, top, width, height, size = (int(value) for value in stats[label])
        window = slice(top, top + height), slice(left, left + width)
        inside = labels[window] == label
        probabilities = map_HW[window][inside]
        corners = _rectangle(inside) + np.array([left, top], dtype=np.float32)
        corners /= np.array([scale_x, scale_y], dtype=np.float32)
        share, mean, peak = size / map_HW.size, float(probabilities.mean()), float(probabilities.max())
        pieces.append(MapRegion(tuple(float(x) for x in corners.ravel()), share, mean, peak))
    return tuple(pieces)


def grown(corners: Corners, unclip: float) -> tuple[Corners, float, float]:
    """Return a region's rectangle with its sides moved out, and its longer and shorter side.

    The sides move by area * `unclip` / perimeter, as PaddleOCR's post-processing does (it takes 1.5).
    """
    points = np.reshape(np.array(corners, dtype=np.float64), (4, 2))
    along, across = points[1] - points[0], points[3] - points[0]
    length, breadth = float(np.hypot(*along)), float(np.hypot(*across))
    if length == 0 or breadth == 0:
        return corners, max(length, breadth), min(length, breadth)
    distance = length * breadth * unclip / (2 * (length + breadth))
    out_along, out_across = along / length * distance, across / breadth * distance
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    moved = [point + x * out_along + y * out_across for point, (x, y) in zip(points, signs, strict=True)]
    sides = length + 2 * distance, breadth + 2 * distance
    return tuple(float(x) for x in np.ravel(moved)), max(sides), min(sides)


def _rectangle(inside_HW: npt.NDArray[np.bool_]) -> Floats:
    """Return the corners, (4, 2), of the smallest rectangle around pixels, each taken as a square of side 1."""
    import cv2

    outline, _ = cv2.findContours(inside_HW.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    (x, y), (width, height), angle = cv2.minAreaRect(np.concatenate(outline))
    return np.asarray(cv2.boxPoints(((x + 0.5, y + 0.5), (width + 1, height + 1), angle)), dtype=np.float32)

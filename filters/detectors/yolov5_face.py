"""YOLOv5-face (Qi et al., arXiv 2105.12931) as ONNX on onnxruntime: the face detector that the method names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from filters.base import RgbImage, WeightsFile
from filters.batching import Floats, Look, Outputs, in_process
from filters.boxes import Letterbox, letterbox
from filters.conversion.pixels import Pixels
from filters.detectors.base import Face, FaceDetector, faces_on_canvas
from filters.detectors.export import exported
from filters.device.client import served
from filters.loading import Network, lay_out, onnx_session, single_thread, with_dtype
from filters.weights import sha256_of

PIXELS = Pixels(divisor=255)
"""What the network takes."""
_GREY = 114
"""The margin that the network was trained with."""
_NEARLY = 0.99
"""How much of the confidence floor objectness must pass: less than all, so that no rounding loses a face."""


class Yolov5Face(FaceDetector):
    """Face boxes with five landmarks from a network in deepcam's export layout.

    Its input is float32 NCHW, RGB / 255, sides multiples of 32; its output is (1, anchors, 16): centre x, centre y,
    width, height, objectness, five landmarks x, y, class score, all in input pixels. Of networks that
    `filters.conversion` wrote only rows that may pass the confidence floor are computed (decision 0079).
    """

    def __init__(
        self, weights: str, *, side: int, confidence_floor: float, max_iou: float, device: str, dtype: str = "float32"
    ) -> None:
        """Load the network; `side` is the longer side of the canvas in pixels."""
        single_thread()
        self._side = side
        self._confidence_floor = confidence_floor
        self._max_iou = max_iou
        self._dtype = dtype
        self._look = self._looking(weights, device)

    def detect_all(self, images: Sequence[RgbImage]) -> list[tuple[Face, ...]]:
        """Return the faces of each picture."""
        canvases = [letterbox(image.shape[1], image.shape[0], self._side) for image in images]
        outputs = self._look([lay_out(image, canvas, _GREY) for image, canvas in zip(images, canvases, strict=True)])
        return [
            self._faces(rows, canvas, image) for (rows,), canvas, image in zip(outputs, canvases, images, strict=True)
        ]

    def _looking(self, weights: str, device: str) -> Look:
        """Return the network, a device server's where there is one."""
        if (look := served(lambda: _export_of(weights), self._dtype, given=(self._least_objectness,))) is not None:
            return look
        self._network = self._load(weights, device)
        return in_process(network_input, self._run, device)

    @property
    def _least_objectness(self) -> float:
        return _NEARLY * self._confidence_floor

    def _load(self, weights: str, device: str) -> Network:
        session = onnx_session(with_dtype(_decoding_candidates(weights), device, self._dtype), device)
        pixels, *others = (value.name for value in session.get_inputs())
        given = dict.fromkeys(others, np.array(self._least_objectness, np.float32))
        return lambda pixels_NCHW: np.asarray(session.run(None, {pixels: pixels_NCHW, **given})[0], dtype=np.float32)

    def _run(self, pixels_NCHW: Floats) -> Outputs:
        return (self._network(pixels_NCHW),)

    def _faces(self, rows: Floats, canvas: Letterbox, image: RgbImage) -> tuple[Face, ...]:
        scores = rows[:, 4] * rows[:, 15]
        rows, scores = rows[scores > self._confidence_floor], scores[scores > self._confidence_floor]
        half = rows[:, 2:4] / 2
        boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
        return faces_on_canvas(boxes, scores, rows[:, 5:15], canvas, image, self._max_iou)


def _decoding_candidates(weights: str) -> str:
    """Return where the network lies that decodes candidates alone; where nothing can be kept, that of all boxes."""
    try:
        return str(_export_of(weights))
    except OSError:
        return weights


def _export_of(weights: str) -> Path:
    return exported(WeightsFile(Path(weights).name, weights, sha256_of(Path(weights))), "yolov5_face")


def network_input(canvas_HWC: RgbImage) -> Floats:
    """Return a canvas as the network takes it, (3, H, W)."""
    return canvas_HWC.transpose(2, 0, 1).astype(np.float32) / np.float32(255)

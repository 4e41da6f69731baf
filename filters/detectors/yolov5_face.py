"""YOLOv5-face (Qi et al., arXiv 2105.12931) as ONNX on onnxruntime: the face detector that the method names."""

import numpy as np

from filters.base import RgbImage
from filters.boxes import letterbox
from filters.detectors.base import Face, faces_on_canvas
from filters.loading import lay_out, onnx_session, single_thread

_GREY = 114
"""The margin that the network was trained with."""


class Yolov5Face:
    """Face boxes with five landmarks from a network in deepcam's export layout.

    Its input is float32 NCHW, RGB / 255, sides multiples of 32; its output is (1, anchors, 16): centre x, centre y,
    width, height, objectness, five landmarks x, y, class score, all in input pixels.
    """

    def __init__(self, weights: str, *, side: int, confidence_floor: float, max_iou: float, device: str) -> None:
        """Load the network; `side` is the longer side of the canvas in pixels."""
        single_thread()
        self._session = onnx_session(weights, device)
        self._input: str = self._session.get_inputs()[0].name
        self._side = side
        self._confidence_floor = confidence_floor
        self._max_iou = max_iou

    def detect(self, image: RgbImage) -> tuple[Face, ...]:
        """Return every face above the confidence floor, most confident first."""
        canvas = letterbox(image.shape[1], image.shape[0], self._side)
        pixels_HWC = lay_out(image, canvas, _GREY)
        pixels_NCHW = pixels_HWC.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        rows = self._session.run(None, {self._input: pixels_NCHW})[0][0]
        scores = rows[:, 4] * rows[:, 15]
        rows, scores = rows[scores > self._confidence_floor], scores[scores > self._confidence_floor]
        half = rows[:, 2:4] / 2
        boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
        return faces_on_canvas(boxes, scores, rows[:, 5:15], canvas, image, self._max_iou)

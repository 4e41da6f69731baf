"""EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946): what a picture looks like, as numbers that a head can weigh."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage, WeightsFile
from filters.batching import Outputs, in_process
from filters.conversion.pixels import Pixels
from filters.detectors.efficientnet_lite_export import SIDE
from filters.detectors.export import exported
from filters.device.client import served
from filters.loading import onnx_network, resize, shrink, single_thread

Floats = npt.NDArray[np.float32]

PIXELS = Pixels(mean=(127,), std=(128,))
"""What the network takes."""
NUM_FEATURES = 1584
"""Mean and deviation of 40 and of 112 channels inside the network, and the 1280 channels at its end."""
NUM_INSIDE = 304
"""How many of them lie inside the network; the others, at its end, are never below 0."""


class EfficientNetLite:
    """The features of whole pictures, each squeezed into 224 x 224 pixels.

    The network's input is float32 NCHW, RGB, (x - 127) / 128.
    """

    def __init__(self, weights: WeightsFile, *, device: str) -> None:
        """Load the network; it is exported to ONNX where this machine has not done so."""
        single_thread()
        export = exported(weights, "efficientnet_lite")
        look = served(lambda: export)
        if look is None:
            self._network = onnx_network(str(export), device, "onnxruntime", "float32")
            look = in_process(_network_input, self._run, device)
        self._look = look

    def features(self, images: Sequence[RgbImage]) -> list[Floats]:
        """Return the features of each picture, (1584,)."""
        return [features for (features,) in self._look([_squeezed(image) for image in images])]

    def _run(self, pixels_NCHW: Floats) -> Outputs:
        return (self._network(pixels_NCHW),)


def _squeezed(image: RgbImage) -> RgbImage:
    # Nearly the mean over areas, at a sixth of its cost; shrinking alone leaves jagged lines, as drawings have.
    return resize(shrink(image, 2 * SIDE, 2 * SIDE), SIDE, SIDE)


def _network_input(canvas_HWC: RgbImage) -> Floats:
    return np.ascontiguousarray((canvas_HWC.astype(np.float32).transpose(2, 0, 1) - 127) / 128, dtype=np.float32)

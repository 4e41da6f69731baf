"""The anime-or-photo classifier that the anime-or-not wheel carries, for demos where no cascade can be had."""

import numpy as np

from filters.base import RgbImage
from filters.loading import onnx_session, single_thread

_SIDE = 224
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


class AnimeOrNot:
    """One probability per picture, from the whole picture squeezed into 224 x 224 pixels."""

    def __init__(self, weights: str, *, device: str) -> None:
        """Load the network."""
        single_thread()
        self._session = onnx_session(weights, device)
        self._input: str = self._session.get_inputs()[0].name

    def probability(self, image: RgbImage) -> float:
        """Return how likely the picture is drawn, 0..1."""
        from PIL import Image

        small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        pixels_HWC = (np.asarray(small, dtype=np.float32) / np.float32(255) - _MEAN) / _STD
        photo, drawn = self._session.run(None, {self._input: pixels_HWC.transpose(2, 0, 1)[None]})[0][0]
        return float(1 / (1 + np.exp(float(photo) - float(drawn))))

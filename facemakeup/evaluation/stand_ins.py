"""Real networks that anyone can have: two recognisers that condition nothing, traits of faces, features for distances.

They stand in where the published judges cannot be had, and are named as what they are.
"""

from typing import Any

import numpy as np
from PIL import Image

from facemakeup.config import Recogniser
from facemakeup.evaluation.preprocess import squash
from facemakeup.evaluation.traits import Traits
from facemakeup.faces.align import ARCFACE_SIDE, Floats, Landmarks, align, unit
from filters.base import RgbImage, WeightsFile
from filters.loading import onnx_session

FACERES, MOBILEFACE, EMOTION, MIXED5 = "faceres", "mobileface", "emotion", "nsfwjs_inception_v3_mixed5"
"""Their names in the catalogue of weights."""
FACERES_SIDE, EMOTION_SIDE, INCEPTION_SIDE = 224, 64, 299
BGR_MEAN = (103.939, 116.779, 123.68)
"""Of ImageNet, 0..255, as the network that faceres grew from was taught."""
GREY = (0.2989, 0.587, 0.114)
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


class OnnxPictures:
    """An ONNX network that takes pictures with channels last."""

    def __init__(self, weights: WeightsFile, device: str) -> None:
        """Load it."""
        self._session = onnx_session(weights.path, device)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels_HWC: Floats) -> list[Floats]:
        """Return every output of one picture."""
        outputs: list[Any] = self._session.run(None, {self._input: pixels_HWC.astype(np.float32)[None]})
        return [np.asarray(output[0], dtype=np.float32) for output in outputs]


class Faceres:
    """HSE-FaceRes: 1,024 numbers of a face, its age and its gender."""

    def __init__(self, weights: WeightsFile, device: str = "cpu") -> None:
        """Load it."""
        self._network = OnnxPictures(weights, device)
        self.identity = Recogniser(name=weights.name, width=1024, sha256=weights.sha256)

    def embed(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return a unit vector; see `facemakeup.faces.recognisers.FaceRecogniser`."""
        return unit(self._run(rgb, landmarks_52)[0])

    def traits(self, rgb: RgbImage, landmarks_52: Landmarks) -> Traits:
        """Return the expected age in years, and the likelier gender."""
        _, ages, (male,) = self._run(rgb, landmarks_52)
        return Traits(age=float(ages @ np.arange(len(ages))), gender="male" if male > 0.5 else "female")

    def _run(self, rgb: RgbImage, landmarks_52: Landmarks) -> list[Floats]:
        face = align(rgb, landmarks_52, FACERES_SIDE).astype(np.float32)
        return self._network(face[..., ::-1] - np.array(BGR_MEAN, np.float32))


class MobileFace:
    """MobileFace: 256 numbers of a face; takes pixels 0..255."""

    def __init__(self, weights: WeightsFile, device: str = "cpu") -> None:
        """Load it."""
        self._network = OnnxPictures(weights, device)
        self.identity = Recogniser(name=weights.name, width=256, sha256=weights.sha256)

    def embed(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return a unit vector; see `facemakeup.faces.recognisers.FaceRecogniser`."""
        return unit(self._network(align(rgb, landmarks_52, ARCFACE_SIDE).astype(np.float32))[0])


class Emotion:
    """Which of seven expressions a face shows."""

    def __init__(self, weights: WeightsFile, device: str = "cpu") -> None:
        """Load it."""
        self._network = OnnxPictures(weights, device)

    def expression(self, rgb: RgbImage, landmarks_52: Landmarks) -> str:
        """Return the likeliest of `EXPRESSIONS`."""
        face = align(rgb, landmarks_52, EMOTION_SIDE).astype(np.float32) / 255
        grey = np.asarray(face @ np.array(GREY, np.float32), dtype=np.float32)[..., None]
        return EXPRESSIONS[int(self._network((grey - 0.5) * 2)[0].argmax())]


class Mixed5:
    """768 features of a picture: mean of `mixed5` of an InceptionV3 whose first layers are ImageNet's.

    Later layers were trained to tell indecent pictures, and a distance of theirs does not rise with damage.
    """

    def __init__(self, weights: WeightsFile, device: str = "cpu") -> None:
        """Load it."""
        self._network = OnnxPictures(weights, device)

    def features(self, rgb: RgbImage) -> Floats:
        """Return 768 features of a picture, squashed to a square."""
        square = squash(rgb, INCEPTION_SIDE, Image.Resampling.BICUBIC).astype(np.float32)
        return self._network(square / 127.5 - 1)[0]

"""What of a face PuLID shows to EVA-CLIP: an aligned grey face on white, without hat, ears, neck and background."""

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from facemakeup.evaluation.generators.base import Reference
from facemakeup.evaluation.generators.checkpoints import CheckpointSource, fetch_file, offering
from facemakeup.faces.align import Floats, similarity
from filters.base import RgbImage
from filters.loading import onnx_session
from filters.weights import sha256_of

SIDE = 512
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""Where the landmarks come to lie in the square of 512 pixels, as in FFHQ's smaller alignment (facexlib)."""
BACKGROUND = (0, 7, 8, 9, 14, 15, 16, 18)
"""Classes of CelebAMask-HQ that are painted white: background, ears, earrings, neck, necklace, cloth, hat."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
Mask = npt.NDArray[np.bool_]


OFFER = (
    "the method's own face parser is no ONNX: facexlib's BiSeNet (`parsing_bisenet.pth` of its releases, MIT) has to "
    "be converted, or `parser` left out, and then nothing is painted white"
)


class FaceParser(Protocol):
    """Tells what of an aligned face is painted white."""

    sha256: str

    def background(self, aligned: RgbImage) -> Mask:
        """Return (512, 512), True where nothing of the face is."""
        ...


class OnnxParser:
    """A network with the 19 classes of CelebAMask-HQ; input RGB less ImageNet's mean, 512 x 512."""

    def __init__(self, place: CheckpointSource) -> None:
        """Load it; raises UsageError where the file is not there or is another."""
        with offering(OFFER):
            path: Path = fetch_file(place)
        self.sha256 = sha256_of(path.resolve())
        self._session = onnx_session(str(path), "cpu")
        self._input = self._session.get_inputs()[0].name

    def background(self, aligned: RgbImage) -> Mask:
        """Return where nothing of the face is; see `FaceParser`."""
        pixels = ((aligned.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)[None]
        logits = self._session.run(None, {self._input: pixels})[0]
        return np.isin(np.asarray(logits)[0].argmax(axis=0), BACKGROUND)


def shown_face(reference: Reference, parser: FaceParser | None) -> Floats:
    """Return the aligned face as EVA-CLIP is shown it, float32 (512, 512, 3) in 0..1; without a parser all of it, grey.

    Raises:
        SampleFaultError: the landmarks fit no face.
    """
    matrix = similarity(reference.face.landmarks_52, TEMPLATE)
    aligned = cv2.warpAffine(reference.rgb, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=(132, 133, 135))
    shown = np.repeat((aligned.astype(np.float32) / 255 @ GREY)[..., None], 3, axis=2)
    if parser is not None:
        shown[parser.background(np.asarray(aligned, dtype=np.uint8))] = 1.0
    return shown

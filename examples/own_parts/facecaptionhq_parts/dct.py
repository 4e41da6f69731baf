"""A face recogniser: the coarse light and shade of an aligned face, by the discrete cosine transform.

Light tells it more than who it is (Hafed and Levine, IJCV 43, 2001, say how far it goes), but it needs no weights.
"""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from facemakeup.config import Recogniser
from facemakeup.faces.align import ARCFACE_SIDE, Floats, Landmarks, align, unit
from facemakeup.faces.recognisers import FaceRecogniser
from filters.base import RgbImage

SIDE, NUM_FREQUENCIES = 32, 8


class Dct(FaceRecogniser):
    """63 numbers: the lowest frequencies across and down, but the mean."""

    def __init__(self) -> None:
        """Say who it is; what other recognisers have weights for stands in this very file."""
        sha256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self.identity = Recogniser(name="dct", width=NUM_FREQUENCIES**2 - 1, sha256=sha256)

    def embed(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return a unit vector, float32 (63,)."""
        luma = cv2.cvtColor(align(rgb, landmarks_52, ARCFACE_SIDE), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        return unit(cv2.dct(small)[:NUM_FREQUENCIES, :NUM_FREQUENCIES].ravel()[1:])


def build(device: str) -> Dct:
    """Return the recogniser; it runs on the CPU whatever the device."""
    return Dct()

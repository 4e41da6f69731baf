"""From a picture and its landmarks to what the encoders see: aligned faces, and the pixels that CLIP takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from facemakeup.faults import SampleFaultError
from filters.base import RgbImage

Landmarks = npt.NDArray[np.float64]
"""Shape (5, 2), x and y in pixels; left eye, right eye, nose, left and right mouth corner, as the viewer sees them."""
Floats = npt.NDArray[np.float32]

ARCFACE_SIDE = 112
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where the five landmarks of a frontal face lie in an aligned crop of 112 x 112 pixels (deepinsight/insightface)."""


@dataclass(frozen=True)
class ClipCrop:
    """How a face is cut out for CLIP: aligned to a template in a square, then resized to CLIP's input."""

    side: int
    """Side of the square, pixels."""
    base: int
    """Side of the square that the template is scaled from; the template lies in the middle of it from left to right."""

    @property
    def template_52(self) -> Landmarks:
        """Where the landmarks of a frontal face come to lie, in pixels of the square."""
        moved: Landmarks = ARCFACE_TEMPLATE + np.array([(self.base - ARCFACE_SIDE) / 2, 0.0])
        return moved * (self.side / self.base)


CLIP_CROPS: Mapping[str, ClipCrop] = MappingProxyType(
    {
        "insightface-512": ClipCrop(512, 128),
        "ip-adapter-224": ClipCrop(224, 112),
        "arcface-512": ClipCrop(512, 112),
    }
)
"""Name -> what it does. insightface's `norm_crop` takes 128 as the base of sides that are no multiple of 112; so at
512, which the published training asks for, it shows a seventh more of the head than at 224, which IP-Adapter's
examples ask for. `arcface-512` is what releases up to 0.2.0 did."""
CLIP_CROP_BEFORE = "arcface-512"
"""That of adapters and faces which do not say."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per channel, of pixels in 0..1 (openai/CLIP)."""
MIN_SPREAD_PX = 1.0
"""Landmarks nearer to one another than this fit no face."""


def similarity(source_N2: Landmarks, target_N2: Landmarks) -> npt.NDArray[np.float64]:
    """Return the (2, 3) similarity transform that brings `source` nearest to `target` in least squares.

    Rotation, one scale and a shift, never a reflection (Umeyama, IEEE TPAMI 13(4), 1991, equations 40 to 43).

    Raises:
        SampleFaultError: the points are not finite, or lie in one place.
    """
    source_mean, target_mean = source_N2.mean(axis=0), target_N2.mean(axis=0)
    source, target = source_N2 - source_mean, target_N2 - target_mean
    variance = (source**2).sum() / len(source)
    if not np.isfinite(source_N2).all() or np.sqrt(variance) < MIN_SPREAD_PX:
        raise SampleFaultError("degenerate_face", f"landmarks {np.round(source_N2, 1).tolist()}")
    u, singular, vt = np.linalg.svd(target.T @ source / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = (singular * signs).sum() / variance
    if not np.isfinite(scale) or scale <= 0:
        raise SampleFaultError("degenerate_face", f"landmarks {np.round(source_N2, 1).tolist()} fit no face")
    matrix = scale * rotation
    return np.column_stack([matrix, target_mean - matrix @ source_mean])


def align(rgb: RgbImage, landmarks_52: Landmarks, side: int, template: Landmarks = ARCFACE_TEMPLATE) -> RgbImage:
    """Return the face turned and scaled to the template, uint8 (side, side, 3); black where the picture ends.

    `template` is in pixels of a square of `ARCFACE_SIDE`.

    Raises:
        SampleFaultError: the landmarks fit no face.
    """
    return _warped(rgb, landmarks_52, side, template * (side / ARCFACE_SIDE))


def _warped(rgb: RgbImage, landmarks_52: Landmarks, side: int, target_52: Landmarks) -> RgbImage:
    import cv2

    matrix = similarity(landmarks_52, target_52)
    aligned = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(aligned, dtype=np.uint8)


def clip_face(rgb: RgbImage, landmarks_52: Landmarks, side: int, crop: str) -> RgbImage:
    """Return the aligned face in the size that CLIP takes, uint8 (side, side, 3); `crop` is a name in `CLIP_CROPS`.

    Raises:
        SampleFaultError: the landmarks fit no face.
    """
    how = CLIP_CROPS[crop]
    aligned = Image.fromarray(_warped(rgb, landmarks_52, how.side, how.template_52))
    return np.asarray(aligned.resize((side, side), Image.Resampling.BICUBIC))


def clip_pixels(rgb: RgbImage, landmarks_52: Landmarks, side: int, crop: str) -> Floats:
    """Return the aligned face as CLIP takes it: float32 (3, side, side), CLIP's mean and deviation taken out.

    Raises:
        SampleFaultError: the landmarks fit no face.
    """
    resized = clip_face(rgb, landmarks_52, side, crop).astype(np.float32) / 255
    normal = (resized - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def unit(vector_D: npt.NDArray[np.floating]) -> Floats:
    """Return the vector at length 1, float32.

    Raises:
        SampleFaultError: it has no direction.
    """
    length = float(np.linalg.norm(vector_D.astype(np.float64)))
    if not np.isfinite(length) or length < 1e-6:
        raise SampleFaultError("no_embedding", f"length {length}")
    return np.asarray(vector_D / length, dtype=np.float32)

"""From a picture and its landmarks to what the encoders see: aligned faces, and the pixels that CLIP takes."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from facemakeup.faults import SampleFaultError
from filters.base import RgbImage

ARCFACE_SIDE = 112
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where the five landmarks of a frontal face lie in an aligned crop of 112 x 112 pixels (deepinsight/insightface)."""
CLIP_ALIGNED_SIDE = 512
"""Side of the aligned face that is then resized to CLIP's input."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per channel, of pixels in 0..1 (openai/CLIP)."""
MIN_SPREAD_PX = 1.0
"""Landmarks nearer to one another than this fit no face."""

Landmarks = npt.NDArray[np.float64]
"""Shape (5, 2), x and y in pixels; left eye, right eye, nose, left and right mouth corner, as the viewer sees them."""
Floats = npt.NDArray[np.float32]


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
    import cv2

    matrix = similarity(landmarks_52, template * (side / ARCFACE_SIDE))
    aligned = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(aligned, dtype=np.uint8)


def clip_pixels(rgb: RgbImage, landmarks_52: Landmarks, side: int) -> Floats:
    """Return the aligned face as CLIP takes it: float32 (3, side, side), CLIP's mean and deviation taken out.

    Raises:
        SampleFaultError: the landmarks fit no face.
    """
    aligned = Image.fromarray(align(rgb, landmarks_52, CLIP_ALIGNED_SIDE))
    resized = np.asarray(aligned.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255
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

"""Where a face lies in the picture that is trained on: what losses that look at it need to know."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from facemakeup.data.raw_sample import MASK_SUFFIX, RawSample
from facemakeup.faces import posemap
from facemakeup.faces.align import ARCFACE_TEMPLATE, Floats, similarity
from facemakeup.faces.crop import Size, Window
from facemakeup.faults import SampleFaultError

MASK_STRIDE = 8
"""Pixels per number of a mask: latents are no finer."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """One face, in pixels of the picture that is trained on."""

    box_4: Floats
    """Left, top, right, bottom."""
    landmarks_52: Floats
    aligned_23: Floats
    """From pixels of the aligned face of 112 x 112 (ArcFace's template) to those of the picture."""
    mask_HW: npt.NDArray[np.uint8] | None
    """How much of each square of `MASK_STRIDE` pixels is face; None where masks are not asked for."""


def geometry_of(
    raw: RawSample, window: Window, size: Size, flipped: bool, with_mask: bool, notes: list[str]
) -> Geometry:
    """Return where a sample's face is in a window of its picture, brought to a size, mirrored or not.

    A sample without a mask of its own has the ellipse in the box of the face for one, and a note says so.

    Raises:
        SampleFaultError: the landmarks fit no face, or the mask is none of this picture.
    """
    points = window.to_target(raw.landmarks_52, size)
    points = posemap.flip(points, size.width) if flipped else points
    (left, top), (right, bottom) = window.to_target(np.array(raw.face_box).reshape(2, 2), size)
    left, right = (size.width - right, size.width - left) if flipped else (left, right)
    box = np.array([left, top, right, bottom], np.float32)
    mask = _mask(raw, window, size, flipped, notes) if with_mask else None
    if with_mask and mask is None:
        mask = _ellipse(box, size)
    return Geometry(box, points.astype(np.float32), _inverse(similarity(points, ARCFACE_TEMPLATE)), mask)


def _inverse(matrix_23: npt.NDArray[np.float64]) -> Floats:
    whole = np.vstack([matrix_23, [0.0, 0.0, 1.0]])
    return np.asarray(np.linalg.inv(whole)[:2], dtype=np.float32)


def _mask(raw: RawSample, window: Window, size: Size, flipped: bool, notes: list[str]) -> npt.NDArray[np.uint8] | None:
    notes.append("mask_missing" if raw.mask_bytes is None else "mask_hit")
    if raw.mask_bytes is None:
        return None
    try:
        with Image.open(io.BytesIO(raw.mask_bytes), formats=["PNG"]) as picture:
            if picture.size != (raw.width, raw.height) or picture.mode not in ("1", "L"):
                stated = f"{raw.width}x{raw.height} of mode L"
                raise SampleFaultError("broken_mask", f"{picture.size} of mode {picture.mode}, not {stated}")
            grey = picture.convert("L").crop(window.box)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise SampleFaultError("broken_mask", f".{MASK_SUFFIX}: {error}") from error
    grid = (size.width // MASK_STRIDE, size.height // MASK_STRIDE)
    shares = np.asarray(grey.resize(grid, Image.Resampling.BOX), np.uint8)
    return np.ascontiguousarray(shares[:, ::-1] if flipped else shares)


def _ellipse(box_4: Floats, size: Size) -> npt.NDArray[np.uint8]:
    """Return the ellipse in a box, by the middles of small squares."""
    fine = 4
    down, across = (
        (np.arange(side // MASK_STRIDE * fine) + 0.5) * MASK_STRIDE / fine for side in (size.height, size.width)
    )
    left, top, right, bottom = box_4.astype(np.float64)
    x = (across - (left + right) / 2) / ((right - left) / 2)
    y = (down - (top + bottom) / 2) / ((bottom - top) / 2)
    inside = (x[None, :] ** 2 + y[:, None] ** 2 <= 1).astype(np.float64)
    shares = inside.reshape(len(down) // fine, fine, len(across) // fine, fine).mean(axis=(1, 3))
    return np.asarray(np.rint(shares * 255), dtype=np.uint8)

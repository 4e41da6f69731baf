"""A face as the pipeline takes it: found in a picture once, kept in a file, mixed with others, placed as a pose.

Shapes: D identity width, S side of CLIP's picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from curation.errors import UsageError
from facemakeup.config import Recogniser
from facemakeup.faces import posemap
from facemakeup.faces.align import CLIP_CROP_BEFORE, Floats, Landmarks, clip_pixels
from facemakeup.faces.crop import Size, face_window, full_window
from facemakeup.faces.found import main_face
from facemakeup.faces.recognisers import FaceRecogniser, require_same
from filters.base import Filter, RgbImage
from filters.boxes import Box


@dataclass(frozen=True, eq=False)
class FaceCondition:
    """One face: who it is, how it looks to CLIP, and where it lies in its picture."""

    identity_D: Floats
    """Unit vector."""
    clip_pixels_3SS: Floats
    """The aligned face, normalised as CLIP takes it."""
    recogniser: Recogniser
    """Who made the vector."""
    clip_crop: str
    """How the face was cut out for CLIP, a name in `CLIP_CROPS`."""
    landmarks_52: Landmarks
    """In pixels of the picture, like `box`, `width` and `height`."""
    box: Box
    width: int
    height: int

    def pose(self, size: Size, factor: float | None = 1.5) -> RgbImage:
        """Return the pose map, uint8 (H, W, 3), as training would draw it for this picture.

        `factor` is the side of the window around the face in sides of its box; None takes the whole picture.
        """
        if factor is None:
            window = full_window(self.width, self.height, size)
        else:
            window = face_window(self.box, self.width, self.height, factor, size)
        return posemap.draw(window.to_target(self.landmarks_52, size), (size.height, size.width))

    def save(self, path: Path) -> None:
        """Write it as .npz."""
        with path.open("wb") as file:
            np.savez(
                file,
                identity_D=self.identity_D,
                clip_pixels_3SS=self.clip_pixels_3SS,
                landmarks_52=self.landmarks_52,
                box=np.array(self.box),
                size=np.array([self.height, self.width]),
                recogniser=np.array(self.recogniser.model_dump_json()),
                clip_crop=np.array(self.clip_crop),
            )

    @classmethod
    def load(cls, path: Path) -> "FaceCondition":
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            UsageError: it is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                height, width = (int(value) for value in file["size"])
                left, top, right, bottom = (float(value) for value in file["box"])
                return cls(
                    identity_D=file["identity_D"],
                    clip_pixels_3SS=file["clip_pixels_3SS"],
                    recogniser=Recogniser.model_validate_json(str(file["recogniser"])),
                    clip_crop=str(file["clip_crop"]) if "clip_crop" in file else CLIP_CROP_BEFORE,
                    landmarks_52=file["landmarks_52"],
                    box=(left, top, right, bottom),
                    width=width,
                    height=height,
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UsageError(f"{path}: not a face that `FaceCondition.save` wrote: {error}") from error


def prepare_face(
    rgb: RgbImage, faces: Filter, recogniser: FaceRecogniser, clip_side: int, clip_crop: str
) -> FaceCondition:
    """Return the largest face of a picture, or, where none is sure, the surest; `faces` is the filter of that name.

    `clip_crop` is the model's: its `ModelConfig` says it.

    Raises:
        UsageError: no face is found.
        SampleFaultError: its landmarks fit no face.
    """
    (evidence,) = faces.measure([rgb])
    if not evidence.faces:
        raise UsageError(f"no face is found in this picture of {rgb.shape[1]}x{rgb.shape[0]} pixels; take another")
    face = main_face(evidence) or evidence.faces[0]
    landmarks = np.array(face.landmarks, dtype=np.float64).reshape(5, 2)
    return FaceCondition(
        identity_D=recogniser.embed(rgb, landmarks),
        clip_pixels_3SS=clip_pixels(rgb, landmarks, clip_side, clip_crop),
        recogniser=recogniser.identity,
        clip_crop=clip_crop,
        landmarks_52=landmarks,
        box=face.box,
        width=rgb.shape[1],
        height=rgb.shape[0],
    )


def mixing_weights(num_faces: int, mix: Sequence[float] | None) -> tuple[float, ...]:
    """Return weights that add up to 1; without any, all faces count alike.

    Raises:
        UsageError: there are not as many weights as faces, one is negative, or all are 0.
    """
    weights = tuple(mix) if mix is not None else (1.0,) * num_faces
    if num_faces < 1 or len(weights) != num_faces:
        raise UsageError(f"{num_faces} faces need as many mixing weights, not {list(weights)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) <= 0:
        raise UsageError(f"mixing weights must be 0 or more, and not all 0: {list(weights)}")
    return tuple(weight / sum(weights) for weight in weights)


def mixed_identity(faces: Sequence[FaceCondition], weights: Sequence[float], expected: Recogniser) -> Floats:
    """Return the weighted mean of the identities at length 1: a bare mean of strangers is too short for the model.

    Raises:
        RecogniserError: a face was seen by another recogniser than the model's.
        UsageError: the faces cancel out.
    """
    for number, face in enumerate(faces):
        require_same(expected, face.recogniser, f"face {number + 1}")
    pairs = zip(weights, faces, strict=True)
    mean = np.sum([weight * face.identity_D.astype(np.float64) for weight, face in pairs], axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise UsageError("these faces, mixed so, cancel out: no direction is left")
    return np.asarray(mean / length, dtype=np.float32)

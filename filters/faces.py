"""Measures every face of a picture: box, confidence and five landmarks, from one of several detectors."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from filters import plugins as others
from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings, TableSettings
from filters.detectors.base import Face, FaceDetector
from filters.detectors.framed import Framed
from filters.loading import OnnxDtype

VERSION = 2
SCORES = ("num_faces", "largest_face_side_px", "largest_face_fraction", "max_confidence")
MEANINGS = {
    "num_faces": ScoreMeaning(
        "faces that count: sure enough, large enough, not small beside the largest",
        "faces",
        1.0,
        low="no face, or none that counts",
        high="several people",
    ),
    "largest_face_side_px": ScoreMeaning(
        "shorter side of the largest face's box", "pixels", 212.0, low="the largest face is small"
    ),
    "largest_face_fraction": ScoreMeaning(
        "share of the picture that the largest face's box covers",
        "0..1",
        0.18,
        low="the face is a small part of the picture",
        high="the face fills the picture",
    ),
    "max_confidence": ScoreMeaning(
        "how sure the detector is of the surest face, counted or not",
        "0..1",
        0.83,
        low="the detector is sure of no face",
    ),
}

DETECTORS = {
    "yolov5-face": ("filters.detectors.yolov5_face", "Yolov5Face"),
    "yolov5-face-torch": ("filters.detectors.yolov5_face_torch", "Yolov5FaceTorch"),
    "centerface": ("filters.detectors.centerface", "CenterFace"),
}


def require_detector(name: str, weights: str) -> None:
    """Refuse what is no detector, and one of ours without weights.

    Raises:
        ValueError: it is none, or has none.
        PluginError: two distributions bring it.
    """
    if name not in DETECTORS and others.plugin(others.DETECTORS, name) is None:
        known = ", ".join(others.names(others.DETECTORS, DETECTORS))
        raise ValueError(f"detector {name!r} is none; choose one of {known}")
    if not weights and name in DETECTORS:
        raise ValueError(f"detector {name} needs `weights`, by a name of `facecaptionhq models list`")


class Measure(TableSettings):
    """Parameters of the evidence."""

    LATER = frozenset({"second_look", "dtype"})

    detector: str = "yolov5-face"
    """Network and runtime: `yolov5-face`, `centerface`, `yolov5-face-torch` (which needs the GPL package yolov5-face),
    or one that an installed distribution brings under the entry point `facecaptionhq.detectors`."""
    weights: str = "yolov5n-face"
    """Catalogue name or path of the detector's weights; empty for a detector that brings its own."""
    side: int = Field(default=640, ge=32, le=4096, multiple_of=32)
    """Longer side of what the network sees, pixels."""
    confidence_floor: float = Field(default=0.1, gt=0, lt=1)
    """Faces at or below this confidence are not recorded."""
    nms_iou: float = Field(default=0.5, gt=0, lt=1)
    """A face goes when a surer one overlaps it by more than this intersection over union."""
    second_look: float = Field(default=0.0, ge=0, lt=1)
    """Where no face is this sure, the picture is looked at again inside a grey border, for a face that fills it or is
    cut off by its edges; the look with the surest face counts. 0 never looks again."""
    dtype: OnnxDtype = "float32"
    """Arithmetic of the network; float16 is for `yolov5-face` on a GPU."""

    @model_validator(mode="after")
    def _detector_is_known(self) -> Self:
        require_detector(self.detector, self.weights)
        return self

    @model_validator(mode="after")
    def _detector_has_dtype(self) -> Self:
        if self.dtype != "float32" and self.detector != "yolov5-face":
            raise ValueError(f"detector {self.detector} computes in float32; yolov5-face has {self.dtype}")
        return self


class Score(Settings):
    """Which of the recorded faces count."""

    confidence: float = Field(default=0.5, ge=0, le=1)
    """Least confidence of a face that counts."""
    relative_area: float = Field(default=0.0, ge=0, le=1)
    """Least area of a face that counts, as a share of the largest confident face's area; 0 counts all."""
    min_side_px: float = Field(default=0.0, ge=0)
    """Least side (the smaller of width and height) of a face that counts, pixels."""


@dataclass(frozen=True)
class FacesEvidence(Evidence):
    """Every face above the confidence floor, most confident first."""

    width: int
    """Pixels of the decoded picture across."""
    height: int
    """Pixels of the decoded picture down."""
    faces: tuple[Face, ...]
    """Box, confidence and five landmarks of each."""


EVIDENCE = FacesEvidence


def scores(evidence: FacesEvidence, score: Score) -> dict[str, float]:
    """Return how many faces count, the largest one's side and share of the picture, and the greatest confidence.

    The greatest confidence is over every recorded face; the others are over those that count.
    """
    faces = counted(evidence, score)
    largest = max(faces, key=lambda face: face.area_px, default=None)
    return {
        "num_faces": float(len(faces)),
        "largest_face_side_px": largest.side_px if largest else 0.0,
        "largest_face_fraction": largest.area_px / (evidence.width * evidence.height) if largest else 0.0,
        "max_confidence": max((face.confidence for face in evidence.faces), default=0.0),
    }


def counted(evidence: FacesEvidence, score: Score) -> tuple[Face, ...]:
    """Return the faces that count: confident, large enough, and not small beside the largest of these."""
    faces = [
        face for face in evidence.faces if face.confidence >= score.confidence and face.side_px >= score.min_side_px
    ]
    least_area = score.relative_area * max((face.area_px for face in faces), default=0.0)
    return tuple(face for face in faces if face.area_px >= least_area)


def weights(measure: Measure) -> tuple[str, ...]:
    """Return the detector's weights."""
    return (measure.weights,) if measure.weights else ()


def plugins(measure: Measure) -> tuple[others.Plugin, ...]:
    """Return who brings the detector, where it is none of ours."""
    brought = others.plugin(others.DETECTORS, measure.detector, DETECTORS)
    return () if brought is None else (brought,)


def build(measure: Measure, device: str) -> Filter:
    """Return the filter with its detector on "cpu" or "cuda:N".

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """
    return Faces(_build_detector(measure, device), measure.side, measure.second_look)


def _build_detector(measure: Measure, device: str) -> FaceDetector:
    from filters.weights import find_weights

    options: dict[str, Any] = {
        "side": measure.side,
        "confidence_floor": measure.confidence_floor,
        "max_iou": measure.nms_iou,
        "device": device,
    }
    path = find_weights(measure.weights).path if measure.weights else None
    detector: FaceDetector
    if brought := plugins(measure):
        detector = brought[0].build(path, **options)
        return detector
    module_name, class_name = DETECTORS[measure.detector]
    options |= {"dtype": measure.dtype} if measure.detector == "yolov5-face" else {}
    detector = getattr(importlib.import_module(module_name), class_name)(path, **options)
    return detector


class Faces:
    """The filter around one detector."""

    def __init__(self, detector: FaceDetector, side: int, second_look: float) -> None:
        """Keep the detector, which sees pictures at `side`, and how sure a face must be to need no second look."""
        self._detector = detector
        self._side = side
        self._second_look = second_look

    def measure(self, images: Sequence[RgbImage]) -> list[FacesEvidence]:
        """Return one evidence per picture."""
        detected = self._detector.detect_all(images)
        unsure = [i for i, faces in enumerate(detected) if _surest(faces) < self._second_look]
        framed = [Framed.around(images[i], self._side) for i in unsure]
        for i, frame, faces in zip(unsure, framed, self._detector.detect_all([f.pixels for f in framed]), strict=True):
            inside = frame.in_picture(faces)
            if _surest(inside) > _surest(detected[i]):
                detected[i] = inside
        return [
            FacesEvidence(image.shape[1], image.shape[0], faces) for image, faces in zip(images, detected, strict=True)
        ]


def _surest(faces: Sequence[Face]) -> float:
    return max((face.confidence for face in faces), default=0.0)

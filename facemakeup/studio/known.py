"""The faces that the page was given: kept in memory alone, for as long as it is open."""

import hashlib
import io
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from PIL import Image

from curation.errors import UsageError
from facemakeup.faces.condition import FaceCondition
from facemakeup.faces.crop import Size, face_window, full_window
from facemakeup.inference.generate import FaceReader, pixels_of
from filters.base import RgbImage

MAX_KNOWN = 24
PREVIEW = Size(192, 192)


@dataclass(frozen=True, eq=False)
class KnownFace:
    """A face of a photo."""

    name: str
    """Of the photo, as the browser calls it."""
    sha256: str
    """Of the photo's bytes."""
    condition: FaceCondition
    preview: bytes
    """PNG of what is around the face."""

    def points(self, factor: float | None) -> list[list[float]]:
        """Return the landmarks in shares of a square picture that is framed as the adapter saw faces in training."""
        face, unit = self.condition, Size(1000, 1000)
        window = (
            full_window(face.width, face.height, unit)
            if factor is None
            else face_window(face.box, face.width, face.height, factor, unit)
        )
        moved = window.to_target(face.landmarks_52, unit) / unit.width
        return [[round(float(x), 4), round(float(y), 4)] for x, y in moved]

    @property
    def record(self) -> Mapping[str, str]:
        """What a drawing says of it; nothing of the person."""
        return {"photo": self.name, "sha256": self.sha256}


class KnownFaces:
    """Faces by the names that the server gave them."""

    def __init__(self, reader: FaceReader) -> None:
        """Begin with none."""
        self._reader, self._lock = reader, Lock()
        self._faces: dict[str, KnownFace] = {}

    def add(self, content: bytes, name: str) -> tuple[str, KnownFace]:
        """Find the face in a photo's bytes, and return what it is called here.

        Raises:
            UsageError: it is no picture, shows no face, or there are too many.
            RecogniserError: the adapter's recogniser is not here, or its terms are not accepted.
        """
        if len(self._faces) >= MAX_KNOWN:
            raise UsageError(f"{MAX_KNOWN} faces are here already: remove some")
        with self._lock:  # one at a time: each may take the memory of a large picture
            rgb = pixels_of(content, name)
            condition = self._reader.face(rgb, name)
        face = KnownFace(name, hashlib.sha256(content).hexdigest(), condition, _preview(rgb, condition))
        key = secrets.token_hex(8)
        self._faces[key] = face
        return key, face

    def remove(self, key: str) -> None:
        """Forget a face."""
        self._faces.pop(key, None)

    def get(self, key: str) -> KnownFace | None:
        """Return a face; None where it is not known."""
        return self._faces.get(key)

    def all_of(self, keys: Sequence[str]) -> list[KnownFace]:
        """Return faces in this order.

        Raises:
            UsageError: one is not known.
        """
        found = [self._faces.get(key) for key in keys]
        if any(face is None for face in found):
            raise UsageError("a face is not here any more: add its photo again")
        return [face for face in found if face is not None]


def _preview(rgb: RgbImage, face: FaceCondition) -> bytes:
    window = face_window(face.box, face.width, face.height, 1.5, PREVIEW)
    shown: Any = Image.fromarray(rgb).resize((PREVIEW.width, PREVIEW.height), box=window.box)
    file = io.BytesIO()
    shown.save(file, format="PNG")
    return file.getvalue()

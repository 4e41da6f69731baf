"""From one raw sample to the arrays that training takes: crop, flip, pose map, CLIP picture, identity.

A picture whose latents, aligned face and identity are cached is not decoded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from curation.storage.publish import digest
from facemakeup.config import Recogniser
from facemakeup.data.geometry import Geometry, geometry_of
from facemakeup.data.raw_sample import Opened, RawSample
from facemakeup.data.sidecar import Array, Name, Sidecar
from facemakeup.faces import posemap
from facemakeup.faces.align import Floats, Landmarks, clip_face
from facemakeup.faces.crop import Size, Window, aspect_buckets, face_window, full_window, nearest_bucket
from facemakeup.faces.recognisers import FaceRecogniser, load_recogniser
from facemakeup.model.base import Frame
from facemakeup.train_config import CropSettings, FaceSettings
from filters.base import RgbImage


@dataclass(frozen=True)
class View:
    """What is looked at: a window of the picture, brought to a size, mirrored or not."""

    window: Window
    size: Size
    flipped: bool
    is_photo: bool = False
    """Whether the window is taken for a photo of its own: one around a face is no photo of which much was cut off."""

    def landmarks(self, raw: RawSample) -> Landmarks:
        """Return the landmarks in pixels of the view, left and right as the viewer sees them there."""
        points = self.window.to_target(raw.landmarks_52, self.size)
        return posemap.flip(points, self.size.width) if self.flipped else points

    def pixels(self, rgb: RgbImage) -> RgbImage:
        """Return the view of a picture, uint8 (H, W, 3)."""
        left, top, right, bottom = self.window.box
        image = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
        image = image.resize((self.size.width, self.size.height), Image.Resampling.BILINEAR)
        return np.asarray(image)[:, ::-1] if self.flipped else np.asarray(image)

    def frame(self, raw: RawSample) -> Frame:
        """Return what the view is of the whole picture, or of the window where that is taken for a photo."""
        window, size = self.window, self.size
        if self.is_photo:
            return Frame(size.height, size.width, window.height, window.width)
        left = raw.width - window.left - window.width if self.flipped else window.left
        across, down = size.width / window.width, size.height / window.height
        return Frame(size.height, size.width, raw.height, raw.width, round(window.top * down), round(left * across))

    def key(self, raw: RawSample) -> str:
        """Return the hex digest of the picture's bytes and of what is looked at: latents are known by it."""
        return digest([raw.sha256, self.window.box, self.size.height, self.size.width, self.flipped])[:32]


@dataclass(frozen=True, eq=False)
class Appearance:
    """Who is on a picture: what the network is told of a face, as the picture shows it."""

    face_SSC: RgbImage
    """Aligned, in the size that CLIP takes."""
    identity_D: Floats
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """One sample, ready for a batch."""

    uid: str
    caption: str
    size: Size
    """Of the picture and of the pose map."""
    frame: Frame
    pixels_HWC: RgbImage | None
    """None where the cache holds the latents."""
    face_SSC: RgbImage
    """Aligned, in the size that CLIP takes."""
    pose: posemap.Strokes
    identity_D: Floats
    moments_CHW: Array | None
    """Mean and log variance of the latents, stacked on channels, as the cache holds them."""
    geometry: Geometry | None
    """Where the face is; None where no loss asks."""
    notes: tuple[str, ...]
    """What the caches said: `latents_hit`, `latents_missing`, `latents_stale`, the same of `identity` and `face`; and
    who stood for the sample, `reference_paired`, `reference_augmented`, `reference_own`, where others may."""


def sizes_of(crop: CropSettings) -> tuple[Size, ...]:
    """Return every size that training pictures come in."""
    if crop.mode == "face":
        return (Size(crop.size, crop.size),)
    return aspect_buckets(crop.size, crop.max_aspect, crop.bucket_step)


def view_of(raw: RawSample, crop: CropSettings, flipped: bool) -> View:
    """Return what of a picture is trained on."""
    sizes = sizes_of(crop)
    if crop.mode == "face":
        window = face_window(raw.face_box, raw.width, raw.height, crop.factor, sizes[0])
        return View(window, sizes[0], flipped, is_photo=True)
    size = sizes[nearest_bucket(raw.width, raw.height, sizes)]
    return View(full_window(raw.width, raw.height, size), size, flipped)


def identity_key(raw: RawSample) -> str:
    """Return the hex digest of the picture's bytes and landmarks: identity vectors are known by it."""
    return digest([raw.sha256, raw.landmarks_52.reshape(-1).tolist()])[:32]


def face_key(raw: RawSample) -> str:
    """Return the hex digest of all that a face's picture depends on: aligned faces are known by it.

    The stated size is part of it, for a picture of another is refused when it is decoded.
    """
    return digest([raw.sha256, raw.landmarks_52.reshape(-1).tolist(), raw.width, raw.height])[:32]


@dataclass(frozen=True)
class Plan:
    """All that preparing depends on, small enough to travel to worker processes."""

    crop: CropSettings
    faces: FaceSettings
    recogniser: Recogniser
    clip_side: int
    clip_crop: str
    latents: Sidecar | None = None
    identities: Sidecar | None = None
    aligned: Sidecar | None = None
    with_geometry: bool = False
    """Whether a loss asks where faces are."""
    with_masks: bool = False
    """Whether it takes the samples' own masks for it."""


class Preparer:
    """Prepares samples; the recogniser is loaded when a vector is first missing from the cache."""

    def __init__(self, plan: Plan) -> None:
        """Keep the plan."""
        self._plan = plan
        self._recogniser: FaceRecogniser | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A loaded network does not travel to other processes."""
        return {**self.__dict__, "_recogniser": None}

    def prepare(self, opened: Opened, shard: str, flipped: bool, look: Appearance | None = None) -> Prepared:
        """Return a sample; the identity is that of the face as it is, mirrored or not.

        `look` is what the network is told of the person instead of how the picture itself shows it.

        Raises:
            SampleFaultError: the picture cannot be decoded, the landmarks fit no face, or the recogniser gives no
                direction.
        """
        plan, raw = self._plan, opened.raw
        view = view_of(raw, plan.crop, flipped)
        notes: list[str] = []
        moments = _found(plan.latents, "latents", shard, Name(raw.uid, int(flipped)), lambda: view.key(raw), notes)
        if look is None:
            own = self.look(opened, shard)
            look = replace(own, face_SSC=own.face_SSC[:, ::-1]) if flipped else own
        asks = plan.with_geometry
        return Prepared(
            uid=raw.uid,
            caption=raw.caption,
            size=view.size,
            frame=view.frame(raw),
            pixels_HWC=view.pixels(opened.rgb) if moments is None else None,
            face_SSC=look.face_SSC,
            pose=posemap.strokes_of(posemap.draw(view.landmarks(raw), (view.size.height, view.size.width))),
            identity_D=look.identity_D,
            moments_CHW=moments,
            geometry=geometry_of(raw, view.window, view.size, flipped, plan.with_masks, notes) if asks else None,
            notes=(*notes, *look.notes),
        )

    def look(self, opened: Opened, shard: str) -> Appearance:
        """Return who is on a picture, not mirrored.

        Raises:
            SampleFaultError: as `prepare`.
        """
        plan, raw, notes = self._plan, opened.raw, list[str]()
        name = Name(raw.uid, 0)
        identity = _found(plan.identities, "identity", shard, name, lambda: identity_key(raw), notes)
        face = _found(plan.aligned, "face", shard, name, lambda: face_key(raw), notes)
        return Appearance(
            face_SSC=self.face(opened) if face is None else face,
            identity_D=self.embed(opened) if identity is None else identity,
            notes=tuple(notes),
        )

    def face(self, opened: Opened) -> RgbImage:
        """Return the face aligned for CLIP, uint8 (S, S, 3)."""
        return clip_face(opened.rgb, opened.raw.landmarks_52, self._plan.clip_side, self._plan.clip_crop)

    def embed(self, opened: Opened) -> Floats:
        """Return the identity vector, float32 (D,), of length 1."""
        if self._recogniser is None:
            self._recogniser = load_recogniser(self._plan.recogniser, self._plan.faces.accept_noncommercial)
        return self._recogniser.embed(opened.rgb, opened.raw.landmarks_52)


def _found(sidecar: Sidecar | None, what: str, shard: str, name: Name, key: Callable[[], str], notes: list[str]) -> Any:
    """Return an array of a cache, None where it has none, and note what the cache said."""
    if sidecar is None:
        return None
    status, array = sidecar.find(shard, name.uid, name.variant, key())
    notes.append(f"{what}_{status}")
    return array

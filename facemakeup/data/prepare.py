"""From one raw sample to the arrays that training takes: crop, flip, pose map, CLIP picture, identity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from curation.storage.publish import digest
from facemakeup.config import Recogniser
from facemakeup.data.raw_sample import RawSample
from facemakeup.data.sidecar import Sidecar
from facemakeup.faces import posemap
from facemakeup.faces.align import Floats, Landmarks, clip_pixels
from facemakeup.faces.crop import Size, Window, aspect_buckets, face_window, full_window, nearest_bucket
from facemakeup.faces.recognisers import FaceRecogniser, load_recogniser
from facemakeup.train_config import CropSettings, FaceSettings
from filters.base import RgbImage


@dataclass(frozen=True)
class View:
    """What is looked at: a window of the picture, brought to a size, mirrored or not."""

    window: Window
    size: Size
    flipped: bool

    def landmarks(self, raw: RawSample) -> Landmarks:
        """Return the landmarks in pixels of the view, left and right as the viewer sees them there."""
        points = self.window.to_target(raw.landmarks_52, self.size)
        return posemap.flip(points, self.size.width) if self.flipped else points

    def pixels(self, rgb: RgbImage) -> Floats:
        """Return the view of a picture, float32 (3, H, W) in -1..1."""
        left, top, right, bottom = self.window.box
        image = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
        image = image.resize((self.size.width, self.size.height), Image.Resampling.BILINEAR)
        shown = np.asarray(image)[:, ::-1] if self.flipped else np.asarray(image)
        scaled = np.ascontiguousarray(shown.transpose(2, 0, 1), dtype=np.float32)
        scaled /= 127.5
        scaled -= 1
        return scaled

    def key(self, raw: RawSample) -> str:
        """Return the hex digest of the picture's bytes and of what is looked at: latents are known by it."""
        return digest([raw.sha256, self.window.box, self.size.height, self.size.width, self.flipped])[:32]


@dataclass(frozen=True)
class Prepared:
    """One sample, ready for a batch."""

    uid: str
    caption: str
    pixels_CHW: Floats
    clip_pixels_CHW: Floats
    pose_CHW: Floats
    """In 0..1."""
    identity_D: Floats
    moments_CHW: Floats | None
    """Mean and log variance of the latents, stacked on channels, where the cache holds them."""
    notes: tuple[str, ...]
    """What the caches said: `latents_hit`, `latents_missing`, `latents_stale`, and the same of `identity`."""


def sizes_of(crop: CropSettings) -> tuple[Size, ...]:
    """Return every size that training pictures come in."""
    if crop.mode == "face":
        return (Size(crop.size, crop.size),)
    return aspect_buckets(crop.size, crop.max_aspect, crop.bucket_step)


def view_of(raw: RawSample, crop: CropSettings, flipped: bool) -> View:
    """Return what of a picture is trained on."""
    sizes = sizes_of(crop)
    if crop.mode == "face":
        return View(face_window(raw.face_box, raw.width, raw.height, crop.factor, sizes[0]), sizes[0], flipped)
    size = sizes[nearest_bucket(raw.width, raw.height, sizes)]
    return View(full_window(raw.width, raw.height, size), size, flipped)


def identity_key(raw: RawSample) -> str:
    """Return the hex digest of the picture's bytes and landmarks: identity vectors are known by it."""
    return digest([raw.sha256, raw.landmarks_52.reshape(-1).tolist()])[:32]


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


class Preparer:
    """Prepares samples; the recogniser is loaded when a vector is first missing from the cache."""

    def __init__(self, plan: Plan) -> None:
        """Keep the plan."""
        self._plan = plan
        self._recogniser: FaceRecogniser | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A loaded network does not travel to other processes."""
        return {**self.__dict__, "_recogniser": None}

    def prepare(self, raw: RawSample, rgb: RgbImage, shard: str, flipped: bool) -> Prepared:
        """Return a sample, given its decoded pixels; the identity is that of the face as it is, mirrored or not.

        Raises:
            SampleFaultError: the landmarks fit no face, or the recogniser gives no direction.
        """
        plan = self._plan
        view = view_of(raw, plan.crop, flipped)
        identity, identity_note = _looked_up(plan.identities, shard, raw.uid, 0, identity_key(raw))
        moments, moments_note = _looked_up(plan.latents, shard, raw.uid, int(flipped), view.key(raw))
        face = clip_pixels(rgb, raw.landmarks_52, plan.clip_side, plan.clip_crop)
        pose = posemap.draw(view.landmarks(raw), (view.size.height, view.size.width))
        return Prepared(
            uid=raw.uid,
            caption=raw.caption,
            pixels_CHW=view.pixels(rgb),
            clip_pixels_CHW=np.ascontiguousarray(face[:, :, ::-1]) if flipped else face,
            pose_CHW=np.ascontiguousarray(pose.transpose(2, 0, 1), dtype=np.float32) / np.float32(255),
            identity_D=self.embed(rgb, raw.landmarks_52) if identity is None else identity,
            moments_CHW=moments,
            notes=(*(f"identity_{n}" for n in identity_note), *(f"latents_{n}" for n in moments_note)),
        )

    def embed(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return the identity vector, float32 (D,), of length 1."""
        if self._recogniser is None:
            self._recogniser = load_recogniser(self._plan.recogniser, self._plan.faces.accept_noncommercial)
        return self._recogniser.embed(rgb, landmarks_52)


def _looked_up(
    sidecar: Sidecar | None, shard: str, uid: str, variant: int, key: str
) -> tuple[Floats | None, tuple[str, ...]]:
    if sidecar is None:
        return None, ()
    status, array = sidecar.find(shard, uid, variant, key)
    return array, (status,)

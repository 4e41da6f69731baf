"""One sample as it lies in a tar that `pack` wrote, read without forgiving anything."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from curation.dataset.tar import CAPTION_SUFFIX, IMAGE_SUFFIXES, METADATA_SUFFIX
from curation.dataset.tar.texts import parse_json
from curation.images.decode import UnreadableError
from curation.images.open_picture import open_picture
from curation.recipe.settings import DecodeLimits
from facemakeup.data.shards import sha256_hex
from facemakeup.faces.align import Landmarks
from facemakeup.faults import SampleFaultError
from filters.base import RgbImage
from filters.boxes import Box

MASK_SUFFIX = "mask"
"""A PNG of grey, `KEY.mask`, that no stage writes; whoever has masks of faces puts them into tars of their own."""


@dataclass(frozen=True)
class RawSample:
    """A picture, still encoded, with its caption and its face."""

    uid: str
    caption: str
    image_bytes: bytes
    sha256: str
    """The sha256 of `image_bytes`, in hex."""
    width: int
    height: int
    face_box: Box
    landmarks_52: Landmarks
    mask_bytes: bytes | None = None
    """A picture of grey that says where the face is, still encoded; None where there is no such member."""

    def decoded(self, limits: DecodeLimits) -> RgbImage:
        """Return the upright pixels.

        Raises:
            SampleFaultError: the decode gate refuses them, or they are not as many as stated.
        """
        try:
            rgb = open_picture(self.image_bytes, limits.admitting_all())
        except UnreadableError as error:
            raise SampleFaultError("unreadable", str(error)) from error
        if rgb.shape[:2] != (self.height, self.width):
            stated = f"{self.width}x{self.height}"
            raise SampleFaultError("wrong_size", f"{rgb.shape[1]}x{rgb.shape[0]} pixels, stated {stated}")
        return rgb


@dataclass(frozen=True)
class Opened:
    """One sample whose picture is decoded when its pixels are first asked for, if they are."""

    raw: RawSample
    limits: DecodeLimits

    @cached_property
    def rgb(self) -> RgbImage:
        """The upright pixels.

        Raises:
            SampleFaultError: as `RawSample.decoded` does.
        """
        return self.raw.decoded(self.limits)


def raw_sample(members: Mapping[str, bytes], key: str) -> RawSample:
    """Return the sample that these members (suffix -> content) make.

    Raises:
        SampleFaultError: something is missing, or is not what it should be.
    """
    image_bytes = _image(members)
    fields = _fields(members)
    sha256 = sha256_hex(image_bytes)
    if fields.get("sha256", sha256) != sha256:
        raise SampleFaultError("wrong_bytes", f"sha256 {sha256[:12]}, stated {str(fields['sha256'])[:12]}")
    width, height = (_number(fields, name) for name in ("width", "height"))
    box, landmarks = (_face_numbers(fields, name, size) for name, size in (("face_box", 4), ("face_landmarks", 10)))
    left, top, right, bottom = box
    if right <= left or bottom <= top or right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise SampleFaultError("degenerate_face", f"face_box {box} in a picture of {width:g}x{height:g}")
    return RawSample(
        uid=str(fields.get("uid", key)),
        caption=_caption(fields, members),
        image_bytes=image_bytes,
        sha256=sha256,
        width=int(width),
        height=int(height),
        face_box=(left, top, right, bottom),
        landmarks_52=np.array(landmarks, dtype=np.float64).reshape(5, 2),
        mask_bytes=members.get(MASK_SUFFIX),
    )


def _image(members: Mapping[str, bytes]) -> bytes:
    images = [suffix for suffix in members if suffix in IMAGE_SUFFIXES]
    if len(images) != 1:
        raise SampleFaultError("several_images" if images else "no_image", ", ".join(sorted(members)))
    return members[images[0]]


def _fields(members: Mapping[str, bytes]) -> dict[str, Any]:
    if METADATA_SUFFIX not in members:
        raise SampleFaultError("no_metadata", ", ".join(sorted(members)))
    try:
        fields = parse_json(members[METADATA_SUFFIX].decode("utf-8"))
    except ValueError as error:
        raise SampleFaultError("broken_metadata", str(error)) from error
    if not isinstance(fields, dict):
        raise SampleFaultError("broken_metadata", f"a {type(fields).__name__}, not an object")
    return fields


def _caption(fields: Mapping[str, Any], members: Mapping[str, bytes]) -> str:
    caption = fields.get("caption")
    if caption is None and CAPTION_SUFFIX in members:
        caption = members[CAPTION_SUFFIX].decode("utf-8", "replace")
    if caption is None:
        raise SampleFaultError("no_caption")
    if not isinstance(caption, str):
        raise SampleFaultError("broken_metadata", f"caption is a {type(caption).__name__}")
    return caption


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if type(value) not in (int, float) or not math.isfinite(float(value or 0)) or float(value or 0) <= 0:
        raise SampleFaultError("broken_metadata", f"{name} is {value!r}")
    return float(value or 0)


def _face_numbers(fields: Mapping[str, Any], name: str, size: int) -> list[float]:
    values = fields.get(name)
    if values is None or values == []:
        raise SampleFaultError("no_face", f"{name} is missing")
    is_list = isinstance(values, list) and len(values) == size
    if not is_list or not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise SampleFaultError("broken_metadata", f"{name} is not {size} finite numbers")
    return [float(value) for value in values]

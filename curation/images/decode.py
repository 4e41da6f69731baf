"""The decode gate: the only door through which web bytes become pixels, so that no detector's parser ever meets them.

What a file claims is read from its container and held against the limits first. Pillow then decodes the picture
stripped of its metadata, so that a broken EXIF block or a text chunk that unpacks to gigabytes reaches no parser; of a
plain JPEG it reads the header, and `curation.images.turbo` the same pixels.
"""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile, features

from curation.errors import UsageError
from curation.images.containers import (
    WALKERS,
    Container,
    ContainerError,
    ImageFormat,
    read_container,
    sniff_format,
    strip_container,
)
from curation.images.signatures import NAMES, name_of
from curation.images.srgb import to_srgb
from curation.images.turbo import turbo_pixels
from curation.recipe.settings import DEFAULT_FORMATS, DecodeLimits
from filters.base import FaceCaptionError, RgbImage

PILLOW_NAMES: Mapping[ImageFormat, str] = {name: walker.PILLOW_NAME for name, walker in WALKERS.items()}

AvifImagePlugin.DEFAULT_MAX_THREADS = 1
VERSION = 1
"""Raised whenever the same bytes would give other pixels; what was measured on the old ones is then measured again."""
IN_DIGESTS: Mapping[str, int] = {"pixels": VERSION} if VERSION > 1 else {}
"""What every digest of work done on pixels holds; nothing for the first version, which was never written down."""

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "there are no bytes",
        "too_many_bytes": "the file is larger than max_bytes",
        "not_an_image": "the bytes begin like nothing that is known here",
        **{f"format_{name}": f"{text}, which `decode.formats` does not admit" for name, text in NAMES.items()},
        **{f"format_{name}": f"a {name}, which `decode.formats` does not admit" for name in DEFAULT_FORMATS},
        "animated": "an animation, even of one frame, where `decode.animated` does not admit its first",
        "too_many_pixels": "the header claims more than max_pixels",
        "side_too_small": "the header claims a side shorter than min_side_px",
        "aspect_too_extreme": "the header claims a longer side of more than max_aspect times the shorter",
        "truncated": "the file ends before its picture does",
        "jpeg_12_bit": "a JPEG of 12 bits per sample, which Pillow cannot decode",
        "jpeg_lossless": "a lossless JPEG that Pillow cannot decode",
        "jpeg_hierarchical": "a hierarchical JPEG, which Pillow cannot decode",
        "jpeg_arithmetic": "an arithmetic-coded JPEG that Pillow cannot decode",
        "jpeg_ls": "a JPEG-LS, which Pillow cannot decode",
        "colours_unknown": "an AVIF of wide gamut or HDR that carries no ICC profile",
        "corrupt": "the file breaks its format's rules, or its coded pixels cannot be decoded",
    }
)
"""Every reason for which the gate refuses a file, and what it means."""
NO_AVIF = "this Pillow cannot read AVIF: install a wheel of Pillow, or leave `avif` out of `decode.formats`"
FORMER_REASONS: Mapping[str, str] = MappingProxyType(
    {"format_not_allowed": "an image, but neither JPEG nor PNG nor WEBP; no run after 0.2.0 says so"}
)
"""Reasons that ledgers of earlier releases hold, and what they mean."""

UPRIGHT = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
"""EXIF orientation -> what sets the picture upright (CIPA DC-008, 4.6.5.1.8)."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    rgb: RgbImage
    """Contiguous, 8-bit sRGB, upright, and not to be written to."""
    width: int
    """Width in pixels of `rgb`."""
    height: int
    """Height in pixels of `rgb`."""
    format: ImageFormat
    """What the bytes are, whatever their name says."""
    orientation: int
    """EXIF orientation 1..8 of the file, which `rgb` has already followed."""


class UnreadableError(FaceCaptionError):
    """A file that the gate refuses; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}: {self.args[1]}"


def decode(image_bytes: bytes, limits: DecodeLimits) -> Picture:
    """Decode one picture of an admitted format, once and in full, to upright 8-bit sRGB.

    An MPO is its first picture, and so is an animation where these are admitted. `curation.images.srgb` defines how
    every other colour model becomes sRGB.

    Raises:
        UnreadableError: the file is refused; limits are held against the header before any pixel is decoded.
        RuntimeError: somebody set Pillow's global `ImageFile.LOAD_TRUNCATED_IMAGES`, which would let cut files pass.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True: some library set it; cut files would pass")
    container = _admit(image_bytes, limits)
    rgb = _decoded(container)
    return Picture(
        rgb=rgb,
        width=rgb.shape[1],
        height=rgb.shape[0],
        format=container.format,
        orientation=container.orientation,
    )


def _admit(image_bytes: bytes, limits: DecodeLimits) -> Container:
    """Return the container of a file whose bytes and claims are within the limits."""
    if not image_bytes:
        raise UnreadableError("empty", "0 bytes")
    if len(image_bytes) > limits.max_bytes:
        raise UnreadableError("too_many_bytes", f"{len(image_bytes)} bytes; at most {limits.max_bytes}")
    image_format = sniff_format(image_bytes, limits.formats)
    if image_format is None:
        raise UnreadableError(_other(image_bytes), f"begins {image_bytes[:12]!r}")
    try:
        container = read_container(image_bytes, image_format)
    except ContainerError as error:
        raise UnreadableError("corrupt", str(error)) from None
    if container.is_animated and (limits.animated == "refuse" or not container.has_first_frame):
        raise UnreadableError("animated", f"{image_format} with animation chunks")
    if container.size is not None:
        _require_size(*container.size, limits)
    if container.refusal is not None:
        raise UnreadableError(container.refusal, f"{image_format} whose colours no profile tells")
    if container.end is None:
        raise UnreadableError("truncated", f"{image_format} of {len(image_bytes)} bytes has no end")
    return container


def _other(image_bytes: bytes) -> str:
    """Return the reason for which bytes of no admitted format are refused: what they are, if that is known."""
    name = sniff_format(image_bytes) or name_of(image_bytes)
    return "not_an_image" if name is None else f"format_{name}"


def require_decoders(limits: DecodeLimits) -> None:
    """Make sure that this Pillow was built with a decoder for every admitted format; only AVIF's may be missing.

    Raises:
        UsageError: it was not.
    """
    if "avif" in limits.formats and not features.check("avif"):
        raise UsageError(NO_AVIF)


def _require_size(width: int, height: int, limits: DecodeLimits) -> None:
    short, long = sorted((width, height))
    claim = f"{width}x{height} pixels"
    if width * height > limits.max_pixels:
        raise UnreadableError("too_many_pixels", f"{claim}; at most {limits.max_pixels}")
    if short < limits.min_side_px:
        raise UnreadableError("side_too_small", f"{claim}; each side at least {limits.min_side_px}")
    if long > limits.max_aspect * short:
        raise UnreadableError("aspect_too_extreme", f"{claim}; at most {limits.max_aspect:g}:1")


def _decoded(container: Container) -> RgbImage:
    """Return the upright pixels; whatever a parser raises on these bytes is `corrupt`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            stripped = strip_container(container)
            image = Image.open(io.BytesIO(stripped), formats=(PILLOW_NAMES[container.format],))
            if image.size != container.size:
                raise UnreadableError("corrupt", f"claims to be {container.size} and {image.size} pixels")
            if container.format == "jpg" and container.orientation == 1:
                pixels = turbo_pixels(stripped, image)
                if pixels is not None:
                    return pixels
            return np.asarray(_upright(image, container))
    except (UnreadableError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableError("too_many_pixels", f"{container.size} pixels; Pillow allows fewer") from error
    except Exception as error:  # untrusted bytes: any exception of a parser is a reason, never a crash
        raise UnreadableError(container.coding or "corrupt", f"Pillow raised {type(error).__name__}") from error


def _upright(image: Image.Image, container: Container) -> Image.Image:
    """Return an opened picture in mode RGB as its orientation wants it."""
    image.load()
    rgb = to_srgb(image, container.bit_depth)
    return rgb if container.orientation == 1 else rgb.transpose(UPRIGHT[container.orientation])

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from filters.base import RgbImage
from tests import pictures, profiles

SCENE = pictures.scene(1, 64, 48)
BLOCKS = pictures.noise(2, 8, 6).repeat(8, axis=0).repeat(8, axis=1)
"""A picture that JPEG keeps but for rounding: each of its blocks is one colour."""


def seen(image_bytes: bytes) -> RgbImage:
    return decode(image_bytes, DecodeLimits()).rgb


# ---------------------------------------------------------------- colour models

GREY = SCENE[..., 1]
GREYS = np.repeat(GREY[..., None], 3, axis=2)
ALPHA = pictures.scene(2, 64, 48)[..., 0]
RED, WHITE = np.array([200, 10, 20], np.uint8), np.array([255, 255, 255], np.uint8)
STRIPES = (np.indices((48, 64))[1] // 8) % 2 == 0
GREY_16 = GREY.astype(np.uint16) * 257 - (GREY > 128)
SCENE_16 = SCENE.astype(np.uint16) * 256 + 90


def over_white(rgb: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def png(samples: npt.NDArray[Any], bit_depth: int, colour_type: int, *chunks: bytes) -> bytes:
    return pictures.raw_png(64, 48, bit_depth, colour_type, pictures.png_rows(samples), *chunks)


def packed(samples: npt.NDArray[Any], bit_depth: int) -> npt.NDArray[np.uint8]:
    bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., -bit_depth:]
    return np.packbits(bits.reshape(len(samples), -1), axis=-1)


def key(*samples: int) -> bytes:
    return pictures.png_chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))


def striped(keyed: npt.ArrayLike, other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    mask = STRIPES[..., None] if np.ndim(keyed) else STRIPES
    return np.where(mask, keyed, other)


PALETTE = Image.fromarray(SCENE).quantize(16)
LOOKED_UP = np.array(PALETTE.convert("RGB"))
INK = np.array(Image.fromarray(SCENE).convert("CMYK"))
BEST = {"quality": 100, "subsampling": 0}

MATRIX: dict[str, tuple[bytes, npt.NDArray[Any]]] = {
    "jpg RGB": (pictures.encode(BLOCKS, "jpg", **BEST), BLOCKS),
    "jpg grey": (pictures.encode(Image.fromarray(GREY), "jpg", quality=100), GREYS),
    "jpg CMYK, inverted by Adobe's custom": (pictures.encode(Image.fromarray(INK, "CMYK"), "jpg", **BEST), SCENE),
    "webp RGB": (pictures.encode(SCENE, "webp", lossless=True), SCENE),
    "webp RGBA": (
        pictures.encode(np.dstack([SCENE, ALPHA]), "webp", lossless=True, exact=True),
        over_white(SCENE, ALPHA),
    ),
    "png RGB": (pictures.encode(SCENE, "png"), SCENE),
    "png RGBA": (pictures.encode(np.dstack([SCENE, ALPHA]), "png"), over_white(SCENE, ALPHA)),
    "png grey": (pictures.encode(GREY, "png"), GREYS),
    "png grey and alpha": (pictures.encode(np.dstack([GREY, ALPHA]), "png"), over_white(GREYS, ALPHA)),
    "png 1 bit": (pictures.encode(Image.fromarray(STRIPES), "png"), striped(WHITE, WHITE * 0)),
    "png 1 bit, one level transparent": (png(packed(STRIPES * 0, 1), 1, 0, key(0)), GREYS * 0 + 255),
    "png 2 bit": (png(packed(GREY >> 6, 2), 2, 0), (GREYS >> 6) * 85),
    "png 4 bit": (png(packed(GREY >> 4, 4), 4, 0), (GREYS >> 4) * 17),
    "png 4 bit, one level transparent": (
        png(packed(striped(np.uint8(5), GREY >> 6), 4), 4, 0, key(5)),
        striped(WHITE, (GREYS >> 6) * 17),
    ),
    "png 8 bit, one level transparent": (
        png(striped(np.uint8(7), GREY | 8), 8, 0, key(7)),
        striped(WHITE, GREYS | 8),
    ),
    "png RGB, one colour transparent": (png(striped(RED, SCENE), 8, 2, key(*map(int, RED))), striped(WHITE, SCENE)),
    "png palette": (pictures.encode(PALETTE, "png"), LOOKED_UP),
    "png palette, one entry transparent": (
        pictures.encode(PALETTE, "png", transparency=3),
        np.where(np.array(PALETTE)[..., None] == 3, 255, LOOKED_UP),
    ),
    "png palette, entries half transparent": (
        pictures.encode(PALETTE, "png", transparency=bytes(range(0, 256, 16))),
        over_white(LOOKED_UP, np.array(PALETTE) * 16),
    ),
    "png 16-bit grey": (png(GREY_16, 16, 0), GREYS),
    "png 16-bit grey, one level transparent": (
        png(striped(np.uint16(300), GREY_16 | 1), 16, 0, key(300)),
        striped(WHITE, GREYS),
    ),
    "png 16-bit RGB": (png(SCENE_16, 16, 2), SCENE),
    "png 16-bit RGB, one colour transparent": (
        png(striped(RED.astype(np.uint16) * 257, SCENE_16), 16, 2, key(*(int(sample) * 257 for sample in RED))),
        striped(WHITE, SCENE),
    ),
    "png 16-bit grey and alpha": (
        png(np.dstack([GREY_16, ALPHA.astype(np.uint16) * 257]), 16, 4),
        over_white(GREYS, ALPHA),
    ),
    "png 16-bit RGBA": (
        png(np.dstack([SCENE_16, ALPHA.astype(np.uint16) * 257]), 16, 6),
        over_white(SCENE, ALPHA),
    ),
}


@pytest.mark.parametrize("name", MATRIX)
def test_every_colour_model_becomes_srgb_over_white(name: str) -> None:
    image_bytes, expected = MATRIX[name]
    assert np.abs(seen(image_bytes) - expected.astype(float)).max() <= 2


@pytest.mark.parametrize("name", [name for name in MATRIX if "grey" in name])
def test_a_grey_picture_stays_exactly_grey(name: str) -> None:
    rgb = seen(MATRIX[name][0])
    assert (rgb.max(axis=2) == rgb.min(axis=2)).all()


# ---------------------------------------------------------------- profiles


def to_srgb_levels(light: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Light in 0..1 as sRGB samples in 0..255 (IEC 61966-2-1)."""
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("image_format", pictures.FORMATS)
def test_a_profile_of_other_primaries_is_followed_to_srgb(image_format: str) -> None:
    options = {"lossless": True} if image_format == "webp" else BEST
    image_bytes = pictures.encode(BLOCKS, image_format, icc_profile=profiles.rgb_profile("grb"), **options)
    assert np.abs(seen(image_bytes) - BLOCKS[..., [1, 0, 2]].astype(float)).max() <= 2


def test_alpha_is_laid_over_white_after_the_profile() -> None:
    image_bytes = pictures.encode(np.dstack([SCENE, ALPHA]), "png", icc_profile=profiles.rgb_profile("grb"))
    assert np.abs(seen(image_bytes) - over_white(SCENE[..., [1, 0, 2]], ALPHA)).max() <= 2


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_a_grey_profile_is_followed_and_leaves_grey(image_format: str) -> None:
    options = {"quality": 100} if image_format == "jpg" else {}
    image_bytes = pictures.encode(GREY, image_format, icc_profile=profiles.linear_grey_profile(), **options)
    rgb = seen(image_bytes)
    assert (rgb.max(axis=2) == rgb.min(axis=2)).all()
    if image_format == "png":
        assert np.abs(rgb[..., 0] - to_srgb_levels(GREY / 255)).max() <= 2


def test_a_press_profile_is_followed_from_cmyk() -> None:
    ink = np.zeros((48, 64, 4), np.uint8)
    ink[..., 0], ink[..., 3] = 90, np.repeat(np.arange(0, 256, 32, dtype=np.uint8), 8)[None]
    image_bytes = pictures.encode(Image.fromarray(ink, "CMYK"), "jpg", icc_profile=profiles.press_profile(), **BEST)
    lightness = 100 * (1 - ink[..., 3] / 255)
    light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(seen(image_bytes) - to_srgb_levels(light)[..., None]).max() <= 2


@pytest.mark.parametrize(
    "profile",
    [
        profiles.rgb_profile(),
        b"no profile at all",
        bytes(200),
        profiles.rgb_profile("grb")[:300],
        profiles.linear_grey_profile(),
        profiles.press_profile(),
    ],
    ids=["srgb itself", "text", "zeros", "cut", "of grey", "of inks"],
)
@pytest.mark.parametrize("image_format", pictures.FORMATS)
def test_a_profile_that_is_srgb_broken_or_foreign_changes_nothing(image_format: str, profile: bytes) -> None:
    options = {"lossless": True} if image_format == "webp" else {}
    with_profile = pictures.encode(SCENE, image_format, icc_profile=profile, **options)
    assert np.array_equal(seen(with_profile), seen(pictures.encode(SCENE, image_format, **options)))
